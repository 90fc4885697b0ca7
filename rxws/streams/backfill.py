"""The messages of a stream, and those that the feed has missed, which a history supplies."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from reactivex import Observable, abc

from ..callables import name_of
from ..checks import check_count, check_seconds
from ..delays import default_delays
from ..messages.filters import Filter
from ..observables.hot import HotObservable, Subscription
from ..observables.loop_context import LoopContext
from ..observables.observable import AsyncObservable, Scheduler
from ..reporting.cancellation import FAILURES, is_being_cancelled
from ..reporting.events import Gap, Overflowed
from .availability import Availability
from .history import History, pages_of
from .holes import Delivered, HoleTracker, Lost
from .sequence import HELD_MAX

__all__ = ["Backfilled", "Filling", "NumberedSource", "Numbering"]

T = TypeVar("T")

#: Seconds after a Gap at which the history is asked for a key for which no message arrived.
DUE_AFTER: Final = 1.0

#: The longest delay between two requests for one hole, in seconds: messages wait meanwhile.
DELAY_MAX: Final = 5.0

#: The number of pages of a history in a row without a new message after which it fails: it may never end.
USELESS_MAX: Final = 100

#: The largest number of bytes of the messages that are held while the history is asked, estimated by the mean size of
#: the feed's frames.
HELD_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class NumberedSource(Generic[T]):
    """A stream of numbered messages.

    Attributes:
        messages: the messages.
        gaps: the gaps of the stream.
        availability: whether messages can arrive at present.
        name: the name of the stream in reports.
        passes: the filter of the stream.
    """

    messages: Observable[T]
    gaps: Observable[Gap]
    availability: Availability
    name: str
    passes: Filter


@dataclass(frozen=True, slots=True)
class Numbering:
    """How messages are numbered.

    Attributes:
        range_of: returns the first and the last number of a message.
        key_of: returns the key of a message, each of which has its own numbers; None: there is one sequence.
        identity: what makes two messages with the same number the same; None: the messages are equal.
    """

    range_of: Callable[[Any], tuple[int, int]]
    key_of: Callable[[Any], Hashable] | None
    identity: Callable[[Any], Hashable] | None


@dataclass(frozen=True, slots=True)
class Filling:
    """How holes are filled: the arguments of ``stream.backfill``, checked.

    Raises:
        TypeError, ValueError: as ``stream.backfill`` does.
    """

    history: History
    contiguous: bool
    timeout: float
    concurrency: int

    def __post_init__(self) -> None:
        if not callable(self.history):
            raise TypeError(f"history must be a function that returns past messages, not {self.history!r}")
        if not isinstance(self.contiguous, bool):
            raise TypeError(f"contiguous must be True or False, not {self.contiguous!r}")
        check_seconds("timeout", self.timeout, zero=False)
        check_count("concurrency", self.concurrency)


@dataclass(frozen=True, slots=True)
class _End:
    error: Exception | None


class Backfilled(AsyncObservable[T | Gap], Generic[T]):
    """The result of ``stream.backfill``: all messages in order, and a ``Gap`` where the history lacks some.

    Attributes:
        in_sync: whether all subscribers have got all messages so far; False without a subscriber, and while the feed
            has no connection on which the stream is subscribed.
    """

    def __init__(self, context: LoopContext, source: NumberedSource[T], numbering: Numbering, filling: Filling) -> None:
        super().__init__(context)
        self._numbered: Final = source
        self._numbering: Final = numbering
        self._filling: Final = filling
        self._sessions: Final[set[_Session]] = set()

    @property
    def in_sync(self) -> bool:
        """Whether all subscribers have got all messages so far. May be read in any thread.

        False without a subscriber, while messages are missing or may be missing, and while no messages can arrive.
        """
        # Another thread may read this property, so copy the set, which happens in one step.
        sessions = (*self._sessions,)
        return bool(sessions) and self._numbered.availability.is_available() and all(each.in_sync for each in sessions)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._context.reporter.name}: {'' if self.in_sync else 'not '}in sync>"

    def _attach(self, on_next: Any, on_error: Any, on_completed: Any, scheduler: Scheduler) -> abc.DisposableBase:
        session = _Session(self)
        subscription = session._attach(on_next, on_error, on_completed, scheduler)
        self._sessions.add(session)
        session.start()
        return subscription


class _Session(HotObservable[Any]):
    """The items of one subscriber, and the tasks that fetch missing messages, at most one for each key."""

    def __init__(self, backfilled: Backfilled[Any]) -> None:
        super().__init__(backfilled._context)
        # This is not named `_source`, because an AsyncObservable subscribes to its `_source`.
        self._numbered = backfilled._numbered
        self._numbering = backfilled._numbering
        self._filling = backfilled._filling
        self._on_stopped = backfilled._sessions.discard
        self._delivered = Delivered(self._numbering.identity)
        self._trackers: dict[Hashable, HoleTracker] = {}
        self._slots = asyncio.Semaphore(self._filling.concurrency)
        self._tasks: dict[Hashable, asyncio.Task[None]] = {}
        self._watch: asyncio.Task[None] | None = None
        self._subscriptions: list[abc.DisposableBase] = []
        # Whether the last message had no readable number or key.
        self._is_unreadable = False
        # The items to deliver, and whether one is being delivered: its subscriber may cause further items, or the end.
        self._queue: deque[Any] = deque()
        self._is_delivering = False
        if self._numbering.key_of is None:
            self._track(None)

    @property
    def in_sync(self) -> bool:
        """Whether no message is missing, and none may be missing."""
        trackers = (*self._trackers.values(),)
        return not self._queue and all(each.in_sync and not each.is_suspect for each in trackers)

    def start(self) -> None:
        # A source that has ended ends this session while it subscribes, and `_stop` cancels the task.
        self._look_soon()
        self._subscriptions.append(self._numbered.gaps.subscribe(self._lose))
        self._subscriptions.append(self._numbered.messages.subscribe(self._take, self.end, self.end))

    def remove(self, subscription: Subscription[Any]) -> None:
        super().remove(subscription)
        self._stop()

    def end(self, error: Exception | None = None) -> None:
        self._stop()
        # Deliver the held messages, because the feed does not wait for the history.
        for tracker in self._trackers.values():
            while not tracker.in_sync:
                self._queue.extend(tracker.give_up())
        self._queue.append(_End(error))
        self._deliver([])

    def _stop(self) -> None:
        self._on_stopped(self)
        for subscription in self._subscriptions:
            subscription.dispose()
        for task in filter(None, (self._watch, *self._tasks.values())):
            task.cancel()

    def _track(self, key: Hashable) -> HoleTracker:
        """Begin to track the numbers of a key."""
        tracker = HoleTracker(self._numbering.range_of, self._filling.contiguous, key, self._delivered)
        self._trackers[key] = tracker
        return tracker

    # Live messages

    def _lose(self, gap: Gap) -> None:
        for tracker in self._trackers.values():
            tracker.lose(gap)
        self._look_soon()

    def _look_soon(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self._context.loop.create_task(self._look(), name="rxws backfill")

    async def _look(self) -> None:
        """Fill the holes of keys for which no message arrived soon after a Gap."""
        await self._numbered.availability.wait_available()
        await asyncio.sleep(DUE_AFTER)
        for key, tracker in [*self._trackers.items()]:
            if tracker.is_due and tracker.in_sync:
                tracker.open()
                self._fill(key, tracker)

    def _take(self, message: Any) -> None:
        if isinstance(message, Gap):
            # The stream was made with gaps=True. `_lose` has already handled this gap.
            return
        key_of, reporter = self._numbering.key_of, self._context.reporter
        try:
            key = None if key_of is None else key_of(message)
            tracker = self._trackers.get(key) or self._track(key)
            dropped = tracker.dropped
            items = tracker.apply(message)
            self._is_unreadable = False
        except FAILURES as error:
            # A wrong `sequence` fails for every message, so report only the first failure in a row.
            if self._is_unreadable:
                reporter.counters.failures += 1
            else:
                reporter.failed(f"sequence or key of backfill for {self._numbered.name}", message, error)
            self._is_unreadable = True
            # Its place is unknown. It arrived live, so it is delivered live.
            items = [message]
        else:
            if not tracker.in_sync:
                self._fill(key, tracker)
                self._bound(tracker)
                if tracker.dropped and not dropped:
                    self._overflowed(key, tracker)
        self._deliver(items)

    def _bound(self, tracker: HoleTracker) -> None:
        """Limit the messages that a key holds. All keys with a hole share the limit."""
        counters = self._context.reporter.counters
        most = min(HELD_MAX, HELD_BYTES * max(1, counters.messages) // max(1, counters.bytes))
        tracker.held_max = max(1, most // max(1, len(self._tasks)))

    def _overflowed(self, key: Hashable, tracker: HoleTracker) -> None:
        reporter = self._context.reporter
        line = "backfill holds %d messages of the key %r: later ones are dropped, and fetched afterwards"
        reporter.log(logging.WARNING, line, tracker.held_max, key, about=key)
        reporter.emit(Overflowed, consumer="backfill", overflow="drop_newest", dropped=tracker.dropped)

    def _deliver(self, items: list[Any]) -> None:
        queue = self._queue
        queue.extend(items)
        if self._is_delivering:
            return
        self._is_delivering = True
        try:
            while queue:
                item = queue.popleft()
                if type(item) is _End:
                    super().end(item.error)
                else:
                    self.on_next(self._gap(item.gap) if type(item) is Lost else item)
        finally:
            self._is_delivering = False

    def _gap(self, gap: Gap | None) -> Gap:
        reporter = self._context.reporter
        now = reporter.now()
        start, end, last = (now, now, None) if gap is None else (gap.start, gap.end, gap.last_message)
        return Gap(name=reporter.name, time=now, start=start, end=end, reason="history", last_message=last)

    # The history

    def _fill(self, key: Hashable, tracker: HoleTracker) -> None:
        # A failure or a message was passed to the user's code before, which may have disposed of the subscription.
        if self.observed and key not in self._tasks:
            task = self._tasks[key] = self._context.loop.create_task(self._until_in_sync(key, tracker))
            task.set_name(f"rxws backfill {key!r}")

    async def _until_in_sync(self, key: Hashable, tracker: HoleTracker) -> None:
        name = f"{name_of(self._filling.history)} for {self._numbered.name}"
        if self._numbering.key_of is not None:
            name = f"{name}, key {key!r}"
        try:
            while not tracker.in_sync:
                try:
                    async with asyncio.timeout(self._filling.timeout), self._slots:
                        await self._attempts(key, tracker, name)
                except TimeoutError:
                    after, before = tracker.bounds
                    error = LookupError(f"the history lacks messages after {after} and before {before}")
                    self._context.reporter.failed(name, None, error, "; a Gap is in their place")
                    self._deliver(tracker.give_up())
        finally:
            del self._tasks[key]
        if tracker.is_due:
            # There was another Gap, and no message has arrived since.
            self._look_soon()

    async def _attempts(self, key: Hashable, tracker: HoleTracker, name: str) -> None:
        """Ask the history until the hole is filled."""
        delays = (min(delay, DELAY_MAX) for delay in default_delays())
        delay = next(delays)
        # Live messages may begin another hole when this one is filled.
        hole = tracker.holes
        while not tracker.in_sync and tracker.holes == hole:
            await asyncio.sleep(delay)
            delay = next(delays)
            try:
                await self._ask(key, tracker)
            except FAILURES as error:
                if is_being_cancelled(error):
                    raise
                self._context.reporter.failed(name, None, error, f"; next try in {delay:.1f} s")
            self._deliver(tracker.settle())

    async def _ask(self, key: Hashable, tracker: HoleTracker) -> None:
        after, before = tracker.begin()
        passes, key_of = self._numbered.passes, self._numbering.key_of
        useless, progress = 0, tracker.progress
        async for page in pages_of(self._filling.history(*(() if key_of is None else (key,)), after, before)):
            for message in page:
                if passes(message) and (key_of is None or key_of(message) == key):
                    self._deliver(tracker.fill(message))
            useless, progress = useless + 1 if tracker.progress == progress else 0, tracker.progress
            if tracker.is_filled:
                return
            if useless >= USELESS_MAX:
                raise LookupError(f"{useless} pages of the history in a row have no new message")
            # A history that never ends must not keep the loop from running anything else.
            await asyncio.sleep(0)
