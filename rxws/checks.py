"""Checks of numbers that users pass: times in seconds, and counts."""

from __future__ import annotations

import math

__all__ = ["check_count", "check_seconds"]


def check_seconds(option: str, seconds: object, *, zero: bool) -> None:
    """Check that a time is a finite and positive number, or zero if zero is allowed.

    Args:
        option: the argument's name, for the error text.
        seconds: the time.
        zero: whether zero is allowed.

    Raises:
        TypeError: the time is not an int or a float.
        ValueError: the time is negative, not finite, or zero although zero is not allowed.
    """
    expected = "a number of seconds of at least 0" if zero else "a positive number of seconds"
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{option} must be {expected}, not {seconds!r}")
    if not math.isfinite(seconds) or seconds < 0 or (seconds == 0 and not zero):
        raise ValueError(f"{option} must be {expected}, not {seconds!r}")


def check_count(option: str, count: object) -> None:
    """Check that a count is an int of at least 1.

    Args:
        option: the argument's name, for the error text.
        count: the count.

    Raises:
        TypeError: the count is not an int.
        ValueError: the count is less than 1.
    """
    expected = f"{option} must be an int of at least 1, not {count!r}"
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(expected)
    if count < 1:
        raise ValueError(expected)
