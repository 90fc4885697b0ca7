"""One client's connection to a FeedServer, with everything that a server can do to it."""

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
    """End a TCP connection with RST and without sending what is buffered; in memory the peer sees a plain end."""
    endpoint = transport.get_extra_info("socket")
    # A closed socket has the descriptor -1; the sockets of async-solipsism have no number, and know no RST.
    if endpoint is not None and isinstance(number := endpoint.fileno(), int) and number >= 0:
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class FeedConnection:
    """A client's connection, seen from the server: what a script is given.

    Iterating it (``async for message in connection``) gives what the client sends and ends with the connection. A
    message is claimed once, by an iteration or by :meth:`expect`; :attr:`received` keeps all of them.

    Attributes:
        websocket: the connection of the websockets library, for what is not offered here.
        number: 1 for the first connection that the server ever had.
        path: what the client asked for, the query included.
        headers: of the client's handshake.
        opened_at: the loop's time when it was opened, in seconds.
    """

    def __init__(self, websocket: ServerConnection, number: int) -> None:
        request = websocket.request
        assert request is not None  # there is one as soon as the handshake is done
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
        """Whether messages can be sent: the handshake is done, and nobody has begun to close it."""
        return self.websocket.state is State.OPEN and not self._reset

    @property
    def is_stalled(self) -> bool:
        """Whether :meth:`stall` holds."""
        return self._stalled

    @property
    def received(self) -> list[str | bytes]:
        """What the client sent (the last 10,000 messages), oldest first."""
        return self.inbox.received

    def __aiter__(self) -> AsyncIterator[str | bytes]:
        return self

    async def __anext__(self) -> str | bytes:
        message = await self.inbox.next()
        if message is None:
            raise StopAsyncIteration
        return message

    async def expect(self, wanted: Any = None, *, timeout: float = 5.0) -> str | bytes:
        """Return the first message of this client that was not claimed and is the wanted one, waiting for it.

        Args:
            wanted: None (any message), ``str`` or ``bytes`` (that very message), a function of the message, a dict
                (a JSON object with at least these keys and values), or another JSON value.
            timeout: seconds to wait.

        Raises:
            TimeoutError: it did not come; says what came instead.
        """
        return await self.inbox.expect(wanted, timeout=timeout)

    async def send(self, *messages: Any, timeout: float = 5.0) -> None:
        """Send messages in order, waiting while the client does not take them.

        ``str`` goes as a text frame, ``bytes`` as a binary frame, anything else as JSON text. A stalled connection
        sends nothing: the messages are lost, as in a server that hangs.

        Raises:
            websockets.ConnectionClosed: the connection is closed. (A script that ends so has simply ended.)
            TimeoutError: the client did not take one within ``timeout`` seconds.
        """
        for message in messages:
            if self._stalled:
                return
            async with asyncio.timeout(timeout):
                await self.websocket.send(encode(message))
            self._sent += 1
            if self._sent % 64 == 0:
                # websockets' send does not yield while there is room: an endless script would starve the loop.
                await asyncio.sleep(0)

    def send_nowait(self, message: Any) -> None:
        """Send without waiting, whatever the client takes; does nothing on a connection that is closed or stalled."""
        if self.is_open and not self._stalled:
            broadcast((self.websocket,), encode(message))

    async def send_fragments(self, fragments: Iterable[str] | Iterable[bytes]) -> None:
        """Send one message in as many frames as there are fragments (RFC 6455 §5.4)."""
        await self.websocket.send(fragments)

    async def send_invalid_utf8(self) -> None:
        r"""Send a text frame with the payload ``b"\xff"``, which RFC 6455 §8.1 makes the client fail."""
        await self.websocket.send(b"\xff", text=True)

    def send_raw(self, octets: bytes) -> None:
        """Write octets to the transport, past the websocket protocol: half a frame, a reserved opcode, junk."""
        self.websocket.transport.write(octets)

    async def burst(self, count: int, message: Any = None) -> None:
        """Send many messages as fast as the client takes them.

        Args:
            count: how many.
            message: the message to repeat; None sends ``{"n": 1}``, ``{"n": 2}`` … up to ``count``.
        """
        for n in range(1, count + 1):
            await self.send({"n": n} if message is None else message)

    async def close(self, code: int = 1000, reason: str = "", *, timeout: float = 5.0) -> None:
        """Close with a code and a reason; a client that does not answer in ``timeout`` seconds is aborted.

        The code may be any that the protocol allows in a frame: 1000-1003, 1007-1014, 3000-4999.
        """
        self.resume()
        try:
            async with asyncio.timeout(timeout):
                await self.websocket.close(code, reason)
        except TimeoutError:
            self.websocket.transport.abort()

    def reset(self) -> None:
        """Cut the connection at once, with no close frame: the client sees RST (in memory: the end of the stream)."""
        self._reset = True
        reset_transport(self.websocket.transport)

    def stall(self) -> None:
        """Keep the connection open but dead: nothing is sent, nothing read, no ping answered, until :meth:`resume`."""
        self._stalled = True
        self.websocket.transport.pause_reading()

    def resume(self) -> None:
        """End a :meth:`stall`; what was to be sent meanwhile is lost, what the client sent is read."""
        if self._stalled:
            self._stalled = False
            self.websocket.transport.resume_reading()

    async def wait_closed(self, *, timeout: float = 5.0) -> None:
        """Wait until the connection is gone.

        Raises:
            TimeoutError: it was not within ``timeout`` seconds.
        """
        async with asyncio.timeout(timeout):
            await self.websocket.wait_closed()
