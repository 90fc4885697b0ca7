"""A feed without connections: what comes, and what happens to it, is played from a recording."""

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
from ..messages import Frame, Frames, Inbound, Many, Reader, Sink
from ..observables import LoopContext
from ..options import Options
from ..reporting import EXITS, Connected, Event, Gap, Reporter, Rotated, State, redact
from ..streams import ALWAYS_AVAILABLE, Availability
from .clock import RecordedClock
from .consumers import Consumers
from .moments import Moment

__all__ = ["Script", "check_feed", "play"]

FeedT = TypeVar("FeedT", bound=AsyncWebsocketStreamInterface[Any])

SLICE: Final = 0.010
"""Seconds for which frames may be played one after the other before other tasks get their turn."""


@dataclass(frozen=True, slots=True)
class Script:
    """What is played.

    Attributes:
        name: of the feed that was recorded.
        epoch: when it began.
        moments: in the order of their times.
        close: called when no more of them are wanted.
    """

    name: str
    epoch: datetime
    moments: Iterator[Moment]
    close: Callable[[], None]


def check_feed(make: Callable[[], object]) -> None:
    """Raise a TypeError unless a feed may be had of ``make`` by a call without arguments."""
    expected = "feed must be a function that makes a feed, or a feed's class"
    if not is_plain_function(make):
        raise TypeError(f"{expected}, not {make!r}")
    # Of what is written in C nobody knows what it takes.
    with contextlib.suppress(ValueError):
        signature = inspect.signature(make)
        try:
            signature.bind()
        except TypeError as error:
            name = name_of(make)
            raise TypeError(
                f"{expected}; {name} cannot be called without arguments ({error}): give feed=lambda: {name}(...)"
            ) from None


def play(script: Script, speed: float, make: Callable[[], FeedT]) -> FeedT:
    """Make a feed whose frames come from a script.

    Args:
        script: what comes.
        speed: how many times as fast as it is written.
        make: makes the feed; its hooks that open, rotate and answer connections are not called.

    Raises:
        TypeError: ``make`` made no feed.
    """
    token = FEED_FACTORY.set(lambda hooks, options, kind: PlayedFeed(hooks, options, kind, script, speed))
    try:
        ws = make()
    finally:
        FEED_FACTORY.reset(token)
    if not isinstance(ws, AsyncWebsocketStreamInterface) or getattr(feed_of(ws), "script", None) is not script:
        raise TypeError(f"feed must be a function that makes a feed, or a feed's class; it gave {ws!r}")
    return ws


def _answer(_answer: Any) -> None:
    """Stand for the connection that a reply would go to: a replay calls no reply hook."""
    raise AssertionError


class _RecordedReporter(Reporter):
    """Tells when something happened by the clock of the recording."""

    clock: RecordedClock

    def now(self) -> float:
        return self.clock.epoch.timestamp() + self.clock.time()


class PlayedFeed(Feed):
    """A feed whose frames come from a script."""

    def __init__(self, hooks: Hooks, options: Options, kind: str, script: Script, speed: float) -> None:
        self.script: Final = script
        self._speed = speed
        # Nobody is there to be answered.
        super().__init__(replace(hooks, reply=None), options, kind)

    def _make_context(self, name: str) -> LoopContext:
        reporter = _RecordedReporter(self.loop, self.options.name or self.script.name)
        reporter.clock = self.clock = RecordedClock(self.loop, self._speed, self.script.epoch)
        return LoopContext.of(self.loop, reporter, self.clock, WeakSet())

    def _make_source(self) -> Playback:
        return Playback(self, self.script)

    def _make_availability(self) -> Availability:
        # What was recorded comes, whatever the state was that is told beside it.
        return ALWAYS_AVAILABLE

    async def wait_connected(self) -> None:
        """Wait until a connection was live; there is none to be had."""
        self.check_open()
        while not self.state.value.is_live:
            await self.live_or_ended.wait()
            self.check_open()

    async def send(self, message: Any, chosen: Callable[[Connection], object] | None = None) -> None:
        """Raise: nobody is there."""
        raise RxwsError(f"{self.reporter.name} is a replay: there is no connection to send on")

    def enter(self, state: State) -> None:
        """Be in ``state`` from now on.

        Any state may follow any but the final ones: where a line is bad, or one session ends and the next begins, the
        recording goes ways that no connection goes.
        """
        if state is self.state.value:
            return
        self._set_state(state)

    def played(self, error: BaseException | None) -> None:
        """End, as after ``exit()``; or fail, because the script could not be read to its end."""
        if self.is_closing:
            return
        if error is not None and isinstance(error, (asyncio.CancelledError, *EXITS)):
            # Not in a new task: where the program cancels all tasks, as asyncio.run does, it would not be awaited.
            self._cut_off(error)
            return
        if isinstance(error, Exception):
            self.error = error
            self.reporter.log(logging.ERROR, "failed: %s", redact(repr(error)))
        self._closing.begin()


