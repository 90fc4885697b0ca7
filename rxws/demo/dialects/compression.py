"""One zlib stream per connection: each frame is a piece that can be decompressed only after all earlier ones."""

from __future__ import annotations

import zlib
from typing import Any

import msgspec

from ...testing import FeedConnection

__all__ = ["CompressedConnection"]


class CompressedConnection(FeedConnection):
    """A connection on which the server sends binary frames that are pieces of one zlib stream.

    Args:
        connection: the connection itself.
    """

    def __init__(self, connection: FeedConnection) -> None:
        self._connection = connection
        self._stream = zlib.compressobj()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def send_nowait(self, message: Any) -> None:
        """Send a message as the next piece of the stream."""
        text = message.encode() if isinstance(message, str) else msgspec.json.encode(message)
        self._connection.send_nowait(self._stream.compress(text) + self._stream.flush(zlib.Z_SYNC_FLUSH))
