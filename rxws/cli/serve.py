"""``rxws serve PATH``: serve a recording as a feed to any client."""

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
from ..testing.access import add_access_options
from .arguments import port, speed
from .output import Output
from .parser import Declare
from .record import readable

__all__ = ["add", "serve"]

PATIENCE: Final = 60.0
"""Seconds after which a client that reads nothing is disconnected."""

LARGEST_MESSAGE: Final = 2**20
"""Maximum size in bytes of a client's message. Its content is ignored."""

_EPILOG: Final = """\
example:
  rxws serve feed.jsonl.gz --port 8765 --loop

exit codes: 1 the file cannot be read, or the port is taken; 2 wrong arguments;
130 Ctrl-C; 143 SIGTERM."""


def add(declare: Declare) -> None:
    """Declare the command ``serve``."""
    parser = declare(
        "serve",
        usage="rxws serve PATH [options]",
        help="serve a recording as a feed",
        description="Serve a recording on this machine until Ctrl-C, and print the URL. Each client\n"
        "receives all frames on one connection, beginning with the first one. Messages\n"
        "of clients are ignored. At the end each connection is closed with code 1000.",
        epilog=_EPILOG,
    )
    parser.set_defaults(command=serve, prog=parser.prog)
    parser.add_argument("path", metavar="PATH", help="file that rxws record wrote, or a folder of --roll")
    parser.add_argument("--port", metavar="N", type=port, default=0, help="port to listen on (default: a free port)")
    parser.add_argument("--speed", metavar="N", type=speed, default=1.0, help="N times the pace, or max (default: 1)")
    parser.add_argument("--loop", action="store_true", help="begin again after the last frame")
    add_access_options(parser)


async def serve(options: argparse.Namespace, output: Output) -> int:
    """Serve until the command is cancelled.

    Raises:
        rxws.RxwsError: the file cannot be read or contains no frames, or the port is in use.
    """
    try:
        with read(options.path) as reading:
            if not any(isinstance(entry, FrameEntry) for entry in reading):
                raise RxwsError(f"{options.path} contains no frames")
    except (OSError, ImportError) as error:
        raise readable(options.path, error) from error
    script = functools.partial(_play, options, functools.lru_cache(output.report))
    access = {"allow_origins": options.allow_origin, "allow_hosts": options.allow_host}
    server = FeedServer(script, port=options.port, max_size=LARGEST_MESSAGE, **access)
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


async def _play(options: argparse.Namespace, report: Callable[[str], None], connection: FeedConnection) -> None:
    """Send the recording to one client, and report errors of the file and of the client.

    The caller passes a ``report`` that prints equal lines only once.
    """
    try:
        while True:
            with read(options.path) as reading:
                await _send(reading, options.speed, connection)
            if reading.bad_lines:
                report(printable(f"rxws serve: {summary(options.path, reading.bad_lines)}"))
            if not options.loop:
                break
        await connection.close(1000, "the end of the recording")
    except ConnectionClosed:
        # The client has closed the connection.
        raise
    except TimeoutError:
        report(f"rxws serve: client {connection.number} received nothing for {PATIENCE:g} s: its connection is cut")
        connection.reset()
    except Exception as error:
        # Continue to serve, because the file may be complete again when the next client connects.
        report(printable(f"rxws serve: error: client {connection.number}: {error}"))
        await connection.close(1011, "the recording cannot be read")


async def _send(reading: Reading, speed: float, connection: FeedConnection) -> None:
    """Send each frame when it is due. Wait for a slow client, and send late frames at once.

    Raises:
        TimeoutError: the client received nothing for a minute.
        rxws.RxwsError: the recording contains no frames.
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
        raise RxwsError(f"{reading.path} no longer contains frames")
