"""``rxws record URL PATH``: every frame of a feed, and what happens to its connection, in a file."""

from __future__ import annotations

import argparse
import asyncio
from typing import Final

from .. import Event, RxwsError
from .. import recording as recordings
from ..reporting import RecordingFailed, printable
from .arguments import Declare, seconds, url
from .connecting import add_connection_options, connect
from .lines import event_line, is_news
from .output import Output
from .running import DONE, FAILED

__all__ = ["add", "readable", "record"]

_EPILOG: Final = """\
example:
  rxws record wss://example.org/ws feed.jsonl.gz --seconds 3600

exit codes: 0 done, or nobody reads the pipe any more; 1 no connection was ever
open (one that is lost or refused is retried), or the file takes no more;
2 wrong arguments; 130 Ctrl-C; 143 SIGTERM."""


def add(declare: Declare) -> None:
    """Declare the command."""
    parser = declare(
        "record",
        usage="rxws record URL PATH [options]",
        help="record a feed in a file",
        description="Record every frame of a feed, and on stderr tell what happens to its connection,\n"
        "which is opened again whenever it is lost. An existing recording is appended to.",
        epilog=_EPILOG,
    )
    parser.set_defaults(command=record, prog=parser.prog, prints=False)
    parser.add_argument("url", metavar="URL", type=url, help="ws://... or wss://...")
    parser.add_argument("path", metavar="PATH", help="JSON Lines; .gz and .zst are compressed")
    parser.add_argument("--seconds", metavar="N", type=seconds, help="record for so long (default: until Ctrl-C)")
    add_connection_options(parser)


def readable(path: str, error: OSError | ImportError) -> RxwsError:
    """Return an error about a file as one line."""
    return RxwsError(f"{printable(path)}: {(error.strerror if isinstance(error, OSError) else None) or error}")


async def record(options: argparse.Namespace, output: Output) -> int:
    """Record for as long as is wanted; return the exit code.

    Raises:
        rxws.RxwsError: no connection can be had, or the file cannot be opened, or takes no more.
    """
    feed = connect(options)
    failed = asyncio.get_running_loop().create_future()

    def tell(event: Event) -> None:
        if isinstance(event, RecordingFailed):
            failed.set_result(event.error)
        elif is_news(event):
            output.tell(event_line(event))

    async with feed:
        feed.events.subscribe(tell, lambda _: None)
        try:
            running = recordings.record(feed, options.path)
        except (OSError, ImportError) as error:
            raise readable(options.path, error) from error
        ended = asyncio.ensure_future(feed.wait_closed())
        try:
            async with running:
                await asyncio.wait({ended, failed}, timeout=options.seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            has_opened = feed.statistics().opened > 0
            said = "" if has_opened else ": no connection was ever open"
            output.tell(printable(f"recorded {running.frames:,} frames to {options.path}{said}"))
    if failed.done():
        if not isinstance(failed.result(), BrokenPipeError):
            raise readable(options.path, failed.result())
        # ``record URL /dev/stdout | head`` has had enough, which is no failure.
        output.tell(printable(f"rxws record: nobody reads {options.path} any more"))
    return DONE if has_opened else FAILED
