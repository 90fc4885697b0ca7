"""The messages of a stream, and those that the feed has missed, which a history supplies."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from ..callables import name_of
from ..checks import check_count, check_seconds
from ..delays import default_delays
from ..messages.filters import Filter
from ..observables.loop_context import LoopContext
from ..reporting.cancellation import FAILURES, is_being_cancelled
from ..reporting.events import Gap, Overflowed
from .history import History, Pages
from .holes import Delivered, HoleTracker, Lost
from .sequence import HELD_MAX
from .session import Session, Source, Synchronized

__all__ = ["Backfilled", "Filling", "HistorySession", "Numbering"]

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
class Numbering:
    """Which messages are numbered, and how.

    Attributes:
        passes: the filter of the stream.
        range_of: returns the first and the last number of a message.
        key_of: returns the key of a message, each of which has its own numbers; None: there is one sequence.
        identity: what makes two messages with the same number the same; None: the messages are equal.
    """

    passes: Filter
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


class Backfilled(Synchronized[T | Gap], Generic[T]):
    """The result of ``stream.backfill``: all messages in order, and a ``Gap`` where the history lacks some.

    Attributes:
        in_sync: whether all subscribers have got all messages so far; False without a subscriber, and while the feed
            has no connection on which the stream is subscribed.
    """

    def __init__(self, context: LoopContext, source: Source[Any], numbering: Numbering, filling: Filling) -> None:
        super().__init__(context, source, lambda: HistorySession(context, source, numbering, filling))


class HistorySession(Session):
    """A session that asks a history for missing messages, in at most one task for each key."""

    reads = "sequence or key of backfill"

    def __init__(self, context: LoopContext, source: Source[Any], numbering: Numbering, filling: Filling) -> None:
        super().__init__(context, source)
        self._numbering = numbering
        self._filling = filling
        self._delivered = Delivered(numbering.identity)
        self._trackers: dict[Hashable, HoleTracker] = {}
        self._pages = Pages(filling.concurrency, filling.timeout)
        # The keys whose holes are being filled.
        self._filled: set[Hashable] = set()
        self._watch: asyncio.Task[None] | None = None
        # The items to deliver, and whether one is being delivered: its subscriber may cause further items, or the end.
        self._queue: deque[Any] = deque()
        self._is_delivering = False
        if numbering.key_of is None:
            self._track(None)

    @property
    def in_sync(self) -> bool:
        """Whether no message is missing, and none may be missing."""
        trackers = (*self._trackers.values(),)
        return not self._queue and all(each.in_sync and not each.is_suspect for each in trackers)

    def start(self) -> None:
        """Begin to look for holes and to take messages."""
        self._look_soon()
        super().start()

    def end(self, error: Exception | None = None) -> None:
        """Stop, and end the sequence of the subscriber after the held messages."""
        self._stop()
        # Deliver the held messages, because the feed does not wait for the history.
        for tracker in self._trackers.values():
            while not tracker.in_sync:
                self._queue.extend(tracker.give_up())
        self._queue.append(_End(error))
        self._deliver([])

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
        self._watch = self._run(self._look(), "rxws backfill")

    async def _look(self) -> None:
        """Fill the holes of keys for which no message arrived soon after a Gap."""
        await self._stream.availability.wait_available()
        await asyncio.sleep(DUE_AFTER)
        for key, tracker in [*self._trackers.items()]:
            if tracker.is_due and tracker.in_sync:
                tracker.open()
                self._fill(key, tracker)

    def _apply(self, message: Any) -> list[Any]:
        key_of = self._numbering.key_of
        key = None if key_of is None else key_of(message)
        tracker = self._trackers.get(key) or self._track(key)
        dropped = tracker.dropped
        items = tracker.apply(message)
        if not tracker.in_sync:
            self._fill(key, tracker)
            self._bound(tracker)
            if tracker.dropped and not dropped:
                self._overflowed(key, tracker)
        return items

    def _apply_unreadable(self, message: Any) -> list[Any]:
        # Its place is unknown. It arrived live, so it is delivered live.
        return [message]

    def _bound(self, tracker: HoleTracker) -> None:
        """Limit the messages that a key holds. All keys with a hole share the limit."""
        counters = self._context.reporter.counters
        most = min(HELD_MAX, HELD_BYTES * max(1, counters.messages) // max(1, counters.bytes))
        tracker.held_max = max(1, most // max(1, len(self._filled)))

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
        if self.observed and key not in self._filled:
            self._filled.add(key)
            self._run(self._until_in_sync(key, tracker), f"rxws backfill {key!r}")

    async def _until_in_sync(self, key: Hashable, tracker: HoleTracker) -> None:
        name = f"{name_of(self._filling.history)} for {self._stream.name}"
        if self._numbering.key_of is not None:
            name = f"{name}, key {key!r}"
        try:
            while not tracker.in_sync:
                try:
                    async with asyncio.timeout(self._filling.timeout):
                        await self._attempts(key, tracker, name)
                except TimeoutError:
                    after, before = tracker.bounds
                    text = f"the history lacks messages after {after} and before {before}"
                    if not tracker.was_asked:
                        text = f"the history was not asked in time: {len(self._filled)} keys wait (see concurrency=)"
                    error = LookupError(text)
                    self._context.reporter.failed(name, None, error, "; a Gap is in their place")
                    self._deliver(tracker.give_up())
        finally:
            self._filled.discard(key)
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
            delay, was_answered = next(delays), False
            try:
                await self._ask(key, tracker)
                was_answered = True
            except FAILURES as error:
                if is_being_cancelled(error):
                    raise
                self._context.reporter.failed(name, None, error, f"; next try in {delay:.1f} s")
            self._deliver(tracker.settle(was_answered=was_answered))

    async def _ask(self, key: Hashable, tracker: HoleTracker) -> None:
        passes, key_of = self._numbering.passes, self._numbering.key_of
        useless, progress = 0, tracker.progress
        keys = () if key_of is None else (key,)
        async for page in self._pages.of(lambda: self._filling.history(*keys, *tracker.begin())):
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
