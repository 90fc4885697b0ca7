"""What waits for a consumer: in order, bounded, woken once per burst."""

from __future__ import annotations

import asyncio
import logging
import math
from bisect import bisect
from collections import deque
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from ..errors import StreamOverflow
from ..reporting.events import Lagging, Overflow, Overflowed
from ..reporting.reporter import Reporter

__all__ = ["DEFAULT_MAXSIZE", "Buffer", "Overflow"]

T = TypeVar("T")

DEFAULT_MAXSIZE: Final = 1_000_000
"""How many messages a buffer may hold unless told otherwise."""

LAG_MARKS: Final = (10_000, 100_000, 1_000_000)
"""At how many waiting messages a consumer is said to lag."""

STREAK: Final = 100
"""How many messages a consumer may take without once giving way to other tasks: 5 ms, if it takes 50 µs for each."""

DROP_REPORT_INTERVAL: Final = 1.0
"""Seconds between two reports of the messages that one buffer drops."""


_running_loop: Final = asyncio._get_running_loop


class Buffer(Generic[T]):
    """A queue with one consumer, that a producer never waits for.

    asyncio.Queue is not used because it makes a future per waiting ``get`` and wakes per item: a burst of messages for
    one consumer costs more than twice as much through it.
    """

    __slots__ = (
        *("__weakref__", "_items", "_lag_mark", "_loop", "_mark", "_overflow", "_reported_at", "_reporter", "_streak"),
        *("_waiter", "closed", "dropped", "error", "maxsize"),
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reporter: Reporter,
        maxsize: int | None = DEFAULT_MAXSIZE,
        overflow: Overflow = "error",
    ) -> None:
        self._loop = loop
        self._reporter = reporter
        self.maxsize = maxsize
        self._overflow = overflow
        # Made when first needed: an empty deque takes 760 bytes, and most of many streams are idle.
        self._items: deque[T] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.error: Exception | None = None
        self._streak = 0
        self._reported_at = -math.inf
        self._lag_mark = 0
        self.closed = False
        self.dropped = 0
        self._mark = self._next_mark()

    def describe(self) -> str:
        """Say whose buffer this is, for the log and the events."""
        return "an async for"

    def overflowed(self) -> None:
        """Is called when an overflow has closed the buffer, for whoever must stop putting."""

    def __len__(self) -> int:
        return len(self._items) if self._items is not None else 0

    def put(self, item: T) -> None:
        """Append an item and wake the consumer; when full, do what ``overflow`` says. Never waits."""
        items = self._items
        if items is None:
            if self.closed:
                return
            items = self._items = deque()
        items.append(item)
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if len(items) >= self._mark:
            self._at_threshold(items)

    async def get(self, _owner: object = None) -> T:
        """Return the next item. Cancelling is safe: nothing is lost.

        Args:
            _owner: lives as long as somebody waits here.

        Raises:
            StopAsyncIteration: after the last item, once closed.
            RuntimeError: if another task waits here already, and outside the loop's thread.
            Exception: after the last item, the error that the buffer was closed with.
        """
        loop = self._loop
        if _running_loop() is not loop:
            raise RuntimeError(f"{self.describe()} belongs to the event loop in which it was made: use it there")
        if self._waiter is not None:
            raise RuntimeError("another task is already waiting for the next message of this stream")
        # Waited for here, and not in a coroutine of its own: what a waiting consumer holds, the collector looks at.
        try:
            if self._streak >= STREAK:
                self._streak = 0
                waiter = self._waiter = loop.create_future()
                loop.call_soon(_wake, waiter)
                await waiter
            while not self._items:
                if self.closed:
                    # Without the frames of those who got the same error before, which would pile up in it.
                    raise StopAsyncIteration if self.error is None else self.error.with_traceback(None)
                self._streak = 0
                if self._lag_mark:
                    self._caught_up()
                waiter = self._waiter = loop.create_future()
                await waiter
        finally:
            self._waiter = None
        self._streak += 1
        return self._items.popleft()

    async def get_batch(self) -> list[T]:
        """Wait for an item, then return all that are there; raises as :meth:`get` does, and is as safe to cancel."""
        first = await self.get()
        return [first, *self.take()]

    def take(self, count: int | None = None) -> list[T]:
        """Return all that waits, or the first ``count`` items of it, and hold that no longer."""
        items = self._items
        if items is not None and count is not None and count < len(items):
            return [items.popleft() for _ in range(count)]
        taken = list(items or ())
        self.clear()
        return taken

    def put_back(self, items: list[T]) -> None:
        """Let what was taken come first again, however much that makes."""
        if items:
            self._items = deque(items + self.take())

    def latest(self, count: int) -> list[T]:
        """Return the last ``count`` items that wait, the last one first. May be called from any thread."""
        # In one go, in which no other thread has its turn.
        return list(islice(reversed(self._items or ()), count))

    def clear(self) -> None:
        """Forget all that waits."""
        if self._items is not None:
            self._items.clear()
            self._caught_up()

    def close(self, error: Exception | None = None) -> None:
        """Take nothing more in; the consumer gets what is held, then ``error``, or the end. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self.error = error
        self._mark = self._next_mark()
        if self._waiter is not None:
            _wake(self._waiter)

    def _caught_up(self) -> None:
        """Make the next lag news again."""
        if self._lag_mark:
            self._lag_mark = 0
            self._mark = self._next_mark()

    def _next_mark(self) -> float:
        if self.closed:
            # Whatever is put from now on is over the mark, so that the hot path needs no check of its own.
            return 0
        full = math.inf if self.maxsize is None else self.maxsize + 1
        return min([full, *LAG_MARKS[self._lag_mark :]])

    def _at_threshold(self, items: deque[T]) -> None:
        """Do what is due now that a mark is reached. Off the hot path: only ever at a mark, or while full."""
        if self.closed:
            items.pop()
            return
        if self.maxsize is not None and len(items) > self.maxsize:
            self._drop(items, self.maxsize)
        reached = bisect(LAG_MARKS, len(items))
        if reached > self._lag_mark:
            self._lag_mark = reached
            consumer, pending = self.describe(), len(items)
            line = "%s lags: %d messages wait"
            self._reporter.log(logging.WARNING, line, consumer, pending, about=(consumer, reached))
            self._reporter.emit(Lagging, consumer=consumer, pending=pending)
            self._mark = self._next_mark()

    def _drop(self, items: deque[T], maxsize: int) -> None:
        (items.popleft if self._overflow == "drop_oldest" else items.pop)()
        self.dropped += 1
        self._reporter.counters.dropped += 1
        if self._overflow == "error":
            self.close(StreamOverflow(maxsize))
            self.overflowed()
        now = self._loop.time()
        if now - self._reported_at < DROP_REPORT_INTERVAL:
            return
        self._reported_at = now
        consumer = self.describe()
        line = "%s is full (overflow=%r): %d dropped"
        self._reporter.log(logging.WARNING, line, consumer, self._overflow, self.dropped, about=consumer)
        self._reporter.emit(Overflowed, consumer=consumer, overflow=self._overflow, dropped=self.dropped)


def _wake(waiter: asyncio.Future[Any]) -> None:
    if not waiter.done():
        waiter.set_result(None)
