"""A strict rolling window for rate limits. Pure: time is passed in."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

__all__ = ["MARGIN", "SlidingWindow"]

MARGIN: Final = 0.1
"""Seconds by which a window is kept longer than asked for: the server counts when messages reach it, and one may be
on its way for longer than the next."""


class SlidingWindow:
    """A strict rolling window: never more than so many messages within so many seconds.

    A turn is taken, and then used or given back: what is sent counts from when it is sent.

    Args:
        messages: how many, at least 1.
        seconds: within how long.

    Example::

        limit = SlidingWindow(5, 1.0)
        wait = limit.delay(now)         # 0.0: a turn may be taken now
        limit.acquire()
        limit.record(now)
    """

    def __init__(self, messages: int, seconds: float) -> None:
        self._messages: Final = messages
        self._window: Final = seconds + MARGIN
        self._used: Final[deque[float]] = deque()
        self._taken = 0

    def delay(self, now: float) -> float:
        """Return for how many seconds no turn may be taken; infinity: not until one is used or given back."""
        while self._used and self._used[0] + self._window <= now:
            self._used.popleft()
        if len(self._used) + self._taken < self._messages:
            return 0.0
        return self._used[0] + self._window - now if self._used else math.inf

    def acquire(self) -> None:
        """Take a turn."""
        self._taken += 1

    def record(self, now: float) -> None:
        """Send in a turn that was taken."""
        self._taken -= 1
        self._used.append(now)

    def release(self) -> None:
        """Do without a turn that was taken."""
        self._taken -= 1
