"""Reads the times in messages: numbers of any unit, ISO 8601 strings, and datetimes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal, TypeAlias, get_args

__all__ = ["MICROSECONDS", "PER_SECOND", "Unit", "check_unit", "microseconds"]

Unit: TypeAlias = Literal["s", "ms", "us", "ns"]

PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}

MICROSECONDS: Final = 1_000_000
"""Microseconds per second. Times are whole microseconds, because a float of epoch seconds is not more precise."""

FARTHEST: Final = 253_402_300_800 * MICROSECONDS
"""The end of the year 9999."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def check_unit(unit: object) -> None:
    """Raise ValueError unless ``unit`` is one of the units."""
    if unit not in get_args(Unit):
        raise ValueError(f"unit must be 's', 'ms', 'us' or 'ns', not {unit!r}")


def microseconds(value: Any, per_second: int) -> int:
    """Return a time in whole microseconds since the epoch. An int or a string is converted exactly.

    Args:
        value: a number or a numeric str, an ISO 8601 str, or a datetime. Without an offset the last two are in UTC.
        per_second: the number of time units in a second.

    Raises:
        TypeError: the value has another type.
        ValueError: the string is neither a number nor ISO 8601, or the time is after the year 9999.
    """
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return (aware - EPOCH) // timedelta(microseconds=1)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        kind = type(value).__name__
        raise TypeError(f"a time must be a number, a numeric or ISO 8601 str, or a datetime, not of type {kind}")
    if isinstance(value, float):
        moment = round(value * (MICROSECONDS / per_second))
    else:
        moment = int(value * MICROSECONDS // per_second)
    if abs(moment) > FARTHEST:
        # Such a message would close all later windows. Usually the unit is wrong: milliseconds are read as seconds.
        raise ValueError("the time is after the year 9999: check the argument unit")
    return moment


def _parsed(text: str) -> Decimal | datetime:
    try:
        # A date such as 2026-11-30 has a hyphen after the year. A number has none there.
        return datetime.fromisoformat(text) if text[4:5] == "-" else Decimal(text)
    except (InvalidOperation, ValueError):
        raise ValueError(f"a time must be a number or ISO 8601, not {text!r}") from None
