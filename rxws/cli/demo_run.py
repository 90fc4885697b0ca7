"""Runs ``rxws demo``: consumes a demo feed, rotates and cuts its connection, and counts every message."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from typing import Any, Final

from reactivex import operators as ops

from .. import Connected, Disconnected, Event, Gap, NothingMatched, ReactiveWebSocket, Rotated, Stream
from ..demo import KINDS, SYMBOLS, DemoExchange, serve
from .demo_feed import EVENTS, LAG, RATE, channel_of_message
from .demo_result import Result
from .demo_screen import PHASES, Price, Screen, Story, make_screen
from .lanes import Lane
from .lines import is_news
from .loss_counter import LossCounter
from .output import Output
from .running import DONE, FAILED

__all__ = ["run_demo", "volume_weighted"]

PATIENCE: Final = 15.0
"""Seconds to wait for an event that normally comes at once."""

TICK: Final = 0.02
"""Seconds between two looks at what has arrived."""

APART: Final = 0.25
"""The fewest seconds from the end of the rotation to the cut, so that their gaps can be told apart."""


async def run_demo(seconds: float, streams: int, output: Output) -> int:
    """Run the demo, print its summary, and return the exit code. Cancelling prints the summary so far.

    Args:
        seconds: approximate duration.
        streams: number of filtered streams.
        output: where the demo is shown.
    """
    # The exchange sends nothing yet, so that the first message of each channel is received, too.
    async with serve(symbols=_symbols(-(-streams // len(KINDS))), rate=0.0, lag=LAG) as exchange:
        story = Story(seconds, LossCounter(first=1))
        screen = make_screen(output, story)
        run = _Run(exchange, story, screen, streams)
        try:
            await run.execute(seconds)
        finally:
            screen.close(run.result.ending())
    return DONE if run.result.is_flawless else FAILED


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


def _symbols(number: int) -> tuple[str, ...]:
    """Return enough symbols for ``number``, the usual ones first."""
    return (*SYMBOLS, *(f"COIN{each}USDT" for each in range(1, number - len(SYMBOLS) + 1)))


class _Feed(ReactiveWebSocket[dict[str, Any]]):
    """A feed that draws a lane for each of its connections, from its handshake to its end.

    Args:
        exchange: the exchange.
        lanes: the lanes; the connections are put before the last one.
        note: called with a sentence when two connections are open, and when one of them ends.
    """

    def __init__(self, exchange: DemoExchange, lanes: list[Lane], note: Callable[[str], None]) -> None:
        # A configured proxy may not be able to reach a server on this machine.
        super().__init__(exchange, connect_options={"proxy": None})
        self._lanes = lanes
        self._note = note
        self.is_over = False
        """Whether the story is over, so that the end of the last connection is none of it."""
        self._connections: list[Lane] = []
        self._watching: set[asyncio.Task[None]] = set()

    async def _create_ws(self) -> Any:
        lane = Lane(f"connection {len(self._connections) + 1}")
        lane.change("starting")
        self._lanes.insert(-1, lane)
        try:
            websocket = await super()._create_ws()
        except BaseException:
            self._lanes.remove(lane)
            raise
        lane.change("running")
        for other in self._connections:
            if other.state:
                self._note(f"{lane.name} is open; {other.name} still delivers")
        self._connections.append(lane)
        watching = asyncio.get_running_loop().create_task(self._watch(lane, websocket))
        self._watching.add(watching)
        watching.add_done_callback(self._watching.discard)
        return websocket

    async def _watch(self, lane: Lane, websocket: Any) -> None:
        await websocket.wait_closed()
        if self.is_over:
            return
        lane.change(None)
        if not lane.note:
            lane.note = "closed"
            if any(other.state for other in self._connections):
                self._note(f"{lane.name} is closed")

    def cut(self, number: int) -> None:
        """Mark the lane of a lost connection."""
        lane = self._connections[number - 1]
        lane.mark("cut")
        lane.note = "cut"


class _Run:
    """One run of the demo: it consumes the feed, rotates and cuts the connection, and measures the result."""

    def __init__(self, exchange: DemoExchange, story: Story, screen: Screen, streams: int) -> None:
        self._exchange = exchange
        self._story = story
        self._screen = screen
        self._counter = story.counter
        self.result = Result(story.counter, streams)
        self._gap_came = asyncio.Event()
        self._is_rotating = False
        self._feed = _Feed(exchange, story.lanes, screen.note)

    async def execute(self, seconds: float) -> None:
        """Consume the feed for ``seconds``; rotate it after a third of the time, and cut it after two thirds."""
        result, feed = self.result, self._feed
        try:
            # The feed closes before the task group ends. Its close ends the streams, so the tasks of the group end.
            async with asyncio.TaskGroup() as consumers, feed:
                for consumer in self._consumers():
                    consumers.create_task(consumer)
                try:
                    await feed.wait_connected()
                    await self._tell_story(seconds)
                finally:
                    feed.is_over = True
        finally:
            result.sent = self._exchange.published
            result.opened = feed.statistics().opened
            result.continuity = feed.continuity()

    async def _tell_story(self, seconds: float) -> None:
        result, start = self.result, time.monotonic()
        try:
            self._begin_phase(
                f"One connection feeds {result.streams:,} streams, a handler and a pipeline of operators."
            )
            self._story.lanes[-1].change("running")
            self._exchange.rate = RATE
            await asyncio.sleep(start + seconds / 3 - time.monotonic())
            self._begin_phase()
            self._is_rotating = True
            await self._feed.rotate()
            self._is_rotating = False
            await asyncio.sleep(max(APART, start + seconds * 2 / 3 - time.monotonic()))
            self._begin_phase()
            result.was_cut = True
            await self._exchange.cut()
            await _within_patience(self._gap_came.wait())
            await asyncio.sleep(start + seconds - time.monotonic())
            self._exchange.rate = 0.0
            await self._settle()
        finally:
            result.seconds = time.monotonic() - start

    def _begin_phase(self, sentence: str | None = None) -> None:
        story = self._story
        phase = PHASES[len(story.phases)]
        story.phases.append((time.monotonic(), phase.name))
        story.sentence = sentence or phase.sentence
        self._screen.announce()

    async def _settle(self) -> None:
        """Wait until all sent messages have arrived. Count those that have not arrived in time as lost."""
        if self.result.gap is None:
            # The feed has not reconnected, so no message can arrive.
            return
        numbers = self._exchange.numbers
        for _ in range(round(PATIENCE / TICK)):
            if not self._counter.outstanding(numbers):
                break
            await asyncio.sleep(TICK)
        self._counter.settle(numbers)
        self.result.is_complete = self.result.rotated is not None

    # Consumers

    def _consumers(self) -> Iterator[Coroutine[Any, Any, None]]:
        """Subscribe all consumers, and yield the coroutines of those that need a task."""
        feed = self._feed
        feed.events.subscribe(self._take_event)
        feed.add_handler(self._handle)
        yield self._count_losses(feed.stream_filter(gaps=True))
        yield self._watch_prices(feed.stream_filter([{"e": "trade"}]))
        # Each stream has another channel.
        cases = ({"e": event, "s": symbol} for event in EVENTS for symbol in self._exchange.market.symbols)
        for case in itertools.islice(cases, self.result.streams):
            yield self._count(feed.stream_filter([case]))

    def _take_event(self, event: Event) -> None:
        # With thousands of streams, some channels are silent for ten seconds.
        if not is_news(event) or isinstance(event, NothingMatched):
            return
        if isinstance(event, Rotated):
            self.result.rotated = event
        if isinstance(event, Disconnected) and event.number is not None and event.reason != "rotation":
            self._feed.cut(event.number)
        # In a rotation these two come when the new connection begins to deliver. Without the lanes, or the notes, they
        # would look like a loss.
        is_of_rotation = isinstance(event, Disconnected) and event.reason == "rotation"
        if not (is_of_rotation or (self._is_rotating and isinstance(event, Connected))):
            self._screen.show_event(event)

    def _handle(self, message: dict[str, Any]) -> None:
        self.result.kinds[message["e"]] += 1

    async def _count_losses(self, everything: Stream[Any]) -> None:
        async for item in everything:
            if isinstance(item, Gap):
                self._take_gap(item)
            else:
                self._counter.take(channel_of_message(item), item["n"])

    def _take_gap(self, gap: Gap) -> None:
        lane = self._story.lanes[-1]
        lane.mark("gap")
        lane.note = "1 gap" if not lane.note else f"{int(lane.note.split()[0]) + 1} gaps"
        # Messages may be missing only in the gap that the demo's own cut causes. Those that are missing in an earlier
        # gap count as lost.
        if self.result.was_cut and self.result.gap is None:
            self.result.take_gap(gap)
            self._counter.interrupt(self._exchange.numbers)
            self._gap_came.set()

    async def _watch_prices(self, trades: Stream[dict[str, Any]]) -> None:
        async for prices in trades.pipe(ops.buffer_with_time(1.0), ops.map(volume_weighted)):
            # Do not show an interval that is shorter than a second, because its rate would be wrong.
            if self._exchange.rate and not self._feed.is_over:
                self._screen.show(prices)

    async def _count(self, stream: Stream[dict[str, Any]]) -> None:
        async for _ in stream:
            self.result.in_streams += 1


async def _within_patience(happening: Coroutine[Any, Any, object]) -> None:
    # After a timeout the summary shows that the event has not happened.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            await happening
