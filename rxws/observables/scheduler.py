"""The scheduler of timed operators, on the event loop's clock."""

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

from ..reporting.cancellation import RAISED

__all__ = ["Clock", "LoopScheduler", "TimerHandle"]

S = TypeVar("S")


class TimerHandle(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Cancel the call. Idempotent."""


class Clock(Protocol):
    """A clock in seconds with timers, like that of an event loop.

    Attributes:
        epoch: the date at which the clock was at 0.
    """

    epoch: datetime

    def time(self) -> float:
        """Return the time; it never goes back."""

    def call_at(self, when: float, callback: Callable[[float], object], due: float, /) -> TimerHandle:
        """Call ``callback(due)`` when the time is ``when``."""


class LoopScheduler(PeriodicScheduler):
    """Runs timed actions on an event loop and its clock. Actions without a delay run before ``subscribe`` returns.

    reactivex's AsyncIOScheduler is not used, for three reasons. It schedules on the loop's clock, but its ``now`` is
    the wall clock, which differs in virtual time. It runs actions without a delay only in a later callback, so
    ``start_with`` on a hot source loses the items that arrive before. It passes exceptions only to the loop's exception
    handler.

    Schedule only on the loop's thread. An action may be cancelled from any thread, and does not start after that.
    Actions that are due at the same instant run in the order in which they were scheduled.

    Args:
        loop: the event loop; it need not run yet.
        on_error: called with the exception that an action raises; the other actions still run.
        clock: the clock; None for the loop's.

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
        # There is one timer of the loop for each instant, because the loop's heap does not keep the order of timers
        # with equal times. Equal times are frequent in virtual time and with a coarse clock (Windows, uvloop).
        self._instants: dict[float, tuple[TimerHandle, dict[_Timer, None]]] = {}

    @property
    def now(self) -> datetime:
        """The clock's time as a date in UTC. It is set from the wall clock once, when the scheduler is made."""
        return self._epoch + timedelta(seconds=self._clock.time())

    def schedule(self, action: abc.ScheduledAction[S], state: S | None = None) -> abc.DisposableBase:
        """Run an action before the outermost ``subscribe`` or ``schedule`` returns, after actions scheduled earlier.

        Raises:
            RuntimeError: outside the loop's thread.
        """
        self._check()
        # Pass this scheduler to the action and not CurrentThreadScheduler, because the action passes its scheduler on
        # to the subscriptions that it makes.
        return CurrentThreadScheduler.singleton().schedule(lambda _, state: self.invoke_action(action, state), state)

    def schedule_relative(
        self, duetime: typing.RelativeTime, action: abc.ScheduledAction[S], state: S | None = None
    ) -> abc.DisposableBase:
        """Run an action after ``duetime`` (seconds or a timedelta). 0 or less means the next iteration of the loop.

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
        """Run an action every ``period`` (seconds or a timedelta) until it raises or is cancelled.

        A late run does not delay the following ones. Runs that were missed while the loop was blocked are left out.

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
            # Add at least one period, because with a coarse clock a timer may fire slightly early.
            due += seconds * max(1, math.floor(late / seconds) + 1) if seconds else late
            current.disposable = self._schedule_at(due, beat, state)

        current.disposable = self._schedule_at(due, beat, state)
        return current

    def invoke_action(self, action: abc.ScheduledAction[S], state: S | None = None) -> abc.DisposableBase:
        """Run an action now; pass its exception to ``on_error``."""
        try:
            return super().invoke_action(action, state)
        except RAISED as error:
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
    """One scheduled action. ``dispose`` cancels it. After the action ran, ``dispose`` disposes the action's result."""

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
        # This is another thread. The action is already cancelled, so only its timer must be freed. If the loop was
        # closed meanwhile, the timer is already freed.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(forget, self)
