"""The clock of a recording: it stands while the program works, and goes on from one moment to the next."""

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
"""Seconds by which something may happen too early: a sleep so short would not end in virtual time."""

SLICE: Final = 0.010
"""Seconds for which timers may run one after the other before other tasks get their turn."""

AFTERWARDS: Final = 1_000.0
"""How many times as fast the clock goes after the recording's end, at most: what was still due comes soon, and a timer
that never ends does not take the whole processor."""

TICK: Final = 1e-6
"""Seconds until what is due at once: a timer that is set again and again for now must not keep time from passing."""

FEW: Final = 100
"""Cancelled timers that are not worth being cleared away."""


class RecordedTimer:
    """A call that is to come."""

    __slots__ = ("_clock", "callback", "due")

    def __init__(self, clock: RecordedClock, due: float, callback: Callable[[float], object]) -> None:
        self._clock = clock
        self.due = due
        self.callback: Callable[[float], object] | None = callback

    def cancel(self) -> None:
        """Do not make the call. Idempotent."""
        if self.callback is not None:
            self.callback = None
            self._clock.cancelled()


class RecordedClock:
    """Seconds since the recording's beginning, for the scheduler of its home; see
    :class:`rxws.observables.scheduler.Clock`.

    While timers and frames have their turn, it stands at their very time, so that what they schedule does not depend
    on the speed. While it waits for the next, it goes ``speed`` times as fast as the loop's clock.

    Args:
        loop: the event loop.
        speed: how many times as fast as it was recorded; infinity does not wait at all.
        epoch: the date of the recording's beginning.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, speed: float, epoch: datetime) -> None:
        self.epoch = epoch
        self._loop = loop
        self._speed = speed
        # At this time of the loop's clock, this one stood, or would have stood, at 0.
        self._zero = loop.time()
        self._now = 0.0
        # Until then it waits; None while it stands.
        self._until: float | None = None
        self._wake: Callable[[], None] = lambda: None
        self._timers: list[tuple[float, int, RecordedTimer]] = []
        self._numbers = itertools.count()
        self._cancelled = 0
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin now."""
        self._zero = self._loop.time()

    # For the scheduler

    def time(self) -> float:
        """Return the time."""
        if self._until is None:
            return self._now
        return min(self._until, max(self._now, (self._loop.time() - self._zero) * self._speed))

    def call_at(self, when: float, callback: Callable[[float], object], due: float, /) -> RecordedTimer:
        """Call ``callback(due)`` when the time is ``when``."""
        timer = RecordedTimer(self, due, callback)
        if self._until is None and when <= self._now:
            when = self._now + TICK
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        if self._until is not None and when < self._until:
            self._wake()
        return timer

    def cancelled(self) -> None:
        """Take note that a timer was cancelled."""
        self._cancelled += 1
        if self._cancelled > FEW and self._cancelled * 2 > len(self._timers):
            self._timers = [entry for entry in self._timers if entry[2].callback is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0
        if self._handle is not None and self._next() == math.inf:
            # Nothing is left for which to wake the loop.
            self._handle.cancel()

    def _next(self) -> float:
        """Return when the next timer is due, or infinity."""
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
        """Go on to ``when``, as far as it is time; what is due on the way, and at ``when`` itself, has its turn first.

        Returns:
            Whether it is there; if not, :meth:`wait` is to be awaited, and this to be called again.
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
        """Return for how many seconds to wait until ``when``."""
        return self._zero + when / self._speed - self._loop.time()

    async def wait(self, when: float) -> None:
        """Wait until it is time for ``when``, or for a timer that is due before; other tasks get a turn at least."""
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
        """Go on by itself: the recording has come to its end, but operators may still wait for their time."""
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
