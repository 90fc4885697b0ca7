"""Filters: the ``filters`` that users write, checked and copied once, and callable with a message."""

from __future__ import annotations

import copy
from collections import ChainMap
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ..callables import is_plain_function
from ..reporting.cancellation import FAILURES

__all__ = ["ABSENT", "Filter", "Filters", "has", "look_up", "mapping_of"]

#: The filters that users write: a list of dicts, a function ``message -> bool``, or None, which every message passes.
#:
#: The type of the keys is Any, because a Mapping is invariant in it: so a ``list[dict[str, str]]`` fits, too.
Filters: TypeAlias = Sequence[Mapping[Any, Any]] | Callable[[Any], bool] | None

#: The result of :func:`look_up` for a key that the message lacks. It cannot be None, which may be a value.
ABSENT: Final = object()


def mapping_of(message: object) -> Mapping[Any, Any] | None:
    """Return what a message has its keys from: a mapping that has ``get``; None if the message is no mapping.

    A class may be registered as a Mapping without having ``get``; the Struct of protobuf is one.
    """
    if type(message) is dict:
        return message
    try:
        if not isinstance(message, Mapping):
            return None
        if callable(getattr(message, "get", None)):
            return message
        # Its ``get`` asks first whether a key is there: to read a key makes it in some mappings, such as that Struct.
        return ChainMap(message)  # type: ignore[arg-type]
    except FAILURES:
        # What a message says of itself is the user's code. What cannot say that it is a mapping is none.
        return None


