"""A server that sends missed messages again, from a cursor on, in the ways of several exchanges."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from rxws.testing import FeedConnection, FeedServer

__all__ = ["ReplayingServer", "ids"]


class ReplayingServer(FeedServer):
    """Numbers its messages, keeps them all, and sends them again from a cursor on.

    A message has an ``id`` that counts all messages, a key ``k``, and a number ``n`` that counts those of its key. The
    cursor is the ``id``: ``?cursor=5`` in the URL, or ``{"subscribe": "A", "cursor": 5}`` for the messages of a key,
    which is answered with ``{"subscribed": "A", "recovered": true}``. (A connection whose path is ``/channels`` gets
    only the messages of the keys that it subscribes.)

    Attributes:
        begins: where a replay begins: 0 means the cursor's own message, 1 the next one, -3 the third one before it.
        states: whether the server sends ``{"recovered": …}`` after a replay.
        greets: whether it first sends a greeting, which differs on each connection.
        shows_last: whether it first sends the last message of each key again.
        has_forgotten: whether it ignores cursors.
        keys: the keys, whose messages alternate.
        epoch: a part of each message, which changes when the server restarts its count.
        log: all messages.
        cursors: the requested cursors.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(self._serve, **options)
        self.begins = 0
        self.states = self.greets = self.shows_last = self.has_forgotten = False
        self.keys: tuple[str, ...] = ("A",)
        self.epoch = 1
        self.log: list[dict[str, Any]] = []
        self.cursors: list[int | None] = []
        self._subscribed: dict[FeedConnection, set[str]] = {}

    def publish(self, count: int = 1) -> None:
        """Number messages, and send them to all connections."""
        for _ in range(count):
            key = self.keys[len(self.log) % len(self.keys)]
            number = sum(each["k"] == key for each in self.log) + 1
            self.log.append({"id": len(self.log) + 1, "k": key, "n": number, "epoch": self.epoch})
            for connection in self.connections:
                if key in self._subscribed.get(connection, self.keys):
                    connection.send_nowait(self.log[-1])

    def at(self, cursor: object) -> str:
        """Return the URL for a cursor."""
        return self.url if cursor is None else f"{self.url}?cursor={cursor}"

    @property
    def channels_url(self) -> str:
        """The URL of connections that subscribe keys."""
        return f"{self.url}channels"

    async def _serve(self, connection: FeedConnection) -> None:
        address = urlsplit(connection.path)
        if self.greets:
            connection.send_nowait({"hello": len(self.cursors)})
        if address.path.endswith("/channels"):
            self._subscribed[connection] = set()
            async for request in connection:
                asked = json.loads(request)
                if "unsubscribe" in asked:
                    self._subscribed[connection].discard(asked["unsubscribe"])
                    continue
                self._subscribed[connection].add(asked["subscribe"])
                recovered = asked.get("cursor") is not None and not self.has_forgotten
                connection.send_nowait({"subscribed": asked["subscribe"], "recovered": recovered})
                self._replay(connection, asked.get("cursor"), {asked["subscribe"]})
        else:
            cursor = dict(parse_qsl(address.query)).get("cursor")
            self._replay(connection, None if cursor is None else int(cursor), {*self.keys})
            if self.states and cursor is not None:
                connection.send_nowait({"recovered": not self.has_forgotten})

    def _replay(self, connection: FeedConnection, cursor: int | None, keys: set[str]) -> None:
        self.cursors.append(cursor)
        mine = [each for each in self.log if each["k"] in keys]
        if self.shows_last:
            for key in sorted(keys):
                connection.send_nowait([each for each in mine if each["k"] == key][-1])
        if cursor is not None and not self.has_forgotten:
            place = next((place for place, each in enumerate(mine) if each["id"] >= cursor), len(mine))
            for each in mine[max(0, place + self.begins) :]:
                connection.send_nowait(each)


def ids(items: list[Any]) -> list[Any]:
    """Return the ids of messages, and ``"gap"`` for each gap; messages without an id are left out."""
    found = [each.get("id") if isinstance(each, dict) else "gap" for each in items]
    return [each for each in found if each is not None]
