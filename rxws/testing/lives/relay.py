"""``python -m rxws.testing.lives.relay``: a TCP relay in its own process, which can be frozen.

While it is frozen (SIGSTOP), its clients see a frozen server: connections stay open, and nothing answers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from ..connection import reset_transport
from ..process import serve_until_told

__all__ = ["main"]


async def _hand_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Forward the stream and its end; forward a reset as a reset."""
    try:
        while octets := await reader.read(65536):
            writer.write(octets)
            await writer.drain()
        writer.write_eof()
    except ConnectionError:
        reset_transport(writer.transport)


async def _relay(host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        server_reader, server_writer = await asyncio.open_connection(host, port)
        try:
            await asyncio.gather(_hand_on(reader, server_writer), _hand_on(server_reader, writer))
        finally:
            server_writer.close()
            writer.close()


@asynccontextmanager
async def _serve(host: str, port: int) -> AsyncIterator[str]:
    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _relay(host, port, reader, writer)

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, relay, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rxws.testing.lives.relay", description=__doc__)
    parser.add_argument("--to", required=True, metavar="HOST:PORT", help="the server")
    parser.add_argument("--seconds", type=float, help="how long to relay (default: until Ctrl-C)")
    options = parser.parse_args(arguments)
    host, _, port = options.to.rpartition(":")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve_until_told(_serve(host, int(port)), seconds=options.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
