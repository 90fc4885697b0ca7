"""A timer for each connection that detects silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ..messages.inbound import Inbound

__all__ = ["QUIET_AFTER", "Watchdog"]

QUIET_AFTER: Final = 60.0
"""Seconds without a message after which silence is first reported; then after twice as many, and so on."""

EARLY: Final = 0.001
"""Seconds by which the event loop may fire a timer too early. Without this margin the timer would fire twice."""


class Watchdog:
    """Calls a function when no message has come for a while.

    Args:
        loop: the event loop.
        inbound: the receiving side of the connection.
        limit: seconds of silence after which ``silent`` is called; None: after 60 s, 120 s, 240 s … of one silence.
        silent: called with the limit, in seconds, each time that one is reached.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, inbound: Inbound, limit: float | None, silent: Callable[[float], None]
    ) -> None:
        self._loop = loop
        self._inbound = inbound
        self._first = QUIET_AFTER if limit is None else limit
        self._limit = self._first
        self._silent = silent
        self._heard = loop.time()
        self._timer = loop.call_at(self._heard + self._limit, self._look)

    def _look(self) -> None:
        # One timer that checks the last message: setting a timer for every message would be slow.
        heard = self._inbound.last_received_at or self._heard
        if heard != self._heard:
            self._heard = heard
            self._limit = self._first
        now = self._loop.time()
        if now >= heard + self._limit - EARLY:
            self._silent(self._limit)
            self._limit *= 2
        # A message may end this silence: check again no later than the first limit of the next silence.
        self._timer = self._loop.call_at(min(heard + self._limit, now + self._first), self._look)

    def stop(self) -> None:
        """Cancel the timer."""
        self._timer.cancel()
