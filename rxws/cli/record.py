"""``rxws record URL PATH``: write all frames and connection events of a feed to a file."""

from __future__ import annotations

import argparse
import asyncio
import functools
from typing import Final

from .. import Event, RxwsError
from .. import recording as recordings
from ..reporting import RecordingFailed, printable
from .arguments import feed_url, roll, seconds
from .connecting import BROKER_OPTIONS, add_connection_options, check_options, connect
from .feed_screen import make_feed_screen
from .hints import ConnectionHint
from .lines import is_news
from .output import Output
from .parser import Declare
from .running import DONE, FAILED

__all__ = ["add", "readable", "record"]

_EPILOG: Final = """\
example:
  rxws record wss://example.org/ws feed.jsonl.gz --seconds 3600

exit codes: 0 finished, or the pipe was closed; 1 no connection was ever open
(lost and refused connections are retried), or the file cannot be written;
2 wrong arguments; 130 Ctrl-C; 143 SIGTERM."""


def add(declare: Declare) -> None:
    """Declare the command ``record``."""
    parser = declare(
        "record",
        usage="rxws record URL PATH [options]",
        help="record a feed in a file",
        description="Record every frame of a feed, and print connection events on stderr. A lost\n"
        "connection is opened again. An existing recording is appended to.",
        epilog=BROKER_OPTIONS + _EPILOG,
    )
    parser.set_defaults(command=record, prog=parser.prog, prints=False)
    parser.add_argument("url", metavar="URL", type=feed_url, help="ws://..., wss://..., nats://... or tls://...")
    parser.add_argument("path", metavar="PATH", help="file of JSON Lines; .gz and .zst are compressed")
    parser.add_argument("--roll", metavar="R", type=roll, help="PATH is a folder: a file per day, hour, or R bytes")
    parser.add_argument("--seconds", metavar="N", type=seconds, help="stop after N seconds (default: at Ctrl-C)")
    add_connection_options(parser)
    parser.set_defaults(check=functools.partial(check_options, parser))


def readable(path: str, error: OSError | ImportError) -> RxwsError:
    """Return an error about a file as an RxwsError with a text of one line."""
    return RxwsError(f"{printable(path)}: {(error.strerror if isinstance(error, OSError) else None) or error}")


async def record(options: argparse.Namespace, output: Output) -> int:
    """Record until ``--seconds`` have passed, the feed ends or the file fails; return the exit code.

    Raises:
        rxws.RxwsError: no connection can be opened, or the file cannot be opened or written.
    """
    feed = connect(options)
    failed = asyncio.get_running_loop().create_future()

    hint = ConnectionHint(options.url)
    async with feed:
        try:
            running = recordings.record(feed, options.path, roll=options.roll)
        except (OSError, ImportError) as error:
            raise readable(options.path, error) from error
        screen = make_feed_screen(output, feed, counts=lambda: f"{running.frames:,} frames recorded")

        def report(event: Event) -> None:
            if isinstance(event, RecordingFailed):
                failed.set_result(event.error)
            elif is_news(event):
                screen.show_event(event)
            if (said := hint.take(event)) is not None:
                screen.note(said)

        feed.events.subscribe(report, lambda _: None)
        ended = asyncio.ensure_future(feed.wait_closed())
        try:
            async with running:
                await asyncio.wait({ended, failed}, timeout=options.seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            screen.close()
            has_opened = feed.statistics().opened > 0
            said = "" if has_opened else ": no connection was ever open"
            output.report(printable(f"recorded {running.frames:,} frames to {options.path}{said}"))
    if failed.done():
        if not isinstance(failed.result(), BrokenPipeError):
            raise readable(options.path, failed.result())
        # A reader that closes its pipe, as in ``record URL /dev/stdout | head``, is not a failure.
        output.report(printable(f"rxws record: the reader of {options.path} has closed it"))
    return DONE if has_opened else FAILED
