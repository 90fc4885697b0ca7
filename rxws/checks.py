"""Times that users give, in seconds. Pure."""

from __future__ import annotations

import math

__all__ = ["check_seconds"]


def check_seconds(option: str, seconds: object, *, zero: bool) -> None:
    """Raise unless ``seconds`` is a number that a time can be: finite and positive, or zero where that is allowed.

    Raises:
        TypeError: it is no number.
        ValueError: it cannot be a time.
    """
    expected = "a number of seconds of at least 0" if zero else "a positive number of seconds"
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{option} must be {expected}, not {seconds!r}")
    if not math.isfinite(seconds) or seconds < 0 or (seconds == 0 and not zero):
        raise ValueError(f"{option} must be {expected}, not {seconds!r}")
