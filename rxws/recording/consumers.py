"""Waiting for the consumers of a replay: unlike a live feed, a recording need not overrun anybody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet

from ..observables import Buffer
from ..streams import CoroutineHandler

__all__ = ["MOST_WAITING", "PATIENCE", "STRIDE", "Consumers"]

STRIDE: Final = 100
"""Messages that may come until the consumers are looked at again, at most."""

MOST_WAITING: Final = 1_000
"""Messages that may wait for one consumer before the recording waits for it."""

PATIENCE: Final = 5.0
"""Seconds without taking a message after which the recording waits for a consumer no longer."""

LOOKS: Final = 20
"""How often the recording looks at once whether the consumers have caught up; then at intervals that grow."""

INTERVALS: Final = (0.001, 0.05)
"""Seconds: the first of these intervals, and the longest."""


class Consumers:
    """Those that have begun to take messages, and how far they are.

    Args:
        loop: whose clock it is.
        buffers: what they take from.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, buffers: WeakSet[Buffer[Any]]) -> None:
        self._loop = loop
        self._buffers = buffers
        # Of each that is being waited for: how much it held when it took the last, and when that was.
        self._waited_for: WeakKeyDictionary[Buffer[Any], tuple[int, float]] = WeakKeyDictionary()

    async def until_there_is_room(self) -> int:
        """Let other tasks have their turn, wait for consumers that are behind, and return for how many there is room.

        Cancelling is safe.
        """
        buffers = list(self._buffers)
        smallest = min((buffer.maxsize for buffer in buffers if buffer.maxsize is not None), default=STRIDE)
        stride = max(1, min(STRIDE, smallest // 2))

        def most(buffer: Buffer[Any]) -> int:
            return MOST_WAITING if buffer.maxsize is None else min(MOST_WAITING, max(0, buffer.maxsize - stride))

        await self._wait_for(buffers, most)
        return stride

    async def until_handled(self) -> None:
        """Wait until coroutine handlers have been given all that they hold. Streams may as well be read later.

        Cancelling is safe.
        """
        handlers = [buffer for buffer in self._buffers if isinstance(buffer, CoroutineHandler)]
        await self._wait_for(handlers, lambda _: 0)

    async def _wait_for(self, buffers: Sequence[Buffer[Any]], most: Callable[[Buffer[Any]], int]) -> None:
        """Let other tasks have their turn, until none of ``buffers`` holds more than ``most`` of it says."""
        first, longest = INTERVALS
        looks, interval = 0, 0.0
        await asyncio.sleep(0)
        # Those that have room are done with: nothing comes meanwhile.
        while buffers := [buffer for buffer in buffers if self._is_behind(buffer, most(buffer))]:
            await asyncio.sleep(interval)
            looks += 1
            if looks > LOOKS:
                interval = min(longest, interval * 2 or first)

    def _is_behind(self, buffer: Buffer[Any], most: int) -> bool:
        held = len(buffer)
        if held <= most or (buffer.closed and not isinstance(buffer, CoroutineHandler)):
            self._waited_for.pop(buffer, None)
            return False
        now = self._loop.time()
        least, since = self._waited_for.get(buffer, (held + 1, now))
        if held < least:
            least, since = held, now
        self._waited_for[buffer] = least, since
        return now - since < PATIENCE
