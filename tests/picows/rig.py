"""A server that sends given octets, and what a client makes of them."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import websockets
from websockets.frames import Frame, Opcode

import rxws.picows

BOTH = {"websockets": websockets.connect, "rxws.picows": rxws.picows.connect}


class Outcome(NamedTuple):
    """What a client makes of octets: its messages, the end, the close codes, and what the server got."""

    messages: list[str | bytes]
    error: type[BaseException]
    received: int | None
    sent: int | None
    server_code: int | None


class Pushed:
    """The messages that a connection of rxws.picows pushes."""

    def __init__(self, websocket):
        self.websocket = websocket
        self.messages = []
        websocket.push_frames(self.messages.append)

    async def ended(self):
        """Wait for the end, and return its exception."""
        try:
            async with asyncio.timeout(10):
                return await self.websocket.recv()
        except websockets.ConnectionClosed as error:
            return error

    async def until(self, count):
        """Wait until there are ``count`` messages, ten seconds at most."""
        async with asyncio.timeout(10):
            while len(self.messages) < count:
                await asyncio.sleep(0)
        return self.messages


def wire(opcode, data=b"", *, fin=True, bits=0, masked=False):
    """Return the octets of any frame, even an invalid one; ``bits`` are the three reserved bits."""
    data = data.encode() if isinstance(data, str) else data
    head = bytes([fin << 7 | bits << 4 | opcode])
    mask = masked << 7
    if len(data) < 126:
        head += bytes([mask | len(data)])
    elif len(data) < 2**16:
        head += bytes([mask | 126]) + len(data).to_bytes(2, "big")
    else:
        head += bytes([mask | 127]) + len(data).to_bytes(8, "big")
    return head + bytes(4 * masked) + data


def text(*parts):
    """Return the octets of a text message, with each part in a frame of its own."""
    return message(Opcode.TEXT, *(part.encode() for part in parts))


def message(opcode, *parts):
    """Return the octets of a message, with each part in a frame of its own."""
    last = len(parts) - 1
    return b"".join(
        Frame(Opcode.CONT if number else opcode, part, number == last).serialize(mask=False)
        for number, part in enumerate(parts)
    )


async def outcome(connect, server, octets, *, pushes=True, close=None, **options):
    """Send octets to a client, then close with ``close`` or end the stream, and return what the client made of them."""
    websocket = await connect(server.url, proxy=None, **({"ping_interval": None, "close_timeout": 1} | options))
    connection = server.connections[-1] if server.connections else await server.connected()
    messages = []
    if pushes and connect is rxws.picows.connect:
        messages = Pushed(websocket).messages
    connection.send_raw(octets)
    if close is None:
        connection.websocket.transport.write_eof()
    else:
        await connection.close(close)
    error = None
    try:
        async with asyncio.timeout(10):
            while True:
                messages.append(await websocket.recv())
    except websockets.ConnectionClosed as ended:
        error = ended
    await connection.wait_closed()
    return Outcome(
        messages,
        type(error),
        error.rcvd and error.rcvd.code,
        error.sent and error.sent.code,
        connection.websocket.protocol.close_rcvd and connection.websocket.protocol.close_rcvd.code,
    )
