"""Scripts for servers that run in their own process: ``--script tests.support.scripts:name``."""

from __future__ import annotations

import asyncio
import struct

from rxws.testing import FeedConnection

MILLION = 1_000_000
CHUNK = 2_000


def frames(first: int, last: int) -> bytes:
    """Return the frames of messages with the numbers ``first`` to ``last``, as a server sends them (RFC 6455 §5.2)."""
    payloads = (b'{"n":%d,"e":"%b"}' % (n, b"x" * 100) for n in range(first, last + 1))
    return b"".join(struct.pack("!BB", 0x81, len(payload)) + payload for payload in payloads)


async def million(connection: FeedConnection) -> None:
    """Send a million numbered messages as fast as possible, after the client's request."""
    await connection.expect("go", timeout=60)
    for first in range(1, MILLION + 1, CHUNK):
        connection.send_raw(frames(first, first + CHUNK - 1))
        while connection.websocket.transport.get_write_buffer_size() > 1_000_000:
            await asyncio.sleep(0.001)


async def demanding(connection: FeedConnection) -> None:
    """Send an application-level ping ten times a second, and close if it is not answered within a second."""
    for n in range(1_000_000):
        await connection.send(f"ping {connection.number}-{n}")
        try:
            await connection.expect(f"pong {connection.number}-{n}", timeout=1.0)
        except TimeoutError:
            await connection.close(4000, "no pong")
            return
        await asyncio.sleep(0.1)
