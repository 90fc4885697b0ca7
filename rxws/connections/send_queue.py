"""A priority queue for rate-limited sending."""

from __future__ import annotations

import asyncio
import enum
import heapq
import itertools
import math

from ..rate_limit import SlidingWindow

__all__ = ["Priority", "PrioritySendQueue"]


class Priority(enum.IntEnum):
    """The order in which messages are sent if sending is rate-limited."""

    #: Pongs and heartbeats. Without them the server closes the connection.
    HIGH = 0
    #: Messages of users.
    NORMAL = 1
    #: Subscriptions, of which there may be hundreds.
    LOW = 2


class PrioritySendQueue:
    """Grants slots for sending within the limit, by priority and then in the order of the requests.

    After :meth:`acquire`, call :meth:`record` when you send, or :meth:`release` if you do not send.

    Args:
        loop: the event loop.
        limit: the limit.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: SlidingWindow) -> None:
        self._loop = loop
        self._limit = limit
        self._waiting: list[tuple[Priority, int, asyncio.Future[bool]]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        limit.waiting.add(self._grant)

    async def acquire(self, priority: Priority) -> bool:
        """Wait for a slot.

        Cancelling is safe: the slot goes to the next in the queue.

        Returns:
            Whether a slot was granted; False after :meth:`stop`.
        """
        if self._stopped:
            return False
        slot: asyncio.Future[bool] = self._loop.create_future()
        heapq.heappush(self._waiting, (priority, next(self._order), slot))
        self._grant()
        try:
            return await slot
        except asyncio.CancelledError:
            # The slot may have been granted in the same iteration of the event loop as the cancellation.
            if not slot.cancelled() and slot.result():
                self.release()
            raise

    def record(self) -> None:
        """Note that a message is now sent, which uses an acquired slot."""
        self._limit.record(self._loop.time())

    def release(self) -> None:
        """Give an acquired slot back to the next in the queue."""
        self._limit.release()

    def _grant(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            slot = self._waiting[0][2]
            # If the future of the slot is already done, its caller was cancelled.
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
        """Grant no more slots. Idempotent."""
        self._stopped = True
        self._limit.waiting.discard(self._grant)
        if self._timer is not None:
            self._timer.cancel()
        for _, _, slot in self._waiting:
            if not slot.done():
                slot.set_result(False)
        self._waiting.clear()
