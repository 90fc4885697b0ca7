"""The sessions of ``stream.resync``: each obtains a snapshot whenever changes are missing."""

from __future__ import annotations

import asyncio
import logging
import math
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ..callables import name_of
from ..delays import default_delays
from ..observables.loop_context import LoopContext
from ..reporting.cancellation import FAILURES, is_being_cancelled
from ..reporting.events import Gap, Overflowed
from ..reporting.quoting import quoted_body
from .availability import ALWAYS_AVAILABLE
from .sequence import HELD_MAX, SnapshotTracker
from .session import Session, Source

__all__ = ["ChangeSource", "FeedSession", "FetchingSession", "SnapshotSession"]

#: Seconds after which fetching a snapshot fails, or waiting for one in the feed.
SNAPSHOT_TIMEOUT: Final = 10.0

#: After this number of seconds in sync, the delays between attempts start over. If numbers are missing again sooner,
#: the delays keep growing.
HEALTHY_AFTER: Final = 10.0

#: After this many snapshots in the feed without a change in between, their filter is reported, because it may be wrong.
SUSPICIOUS: Final = 100

#: The reasons of a ``Gap`` after which the subscription is the same, so that no snapshot follows.
SAME_SUBSCRIPTION: Final = frozenset({"source", "recording"})


@dataclass(eq=False, slots=True)
class ChangeSource(Source["SnapshotSession"]):
    """The stream of changes; also of the snapshots, if they arrive in the feed.

    Attributes:
        is_fresh: returns whether the first consumer of the changes also gets the snapshot of their subscription.
        resubscribe: subscribes the changes again, so that the server sends a snapshot.
        has_snapshot: clear while a snapshot must still arrive in the feed, because the changes were subscribed.
    """

    is_fresh: Callable[[], bool]
    resubscribe: Callable[[], object]
    has_snapshot: asyncio.Event = field(default_factory=asyncio.Event, init=False)


class SnapshotSession(Session):
    """A session that obtains a snapshot whenever changes are missing.

    Args:
        context: the feed's event loop, scheduler and reporter.
        source: the stream of changes.
        tracker: decides which changes follow which snapshot.
    """

    reads = "sequence of resync"

    def __init__(self, context: LoopContext, source: Source[Any], tracker: SnapshotTracker[Any]) -> None:
        super().__init__(context, source)
        self._tracker: Final = tracker
        self._synchronizing: asyncio.Task[None] | None = None
        # Whether further items follow the one that is being delivered.
        self._has_more = False
        self._start_delays_over()
        self._in_sync_since = math.inf

    @property
    def in_sync(self) -> bool:
        """Whether all changes were delivered, including the one that is being delivered now."""
        return self._tracker.in_sync and not self._has_more

    def start(self) -> None:
        """Begin to obtain a snapshot and to take changes."""
        self._synchronize()
        super().start()

    def restart(self, reason: str) -> None:
        """Note that changes are missing, so that another snapshot is needed. Do nothing if one is needed already."""
        if self._tracker.in_sync:
            self._tracker.reset(reason)
            self._synchronize()

    def _start_delays_over(self) -> None:
        self._delays = default_delays()
        self._delay = next(self._delays)

    # Changes

    def _lose(self, gap: Gap) -> None:
        # Start the delays over, because reconnecting was delayed already.
        self._start_delays_over()
        self._tracker.reset(gap.reason)
        self._synchronize()

    def _take(self, message: Any) -> None:
        dropped, reason, reporter = self._tracker.dropped, self._tracker.reason, self._context.reporter
        super()._take(message)
        if self._tracker.dropped > dropped:
            reporter.counters.dropped += 1
            if reason != "overflow":
                # Report this once, because until a snapshot arrives, each further change drops an older one.
                line = "resync holds %d changes and has no snapshot: the oldest are dropped"
                reporter.log(logging.WARNING, line, HELD_MAX)
                reporter.emit(Overflowed, consumer="resync", overflow="drop_oldest", dropped=self._tracker.dropped)
        if not self._tracker.in_sync:
            self._synchronize()

    def _apply(self, message: Any) -> list[Any]:
        return self._tracker.apply(message)

    def _apply_unreadable(self, message: Any) -> list[Any]:
        # The message may be a change, and without it the subscriber is not in sync.
        self._tracker.reset("unreadable")
        return []

    def _deliver(self, items: list[Any]) -> None:
        losses = self._tracker.losses
        for left, item in enumerate(items, 1 - len(items)):
            self._has_more = left < 0
            # The subscriber may have restarted with the last item. Then the others are useless.
            if self._tracker.losses == losses:
                self.on_next(item)

    # Snapshots

    def _synchronize(self) -> None:
        # A failure or a message was passed to the user's code before, which may have disposed of the subscription.
        if self.observed and (self._synchronizing is None or self._synchronizing.done()):
            self._synchronizing = self._run(self._until_in_sync(), "rxws resync")

    async def _until_in_sync(self) -> None:
        now = self._context.loop.time
        if now() - self._in_sync_since >= HEALTHY_AFTER:
            self._start_delays_over()
        while not self._tracker.in_sync:
            # A snapshot that is obtained before changes can arrive would be older than the first change.
            await self._stream.availability.wait_available()
            # The first delay is 0 and the next ones grow, to spare a server that lags.
            await asyncio.sleep(self._delay)
            self._delay = next(self._delays)
            # The server may have sent a snapshot during the delay.
            if not self._tracker.in_sync:
                await self._obtain()
        self._in_sync_since = now()

    @abstractmethod
    async def _obtain(self) -> None:
        """Try once to get a snapshot. Report a failure."""

    def _failed(self, name: str, data: Any, error: BaseException) -> None:
        self._context.reporter.failed(name, data, error, f"; next try in {self._delay:.1f} s")


