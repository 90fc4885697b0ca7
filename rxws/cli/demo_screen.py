"""Shows the story of ``rxws demo``: as a picture that grows on a terminal, as plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from .. import Event
from .demo_ending import Ending, print_ending, write_ending
from .lanes import Lane, draw, is_unicode, ruler
from .lines import clock, event_line
from .loss_counter import LossCounter
from .output import Output
from .terminal import Animation, columns, style_of, terminal, wrap

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

__all__ = ["PHASES", "Price", "Screen", "Story", "make_screen"]

SHOWN: Final = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT")
"""Symbols whose prices are shown."""

SPACIOUS: Final = 6
"""Lines for events and prices from which on empty lines separate them."""

CLOCK: Final = len("00:00:00.000 ")
"""Columns by which the further lines of an event are indented."""


class Phase(NamedTuple):
    """A part of the story: a short name, and what happens."""

    name: str
    sentence: str


PHASES: Final = (
    Phase("start", "One connection feeds all consumers."),
    Phase("rotation", "A new connection opens beside the old one, and both deliver until rxws has compared them."),
    Phase("cut", "The exchange resets the connection without a word. rxws opens the next one, and reports a gap."),
)


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


@dataclass
class Story:
    """What the screen shows, as far as it is known.

    Attributes:
        seconds: planned duration.
        counter: counts the messages.
        lanes: the connections, and last what the consumers get.
        phases: the names of the phases that have begun, each with its time on the monotonic clock.
        sentence: what happens now.
    """

    seconds: float
    counter: LossCounter
    lanes: list[Lane] = field(default_factory=lambda: [Lane("your streams")])
    phases: list[tuple[float, str]] = field(default_factory=list)
    sentence: str = "Making the streams."

    @property
    def headline(self) -> str:
        """The number and the name of the phase, and what happens."""
        if not self.phases:
            return self.sentence
        return f"{len(self.phases)} of {len(PHASES)}: {self.phases[-1][1]}. {self.sentence}"


class Screen(Protocol):
    """Shows the progress of the demo."""

    def announce(self) -> None:
        """Show that another phase of the story has begun."""

    def note(self, line: str) -> None:
        """Show something that the lanes show, too."""

    def show(self, prices: Mapping[str, Price]) -> None:
        """Show the prices of one second."""

    def show_event(self, event: Event) -> None:
        """Show an event of the feed."""

    def close(self, ending: Ending) -> None:
        """Stop, and show what was measured."""


def make_screen(output: Output, story: Story) -> Screen:
    """Return a picture if rich is installed and the output is a terminal, otherwise plain lines."""
    console = terminal(output)
    return _Lines(output, story) if console is None else _Picture(console, story)


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
    def __init__(self, output: Output, story: Story) -> None:
        self._output = output
        self._story = story
        self._rate = _Rate()
        self._prices: dict[str, Price] = {}

    def announce(self) -> None:
        if len(self._story.phases) == 1:
            self._rate = _Rate()
        else:
            self._output.write("\n")
        self._write(self._story.headline, 0)

    def note(self, line: str) -> None:
        self._write(f"{clock(time.time())} {line}", CLOCK)

    def show(self, prices: Mapping[str, Price]) -> None:
        self._prices.update(prices)
        shown = [f"  {symbol} {_price(self._prices[symbol])}" for symbol in SHOWN[:3] if symbol in self._prices]
        self._write(f"{self._rate(self._story.counter.received):7,.0f} messages/s{''.join(shown)}", 2)

    def show_event(self, event: Event) -> None:
        self._write(event_line(event), CLOCK)

    def close(self, ending: Ending) -> None:
        write_ending(self._output, ending)

    def _write(self, line: str, indent: int) -> None:
        self._output.write("".join(f"{each}\n" for each in wrap(line, columns(), indent)))


class _Picture:
    def __init__(self, console: Console, story: Story) -> None:
        self._console = console
        self._story = story
        self._rate = _Rate()
        self._shown_rate = ""
        self._began = time.monotonic()
        self._ended: float | None = None
        self._prices: dict[str, Price] = {}
        self._changes: dict[str, float] = {}
        self._events: list[Event] = []
        self._ending: Ending | None = None
        self._animation = Animation(console, self._render, transient=False)

    def announce(self) -> None:
        if len(self._story.phases) == 1:
            self._began = time.monotonic()
            self._rate = _Rate()

    def note(self, line: str) -> None:
        """The lanes show it."""

    def show(self, prices: Mapping[str, Price]) -> None:
        for symbol, price in prices.items():
            self._changes[symbol] = price.average - self._prices.get(symbol, price).average
        self._prices.update(prices)
        self._shown_rate = f"{self._rate(self._story.counter.received):,.0f}/s"

    def show_event(self, event: Event) -> None:
        self._events.append(event)

    def close(self, ending: Ending) -> None:
        self._ended = time.monotonic()
        self._ending = ending
        print_ending(self._console, self._animation, ending)

    def _render(self) -> RenderableType:
        from rich.console import Group

        width, height = self._console.size
        top = self._top(width)
        room = height - 1
        if self._ending is not None:
            # Keep room for the verdict, and for the table if only events make room for it.
            below = len(self._ending.words(width)) + 1
            room = max(min(len(top), room - below), room - below - len(self._ending.lines(width)) - 1)
        space = 1 if room >= len(top) + SPACIOUS else 0
        events = self._event_rows(width, room - len(top) - space)
        prices = self._price_rows(room - len(top) - len(events) - 2 * space)
        lines = list(top)
        for block in (events, prices):
            lines += [self._text("", "")] * (space if block else 0) + block
        return Group(*lines[: max(1, room)])

    def _top(self, width: int) -> list[Text]:
        """Return what is always shown: the phase, the lanes and the counters."""
        story, unicode = self._story, is_unicode(self._console.encoding)
        now = time.monotonic() if self._ended is None else self._ended
        end = max(now, self._began + story.seconds)
        column, columns, lanes = draw(story.lanes, start=self._began, end=end, now=now, width=width, unicode=unicode)
        planned = [(self._began + n * story.seconds / len(PHASES), phase.name) for n, phase in enumerate(PHASES)]
        names = story.phases + planned[len(story.phases) :]
        axis = ruler(names, start=self._began, end=end, width=columns, unicode=unicode)
        clock = (
            f"{now - self._began:.1f} of {story.seconds:g} s" if self._ended is None else f"{now - self._began:.1f} s"
        )
        head = [self._text(line, "bold") for line in wrap(story.headline, width)]
        return [
            *(head if self._ended is None else []),
            self._text(f"{clock.ljust(column)}{axis}", "dim"),
            *lanes,
            self._counters(),
        ]

    def _counters(self) -> Text:
        from rich.text import Text

        counter = self._story.counter
        line = Text(no_wrap=True, overflow="crop")
        for number, name in ((counter.lost, "lost"), (counter.doubled, "doubled")):
            line.append(f"{number:,} {name}", "bold red" if number else "bold green").append("   ")
        line.append(f"{counter.received:,} received")
        if counter.missed:
            line.append(f"   {counter.missed:,} in the gap", "yellow")
        if self._shown_rate and self._ended is None:
            line.append(f"   {self._shown_rate}")
        return line

    def _event_rows(self, width: int, room: int) -> list[Text]:
        """Return the newest events that have room, none of them in part."""
        rows: list[Text] = []
        for event in reversed(self._events):
            lines = [self._text(line, style_of(event)) for line in wrap(event_line(event), width, CLOCK)]
            if len(rows) + len(lines) > room:
                break
            rows = lines + rows
        return rows

    def _price_rows(self, room: int) -> list[Text]:
        known = [symbol for symbol in SHOWN if symbol in self._prices][: max(0, room - 1)]
        if not known or self._ended is not None:
            return []
        rows = [self._text(f"{'symbol':<10}{'price of a second':>18}{'volume':>12}{'trades':>8}", "dim")]
        up, down = ("▲", "▼") if is_unicode(self._console.encoding) else ("+", "-")
        for symbol in known:
            price, change = self._prices[symbol], self._changes[symbol]
            mark, style = (up, "green") if change > 0 else (down, "red") if change < 0 else (" ", "")
            line = self._text(f"{symbol:<10}", "")
            line.append(f"{_price(price):>16} {mark}", style).append(f"{price.volume:>12,.1f}{price.trades:>8}")
            rows.append(line)
        return rows

    def _text(self, line: str, style: str) -> Text:
        from rich.text import Text

        return Text(line, style, no_wrap=True, overflow="crop")


def _price(price: Price) -> str:
    return f"{price.average:,.5g}" if price.average < 100 else f"{price.average:,.2f}"
