"""A bounded queue with one consumer, which is woken once per burst."""

from __future__ import annotations

import asyncio
import logging
import math
from bisect import bisect
from collections.abc import Iterable
from itertools import islice
from threading import get_ident
from typing import Any, Final, Generic, TypeVar

from ..errors import StreamOverflow
from ..reporting.event import Overflow
from ..reporting.events import Lagging, Overflowed
from ..reporting.reporter import Reporter
from .deferred import SKIPPED, Deferred, made
from .held_items import HeldItems

__all__ = ["DEFAULT_MAXBYTES", "DEFAULT_MAXSIZE", "DROP_REPORT_INTERVAL", "LAG_MARKS", "Buffer", "Overflow"]

T = TypeVar("T")

#: The number of messages that a buffer can hold by default.
DEFAULT_MAXSIZE: Final = 1_000_000

#: The number of bytes that a buffer can hold by default. A message counts the size of its frame.
DEFAULT_MAXBYTES: Final = 256 << 20

#: Numbers of waiting messages at which a lagging consumer is reported.
LAG_MARKS: Final = (10_000, 100_000, 1_000_000)

#: The size of the waiting messages, in bytes, at which a lagging consumer is reported too.
LAG_BYTES: Final = 128 << 20

#: The number of messages after which a consumer lets other tasks run. At 50 µs for each message, that is every 5 ms.
STREAK: Final = 100

#: Seconds between two reports of the messages that one buffer dropped.
DROP_REPORT_INTERVAL: Final = 1.0


#: Replaces the future of a waiting consumer that has been woken and has not run yet.
_WOKEN: Final[Any] = object()

_ALREADY_WAITING: Final = "another task is already waiting for the next message of this stream"

_running_loop: Final = asyncio._get_running_loop

#: A time before all others. It is one object for all buffers, because a float takes 24 bytes.
_NEVER: Final = -math.inf


