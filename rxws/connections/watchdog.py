"""Detects the silence of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ..messages.inbound import Inbound

__all__ = ["QUIET_AFTER", "watch"]

#: Seconds without a message after which silence is first reported; then after twice as many, and so on.
QUIET_AFTER: Final = 60.0

#: Seconds by which the event loop may wake too early. Without this margin it would wake twice.
EARLY: Final = 0.001

#: Seconds by which a late wake-up shows that the loop stood still.
LATE: Final = 0.05

#: Seconds that are waited for a message, at most, after the loop stood still.
GRACE: Final = 1.0

#: Turns of the loop between the wake-up and the verdict: the reader takes what has come, through every library.
TURNS: Final = 8


async def watch(inbound: Inbound, limit: float | None, silent: Callable[[float], None]) -> None:
    """Call a function when no message has come for a while, until cancelled.

    A loop that stood still, because a function blocked it or the process was stopped, is no silence: what came
    meanwhile waits in the socket. After a late wake-up this looks again after 1 s, or after ``limit`` if that is less.
    Silence is reported only after the reader has had its turn.

    Args:
        inbound: the receiving side of the connection.
        limit: seconds of silence after which ``silent`` is called; None: after 60 s, 120 s, 240 s … of one silence.
        silent: called with the limit, in seconds, each time that one is reached.
    """
    clock = asyncio.get_running_loop().time
    first = limit = QUIET_AFTER if limit is None else limit
    heard = clock()
    due = heard + limit
    while True:
        await asyncio.sleep(due - clock())
        if clock() - due > LATE:
            # Not repeated if that is late, too: a loop that always is would hide every silence.
            await asyncio.sleep(min(first, GRACE))
        for _ in range(TURNS):
            await asyncio.sleep(0)
        # The last message is looked at once per limit: setting a timer for every message would be slow.
        last = inbound.last_received_at or heard
        if last != heard:
            heard, limit = last, first
        now = clock()
        if now >= heard + limit - EARLY:
            silent(limit)
            limit *= 2
        # A message may end this silence: look again no later than the first limit of the next silence.
        due = min(heard + limit, now + first)
