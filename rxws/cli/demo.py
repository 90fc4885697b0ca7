"""``rxws demo``: declares the command, and chooses what it runs."""

from __future__ import annotations

import argparse
import functools
import importlib
from typing import Any, Final

from .arguments import count, port, seconds
from .connecting import check_broker
from .demo_run import run_demo
from .demo_serve import serve_demo
from .output import Output
from .parser import Declare

__all__ = ["add", "demo"]

_EPILOG: Final = """\
example:
  rxws demo --seconds 6 --streams 10000

exit codes: 0 every message arrived once and in order; 1 messages were lost,
repeated or out of order; 2 wrong arguments; 130 Ctrl-C; 143 SIGTERM (both
print the summary so far)."""


def add(declare: Declare) -> None:
    """Declare the command ``demo``."""
    parser = declare(
        "demo",
        usage="rxws demo [options]",
        help="see a feed rotate and reconnect, and count lost messages",
        description="Start an exchange on this machine; feed many streams, a handler and a pipeline\n"
        "of operators from one connection; rotate it once as planned, and cut it once;\n"
        "then count lost and repeated messages by the numbers in the messages.",
        epilog=_EPILOG,
    )
    parser.set_defaults(command=demo, prog=parser.prog, check=functools.partial(_check, parser))
    option = parser.add_argument
    option("--seconds", metavar="N", type=seconds, help="approximate duration (default: 8; --nats: 20)")
    option("--streams", metavar="K", type=count, help="filtered streams, all different (default: 60)")
    option("--nats", action="store_true", help="kill one of two relays, and a NATS server, instead")
    option("--serve", action="store_true", help="only serve the exchange until Ctrl-C, for rxws tail or your program")
    option("--port", metavar="N", type=port, help="port of --serve (default: 8765, or a free one if that is taken)")


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.nats and options.streams is not None:
        parser.error("--streams does not go with --nats, whose streams are those of three workers")
    for name in ("nats", "streams", "seconds"):
        if options.serve and getattr(options, name):
            parser.error(f"--{name} does not go with --serve")
    if options.port is not None and not options.serve:
        parser.error("--port is for --serve only")


async def demo(options: argparse.Namespace, output: Output) -> int:
    """Run the demo, print its summary, and return the exit code. Cancelling prints the summary so far.

    Raises:
        rxws.RxwsError: the port is taken, or the demo over NATS cannot run.
    """
    if options.serve:
        return await serve_demo(options.port, output)
    if options.nats:
        # Import this only on use, because it needs nats-py.
        check_broker()
        over_nats: Any = importlib.import_module("rxws.cli.demo_nats")
        return await over_nats.demo_nats(options.seconds or 20.0, output)  # type: ignore[no-any-return]
    return await run_demo(options.seconds or 8.0, options.streams or 60, output)
