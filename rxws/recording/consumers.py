"""Lets a replay wait for slow consumers. A live feed cannot wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet

from ..observables import Buffer
from ..streams import CoroutineHandler

__all__ = ["MOST_WAITING", "PATIENCE", "STRIDE", "Consumers"]

STRIDE: Final = 100
"""Maximum number of messages between two checks of the consumers."""

MOST_WAITING: Final = 1_000
"""Messages that may wait in one consumer before the replay pauses."""

MOST_FULL: Final = 0.5
"""The part of ``maxbytes`` that one consumer may hold before the replay pauses."""

PATIENCE: Final = 5.0
"""Seconds after which the replay stops waiting for a consumer that takes no message."""

LOOKS: Final = 20
"""The number of checks without a delay. After them the replay checks at growing intervals."""

INTERVALS: Final = (0.001, 0.05)
"""The shortest and the longest of the growing intervals, in seconds."""


class Consumers:
    """The consumers that have started to take messages, and their progress.

    Args:
        loop: the event loop, for its clock.
        buffers: the buffers from which the consumers take messages.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, buffers: WeakSet[Buffer[Any]]) -> None:
        self._loop = loop
        self._buffers = buffers
        # For each buffer that the replay waits for: its smallest size so far, and when it reached that size.
        self._waited_for: WeakKeyDictionary[Buffer[Any], tuple[int, float]] = WeakKeyDictionary()

    async def until_there_is_room(self) -> int:
        """Let other tasks run, wait for slow consumers, and return the number of messages that fit in all buffers.

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
        """Wait until coroutine handlers have taken all their messages. Streams can also be read later.

        Cancelling is safe.
        """
        handlers = [buffer for buffer in self._buffers if isinstance(buffer, CoroutineHandler)]
        await self._wait_for(handlers, lambda _: 0)

    async def _wait_for(self, buffers: Sequence[Buffer[Any]], most: Callable[[Buffer[Any]], int]) -> None:
        """Let other tasks run until no buffer holds more messages than ``most`` returns for it."""
        first, longest = INTERVALS
        looks, interval = 0, 0.0
        await asyncio.sleep(0)
        # Stop checking a buffer that has room, because no message is delivered during this wait.
        while buffers := [buffer for buffer in buffers if self._is_behind(buffer, most(buffer))]:
            await asyncio.sleep(interval)
            looks += 1
            if looks > LOOKS:
                interval = min(longest, interval * 2 or first)

    def _is_behind(self, buffer: Buffer[Any], most: int) -> bool:
        held = len(buffer)
        has_room = held <= most and buffer.fill_of_bytes < MOST_FULL
        if has_room or (buffer.closed and not isinstance(buffer, CoroutineHandler)):
            self._waited_for.pop(buffer, None)
            return False
        now = self._loop.time()
        least, since = self._waited_for.get(buffer, (held + 1, now))
        if held < least:
            least, since = held, now
        self._waited_for[buffer] = least, since
        return now - since < PATIENCE
