"""Who consumes a feed in a life, and notes what comes: quick and slow, raising and blocking, and a book."""

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
"""Seconds that a slow consumer takes over a message."""

BLOCKED: Final = 0.04
"""Seconds for which a blocking consumer blocks the loop."""

EVERY: Final = 7
"""A consumer that raises or blocks does so with every so many-th message."""


class Deliberate(Exception):
    """Is raised by consumers that raise."""


@dataclass(slots=True)
class Look:
    """What stood in a stream.

    Attributes:
        time: when it was taken, on the loop's clock.
        item: a number, or a ``Gap``.
    """

    time: float
    item: Numbered | rxws.Gap


@dataclass(slots=True)
class Seen:
    """What one consumer has seen.

    Attributes:
        name: whose it is.
        channel: whose messages they are; None: those of all.
        since: when it began to look, on the loop's clock.
        until: when it wanted no more; None: it went on to the feed's end.
        looks: what came, in order.
        has_ended: whether its iteration came to its end.
    """

    name: str
    channel: str | None
    since: float
    until: float | None = None
    looks: list[Look] = field(default_factory=list)
    has_ended: bool = False


class LifeHooks(Protocol):
    """What a consumer needs of its life."""

    def dated(self, gap: rxws.Gap) -> rxws.Gap:
        """Return a Gap with the loop's times."""

    def stand_still(self, seconds: float) -> None:
        """Let the loop stand still."""


class Consumer:
    """One consumer of one stream.

    Args:
        stream: made with ``gaps=True``.
        seen: where it notes what comes.
        kind: how it consumes; see :class:`~rxws.testing.lives.schedule.Settings`.
        dialect: what messages say.
        hooks: of the life.
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
        """Want no more: what is held is still taken."""
        self.seen.until = self._loop.time()
        stream, self._stream = self._stream, None
        if stream is not None:
            if self._subscription is not None:
                self._subscription.dispose()
            await stream.close()

    async def finished(self) -> None:
        """Wait until all was taken; the feed has ended."""
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
        # That the feed has failed is noted elsewhere.
        self.seen.has_ended = True


class Book:
    """A book, kept from snapshots and the changes after them, that is looked at.

    Args:
        changes: the stream of changes.
        snapshot: gives a snapshot.
        known: gives the number of the newest change that has come, where that is certain; otherwise None.
        dialect: what messages say.

    Attributes:
        problems: what was wrong.
        is_watched: whether it is looked at with every change.
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
        """Whether the library says that the book is right."""
        return self._resynced is not None and bool(self._resynced.in_sync)

    def look(self) -> None:
        """Compare the book with the truth, where the library says that it is right."""
        if not self.in_sync:
            return
        last, known = self._last, self._known()
        if self._levels != book_at(last):
            self.problems.append(f"the book of {last} differs from the truth: {self._levels}")
        elif last < self._best:
            self.problems.append(f"the book went back from {self._best} to {last}, and is said to be in sync")
        elif known is not None and last < known:
            self.problems.append(f"the book is at {last}, {known} has come, and it is said to be in sync")
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
        """Keep it no more."""
        if self._subscription is not None and self._stream is not None:
            self._subscription.dispose()
            await self._stream.close()
        self._subscription = self._stream = self._resynced = None
