"""The event loop's clock, for Rx: what runs at once, what runs later, what time it is."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from reactivex import abc, typing
from reactivex.disposable import Disposable, MultipleAssignmentDisposable, SingleAssignmentDisposable
from reactivex.scheduler import CurrentThreadScheduler
from reactivex.scheduler.periodicscheduler import PeriodicScheduler

from ..reporting.cancellation import FAILURES

__all__ = ["Clock", "LoopScheduler", "TimerHandle"]

S = TypeVar("S")


class TimerHandle(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Do not make the call."""


class Clock(Protocol):
    """What tells the time, in seconds, and calls when it has come, as an event loop does.

    Attributes:
        epoch: the date at which it stood at 0.
    """

    epoch: datetime

    def time(self) -> float:
        """Return the time; it never goes back."""

    def call_at(self, when: float, callback: Callable[[float], object], due: float, /) -> TimerHandle:
        """Call ``callback(due)`` when the time is ``when``."""


class LoopScheduler(PeriodicScheduler):
    """Runs timed work on an event loop, by the loop's clock; work without a delay runs before ``subscribe`` returns.

    reactivex's AsyncIOScheduler is not used. It schedules by the loop's clock but tells the time of the wall clock, so
    that the two part in virtual time; it puts off what has no delay, so that ``start_with`` on a hot source loses what
    comes meanwhile; and what raises in it is known to the loop's exception handler alone.

    Work belongs to the loop's thread; what was scheduled may be cancelled from any thread, and from then on does not
    start. Work that is due at one instant runs in the order in which it was scheduled.

    Args:
        loop: the event loop; it need not run yet.
        on_error: called with what an action raises; whatever else is due still runs.
        clock: whose time it is; None for the loop's.

    Example::

        scheduler = LoopScheduler(asyncio.get_running_loop(), on_error=print)
        rx.interval(1.0).subscribe(print, scheduler=scheduler)
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_error: Callable[[BaseException], None], clock: Clock | None = None
    ) -> None:
        super().__init__()
        self._loop = loop
        self._on_error = on_error
        self._clock = clock or loop
        self._epoch = clock.epoch if clock else datetime.now(UTC) - timedelta(seconds=loop.time())
        # The loop keeps its timers in a heap, which does not keep the order of equal times; and they are equal often
        # in virtual time, and where the clock is coarse (Windows, uvloop). So: one timer of the loop's per instant.
        self._instants: dict[float, tuple[TimerHandle, dict[_Timer, None]]] = {}

    @property
    def now(self) -> datetime:
        """The loop's time, as a date in UTC: the wall clock's when the scheduler was made, and never set since."""
        return self._epoch + timedelta(seconds=self._clock.time())

    def schedule(self, action: abc.ScheduledAction[S], state: S | None = None) -> abc.DisposableBase:
        """Run an action before the outermost ``subscribe`` or ``schedule`` returns, behind what is scheduled already.

        Raises:
            RuntimeError: outside the loop's thread.
        """
        self._check()
        # Not that scheduler itself: the action is handed its scheduler, and subscribes what follows on it.
        return CurrentThreadScheduler.singleton().schedule(lambda _, state: self.invoke_action(action, state), state)

    def schedule_relative(
        self, duetime: typing.RelativeTime, action: abc.ScheduledAction[S], state: S | None = None
    ) -> abc.DisposableBase:
        """Run an action after ``duetime`` (seconds or a timedelta); 0 and less: when the loop has gone round once.

        Raises:
            RuntimeError: outside the loop's thread.
        """
        return self._schedule_at(self._clock.time() + max(0.0, self.to_seconds(duetime)), action, state)

    def schedule_absolute(
        self, duetime: typing.AbsoluteTime, action: abc.ScheduledAction[S], state: S | None = None
    ) -> abc.DisposableBase:
        """Run an action when :attr:`now` is ``duetime`` (a datetime with a time zone, or seconds since the epoch).

        Raises:
            RuntimeError: outside the loop's thread.
        """
        due = (self.to_datetime(duetime) - self._epoch).total_seconds()
        return self._schedule_at(max(self._clock.time(), due), action, state)

    def schedule_periodic(
        self, period: typing.RelativeTime, action: typing.ScheduledPeriodicAction[S], state: S | None = None
    ) -> abc.DisposableBase:
        """Run an action every ``period`` (seconds or a timedelta), on the beat, until it raises or is cancelled.

        What comes late does not put off what follows; a beat that was missed whole, because something blocked the
        loop, is left out.

        Raises:
            RuntimeError: outside the loop's thread.
        """
        seconds = max(0.0, self.to_seconds(period))
        due = self._clock.time() + seconds
        current = MultipleAssignmentDisposable()

        def beat(_: abc.SchedulerBase, state: S | None = None) -> None:
            nonlocal due
            state = action(state)
            late = self._clock.time() - due
            # Not less than one: a coarse clock lets a timer fire a little early.
            due += seconds * max(1, math.floor(late / seconds) + 1) if seconds else late
            current.disposable = self._schedule_at(due, beat, state)

        current.disposable = self._schedule_at(due, beat, state)
        return current

    def invoke_action(self, action: abc.ScheduledAction[S], state: S | None = None) -> abc.DisposableBase:
        """Run an action now; what it raises goes to ``on_error``."""
        try:
            return super().invoke_action(action, state)
        except FAILURES as error:
            self._on_error(error)
            return Disposable()

    def _schedule_at(self, due: float, action: abc.ScheduledAction[Any], state: Any) -> abc.DisposableBase:
        self._check()
        timer = _Timer(self, due, lambda: self.invoke_action(action, state))
        if due not in self._instants:
            self._instants[due] = self._clock.call_at(due, self._fire, due), {}
        self._instants[due][1][timer] = None
        return timer

    def _fire(self, due: float) -> None:
        _, timers = self._instants.pop(due)
        for timer in timers:
            timer.fire()

    def _forget(self, timer: _Timer) -> None:
        handle, timers = self._instants.get(timer.due, (None, {}))
        timers.pop(timer, None)
        if handle is not None and not timers:
            handle.cancel()
            del self._instants[timer.due]

    def _check(self) -> None:
        if asyncio._get_running_loop() is not self._loop:
            raise RuntimeError(
                "timed operators run in the event loop in which they were made: subscribe in that loop only "
                "(from another thread with loop.call_soon_threadsafe)"
            )


class _Timer(SingleAssignmentDisposable):
    """One action that is due at one time. Disposing it cancels it, or disposes what it returned."""

    def __init__(self, scheduler: LoopScheduler, due: float, run: Callable[[], abc.DisposableBase]) -> None:
        super().__init__()
        self.due = due
        self._scheduler = scheduler
        self._run = run

    def fire(self) -> None:
        if not self.is_disposed:
            self.disposable = self._run()

    def dispose(self) -> None:
        super().dispose()
        loop, forget = self._scheduler._loop, self._scheduler._forget
        if asyncio._get_running_loop() is loop or not loop.is_running():
            forget(self)
            return
        # In another thread. Cancelled it is; what remains is to free it, which a loop closed meanwhile has done.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(forget, self)
