"""``rxws serve PATH``: a recording as a feed, for any client."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from typing import Any, Final

from websockets.exceptions import ConnectionClosed

from .. import Many, RxwsError
from .. import recording as recordings
from ..testing import FeedConnection, FeedServer
from .arguments import Declare, port, speed
from .output import Output
from .record import readable

__all__ = ["add", "serve"]

_EPILOG: Final = """\
example:
  rxws serve feed.jsonl.gz --port 8765 --loop

exit codes: 1 the file cannot be read, or the port is taken; 2 wrong arguments;
130 Ctrl-C; 143 SIGTERM."""


def add(declare: Declare) -> None:
    """Declare the command."""
    parser = declare(
        "serve",
        usage="rxws serve PATH [options]",
        help="serve a recording as a feed",
        description="Serve a recording on this machine until Ctrl-C, and print the URL. Each client\n"
        "gets all frames, from the first one on, as on one connection; what it sends is\n"
        "ignored. At the end its connection is closed with code 1000.",
        epilog=_EPILOG,
    )
    parser.set_defaults(command=serve, prog=parser.prog)
    parser.add_argument("path", metavar="PATH", help="what rxws record wrote")
    parser.add_argument("--port", metavar="N", type=port, default=0, help="the port to listen on (default: a free one)")
    parser.add_argument(
        "--speed", metavar="N", type=speed, default=1.0, help="so many times as fast, or max (default: 1)"
    )
    parser.add_argument("--loop", action="store_true", help="at the end begin again")


async def serve(options: argparse.Namespace, output: Output) -> int:
    """Serve until the command is cancelled.

    Raises:
        rxws.RxwsError: the file cannot be read, or holds nothing, or the port is taken.
    """

    async def play(connection: FeedConnection) -> None:
        async def send(raw: str | bytes) -> Any:
            # Its end cancels all this. A client that takes nothing holds up its own replay, and no other.
            with contextlib.suppress(ConnectionClosed):
                await connection.websocket.send(raw)
            return Many()

        while True:
            async with recordings.replay(options.path, options.speed, decode=send) as ws:
                await ws.wait_closed()
            if not options.loop:
                break
        await connection.close(1000, "the end of the recording")

    try:
        with recordings.read(options.path) as reading:
            if not any(isinstance(entry, recordings.FrameEntry) for entry in reading):
                raise RxwsError(f"{options.path} holds no frames")
    except (OSError, ImportError) as error:
        raise readable(options.path, error) from error
    server = FeedServer(play, port=options.port)
    try:
        await server.start()
    except OSError as error:
        raise RxwsError(f"port {options.port}: {error.strerror}") from error
    try:
        output.write(f"{server.url}\n")
        await asyncio.get_running_loop().create_future()
    finally:
        await server.stop()
    raise AssertionError
