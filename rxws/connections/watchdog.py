"""Detects the silence of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ..messages.inbound import Inbound
from .patience import GRACE, LATE

__all__ = ["QUIET_AFTER", "let_arrive", "watch"]

#: Seconds without a message after which silence is first reported. This time then doubles with each report.
QUIET_AFTER: Final = 60.0

#: Seconds by which the event loop may wake the watchdog too early. Without this margin the watchdog would sleep twice.
EARLY: Final = 0.001

#: Iterations of the event loop between the wake-up and the check for messages, so that the reader can take messages
#: that have arrived. Each library needs some iterations to pass them on.
TURNS: Final = 8


async def let_arrive(due: float, limit: float) -> None:
    """Let the reader take what has arrived, before the caller concludes from the time ``due`` that nothing has.

    Time during which the event loop was blocked, or the process was stopped, does not count as silence, because
    messages may wait in the socket. So after a late wake-up this waits 1 s, or ``limit`` if that is less.
    """
    if asyncio.get_running_loop().time() - due > LATE:
        # Do not repeat this if the second wake-up is late, too. Otherwise a loop that is always late would hide every
        # silence.
        await asyncio.sleep(min(limit, GRACE))
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def watch(inbound: Inbound, limit: float | None, silent: Callable[[float], None]) -> None:
    """Call a function whenever no message has arrived for some time, see :func:`let_arrive`. Never return.

    Args:
        inbound: the receiving side of the connection.
        limit: seconds of silence after which ``silent`` is called. It then doubles until the next message. None means
            60 s.
        silent: called with the reached limit, in seconds.
    """
    clock = asyncio.get_running_loop().time
    first = limit = QUIET_AFTER if limit is None else limit
    heard = clock()
    due = heard + limit
    while True:
        await asyncio.sleep(due - clock())
        await let_arrive(due, first)
        # Look at the time of the last message once per limit, because setting a timer for each message would be slow.
        last = inbound.last_received_at or heard
        if last != heard:
            heard, limit = last, first
        now = clock()
        if now >= heard + limit - EARLY:
            silent(limit)
            limit *= 2
        # A message may end this silence, so look again within the first limit.
        due = min(heard + limit, now + first)
