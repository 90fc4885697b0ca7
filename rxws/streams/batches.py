"""Batches: the iterator over lists of a stream's messages, limited in number and in age."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from typing import Final, Generic, TypeVar

from ..checks import check_count, check_seconds
from ..observables.buffer import Buffer

__all__ = ["Batches"]

T = TypeVar("T")


class Batches(AsyncIterator[list[T]], Generic[T]):
    """Iterates over the messages of a buffer in lists. ``stream.batches()`` returns it.

    Args:
        buffer: the messages. They stay in it until their list is complete, so cancelling loses none.
        owner: the stream, which is kept alive.
        count: the number of messages that one list has at most; None: no limit.
        seconds: how long a message waits at most for its list to grow; None: a list does not wait for more messages.

    Raises:
        TypeError: ``count`` is not an int or None, or ``seconds`` is not a number or None.
        ValueError: ``count`` is less than 1, or ``seconds`` is not positive and finite.
    """

    __slots__ = ("_buffer", "_count", "_owner", "_seconds", "_taken_at")

    def __init__(self, buffer: Buffer[T], owner: object, count: int | None, seconds: float | None) -> None:
        if count is not None:
            check_count("count", count)
        if seconds is not None:
            check_seconds("seconds", seconds, zero=False)
        self._buffer: Final = buffer
        self._owner: Final = owner
        self._count: Final = count
        self._seconds: Final = seconds
        # The messages that wait now arrived after this time. Messages do not have their own times.
        self._taken_at = -math.inf

    async def __anext__(self) -> list[T]:
        buffer = self._buffer
        if self._seconds is not None:
            if not buffer:
                await buffer.wait_for(1)
                self._taken_at = buffer.now()
            await buffer.wait_for(self._count, self._taken_at + self._seconds)
        batch = await buffer.get_batch(self._count)
        self._taken_at = -math.inf if buffer else buffer.now()
        return batch
