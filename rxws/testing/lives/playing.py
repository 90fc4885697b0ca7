"""A life is played: server, feed and consumers, act by act, then a calm, the end, and what is left."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import itertools
import random
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import rxws

from ..leaks import assert_no_leaks
from .clock import stand_apart, stand_still
from .consumers import Book, Consumer, Deliberate, Seen
from .dialect import Dialect
from .oracle import CLOSE_TIMEOUT, Evidence, RotateCall, judge
from .real import real_network
from .report import Problem, Report
from .schedule import Act, Schedule, Settings
from .transport import virtual_network
from .venue import BOOK, Venue, channel_names

__all__ = ["Endpoint", "Feed", "MakeFeed", "play"]

Feed = rxws.AsyncWebsocketStreamInterface[Any]

TOLERANCE: Final = 0.001
REAL_TOLERANCE: Final = 0.3
"""Seconds by which times may be wrong: in virtual time, and in real time on a busy machine."""

LOOK: Final = 0.25
"""Seconds between two looks at whether all is well."""

CALM: Final = 15.0
"""Seconds that a feed has at most to recover from all that was done to it."""

EXPECTED: Final = (Deliberate, ConnectionError, TimeoutError, LookupError, GeneratorExit)
"""What functions of the life's own raise, and snapshots that are too old."""

LONGEST: Final = 120.0
"""Seconds that a life may take in all."""

SLOW_HANDLER: Final = 0.03
"""Seconds that a slow handler takes over a message."""

