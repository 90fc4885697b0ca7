"""The changes of a stream, with a snapshot at the start and after each loss."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from reactivex import Observable, abc

from ..callables import name_of
from ..delays import default_delays
from ..messages.fields import number_reader, range_reader
from ..observables.hot import HotObservable, Subscription
from ..observables.loop_context import LoopContext
from ..observables.observable import AsyncObservable, Scheduler
from ..reporting.cancellation import FAILURES, is_being_cancelled
from ..reporting.events import Gap, Overflowed
from ..reporting.quoting import quoted_body
from .availability import Availability
from .sequence import HELD_MAX, SequenceTracker, Snapshot

__all__ = ["ChangeSource", "Resynced"]

T = TypeVar("T")
S = TypeVar("S")

#: Seconds after which fetching a snapshot fails.
SNAPSHOT_TIMEOUT: Final = 10.0

#: After this number of seconds in sync, the delays between fetches start over. If numbers are missing again sooner, the
#: delays keep growing.
HEALTHY_AFTER: Final = 10.0


@dataclass(frozen=True, slots=True)
class ChangeSource(Generic[T]):
    """The source of changes.

    Attributes:
        changes: the changes.
        gaps: the gaps of the feed.
        availability: whether changes can come at present.
        name: the name of the source in reports.
    """

    changes: Observable[T]
    gaps: Observable[Gap]
    availability: Availability
    name: str


class Resynced(AsyncObservable[T | Snapshot[S]], Generic[T, S]):
    """The result of ``stream.resync``. Each subscriber gets a snapshot and the changes after it, again after each loss.

    Attributes:
        in_sync: whether all subscribers have got all changes; False without a subscriber, while the feed has no
            connection on which the changes are subscribed, and while it holds messages at the end of a rotation.
    """

    def __init__(
        self,
        context: LoopContext,
        source: ChangeSource[T],
        snapshot: Callable[[], Awaitable[S]],
        sequence: object,
        snapshot_sequence: object,
    ) -> None:
        super().__init__(context)
        if not callable(snapshot):
            raise TypeError(f"snapshot must be a coroutine function that fetches one, not {snapshot!r}")
        # This is not named `_source`, because an AsyncObservable subscribes to its `_source`.
        self._changes: Final = source
        self._snapshot: Final = snapshot
        # The name includes the source, because one function may fetch the snapshots of hundreds of streams.
        self._snapshot_name: Final = f"{name_of(snapshot)} for {source.name}"
        # Here a tuple is a pair of keys. For other arguments it is a path.
        self._range_of: Final = range_reader(sequence, "sequence", pairs=(list, tuple))
        self._number_of: Final = number_reader(snapshot_sequence, "snapshot_sequence")
        self._sessions: Final[set[_Session]] = set()

    @property
    def in_sync(self) -> bool:
        """Whether all subscribers have got all changes. May be read in any thread.

        False without a subscriber, while no changes can come because there is no connection, or because the changes are
        not subscribed on it, and while the feed holds messages at the end of a rotation.
        """
        # Another thread may read this property, so copy the set, which happens in one step.
        sessions = (*self._sessions,)
        return bool(sessions) and self._changes.availability.is_available() and all(each.in_sync for each in sessions)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._context.reporter.name}: {'' if self.in_sync else 'not '}in sync>"

    def _attach(self, on_next: Any, on_error: Any, on_completed: Any, scheduler: Scheduler) -> abc.DisposableBase:
        session = _Session(self)
        subscription = session._attach(on_next, on_error, on_completed, scheduler)
        self._sessions.add(session)
        session.start()
        return subscription


class _Session(HotObservable[Any]):
    """The items of one subscriber, and the task that fetches its snapshots."""

    def __init__(self, resynced: Resynced[Any, Any]) -> None:
        super().__init__(resynced._context)
        self.changes: Final[SequenceTracker[Any]] = SequenceTracker(resynced._range_of, resynced._number_of)
        self._resynced: Final = resynced
        self._subscriptions: list[abc.DisposableBase] = []
        self._fetching: asyncio.Task[None] | None = None
        # Whether further items follow the one that is being delivered.
        self._has_more = False
        # Whether the last message had no readable numbers.
        self._is_unreadable = False
        self._start_delays_over()
        self._in_sync_since = math.inf

    @property
    def in_sync(self) -> bool:
        """Whether all changes were delivered, including the one that is being delivered now."""
        return self.changes.in_sync and not self._has_more

    def start(self) -> None:
        # Fetch first: a source that has ended ends this session while it subscribes, and `_stop` cancels the fetch.
        self._fetch()
        source = self._resynced._changes
        self._subscriptions.append(source.gaps.subscribe(self._lose))
        self._subscriptions.append(source.changes.subscribe(self._take, self.end, self.end))

    def remove(self, subscription: Subscription[Any]) -> None:
        super().remove(subscription)
        self._stop()

    def end(self, error: Exception | None = None) -> None:
        self._stop()
        super().end(error)

    def _stop(self) -> None:
        self._resynced._sessions.discard(self)
        for subscription in self._subscriptions:
            subscription.dispose()
        # `start` fetches before it subscribes.
        assert self._fetching is not None
        self._fetching.cancel()

    def _start_delays_over(self) -> None:
        self._delays = default_delays()
        self._delay = next(self._delays)

    def _lose(self, gap: Gap) -> None:
        # Start the delays over, because reconnecting was delayed already.
        self._start_delays_over()
        self.changes.reset(gap.reason)
        self._fetch()

    def _take(self, message: Any) -> None:
        if isinstance(message, Gap):
            # The stream was made with gaps=True. `_lose` has already handled this gap.
            return
        dropped, reason, reporter = self.changes.dropped, self.changes.reason, self._context.reporter
        try:
            self._deliver(self.changes.apply(message))
            self._is_unreadable = False
        except FAILURES as error:
            # A `sequence` with wrong keys fails for every message, so report only the first failure in a row.
            if self._is_unreadable:
                reporter.counters.failures += 1
            else:
                reporter.failed(f"sequence of resync for {self._resynced._changes.name}", message, error)
            self._is_unreadable = True
            # The message may be a change, and without it the subscriber is not in sync.
            self.changes.reset("unreadable")
        if self.changes.dropped > dropped:
            reporter.counters.dropped += 1
            if reason != "overflow":
                # Report this once, because until a snapshot comes, each further change drops an older one.
                line = "resync holds %d changes and has no snapshot: the oldest are dropped"
                reporter.log(logging.WARNING, line, HELD_MAX)
                reporter.emit(Overflowed, consumer="resync", overflow="drop_oldest", dropped=self.changes.dropped)
        if not self.changes.in_sync:
            self._fetch()

    def _deliver(self, items: list[Any]) -> None:
        for left, item in enumerate(items, 1 - len(items)):
            self._has_more = left < 0
            self.on_next(item)

    def _fetch(self) -> None:
        # A failure or a message was passed to the user's code before, which may have disposed of the subscription.
        if self.observed and (self._fetching is None or self._fetching.done()):
            self._fetching = self._context.loop.create_task(self._until_in_sync(), name="rxws resync")

    async def _until_in_sync(self) -> None:
        resynced, now = self._resynced, self._context.loop.time
        if now() - self._in_sync_since >= HEALTHY_AFTER:
            self._start_delays_over()
        outdated = 0
        while not self.changes.in_sync:
            # A snapshot that is fetched before changes can come would be older than the first change.
            await resynced._changes.availability.wait_available()
            # The first delay is 0 and the next ones grow, to spare a server that lags.
            await asyncio.sleep(self._delay)
            self._delay = next(self._delays)
            losses, name = self.changes.losses, resynced._snapshot_name
            try:
                async with asyncio.timeout(SNAPSHOT_TIMEOUT):
                    data = await resynced._snapshot()
                name = f"snapshot_sequence of resync for {resynced._changes.name}"
                # If changes were lost during the fetch, refuse the snapshot: it may be older than the lost changes, or
                # the server may have made it before it restarted its count.
                delivered = self.changes.snapshot(data) if losses == self.changes.losses else None
            except FAILURES as error:
                if is_being_cancelled(error):
                    raise
                _quote_answer(error)
                self._failed(name, None, error)
                continue
            if delivered is not None:
                self._in_sync_since = now()
                self._deliver(delivered)
                continue
            # One outdated snapshot is normal. More in a row are reported, because no change is delivered meanwhile.
            outdated += 1
            if outdated > 1:
                late = LookupError(f"{outdated} snapshots in a row are older than the changes that were received")
                self._failed(resynced._snapshot_name, data, late)

    def _failed(self, name: str, data: Any, error: BaseException) -> None:
        self._context.reporter.failed(name, data, error, f"; next try in {self._delay:.1f} s")


def _quote_answer(error: BaseException) -> None:
    """Add the server's answer to an exception as a note, if the exception has the answer and does not quote it."""
    body = quoted_body(error)
    note = f"The server answered: {body}"
    # The snapshot function may raise one object repeatedly.
    if body and note not in getattr(error, "__notes__", ()):
        error.add_note(note)
