"""Priority queue for rate-limited sending."""

from __future__ import annotations

import asyncio
import enum
import heapq
import itertools
import math

from .rate_limit import SlidingWindow

__all__ = ["Priority", "PrioritySendQueue"]


class Priority(enum.IntEnum):
    """Which messages are sent first where sending is limited."""

    HIGH = 0
    """Pongs and heartbeats: a server that misses them closes the connection."""
    NORMAL = 1
    """What users send."""
    LOW = 2
    """Subscriptions, of which there may be hundreds."""


class PrioritySendQueue:
    """Gives turns to send, never more than the limit allows: first by priority, then in the order of asking.

    The caller that was given one calls :meth:`record` when it sends, or :meth:`release`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: SlidingWindow) -> None:
        self._loop = loop
        self._limit = limit
        self._waiting: list[tuple[Priority, int, asyncio.Future[bool]]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    async def acquire(self, priority: Priority) -> bool:
        """Wait for a turn; False: there are no more.

        Cancelling is safe: the turn is given to the next.
        """
        if self._stopped:
            return False
        turn: asyncio.Future[bool] = self._loop.create_future()
        heapq.heappush(self._waiting, (priority, next(self._order), turn))
        self._grant()
        try:
            return await turn
        except asyncio.CancelledError:
            # It may have been given in the same moment.
            if not turn.cancelled() and turn.result():
                self.release()
            raise

    def record(self) -> None:
        """Send now, in a turn that was taken."""
        self._limit.record(self._loop.time())
        self._grant()

    def release(self) -> None:
        """Let the next have a turn that was taken."""
        self._limit.release()
        self._grant()

    def _grant(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            slot = self._waiting[0][2]
            # A slot that is done already is one whose caller was cancelled.
            if not slot.done():
                delay = self._limit.delay(self._loop.time())
                if delay > 0:
                    if delay < math.inf:
                        self._timer = self._loop.call_later(delay, self._grant)
                    return
                self._limit.acquire()
                slot.set_result(True)
            heapq.heappop(self._waiting)

    def stop(self) -> None:
        """Give no more turns."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        for _, _, turn in self._waiting:
            if not turn.done():
                turn.set_result(False)
        self._waiting.clear()
