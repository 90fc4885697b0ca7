"""A server that sends the snapshot of a book after each subscription, and a book that applies its messages."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any, Self

import rxws
from rxws.testing import FeedServer
from rxws.testing.broadcast import DelayedDelivery
from rxws.testing.connection import FeedConnection

PRICES = 12


class BookServer:
    """Sends ``{"s": "a", "n": …, "levels": …}``: a snapshot after each subscription, with ``"snap"``, and changes.

    Clients send ``"+a"`` and ``"-a"``, and get ``{"ok": "+a"}`` or ``{"ok": "-a"}`` as the answer.

    Attributes:
        levels: the sizes of the book, by price.
        number: the number of the last change.
        lags: the seconds by which messages arrive late on a connection, by the number of the connection.
        unanswered: the number of subscriptions that take effect without an answer.
        ignored: the number of subscriptions that are confirmed without a snapshot.
        sent: how often each message came from a client.
    """

    def __init__(self, seed: int = 1) -> None:
        self.server = FeedServer(self._talk)
        self.levels: dict[int, int] = {}
        self.number = 0
        self.lags: dict[int, float] = {}
        self.ignored = self.unanswered = 0
        self.sent: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._subscribed: dict[FeedConnection, None] = {}
        self._delivery = DelayedDelivery()

    async def __aenter__(self) -> Self:
        await self.server.__aenter__()
        return self

    async def __aexit__(self, *details: object) -> None:
        self._delivery.clear()
        await self.server.__aexit__(*details)

    async def _talk(self, connection: FeedConnection) -> None:
        async for message in connection:
            assert isinstance(message, str)
            self.sent[message] += 1
            if message == "+a" and self.unanswered:
                self.unanswered -= 1
            else:
                self._deliver(connection, {"ok": message})
            if message == "-a":
                self._subscribed.pop(connection, None)
                continue
            self._subscribed[connection] = None
            if self.ignored:
                self.ignored -= 1
            else:
                self._deliver(connection, self.snapshot())

    def snapshot(self) -> dict[str, Any]:
        """Return the snapshot of the book."""
        levels = [[price, size] for price, size in sorted(self.levels.items())]
        return {"s": "a", "snap": True, "n": self.number, "levels": levels}

    def publish(self, count: int = 1, *, lost: bool = False) -> None:
        """Change levels of the book, and send the changes to all subscribers, or lose them."""
        for _ in range(count):
            self.number += 1
            price, size = self._random.randrange(PRICES), self._random.randrange(5)
            self.levels[price] = size
            if not size:
                del self.levels[price]
            self.send({"s": "a", "n": self.number, "levels": [[price, size]]}, lost=lost)

    def send(self, message: Any, *, lost: bool = False) -> None:
        """Send a message to all subscribers."""
        for connection in [*self._subscribed]:
            if connection.is_open and not lost:
                self._deliver(connection, message)

    def _deliver(self, connection: FeedConnection, message: Any) -> None:
        self._delivery.deliver(connection, "a", message, self.lags.get(connection.number, 0.0))


class TakenBook:
    """A book that applies the items of ``stream.resync``.

    Attributes:
        reasons: the reasons of all snapshots.
        changes: the number of changes.
    """

    def __init__(self) -> None:
        self.levels: dict[int, int] = {}
        self.reasons: list[str] = []
        self.changes = 0

    def take(self, item: Any) -> None:
        """Apply an item."""
        message = item
        if isinstance(item, rxws.Snapshot):
            self.reasons.append(item.reason)
            self.levels, message = {}, item.data
        else:
            self.changes += 1
        for price, size in message["levels"]:
            self.levels[price] = size
            if not size:
                del self.levels[price]


def multiplexed(feed: rxws.ReactiveWebSocket[Any], **options: Any) -> rxws.Stream[Any]:
    """Return the stream of the server's book."""
    arguments = {"acknowledged": [{"ok": "+a"}], "filters": [{"s": "a"}], **options}
    return feed.multiplex("+a", "-a", **arguments)


def encode(message: Any) -> str:
    """Encode texts as they are."""
    return message if isinstance(message, str) else json.dumps(message)
