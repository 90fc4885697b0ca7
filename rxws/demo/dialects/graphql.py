"""GraphQL over websockets: the protocol graphql-transport-ws, in which either side ends a subscription.

Source: https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ..market import Market

__all__ = ["GraphQL"]


class _Payload(msgspec.Struct):
    query: str = ""
    variables: dict[str, Any] = {}


class _Message(msgspec.Struct):
    type: str
    id: str | None = None
    payload: _Payload | None = None


class GraphQL:
    """One connection. The variable ``channel`` of a query names the channel that it subscribes.

    Args:
        market: the prices and books.
        number: the number of the connection, which is not used.
    """

    def __init__(self, market: Market, number: int) -> None:
        self._market = market
        self._is_open = False
        self._channels: dict[str, str] = {}

    def answer(self, text: str | bytes) -> Iterator[Any]:
        """Yield the answers to a message."""
        try:
            message = msgspec.json.decode(text, type=_Message)
        except msgspec.DecodeError:
            yield _error(None, "expected a message of graphql-transport-ws")
            return
        if message.type == "connection_init":
            self._is_open = True
            yield {"type": "connection_ack"}
        elif message.type == "ping":
            yield {"type": "pong"}
        elif message.type == "complete" and message.id is not None:
            self._channels.pop(message.id, None)
        elif message.type == "subscribe" and message.id is not None:
            channel = message.payload.variables.get("channel") if message.payload else None
            if not self._is_open:
                yield _error(message.id, "connection_init is missing")
            elif message.id in self._channels:
                yield _error(message.id, "this id is in use")
            elif channel not in self._market.channels:
                yield _error(message.id, "no such channel")
            else:
                self._channels[message.id] = channel

    def publish(self, channel: str, message: dict[str, Any]) -> Any:
        """Return what the client gets for a message of a channel; None: nothing."""
        for number, subscribed in self._channels.items():
            if subscribed == channel:
                return {"id": number, "type": "next", "payload": {"data": message}}
        return None

    def end(self, channel: str) -> Any:
        """End the subscription of a channel. Return what the client gets; None: nothing."""
        for number, subscribed in self._channels.items():
            if subscribed == channel:
                del self._channels[number]
                return {"id": number, "type": "complete"}
        return None


def _error(number: str | None, text: str) -> dict[str, Any]:
    return {"id": number, "type": "error", "payload": [{"message": text}]}
