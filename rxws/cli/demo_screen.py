"""Shows the progress of ``rxws demo``: as a live table on a terminal, as plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from .. import Event
from .lines import event_line
from .output import Output
from .terminal import Animation, style_of, terminal

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["Price", "Screen", "make_screen"]

SHOWN: Final = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT")
"""Symbols in the table. There are few enough that table, events and summary fit a screen of 24 lines."""

MOST_EVENTS: Final = 5
"""Maximum number of events below the table; the newest are shown."""


class Price(NamedTuple):
    """The trades of one symbol in one second.

    Attributes:
        average: volume-weighted average price.
        volume: sum of the quantities.
        trades: number of trades.
    """

    average: float
    volume: float
    trades: int


class Screen(Protocol):
    """Shows the progress of the demo."""

    def show(self, prices: Mapping[str, Price], received: int) -> None:
        """Show the prices of one second, and the total number of received messages."""

    def show_event(self, event: Event) -> None:
        """Show an event of the feed."""

    def close(self, summary: Iterable[tuple[str, str]]) -> None:
        """Stop the animation, and show the summary as pairs of name and text."""


def make_screen(output: Output, seconds: float) -> Screen:
    """Return a live table if rich is installed and the output is a terminal, otherwise plain lines.

    Args:
        output: where the screen writes.
        seconds: planned duration of the demo.
    """
    console = terminal(output)
    return _Lines(output) if console is None else _Table(output, console, seconds)


class _Rate:
    """Returns the rate of messages per second since its previous call."""

    def __init__(self) -> None:
        self._time = time.monotonic()
        self._received = 0

    def __call__(self, received: int) -> float:
        now = time.monotonic()
        elapsed, self._time = now - self._time, now
        more, self._received = received - self._received, received
        return more / max(elapsed, 0.001)


class _Lines:
    def __init__(self, output: Output) -> None:
        self._output = output
        self._rate = _Rate()

    def show(self, prices: Mapping[str, Price], received: int) -> None:
        shown = "  ".join(f"{symbol} {prices[symbol].average:,.2f}" for symbol in SHOWN[:4] if symbol in prices)
        self._output.write(f"{self._rate(received):7,.0f} messages/s  {shown}\n")

    def show_event(self, event: Event) -> None:
        self._output.write(f"{event_line(event)}\n")

    def close(self, summary: Iterable[tuple[str, str]]) -> None:
        _write_summary(self._output, summary)


class _Table:
    def __init__(self, output: Output, console: Console, seconds: float) -> None:
        self._output = output
        self._rate = _Rate()
        self._began = time.monotonic()
        self._seconds = seconds
        self._title = "connecting"
        self._prices: dict[str, Price] = {}
        self._changes: dict[str, float] = {}
        self._events: deque[Event] = deque(maxlen=MOST_EVENTS)
        self._animation = Animation(console, self._render, transient=False)

    def show(self, prices: Mapping[str, Price], received: int) -> None:
        for symbol, price in prices.items():
            self._changes[symbol] = price.average - self._prices.get(symbol, price).average
        self._prices.update(prices)
        self._title = f"{received:,} messages, {self._rate(received):,.0f} messages/s"

    def show_event(self, event: Event) -> None:
        self._events.append(event)

    def close(self, summary: Iterable[tuple[str, str]]) -> None:
        self._animation.close()
        _write_summary(self._output, summary)

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        elapsed = min(self._seconds, time.monotonic() - self._began)
        table = Table(title=f"{elapsed:.1f} of {self._seconds:g} s · {self._title}", title_justify="left")
        table.add_column("symbol")
        for heading in ("price of the second", "volume", "trades"):
            table.add_column(heading, justify="right")
        for symbol in SHOWN:
            price, change = self._prices.get(symbol), self._changes.get(symbol, 0.0)
            if price is None:
                table.add_row(symbol)
                continue
            arrow, style = ("▲", "green") if change > 0 else ("▼", "red") if change < 0 else (" ", "")
            table.add_row(
                symbol,
                Text(
                    f"{price.average:,.5g} {arrow}" if price.average < 100 else f"{price.average:,.2f} {arrow}", style
                ),
                f"{price.volume:,.1f}",
                f"{price.trades}",
            )
        events = [Text(event_line(event), style_of(event), no_wrap=True, overflow="ellipsis") for event in self._events]
        return Group(table, *events)


def _write_summary(output: Output, summary: Iterable[tuple[str, str]]) -> None:
    output.write("\n" + "".join(f"{name:<12}{measured}\n" for name, measured in summary))