OPEN_TIMEOUT: Final = 2.0
ANSWER_TIMEOUT: Final = 1.5


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the feed of a life connects to.

    Attributes:
        url: the address.
        connect: has the signature of ``websockets.connect``; the only way there.
        options: what this life asks of the feed: keywords of every feed's constructor, timeouts above all.
    """

    url: str
    connect: Callable[..., Any]
    options: Mapping[str, Any]


MakeFeed = Callable[[Endpoint], Feed]
"""Makes a feed that connects to an endpoint; is called in the running loop."""


def options_of(settings: Settings) -> dict[str, Any]:
    """Return the options that every feed takes."""
    return {
        "open_timeout": OPEN_TIMEOUT + 2 * settings.lag,
        "send_timeout": 2.0,
        "close_timeout": CLOSE_TIMEOUT,
        "handover_timeout": settings.handover_timeout,
        "handover_settle": settings.settle,
        "idle_timeout": settings.idle_timeout or None,
        "reconnect_delays": lambda: itertools.repeat(settings.retry_delay),
        "send_limit": (settings.send_limit, 1.0) if settings.send_limit else None,
    }


def ready_made(settings: Settings, dialect: Dialect) -> MakeFeed:
    """Return what makes a ``ReactiveWebSocket``, with all that only that class takes."""

    def is_snapshot(message: Any) -> bool:
        read = dialect.read(message)
        return read is not None and read.is_snapshot

    def make(endpoint: Endpoint) -> Feed:
        return rxws.ReactiveWebSocket(
            endpoint.url,
            connect=endpoint.connect,
            rotate_every=settings.rotate_every or None,
            rotate_on=[{"expired": True}],
            per_connection=is_snapshot if settings.snapshots == "declared" else None,
            **endpoint.options,
        )

    return make


async def play(
    schedule: Schedule,
    make_feed: MakeFeed | None = None,
    dialect: Dialect | None = None,
    *,
    is_real: bool = False,
) -> Report:
    """Play a life, and return what became of it.

    The numbers that :mod:`random` gives are those of the schedule's seed meanwhile, so that it goes the same way again.
    Cancelling is safe.

    Args:
        schedule: the life.
        make_feed: makes the feed; None: a ``ReactiveWebSocket``.
        dialect: what is said; None: JSON.
        is_real: whether it is played on loopback sockets, in a loop in which time is real.
    """
    dialect = dialect or Dialect()
    stand_apart()
    loop, chance = asyncio.get_running_loop(), random.getstate()
    unhandled: list[str] = []
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: unhandled.append(str(context.get("exception") or context["message"])))
    random.seed(schedule.seed)
    problems, life = list[Problem](), _Life(schedule, dialect)
    try:
        async with asyncio.timeout(LONGEST), assert_no_leaks(timeout=5.0):
            await life.live(make_feed or ready_made(schedule.settings, dialect), is_real)
    except TimeoutError:
        problems.append(Problem("no end", f"the life was not over after {LONGEST:g} s"))
    except AssertionError as error:
        problems.append(Problem("left behind", str(error)))
    finally:
        random.setstate(chance)
        loop.set_exception_handler(before)
    problems += [*judge(life.evidence), *life.references()]
    problems += [Problem("unhandled", text) for text in unhandled]
    return Report(schedule, problems, life.counts)


class _Life:
    """One life.

    Attributes:
        evidence: for the judge.
        counts: what there was of everything.
    """

    def __init__(self, schedule: Schedule, dialect: Dialect) -> None:
        self.counts: Counter[str] = Counter()
        self._schedule = schedule
        self._settings = schedule.settings
        self._dialect = dialect
        self._loop = asyncio.get_running_loop()
        self._venue = Venue(schedule, dialect)
        self.evidence = Evidence(schedule.settings, self._venue.record)
        self._start = self._loop.time()
        self._feed: Feed | None = None
        self._reference: Callable[[], Feed | None] = lambda: None
        self._consumers: dict[str, Consumer] = {}
        self._finishing: list[Consumer] = []
        self._book: Book | None = None
        self._looking: asyncio.Task[None] | None = None
        self._delivered_at = -1.0
        # From the clock of events to the loop's.
        self._shift = 0.0
        self._rotates_at_once = False
        self._slow_until = -1.0
        self._has_exited = False

    @property
    def feed(self) -> Feed:
        """The feed, while it lives."""
        assert self._feed is not None
        return self._feed

    def references(self) -> list[Problem]:
        """Return what is wrong if the feed is still in memory: nothing in the life refers to it."""
        if self._reference() is not None:
            gc.collect()
        return [] if self._reference() is None else [Problem("left behind", "a reference to the feed")]

    def _problem(self, kind: str, text: str) -> None:
        self.evidence.problems.append(Problem(kind, text))

    # The course of a life

    async def live(self, make_feed: MakeFeed, is_real: bool) -> None:
        """Live to the end."""
        self.evidence.tolerance = REAL_TOLERANCE if is_real else TOLERANCE
        async with real_network(self._venue) if is_real else virtual_network(self._venue) as network:
            self._feed = make_feed(Endpoint(network.url, network.connect, options_of(self._settings)))
            self._reference = weakref.ref(self._feed)
            try:
                self._begin()
                await self._acts()
                if not self._has_exited:
                    await self._become_calm()
            finally:
                self._venue.stop()
                await self._end()
                self._feed = None

    def _begin(self) -> None:
        feed = self.feed
        feed.events.subscribe(self._event)
        feed.messages.subscribe(self._message)
        everything = Seen("everything", None, self._loop.time())
        self._consume("everything", feed.stream_filter(gaps=True), everything, "iterator")
        for channel in channel_names(self._schedule):
            self._want(channel)
        if self._settings.book:
            self._book = Book(self._stream(BOOK), self._venue.snapshot, self._known, self._dialect)
            self._book.is_watched = self._settings.watched
            self.evidence.wanted.append(BOOK)
            self._looking = self._loop.create_task(self._look(self._book), name="a life's look at its book")
        self._venue.start()

    async def _acts(self) -> None:
        for act in self._schedule.acts:
            await self._until(act.at)
            await self._do(act)
            if self._has_exited:
                return
        await self._until(self._settings.seconds)

    async def _until(self, at: float) -> None:
        wait = self._start + at - self._loop.time()
        if wait > 0:
            await asyncio.sleep(wait)

    async def _become_calm(self) -> None:
        """Do nothing bad any more, and wait until all is well; then until all has come."""
        self._venue.calm()
        self._rotates_at_once = False
        self._slow_until = -1.0
        await asyncio.sleep(1.0)
        await self._until_well()
        await asyncio.sleep(1.0 + self._settings.reach + self._settings.up)
        quiet_from = self._loop.time()
        # Messages go on: silence would be a fault.
        await asyncio.sleep(1.5 + 2 * self._settings.reach)
        await self._until_well()
        self._take_stock(quiet_from)

    async def _until_well(self) -> None:
        for _ in range(round(CALM / LOOK)):
            if self._is_well():
                return
            await asyncio.sleep(LOOK)

    def _is_well(self) -> bool:
        lines = [line for line in self._venue.lines if line.is_open and not line.record.damages]
        if len(lines) != 1 or self.feed.state.value is not rxws.State.CONNECTED:
            return False
        is_subscribed = {*lines[0].channels, *lines[0].record.refused} >= set(self.evidence.wanted)
        book = self._book
        is_known = book is None or book.in_sync or BOOK in lines[0].record.refused
        return (is_subscribed or self._settings.pushed) and is_known

    def _take_stock(self, quiet_from: float) -> None:
        """Note how all is in the end."""
        state = self.feed.state.value
        for line in self._venue.lines:
            if line.is_open:
                line.record.subscribed_in_the_end = list(line.channels)
        if state is rxws.State.CLOSED:
            self._problem("closed by itself", "nobody called exit()")
        elif state is rxws.State.FAILED:
            if not any(act.kind in ("cancel", "generator exit") for act in self._schedule.acts):
                self._problem("failed", "the feed has failed")
        else:
            self.evidence.quiet_from = quiet_from
            if self._book is not None and not self._book.in_sync and not self._is_refused(BOOK):
                self._problem("book", "it is not in sync in the end")

    def _is_refused(self, channel: str) -> bool:
        return any(channel in line.record.refused for line in self._venue.lines if line.is_open)

    async def _end(self) -> None:
        feed, statistics = self.feed, self.feed.statistics()
        if self._looking is not None:
            self._looking.cancel()
        began = self._loop.time()
        await feed.exit()
        took = self._loop.time() - began
        if took > CLOSE_TIMEOUT + 1.5:
            self._problem("exit", f"it took {took:.3f} s")
        for consumer in (*self._consumers.values(), *self._finishing):
            await consumer.finished()
            self.evidence.seen.append(consumer.seen)
        if self._book is not None:
            await self._book.close()
            for text in self._book.problems[:3]:
                self._problem("book", text)
        if statistics.gaps != len(self.evidence.gaps):
            self._problem("statistics", f"{statistics.gaps} gaps, and {len(self.evidence.gaps)} were told")
        self.counts.update(
            connections=len(self._venue.lines),
            messages=statistics.messages,
            gaps=statistics.gaps,
            rotations=statistics.rotations,
            copies=statistics.duplicates,
        )
        await self._until_gone()

    async def _until_gone(self) -> None:
        """Wait until the server knows that its connections have ended; those that are dead it does not."""
        await asyncio.sleep(self._settings.up + self._settings.close_lag + 10 * self.evidence.tolerance)
        left = [line.record.number for line in self._venue.lines if line.is_open and not line.record.damages]
        if left:
            self._problem("left behind", f"connections {left}")

    # What the feed tells

    def _event(self, event: rxws.Event) -> None:
        if not self.counts["events"]:
            self._shift = event.time - self._loop.time()
        self.counts["events"] += 1
        if isinstance(event, rxws.Gap):
            self.evidence.gaps.append(self.dated(event))
        elif isinstance(event, rxws.HandlerFailed) and not isinstance(event.error, EXPECTED):
            self._problem("failure", f"{event.handler}: {event.error!r}")

    def dated(self, gap: rxws.Gap) -> rxws.Gap:
        """Return a Gap with the loop's times."""
        shift = self._shift
        return dataclasses.replace(gap, start=gap.start - shift, end=gap.end - shift, time=gap.time - shift)

    def _message(self, message: Any) -> None:
        if self._dialect.read(message) is not None:
            self._delivered_at = self._loop.time()
            if self._delivered_at < self._slow_until:
                self.stand_still(SLOW_HANDLER)
            if self._rotates_at_once and self.feed.state.value is rxws.State.CONNECTING:
                self._rotates_at_once = False
                self._rotate(is_at_once=True)

    # Consumers

    def _stream(self, channel: str) -> rxws.Stream[Any]:
        dialect, settings = self._dialect, self._settings
        if settings.pushed:
            return self.feed.stream_filter(dialect.belongs(channel), gaps=True)
        return self.feed.multiplex(
            dialect.subscribe([channel]),
            dialect.unsubscribe(channel),
            filters=dialect.belongs(channel),
            acknowledged=dialect.acknowledged(channel),
            rejected=dialect.rejected(channel),
            timeout=ANSWER_TIMEOUT + settings.lag,
            combine=dialect.combine if settings.combine else None,
            gaps=True,
        )

    def _consume(self, name: str, stream: rxws.Stream[Any], seen: Seen, kind: str) -> None:
        self._consumers[name] = Consumer(stream, seen, kind, self._dialect, self)

    def _want(self, channel: str) -> None:
        if channel not in self._consumers and channel in channel_names(self._schedule):
            self.evidence.wanted.append(channel)
            seen = Seen(f"{channel} from {self._loop.time():.3f}", channel, self._loop.time())
            self._consume(channel, self._stream(channel), seen, self._settings.consumer)

    async def _unwant(self, channel: str) -> None:
        consumer = self._consumers.pop(channel, None)
        if consumer is not None:
            self.evidence.wanted.remove(channel)
            self._finishing.append(consumer)
            await consumer.close()

    async def _look(self, book: Book) -> None:
        while True:
            await asyncio.sleep(0.1)
            book.look()

    def _known(self) -> int | None:
        """Return the number of the newest change that has come on the only connection; None: there are others."""
        lines = [line for line in self._venue.lines if line.is_open]
        is_sole = len(lines) == 1 and self.feed.state.value is rxws.State.CONNECTED
        if not is_sole or lines[0].record.damages or not lines[0].is_read:
            return None
        before = self._loop.time() - self.evidence.tolerance
        sent_there = reversed(lines[0].record.sent)
        there = (sent for sent in sent_there if sent.channel == BOOK and sent.came_at is not None)
        return next((sent.n for sent in there if sent.came_at is not None and sent.came_at < before), None)

    # Acts

    def stand_still(self, seconds: float) -> None:
        """Let the loop stand still, and note it."""
        since = self._loop.time()
        stand_still(seconds)
        # In the loop's next turn, before its timers: there it reads what the system has received.
        self._loop.call_soon(self._venue.pass_time)
        self.evidence.standstills.append((since, self._loop.time()))

    async def _do(self, act: Act) -> None:
        if act.kind == "rotate":
            self._rotate()
        elif act.kind == "subscribe":
            await self._subscribe(act.word)
        elif act.kind == "unsubscribe":
            await self._unwant(act.word)
        elif act.kind == "swap":
            await self._unwant(act.word)
            await asyncio.sleep(act.value)
            self._want(act.word)
        elif act.kind == "stand still":
            self.stand_still(act.value)
        elif act.kind == "slow down":
            self._slow_until = self._loop.time() + act.value
        elif act.kind == "exit":
            self._has_exited = True
        elif act.kind == "rotate at once":
            self._rotates_at_once = True
        elif act.kind == "generator exit":
            self._leave_once()
        elif act.kind == "cancel":
            for task in asyncio.all_tasks():
                if task.get_name().startswith("rxws"):
                    task.cancel()
        else:
            self._venue.act(act)

    async def _subscribe(self, channel: str) -> None:
        """Want a channel; where overlaps are to be spared, not before a rotation has ended."""
        deadline = self._loop.time() + 10.0
        while not self._settings.overlaps and self._loop.time() < deadline:
            if self.feed.state.value is not rxws.State.ROTATING:
                break
            await asyncio.sleep(0.05)
        self._want(channel)

    def _rotate(self, *, is_at_once: bool = False) -> None:
        if self.feed.state.value.is_final:
            return
        lines = [line.record for line in self._venue.lines]
        is_open = [line for line in lines if line.ended_at is None]
        ended = max((line.ended_at for line in lines if line.ended_at is not None), default=-1.0)
        flowing = len(is_open) == 1 and self._delivered_at > max(is_open[0].opened_at, ended + self._settings.reach)
        if flowing and self.feed.state.value is rxws.State.CONNECTING and not is_at_once:
            # A moment that has an ingredient of its own.
            return
        call = RotateCall(self._loop.time(), is_open[0].number if flowing else None)
        self.evidence.rotate_calls.append(call)
        self.feed.rotate().add_done_callback(lambda done: self._rotated(call, done))

    def _rotated(self, call: RotateCall, done: asyncio.Future[bool]) -> None:
        call.result = False if done.cancelled() or done.exception() is not None else done.result()
        call.then_on = tuple(line.record.number for line in self._venue.lines if line.is_open)

    def _leave_once(self) -> None:
        def leave(_message: Any) -> None:
            handler.dispose()
            raise GeneratorExit

        handler = self.feed.add_handler(leave)
