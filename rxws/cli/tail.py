"""``rxws tail URL``: print the messages of a feed as JSON lines, and its connection events."""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final, Protocol

from .. import AsyncWebsocketStreamInterface, Event, RxwsError, StreamOverflow
from .arguments import Declare, feed_url
from .connecting import BROKER_OPTIONS, add_connection_options, add_filter_options, check_options, connect
from .lines import event_line, is_news, json_lines
from .output import Output
from .running import DONE
from .terminal import Animation, style_of, terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["add", "print_messages", "tail"]

MOST_COLOURED: Final = 20
"""Batches of more messages are printed without colours, because colours take 0.3 ms per message."""

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
        "events on stderr. A lost connection is opened again.",
        epilog=BROKER_OPTIONS + _EPILOG,
    )
    parser.set_defaults(command=tail, prog=parser.prog)
    parser.add_argument("url", metavar="URL", type=feed_url, help="ws://..., wss://..., nats://... or tls://...")
    add_filter_options(parser)
    add_connection_options(parser)
    parser.set_defaults(check=functools.partial(check_options, parser))


class _Screen(Protocol):
    """Shows messages and events."""

    def show(self, messages: list[Any]) -> None: ...

    def show_event(self, event: Event) -> None: ...

    def close(self) -> None: ...


class _Lines:
    """Prints messages on standard output and events on standard error. Used for pipes, and without rich."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._ascii = not output.encoding.lower().startswith("utf")

    def show(self, messages: list[Any]) -> None:
        self._output.write(json_lines(messages, ascii=self._ascii))

    def show_event(self, event: Event) -> None:
        self._output.report(event_line(event))

    def close(self) -> None:
        pass


class _Terminal:
    """Prints messages and events in colour above a status line. Used for terminals."""

    def __init__(self, console: Console, feed: AsyncWebsocketStreamInterface[Any]) -> None:
        from rich.highlighter import JSONHighlighter
        from rich.text import Text

        self._console = console
        self._feed = feed
        self._ascii = not console.encoding.lower().startswith("utf")
        self._text = Text
        self._highlight = JSONHighlighter()
        self._began = time.monotonic()
        self._animation = Animation(console, self._status, transient=True)

    def _status(self) -> Text:
        state = self._feed.state.value
        messages = self._feed.statistics().messages
        rate = messages / max(1.0, time.monotonic() - self._began)
        return self._text.assemble(
            ("● ", "green" if state.is_live else "yellow"),
            (f"{state.value} · {messages:,} received · {rate:,.1f}/s · Ctrl-C ends", "dim"),
            no_wrap=True,
            overflow="ellipsis",
        )

    def show(self, messages: list[Any]) -> None:
        text = self._text(json_lines(messages, ascii=self._ascii).removesuffix("\n"))
        if len(messages) <= MOST_COLOURED:
            self._highlight.highlight(text)
        self._console.print(text, soft_wrap=True)

    def show_event(self, event: Event) -> None:
        self._console.print(self._text(event_line(event), style_of(event)), soft_wrap=True)

    def close(self) -> None:
        self._animation.close()


async def tail(options: argparse.Namespace, output: Output) -> int:
    """Print messages until ``--count`` is reached or the feed ends; return the exit code.

    Raises:
        rxws.RxwsError: no connection can be opened, or standard output is read so slowly that a million messages wait,
            or 256 MiB.
    """
    return await print_messages(connect(options), options, output)


async def print_messages(feed: AsyncWebsocketStreamInterface[Any], options: argparse.Namespace, output: Output) -> int:
    """Print a feed's messages until ``--count`` is reached or the feed ends; return the exit code.

    Raises:
        rxws.RxwsError: the feed fails, or standard output is read so slowly that a million messages wait, or 256
            MiB.
    """
    console = terminal(output)
    screen: _Screen = _Lines(output) if console is None else _Terminal(console, feed)

    def report(event: Event) -> None:
        if is_news(event):
            screen.show_event(event)

    try:
        async with feed:
            messages = feed.stream_filter(options.filter)
            feed.events.subscribe(report)
            await _show(messages.batches(), options.count, screen, output)
    except StreamOverflow as error:
        waiting = f"{error.maxsize:,} messages" if error.maxbytes is None else f"{error.maxbytes:,} bytes"
        raise RxwsError(f"the output is read too slowly: {waiting} wait for it") from error
    finally:
        screen.close()
    return DONE


async def _show(batches: AsyncIterator[list[Any]], left: int | None, screen: _Screen, output: Output) -> None:
    """Show the messages of all batches, or the first ``left`` messages."""
    async for batch in batches:
        screen.show(batch[:left])
        # Wait for a slow reader here, so that new messages wait in the stream, which limits their number.
        await output.written()
        if left is not None:
            left -= len(batch)
            if left <= 0:
                return
