"""Checks that the times in messages have the unit that the user gives."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from reactivex import abc
from reactivex.disposable import SerialDisposable

from ..messages import MICROSECONDS, PER_SECOND

__all__ = ["UnitCheck"]


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
