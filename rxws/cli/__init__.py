"""The command line: ``rxws COMMAND``, or ``python -m rxws COMMAND``.

::

    arguments   what is typed, checked
    output      standard output and error, which never hold up the event loop
    lines       messages and events as lines that are safe on a terminal
    terminal    where rich is installed and there is a terminal: what moves and has colours
    running     signals, closed pipes and errors become exit codes
    ledger      counts by their numbers what was lost and what came twice
    connecting  what several commands take: a feed, and which of its messages
    demo, tail, record, replay, serve
                the commands

Each command is a module with ``add(declare)``, which declares it, and a coroutine function that runs it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import rxws

from . import demo, record, replay, serve, tail
from .arguments import Parser
from .running import run

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code.

    Exit codes: 0 when it is done or whoever reads its output is gone, 1 when it failed, 2 for wrong arguments, 130
    when it was interrupted (Ctrl-C), 143 when it was terminated (SIGTERM).

    Args:
        argv: the arguments, without the program's name; None for those of the process.

    Example::

        main(["tail", "ws://localhost:8765", "--count", "3"])
    """
    parser = Parser(
        prog="rxws",
        description="One websocket as many streams, kept alive for weeks.",
        epilog="examples:\n  rxws demo\n  rxws tail ws://localhost:8765 --filter e=trade | head",
    )
    parser.add_argument("--version", action="version", version=f"rxws {rxws.__version__}")
    parser.set_defaults(prints=True)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    demo.add(commands.add_parser)
    tail.add(commands.add_parser)
    record.add(commands.add_parser)
    replay.add(commands.add_parser)
    serve.add(commands.add_parser)
    try:
        options = parser.parse_args(argv)
    except SystemExit as ended:
        # argparse has said what there was to say, and ends with a number.
        return int(ended.code or 0)
    return run(options.prog, functools.partial(options.command, options), prints=options.prints)
