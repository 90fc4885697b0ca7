"""The clock of a recording. It stands still while the program works, and moves from one entry to the next."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from collections.abc import Callable
from datetime import datetime
from typing import Final

__all__ = ["RecordedClock"]

EARLY: Final = 1e-6
"""Seconds by which an entry may be played too early, because virtual time cannot sleep for less."""

SLICE: Final = 0.010
"""Seconds for which timers may run without a pause for other tasks."""

AFTERWARDS: Final = 1_000.0
"""The highest speed of the clock after the recording's end. Timers that are still set then fire soon, and an endless
timer does not use the whole processor."""

TICK: Final = 1e-6
"""Seconds until a timer with no delay fires. With 0, a timer that restarts itself without delay would stop the time."""

FEW: Final = 100
"""The number of cancelled timers that are kept in the heap before they are removed."""


class RecordedTimer:
    """A scheduled call."""

    __slots__ = ("_clock", "callback", "due")

    def __init__(self, clock: RecordedClock, due: float, callback: Callable[[float], object]) -> None:
        self._clock = clock
        self.due = due
        self.callback: Callable[[float], object] | None = callback

    def cancel(self) -> None:
        """Cancel the call. Idempotent."""
        if self.callback is not None:
            self.callback = None
            self._clock.cancelled()


class RecordedClock:
    """Seconds since the start of the recording, for the scheduler of the replay; see
    :class:`rxws.observables.scheduler.Clock`.

    While timers run and frames are delivered, the clock shows exactly their time, so that timers set meanwhile do not
    depend on the speed. Between them it runs ``speed`` times as fast as the loop's clock.

    Args:
        loop: the event loop.
        speed: the speed, as a factor; infinity does not wait at all.
        epoch: the date of the start of the recording.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, speed: float, epoch: datetime) -> None:
        self.epoch = epoch
        self._loop = loop
        self._speed = speed
        # The time of the loop's clock that corresponds to 0 on this clock.
        self._zero = loop.time()
        self._now = 0.0
        # The time until which the clock runs; None while it stands still.
        self._until: float | None = None
        self._wake: Callable[[], None] = lambda: None
        self._timers: list[tuple[float, int, RecordedTimer]] = []
        self._numbers = itertools.count()
        self._cancelled = 0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the clock."""
        self._zero = self._loop.time()

    # For the scheduler

    def time(self) -> float:
        """Return the time, in seconds since the start of the recording."""
        if self._until is None:
            return self._now
        return min(self._until, max(self._now, (self._loop.time() - self._zero) * self._speed))

    def call_at(self, when: float, callback: Callable[[float], object], due: float, /) -> RecordedTimer:
        """Call ``callback(due)`` at the time ``when``."""
        timer = RecordedTimer(self, due, callback)
        if self._until is None and when <= self._now:
            when = self._now + TICK
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        if self._until is not None and when < self._until:
            self._wake()
        return timer

    def cancelled(self) -> None:
        """Count a cancelled timer, and remove cancelled timers if there are many."""
        self._cancelled += 1
        if self._cancelled > FEW and self._cancelled * 2 > len(self._timers):
            self._timers = [entry for entry in self._timers if entry[2].callback is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0
        if self._handle is not None and self._next() == math.inf:
            # No timer is left, so the loop need not wake up.
            self._handle.cancel()

    def _next(self) -> float:
        """Return the time of the next timer, or infinity."""
        timers = self._timers
        if not timers:
            return math.inf
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
            self._cancelled -= 1
        return timers[0][0] if timers else math.inf

    def _fire(self) -> None:
        _, _, timer = heapq.heappop(self._timers)
        callback, timer.callback = timer.callback, None
        assert callback is not None
        callback(timer.due)

    # For the playback

    def reach(self, when: float) -> bool:
        """Move the clock towards ``when``, and run all timers that are due on the way and at ``when``.

        Returns:
            Whether the clock has reached ``when``. If not, await :meth:`wait` and call this again.
        """
        clock = self._loop.time
        began = now = clock()
        while True:
            due = self._next()
            target = min(due, when)
            if self._zero + target / self._speed - now > EARLY or now - began > SLICE:
                return False
            if target > self._now:
                self._now = target
            if due > when:
                return True
            self._fire()
            now = clock()

    def _early(self, when: float) -> float:
        """Return the seconds of the loop's clock until ``when``."""
        return self._zero + when / self._speed - self._loop.time()

    async def wait(self, when: float) -> None:
        """Wait until ``when`` or an earlier timer is due, and let other tasks run at least once. Cancelling is safe."""
        target = min(self._next(), when)
        early = self._early(target)
        if early <= EARLY:
            await asyncio.sleep(0)
            return
        woken = self._loop.create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        self._until, self._wake = target, wake
        timer = self._loop.call_later(early, wake)
        try:
            await woken
        finally:
            timer.cancel()
            self._now = self.time()
            self._until = None

    def run_on(self) -> None:
        """Continue without a playback after the recording's end, because operators may still wait for their timers."""
        self._speed = min(self._speed, AFTERWARDS)
        self._zero = self._loop.time() - self._now / self._speed
        self._wake = self._arrange
        self._arrange()

    def _arrange(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._until = due = self._next()
        self._handle = None if due == math.inf else self._loop.call_later(max(0.0, self._early(due)), self._run_due)

    def _run_due(self) -> None:
        self._now, self._until = max(self._now, self._next()), None
        self._fire()
        self._arrange()
