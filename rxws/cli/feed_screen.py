"""Shows the messages and events of a feed: in colour above a status line on a terminal, as plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from .. import AsyncWebsocketStreamInterface, Event, Statistics
from .filters import Key
from .lines import event_line, json_lines
from .output import Output
from .rows import Cell, Pairs, Table, chosen
from .terminal import Animation, style_of, terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["FeedScreen", "make_feed_screen"]

MOST_COLOURED: Final = 20
"""Batches of more messages are printed without colours, because colours take 0.3 ms per message."""

Fields = Mapping[str, Key] | None
"""The keys that are shown, each under its name; None: the whole message."""


class FeedScreen(Protocol):
    """Shows messages and events."""

    def show(self, messages: list[Any]) -> None:
        """Show messages."""

    def show_event(self, event: Event) -> None:
        """Show an event."""

    def note(self, line: str) -> None:
        """Show a sentence that helps."""

    def close(self) -> None:
        """Remove the status line."""


def make_feed_screen(
    output: Output,
    feed: AsyncWebsocketStreamInterface[Any],
    fields: Fields = None,
    *,
    counts: Callable[[], str] | None = None,
) -> FeedScreen:
    """Return a screen for a terminal if rich is installed and the output is one, otherwise plain lines.

    Args:
        output: where messages and events are shown.
        feed: the feed, whose state the status line shows.
        fields: the keys of the messages that are shown.
        counts: returns what the status line says about numbers. None: the number of received messages.
    """
    console = terminal(output)
    return _Lines(output, fields) if console is None else _Terminal(console, feed, fields, counts)


class _Lines:
    """Prints messages on standard output and events on standard error. Used for pipes, and without rich."""

    def __init__(self, output: Output, fields: Fields) -> None:
        self._output = output
        self._fields = fields
        self._ascii = not output.encoding.lower().startswith("utf")

    def show(self, messages: list[Any]) -> None:
        if self._fields is not None:
            messages = [chosen(message, self._fields) for message in messages]
        self._output.write(json_lines(messages, ascii=self._ascii))

    def show_event(self, event: Event) -> None:
        self._output.report(event_line(event))

    def note(self, line: str) -> None:
        self._output.report(line)

    def close(self) -> None:
        pass


class _Terminal:
    def __init__(
        self,
        console: Console,
        feed: AsyncWebsocketStreamInterface[Any],
        fields: Fields,
        counts: Callable[[], str] | None,
    ) -> None:
        from rich.highlighter import JSONHighlighter
        from rich.text import Text

        self._console = console
        self._feed = feed
        self._counts = counts
        self._ascii = not console.encoding.lower().startswith("utf")
        self._text = Text
        self._highlight = JSONHighlighter()
        self._pairs = Pairs(ascii=self._ascii)
        self._table = None if fields is None else Table(fields, ascii=self._ascii)
        self._below_header = 0
        self._rate = _Rate()
        self._animation = Animation(console, self._status, transient=True)

    def _status(self) -> Text:
        state, statistics = self._feed.state.value, self._feed.statistics()
        facts = [
            state.value,
            self._counts() if self._counts is not None else f"{statistics.messages:,} received",
            f"{self._rate.look(statistics):,.0f}/s",
            f"{statistics.gaps:,} {'gap' if statistics.gaps == 1 else 'gaps'}",
            *_latency(statistics),
            "Ctrl-C ends",
        ]
        dot, between = ("* ", " | ") if self._ascii else ("● ", " · ")
        return self._text.assemble(
            (dot, "green" if state.is_live else "yellow"), (between.join(facts), "dim"), no_wrap=True, overflow="crop"
        )

    def show(self, messages: list[Any]) -> None:
        if not messages:
            return
        is_coloured = len(messages) <= MOST_COLOURED
        lines = []
        for message in messages:
            if self._table is not None:
                row = self._table.row(message)
                if self._is_header_due():
                    lines.append(self._row(self._table.header(), is_coloured))
                lines.append(self._row(row, is_coloured))
            else:
                pairs = self._pairs.row(message)
                lines.append(self._json(message, is_coloured) if pairs is None else self._row(pairs, is_coloured))
        self._console.print(self._text("\n").join(lines), soft_wrap=True)

    def _is_header_due(self) -> bool:
        """Return whether the last header is about to leave the screen."""
        height = max(2, self._console.height - 2)
        self._below_header += 1
        return self._below_header % height == 1

    def _row(self, cells: list[Cell], is_coloured: bool) -> Text:
        if is_coloured:
            return self._text.assemble(*cells)
        return self._text("".join(cell.text for cell in cells))

    def _json(self, message: Any, is_coloured: bool) -> Text:
        text = self._text(json_lines([message], ascii=self._ascii).removesuffix("\n"))
        if is_coloured:
            self._highlight.highlight(text)
        return text

    def show_event(self, event: Event) -> None:
        self._console.print(self._text(event_line(event), style_of(event)), soft_wrap=True)

    def note(self, line: str) -> None:
        self._console.print(self._text(line, "bold yellow"), soft_wrap=True)

    def close(self) -> None:
        self._animation.close()


class _Rate:
    """The rate of messages in the last second or so."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._messages = 0
        self._rate = 0.0

    def look(self, statistics: Statistics) -> float:
        """Return the rate in messages per second."""
        elapsed = time.monotonic() - self._since
        if elapsed >= 1.0:
            self._rate = (statistics.messages - self._messages) / elapsed
            self._since, self._messages = self._since + elapsed, statistics.messages
        return self._rate


def _latency(statistics: Statistics) -> list[str]:
    latency = statistics.latency
    return [] if latency is None else [f"latency {latency.p50 * 1000:,.0f} ms, p99 {latency.p99 * 1000:,.0f} ms"]
