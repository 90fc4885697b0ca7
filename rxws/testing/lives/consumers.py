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

__all__ = ["Book", "Consumer", "Deliberate", "Look", "Seen"]

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
        snapshot: returns a snapshot.
        known: returns the number of the newest change that has arrived, or None if that is not certain.
        dialect: decodes the messages.

    Attributes:
        problems: the errors that were found.
        is_watched: whether the book is checked at every change.
    """

    def __init__(
        self, changes: rxws.Stream[Any], snapshot: Callable[[], Any], known: Callable[[], int | None], dialect: Dialect
    ) -> None:
        self.problems: list[str] = []
        self.is_watched = False
        self._last = 0
        self._dialect = dialect
        self._levels: dict[str, int] = {}
        self._best = 0
        self._known = known
        self._stream: rxws.Stream[Any] | None = changes
        self._resynced: Any = changes.resync(snapshot, sequence=self._range, snapshot_sequence="last")
        self._subscription: abc.DisposableBase | None = self._resynced.subscribe(self._take)

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
            self._last, self._levels = item.data["last"], dict(item.data["levels"])
        else:
            self._last, _ = self._range(item)
            self._levels[str(self._last * 7 % LEVELS)] = self._last
        if self.is_watched:
            self.look()

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
