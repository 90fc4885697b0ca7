"""A strict rolling window for rate limits. The caller passes the time."""

from __future__ import annotations

import math
from collections import deque
from typing import Final

__all__ = ["MARGIN", "SlidingWindow"]

#: Seconds by which the window is longer than that of the server, because the server counts a message when it arrives,
#: and the messages' travel times differ.
MARGIN: Final = 0.1


class SlidingWindow:
    """A strict rolling window. In no period of ``seconds`` are more than ``messages`` messages sent.

    Acquire a slot; then either record that the message is sent, or release the slot. A message counts from the time at
    which it is sent.

    Args:
        messages: the number of messages that are allowed, at least 1.
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
        """Return the seconds until a slot is free; infinity if first an acquired slot must be recorded or released."""
        while self._used and self._used[0] + self._window <= now:
            self._used.popleft()
        if len(self._used) + self._taken < self._messages:
            return 0.0
        return self._used[0] + self._window - now if self._used else math.inf

    def acquire(self) -> None:
        """Acquire a slot."""
        self._taken += 1

    def record(self, now: float) -> None:
        """Note that a message is now sent, which uses an acquired slot."""
        self._taken -= 1
        self._used.append(now)

    def release(self) -> None:
        """Give back an acquired slot without sending."""
        self._taken -= 1
