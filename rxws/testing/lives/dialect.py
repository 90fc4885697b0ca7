"""What server and client of a life say to each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Dialect", "Numbered", "Request"]

LEVELS = 5
"""How many levels a book has."""


class Numbered(NamedTuple):
    """What a message says.

    Attributes:
        channel: its channel.
        n: its number there; of a snapshot that of the last change in it.
        is_snapshot: whether it is a snapshot, which says what all changes before it came to.
    """

    channel: str
    n: int
    is_snapshot: bool = False


class Request(NamedTuple):
    """What a client wants.

    Attributes:
        subscribes: whether it subscribes, or unsubscribes.
        channels: what.
    """

    subscribes: bool
    channels: tuple[str, ...]


class Dialect:
    """The messages of a life, in JSON. Inherit from it, and change what your server and your class say otherwise.

    The methods that give frames are the server's; :meth:`read` and those that give filters and messages to be sent
    serve the client, and get and give what your class delivers and takes.

    Attributes:
        pushes: whether the server sends all channels on every connection, without being asked.
        knows_snapshots: whether your class knows which messages are snapshots for one connection
            (``_is_per_connection``): only then are they sent.
    """

    pushes = False
    knows_snapshots = False

    # The server's frames

    def change(self, channel: str, n: int) -> str | bytes:
        """Return the frame of the ``n``-th message of a channel; the same on every connection."""
        return json.dumps({"c": channel, "n": n, "level": n * 7 % LEVELS})

    def snapshot(self, channel: str, n: int) -> str | bytes | None:
        """Return the snapshot that follows a subscription, with all changes up to ``n`` in it; None: there is none."""
        return json.dumps({"c": channel, "snapshot": n})

    def heartbeat(self) -> str | bytes | None:
        """Return a frame that is the same each time; None: there is none."""
        return '{"heartbeat": 1}'

    def signal(self) -> str | bytes | None:
        """Return the frame that says that it is time for a new connection; None: there is none."""
        return '{"expired": true}'

    def request(self, frame: str | bytes) -> Request | None:
        """Return what a client's frame asks for; None: nothing that concerns the life."""
        message = json.loads(frame)
        if not isinstance(message, dict) or message.get("op") not in ("subscribe", "unsubscribe"):
            return None
        return Request(message["op"] == "subscribe", tuple(message["channels"]))

    def answer(self, request: Request, is_refused: bool) -> str | bytes | None:
        """Return the answer to a request to subscribe; None: there is none."""
        return json.dumps({"refused" if is_refused else "subscribed": request.channels[0]})

    # The client's side

    def read(self, message: Any) -> Numbered | None:
        """Return what a message says, as your class delivers it; None where it has no number."""
        if not isinstance(message, Mapping) or "c" not in message:
            return None
        if "snapshot" in message:
            return Numbered(message["c"], message["snapshot"], True)
        return Numbered(message["c"], message["n"])

    def belongs(self, channel: str) -> Any:
        """Return a filter of a channel's messages."""
        return [{"c": channel}]

    def subscribe(self, channels: Sequence[str]) -> Any:
        """Return the message that subscribes channels."""
        return {"op": "subscribe", "channels": list(channels)}

    def unsubscribe(self, channel: str) -> Any:
        """Return the message that ends a channel."""
        return {"op": "unsubscribe", "channels": [channel]}

    def acknowledged(self, channel: str) -> Any:
        """Return a filter of the answer to a subscription; None: none is awaited."""
        return [{"subscribed": channel}]

    def rejected(self, channel: str) -> Any:
        """Return a filter of its refusal; None: there is none."""
        return [{"refused": channel}]

    def combine(self, messages: list[Any]) -> Any:
        """Return one message for several that subscribe."""
        return self.subscribe([channel for message in messages for channel in message["channels"]])
