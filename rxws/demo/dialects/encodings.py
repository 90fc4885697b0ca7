"""Frames that are not one JSON text each: one zlib stream per connection, MessagePack, and lines of JSON."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from typing import Any

import msgspec

from ...testing import FeedConnection

__all__ = ["encoded"]


class _EncodedConnection(FeedConnection):
    """A connection whose frames have another encoding. Everything else is that of the ``connection`` itself."""

    def __init__(self, connection: FeedConnection) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class _CompressedConnection(_EncodedConnection):
    """A connection on which the server sends binary frames that are pieces of one zlib stream.

    Each frame can be decompressed only after all earlier ones.
    """

    def __init__(self, connection: FeedConnection) -> None:
        super().__init__(connection)
        self._stream = zlib.compressobj()

    def send_nowait(self, message: Any) -> None:
        """Send a message as the next piece of the stream."""
        self._connection.send_nowait(self._stream.compress(_json(message)) + self._stream.flush(zlib.Z_SYNC_FLUSH))


class _MessagePackConnection(_EncodedConnection):
    """A connection on which both sides send binary frames in MessagePack."""

    def send_nowait(self, message: Any) -> None:
        """Send a message as MessagePack."""
        decoded = msgspec.json.decode(message) if isinstance(message, str | bytes) else message
        self._connection.send_nowait(msgspec.msgpack.encode(decoded))

    async def __anext__(self) -> str | bytes:
        message = await anext(self._connection)
        try:
            return msgspec.json.encode(msgspec.msgpack.decode(message)) if isinstance(message, bytes) else message
        except msgspec.DecodeError:
            return message


class _LinesConnection(_EncodedConnection):
    """A connection on which each frame has a line of JSON for each message that was sent at the same time."""

    def __init__(self, connection: FeedConnection) -> None:
        super().__init__(connection)
        self._lines: list[bytes] = []

    def send_nowait(self, message: Any) -> None:
        """Send a message in the same frame as those that are sent in this iteration of the event loop."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._send_lines)
        self._lines.append(_json(message) + b"\n")

    def _send_lines(self) -> None:
        self._connection.send_nowait(b"".join(self._lines).decode())
        self._lines.clear()


def encoded(connection: FeedConnection, asked: Mapping[str, str]) -> FeedConnection:
    """Return the connection in the encoding that the query of its URL asks for."""
    if asked.get("compress") == "zlib":
        return _CompressedConnection(connection)
    kinds = {"msgpack": _MessagePackConnection, "ndjson": _LinesConnection}
    kind = kinds.get(asked.get("format", ""))
    return connection if kind is None else kind(connection)


def _json(message: Any) -> bytes:
    if isinstance(message, bytes):
        return message
    return message.encode() if isinstance(message, str) else msgspec.json.encode(message)
