"""Keeps the newest delivered messages, to compare a resuming connection with them, and finds the cursor in them."""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Reversible
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

#: The number of parts of the ring. The cursors of a part are saved together before its messages leave the ring, so
#: keeping a message costs little more than one append.
PARTS: Final = 10

#: The channel to pass for the cursor of the whole feed.
WHOLE_FEED: Final = object()

#: Kept in place of an answer: the cursor of this channel was forgotten then.
_FORGOTTEN: Final = object()

#: A frame, its message, and WHOLE_FEED; or an empty frame, an answer, and its channel.
_Entry = tuple[Frame, Any, Hashable]


class RecentMessages:
    """A ring of the newest delivered frames with their messages. It finds the newest cursor in them on demand.

    Attributes:
        add: keeps a delivered frame and its message, which may be a ``Many``; called for every frame of a feed.
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
        # Frames with their messages, and answers with their channels. In a full ring one entry leaves when another is
        # added. So the memory is used again at once, and the garbage collector seldom runs.
        self._ring: Final[deque[_Entry]] = deque(maxlen=MESSAGES_MAX)
        # The number of entries in each complete part of the ring.
        self._parts: Final[deque[int]] = deque()
        self.add: Final = self._adder()
        # The number of the connection that delivers, or that delivered last.
        self._delivering = 0
        # The number of a newer connection, and its answers by channel. They count only from the time when it delivers,
        # because the messages before their cursors may never be delivered.
        self._newer = 0
        self._answers_of_newer: dict[Hashable, Any] = {}

    def _adder(self) -> Callable[..., None]:
        # This is a closure and not a method, because it runs for every message, and a closure reads no attributes.
        append, count_max, size_max = self._ring.append, MESSAGES_MAX // PARTS, BYTES_MAX // (PARTS + 1)
        count = size = 0

        def add(frame: Frame, message: Any, channel: Hashable = WHOLE_FEED) -> None:
            nonlocal count, size
            append((frame, message, channel))
            count += 1
            size += len(frame)
            if count >= count_max or size >= size_max:
                self._end_part(count)
                count = size = 0

        return add

    def _end_part(self, count: int) -> None:
        """Note that so many entries were added. Save the cursors of the part whose entries leave the ring next."""
        self._parts.append(count)
        # The entries of large frames leave before the ring is full.
        for _ in range(len(self._ring) - sum(self._parts)):
            self._ring.popleft()
        if len(self._parts) == PARTS:
            leaving = [*itertools.islice(self._ring, self._parts.popleft())]
            self._dropped.update(self._newest_cursors(leaving, {WHOLE_FEED, *self._channels()}))

    def note(self, number: int, channel: Hashable, answer: Any) -> None:
        """Keep the server's answer to the subscription of a channel, because it may contain the channel's cursor.

        Args:
            number: the number of the connection.
            channel: the channel.
            answer: the answer. It counts only if its connection delivers, now or later.
        """
        if number == self._delivering:
            self.add("", answer, channel)
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
        self.add("", _FORGOTTEN, channel)
        if self.numbers is not None:
            self.numbers.forget(channel)

    def exclude(self, answers: Iterable[Any]) -> None:
        """Leave out answers to sent messages, because the server does not repeat them on another connection."""
        self._answers.extend(answers)

    def __bool__(self) -> bool:
        return bool(self._ring)

    def delivered(self, count: int = MESSAGES_MAX) -> Iterator[tuple[Frame, Any]]:
        """Iterate over the newest ``count`` frames and their messages without answers, the oldest first."""
        answers = {*map(id, self._answers)}
        newest = (
            (frame, message)
            for frame, message, channel in reversed(self._ring)
            if channel is WHOLE_FEED and id(message) not in answers
        )
        return reversed([*itertools.islice(newest, count)])

    def cursor(self, channel: Hashable = WHOLE_FEED) -> Any:
        """Return the newest cursor of a channel or of the whole feed; None if there is none. A cursor is never None."""
        self.was_asked = True
        found = self._newest_cursors(self._ring, {channel})
        return found.get(channel, self._dropped.get(channel))

    @property
    def names_no_key(self) -> bool:
        """Whether messages were delivered, and none of them has a cursor."""
        return self.field is not None and bool(self) and self.cursor() is None

    def _newest_cursors(self, entries: Reversible[_Entry], missing: set[Hashable]) -> dict[Hashable, Any]:
        """Return the newest cursor of each channel in ``missing`` that has one."""
        found: dict[Hashable, Any] = {}
        for _, message, answered in reversed(entries):
            is_answer = answered is not WHOLE_FEED
            for item in reversed(message) if type(message) is Many else (message,):
                if not missing:
                    return found
                if item is _FORGOTTEN:
                    missing.discard(answered)
                    found.setdefault(answered)
                    continue
                channel = WHOLE_FEED if missing == {WHOLE_FEED} else self._channel_of(item)
                mine = missing & {WHOLE_FEED, answered if is_answer else channel}
                if mine and (value := self._value_of(item, is_answer=is_answer)) is not None:
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
