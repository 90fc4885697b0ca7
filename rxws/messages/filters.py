"""What a filter means: what users write as ``_filters``, checked and copied once, and callable with a message."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ..callables import is_plain_function
from ..reporting.cancellation import FAILURES

__all__ = ["ABSENT", "Filter", "Filters", "has", "look_up", "mapping_of"]

Filters: TypeAlias = Sequence[Mapping[Any, Any]] | Callable[[Any], bool] | None
"""What users write for a filter: a list of dicts, a function ``message -> bool``, or None, which passes everything.

The keys are of any type, because a Mapping is invariant in it: a ``list[dict[str, str]]`` is taken, too.
"""

ABSENT: Final = object()
"""What :func:`look_up` returns for a key that is not there (None is a value like any other)."""


class _Readable(Mapping[Any, Any]):
    """A mapping with ``get`` around one that lacks it."""

    def __init__(self, mapping: Mapping[Any, Any]) -> None:
        self._mapping = mapping

    def __getitem__(self, key: Any) -> Any:
        # Asked first, because to read a key makes it in some mappings, such as a Struct of protobuf.
        if key not in self._mapping:
            raise KeyError(key)
        return self._mapping[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._mapping)

    def __len__(self) -> int:
        return len(self._mapping)


def mapping_of(message: object) -> Mapping[Any, Any] | None:
    """Return what a message has its keys from: a mapping that has ``get``; None if the message is no mapping.

    A class may be registered as a Mapping without having ``get``; the Struct of protobuf is one.
    """
    if type(message) is dict:
        return message
    try:
        if not isinstance(message, Mapping):
            return None
        return message if callable(getattr(message, "get", None)) else _Readable(message)
    except FAILURES:
        # What a message says of itself is the user's code. What cannot say that it is a mapping is none.
        return None


def look_up(message: object, key: Hashable) -> object:
    """Return what a message has under a key, or :data:`ABSENT`.

    Args:
        message: any object; what is no mapping has no keys.
        key: a key, or a path: a tuple of keys of nested mappings and of int indices (negative ones count from
            the end) of nested lists and tuples.

    Raises:
        Exception: what a mapping or a key of the caller's own raises.

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

    Two filters are equal, and have one hash, if they have the same function or the same dicts, in any order.

    Attributes:
        cases: the dicts, in the user's order; a message passes if it has every pair of any of them. Not to be changed.
        predicate: the function, where the filter is one, else None.
        indexable: whether every value can be looked up: can be hashed, and is equal to itself, as NaN is not.
    """

    alternatives: tuple[Mapping[Hashable, object], ...]
    predicate: Callable[[Any], object] | None
    indexable: bool

    @classmethod
    def parse(cls, filters: object, argument: str = "_filters") -> Filter:
        """Return the filter that a user's argument means; later changes to the argument change nothing.

        Args:
            filters: a list, a tuple or another Sequence of dicts, where a key that is a tuple is a path (see
                :func:`look_up`); or a function ``message -> bool``; or None, which passes everything, as an empty list
                does; or a Filter.
            argument: what the caller's user calls it, for the message of an exception.

        Raises:
            TypeError: it is none of these, or its result would always be true, as a coroutine function's is.
            ValueError: a path is empty.

        ::

            Filter.parse([{"e": "trade", "s": "BTCUSDT"}, {("data", "s"): "BTCUSDT"}])
        """
        if isinstance(filters, Filter):
            return filters
        if callable(filters):
            if not is_plain_function(filters):
                raise TypeError(
                    f"{argument} must be a plain function that returns a bool: "
                    "a coroutine or generator function returns an object that is always true"
                )
            return cls((), filters, False)
        if isinstance(filters, Mapping):
            raise TypeError(f"{argument} must be a list of dicts, not a dict: put it in a list, [{{...}}]")
        if filters is not None and (isinstance(filters, (str, bytes)) or not isinstance(filters, Sequence)):
            raise TypeError(f"{argument} must be a list of dicts, or a callable, not {type(filters).__name__}")
        alternatives: list[Mapping[Hashable, object]] = []
        indexable = True
        for number, alternative in enumerate(filters or ()):
            if not isinstance(alternative, Mapping):
                raise TypeError(
                    f"{argument} must be a list of dicts, but {argument}[{number}] is {_a_kind_of(alternative)}"
                )
            copied = {}
            for key, value in alternative.items():
                if isinstance(key, tuple) and not key:
                    raise ValueError(f"{argument}[{number}] has an empty tuple for a key: a path needs a step")
                is_hashable = _is_hashable(value)
                # What cannot be hashed may be changed by its owner later. What can is left alone: it may be equal to
                # nothing but itself, as a plain object is.
                copied[_normal(key)] = value if is_hashable else copy.deepcopy(value)
                indexable = indexable and is_hashable and bool(value == value)
            alternatives.append(copied)
        return cls(tuple(alternatives), None, indexable)

    def __call__(self, message: object) -> bool:
        """Return whether a message passes; raises what the predicate or an ``__eq__`` raises."""
        if self.predicate is not None:
            return bool(self.predicate(message))
        if not self.alternatives:
            return True
        return mapping_of(message) is not None and any(
            has(message, alternative.items()) for alternative in self.alternatives
        )

    @property
    def passes_everything(self) -> bool:
        """Whether every message passes, whatever it is."""
        return not self.alternatives and self.predicate is None

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """The keys and paths that are looked at, each once, in the user's order."""
        return tuple(dict.fromkeys(key for alternative in self.alternatives for key in alternative))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Filter):
            return NotImplemented
        if self.predicate is not None or other.predicate is not None or self.indexable is not other.indexable:
            return self.predicate is not None and self.predicate == other.predicate
        if self.indexable:
            return self._pairs() == other._pairs()
        return all(alternative in other.alternatives for alternative in self.alternatives) and all(
            alternative in self.alternatives for alternative in other.alternatives
        )

    def __hash__(self) -> int:
        if self.predicate is not None:
            return hash(self.predicate)
        return hash(self._pairs() if self.indexable else frozenset(map(frozenset, self.alternatives)))

    def __repr__(self) -> str:
        if self.predicate is not None:
            return f"Filter({getattr(self.predicate, '__qualname__', None) or repr(self.predicate)})"
        shown = [repr(alternative) for alternative in self.alternatives[:_SHOWN_ALTERNATIVES]]
        if len(self.alternatives) > _SHOWN_ALTERNATIVES:
            shown.append(f"... {len(self.alternatives) - _SHOWN_ALTERNATIVES} more")
        return f"Filter([{', '.join(shown)}])"

    def _pairs(self) -> frozenset[frozenset[tuple[Hashable, object]]]:
        return frozenset(frozenset(alternative.items()) for alternative in self.alternatives)


_SHOWN_ALTERNATIVES = 3


def has(message: object, pairs: Iterable[tuple[Hashable, object]]) -> bool:
    """Return whether a message has every pair; raises what an ``__eq__`` raises."""
    for key, expected in pairs:
        found = look_up(message, key)
        # A value may be equal to everything (unittest.mock.ANY), and still the key must be there.
        if found is ABSENT or not expected == found:  # noqa: SIM201 (an expected value's own __eq__ decides)
            return False
    return True


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _normal(key: Hashable) -> Hashable:
    """Return a path with an int for each float that is equal to one.

    Python takes ``("data", 0)`` and ``("data", 0.0)`` for one key, so they must mean the same.
    """
    if not isinstance(key, tuple):
        return key
    return tuple(int(step) if isinstance(step, float) and step.is_integer() else step for step in key)


def _a_kind_of(value: object) -> str:
    return "a callable (give it without the list)" if callable(value) else f"of type {type(value).__name__}"
