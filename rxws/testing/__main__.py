"""``python -m rxws.testing``: run a scripted server in its own process, print its URL, and serve until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import random
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from .access import add_access_options
from .broadcast import NumberedBroadcast
from .connection import FeedConnection
from .process import serve_until_told
from .server import FeedServer, Script


async def echo(connection: FeedConnection) -> None:
    """Send every message back."""
    async for message in connection:
        await connection.send(message)


async def silent(connection: FeedConnection) -> None:
    """Send nothing."""


def _script(name: str) -> Script:
    if name in ("silent", "broadcast"):
        return silent
    if name == "echo":
        return echo
    module, separator, function = name.partition(":")
    if not separator:
        raise argparse.ArgumentTypeError(f"expected silent, echo, broadcast or module:function, got {name!r}")
    try:
        script: Script = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise argparse.ArgumentTypeError(f"{name!r}: {error}") from error
    return script


@asynccontextmanager
async def _serve(options: argparse.Namespace) -> AsyncIterator[FeedServer]:
    access = {"allow_origins": options.allow_origin, "allow_hosts": options.allow_host}
    async with FeedServer(options.script[1], port=options.port, **access) as server:
        if options.script[0] != "broadcast":
            yield server
            return
        lag = (lambda *_: random.uniform(0, options.lag)) if options.lag else None
        async with NumberedBroadcast(server, channels=options.channels.split(","), lag=lag) as broadcast:
            running = asyncio.ensure_future(broadcast.run(rate=options.rate))
            try:
                yield server
            finally:
                running.cancel()
                await asyncio.wait([running])


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, serve, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rxws.testing", description=__doc__)
    parser.add_argument(
        "--script",
        type=lambda name: (name, _script(name)),
        default="silent",
        help="silent, echo, broadcast, or your own script as module:function (default: silent)",
    )
    parser.add_argument("--port", type=int, default=0, help="the port to listen on (default: a free one)")
    parser.add_argument("--seconds", type=float, help="how long to serve (default: until Ctrl-C)")
    parser.add_argument("--rate", type=float, default=100.0, help="broadcast: messages a second (default: 100)")
    parser.add_argument("--channels", default="a", help="broadcast: channel names, separated by commas (default: a)")
    parser.add_argument("--lag", type=float, default=0.0, help="broadcast: a message's longest lag (s; default: 0)")
    add_access_options(parser)
    options = parser.parse_args(arguments)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve_until_told(_serve(options), seconds=options.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
