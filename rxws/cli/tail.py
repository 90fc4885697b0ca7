"""``rxws tail URL``: print the messages of a feed as JSON lines, and its connection events."""

from __future__ import annotations

import argparse
import functools
from collections import deque
from typing import Any

from .. import AsyncWebsocketStreamInterface, Event, RxwsError, Stream, StreamOverflow
from .arguments import feed_url
from .connecting import BROKER_OPTIONS, add_connection_options, add_filter_options, check_options, connect
from .feed_screen import FeedScreen, make_feed_screen
from .filters import sent_at
from .hints import ConnectionHint, Unmatched
from .lines import is_news
from .output import Output
from .parser import Declare
from .running import DONE

__all__ = ["add", "print_messages", "tail"]

_EPILOG = """\
example:
  rxws tail wss://example.org/ws --filter e=trade,s=BTCUSDT --count 9 | jq .p

exit codes: 0 finished, or the pipe was closed; 1 failed (lost and refused
connections are retried); 2 wrong arguments; 130 Ctrl-C; 143 SIGTERM."""


def add(declare: Declare) -> None:
    """Declare the command ``tail``."""
    parser = declare(
        "tail",
        usage="rxws tail URL [options]",
        help="print a feed's messages as JSON lines",
        description="Print a feed's messages on stdout, one JSON value per line, and connection\n"
        "events on stderr. A lost connection is opened again. URL is ws://..., wss://...,\n"
        "nats://... or tls://...",
        epilog=BROKER_OPTIONS + _EPILOG,
    )
    parser.set_defaults(command=tail, prog=parser.prog)
    parser.add_argument("url", metavar="URL", type=feed_url, help=argparse.SUPPRESS)
    add_filter_options(parser)
    parser.add_argument(
        "--sent-at", metavar="K:UNIT", type=sent_at, help="show the latency; K is a time in s, ms, us or ns"
    )
    add_connection_options(parser)
    parser.set_defaults(check=functools.partial(check_options, parser))


async def tail(options: argparse.Namespace, output: Output) -> int:
    """Print messages until ``--count`` is reached or the feed ends; return the exit code.

    Raises:
        rxws.RxwsError: no connection can be opened, or standard output is read so slowly that a million messages wait,
            or 256 MiB.
    """
    return await print_messages(connect(options), options, output)


async def print_messages(feed: AsyncWebsocketStreamInterface[Any], options: argparse.Namespace, output: Output) -> int:
    """Print a feed's messages until ``--count`` is reached or the feed ends; return the exit code.

    Events are printed among the messages, where they happened. If no message passed the filter, the values of the
    filter's keys are printed.

    Raises:
        rxws.RxwsError: the feed fails, or standard output is read so slowly that a million messages wait, or 256
            MiB.
    """
    unmatched = Unmatched(options.filter) if options.filter else None
    screen = make_feed_screen(output, feed, options.fields)
    printer: _Printer | None = None
    try:
        async with feed:
            printer = _Printer(feed.stream_filter(options.filter), screen, ConnectionHint(getattr(options, "url", "")))
            feed.events.subscribe(printer.take_event, lambda _: None)
            if unmatched is not None:
                feed.messages.subscribe(unmatched.take, lambda _: None)
            await printer.run(options.count, output)
    except StreamOverflow as error:
        waiting = f"{error.maxsize:,} messages" if error.maxbytes is None else f"{error.maxbytes:,} bytes"
        raise RxwsError(f"the output is read too slowly: {waiting} wait for it") from error
    finally:
        if printer is not None:
            printer.show_events()
        screen.close()
        if unmatched is not None and printer is not None and not printer.matched:
            output.report(f"{options.prog}: {unmatched.sentence()}")
    return DONE


class _Printer:
    """Shows the messages of a stream, and each event after the messages that came before it.

    Args:
        stream: the stream.
        screen: where they are shown.
        hint: notices why there is no connection.
    """

    def __init__(self, stream: Stream[Any], screen: FeedScreen, hint: ConnectionHint) -> None:
        self._stream = stream
        self._screen = screen
        self._hint = hint
        self._shown = 0
        # Events that happened after messages that still wait, each with the number of messages before it.
        self._events: deque[tuple[int, Event]] = deque()

    @property
    def matched(self) -> int:
        """The number of messages that passed the filter."""
        return self._stream.matched

    def take_event(self, event: Event) -> None:
        """Show an event as soon as all messages before it are shown."""
        if is_news(event):
            self._events.append((self._stream.matched, event))
        self._show_due()
        hint = self._hint.take(event)
        if hint is not None:
            self._screen.note(hint)

    async def run(self, count: int | None, output: Output) -> None:
        """Show all messages, or the first ``count``."""
        left = count
        async for batch in self._stream.batches():
            self._show(batch[:left])
            # Wait for a slow reader here, so that new messages wait in the stream, which limits their number.
            await output.written()
            if left is not None:
                left -= len(batch)
                if left <= 0:
                    return

    def show_events(self) -> None:
        """Show the events that wait for messages that are not shown any more."""
        self._shown = self._stream.matched
        self._show_due()

    def _show(self, messages: list[Any]) -> None:
        while messages:
            # Up to the next event, or all.
            number = self._events[0][0] - self._shown if self._events else len(messages)
            self._screen.show(messages[:number])
            self._shown += len(messages[:number])
            messages = messages[number:]
            self._show_due()

    def _show_due(self) -> None:
        while self._events and self._events[0][0] <= self._shown:
            self._screen.show_event(self._events.popleft()[1])
