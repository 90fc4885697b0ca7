"""Reads the statements of relays before the place of a feed, so that a hole after them is noticed."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from .broker import Broker
from .consumer import Consumer, Message, start_at
from .control import CONTROL
from .place import Place

__all__ = ["look_back"]

#: The number of messages before its place in which a feed searches for earlier statements of relays.
LOOK_BACK: Final = 100_000

#: Seconds within which the earlier statements are read.
LOOK_BACK_TIMEOUT: Final = 5.0

_BATCH: Final = 1000
_IDLE_HEARTBEAT: Final = 1.0


async def look_back(broker: Broker, stream: str, place: Place) -> None:
    """Read the statements before the place, so that a hole between them and later ones is noticed."""
    place.has_looked_back = True
    following = place.following
    if following is None or following <= 1:
        return
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def finish(*_: Any) -> None:
        if not done.done():
            done.set_result(None)

    def deliver(sequence: int, message: Message) -> None:
        if sequence < following:
            _subject, _reply, data, _headers = message
            place.take(data)
        if sequence >= following or not consumer.pending:
            finish()

    def failed(error: Exception) -> None:
        if not done.done():
            done.set_exception(error)

    consumer = Consumer(
        broker, stream, CONTROL, _BATCH, _IDLE_HEARTBEAT, deliver, finish, failed, lambda: True, loop.time
    )
    await consumer.create(start_at(max(1, following - LOOK_BACK)))
    try:
        await consumer.probe(following)
        async with asyncio.timeout(LOOK_BACK_TIMEOUT):
            await done
    finally:
        await consumer.close()