class FetchingSession(SnapshotSession):
    """A session whose snapshots are fetched by a coroutine function, which is the last argument."""

    def __init__(
        self,
        context: LoopContext,
        source: Source[Any],
        tracker: SnapshotTracker[Any],
        fetch: Callable[[], Awaitable[Any]],
    ) -> None:
        super().__init__(context, source, tracker)
        self._fetch: Final = fetch
        # The number of outdated snapshots in a row.
        self._outdated = 0

    async def _obtain(self) -> None:
        # The name includes the source, because one function may fetch the snapshots of hundreds of streams.
        losses, fetch = self._tracker.losses, f"{name_of(self._fetch)} for {self._stream.name}"
        name = fetch
        try:
            async with asyncio.timeout(SNAPSHOT_TIMEOUT):
                data = await self._fetch()
            name = f"snapshot_sequence of resync for {self._stream.name}"
            # If changes were lost during the fetch, refuse the snapshot: it may be older than the lost changes, or the
            # server may have made it before it restarted its count.
            delivered = self._tracker.snapshot(data) if losses == self._tracker.losses else None
        except FAILURES as error:
            if is_being_cancelled(error):
                raise
            _quote_answer(error)
            self._failed(name, None, error)
            return
        if delivered is not None:
            self._outdated = 0
            self._deliver(delivered)
            return
        # One outdated snapshot is normal. More in a row are reported, because no change is delivered meanwhile.
        self._outdated += 1
        if self._outdated > 1:
            late = LookupError(f"{self._outdated} snapshots in a row are older than the changes that were received")
            self._failed(fetch, data, late)


class FeedSession(SnapshotSession):
    """A session whose snapshots arrive in the feed after each subscription. The last argument recognizes them."""

    def __init__(
        self,
        context: LoopContext,
        source: ChangeSource,
        tracker: SnapshotTracker[Any],
        is_snapshot: Callable[[Any], bool],
    ) -> None:
        super().__init__(context, source, tracker)
        self._changes: Final = source
        self._is_snapshot: Final = is_snapshot
        # The number of snapshots since the last change.
        self._in_row = 0

    def start(self) -> None:
        """Begin with the snapshot of the present subscription if it has not arrived yet."""
        if not (self._changes.sessions or self._changes.is_fresh()):
            self._changes.has_snapshot.set()
        super().start()

    def _lose(self, gap: Gap) -> None:
        if gap.reason == "user" and not self._tracker.in_sync:
            # This is the new subscription whose snapshot is awaited.
            return
        if gap.reason not in SAME_SUBSCRIPTION:
            self._changes.has_snapshot.clear()
            # Another connection may belong to another server, or to the same after a restart.
            self._tracker.forget()
        super()._lose(gap)

    def _apply(self, message: Any) -> list[Any]:
        if not self._is_snapshot(message):
            self._in_row = 0
            return super()._apply(message)
        self._changes.has_snapshot.set()
        self._in_row += 1
        if self._in_row == SUSPICIOUS:
            wide = ValueError(f"{SUSPICIOUS} snapshots in a row: the filter snapshot= must pass no change")
            self._context.reporter.failed(f"snapshot of resync for {self._stream.name}", message, wide)
        if self._tracker.in_sync:
            self._tracker.reason = "server"
        return self._tracker.snapshot(message) or []

    async def _obtain(self) -> None:
        source = self._changes
        # Nothing can be subscribed in a replay, which has no connection. Wait for the next snapshot of the recording.
        is_live = source.availability is not ALWAYS_AVAILABLE
        try:
            async with asyncio.timeout(SNAPSHOT_TIMEOUT if is_live else None):
                if source.has_snapshot.is_set():
                    # The other sessions wait for the same snapshot.
                    source.has_snapshot.clear()
                    if is_live:
                        source.resubscribe()
                await source.has_snapshot.wait()
        except FAILURES as error:
            if is_being_cancelled(error):
                raise
            if not source.availability.is_available():
                # The connection was lost meanwhile, and the next one delivers a snapshot.
                return
            source.has_snapshot.set()
            if isinstance(error, TimeoutError):
                error = TimeoutError(f"no message passed the filter snapshot= within {SNAPSHOT_TIMEOUT:g} s")
            self._failed(f"snapshot of resync for {source.name}", None, error)


def _quote_answer(error: BaseException) -> None:
    """Add the server's answer to an exception as a note, if the exception has the answer and does not quote it."""
    body = quoted_body(error)
    note = f"The server answered: {body}"
    # The snapshot function may raise one object repeatedly.
    if body and note not in getattr(error, "__notes__", ()):
        error.add_note(note)