class Playback:
    """Plays a script: what stands in a feed for its rotating connections."""

    def __init__(self, feed: PlayedFeed, script: Script) -> None:
        self.last_received_at: float | None = None
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
        self._deliverers: dict[int, Sink] = {}
        assert feed.context.consumers is not None
        self._consumers = Consumers(self._loop, feed.context.consumers)
        # After so many messages, or at this time of the loop's clock, others have their turn.
        self._pauses_at = 1
        self._slice_end = math.inf
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    # What a feed asks for

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """What must come to its end after :meth:`stop`."""
        return [] if self._task is None or self._task.done() else [self._task]

    def start(self) -> None:
        """Play."""
        self._task = self._loop.create_task(self._play(), name="rxws replay")
        self._task.add_done_callback(self._finished)

    def stop(self) -> None:
        """Play no more. Idempotent."""
        if self._stopped:
            return
        self._stopped = True
        self._script.close()
        if self.tasks:
            self.tasks[0].cancel()
        else:
            self._clock.run_on()

    def rotate(self) -> asyncio.Future[bool]:
        """Raise: there is nothing to rotate."""
        raise RxwsError(f"{self._reporter.name} is a replay: there is no connection to rotate")

    def _finished(self, task: asyncio.Task[None]) -> None:
        if self._stopped:
            self._clock.run_on()
        else:
            self._feed.played(asyncio.CancelledError() if task.cancelled() else task.exception())

    # Playing

    async def _play(self) -> None:
        self._clock.start()
        inbound = Inbound(0, self._loop, self._reporter, answer=_answer, has_ended=lambda: False)
        inbound.deliver(self._deliver)
        frames = Frames(deque(), self._next, self._script.close)
        await Reader(inbound, lambda: frames, self._dispatcher, self._router, self._reporter).read()
        await self._consumers.until_handled()

    async def _next(self) -> Frame:
        """Wait until the next frame is due; what happened before it happens."""
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
                return raw
            if isinstance(what, State):
                self._enter(what)
            elif what is not None:
                self._happen(what)
        raise StopAsyncIteration

    def _deliver(self, raw: Frame, message: Any, _: int) -> None:
        deliver = self._deliverers.get(self._number)
        if deliver is None:
            deliver = self._deliverers[self._number] = self._dispatcher.direct_sink(self._number)
        # In place of the time at which it is played, the one at which it was received.
        received = self._received if self._dispatcher.frames.subscriptions else 0
        # Of another number are those that are parsed otherwise than they were.
        if self._kept is not None and type(message) is Many and len(message) == len(self._kept):
            self._dispatcher.deliver_kept(deliver, raw, message, self._kept, received)
        else:
            deliver(raw, message, received)

    def _enter(self, state: State) -> None:
        # The replay has an end of its own.
        if not state.is_final:
            self._feed.enter(state)

    def _happen(self, event: Event) -> None:
        reporter = self._reporter
        counters = reporter.counters
        match event:
            case Connected():
                counters.opened += 1
            case Rotated():
                counters.rotations += 1
                counters.duplicates += event.duplicates
                counters.discarded += event.discarded
            case Gap():
                counters.gaps += 1
                if event.reason != "rotation":
                    counters.reconnects[event.reason] = counters.reconnects.get(event.reason, 0) + 1
                # The message itself is not in the recording, but in the frames.
                event = replace(event, last_message=self._router.last_message)
        event = replace(event, name=reporter.name)
        reporter.publish(event)
        if isinstance(event, Gap):
            self._router.announce(event)
