"""Reads the times in messages, and checks their unit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal, TypeAlias

from reactivex import abc
from reactivex.disposable import SerialDisposable

__all__ = ["MICROSECONDS", "PER_SECOND", "Unit", "UnitCheck", "microseconds"]

Unit: TypeAlias = Literal["s", "ms", "us", "ns"]

PER_SECOND: Final = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}

MICROSECONDS: Final = 1_000_000
"""Microseconds per second. Times are whole microseconds, because a float of epoch seconds is not more precise."""

FARTHEST: Final = 253_402_300_800 * MICROSECONDS
"""The end of the year 9999."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


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


class UnitCheck:
    """Reports once if the times in messages increase a thousand times too slowly, because the argument unit is wrong.

    Without the report, no window would ever close, and the user would not know why. The times are compared with the
    clock after half a window, after a window, and then each time the elapsed time has doubled. If they increased too
    slowly once, the feed may have been silent. Two such comparisons show that they still increase, at that rate.

    If times increase too fast, they are after the year 9999, which raises an error. Seconds that are read as
    nanoseconds are not noticed, because they do not increase by a microsecond.

    Args:
        clock: the scheduler whose clock the times should follow.
        window: the length of a window in seconds.
        per_second: the number of time units in a second, according to the argument.
        passed: returns the microseconds by which the times have increased since the first message.
        report: called with the error.
    """

    def __init__(
        self,
        clock: abc.SchedulerBase,
        window: float,
        per_second: int,
        passed: Callable[[], int],
        report: Callable[[Exception], object],
    ) -> None:
        self._clock = clock
        self._per_second = per_second
        self._passed = passed
        self._report = report
        self._began = clock.now
        self._suspected: tuple[str, int] | None = None
        self.timer = SerialDisposable()
        self._schedule(window / 2)

    def _schedule(self, seconds: float) -> None:
        self.timer.disposable = self._clock.schedule_relative(seconds, self._compare)

    def _compare(self, *_: object) -> None:
        elapsed, passed = (self._clock.now - self._began) // timedelta(microseconds=1), self._passed()
        if passed * 100 >= elapsed:
            return
        # Find the unit with which the times would have increased as much as the clock, within a factor of two.
        units = {name: passed * self._per_second // each for name, each in PER_SECOND.items()}
        unit = next((name for name, moved in units.items() if elapsed <= 2 * moved <= 4 * elapsed), None)
        before, self._suspected = self._suspected, None if unit is None else (unit, passed)
        # Report only if the times have increased since the last comparison, and not only in a burst before a silence.
        if before is not None and before[0] == unit and 2 * passed >= 3 * before[1]:
            seconds = f"{passed / MICROSECONDS:g} s in {elapsed / MICROSECONDS:g} s"
            self._report(ValueError(f"the times passed only {seconds}: give their unit, which seems to be {unit!r}"))
            return
        # Compare again when the elapsed time has doubled.
        self._schedule(elapsed / MICROSECONDS)
