"""A backlog holds items first and delivers them later, in time slices. Other tasks run between the slices."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVarTuple

__all__ = ["SLICE", "Backlog"]

Ts = TypeVarTuple("Ts")

#: The length of a time slice: after this number of seconds of work on messages, other tasks run.
SLICE: Final = 0.010

#: The number of held items that are delivered between two calls of the clock.
_STEP: Final = 32


class Backlog(Generic[*Ts]):
    """Holds items in order, and delivers them when it is drained.

    While it drains, each added item causes the delivery of the two oldest ones. So it becomes empty however fast items
    arrive.

    Attributes:
        dropped: the number of items that were dropped. When the backlog is full, it drops the oldest item.

    Args:
        deliver: called with each item.
        limit: the largest number of items that it holds before it drains; None means no limit.

    Example::

        backlog = Backlog(print, limit=100_000)
        backlog.hold("first")
        await backlog.drain()
    """

    def __init__(self, deliver: Callable[[*Ts], None], limit: int | None = None) -> None:
        self.dropped = 0
        self._deliver = deliver
        self._limit = limit
        self._items: deque[tuple[*Ts]] = deque()
        self._is_draining = False

    def __len__(self) -> int:
        return len(self._items)

    def hold(self, *item: *Ts) -> None:
        """Add an item. While the backlog drains, deliver the two oldest items."""
        self._items.append(item)
        if self._is_draining:
            self._deliver_some(2)
        elif self._limit is not None and len(self._items) > self._limit:
            self._items.popleft()
            self.dropped += 1

    async def drain(self, *, yield_first: bool = False) -> None:
        """Deliver all items, including those that are added meanwhile. Other tasks run in between.

        Args:
            yield_first: whether other tasks run before the first item is delivered. Pass True if the caller has just
                kept the loop busy.
        """
        clock = asyncio.get_running_loop().time
        self._is_draining = True
        if yield_first:
            await asyncio.sleep(0)
        began = clock()
        while self._items:
            self._deliver_some(_STEP)
            if clock() - began > SLICE:
                await asyncio.sleep(0)
                began = clock()

    def _deliver_some(self, count: int) -> None:
        # Check the deque each time, because `deliver` may add items, and adding an item delivers others.
        while count and self._items:
            count -= 1
            self._deliver(*self._items.popleft())
