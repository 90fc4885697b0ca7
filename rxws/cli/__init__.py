"""The command line: ``rxws COMMAND``, or ``python -m rxws COMMAND``.

::

    parser        parses the command line, and names what was meant where a name is misspelt
    arguments     parses and checks the values of arguments
    filters       parses keys and filters
    output        writes to standard output and standard error without blocking the event loop
    lines         formats messages and events as lines that are safe on a terminal
    terminal      colours and animation, if rich is installed and the output is a terminal
    rows          formats messages as aligned rows
    feed_screen   shows messages, events and the state of a feed
    hints         says why there is no connection, or no message
    running       runs a command and turns signals, closed pipes and errors into exit codes
    loss_counter  counts lost and repeated messages by their numbers
    connecting    options that several commands share, and the feed that they describe
    lanes         draws lives over time, a row for each connection or process
    demo_feed     the feed of both demos
    demo_ending   the table and the verdict that end both demos
    demo_run      runs ``rxws demo``
    demo_result   what it has measured, as a table and in words
    demo_screen   shows its story
    demo_serve    serves its feed
    demo_nats     runs ``rxws demo --nats``
    demo_lanes    shows its processes
    demo_guard    kills its processes when the demo itself was killed
    demo_worker   a worker of it, in its own process
    command       the first module of the installed command, which catches Ctrl-C while rxws is imported
    demo, tail, record, replay, relay, audit, serve
                  the commands

Each command is a module with a function ``add(declare)``, which declares the command, and a coroutine function, which
runs it.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence

import rxws

from . import audit, demo, record, relay, replay, serve, tail
from .parser import Parser
from .running import DONE, run

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code. Without a command, print the help.

    Exit codes: 0 if the command finished or the reader of its output closed the pipe, 1 if it failed (``audit``: if
    something is missing), 2 for wrong arguments (``audit``: or an unreadable file), 130 after SIGINT (Ctrl-C),
    143 after SIGTERM.

    Args:
        argv: the arguments without the program's name. None means the arguments of this process.

    Example::

        main(["tail", "ws://localhost:8765", "--count", "3"])
    """
    parser = Parser(
        prog="rxws",
        description="Turn one websocket into many streams, and keep it alive for weeks.",
        epilog="examples:\n  rxws demo\n  rxws tail ws://localhost:8765 --filter e=trade | head",
    )
    parser.add_argument("--version", action="version", version=f"rxws {rxws.__version__}")
    parser.set_defaults(prints=True, check=lambda _options: None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    parser.commands = commands.choices
    demo.add(commands.add_parser)
    tail.add(commands.add_parser)
    record.add(commands.add_parser)
    replay.add(commands.add_parser)
    relay.add(commands.add_parser)
    audit.add(commands.add_parser)
    serve.add(commands.add_parser)
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help()
        return DONE
    try:
        options = parser.parse_args(argv)
        options.check(options)
    except SystemExit as ended:
        # argparse has already printed its message; the exception carries the exit code.
        return int(ended.code or 0)
    return run(options.prog, functools.partial(options.command, options), prints=options.prints)
