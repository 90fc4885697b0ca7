"""Who may send next, where sending is limited."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
from typing import Final

from .rate_limit import SendLimit

__all__ = ["FIRST", "LAST", "NORMAL", "Turns"]

FIRST: Final = 0
"""Pongs and heartbeats: a server that misses them closes."""
NORMAL: Final = 1
"""What users send."""
LAST: Final = 2
"""Subscriptions, of which there may be hundreds."""


class Turns:
    """Gives turns to send, never more than the limit allows: first by rank, then in the order of asking.

    Whoever was given one calls :meth:`use` when sending, or :meth:`give_back`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: SendLimit) -> None:
        self._loop = loop
        self._limit = limit
        self._waiting: list[tuple[int, int, asyncio.Future[bool]]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    async def take(self, rank: int) -> bool:
        """Wait for a turn; False: there are no more.

        Cancelling is safe: the turn is given to the next.
        """
        if self._stopped:
            return False
        turn: asyncio.Future[bool] = self._loop.create_future()
        heapq.heappush(self._waiting, (rank, next(self._order), turn))
        self._give()
        try:
            return await turn
        except asyncio.CancelledError:
            # It may have been given in the same moment.
            if not turn.cancelled() and turn.result():
                self.give_back()
            raise

    def use(self) -> None:
        """Send now, in a turn that was taken."""
        self._limit.use(self._loop.time())
        self._give()

    def give_back(self) -> None:
        """Let the next have a turn that was taken."""
        self._limit.give_back()
        self._give()

    def _give(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            if self._waiting[0][2].done():
                # Whoever waited for it was cancelled.
                heapq.heappop(self._waiting)
                continue
            delay = self._limit.delay(self._loop.time())
            if delay > 0:
                if delay < math.inf:
                    self._timer = self._loop.call_later(delay, self._give)
                return
            _, _, turn = heapq.heappop(self._waiting)
            self._limit.take()
            turn.set_result(True)

    def stop(self) -> None:
        """Give no more turns."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for _, _, turn in self._waiting:
            if not turn.done():
                turn.set_result(False)
        self._waiting.clear()
