"""All consumers of the feed of a life: one for each channel, one for all channels, a book, and one with a history."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import rxws

from .consumers import Book, Consumer, LifeHooks, Seen, SentBook
from .endpoint import Feed
from .evidence import Evidence
from .past import History, PastConsumer
from .report import Problem
from .venue import BOOK, PAST, Venue, channel_names

__all__ = ["Audience"]

ANSWER_TIMEOUT: Final = 1.5
"""Seconds within which the server must answer a subscription, in addition to the lags."""


class Audience:
    """All consumers, and the channels that they want.

    Args:
        feed: the feed that they consume.
        venue: the server.
        evidence: records the items that the consumers receive, and the channels that they want.
        hooks: the methods of the life that consumers need.
    """

    def __init__(self, feed: Feed, venue: Venue, evidence: Evidence, hooks: LifeHooks) -> None:
        self._feed = feed
        self._venue = venue
        self._settings = venue.settings
        self._dialect = venue.dialect
        self._evidence = evidence
        self._hooks = hooks
        self._loop = asyncio.get_running_loop()
        self._names = channel_names(venue.schedule)
        self._consumers: dict[str, Consumer] = {}
        self._gone: list[Consumer] = []
        self._book: Book | None = None
        self._past: PastConsumer | None = None
        self._subscribes: dict[str, Callable[[str | None], Any]] = {}
        self._looking: asyncio.Task[None] | None = None
        everything = Seen("everything", None, self._loop.time())
        self._consume("everything", feed.stream_filter(venue.everything(), gaps=True), everything, "iterator")
        for channel in self._names:
            self.want(channel)
        if self._settings.book:
            self._open_book()
        if self._settings.past:
            self._evidence.wanted.append(PAST)
            history = History(venue.schedule, venue.record, venue.dialect)
            self._past = PastConsumer(self._stream(PAST), history, venue.dialect, hooks)

    @property
    def has_a_wrong_book(self) -> bool:
        """Whether there is a book that is not in sync."""
        return self._book is not None and not self._book.in_sync

    @property
    def misses_some(self) -> bool:
        """Whether messages are missing that the history has."""
        return self._past is not None and not (self._past.in_sync or self._past.history.lacks_some)

    def calm(self) -> None:
        """Stop the faults of the history."""
        if self._past is not None:
            self._past.history.calm()

    def want(self, channel: str) -> None:
        """Consume a channel, unless it is consumed already or does not exist."""
        if channel not in self._consumers and channel in self._names:
            self._evidence.wanted.append(channel)
            seen = Seen(f"{channel} from {self._loop.time():.3f}", channel, self._loop.time())
            self._consume(channel, self._stream(channel), seen, self._settings.consumer)

    async def unwant(self, channel: str) -> None:
        """Stop consuming a channel."""
        consumer = self._consumers.pop(channel, None)
        if consumer is not None:
            self._evidence.wanted.remove(channel)
            self._gone.append(consumer)
            await consumer.close()

    def restart_book(self) -> None:
        """Request another snapshot of the book."""
        if self._book is not None:
            self._book.restart()

    def stop_looking(self) -> None:
        """Stop checking the book, because the feed is about to end."""
        if self._looking is not None:
            self._looking.cancel()

    async def finish(self) -> None:
        """After the feed's end, wait until the consumers have taken all items, and record these items."""
        for consumer in (*self._consumers.values(), *self._gone):
            await consumer.finished()
            self._evidence.seen.append(consumer.seen)
        if self._past is not None:
            published, history = self._venue.record.published[PAST], self._past.history
            self._evidence.past = self._past.seen
            self._evidence.lacking = {n for n in range(1, len(published) + 1) if history.lacks(n)}
            self._past.close()
        if self._book is not None:
            await self._book.close()
            self._evidence.problems += [Problem("book", text) for text in self._book.problems[:3]]

    def _consume(self, name: str, stream: rxws.Stream[Any], seen: Seen, kind: str) -> None:
        self._consumers[name] = Consumer(stream, seen, kind, self._dialect, self._hooks)

    def _stream(self, channel: str) -> rxws.Stream[Any]:
        dialect, settings = self._dialect, self._settings
        if settings.pushed:
            return self._feed.stream_filter(dialect.belongs(channel), gaps=True)
        if settings.gives_ids:
            own: dict[str, Any] = {"filters_from": dialect.filters_from, "unsubscribe_from": dialect.unsubscribe_from}
        else:
            own = {"filters": dialect.belongs(channel), "unsubscribe": dialect.unsubscribe(channel)}
        return self._feed.multiplex(
            self._subscribe(channel) if settings.channel_cursors else dialect.subscribe([channel]),
            ended=dialect.ends(channel) if settings.ends_channels else None,
            acknowledged=dialect.acknowledged(channel),
            rejected=dialect.rejected(channel),
            timeout=ANSWER_TIMEOUT + settings.lag,
            combine=dialect.combine if settings.combine else None,
            gaps=True,
            **own,
        )

    def _subscribe(self, channel: str) -> Callable[[str | None], Any]:
        """Return the function that subscribes a channel with its cursor. It is the same one each time."""

        def subscribe(cursor: str | None) -> Any:
            return self._dialect.subscribe_from(channel, None if cursor is None else int(cursor.rpartition(":")[2]))

        return self._subscribes.setdefault(channel, subscribe)

    def _open_book(self) -> None:
        stream = self._stream(BOOK)
        if self._settings.sends_book:
            omitted = self._venue.record.omitted
            self._book = SentBook(stream, self._settings.sent_book, omitted, self._known, self._dialect)
        else:
            self._book = Book(stream, self._venue.snapshot, self._known, self._dialect)
        self._book.is_watched = self._settings.watched
        self._evidence.wanted.append(BOOK)
        self._looking = self._loop.create_task(self._look(self._book), name="a life's look at its book")

    async def _look(self, book: Book) -> None:
        while True:
            await asyncio.sleep(0.1)
            book.look()
            is_connected = any(line.is_open for line in self._venue.lines)
            if self._settings.channels_per_connection:
                # The state is that of all connections, and the client may not know yet that this one has ended.
                continue
            if book.in_sync and self._feed.state.value is rxws.State.CONNECTING and not is_connected:
                book.problems.append("in_sync is True without a connection")

    def _known(self) -> int | None:
        """Return the number of the book's newest change that has arrived; None if that is not certain."""
        lines = [line for line in self._venue.lines if line.is_open]
        is_sole = len(lines) == 1 and self._feed.state.value is rxws.State.CONNECTED
        if not is_sole or lines[0].record.damages or not lines[0].is_read:
            return None
        before = self._loop.time() - self._evidence.tolerance
        sent_there = reversed(lines[0].record.sent)
        there = (sent for sent in sent_there if sent.channel == BOOK and sent.came_at is not None)
        return next((sent.n for sent in there if sent.came_at is not None and sent.came_at < before), None)
