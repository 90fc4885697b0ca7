"""The channel of a life whose missed messages the client fetches from a history: the history, and the consumer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any, Final

from reactivex import abc

import rxws
from rxws import codec

from .consumers import LifeHooks, Look, Seen
from .dialect import Dialect
from .record import VenueRecord
from .schedule import Schedule
from .venue import PAST

__all__ = ["History", "PastConsumer"]

PAGE: Final = 7
"""The number of messages on a page."""

DELAY: Final = 0.3
"""The longest time that the history needs for a page, in seconds."""

BEHIND: Final = 0.5
"""Seconds after its publication at which a message is in a history that is behind."""

SHARE_OF_FAILURES: Final = 0.4
SHARE_OF_LACKING: Final = 0.1

TIMEOUT: Final = 60.0
TIMEOUT_OF_LACKING: Final = 8.0
"""Seconds after which the client gives a hole up. A history that lacks nothing has more than enough time."""


class History:
    """Returns past messages of the channel, with faults.

    Args:
        schedule: the life; ``past`` in its settings says how the history behaves.
        record: the log of the server.
        dialect: makes the messages.
    """

    def __init__(self, schedule: Schedule, record: VenueRecord, dialect: Dialect) -> None:
        self._seed = schedule.seed
        self._how = schedule.settings.past
        self._record = record
        self._dialect = dialect
        self._rng = Random(f"{schedule.seed}/history")
        self._loop = asyncio.get_running_loop()
        self._is_calm = False

    def calm(self) -> None:
        """Stop all faults, except that messages are lacking."""
        self._is_calm = True

    @property
    def lacks_some(self) -> bool:
        """Whether the history lacks messages."""
        return self._how == "lacking"

    def lacks(self, n: int) -> bool:
        """Return whether the history never has this number."""
        return self.lacks_some and Random(f"{self._seed}/lacking {n}").random() < SHARE_OF_LACKING

    async def pages(self, after: int | None, before: int | None) -> AsyncIterator[list[Any]]:
        """Yield the messages after one number and before another."""
        fails = self._how == "failing" and not self._is_calm
        is_loose = self._how == "loose" and not self._is_calm
        # At the start the client takes an empty history as a channel without earlier messages.
        latest = self._loop.time() - (BEHIND if is_loose and after is not None else 0.0)
        published = sum(at <= latest for at in self._record.published[PAST])
        # Loose pages begin before the first and end after the last message that was asked for.
        first = max(1, (after or 0) + 1 - (3 if is_loose else 0))
        last = published if before is None or is_loose else min(published, before - 1)
        numbers = [n for n in range(first, last + 1) if not self.lacks(n)]
        for start in range(0, len(numbers) or 1, PAGE):
            await asyncio.sleep(self._rng.uniform(0.0, DELAY))
            if fails and self._rng.random() < SHARE_OF_FAILURES:
                raise ConnectionError("there is no history now")
            overlap = 2 if is_loose else 0
            page = numbers[max(0, start - overlap) : start + PAGE]
            yield [codec.decode(self._dialect.change(PAST, n)) for n in page]


class PastConsumer:
    """The consumer of the channel, with the messages that its feed has missed.

    Args:
        stream: the messages of the channel.
        history: the history.
        dialect: decodes the messages.
        hooks: the methods of the life that the consumer needs.
    """

    def __init__(self, stream: rxws.Stream[Any], history: History, dialect: Dialect, hooks: LifeHooks) -> None:
        self.history: Final = history
        self._dialect = dialect
        self._hooks = hooks
        self._loop = asyncio.get_running_loop()
        self.seen: Final = Seen(PAST, PAST, self._loop.time())
        timeout = TIMEOUT_OF_LACKING if history.lacks_some else TIMEOUT
        self._backfilled: rxws.Backfilled[Any] | None = stream.backfill(
            history.pages, sequence=self._number, timeout=timeout
        )
        self._subscription: abc.DisposableBase | None = self._backfilled.subscribe(
            self._take, on_completed=self._end, on_error=self._end
        )

    @property
    def in_sync(self) -> bool:
        """Whether rxws reports that no message is missing."""
        return self._backfilled is not None and bool(self._backfilled.in_sync)

    def close(self) -> None:
        """Forget the stream. Call it after the end of the feed."""
        self._backfilled = self._subscription = None

    def _number(self, message: Any) -> int:
        read = self._dialect.read(message)
        assert read is not None
        return read.n

    def _take(self, item: Any) -> None:
        read = self._hooks.dated(item) if isinstance(item, rxws.Gap) else self._dialect.read(item)
        assert read is not None
        self.seen.looks.append(Look(self._loop.time(), read))

    def _end(self, _error: Exception | None = None) -> None:
        self.seen.has_ended = True
        self.seen.until = self._loop.time()
