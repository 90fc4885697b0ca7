"""A timer for each connection that detects silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ..messages.inbound import Inbound

__all__ = ["QUIET_AFTER", "Watchdog"]

#: Seconds without a message after which silence is first reported; then after twice as many, and so on.
QUIET_AFTER: Final = 60.0

#: Seconds by which the event loop may fire a timer too early. Without this margin the timer would fire twice.
EARLY: Final = 0.001


#: Seconds by which a timer that fires later shows that the loop stood still.
LATE: Final = 0.05

#: Seconds that are waited for a message, at most, after the loop stood still.
GRACE: Final = 1.0

#: Turns of the loop between the timer and the verdict: the reader takes what has come, through every library.
TURNS: Final = 8


class Watchdog:
    """Calls a function when no message has come for a while.

    A loop that stood still, because a function blocked it or the process was stopped, is no silence: what came
    meanwhile waits in the socket. A timer that fires late looks again after 1 s, or after ``limit`` if that is less.
    Silence is reported only after the reader has had its turn.

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
        self._timer: asyncio.Handle
        self._wait_until(self._heard + self._limit)

    def _wait_until(self, when: float) -> None:
        self._timer = self._loop.call_at(when, self._fire, when)

    def _fire(self, due: float) -> None:
        if self._loop.time() - due > LATE:
            # Not repeated if that is late, too: a loop that always is would hide every silence.
            self._timer = self._loop.call_later(min(self._first, GRACE), self._look_in, TURNS)
        else:
            self._look_in(TURNS)

    def _look_in(self, turns: int) -> None:
        if turns:
            self._timer = self._loop.call_soon(self._look_in, turns - 1)
        else:
            self._look()

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
        self._wait_until(min(heard + self._limit, now + self._first))

    def stop(self) -> None:
        """Cancel the timer."""
        self._timer.cancel()
