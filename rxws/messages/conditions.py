"""Conditions: values of a filter that accept many values of a message."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

__all__ = ["Condition", "OneOf", "between", "one_of", "present", "starts_with"]

#: Number of values that a repr shows.
_SHOWN: Final = 5


class Condition:
    """A value of a filter that decides by itself which values of a message it accepts. Frozen, and equal by value."""

    __slots__ = ()

    def accepts(self, value: Any) -> bool:
        """Return whether a value of a message is accepted."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, repr=False)
class OneOf(Condition):
    """Accepts values that are equal to one of ``values``."""

    values: frozenset[Hashable]

    def accepts(self, value: Any) -> bool:
        """Return whether a value of a message is accepted."""
        try:
            return value in self.values
        except TypeError:  # The value cannot be hashed, but may be equal to one of ours, as a set is to a frozenset.
            return any(each == value for each in self.values)

    def __repr__(self) -> str:
        shown = sorted(map(repr, self.values))
        more = [f"... {len(shown) - _SHOWN} more"] if len(shown) > _SHOWN else []
        return f"one_of({', '.join(shown[:_SHOWN] + more)})"


@dataclass(frozen=True, slots=True, repr=False)
class _StartsWith(Condition):
    text: str

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str) and value.startswith(self.text)

    def __repr__(self) -> str:
        return f"starts_with({self.text!r})"


@dataclass(frozen=True, slots=True, repr=False)
class _Between(Condition):
    low: int | float | Decimal | None
    high: int | float | Decimal | None

    def accepts(self, value: Any) -> bool:
        number = _number(value)
        try:
            return (
                number is not None
                and (self.low is None or self.low <= number)
                and (self.high is None or number <= self.high)
            )
        except InvalidOperation:  # a signaling NaN
            return False

    def __repr__(self) -> str:
        return f"between({self.low}, {self.high})"


@dataclass(frozen=True, slots=True, repr=False)
class _Present(Condition):
    """A value of a filter that accepts any value: ``{"price": rxws.present}``. The key must exist; None is a value."""

    def accepts(self, value: Any) -> bool:
        # msgspec sets a field to UNSET if the message lacks it.
        return value is not msgspec.UNSET

    def __repr__(self) -> str:
        return "present"


#: Accepts any value, also None. The key must exist.
present: Final[Condition] = _Present()


def one_of(*values: Hashable) -> Condition:
    """Return a value of a filter that accepts several values: ``{"s": rxws.one_of("BTCUSDT", "ETHUSDT")}``.

    It costs no extra time per message, because the index has an entry for each value.

    Args:
        values: the values, at least one. Each must be hashable.

    Raises:
        TypeError: a value cannot be hashed, or is a condition itself. For a list write ``one_of(*symbols)``.
        ValueError: no value is given.
    """
    for value in values:
        if isinstance(value, Condition):
            raise TypeError(
                f"one_of takes plain values, but {value!r} is a condition: write two dicts, [{{...}}, {{...}}]"
            )
        try:
            hash(value)
        except TypeError:
            kind = type(value).__name__
            raise TypeError(f"one_of takes values that can be hashed, not a {kind}: write one_of(*values)") from None
    if not values:
        raise ValueError("one_of needs at least one value: no message would pass")
    # NaN is equal to no value, but a set finds it by identity.
    return OneOf(frozenset(value for value in values if value == value))


def starts_with(text: str) -> Condition:
    """Return a value of a filter that accepts strings with a prefix: ``{"s": rxws.starts_with("BTC")}``.

    Args:
        text: the prefix. Values of other types than str are not accepted.

    Raises:
        TypeError: ``text`` is not a str.
    """
    if not isinstance(text, str):
        raise TypeError(f"starts_with takes a str, not {text!r}")
    return _StartsWith(text)


def between(low: float | Decimal | str | None, high: float | Decimal | str | None) -> Condition:
    """Return a value of a filter that accepts numbers in a range: ``{"q": rxws.between(10, None)}``.

    A numeric string counts as a number, both as a limit and in a message. It is converted to a Decimal, so no digit is
    lost. Other values are not accepted.

    Args:
        low: the least number; None for no limit.
        high: the greatest number; None for no limit.

    Raises:
        TypeError: a limit is not a number.
        ValueError: a limit is NaN, ``low`` is greater than ``high``, or there is no limit.
    """
    limits = []
    for name, given in (("low", low), ("high", high)):
        limit = _number(given)
        if given is not None and limit is None:
            raise TypeError(f"{name} must be a number, a numeric str or None, not {given!r}")
        if limit is not None and limit != limit:
            raise ValueError(f"{name} must not be NaN")
        limits.append(limit)
    if low is None and high is None:
        raise ValueError("between needs a limit: use present for any value")
    least, greatest = limits
    if least is not None and greatest is not None and least > greatest:
        raise ValueError(f"low must not be greater than high: {low!r}, {high!r}")
    return _Between(least, greatest)


def _number(value: object) -> int | float | Decimal | None:
    """Return a number, or a numeric string as a number; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float | Decimal):
        return value
    if not isinstance(value, str):
        return None
    try:
        return Decimal(value)
    except InvalidOperation:
        return None
