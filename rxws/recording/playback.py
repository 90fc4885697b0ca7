"""A feed without connections: its frames, events and states are played from a recording."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, TypeVar
from weakref import WeakSet

from ..callables import is_plain_function, name_of
from ..connections import Connection
from ..errors import RxwsError
from ..feed import FEED_FACTORY, Feed, Hooks
from ..interface import AsyncWebsocketStreamInterface, feed_of
from ..messages import DirectSink, Frame, Frames, Inbound, Many, Reader
from ..observables import LoopContext
from ..options import Options
from ..reporting import EXITS, Connected, Disconnected, Event, Gap, Reporter, Rotated, State, redact
from ..sending import Channel
from ..streams import ALWAYS_AVAILABLE, Availability, Stream, StreamOptions
from .clock import RecordedClock
from .consumers import Consumers
from .moments import Moment

__all__ = ["Script", "check_feed", "play"]

FeedT = TypeVar("FeedT", bound=AsyncWebsocketStreamInterface[Any])

MOST_GAPS: Final = 1_000
"""The largest number of the parse hook's Gaps that wait for their recorded events. They wait in vain if the feed was
recorded with another hook."""

SLICE: Final = 0.010
"""Seconds for which frames may be played without a pause for other tasks."""


@dataclass(frozen=True, slots=True)
class Script:
    """The content of a replay.

    Attributes:
        name: the name of the recorded feed.
        epoch: when the recording started.
        moments: the frames, events and states, in the order of their times.
        close: called when no more moments are needed.
    """

    name: str
    epoch: datetime
    moments: Iterator[Moment]
    close: Callable[[], None]


def check_feed(make: Callable[[], object]) -> None:
    """Raise TypeError unless ``make`` can be called without arguments to make a feed."""
    expected = "feed must be a function that makes a feed, or a feed's class"
    if not is_plain_function(make):
        raise TypeError(f"{expected}, not {make!r}")
    # Functions written in C may have no signature.
    with contextlib.suppress(ValueError):
        signature = inspect.signature(make)
        try:
            signature.bind()
        except TypeError as error:
            name = name_of(make)
            raise TypeError(
                f"{expected}; {name} cannot be called without arguments ({error}): pass feed=lambda: {name}(...)"
            ) from None


def play(script: Script, speed: float, make: Callable[[], FeedT]) -> FeedT:
    """Make a feed whose frames come from a script.

    Args:
        script: the content.
        speed: the speed, as a factor.
        make: makes the feed. Its hooks for opening, rotating and answering connections are not called.

    Raises:
        TypeError: ``make`` made no feed.
    """
    token = FEED_FACTORY.set(lambda hooks, options, kind: PlayedFeed(hooks, options, kind, script, speed))
    try:
        ws = make()
    finally:
        FEED_FACTORY.reset(token)
    if not isinstance(ws, AsyncWebsocketStreamInterface) or getattr(feed_of(ws), "script", None) is not script:
        raise TypeError(f"feed must be a function that makes a feed, or a feed's class; it returned {ws!r}")
    return ws


def _answer(_answer: Any) -> None:
    """Takes the place of the function that sends replies, which a replay never calls."""
    raise AssertionError


class _RecordedReporter(Reporter):
    """Reports events with the time of the recording."""

    clock: RecordedClock

    def now(self) -> float:
        return self.clock.epoch.timestamp() + self.clock.time()


@dataclass(frozen=True)
class _Unconnected:
    """The membership of a replayed stream in its channel, which nothing subscribes."""

    feed: str

    def renew(self) -> None:
        """Raise RxwsError: there is no connection."""
        raise RxwsError(f"{self.feed} is a replay: there is no connection to subscribe on")

    async def wait_subscribed(self) -> None:
        """Raise RxwsError: there is no connection."""
        self.renew()


class PlayedFeed(Feed):
    """A feed whose frames come from a script."""

    def __init__(self, hooks: Hooks, options: Options, kind: str, script: Script, speed: float) -> None:
        self.script: Final = script
        self._speed = speed
        # A replay has no connection on which to send replies.
        super().__init__(replace(hooks, reply=None), options, kind)

    def _make_context(self, name: str) -> LoopContext:
        reporter = _RecordedReporter(self.loop, self.options.name or self.script.name)
        reporter.clock = self.clock = RecordedClock(self.loop, self._speed, self.script.epoch)
        return LoopContext(self.loop, reporter, self.clock, WeakSet())

    def _make_source(self) -> Playback:
        return Playback(self, self.script)

    def _make_availability(self) -> Availability:
        # Recorded frames are delivered in any recorded state.
        return ALWAYS_AVAILABLE

    async def wait_connected(self) -> None:
        """Return when the replay has reached a live state."""
        self.check_open()
        while not self.state.value.is_live:
            await self.live_or_ended.wait()
            self.check_open()

    async def send(self, message: Any, chosen: Callable[[Connection], object] | None = None) -> None:
        """Raise RxwsError: there is no connection."""
        raise RxwsError(f"{self.reporter.name} is a replay: there is no connection to send on")

    def multiplex(self, channel: Channel, filters: object, options: StreamOptions) -> Stream[Any]:
        """Make a stream of a channel, which nothing subscribes. No server answers."""
        if channel.filters_from is not None:
            raise RxwsError(f"{self.reporter.name} is a replay: filters_from needs the answers of a server")
        stream = super().multiplex(channel, filters, options)
        stream.member = _Unconnected(self.reporter.name)
        return stream

    def enter(self, state: State) -> None:
        """Enter ``state``.

        Any state may follow any state that is not final. Bad lines and new sessions cause transitions that do not occur
        in a live feed.
        """
        if state is self.state.value:
            return
        self._set_state(state)

    def played(self, error: BaseException | None) -> None:
        """End as after ``exit()``, or fail because the script could not be read completely."""
        if self.is_closing:
            return
        if error is not None and isinstance(error, (asyncio.CancelledError, *EXITS)):
            # Do this without a new task. If the program cancels all tasks, as asyncio.run does, it would not await the
            # task.
            self.failed(error)
            return
        if isinstance(error, Exception):
            self.error = error
            self.reporter.log(logging.ERROR, "failed: %s", redact(repr(error)))
        self._closing.begin()


class Playback:
    """Plays a script. In the feed it takes the place of the rotation and its connections."""

    def __init__(self, feed: PlayedFeed, script: Script) -> None:
        self.last_received_at: float | None = None
        self.last_delivery_time: float | None = None
        self.connections: list[Connection] = []
        self._feed = feed
        self._script = script
        self._loop = feed.loop
        self._clock = feed.clock
        self._reporter = feed.reporter
        self._router = feed.router
        self._dispatcher = feed.dispatcher
        self._received = 0
        self._number = 0
        self._kept: tuple[bool, ...] | None = None
        self._parsers: dict[int, Callable[[Frame], Any]] = {}
        self._deliverers: dict[int, DirectSink] = {}
        # The reason of the last loss, until there is a connection again.
        self._lost: str | None = None
        # The gaps that the parse hook has returned, and whose recorded events have not been played yet.
        self._parsed_gaps: deque[tuple[float, float]] = deque(maxlen=MOST_GAPS)
        assert feed.context.consumers is not None
        self._consumers = Consumers(self._loop, feed.context.consumers)
        # Let other tasks run after this total number of messages, or at this time of the loop's clock.
        self._pauses_at = 1
        self._slice_end = math.inf
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    # For the feed

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks to await after :meth:`stop`."""
        return [] if self._task is None or self._task.done() else [self._task]

    def start(self) -> None:
        """Play the script in a task. The feed ends with this task."""
        self._task = self._loop.create_task(self._play(), name="rxws replay")
        self._task.add_done_callback(self._finished)

    def stop(self) -> None:
        """Stop playing. Idempotent."""
        if self._stopped:
            return
        self._stopped = True
        self._script.close()
        if self.tasks:
            self.tasks[0].cancel()
        else:
            self._clock.run_on()

    def statistics(self) -> dict[str, Any]:
        """Return no fields, because there are no lines."""
        return {}

    def rotate(self) -> asyncio.Future[bool]:
        """Raise RxwsError: there is no connection to rotate."""
        raise RxwsError(f"{self._reporter.name} is a replay: there is no connection to rotate")

    def _finished(self, task: asyncio.Task[None]) -> None:
        if self._stopped:
            self._clock.run_on()
        else:
            self._feed.played(asyncio.CancelledError() if task.cancelled() else task.exception())

    # Playing

    async def _play(self) -> None:
        self._clock.start()
        inbound = Inbound(0, self._reporter, answer=_answer, has_ended=lambda: False)
        inbound.deliver(self._deliver)
        frames = Frames(deque(), self._next, self._script.close)
        await Reader(inbound, lambda: frames, self._dispatcher, self._parse).read()
        await self._consumers.until_handled()

    def _parse(self, raw: Frame) -> Any:
        parse = self._parsers.get(self._number)
        if parse is None:
            parse = self._parsers[self._number] = self._dispatcher.hooks.create_parser()
        return parse(raw)

    async def _next(self) -> Frame:
        """Wait until the next frame is due, and return it. Play the events and states before it."""
        counters, clock = self._reporter.counters, self._loop.time
        if counters.messages >= self._pauses_at or clock() >= self._slice_end:
            self._pauses_at = counters.messages + await self._consumers.until_there_is_room()
            self._slice_end = clock() + SLICE
        for when, what in self._script.moments:
            while not self._clock.reach(when):
                await self._clock.wait(when)
            if type(what) is tuple:
                raw: Frame
                raw, self._received, self._number, self._kept = what
                self.last_received_at = clock()
                self.last_delivery_time = self._received / 1e9
                return raw
            if isinstance(what, State):
                self._enter(what)
            elif what is not None:
                self._happen(what)
        raise StopAsyncIteration

    def _deliver(self, raw: Frame, message: Any, _: int) -> None:
        deliver = self._deliverers.get(self._number)
        if deliver is None:
            inbound = Inbound(self._number, self._reporter, answer=_answer, has_ended=lambda: False)
            deliver = self._deliverers[self._number] = self._dispatcher.direct_sink(inbound)
        if type(message) is Many:
            self._parsed_gaps.extend((item.start, item.end) for item in message if type(item) is Gap)
        # Use the recorded time of receipt, not the time of the replay.
        received = self._received if self._dispatcher.frames.subscriptions else 0
        # The number of messages differs if the replay parses frames in another way than the recorded feed did.
        if self._kept is not None and type(message) is Many and len(message) == len(self._kept):
            self._dispatcher.deliver_kept(deliver, raw, message, self._kept, received)
        else:
            deliver(raw, message, received)

    def _enter(self, state: State) -> None:
        # The replay enters the final state itself.
        if not state.is_final:
            self._feed.enter(state)
        if state.is_live:
            # The recording began later than the connection.
            self._feed.ledger.began(self._reporter.now())

    def _reconnected(self, reason: str | None) -> None:
        if reason not in (None, "rotation"):
            reconnects = self._reporter.counters.reconnects
            reconnects[reason] = reconnects.get(reason, 0) + 1

    def _happen(self, event: Event) -> None:
        reporter = self._reporter
        counters = reporter.counters
        match event:
            case Connected():
                counters.opened += 1
                self._reconnected(self._lost)
                self._lost = None
            case Disconnected(number=int(), reason=reason):
                self._lost = reason
            case Rotated():
                counters.rotations += 1
                counters.duplicates += event.duplicates
                counters.discarded += event.discarded
            case Gap():
                if event.reason == "source" and (event.start, event.end) in self._parsed_gaps:
                    # The parse hook has already returned this Gap, from the recorded frame.
                    self._parsed_gaps.remove((event.start, event.end))
                    return
                counters.gaps += 1
                if event.reason == "recording":
                    self._reconnected("recording")
                    self._feed.ledger.heard(self.last_delivery_time)
                # The event in the file has no message. The message is that of the last frame.
                event = replace(event, last_message=self._router.last_message)
        event = replace(event, name=reporter.name)
        reporter.publish(event)
        if isinstance(event, Gap):
            self._router.announce(event)
