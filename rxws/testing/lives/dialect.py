"""The messages between server and client of a life."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import rxws

__all__ = ["Dialect", "Numbered", "Request"]

LEVELS = 5
"""The number of levels of a book."""


class Numbered(NamedTuple):
    """The content of a numbered message.

    Attributes:
        channel: its channel.
        n: the number of the message on the channel; for a snapshot, the number of the last change that it contains.
        is_snapshot: whether it is a snapshot, which contains the result of all changes up to ``n``.
    """

    channel: str
    n: int
    is_snapshot: bool = False


class Request(NamedTuple):
    """A client's request.

    Attributes:
        subscribes: True to subscribe, False to unsubscribe.
        channels: the channels.
        cursors: for channels with a cursor, the number of the last message that the client has.
        ids: the ids of the subscriptions to end, in place of channels.
    """

    subscribes: bool
    channels: tuple[str, ...]
    cursors: Mapping[str, int] = MappingProxyType({})
    ids: tuple[int, ...] = ()


class Dialect:
    """The messages of a life, in JSON. Subclass it to use the messages of your own protocol.

    The methods that return frames belong to the server. :meth:`read` and the methods that return filters and messages
    belong to the client: :meth:`read` takes messages as your class delivers them, and the others return messages as
    your class sends them.

    Attributes:
        pushes: whether the server sends all channels on every connection without a subscription.
        knows_snapshots: whether your class knows which messages are snapshots for one connection
            (``_is_per_connection``). The server sends snapshots only if it does.

    Example::

        class Positions(Dialect):                        # ["c0", 17], and all channels arrive without a subscription
            pushes = True

            def change(self, channel, n):
                return json.dumps([channel, n])

            def heartbeat(self):
                return None

            def read(self, message):
                return Numbered(*message)

            def belongs(self, channel):
                return lambda message: message[0] == channel
    """

    pushes = False
    knows_snapshots = False

    # The server's frames

    def change(self, channel: str, n: int) -> str | bytes:
        """Return the frame of the ``n``-th message of a channel; it is the same on every connection."""
        return json.dumps({"c": channel, "n": n, "level": n * 7 % LEVELS})

    def snapshot(self, channel: str, n: int) -> str | bytes | None:
        """Return the snapshot that follows a subscription, with all changes up to ``n``, or None for no snapshot."""
        return json.dumps({"c": channel, "snapshot": n})

    def heartbeat(self) -> str | bytes | None:
        """Return a frame that is the same each time, or None for no heartbeat."""
        return '{"heartbeat": 1}'

    def greeting(self, number: int) -> str | bytes | None:
        """Return the first frame of the ``number``-th connection, or None for no greeting."""
        return json.dumps({"hello": number})

    def statement(self, is_resumed: bool) -> str | bytes | None:
        """Return the frame that says whether all missed messages were sent again, or None for no such frame."""
        return json.dumps({"recovered": is_resumed})

    def signal(self) -> str | bytes | None:
        """Return the frame that asks the client to open a new connection, or None for no such frame."""
        return '{"expired": true}'

    def gap(self, start: float, end: float) -> str | bytes:
        """Return the frame that says that all messages between two times are missing."""
        return json.dumps({"gap": [start, end]})

    def padded(self, frame: str | bytes, size: int) -> str | bytes:
        """Return a frame of the same meaning that is larger by up to ``size`` bytes."""
        return frame + " " * size if isinstance(frame, str) else frame

    def with_id(self, frame: str | bytes, number: int) -> str | bytes:
        """Return the frame of a message, or of an answer, with the id that the server has given to its subscription."""
        # Put it first, so that a padded frame keeps its size.
        return f'{{"id": {number}, {frame[1:]}' if isinstance(frame, str) else frame

    def ended(self, channel: str) -> str | bytes:
        """Return the frame that says that the server has ended the subscription of a channel."""
        return json.dumps({"ended": channel})

    def request(self, frame: str | bytes) -> Request | None:
        """Return the request in a client's frame, or None if the frame is not a request."""
        message = json.loads(frame)
        if not isinstance(message, dict) or message.get("op") not in ("subscribe", "unsubscribe"):
            return None
        channels, ids = tuple(message.get("channels", ())), tuple(message.get("ids", ()))
        return Request(message["op"] == "subscribe", channels, message.get("cursors", {}), ids)

    def answer(self, request: Request, is_refused: bool) -> str | bytes | None:
        """Return the answer to a subscription, or None for no answer."""
        return json.dumps({"refused" if is_refused else "subscribed": request.channels[0]})

    def recovered(self, channel: str, n: int | None, is_resumed: bool) -> str | bytes:
        """Return the answer to a subscription with a cursor. The messages after the ``n``-th follow (None: unknown)."""
        return json.dumps({"subscribed": channel, **({} if n is None else {"at": n}), "recovered": is_resumed})

    # The client's side

    def read(self, message: Any) -> Numbered | None:
        """Return the content of a message that your class delivered, or None if it has no number."""
        if not isinstance(message, Mapping) or "c" not in message:
            return None
        if "snapshot" in message:
            return Numbered(message["c"], message["snapshot"], True)
        return Numbered(message["c"], message["n"])

    def snapshots(self) -> list[dict[Any, Any]]:
        """Return a filter for snapshots among the messages of a channel."""
        return [{"snapshot": rxws.present}]

    def kinds(self) -> list[dict[Any, Any]]:
        """Return a filter that all messages without a number pass."""
        names = ("heartbeat", "hello", "recovered", "expired", "subscribed", "refused")
        return [{name: rxws.present} for name in names]

    def belongs(self, channel: str) -> Any:
        """Return a filter for the messages of a channel."""
        return [{"c": channel}]

    def subscribe(self, channels: Sequence[str]) -> Any:
        """Return the message that subscribes channels."""
        return {"op": "subscribe", "channels": list(channels)}

    def subscribe_from(self, channel: str, n: int | None) -> Any:
        """Return the message that subscribes a channel from the message after the ``n``-th on; None: from now on."""
        return {**self.subscribe([channel]), "cursors": {} if n is None else {channel: n}}

    def identity(self, message: Any) -> Any:
        """Return what makes two messages the same if the server gives ids, which differ on each connection."""
        return json.dumps({key: value for key, value in message.items() if key != "id"}, sort_keys=True)

    def filters_from(self, answer: Any) -> Any:
        """Return a filter for the messages of a channel, from the answer that has the id of its subscription."""
        return [{"id": answer["id"], "c": rxws.present}]

    def unsubscribe_from(self, answer: Any) -> Any:
        """Return the message that unsubscribes a channel by its id."""
        return {"op": "unsubscribe", "ids": [answer["id"]]}

    def ends(self, channel: str) -> Any:
        """Return a filter for the message that says that the server has ended the subscription of a channel."""
        return [{"ended": channel}]

    def unsubscribe(self, channel: str) -> Any:
        """Return the message that unsubscribes a channel."""
        return {"op": "unsubscribe", "channels": [channel]}

    def acknowledged(self, channel: str) -> Any:
        """Return a filter for the answer to a subscription, or None to wait for no answer."""
        return [{"subscribed": channel}]

    def rejected(self, channel: str) -> Any:
        """Return a filter for the refusal of a subscription, or None if there are no refusals."""
        return [{"refused": channel}]

    def combine(self, messages: list[Any]) -> Any:
        """Return one message that replaces several subscriptions."""
        combined = self.subscribe([channel for message in messages for channel in message["channels"]])
        cursors = {channel: n for message in messages for channel, n in message.get("cursors", {}).items()}
        return {**combined, "cursors": cursors} if cursors else combined
