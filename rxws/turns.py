"""Who may send next, where sending is limited."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import Final

from .subscriptions import SendLimit

__all__ = ["FIRST", "LAST", "NORMAL", "Turns"]

FIRST: Final = 0
"""Pongs and heartbeats: a server that misses them closes."""
NORMAL: Final = 1
"""What users send."""
LAST: Final = 2
"""Subscriptions, of which there may be hundreds."""


class Turns:
    """Gives turns to send, never more than the limit allows: first by rank, then in the order of asking."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: SendLimit) -> None:
        self._loop = loop
        self._limit = limit
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    async def take(self, rank: int) -> None:
        """Wait for a turn. Cancelling is safe: a turn that nobody wants is given to the next."""
        if not self._waiting and self._limit.delay(self._loop.time()) == 0:
            self._limit.sent(self._loop.time())
            return
        turn = self._loop.create_future()
        heapq.heappush(self._waiting, (rank, next(self._order), turn))
        self._give()
        await turn

    def _give(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            now = self._loop.time()
            delay = self._limit.delay(now)
            if delay > 0:
                self._timer = self._loop.call_at(now + delay, self._give)
                return
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                self._limit.sent(now)
                turn.set_result(None)

    def stop(self) -> None:
        """Give no more turns."""
        if self._timer is not None:
            self._timer.cancel()
        for _, _, turn in self._waiting:
            turn.cancel()
        self._waiting.clear()
