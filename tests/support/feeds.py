"""A minimal feed, and functions that tests of feeds use often."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import websockets
from reactivex import Observable

from rxws import AsyncWebsocketStreamInterface
from rxws.testing import FeedConnection, FeedServer

T = TypeVar("T")


class Feed(AsyncWebsocketStreamInterface[Any]):
    """A feed with the three hooks only: it connects to a server, never rotates, and parses JSON."""

    def __init__(self, server: FeedServer | None, **options: Any) -> None:
        self.server = server
        super().__init__(**options)

    async def _create_ws(self) -> Any:
        assert self.server is not None
        return await websockets.connect(self.server.url, compression=None, proxy=None, ping_interval=None)

    async def _when2create_new_ws(self) -> None:
        await asyncio.Future()

    def _parse_raw_data(self, raw_data: str | bytes) -> Any:
        return json.loads(raw_data)


def record(observable: Observable[T]) -> list[T]:
    """Return a list to which the items of an Observable are appended; its end and its error are ignored."""
    items: list[T] = []
    observable.subscribe(items.append, lambda _error: None)
    return items


def of_kind(kind: type[T], events: list[Any]) -> list[T]:
    """Return the events of one kind."""
    return [event for event in events if isinstance(event, kind)]


async def take(stream: AsyncIterator[T], count: int) -> list[T]:
    """Return ``count`` messages of a stream, which must arrive within 30 seconds."""
    async with asyncio.timeout(30):
        return [await anext(stream) for _ in range(count)]


async def opened(feed: AsyncWebsocketStreamInterface[Any], server: FeedServer, count: int = 1) -> FeedConnection:
    """Wait until both sides know of the server's ``count``-th connection, and return it."""
    connection = await server.connected(count, timeout=100)
    await feed.wait_connected()
    return connection


async def greet(connection: FeedConnection) -> None:
    """A script for a FeedServer: send two messages that contain the number of the connection."""
    await connection.send({"connection": connection.number, "n": 1}, {"connection": connection.number, "n": 2})
