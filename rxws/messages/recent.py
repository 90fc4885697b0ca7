"""Keeps the newest delivered messages, to compare a resuming connection with them, and finds the cursor in them."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, Final

from ..reporting.reporter import Reporter
from .fields import Field, field_reader
from .frames import Frame
from .hooks import Many
from .numbers import Numbers

__all__ = ["WHOLE_FEED", "RecentMessages"]

#: The largest number of messages that are kept, and the largest number of bytes that their frames have.
MESSAGES_MAX: Final = 10_000
BYTES_MAX: Final = 64 << 20

#: The number of newest answers to sent messages that are remembered, because ``delivered`` leaves them out.
ANSWERS_MAX: Final = 1_000

#: The number of lists in which messages are kept. A whole list is dropped at a time, so keeping a message costs only
#: one append.
CHUNKS: Final = 10

#: The channel to pass for the cursor of the whole feed.
WHOLE_FEED: Final = object()

#: Kept in place of an answer: the cursor of this channel was forgotten then.
_FORGOTTEN: Final = object()


class RecentMessages:
    """A ring of the newest delivered frames with their messages. It finds the newest cursor in them on demand.

    Attributes:
        field: the field of a message that is its cursor; None: a message is its own cursor.
        was_asked: whether ``cursor`` was called.
        numbers: compares the numbers of the messages; None: they are not compared.

    Args:
        reporter: reports the exceptions of a ``cursor`` that is a function.
        cursor: the field of a message that is its cursor; None: a message is its own cursor.
        counts: returns whether a message may be a cursor itself; a message that is per connection may not.
        channel_of: returns the channel of a message, or None if it has none.
        channels: returns the channels that have their own cursor.
    """

    def __init__(
        self,
        reporter: Reporter,
        cursor: Field | None,
        counts: Callable[[Any], bool],
        channel_of: Callable[[Any], Hashable],
        channels: Callable[[], Iterable[Hashable]],
    ) -> None:
        self._reporter = reporter
        self.field: Final = cursor
        self.was_asked = False
        self.numbers: Numbers | None = None
        self._read = None if cursor is None else field_reader(cursor, "cursor")
        self._counts = counts
        self._channel_of = channel_of
        self._channels = channels
        # The newest answers to sent messages. They are compared by `id`, so they must be kept alive.
        self._answers: Final[deque[Any]] = deque(maxlen=ANSWERS_MAX)
        # The newest cursors among the messages that were dropped.
        self._dropped: dict[Hashable, Any] = {}
        self._chunks: Final[deque[list[tuple[Frame | None, Any, Hashable]]]] = deque([[]])
        self._newest = self._chunks[-1]
        self._size = 0
        # The limits of a chunk.
        self._messages_max: Final = MESSAGES_MAX // CHUNKS
        self._bytes_max: Final = BYTES_MAX // CHUNKS
        # The number of the connection that delivers, or that delivered last.
        self._delivering = 0
        # The number of a newer connection, and its answers by channel. They count only from the time when it delivers,
        # because the messages before their cursors may never be delivered.
        self._newer = 0
        self._answers_of_newer: dict[Hashable, Any] = {}

    def add(self, frame: Frame, message: Any) -> None:
        """Keep a delivered frame and its message, which may be a ``Many``. Called for every frame of a feed."""
        self._newest.append((frame, message, WHOLE_FEED))
        self._size += len(frame)
        if len(self._newest) >= self._messages_max or self._size >= self._bytes_max:
            self._begin_chunk()

    def note(self, number: int, channel: Hashable, answer: Any) -> None:
        """Keep the server's answer to the subscription of a channel, because it may contain the channel's cursor.

        Args:
            number: the number of the connection.
            channel: the channel.
            answer: the answer. It counts only if its connection delivers, now or later.
        """
        if number == self._delivering:
            self._newest.append((None, answer, channel))
            if len(self._newest) >= self._messages_max:
                self._begin_chunk()
            return
        if number != self._newer:
            self._newer, self._answers_of_newer = number, {}
        self._answers_of_newer[channel] = answer

    def deliver_from(self, number: int) -> None:
        """Note that a connection delivers from now on."""
        self._delivering, answers = number, self._answers_of_newer if number == self._newer else {}
        self._answers_of_newer = {}
        for channel, answer in answers.items():
            self.note(number, channel, answer)

    def forget(self, channel: Hashable) -> None:
        """Forget the cursor and the numbers of a channel, because it was not subscribed for a while."""
        self._newest.append((None, _FORGOTTEN, channel))
        if self.numbers is not None:
            self.numbers.forget(channel)

    def exclude(self, answers: Iterable[Any]) -> None:
        """Leave out answers to sent messages, because the server does not repeat them on another connection."""
        self._answers.extend(answers)

    def _begin_chunk(self) -> None:
        if len(self._chunks) == CHUNKS:
            oldest = self._chunks.popleft()
            self._dropped.update(self._newest_cursors([oldest], {WHOLE_FEED, *self._channels()}))
        self._newest = []
        self._chunks.append(self._newest)
        self._size = 0

    def __bool__(self) -> bool:
        return len(self._chunks) > 1 or bool(self._newest)

    def delivered(self, count: int = MESSAGES_MAX) -> Iterator[tuple[Frame, Any]]:
        """Iterate over the newest ``count`` frames and their messages without answers, the oldest first."""
        answers = {*map(id, self._answers)}
        entries = [
            (frame, message)
            for chunk in self._chunks
            for frame, message, _ in chunk
            if frame is not None and id(message) not in answers
        ]
        return iter(entries[-count:])

    def cursor(self, channel: Hashable = WHOLE_FEED) -> Any:
        """Return the newest cursor of a channel or of the whole feed; None if there is none. A cursor is never None."""
        self.was_asked = True
        found = self._newest_cursors(self._chunks, {channel})
        return found.get(channel, self._dropped.get(channel))

    @property
    def names_no_key(self) -> bool:
        """Whether messages were delivered, and none of them has a cursor."""
        return self.field is not None and bool(self) and self.cursor() is None

    def _newest_cursors(
        self, chunks: Iterable[list[tuple[Frame | None, Any, Hashable]]], missing: set[Hashable]
    ) -> dict[Hashable, Any]:
        """Return the newest cursor of each channel in ``missing`` that has one."""
        found: dict[Hashable, Any] = {}
        for chunk in reversed([*chunks]):
            for frame, message, answered in reversed(chunk):
                for item in reversed(message) if type(message) is Many else (message,):
                    if not missing:
                        return found
                    if item is _FORGOTTEN:
                        missing.discard(answered)
                        found.setdefault(answered)
                        continue
                    channel = WHOLE_FEED if missing == {WHOLE_FEED} else self._channel_of(item)
                    mine = missing & {WHOLE_FEED, channel if frame is not None else answered}
                    if mine and (value := self._value_of(item, is_answer=frame is None)) is not None:
                        found |= dict.fromkeys(mine, value)
                        missing -= mine
        return found

    def _value_of(self, message: Any, *, is_answer: bool) -> Any:
        if self._read is None:
            return None if is_answer or not self._counts(message) else message
        if not callable(self.field):
            with contextlib.suppress(KeyError):
                return self._read(message)
            return None
        with self._reporter.guard(self.field, message):
            return self._read(message)
        return None
