"""``rxws replay PATH``: print the messages of a recording as JSON lines, at their recorded pace or faster."""

from __future__ import annotations

import argparse
from typing import Final

from .. import RxwsError
from .. import recording as recordings
from ..recording.reading import summary
from ..reporting import printable
from .arguments import speed
from .connecting import add_filter_options
from .lines import decode
from .output import Output
from .parser import Declare
from .record import readable
from .tail import print_messages

__all__ = ["add", "replay"]

_EPILOG: Final = """\
example:
  rxws replay feed.jsonl.gz --speed max --filter e=trade | jq .p

exit codes: 0 finished, or the pipe was closed; 1 the file cannot be read;
2 wrong arguments; 130 Ctrl-C; 143 SIGTERM."""


def add(declare: Declare) -> None:
    """Declare the command ``replay``."""
    parser = declare(
        "replay",
        usage="rxws replay PATH [options]",
        help="print a recording's messages, at its pace or another",
        description="Print a recording's messages on stdout, one JSON value per line, and its\n"
        "connection events on stderr.",
        epilog=_EPILOG,
    )
    parser.set_defaults(command=replay, prog=parser.prog)
    parser.add_argument("path", metavar="PATH", help="file that rxws record wrote, or a folder of --roll")
    parser.add_argument("--speed", metavar="N", type=speed, default=1.0, help="N times the pace, or max (default: 1)")
    add_filter_options(parser)


async def replay(options: argparse.Namespace, output: Output) -> int:
    """Print messages until the recording ends, or ``--count`` is reached; return the exit code.

    Raises:
        rxws.RxwsError: the file cannot be read, or no frame in it can be read.
    """
    try:
        feed = recordings.replay(options.path, options.speed, decode=decode)
        code = await print_messages(feed, options, output)
    except (OSError, ImportError) as error:
        raise readable(options.path, error) from error
    if feed.bad_lines:
        said = summary(options.path, feed.bad_lines)
        if not feed.statistics().messages:
            raise RxwsError(f"{said}, and no frame is left")
        output.report(printable(f"rxws replay: {said}"))
    return code
