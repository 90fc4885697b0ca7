"""A strict rolling window for rate limits. Pure: time is passed in."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

__all__ = ["MARGIN", "SlidingWindow"]

#: Seconds by which the window is longer than the limit of the server. The server counts when messages arrive, and the
#: time that they travel differs.
MARGIN: Final = 0.1


class SlidingWindow:
    """A strict rolling window: never more than so many messages within so many seconds.

    Acquire a slot, then record the sending or release the slot. A message counts from the time at which it is sent.

    Args:
        messages: how many messages are allowed, at least 1.
        seconds: the length of the window.

    Example::

        limit = SlidingWindow(5, 1.0)
        wait = limit.delay(now)         # 0.0: a slot is free now
        limit.acquire()
        limit.record(now)
    """

    def __init__(self, messages: int, seconds: float) -> None:
        self._messages: Final = messages
        self._window: Final = seconds + MARGIN
        self._used: Final[deque[float]] = deque()
        self._taken = 0

    def delay(self, now: float) -> float:
        """Return in how many seconds a slot is free; infinity: not before an acquired slot is recorded or released."""
        while self._used and self._used[0] + self._window <= now:
            self._used.popleft()
        if len(self._used) + self._taken < self._messages:
            return 0.0
        return self._used[0] + self._window - now if self._used else math.inf

    def acquire(self) -> None:
        """Acquire a slot."""
        self._taken += 1

    def record(self, now: float) -> None:
        """Note that a message is sent in an acquired slot."""
        self._taken -= 1
        self._used.append(now)

    def release(self) -> None:
        """Give back an acquired slot without sending."""
        self._taken -= 1
