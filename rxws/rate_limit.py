"""Rate limits: a strict rolling window, and one that several feeds share."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from .checks import check_count, check_seconds

__all__ = ["MARGIN", "Rate", "SlidingWindow", "window_of"]

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
        #: The functions of all that wait for a slot; called when a slot was used or released.
        self.waiting: Final[set[Callable[[], None]]] = set()

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
        self._notify()

    def release(self) -> None:
        """Give back an acquired slot without sending."""
        self._taken -= 1
        self._notify()

    def _notify(self) -> None:
        for grant in list(self.waiting):
            grant()


class Rate:
    """A rate limit that feeds share: all feeds that get the same object together stay within it.

    Pass it as ``connect_limit`` or ``send_limit``. All feeds that share it must belong to one event loop.

    Args:
        count: the number of handshakes or messages, at least 1.
        seconds: in no period of this length are there more.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: ``count`` is less than 1, or ``seconds`` is not positive and finite.

    Example::

        limit = rxws.Rate(300, 300)                             # 300 connections in five minutes for this address
        feeds = [rxws.ReactiveWebSocket(url, connect_limit=limit) for url in urls]
    """

    def __init__(self, count: int, seconds: float) -> None:
        check_count("count", count)
        check_seconds("seconds", seconds, zero=False)
        self._count, self._seconds = count, seconds
        self._window = SlidingWindow(count, seconds)
        self._loop: Any = None

    def __repr__(self) -> str:
        return f"Rate({self._count}, {self._seconds:g})"

    def window(self, loop: Any) -> SlidingWindow:
        """Return the window that the feeds of an event loop share.

        Raises:
            TypeError: feeds of another event loop, which is not closed, use it.
        """
        if self._loop is None or self._loop.is_closed():
            self._loop, self._window = loop, SlidingWindow(self._count, self._seconds)
        elif self._loop is not loop:
            raise TypeError(f"{self!r} is used by feeds of another event loop: a Rate belongs to one")
        return self._window


def window_of(limit: tuple[int, float] | Rate, loop: Any) -> SlidingWindow:
    """Return the shared window of a ``Rate``, or a new one for a pair."""
    return limit.window(loop) if isinstance(limit, Rate) else SlidingWindow(*limit)
