"""What is held for later, and then delivered in turns with other tasks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVarTuple

__all__ = ["SLICE", "Backlog"]

Ts = TypeVarTuple("Ts")

SLICE: Final = 0.010
"""Seconds for which messages may be delivered in one go, before other tasks get their turn."""

_STEP: Final = 32
"""How many held items are delivered between two looks at the clock."""


class Backlog(Generic[*Ts]):
    """Holds items in order, and drains them.

    While it drains, two items are delivered for each that is added: so it becomes empty however fast items come.

    Attributes:
        dropped: how many items were dropped because ``limit`` was reached: the oldest.

    Args:
        deliver: called with each item.
        limit: how many items it holds at most before it drains; None for no limit.

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
        """Add an item; while the backlog drains, deliver the two oldest in return."""
        self._items.append(item)
        if self._is_draining:
            self._deliver_some(2)
        elif self._limit is not None and len(self._items) > self._limit:
            self._items.popleft()
            self.dropped += 1

    async def drain(self, *, yield_first: bool = False) -> None:
        """Deliver all items, those added meanwhile included; other tasks have their turns in between.

        Args:
            yield_first: whether other tasks have a turn before the first item, because the caller has just worked long.
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
        # Not a loop over a range: what is called here may add items, which delivers others.
        while count and self._items:
            count -= 1
            self._deliver(*self._items.popleft())