class Buffer(Generic[T]):
    """A queue with one consumer. Its producer never waits.

    An item counts the size of the frame that is being delivered when the item is put; see
    :attr:`~rxws.reporting.reporter.Counters.message_size`.

    asyncio.Queue is not used, because it makes a future per waiting ``get`` and wakes the consumer for each item. With
    it a burst of messages for one consumer costs more than twice as much time.
    """

    __slots__ = (
        *("__weakref__", "_items", "_lag_mark", "_loop", "_mark", "_overflow", "_reported_at", "_reporter", "_streak"),
        *("_waiter", "closed", "dropped", "error", "maxbytes", "maxsize"),
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reporter: Reporter,
        maxsize: int | None = DEFAULT_MAXSIZE,
        overflow: Overflow = "error",
        maxbytes: int | None = DEFAULT_MAXBYTES,
    ) -> None:
        self._loop = loop
        self._reporter = reporter
        self.maxsize = maxsize
        self.maxbytes = maxbytes
        self._overflow = overflow
        # The deques are created with the first item. An empty one takes 760 bytes, and a program may have thousands of
        # streams, most of which are idle.
        self._items: HeldItems[T] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.error: Exception | None = None
        self._streak = 0
        self._reported_at = _NEVER
        self._lag_mark = 0
        self.closed = False
        self.dropped = 0
        self._mark = self._next_mark()

    def describe(self) -> str:
        """Return the name of the consumer in the log and the events."""
        return "an async for"

    def overflowed(self) -> None:
        """Called when an overflow has closed the buffer. A subclass unregisters from its producer here."""

    def __len__(self) -> int:
        return len(self._items) if self._items is not None else 0

    @property
    def pending_bytes(self) -> int:
        """The size of the waiting items, in bytes. May be read from any thread."""
        return 0 if self._items is None else self._items.size

    @property
    def fill_of_bytes(self) -> float:
        """The part of ``maxbytes`` that the waiting items take: 1.0 or more if the buffer is full."""
        return 0.0 if self.maxbytes is None else self.pending_bytes / self.maxbytes

    def put(self, item: T) -> None:
        """Append an item and wake the consumer. A full buffer acts according to ``overflow``. Never waits."""
        items = self._items
        if items is None:
            if self.closed:
                return
            items = self._items = HeldItems(self._first_mark_of_bytes())
        items.append(item)
        size = self._reporter.counters.message_size
        items.sizes.append(size)
        items.total += size
        waiter = self._waiter
        if waiter is not None and waiter is not _WOKEN:
            self._waiter = _WOKEN
            _wake(waiter)
        if len(items) >= self._mark or items.total > items.mark:
            self._at_threshold(items)

    async def get(self, _owner: object = None) -> T:
        """Return the next item. Cancelling is safe: no item is lost.

        Args:
            _owner: an object that the waiting coroutine keeps alive.

        Raises:
            StopAsyncIteration: after the last item of a closed buffer.
            RuntimeError: another task already waits here, or the caller runs outside the loop's thread.
            Exception: after the last item, the error that the buffer was closed with.
        """
        while True:
            # Comparing the threads takes a fifth of the time that asking for the running loop takes.
            if (
                not self._items
                or self._streak >= STREAK
                or self._waiter is not None
                or get_ident() != self._reporter.thread
            ):
                loop = self._loop
                if get_ident() != self._reporter.thread and _running_loop() is not loop:
                    where = "belongs to the event loop in which it was made: use it in that loop"
                    raise RuntimeError(f"{self.describe()} {where}")
                if self._waiter is not None:
                    raise RuntimeError(_ALREADY_WAITING)
                # Wait here and not in a second coroutine, because each object of a waiting consumer costs the garbage
                # collector time.
                try:
                    if self._streak >= STREAK:
                        self._streak = 0
                        if self._items is not None:
                            self._items.settle()
                        waiter = self._waiter = loop.create_future()
                        loop.call_soon(_wake, waiter)
                        await waiter
                    while not self._items:
                        if self.closed:
                            # Drop the traceback, to which each earlier consumer of this error has added its frames.
                            raise StopAsyncIteration if self.error is None else self.error.with_traceback(None)
                        self._streak = 0
                        if self._items is not None and (self._lag_mark or len(self._items.sizes) >= STREAK):
                            self._caught_up(self._items)
                        waiter = self._waiter = loop.create_future()
                        await waiter
                finally:
                    self._waiter = None
            self._streak += 1
            item = self._items.popleft()
            if type(item) is not Deferred:
                return item
            whole: T = made(item)
            if whole is not SKIPPED:
                return whole

    async def get_batch(self, count: int | None = None) -> list[T]:
        """Wait for an item, then return all waiting items, or the first ``count``. Raises as :meth:`get` does.

        Cancelling is safe.
        """
        first = await self.get()
        try:
            await self._make_items(count)
        except BaseException:
            self.put_back([first])
            raise
        return [first, *self.take(None if count is None else count - 1)]

    async def _make_items(self, count: int | None) -> None:
        """Make the waiting items that are deferred, or the first ``count``. Other tasks run in between."""
        items = list(islice(self._items or (), count))
        deferred = [item for item in items if type(item) is Deferred]
        # As long as this runs, no other task may take the items.
        self._waiter = _WOKEN
        try:
            for number, item in enumerate(deferred, 1):
                made(item)
                if number % STREAK == 0:
                    await asyncio.sleep(0)
        finally:
            self._waiter = None

    async def wait_for(self, count: int | None, deadline: float = math.inf) -> None:
        """Wait until ``count`` items wait, the deadline has passed, the buffer is full, or it is closed.

        Args:
            count: the number of items; None: as many as the buffer can hold.
            deadline: a time on the loop's clock.

        Raises:
            RuntimeError: another task already waits here.
        """
        full = min(count or math.inf, self.maxsize or math.inf)
        while not self.closed and len(self) < full and self.fill_of_bytes < 1.0 and self.now() < deadline:
            if self._waiter is not None:
                raise RuntimeError(_ALREADY_WAITING)
            waiter = self._waiter = self._loop.create_future()
            timer = self._loop.call_at(deadline, _wake, waiter) if deadline < math.inf else None
            try:
                await waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()

    def now(self) -> float:
        """Return the time of the loop's clock."""
        return self._loop.time()

    def take(self, count: int | None = None) -> list[T]:
        """Remove and return all waiting items, or the first ``count`` of them."""
        items = self._items
        if items is not None and count is not None and count < len(items):
            taken = [items.popleft() for _ in range(count)]
            items.settle()
        else:
            taken = list(items or ())
            self.clear()
        return [item for item in map(made, taken) if item is not SKIPPED]

    def put_back(self, items: list[T]) -> None:
        """Put items that ``take`` or ``get`` removed back at the front of the queue, even if the buffer is full.

        Their sizes are no longer known, so each counts the average size of the feed's messages.
        """
        held, counters = self._items, self._reporter.counters
        if held is None:
            held = self._items = HeldItems(self._first_mark_of_bytes())
        held.settle()
        held.extendleft(reversed(items))
        size = counters.bytes // max(1, counters.messages)
        held.sizes.extendleft([size] * len(items))
        held.total += size * len(items)

    def latest(self, count: int) -> list[Any]:
        """Return the last ``count`` waiting items, the newest first. May be called from any thread."""
        # This is one call of C code, so no other thread can change the deque meanwhile.
        newest = list(islice(reversed(self._items or ()), count))
        return _peek_at(newest)

    def oldest(self, count: int) -> list[Any]:
        """Return the first ``count`` waiting items."""
        return _peek_at(islice(self._items or (), count))

    def clear(self) -> None:
        """Discard all waiting items."""
        if self._items is not None:
            self._items.clear()
            self._caught_up(self._items)

    def close(self, error: Exception | None = None) -> None:
        """Ignore all further items. The consumer gets the waiting items, then ``error`` or the end. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self.error = error
        self._mark = self._next_mark()
        if self._waiter is not None and self._waiter is not _WOKEN:
            _wake(self._waiter)

    def _caught_up(self, items: HeldItems[T]) -> None:
        """Start over with the marks, because the consumer has caught up. The next lag is reported at the first mark."""
        items.settle()
        if self._lag_mark:
            self._lag_mark = 0
            self._mark = self._next_mark()
            items.mark = self._first_mark_of_bytes()

    def _next_mark(self) -> float:
        if self.closed:
            # Return a mark that each later `put` reaches, so that the hot path need not check whether it is closed.
            return 0
        full = math.inf if self.maxsize is None else self.maxsize + 1
        return min([full, *LAG_MARKS[self._lag_mark :]])

    def _first_mark_of_bytes(self) -> int:
        return LAG_BYTES if self.maxbytes is None else min(LAG_BYTES, self.maxbytes)

    def _at_threshold(self, items: HeldItems[T]) -> None:
        """Drop an item or report the lag. Called only if the buffer has reached a mark, is full, or is closed."""
        items.settle()
        if self.closed:
            items.drop_newest()
            return
        if self._is_too_full(items):
            self._drop(items)
        reached, is_large = bisect(LAG_MARKS, len(items)), LAG_BYTES < items.total > items.mark
        if reached > self._lag_mark or is_large:
            # Set the marks first, because a subscriber of the event may take or put items.
            self._lag_mark = max(reached, self._lag_mark, 1)
            self._mark = self._next_mark()
            if is_large:
                items.mark = math.inf if self.maxbytes is None else self.maxbytes
            consumer, pending, size = self.describe(), len(items), items.total
            event = self._reporter.emit(Lagging, consumer=consumer, pending=pending, pending_bytes=size)
            self._reporter.log(logging.WARNING, event, about=(consumer, reached, is_large))

    def _is_too_full(self, items: HeldItems[T]) -> bool:
        if self.maxsize is not None and len(items) > self.maxsize:
            return True
        # One item may be larger than the limit. Otherwise the consumer would never get it.
        return self.maxbytes is not None and items.total > self.maxbytes and len(items) > 1

    def _drop(self, items: HeldItems[T]) -> None:
        before, is_full_by_number = self.dropped, self.maxsize is not None and len(items) > self.maxsize
        if self._overflow == "drop_oldest":
            while self._is_too_full(items):
                items.drop_oldest()
                self.dropped += 1
        else:
            items.drop_newest()
            self.dropped += 1
        self._reporter.counters.dropped += self.dropped - before
        if self._overflow == "error":
            self.close(StreamOverflow(self.maxsize, None if is_full_by_number else self.maxbytes))
            self.overflowed()
        now = self._loop.time()
        if now - self._reported_at < DROP_REPORT_INTERVAL:
            return
        self._reported_at = now
        consumer = self.describe()
        event = self._reporter.emit(Overflowed, consumer=consumer, overflow=self._overflow, dropped=self.dropped)
        self._reporter.log(logging.WARNING, event, about=consumer)


def _wake(waiter: asyncio.Future[Any]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _peek_at(items: Iterable[Any]) -> list[Any]:
    return [item.peek() if type(item) is Deferred else item for item in items]