def look_up(message: object, key: Hashable) -> object:
    """Return the value that a message has under a key, or :data:`ABSENT`.

    Args:
        message: any object; an object that is no mapping has no keys.
        key: a key, or a path: a tuple of keys of nested mappings and of int indices (negative ones count from
            the end) of nested lists and tuples.

    Raises:
        Exception: a mapping or a key of the caller's own class raised it.

    ::

        look_up({"data": [{"s": "BTCUSDT"}]}, ("data", 0, "s"))  # "BTCUSDT"
    """
    found = message
    for step in key if isinstance(key, tuple) else (key,):
        if type(found) is dict:
            found = found.get(step, ABSENT)
        elif (mapping := mapping_of(found)) is not None:
            found = mapping.get(step, ABSENT)
        elif isinstance(found, (list, tuple)) and isinstance(step, int) and -len(found) <= step < len(found):
            found = found[step]
        else:
            return ABSENT
    return found


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Filter:
    """A filter, checked and copied: immutable, and callable with a message.

    Two filters are equal, and have the same hash, if they have the same function or the same dicts, in any order.

    Attributes:
        alternatives: the dicts, in the user's order. A message passes if it contains all key-value pairs of at least
            one of them. Do not change them.
        predicate: the function; None if the filter consists of dicts.
        indexable: whether the index can look up every value: it can be hashed and is equal to itself (NaN is not).
    """

    alternatives: tuple[Mapping[Hashable, object], ...]
    predicate: Callable[[Any], object] | None
    indexable: bool

    @classmethod
    def parse(cls, filters: object, argument: str = "filters") -> Filter:
        """Return the filter for a user's argument. Later changes to the argument do not affect the filter.

        Args:
            filters: a list, a tuple or another Sequence of dicts, in which a key that is a tuple is a path (see
                :func:`look_up`); or a function ``message -> bool``; or None or an empty list, which every message
                passes; or a Filter.
            argument: the name of the user's parameter, for error messages.

        Raises:
            TypeError: the argument is none of these, or it is a coroutine or generator function, whose result would
                always be true.
            ValueError: a path is empty.

        ::

            Filter.parse([{"e": "trade", "s": "BTCUSDT"}, {("data", "s"): "BTCUSDT"}])
        """
        if isinstance(filters, Filter):
            return filters
        if callable(filters):
            if is_plain_function(filters):
                return cls((), filters, False)
            reason = "a coroutine or generator function returns an object that is always true"
            raise TypeError(f"{argument} must be a plain function that returns a bool: {reason}")
        if isinstance(filters, Mapping):
            raise TypeError(f"{argument} must be a list of dicts, not a dict: put it in a list, [{{...}}]")
        if filters is not None and (isinstance(filters, (str, bytes)) or not isinstance(filters, Sequence)):
            raise TypeError(f"{argument} must be a list of dicts, or a callable, not {type(filters).__name__}")
        alternatives: list[Mapping[Hashable, object]] = []
        indexable = True
        for number, alternative in enumerate(filters or ()):
            if not isinstance(alternative, Mapping):
                kind = _kind_of(alternative)
                raise TypeError(f"{argument} must be a list of dicts, but {argument}[{number}] is {kind}")
            copied = {}
            for key, value in alternative.items():
                if isinstance(key, tuple) and not key:
                    raise ValueError(f"{argument}[{number}] has an empty tuple for a key: a path needs a step")
                is_hashable = _is_hashable(value)
                # Copy a value that cannot be hashed, because its owner may change it later. Do not copy a hashable
                # value: it may be equal only to itself, as a plain object is.
                copied[_normalized(key)] = value if is_hashable else copy.deepcopy(value)
                indexable = indexable and is_hashable and bool(value == value)
            alternatives.append(copied)
        return cls(tuple(alternatives), None, indexable)

    def __call__(self, message: object) -> bool:
        """Return whether a message passes. Exceptions of the predicate and of an ``__eq__`` propagate."""
        if self.predicate is not None:
            return bool(self.predicate(message))
        if not self.alternatives:
            return True
        return mapping_of(message) is not None and any(has(message, each.items()) for each in self.alternatives)

    @property
    def passes_everything(self) -> bool:
        """Whether every message passes."""
        return not self.alternatives and self.predicate is None

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """The keys and paths that the filter reads, each once, in the user's order."""
        return tuple(dict.fromkeys(key for alternative in self.alternatives for key in alternative))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Filter):
            return NotImplemented
        if self.indexable is not other.indexable or self._hashable != other._hashable:
            return False
        if self.indexable or self.predicate is not None:
            return True
        ours, theirs = self.alternatives, other.alternatives
        return all(each in theirs for each in ours) and all(each in ours for each in theirs)

    def __hash__(self) -> int:
        return hash(self._hashable)

    def __repr__(self) -> str:
        if self.predicate is not None:
            return f"Filter({getattr(self.predicate, '__qualname__', None) or repr(self.predicate)})"
        shown = [repr(alternative) for alternative in self.alternatives[:_SHOWN_ALTERNATIVES]]
        if len(self.alternatives) > _SHOWN_ALTERNATIVES:
            shown.append(f"... {len(self.alternatives) - _SHOWN_ALTERNATIVES} more")
        return f"Filter([{', '.join(shown)}])"

    @property
    def _hashable(self) -> Hashable:
        """Equal for equal filters, and hashable: the function, the pairs, or the keys alone if a value has no hash."""
        if self.predicate is not None:
            return self.predicate
        return frozenset(frozenset(each.items() if self.indexable else each) for each in self.alternatives)


_SHOWN_ALTERNATIVES = 3


def has(message: object, pairs: Iterable[tuple[Hashable, object]]) -> bool:
    """Return whether a message contains all pairs. Exceptions of an ``__eq__`` propagate."""
    for key, expected in pairs:
        found = look_up(message, key)
        # The key must exist even for a value that is equal to everything (unittest.mock.ANY).
        if found is ABSENT or not expected == found:  # noqa: SIM201 (an expected value's own __eq__ decides)
            return False
    return True


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _normalized(key: Hashable) -> Hashable:
    """Replace each whole float in a path by its int.

    For Python ``("data", 0)`` and ``("data", 0.0)`` are the same key, so both must mean the same path.
    """
    if not isinstance(key, tuple):
        return key
    return tuple(int(step) if isinstance(step, float) and step.is_integer() else step for step in key)


def _kind_of(value: object) -> str:
    return "a callable (give it without the list)" if callable(value) else f"of type {type(value).__name__}"
