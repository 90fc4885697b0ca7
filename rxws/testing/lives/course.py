"""The course of a life: its acts, then a time without faults, then the end."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import rxws

from .audience import Audience
from .clock import note_lateness, stand_still
from .consumers import Deliberate
from .dialect import Dialect, Numbered
from .endpoint import Endpoint, Feed, MakeFeed, options_of
from .evidence import CLOSE_TIMEOUT, Deliveries, Evidence, RotateCall
from .real import real_network
from .report import Problem
from .schedule import Act, Schedule
from .transport import virtual_network
from .venue import BOOK, PAST, Venue

__all__ = ["Life"]

TOLERANCE: Final = 0.001
REAL_TOLERANCE: Final = 0.3
"""Seconds by which times may differ: in virtual time, and in real time on a busy machine."""

LOOK: Final = 0.25
"""Seconds between two checks of whether the feed has recovered."""

CALM: Final = 15.0
"""Seconds in which a feed must recover after the last fault."""

EXPECTED: Final = (Deliberate, ConnectionError, TimeoutError, LookupError, GeneratorExit)
"""Exceptions that functions of the life raise on purpose, or that ``resync`` raises for a snapshot that is too old."""

ROTATING: Final = ("rotate", "rotate at once", "signal")
"""Acts that cause a rotation."""

SLOW_HANDLER: Final = 0.03
"""Seconds that a slow handler needs for a message."""


class Life:
    """One life while it runs: its feed, its server and its consumers.

    Attributes:
        evidence: the evidence for the judge.
        counts: the numbers of connections, messages, gaps and so on.
        began_at: when the life began, on the loop's clock.
        lateness: the longest time, in seconds, for which a loop in real time did not run although it should have.
    """

    def __init__(self, schedule: Schedule, dialect: Dialect) -> None:
        self.counts: Counter[str] = Counter()
        self._schedule = schedule
        self._settings = schedule.settings
        self._dialect = dialect
        self._loop = asyncio.get_running_loop()
        self._venue = Venue(schedule, dialect)
        self.evidence = Evidence(schedule.settings, self._venue.record)
        self.began_at = self._loop.time()
        self.lateness = 0.0
        self._feed: Feed | None = None
        self._reference: Callable[[], Feed | None] = lambda: None
        self._audience: Audience | None = None
        self._delivered_at = -1.0
        # The last numbered message of all, and the last one of each channel.
        self._last_numbered: Numbered | None = None
        self._last_of: dict[str, Numbered] = {}
        # The time of an event minus this is a time of the loop's clock.
        self._shift = 0.0
        self._rotates_at_once = False
        self._slow_until = -1.0
        self._has_exited = self._is_ending = False
        self._last_cause = ""
        self._last_message: Any = None

    @property
    def feed(self) -> Feed:
        """The feed, while it exists."""
        assert self._feed is not None
        return self._feed

    @property
    def audience(self) -> Audience:
        """The consumers, while there is a feed."""
        assert self._audience is not None
        return self._audience

    def references(self) -> list[Problem]:
        """Return a problem if the feed is still in memory although the life no longer refers to it."""
        if self._reference() is not None:
            gc.collect()
        return [] if self._reference() is None else [Problem("left behind", "a reference to the feed")]

    def _problem(self, kind: str, text: str) -> None:
        self.evidence.problems.append(Problem(kind, text))

    # The course of a life

    async def live(self, make_feed: MakeFeed, is_real: bool) -> None:
        """Run the life to its end."""
        self.evidence.tolerance = REAL_TOLERANCE if is_real else TOLERANCE
        async with real_network(self._venue) if is_real else virtual_network(self._venue) as network:
            feed = make_feed(Endpoint(network.url, network.connect, options_of(self._settings)))
            if not isinstance(feed, rxws.AsyncWebsocketStreamInterface):
                raise TypeError(f"make_feed must return a feed, not {type(feed).__name__}")
            self._feed = feed
            del feed
            self._reference = weakref.ref(self._feed)
            watching = self._loop.create_task(note_lateness(self._was_late)) if is_real else None
            try:
                self._begin()
                await self._acts()
                if not self._has_exited:
                    await self._become_calm()
            finally:
                if watching is not None:
                    watching.cancel()
                    # Slow handlers also delay the reading of a socket.
                    self.evidence.standstills += self.evidence.slow_times
                self._venue.stop()
                await self._end()
                self._feed = None

    def _was_late(self, since: float, until: float) -> None:
        """Note that the machine was too busy to run the loop."""
        if not any(began <= until and since <= ended for began, ended in self.evidence.standstills):
            self.lateness = max(self.lateness, until - since)
            self.evidence.tolerance = max(self.evidence.tolerance, self.lateness)
        self.evidence.standstills.append((since, until))

    def _begin(self) -> None:
        # It may have taken seconds to start a server.
        self.began_at = self._loop.time()
        feed = self.feed
        feed.events.subscribe(self._event)
        if self._settings.padding:
            # A subscriber of all messages would make the feed decode all of them at once.
            feed.add_handler(self._message, self._venue.numbered())
            feed.add_handler(self._message, self._dialect.kinds())
        else:
            feed.messages.subscribe(self._message)
        self._audience = Audience(feed, self._venue, self.evidence, self)
        self._venue.start()

    async def _acts(self) -> None:
        for act in self._schedule.acts:
            await self._until(act.at)
            await self._do(act)
            if self._has_exited:
                return
        await self._until(self._settings.seconds)

    async def _until(self, at: float) -> None:
        wait = self.began_at + at - self._loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        self._sample()

    async def _become_calm(self) -> None:
        """Stop all faults, wait until the feed has recovered, and then until all messages have arrived."""
        self._venue.calm()
        self.audience.calm()
        self._rotates_at_once = False
        self._slow_until = -1.0
        await asyncio.sleep(1.0)
        await self._until_well()
        await asyncio.sleep(1.0 + self._settings.reach + self._settings.up)
        quiet_from = self._loop.time()
        # The server continues to publish, because silence would be a fault.
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
        is_one = len(lines) == 1 or (lines and self._settings.channels_per_connection)
        if not is_one or self.feed.state.value is not rxws.State.CONNECTED:
            return False
        if len({channel for line in lines for channel in line.channels}) < sum(len(line.channels) for line in lines):
            # A rotation has not ended.
            return False
        refused = {channel for line in lines for channel in line.record.refused}
        is_subscribed = refused.union(*(line.channels for line in lines)) >= set(self.evidence.wanted)
        is_known = not self.audience.has_a_wrong_book or BOOK in refused
        has_all = not self.audience.misses_some or PAST in refused
        return (is_subscribed or self._settings.pushed) and is_known and has_all

    def _take_stock(self, quiet_from: float) -> None:
        """Record the final state of the feed and of its connections."""
        state = self.feed.state.value
        for line in self._venue.lines:
            if line.is_open:
                line.record.subscribed_in_the_end = list(line.channels)
        if state is rxws.State.CLOSED:
            self._problem("closed by itself", "the feed is closed, and exit() was not called")
        elif state is rxws.State.FAILED:
            if not any(act.kind in ("cancel", "generator exit") for act in self._schedule.acts):
                self._problem("failed", f"the feed has failed: {self._cause()}")
        elif not self.feed.statistics().opened:
            self._problem("never connected", f"the last attempt: {self._last_cause or 'it made none'}")
        else:
            self.evidence.quiet_from = quiet_from
            # If no channel is left, nothing shows whether messages are missing since the last loss.
            wanted = self.evidence.wanted
            has_channels = not wanted or not all(map(self._is_refused, wanted))
            if self.feed.statistics().complete_since is None and has_channels:
                self._problem("complete since", "None, at the end of a life without faults")
            if self.audience.has_a_wrong_book and not self._is_refused(BOOK):
                self._problem("book", "it is not in sync at the end")
            if self.audience.misses_some and not self._is_refused(PAST):
                self._problem("past", "messages are missing at the end, and the history has them")

    def _cause(self) -> str:
        errors: list[BaseException] = []
        self.feed.state.subscribe(on_error=errors.append)
        return "; ".join(f"{error}, caused by {error.__cause__!r}" for error in errors)

    def _is_refused(self, channel: str) -> bool:
        return any(channel in line.record.refused for line in self._venue.lines if line.is_open)

    async def _end(self) -> None:
        feed, statistics = self.feed, self.feed.statistics()
        self._take_claims(feed.continuity())
        self._is_ending = True
        self.audience.stop_looking()
        began = self._loop.time()
        await feed.exit()
        took = self._loop.time() - began
        if took > CLOSE_TIMEOUT + 1.5:
            self._problem("exit", f"it took {took:.3f} s")
        await self.audience.finish()
        self._audience = None
        if statistics.gaps != len(self.evidence.gaps):
            self._problem("statistics", f"{statistics.gaps} gaps are counted, {len(self.evidence.gaps)} were reported")
        self.counts.update(
            connections=len(self._venue.lines),
            messages=statistics.messages,
            gaps=statistics.gaps,
            rotations=statistics.rotations,
            copies=statistics.duplicates,
        )
        await self._until_gone()

    def _take_claims(self, continuity: rxws.Continuity) -> None:
        """Record what the feed claims to be complete, with times of the loop's clock."""
        claims, shift = self.evidence.claims, self._shift
        claims.intervals = [
            dataclasses.replace(each, start=each.start - shift, end=each.end - shift) for each in continuity.intervals
        ]
        claims.gaps = [self.dated(gap) for gap in continuity.gaps]

    def _sample(self) -> None:
        """Record since when the feed claims to be complete."""
        since = self.feed.statistics().complete_since
        self.evidence.claims.samples.append((self._loop.time(), None if since is None else since - self._shift))

    async def _until_gone(self) -> None:
        """Wait until the server has noticed the end of its connections. It cannot notice the end of half-open ones."""
        await asyncio.sleep(self._settings.up + self._settings.close_lag + 10 * self.evidence.tolerance)
        left = [line.record.number for line in self._venue.lines if line.is_open and not line.record.damages]
        if left:
            self._problem("left behind", f"connections {left}")

    # Reports of the feed

    def _event(self, event: rxws.Event) -> None:
        if not self.counts["events"]:
            self._shift = event.time - self._loop.time()
        self.counts["events"] += 1
        if isinstance(event, rxws.Gap):
            self.evidence.gaps.append(self.dated(event))
            consumed = {each: self._last_of.get(each) for each in self.evidence.wanted}
            self.evidence.deliveries.append(Deliveries(self._last_numbered, consumed))
            if event.last_message != self._last_message:
                self._problem("last message", f"a Gap has {event.last_message!r} instead of {self._last_message!r}")
        elif isinstance(event, rxws.Disconnected):
            self._last_cause = event.cause
        elif isinstance(event, rxws.HandlerFailed) and not isinstance(event.error, EXPECTED):
            self._problem("failure", f"{event.handler}: {event.error!r}")

    def dated(self, gap: rxws.Gap) -> rxws.Gap:
        """Return the Gap with times of the loop's clock."""
        shift = self._shift
        return dataclasses.replace(gap, start=gap.start - shift, end=gap.end - shift, time=gap.time - shift)

    def _message(self, message: Any) -> None:
        self._last_message = message
        read = self._dialect.read(message)
        if read is not None:
            if not read.is_snapshot:
                self._venue.note_delivery(read.channel, read.n)
            self._delivered_at = self._loop.time()
            self._last_numbered = self._last_of[read.channel] = read
            if self._delivered_at < self._slow_until:
                self.stand_still(SLOW_HANDLER)
                began, until = self.evidence.slow_times.pop()
                self.evidence.slow_times.append((began, max(until, self._loop.time())))
            if self._rotates_at_once and self.feed.state.value is rxws.State.CONNECTING:
                self._rotates_at_once = False
                self._rotate(is_at_once=True)

    # Acts

    def stand_still(self, seconds: float) -> None:
        """Block the loop, and record it."""
        since = self._loop.time()
        stand_still(seconds)
        # Publish in the loop's next iteration before its timers, as a loop reads its sockets before it runs timers.
        self._loop.call_soon(self._venue.pass_time)
        self.evidence.standstills.append((since, self._loop.time()))

    async def _do(self, act: Act) -> None:
        if act.kind == "rotate":
            self._rotate()
        elif act.kind == "subscribe":
            await self._subscribe(act.word)
        elif act.kind == "unsubscribe":
            await self.audience.unwant(act.word)
        elif act.kind == "swap":
            await self.audience.unwant(act.word)
            await asyncio.sleep(act.value)
            self.audience.want(act.word)
        elif act.kind == "stand still":
            self.stand_still(act.value)
        elif act.kind == "slow down":
            self._slow_until = self._loop.time() + act.value
            self.evidence.slow_times.append((self._loop.time(), self._slow_until))
        elif act.kind == "exit":
            self._has_exited = True
        elif act.kind == "rotate at once":
            self._rotates_at_once = True
        elif act.kind == "restart book":
            self.audience.restart_book()
        elif act.kind == "generator exit":
            self._leave_once()
        elif act.kind == "cancel":
            for task in asyncio.all_tasks():
                if task.get_name().startswith("rxws"):
                    task.cancel()
        else:
            self._venue.act(act)

    async def _subscribe(self, channel: str) -> None:
        """Subscribe a channel; without the setting ``overlaps``, not while a rotation runs or could begin."""
        if self._settings.send_limit and self._rotates and not self._settings.overlaps:
            return
        deadline = self._loop.time() + 10.0
        while not self._settings.overlaps and self._loop.time() < deadline:
            states = {self.feed.state.value, *(shard.state for shard in self.feed.statistics().shards)}
            if rxws.State.ROTATING not in states:
                break
            await asyncio.sleep(0.05)
        self.audience.want(channel)

    @property
    def _rotates(self) -> bool:
        return bool(self._settings.rotate_every) or any(act.kind in ROTATING for act in self._schedule.acts)

    @property
    def _makes_before_break(self) -> bool:
        return self._settings.handover_timeout > 0

    def _rotate(self, *, is_at_once: bool = False) -> None:
        if self.feed.state.value.is_final:
            return
        lines = [line.record for line in self._venue.lines]
        is_open = [line for line in lines if line.ended_at is None]
        ended = max((line.ended_at for line in lines if line.ended_at is not None), default=-1.0)
        flowing = len(is_open) == 1 and self._delivered_at > max(is_open[0].opened_at, ended + self._settings.reach)
        state = self.feed.state.value
        # A rotate() call during a rotation returns the result of that rotation.
        is_rotating = state is rxws.State.ROTATING or (state is rxws.State.CONNECTING and not self._makes_before_break)
        is_rotating = is_rotating or any(each.result is None for each in self.evidence.rotate_calls)
        flowing = flowing and not is_rotating
        if flowing and state is rxws.State.CONNECTING and not is_at_once:
            # Only the ingredient "rotations at once" calls rotate() at this moment.
            return
        call = RotateCall(self._loop.time(), is_open[0].number if flowing else None)
        self.evidence.rotate_calls.append(call)
        self.feed.rotate().add_done_callback(lambda done: self._rotated(call, done))

    def _rotated(self, call: RotateCall, done: asyncio.Future[bool]) -> None:
        call.result = False if done.cancelled() or done.exception() is not None else done.result()
        call.newest = len(self._venue.lines)
        call.returned_at, call.has_ended = self._loop.time(), self._is_ending or self.feed.state.value.is_final

    def _leave_once(self) -> None:
        def leave(_message: Any) -> None:
            handler.dispose()
            raise GeneratorExit

        handler = self.feed.add_handler(leave)
