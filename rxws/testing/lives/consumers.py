"""Consumers of a feed in a life, which record the items that they receive: fast, slow, raising, blocking, a book."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from reactivex import abc

import rxws

from .dialect import LEVELS, Dialect, Numbered
from .venue import book_at

__all__ = ["Book", "Consumer", "Deliberate", "Look", "Seen", "SentBook"]

SLOW: Final = 0.15
"""Seconds that a slow consumer needs for a message."""

BLOCKED: Final = 0.04
"""Seconds for which a blocking consumer blocks the loop."""

EVERY: Final = 7
"""A consumer that raises or blocks does so on every seventh message."""


class Deliberate(Exception):
    """Raised by consumers that raise."""


@dataclass(slots=True)
class Look:
    """An item of a stream.

    Attributes:
        time: when the consumer received it, on the loop's clock.
        item: a numbered message, or a ``Gap``.
    """

    time: float
    item: Numbered | rxws.Gap


@dataclass(slots=True)
class Seen:
    """The items that one consumer has received.

    Attributes:
        name: the name of the consumer.
        channel: the consumed channel; None: all channels.
        since: when the consumer began, on the loop's clock.
        until: when the consumer stopped; None: it continued until the feed's end.
        looks: the received items, in order.
        has_ended: whether the consumer's iteration has ended.
    """

    name: str
    channel: str | None
    since: float
    until: float | None = None
    looks: list[Look] = field(default_factory=list)
    has_ended: bool = False


class LifeHooks(Protocol):
    """The methods of a life that a consumer needs."""

    def dated(self, gap: rxws.Gap) -> rxws.Gap:
        """Return the Gap with times of the loop's clock."""

    def stand_still(self, seconds: float) -> None:
        """Block the loop."""


class Consumer:
    """One consumer of one stream.

    Args:
        stream: the stream, made with ``gaps=True``.
        seen: records the items that the consumer receives.
        kind: how the consumer works; see ``consumer`` in :class:`~rxws.testing.lives.schedule.Settings`.
        dialect: decodes the messages.
        hooks: the methods of the life that the consumer needs.
    """

    def __init__(self, stream: rxws.Stream[Any], seen: Seen, kind: str, dialect: Dialect, hooks: LifeHooks) -> None:
        self.seen: Final = seen
        self._stream: rxws.Stream[Any] | None = stream
        self._kind = kind
        self._dialect = dialect
        self._hooks = hooks
        self._loop = asyncio.get_running_loop()
        self._count = 0
        self._task: asyncio.Task[None] | None = None
        self._subscription: abc.DisposableBase | None = None
        if kind in ("iterator", "slow"):
            self._task = self._loop.create_task(self._iterate(stream), name="consumer of a life")
        else:
            self._subscription = stream.subscribe(self._take, on_completed=self._end, on_error=self._failed)

    async def close(self) -> None:
        """Close the stream. Items that it already holds are still consumed."""
        self.seen.until = self._loop.time()
        stream, self._stream = self._stream, None
        if stream is not None:
            if self._subscription is not None:
                self._subscription.dispose()
            await stream.close()

    async def finished(self) -> None:
        """Wait until all items have been consumed. Call it after the end of the feed."""
        if self._task is not None:
            await asyncio.wait([self._task])
            if isinstance(self._task.exception(), rxws.RxwsError):
                self._failed()
            else:
                self._task.result()
        self._stream = self._subscription = self._task = None

    async def _iterate(self, stream: rxws.Stream[Any]) -> None:
        async for item in stream:
            self._note(item)
            if self._kind == "slow":
                await asyncio.sleep(SLOW)
        self._end()

    def _take(self, item: Any) -> None:
        self._note(item)
        self._count += 1
        if self._count % EVERY == 0 and self._kind == "raising":
            raise Deliberate("as the schedule says")
        if self._count % EVERY == 0 and self._kind == "blocking":
            self._hooks.stand_still(BLOCKED)

    def _note(self, item: Any) -> None:
        read = self._hooks.dated(item) if isinstance(item, rxws.Gap) else self._dialect.read(item)
        if read is not None:
            self.seen.looks.append(Look(self._loop.time(), read))

    def _end(self) -> None:
        self.seen.has_ended = True

    def _failed(self, _error: Exception | None = None) -> None:
        # Ignore the error here: the module ``course`` records that the feed has failed.
        self.seen.has_ended = True


