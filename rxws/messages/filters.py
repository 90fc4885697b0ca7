"""Filters: the ``filters`` that users write, checked and copied once, and callable with a message."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any, Final, TypeAlias

from ..callables import is_plain_function
from .conditions import Condition, OneOf
from .shapes import ABSENT, look_up

__all__ = ["Filter", "Filters", "has", "is_met"]

#: The filters that users write: a list of dicts, a function ``message -> bool``, or None, which every message passes.
#:
#: The key type is Any, because Mapping is invariant in its key type. With Hashable, type checkers would reject a
#: ``list[dict[str, str]]``.
Filters: TypeAlias = Sequence[Mapping[Any, Any]] | Callable[[Any], bool] | None

#: The largest number of dicts that the index stores for one dict with several ``one_of``: one for each combination.
_MOST_COMBINATIONS: Final = 10_000


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Filter:
    """A checked and copied filter. It is immutable, and callable with a message.

    Two filters are equal, and have the same hash, if they have the same function or the same dicts, in any order.

    Attributes:
        alternatives: the dicts, in the user's order. A message passes if it contains all key-value pairs of at least
            one of them. Do not change them.
        predicate: the function; None if the filter consists of dicts.
        is_plain: whether every value is plain, so that the index can look it up. A plain value is not a condition, can
            be hashed, and is equal to itself (NaN is not).
    """

    alternatives: tuple[Mapping[Hashable, object], ...]
    predicate: Callable[[Any], object] | None = None
    is_plain: bool = True

    @classmethod
    def parse(cls, filters: object, argument: str = "filters") -> Filter:
        """Return the filter for a user's argument. Later changes to the argument do not affect the filter.

        Args:
            filters: a list, a tuple or another Sequence of dicts, whose keys are those of :func:`~.shapes.look_up`, and
                whose values are plain or conditions; or a function ``message -> bool``; or None or an empty list, which
                every message passes; or a Filter.
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
        is_plain = True
        for number, alternative in enumerate(filters or ()):
            if not isinstance(alternative, Mapping):
                kind = _kind_of(alternative)
                raise TypeError(f"{argument} must be a list of dicts, but {argument}[{number}] is {kind}")
            if () in alternative:
                raise ValueError(f"{argument}[{number}] has an empty tuple for a key: a path needs a step")
            copied = {}
            for key, value in alternative.items():
                is_usual = type(value) is str or type(value) is int
                # Copy a value that cannot be hashed, because its owner may change it later. Do not copy a hashable
                # value: it may be equal only to itself, as a plain object is.
                copied[_normalized(key)] = value if is_usual or _is_hashable(value) else copy.deepcopy(value)
                is_plain = is_plain and (is_usual or _is_plain(value))
            alternatives.append(copied)
        return cls(tuple(alternatives), None, is_plain)

    def __call__(self, message: object) -> bool:
        """Return whether a message passes. Exceptions of the predicate and of an ``__eq__`` propagate."""
        if self.predicate is not None:
            return bool(self.predicate(message))
        if not self.alternatives:
            return True
        return any(has(message, each.items()) for each in self.alternatives)

    @property
    def passes_everything(self) -> bool:
        """Whether every message passes."""
        return self.predicate is None and (not self.alternatives or {} in self.alternatives)

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """The keys and paths that the filter reads, each once, in the user's order."""
        return tuple(dict.fromkeys(key for alternative in self.alternatives for key in alternative))

    def plain_part(self) -> tuple[Filter, bool]:
        """Return a filter of plain values only, and whether exactly the same messages pass it.

        Every message that passes this filter also passes the returned one, which omits conditions and unhashable
        values. A ``one_of`` is replaced by one dict per value.
        """
        if self.predicate is not None:
            return Filter(({},)), False
        found: list[Mapping[Hashable, object]] = []
        is_same = True
        for alternative in self.alternatives:
            plain = {key: each for key, each in alternative.items() if _is_plain(each)}
            choices = {key: each.values for key, each in alternative.items() if isinstance(each, OneOf)}
            is_same = is_same and len(plain) + len(choices) == len(alternative)
            combined = [plain]
            for key, values in sorted(choices.items(), key=lambda choice: len(choice[1]), reverse=True):
                if len(combined) > 1 and len(combined) * len(values) > _MOST_COMBINATIONS:
                    is_same = False
                else:
                    combined = [{**each, key: value} for each in combined for value in values]
            found += combined
        return Filter(tuple(found)), is_same

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Filter):
            return NotImplemented
        if self.is_plain is not other.is_plain or self._hashable != other._hashable:
            return False
        if self.is_plain or self.predicate is not None:
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
        """A hashable value that is equal for equal filters.

        It is the function, or the key-value pairs of the dicts. If a value is not plain, it is only the keys.
        """
        if self.predicate is not None:
            return self.predicate
        return frozenset(frozenset(each.items() if self.is_plain else each) for each in self.alternatives)


_SHOWN_ALTERNATIVES = 3


def has(message: object, pairs: Iterable[tuple[Hashable, object]]) -> bool:
    """Return whether a message contains all pairs. Exceptions of an ``__eq__`` propagate."""
    for key, expected in pairs:
        found = look_up(message, key)
        # Check ABSENT first, because the key must exist even for a value that equals everything (unittest.mock.ANY).
        if found is ABSENT or not is_met(expected, found):
            return False
    return True


def is_met(expected: object, found: object) -> bool:
    """Return whether a value of a message is what a filter expects. Exceptions of an ``__eq__`` propagate."""
    # The expected value stands on the left, so that Python asks its __eq__ first.
    return expected.accepts(found) if isinstance(expected, Condition) else bool(expected == found)


def _is_plain(value: object) -> bool:
    return not isinstance(value, Condition) and _is_hashable(value) and bool(value == value)


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _normalized(key: Hashable) -> Hashable:
    """Convert each whole number in a key or a path to an int.

    For a dict, 0 and 0.0 are the same key, so both must also mean the same position in a list.
    """
    if isinstance(key, (str, int)):  # the usual ones
        return key
    if isinstance(key, tuple):
        return tuple([_normalized(step) for step in key])
    if isinstance(key, Number):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            whole = int(key)  # type: ignore[call-overload]
            return whole if whole == key else key
    return key


def _kind_of(value: object) -> str:
    return "a callable (give it without the list)" if callable(value) else f"of type {type(value).__name__}"
