"""Checks of times in seconds. Pure."""

from __future__ import annotations

import math

__all__ = ["check_seconds"]


def check_seconds(option: str, seconds: object, *, zero: bool) -> None:
    """Check that a time is a finite and positive number, or zero where zero is allowed.

    Args:
        option: the argument's name, for the error text.
        seconds: the time.
        zero: whether zero is allowed.

    Raises:
        TypeError: it is not an int or float.
        ValueError: it is negative, not finite, or zero where zero is not allowed.
    """
    expected = "a number of seconds of at least 0" if zero else "a positive number of seconds"
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{option} must be {expected}, not {seconds!r}")
    if not math.isfinite(seconds) or seconds < 0 or (seconds == 0 and not zero):
        raise ValueError(f"{option} must be {expected}, not {seconds!r}")
