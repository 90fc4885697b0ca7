"""Limits how long a websocket library may close a connection by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

__all__ = ["CloseLimit"]

#: The state of a connection that is being closed in the enum of websockets and in that of picows; ``OPEN`` is 1.
CLOSING: Final = 2

#: How often a connection is looked at within its limit.
LOOKS: Final = 4


class CloseLimit:
    """Calls a function when a websocket library has been closing a connection for too long.

    A library closes by itself when the server breaks the protocol: with text that is no UTF-8, a frame that is too big,
    a deflate bomb. It then reads nothing more and waits for the server's answer, for 10 s and longer. No library tells
    when it begins, so its state is looked at four times within ``timeout``.

    Args:
        loop: the event loop.
        websocket: the connection; it may lack ``state``, and then it is never overdue.
        timeout: seconds after which ``overdue`` is called; it may be called earlier by a quarter of them, never later.
        overdue: called once, without arguments.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, websocket: object, timeout: float, overdue: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._websocket = websocket
        self._interval = timeout / LOOKS
        self._overdue = overdue
        self._seen = 0
        self._timer = loop.call_later(self._interval, self._look)

    def _look(self) -> None:
        # How often it was seen closing, and not for how long: a loop that stood still has not read the answer yet.
        self._seen = self._seen + 1 if getattr(self._websocket, "state", None) == CLOSING else 0
        if self._seen >= LOOKS:
            self._overdue()
        else:
            self._timer = self._loop.call_later(self._interval, self._look)

    def stop(self) -> None:
        """Cancel the timer."""
        self._timer.cancel()
