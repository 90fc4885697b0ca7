"""The clients of a server: waits for their handshakes, connections and messages, and sends to all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed

from .connection import FeedConnection
from .messages import Inbox
from .waiting import Changes

__all__ = ["Clients", "Handshake"]


@dataclass(frozen=True, slots=True)
class Handshake:
    """A client's attempt to open a websocket, successful or not.

    Attributes:
        time: when it began, in seconds of the loop's clock.
        path: the requested path with the query.
        headers: the headers of the request; names are case-insensitive.
    """

    time: float
    path: str
    headers: Headers


class Clients:
    """All clients of a server. The methods of a connection also exist here, and act on all live connections."""

    def __init__(self) -> None:
        super().__init__()
        self.handshakes: list[Handshake] = []
        """All attempts to open a websocket, including refused ones, in order."""
        self.opened = 0
        """How many websockets have ever been open."""
        self._inbox = Inbox()
        self._changes = Changes()
        self._connections: list[FeedConnection] = []
        self._newest: FeedConnection | None = None

    @property
    def connections(self) -> list[FeedConnection]:
        """The live connections, oldest first."""
        return [connection for connection in self._connections if connection.is_open]

    @property
    def received(self) -> list[str | bytes]:
        """The messages of all clients (the last 10,000), oldest first."""
        return self._inbox.received

    # Waiting

    async def connected(self, count: int = 1, *, timeout: float = 5.0) -> FeedConnection:
        """Wait until ``count`` connections have been opened in all, and return the newest, even if it has ended.

        Raises:
            TimeoutError: there were fewer within ``timeout`` seconds; the message says how many.
        """
        return await self._changes.until(
            lambda: self._newest if self.opened >= count else None,
            timeout=timeout,
            describe=lambda: f"expected {count} connections, had {self.opened} in {len(self.handshakes)} handshakes",
        )

    async def attempted(self, count: int = 1, *, timeout: float = 5.0) -> Handshake:
        """Wait until ``count`` handshakes have been attempted, including refused ones, and return the newest.

        Raises:
            TimeoutError: there were fewer within ``timeout`` seconds; the message says how many.
        """
        return await self._changes.until(
            lambda: self.handshakes[-1] if len(self.handshakes) >= count else None,
            timeout=timeout,
            describe=lambda: f"expected {count} handshakes, had {len(self.handshakes)}",
        )

    async def disconnected(self, *, timeout: float = 5.0) -> None:
        """Wait until no connection is live.

        Raises:
            TimeoutError: one was still live after ``timeout`` seconds; the message says which.
        """
        await self._changes.until(
            lambda: None if self._connections else True,
            timeout=timeout,
            describe=lambda: f"expected no connection, have {self._connections}",
        )

    async def expect(self, wanted: Any = None, *, timeout: float = 5.0) -> str | bytes:
        """Wait for a wanted message of any client, and return the first one that this method has not returned before.

        The arguments are those of :meth:`FeedConnection.expect`. Both methods can return the same message, each once.
        """
        return await self._inbox.expect(wanted, timeout=timeout)

    # To all live connections

    async def send(self, *messages: Any, to: Iterable[FeedConnection] | None = None, timeout: float = 5.0) -> None:
        """Send messages in order to all live connections, or to those in ``to``; see :meth:`FeedConnection.send`.

        A connection that is lost meanwhile is skipped.
        """
        await self._each(lambda connection: connection.send(*messages, timeout=timeout), to)

    async def burst(self, count: int, message: Any = None) -> None:
        """Send ``count`` messages to each live connection; see :meth:`FeedConnection.burst`."""
        await self._each(lambda connection: connection.burst(count, message))

    async def close(self, code: int = 1000, reason: str = "", *, timeout: float = 5.0) -> None:
        """Close all live connections with a code; the server keeps running. See :meth:`FeedConnection.close`."""
        await self._each(lambda connection: connection.close(code, reason, timeout=timeout))

    def reset(self) -> None:
        """Cut all live connections at once; see :meth:`FeedConnection.reset`."""
        for connection in self.connections:
            connection.reset()

    def stall(self) -> None:
        """Stall all live connections: they stay open, but nothing is sent, read or answered on them.

        See :meth:`FeedConnection.stall`.
        """
        for connection in self.connections:
            connection.stall()

    def resume(self) -> None:
        """End the stall of all live connections."""
        for connection in self.connections:
            connection.resume()

    # Implementation

    def _handshake_started(self, handshake: Handshake) -> None:
        """Record that a client wants to open a websocket."""
        self.handshakes.append(handshake)
        self._changes.notify()

    def _came(self, connection: FeedConnection) -> None:
        """Record that a websocket is open."""
        self.opened += 1
        self._newest = connection
        self._connections.append(connection)
        self._changes.notify()

    def _said(self, connection: FeedConnection, message: str | bytes) -> None:
        """Record a client's message."""
        self._inbox.record(message)
        connection.inbox.record(message)

    def _went(self, connection: FeedConnection) -> None:
        """Record that a websocket has closed."""
        self._connections.remove(connection)
        self._changes.notify()

    async def _each(
        self, action: Callable[[FeedConnection], Awaitable[None]], to: Iterable[FeedConnection] | None = None
    ) -> None:
        connections: Sequence[FeedConnection] = self.connections if to is None else list(to)
        results = await asyncio.gather(*map(action, connections), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, ConnectionClosed):
                raise result
