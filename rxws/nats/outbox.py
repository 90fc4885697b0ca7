"""The messages that a relay must still publish, or that are not acknowledged yet. Bounded, no I/O."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

__all__ = ["Entry", "Held", "Hole", "Mark", "Outbox"]


#: The largest number of bytes of the frames in flight, except for a single larger one.
MAX_BYTES_IN_FLIGHT: Final = 8 * 2**20


class Held(msgspec.Struct, eq=False, gc=False):
    """A message to publish. A Struct is made much faster than a dataclass.

    Attributes:
        subject: the subject to publish it to.
        payload: the frame.
        identity: the id by which the broker drops copies.
        number: the number of the connection on which it arrived.
        received: when it was received, in nanoseconds since the epoch.
        is_binary: whether the frame was binary.
    """

    subject: str
    payload: bytes
    identity: str
    number: int
    received: int
    is_binary: bool


@dataclass(slots=True, eq=False)
class Mark:
    """A mark in the outbox. All messages that were received until ``time`` (seconds since the epoch) precede it."""

    time: float


@dataclass(slots=True, eq=False)
class Hole:
    """The place of missing messages in the outbox.

    Attributes:
        until: the time until which no message is missing, in seconds since the epoch; None if there was none before.
        since: the time from which on no message is missing again; None means the time of the message that follows.
        reason: the reason.
        dropped: the number of dropped messages.
        before: the start of the interval that it ends; None if it ends none, or is not stated yet.
        stale_since: if the process was suspended, the time since which the messages that follow may have been held.
        is_ordered: whether no other relay can store the missing messages meanwhile.
    """

    until: float | None
    since: float | None
    reason: str
    dropped: int = 0
    before: float | None = None
    stale_since: float | None = None
    is_ordered: bool = False


Entry: TypeAlias = Held | Mark | Hole


class Outbox:
    """A queue of entries. The first ones are *in flight*: published and not acknowledged. The others wait.

    A mark and a hole are published as a statement, and so may be in flight, too.

    If too many entries wait, the oldest are dropped and replaced by a hole.

    Args:
        max_in_flight: the largest number of entries in flight.
        maxsize: the largest number of waiting messages.
        maxbytes: the largest number of bytes of their frames.

    Attributes:
        dropped: the number of dropped messages.
        pending: the number of messages in the queue.
        bytes: the number of bytes of their frames.
    """

    def __init__(self, max_in_flight: int, maxsize: int, maxbytes: int) -> None:
        self.dropped = 0
        self.pending = 0
        self.bytes = 0
        self._max_in_flight = max_in_flight
        self._maxsize = maxsize
        self._maxbytes = maxbytes
        self._waiting: deque[Entry] = deque()
        # An entry that was acknowledged before an older one is replaced by None.
        self._in_flight: deque[Entry | None] = deque()
        self._first_number = 0
        # The number of waiting messages, and the bytes of their frames.
        self._count = self._bytes = 0

    # Adding

    def add(self, held: Held) -> int:
        """Add a message. Return the number of messages that were dropped to make room."""
        size = len(held.payload)
        self._waiting.append(held)
        self._count += 1
        self._bytes += size
        self.pending += 1
        self.bytes += size
        dropped = 0
        # Keep the newest message, however large it is.
        while (self._count > self._maxsize or self._bytes > self._maxbytes) and self._count > 1:
            self._drop_oldest()
            dropped += 1
        return dropped

    def _note(self, entry: Entry, sign: int) -> None:
        """Count an entry that begins to wait (``sign`` is 1) or stops waiting (-1)."""
        if isinstance(entry, Held):
            self._count += sign
            self._bytes += sign * len(entry.payload)

    def _drop_oldest(self) -> None:
        mark: Mark | None = None
        hole: Hole | None = None
        while not isinstance(entry := self._waiting.popleft(), Held):
            if isinstance(entry, Hole):
                hole = entry if hole is None else _joined(hole, entry)
            elif hole is None:
                mark = entry
        self._forget(entry)
        self._note(entry, -1)
        self.dropped += 1
        if hole is None:
            hole = Hole(entry.received / 1e9, None, "overflow")
        hole.since = None
        hole.dropped += 1
        # Another relay may store the dropped message, even if the hole began with a message that no relay can store.
        hole.is_ordered = False
        self._waiting.appendleft(hole)
        if mark is not None:
            self._waiting.appendleft(mark)

    def add_hole(self, hole: Hole) -> None:
        """Note that messages are missing after the entries so far."""
        self._waiting.append(hole)

    def add_standstill(self, since: float) -> None:
        """Note that the process was suspended since ``since``, so that all waiting messages may be too old."""
        first = self.next_held
        since = since if first is None else min(since, first.received / 1e9)
        self._waiting.appendleft(Hole(since, None, "standstill", stale_since=since))

    def mark(self, time: float) -> None:
        """Note that all messages that were received until ``time`` have been added."""
        if self._waiting and isinstance(last := self._waiting[-1], Mark):
            last.time = time
        else:
            self._waiting.append(Mark(time))

    # Publishing

    @property
    def has_room(self) -> bool:
        """Whether one more entry may be published."""
        return len(self._in_flight) < self._max_in_flight and self.bytes - self._bytes < MAX_BYTES_IN_FLIGHT

    @property
    def is_empty(self) -> bool:
        """Whether no entry waits or is in flight."""
        return not (self._waiting or self._in_flight)

    @property
    def in_flight(self) -> int:
        """The number of entries in flight. Acknowledged ones count until all older ones are acknowledged."""
        return len(self._in_flight)

    @property
    def head(self) -> Entry | None:
        """The entry to be published next."""
        return self._waiting[0] if self._waiting else None

    @property
    def next_held(self) -> Held | None:
        """The message to be published next."""
        return next((each for each in self._waiting if isinstance(each, Held)), None)

    def take(self) -> int:
        """Move the head to the entries in flight. Return its number, for :meth:`acknowledged`."""
        entry = self._waiting.popleft()
        if isinstance(entry, Held):
            self._count -= 1
            self._bytes -= len(entry.payload)
        self._in_flight.append(entry)
        return self._first_number + len(self._in_flight) - 1

    def skip(self) -> None:
        """Remove the head without publishing it."""
        entry = self._waiting.popleft()
        self._note(entry, -1)
        if isinstance(entry, Held):
            self._forget(entry)

    def reject(self) -> None:
        """Replace the head, which is a message that cannot be published, by a hole."""
        self.refused(self.take())

    def refused(self, number: int) -> bool:
        """Replace an entry in flight by a hole before all waiting entries. Return whether it was a message."""
        entry = self.acknowledged(number)
        if not isinstance(entry, Held):
            return False
        self.dropped += 1
        self._waiting.appendleft(Hole(entry.received / 1e9, entry.received / 1e9, "refused", 1, is_ordered=True))
        return True

    def acknowledged(self, number: int) -> Entry | None:
        """Remove an entry that the broker has stored. Return it, or None if it is not in flight."""
        in_flight, at = self._in_flight, number - self._first_number
        if not 0 <= at < len(in_flight):
            return None
        entry = in_flight[at]
        in_flight[at] = None
        while in_flight and in_flight[0] is None:
            in_flight.popleft()
            self._first_number += 1
        if isinstance(entry, Held):
            self._forget(entry)
        return entry

    def restore(self) -> Hole | None:
        """Put the entries in flight back before the waiting ones, in order, because the connection was lost.

        Return the first hole among them.
        """
        again = [entry for entry in self._in_flight if entry is not None]
        self._first_number += len(self._in_flight)
        self._in_flight.clear()
        self._waiting.extendleft(reversed(again))
        for entry in again:
            self._note(entry, 1)
        return next((entry for entry in again if isinstance(entry, Hole)), None)

    def _forget(self, entry: Held) -> None:
        self.pending -= 1
        self.bytes -= len(entry.payload)


def _joined(first: Hole, second: Hole) -> Hole:
    before = second.before if first.before is None else first.before
    dropped = first.dropped + second.dropped
    return Hole(first.until, second.since, first.reason, dropped, before, second.stale_since)
