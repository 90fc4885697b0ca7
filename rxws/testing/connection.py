"""One client's connection to a FeedServer, and all that a server can do to it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from typing import Any

from websockets.asyncio.server import ServerConnection, broadcast
from websockets.datastructures import Headers
from websockets.protocol import State

from .messages import Inbox, encode

__all__ = ["FeedConnection", "reset_transport"]


def reset_transport(transport: asyncio.WriteTransport) -> None:
    """End a TCP connection with RST, without sending its buffer; in memory the peer sees the end of the stream."""
    endpoint = transport.get_extra_info("socket")
    # A closed socket has the descriptor -1. The sockets of async-solipsism have no descriptor and no RST.
    if endpoint is not None and isinstance(number := endpoint.fileno(), int) and number >= 0:
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class FeedConnection:
    """A client's connection, seen from the server. Scripts are called with it.

    Iterating it (``async for message in connection``) yields the client's messages and ends with the connection. Each
    message is returned only once, either by the iteration or by :meth:`expect`; :attr:`received` keeps all messages.

    Attributes:
        websocket: the connection of the websockets library, for everything that this class does not offer.
        number: 1 for the first connection of the server, and so on.
        path: the path that the client asked for, with the query.
        headers: the headers of the client's handshake.
        opened_at: when the connection was opened, in seconds of the loop's clock.
    """

    def __init__(self, websocket: ServerConnection, number: int) -> None:
        request = websocket.request
        assert request is not None  # It is set once the handshake is done.
        self.websocket = websocket
        self.number = number
        self.path = request.path
        self.headers: Headers = request.headers
        self.opened_at = asyncio.get_running_loop().time()
        self.inbox = Inbox()
        self._reset = False
        self._stalled = False
        self._sent = 0

    def __repr__(self) -> str:
        return f"<FeedConnection {self.number} {'open' if self.is_open else 'closed'}>"

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent: the handshake is done, and neither side has begun to close."""
        return self.websocket.state is State.OPEN and not self._reset

    @property
    def is_stalled(self) -> bool:
        """Whether :meth:`stall` was called, and :meth:`resume` was not called since."""
        return self._stalled

    @property
    def received(self) -> list[str | bytes]:
        """The client's messages (the last 10,000), oldest first."""
        return self.inbox.received

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return self

    async def __anext__(self) -> str | bytes:
        message = await self.inbox.next()
        if message is None:
            raise StopAsyncIteration
        return message

    async def expect(self, wanted: Any = None, *, timeout: float = 5.0) -> str | bytes:
        """Wait for a wanted message of this client, and return the first one that was not returned before.

        Args:
            wanted: None (any message), ``str`` or ``bytes`` (exactly this message), a function of the message, a dict
                (a JSON object with at least these keys and values), or another JSON value.
            timeout: seconds to wait.

        Raises:
            TimeoutError: no such message arrived; the text of the error lists the messages that arrived.
        """
        return await self.inbox.expect(wanted, timeout=timeout)

    async def send(self, *messages: Any, timeout: float = 5.0) -> None:
        """Send messages in order; wait when the client reads too slowly.

        ``str`` is sent as a text frame, ``bytes`` as a binary frame, anything else as JSON text. On a stalled
        connection nothing is sent: the messages are lost, as those of a server that hangs.

        Raises:
            websockets.ConnectionClosed: the connection is closed. A script need not catch it.
            TimeoutError: the client did not read a message within ``timeout`` seconds.
        """
        for message in messages:
            if self._stalled:
                return
            async with asyncio.timeout(timeout):
                await self.websocket.send(encode(message))
            self._sent += 1
            if self._sent % 64 == 0:
                # websockets' send does not yield while its buffer has room, so an endless script would starve the loop.
                await asyncio.sleep(0)

    def send_nowait(self, message: Any) -> None:
        """Send without waiting for the client to read; a closed or stalled connection sends nothing."""
        if self.is_open and not self._stalled:
            broadcast((self.websocket,), encode(message))

    async def send_fragments(self, fragments: Iterable[str] | Iterable[bytes]) -> None:
        """Send one message as fragments, each in its own frame (RFC 6455 §5.4)."""
        await self.websocket.send(fragments)

    async def send_invalid_utf8(self) -> None:
        r"""Send a text frame with the payload ``b"\xff"``: the client must fail the connection (RFC 6455 §8.1)."""
        await self.websocket.send(b"\xff", text=True)

    def send_raw(self, octets: bytes) -> None:
        """Write octets to the transport, bypassing the websocket protocol: half a frame, a reserved opcode, junk."""
        self.websocket.transport.write(octets)

    async def burst(self, count: int, message: Any = None) -> None:
        """Send many messages as fast as the client reads them.

        Args:
            count: how many.
            message: the message to repeat; None sends ``{"n": 1}``, ``{"n": 2}`` … up to ``count``.
        """
        for n in range(1, count + 1):
            await self.send({"n": n} if message is None else message)

    async def close(self, code: int = 1000, reason: str = "", *, timeout: float = 5.0) -> None:
        """Close with a code and a reason; abort the connection if the client does not answer in ``timeout`` seconds.

        Every code that the protocol allows in a frame can be sent: 1000-1003, 1007-1014, 3000-4999.
        """
        self.resume()
        try:
            async with asyncio.timeout(timeout):
                await self.websocket.close(code, reason)
        except TimeoutError:
            self.websocket.transport.abort()

    def reset(self) -> None:
        """Cut the connection at once, without a close frame: the client sees RST (in memory: the end of the stream)."""
        self._reset = True
        reset_transport(self.websocket.transport)

    def stall(self) -> None:
        """Keep the connection open but dead until :meth:`resume`: send nothing, read nothing, answer no ping."""
        self._stalled = True
        self.websocket.transport.pause_reading()

    def resume(self) -> None:
        """End a :meth:`stall`. Messages that the server sent meanwhile are lost; those of the client are read now."""
        if self._stalled:
            self._stalled = False
            self.websocket.transport.resume_reading()

    async def wait_closed(self, *, timeout: float = 5.0) -> None:
        """Wait until the connection has ended.

        Raises:
            TimeoutError: it has not ended within ``timeout`` seconds.
        """
        async with asyncio.timeout(timeout):
            await self.websocket.wait_closed()