class Book:
    """An order book that ``resync`` keeps from snapshots and changes, and that is compared with the true book.

    Args:
        changes: the stream of changes.
        snapshot: returns a snapshot, or is a filter for snapshots in the feed.
        known: returns the number of the newest change that has arrived, or None if that is not certain.
        dialect: decodes the messages.

    Attributes:
        problems: the errors that were found.
        is_watched: whether the book is checked at every change.
    """

    def __init__(
        self, changes: rxws.Stream[Any], snapshot: Any, known: Callable[[], int | None], dialect: Dialect
    ) -> None:
        self.problems: list[str] = []
        self.is_watched = False
        self._last = 0
        self._dialect = dialect
        self._levels: dict[str, int] = {}
        self._best = 0
        self._known = known
        self._stream: rxws.Stream[Any] | None = changes
        self._resynced: Any = self._resync(changes, snapshot)
        self._subscription: abc.DisposableBase | None = self._resynced.subscribe(self._take)

    def _resync(self, changes: rxws.Stream[Any], snapshot: Any) -> Any:
        return changes.resync(snapshot, sequence=self._range, snapshot_sequence="last")

    def restart(self) -> None:
        """Request another snapshot."""
        if self._resynced is not None:
            self._resynced.restart("life")

    @property
    def in_sync(self) -> bool:
        """Whether rxws reports that the book is in sync."""
        return self._resynced is not None and bool(self._resynced.in_sync)

    def look(self) -> None:
        """Compare the book with the true one, if rxws reports that it is in sync."""
        if not self.in_sync:
            return
        last, known = self._last, self._known()
        if self._levels != book_at(last):
            self.problems.append(f"the book at change {last} differs from the true one: {self._levels}")
        elif last < self._best:
            self.problems.append(f"the book went back from change {self._best} to {last}, and in_sync is True")
        elif known is not None and last < known:
            self.problems.append(f"the book is at change {last}, {known} has arrived, and in_sync is True")
        self._best = max(self._best, last)

    def _take(self, item: Any) -> None:
        if isinstance(item, rxws.Snapshot):
            self._last, self._levels = self._content(item)
        else:
            self._change(self._range(item)[1])
        if self.is_watched:
            self.look()

    def _content(self, snapshot: rxws.Snapshot[Any]) -> tuple[int, dict[str, int]]:
        return snapshot.data["last"], dict(snapshot.data["levels"])

    def _change(self, n: int) -> None:
        self._last = n
        self._levels[str(n * 7 % LEVELS)] = n

    def _range(self, item: Any) -> tuple[int, int]:
        read = self._dialect.read(item)
        assert read is not None
        return read.n, read.n

    async def close(self) -> None:
        """End the subscription of the book."""
        if self._subscription is not None and self._stream is not None:
            self._subscription.dispose()
            await self._stream.close()
        self._subscription = self._stream = self._resynced = None


class SentBook(Book):
    """An order book whose snapshots arrive in the feed.

    Args:
        changes: the stream of snapshots and changes.
        how: ``"numbers"`` or ``"checksums"``; see ``sent_book`` in :class:`~rxws.testing.lives.schedule.Settings`.
        omitted: the numbers that the server has left out.
        known: as for :class:`Book`.
        dialect: decodes the messages.
    """

    def __init__(
        self, changes: rxws.Stream[Any], how: str, omitted: set[int], known: Callable[[], int | None], dialect: Dialect
    ) -> None:
        self._has_numbers = how == "numbers"
        self._omitted = omitted
        super().__init__(changes, dialect.snapshots(), known, dialect)

    def _resync(self, changes: rxws.Stream[Any], snapshot: Any) -> Any:
        return changes.resync(snapshot, sequence=self._range if self._has_numbers else None)

    def _content(self, snapshot: rxws.Snapshot[Any]) -> tuple[int, dict[str, int]]:
        n = self._range(snapshot.data)[1]
        if snapshot.reason not in ("life", "checksum", "hole", "server"):
            # A new connection may lag more than the lost one.
            self._best = 0
        return n, book_at(n)

    def _change(self, n: int) -> None:
        if n == self._last + 1:
            super()._change(n)
        elif n <= self._last or self._has_numbers or not self._omitted.issuperset(range(self._last + 1, n)):
            self.problems.append(f"change {n} of the book follows {self._last}")
        else:
            # The checksum of this change would be wrong.
            self._resynced.restart("checksum")
