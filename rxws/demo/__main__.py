"""``python -m rxws.demo``: run the demo exchange in its own process, print its URL, and serve until Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from ..testing import serve_until_told
from ..testing.access import add_access_options
from .exchange import DemoExchange, serve


async def _cut_every(exchange: DemoExchange, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        await exchange.cut()


@asynccontextmanager
async def _serve(options: argparse.Namespace) -> AsyncIterator[DemoExchange]:
    exchange_options = {
        "port": options.port,
        "rate": options.rate,
        "seed": options.seed,
        "lag": options.lag,
        "listen_key_lifetime": options.key_lifetime,
        "allow_origins": options.allow_origin,
        "allow_hosts": options.allow_host,
    }
    async with serve(**exchange_options) as exchange, asyncio.TaskGroup() as tasks:
        cutting = None if options.cut_every is None else tasks.create_task(_cut_every(exchange, options.cut_every))
        yield exchange
        if cutting is not None:
            cutting.cancel()


def _positive(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"expected a positive number of seconds, got {text!r}")
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, serve, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m rxws.demo", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="the port to listen on (default: a free one)")
    parser.add_argument("--rate", type=float, default=100.0, help="messages a second (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same messages (default: 0)")
    parser.add_argument("--lag", type=float, default=0.0, help="the longest lag of a message, in seconds (default: 0)")
    parser.add_argument(
        "--key-lifetime", type=float, default=3600.0, help="seconds until a listen key expires (default: 3600)"
    )
    parser.add_argument(
        "--cut-every",
        metavar="SECONDS",
        type=_positive,
        help="cut all connections every SECONDS seconds (default: never)",
    )
    parser.add_argument("--seconds", type=float, help="how long to serve (default: until Ctrl-C)")
    add_access_options(parser)
    options = parser.parse_args(arguments)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve_until_told(_serve(options), seconds=options.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
