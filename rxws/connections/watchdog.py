"""A timer per connection that notices silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ..messages.inbound import Inbound

__all__ = ["QUIET_AFTER", "Watchdog"]

QUIET_AFTER: Final = 60.0
"""Seconds without a message after which a connection is first called quiet; then twice that, and so on."""


EARLY: Final = 0.001
"""Seconds by which a timer may fire too early, which the loop allows itself: without a margin it would fire again."""


class Watchdog:
    """Calls ``silent(seconds)`` when no message has come for a while.

    Args:
        inbound: the receiving side of the connection that is watched.
        limit: seconds of silence that are allowed; with None the limit is 60 s, then 120 s, 240 s … of one silence.
        silent: called once for each limit that is reached.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        inbound: Inbound,
        limit: float | None,
        silent: Callable[[float], None],
    ) -> None:
        self._loop = loop
        self._inbound = inbound
        self._first = QUIET_AFTER if limit is None else limit
        self._limit = self._first
        self._silent = silent
        self._heard = loop.time()
        self._timer = loop.call_at(self._heard + self._limit, self._look)

    def _look(self) -> None:
        # One timer that looks back, not one that every message sets anew.
        heard = self._inbound.last_received_at or self._heard
        if heard != self._heard:
            self._heard = heard
            self._limit = self._first
        now = self._loop.time()
        if now >= heard + self._limit - EARLY:
            self._silent(self._limit)
            self._limit *= 2
        # Not later than the first limit of the next silence, should a message end this one meanwhile.
        self._timer = self._loop.call_at(min(heard + self._limit, now + self._first), self._look)

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()
