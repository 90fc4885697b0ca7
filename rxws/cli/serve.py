"""``rxws serve PATH``: a recording as a feed, for any client."""

from __future__ import annotations

import argparse
import asyncio
import functools
from collections.abc import Callable
from typing import Final

from websockets.exceptions import ConnectionClosed

from .. import RxwsError
from ..recording import FrameEntry, Reading, read
from ..recording.moments import moments
from ..recording.reading import summary
from ..reporting import printable
from ..testing import FeedConnection, FeedServer
from .arguments import Declare, port, speed
from .output import Output
from .record import readable

__all__ = ["add", "serve"]

PATIENCE: Final = 60.0
"""Seconds that a client may take nothing."""

LARGEST_MESSAGE: Final = 2**20
"""Bytes of what a client may send, to be ignored."""

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
        rxws.RxwsError: the file cannot be read, or holds no frames, or the port is taken.
    """
    try:
        with read(options.path) as reading:
            if not any(isinstance(entry, FrameEntry) for entry in reading):
                raise RxwsError(f"{options.path} holds no frames")
    except (OSError, ImportError) as error:
        raise readable(options.path, error) from error
    script = functools.partial(_play, options, functools.lru_cache(output.tell))
    server = FeedServer(script, port=options.port, max_size=LARGEST_MESSAGE)
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


async def _play(options: argparse.Namespace, tell: Callable[[str], None], connection: FeedConnection) -> None:
    """Send the recording to one client, and tell (whatever it is, once) what is wrong with it."""
    try:
        while True:
            with read(options.path) as reading:
                await _send(reading, options.speed, connection)
            if reading.bad_lines:
                tell(printable(f"rxws serve: {summary(options.path, reading.bad_lines)}"))
            if not options.loop:
                break
        await connection.close(1000, "the end of the recording")
    except ConnectionClosed:
        # The client has gone.
        raise
    except TimeoutError:
        tell(f"rxws serve: client {connection.number} took nothing for {PATIENCE:g} s: its connection is cut")
        connection.reset()
    except Exception as error:
        # Others are served on: for the next client the file may be whole again.
        tell(printable(f"rxws serve: error: client {connection.number}: {error}"))
        await connection.close(1011, "the recording cannot be read")


async def _send(reading: Reading, speed: float, connection: FeedConnection) -> None:
    """Send all frames, each when it is due; a client that is behind is waited for, and then catches up.

    Raises:
        TimeoutError: the client took nothing for a minute.
        rxws.RxwsError: there were no frames.
    """
    clock = asyncio.get_running_loop().time
    began, sent = clock(), 0
    for when, what in moments(reading):
        if not isinstance(what, tuple):
            continue
        early = began + when / speed - clock()
        if early > 0:
            await asyncio.sleep(early)
        await connection.send(what[0], timeout=PATIENCE)
        sent += 1
    if not sent:
        raise RxwsError(f"{reading.path} holds no frames any more")
