"""``rxws demo``: consume a demo feed, rotate and cut its connection, and count every lost or repeated message."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import importlib
import itertools
from collections import Counter, defaultdict
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from typing import Any, Final

from reactivex import operators as ops

from .. import Continuity, Event, Gap, ReactiveWebSocket, Rotated, Stream
from ..demo import SYMBOLS, DemoExchange, serve
from .arguments import Declare, count, seconds
from .connecting import check_broker
from .demo_feed import EVENTS, LAG, RATE, channel_of_message
from .demo_screen import Price, Screen, make_screen
from .lines import is_news
from .loss_counter import LossCounter
from .output import Output
from .running import DONE, FAILED

__all__ = ["add", "demo"]

PATIENCE: Final = 5.0
"""Seconds to wait for an event that normally comes at once."""

_EPILOG = """\
example:
  rxws demo --seconds 6 --streams 1000

exit codes: 0 every message arrived once and in order; 1 messages were lost,
repeated or out of order; 2 wrong arguments; 130 Ctrl-C; 143 SIGTERM (both
print the summary so far)."""


def add(declare: Declare) -> None:
    """Declare the command ``demo``."""
    parser = declare(
        "demo",
        usage="rxws demo [options]",
        help="see a feed rotate and reconnect, and count lost messages",
        description="Start an exchange on this machine; feed many streams, a handler and a pipeline\n"
        "of operators from one connection; rotate it once as planned, and cut it once;\n"
        "then count lost and repeated messages by the numbers in the messages.",
        epilog=_EPILOG,
    )
    parser.set_defaults(command=demo, prog=parser.prog, check=functools.partial(_check, parser))
    parser.add_argument("--seconds", metavar="N", type=seconds, help="approximate duration (default: 8; --nats: 20)")
    parser.add_argument("--streams", metavar="K", type=count, help="filtered streams (default: 60; not with --nats)")
    parser.add_argument("--nats", action="store_true", help="kill one of two relays, and a NATS server, instead")


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.nats and options.streams is not None:
        parser.error("--streams does not go with --nats, whose streams are those of three workers")


async def demo(options: argparse.Namespace, output: Output) -> int:
    """Run the demo, print its summary, and return the exit code. Cancelling prints the summary so far."""
    if options.nats:
        # Import this only on use, because it needs nats-py.
        check_broker()
        over_nats: Any = importlib.import_module("rxws.cli.demo_nats")
        return await over_nats.demo_nats(options.seconds or 20.0, output)  # type: ignore[no-any-return]
    seconds = options.seconds or 8.0
    async with serve(rate=RATE, lag=LAG) as exchange:
        screen = make_screen(output, seconds)
        run = _Run(exchange, screen, options.streams or 60)
        try:
            await run.execute(seconds)
        finally:
            screen.close(run.summary())
    return DONE if run.is_flawless else FAILED


def volume_weighted(trades: Iterable[Mapping[str, Any]]) -> dict[str, Price]:
    """Return the volume-weighted average price of each symbol.

    It is the sum of price times quantity, divided by the sum of the quantities.
    """
    turnover: Counter[str] = Counter()
    volume: Counter[str] = Counter()
    number: Counter[str] = Counter()
    for trade in trades:
        symbol = trade["s"]
        turnover[symbol] += trade["p"] * trade["q"]
        volume[symbol] += trade["q"]
        number[symbol] += 1
    return {symbol: Price(turnover[symbol] / volume[symbol], volume[symbol], number[symbol]) for symbol in volume}


class _Run:
    """One run of the demo: it consumes the feed, rotates and cuts the connection, and measures the result."""

    def __init__(self, exchange: DemoExchange, screen: Screen, streams: int) -> None:
        self._exchange = exchange
        self._screen = screen
        self._number_of_streams = streams
        self._loss_counter = LossCounter()
        self._in_streams = 0
        self._kinds: Counter[str] = Counter()
        self._rotated: Rotated | None = None
        self._was_cut = False
        self._gap: Gap | None = None
        self._gap_came = asyncio.Event()
        self._before_gap: tuple[int, int] | None = None
        self._awaited: Mapping[str, int] = {}
        self._all_came = asyncio.Event()
        self._is_complete = False
        self._is_over = False
        self._seconds = 0.0
        self._opened = 0
        self._continuity = Continuity((), ())

    async def execute(self, seconds: float) -> None:
        """Consume the feed for ``seconds``; rotate it after a third of the time, and cut it after two thirds."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        # A configured proxy may not be able to reach a server on this machine.
        feed = ReactiveWebSocket[dict[str, Any]](self._exchange, connect_options={"proxy": None})
        try:
            # The feed closes before the task group ends. Its close ends the streams, so the tasks of the group end.
            async with asyncio.TaskGroup() as consumers, feed:
                for consumer in self._consumers(feed):
                    consumers.create_task(consumer)
                try:
                    await feed.wait_connected()
                    await asyncio.sleep(start + seconds / 3 - loop.time())
                    await feed.rotate()
                    await asyncio.sleep(start + seconds * 2 / 3 - loop.time())
                    self._was_cut = True
                    await self._exchange.cut()
                    await _within_patience(self._gap_came.wait())
                    await asyncio.sleep(start + seconds - loop.time())
                    await self._settle()
                finally:
                    self._is_over = True
        finally:
            self._seconds = loop.time() - start
            self._opened = feed.statistics().opened
            self._continuity = feed.continuity()

    async def _settle(self) -> None:
        """Wait until all sent messages have arrived. Count those that have not arrived in time as lost."""
        if self._gap is None:
            # The feed has not reconnected, so no message can arrive.
            return
        self._awaited = self._exchange.numbers
        await _within_patience(self._all_came.wait())
        self._loss_counter.lost += self._loss_counter.outstanding(self._awaited)
        self._is_complete = self._rotated is not None

    # Consumers

    def _consumers(self, feed: ReactiveWebSocket[dict[str, Any]]) -> Iterator[Coroutine[Any, Any, None]]:
        """Subscribe all consumers, and yield the coroutines of those that need a task."""
        feed.events.subscribe(self._take_event)
        feed.add_handler(self._handle)
        yield self._count_losses(feed.stream_filter(gaps=True))
        yield self._watch_prices(feed.stream_filter([{"e": "trade"}]))
        # If there are more streams than channels, several streams have the same filter.
        cases = itertools.cycle({"e": event, "s": symbol} for event in EVENTS for symbol in SYMBOLS)
        for case in itertools.islice(cases, self._number_of_streams):
            yield self._count(feed.stream_filter([case]))

    def _take_event(self, event: Event) -> None:
        if isinstance(event, Rotated):
            self._rotated = event
        if is_news(event):
            self._screen.show_event(event)

    def _handle(self, message: dict[str, Any]) -> None:
        self._kinds[message["e"]] += 1

    async def _count_losses(self, everything: Stream[Any]) -> None:
        loss_counter = self._loss_counter
        async for item in everything:
            if not isinstance(item, Gap):
                loss_counter.take(channel_of_message(item), item["n"])
                if self._awaited and not loss_counter.outstanding(self._awaited):
                    self._all_came.set()
            elif self._was_cut:
                # Messages may be missing only in the gap that the demo's own cut causes. Those that are missing in an
                # earlier gap count as lost.
                self._gap = item
                self._before_gap = loss_counter.lost, loss_counter.doubled
                loss_counter.interrupt()
                self._gap_came.set()

    async def _watch_prices(self, trades: Stream[dict[str, Any]]) -> None:
        async for prices in trades.pipe(ops.buffer_with_time(1.0), ops.map(volume_weighted)):
            # Do not show the last interval: it is shorter than a second, so its rate would be wrong.
            if not self._is_over:
                self._screen.show(prices, self._loss_counter.received)

    async def _count(self, stream: Stream[dict[str, Any]]) -> None:
        async for _ in stream:
            self._in_streams += 1

    # Results

    @property
    def is_flawless(self) -> bool:
        """Whether rotation and cut happened, and every message arrived exactly once."""
        return self._is_complete and not self._loss_counter.faults

    def summary(self) -> list[tuple[str, str]]:
        """Return the measured values as pairs of name and text."""
        loss_counter, kinds = self._loss_counter, self._kinds
        rate = loss_counter.received / self._seconds if self._seconds else 0.0
        return [
            ("received", f"{loss_counter.received:,} messages in {self._seconds:.1f} s, {rate:,.0f} messages/s"),
            ("streams", f"{self._in_streams:,} messages in {self._number_of_streams:,} filtered streams"),
            ("handler", ", ".join(f"{kinds[event]:,} {event}" for event in EVENTS)),
            ("rotation", self._describe_rotation()),
            ("cut", self._describe_cut()),
            ("connections", f"{self._opened}; {self._describe_continuity()}"),
        ]

    def _describe_rotation(self) -> str:
        lost, doubled = self._before_gap or (self._loss_counter.lost, self._loss_counter.doubled)
        rotated = self._rotated
        if rotated is None:
            return f"has not happened; {lost:,} lost, {doubled:,} doubled so far"
        return (
            f"{lost:,} lost, {doubled:,} doubled; overlap {'proven' if rotated.proven else 'not proven'}, "
            f"paused {rotated.paused * 1000:,.1f} ms"
        )

    def _describe_continuity(self) -> str:
        """Return what the feed's own ledger says, which does not know the numbers in the messages."""
        intervals, gaps = self._continuity.intervals, self._continuity.gaps
        proven: defaultdict[str, float] = defaultdict(float)
        for interval in intervals:
            proven[interval.proof] += interval.end - interval.start
        by_proof = ", ".join(f"{seconds:.1f} s by {proof}" for proof, seconds in proven.items())
        missing = sum(gap.end - gap.start for gap in gaps)
        return (
            f"complete for {sum(proven.values()):.1f} s ({by_proof or 'no proof'}); "
            f"{len(gaps)} {'gap' if len(gaps) == 1 else 'gaps'}, {missing * 1000:,.1f} ms"
        )

    def _describe_cut(self) -> str:
        if self._gap is None or self._before_gap is None:
            return "has not happened" if not self._was_cut else "was not detected"
        milliseconds = (self._gap.end - self._gap.start) * 1000
        lost, doubled = self._loss_counter.lost - self._before_gap[0], self._loss_counter.doubled - self._before_gap[1]
        return (
            f"gap of {milliseconds:,.1f} ms, {self._loss_counter.missed:,} messages in it; "
            f"{lost:,} lost, {doubled:,} doubled since"
        )


async def _within_patience(happening: Coroutine[Any, Any, object]) -> None:
    # After a timeout the summary shows that the event has not happened.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            await happening
