"""``rxws tail URL``: a feed's messages as JSON lines, what happens to its connection beside them."""

from __future__ import annotations

import argparse
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final, Protocol

from .. import Event, ReactiveWebSocket, RxwsError, StreamOverflow
from .arguments import Declare, url
from .connecting import add_connection_options, add_filter_options, connect
from .lines import event_line, is_news, json_lines
from .output import Output
from .running import DONE
from .terminal import Animation, style_of, terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["add", "print_messages", "tail"]

MOST_COLOURED: Final = 20
"""Messages of one batch that get colours, which take a third of a millisecond each: a flood is shown plain."""

_EPILOG = """\
example:
  rxws tail wss://example.org/ws --filter e=trade,s=BTCUSDT --count 9 | jq .p

exit codes: 0 done, or nobody reads on; 1 no connection can be had (one that is
lost or refused is retried); 2 wrong arguments; 130 Ctrl-C; 143 SIGTERM."""


def add(declare: Declare) -> None:
    """Declare the command."""
    parser = declare(
        "tail",
        usage="rxws tail URL [options]",
        help="print a feed's messages as JSON lines",
        description="Print a feed's messages on stdout, one JSON value a line; on stderr, what\n"
        "happens to its connection, which is opened again whenever it is lost.",
        epilog=_EPILOG,
    )
    parser.set_defaults(command=tail, prog=parser.prog)
    parser.add_argument("url", metavar="URL", type=url, help="ws://... or wss://...")
    add_filter_options(parser)
    add_connection_options(parser)


class _Screen(Protocol):
    """Where messages and events are shown."""

    def show(self, messages: list[Any]) -> None: ...

    def tell(self, event: Event) -> None: ...

    def close(self) -> None: ...


class _Lines:
    """Messages on standard output, events on standard error: for machines, and where there is no rich."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._ascii = not output.encoding.lower().startswith("utf")

    def show(self, messages: list[Any]) -> None:
        self._output.write(json_lines(messages, ascii=self._ascii))

    def tell(self, event: Event) -> None:
        self._output.tell(event_line(event))

    def close(self) -> None:
        pass


class _Terminal:
    """Messages and events in colour above a line that tells how it goes: for people."""

    def __init__(self, console: Console, feed: ReactiveWebSocket[Any]) -> None:
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

    def tell(self, event: Event) -> None:
        self._console.print(self._text(event_line(event), style_of(event)), soft_wrap=True)

    def close(self) -> None:
        self._animation.close()


async def tail(options: argparse.Namespace, output: Output) -> int:
    """Print messages until there were enough of them; return the exit code.

    Raises:
        rxws.RxwsError: no connection can be had, or standard output is read too slowly: a million messages wait.
    """
    return await print_messages(connect(options), options, output)


async def print_messages(feed: ReactiveWebSocket[Any], options: argparse.Namespace, output: Output) -> int:
    """Print a feed's messages until it ends, or there were enough of them; return the exit code.

    Raises:
        rxws.RxwsError: the feed fails, or standard output is read too slowly: a million messages wait.
    """
    console = terminal(output)
    screen: _Screen = _Lines(output) if console is None else _Terminal(console, feed)

    def tell(event: Event) -> None:
        if is_news(event):
            screen.tell(event)

    try:
        async with feed:
            messages = feed.stream_filter(options.filter)
            feed.events.subscribe(tell)
            await _show(messages.batches(), options.count, screen, output)
    except StreamOverflow as error:
        raise RxwsError(f"the output is read too slowly: {error.maxsize:,} messages wait for it") from error
    finally:
        screen.close()
    return DONE


async def _show(batches: AsyncIterator[list[Any]], left: int | None, screen: _Screen, output: Output) -> None:
    """Show all that comes, or so many messages of it."""
    async for batch in batches:
        screen.show(batch[:left])
        # Whoever reads slowly holds up the printing; what comes meanwhile waits in the stream.
        await output.written()
        if left is not None:
            left -= len(batch)
            if left <= 0:
                return
