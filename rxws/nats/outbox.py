"""What a relay has yet to publish, and what it has published and not seen acknowledged. Pure; bounded."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from .control import Control

__all__ = ["Entry", "Held", "Hole", "Mark", "Outbox"]


@dataclass(slots=True, eq=False)
class Held:
    """A message to publish.

    Attributes:
        subject: where it is published.
        payload: the frame.
        identity: the id by which the broker drops copies.
        number: the number of the connection that brought it.
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
    """Everything that was received until ``time``, in seconds since the epoch, stands before it."""

    time: float


@dataclass(slots=True, eq=False)
class Hole:
    """Messages are missing here.

    Attributes:
        until: the time until which none is, in seconds since the epoch; None: nothing came before.
        since: the time from which on none is; None: the time of the message that follows.
        reason: why.
        dropped: how many messages were dropped.
        stale_since: what follows may be as old as this, because the process stood still; None: it is not.
        is_ordered: whether another relay cannot store meanwhile what is missing here.
    """

    until: float | None
    since: float | None
    reason: str
    dropped: int = 0
    stale_since: float | None = None
    is_ordered: bool = False


Entry: TypeAlias = Held | Mark | Hole | Control


class Outbox:
    """Entries in order: first those in flight, which were published and are not acknowledged, then those that wait.

    Where more wait than are allowed, the oldest are dropped, and a hole stands in their place.

    Args:
        max_in_flight: how many entries may be in flight.
        maxsize: how many messages it holds at most.
        maxbytes: how many bytes their frames have at most.

    Attributes:
        dropped: how many messages were dropped.
        pending: how many messages it holds.
        bytes: how many bytes their frames have.
    """

    def __init__(self, max_in_flight: int, maxsize: int, maxbytes: int) -> None:
        self.dropped = 0
        self.pending = 0
        self.bytes = 0
        self._max_in_flight = max_in_flight
        self._maxsize = maxsize
        self._maxbytes = maxbytes
        self._waiting: deque[Entry] = deque()
        # None stands for an entry that was acknowledged before an older one.
        self._in_flight: deque[Entry | None] = deque()
        self._first_number = 0
        self._waiting_messages = 0

    # What comes in

    def add(self, held: Held) -> int:
        """Add a message; return how many messages were dropped to make room."""
        self._waiting.append(held)
        self._waiting_messages += 1
        self.pending += 1
        self.bytes += len(held.payload)
        if self.pending <= self._maxsize and self.bytes <= self._maxbytes:
            return 0
        dropped = 0
        # Those in flight stay: the broker may have them. The newest stays, too.
        while (self.pending > self._maxsize or self.bytes > self._maxbytes) and self._waiting_messages > 1:
            self._drop_oldest()
            dropped += 1
        return dropped

    def _drop_oldest(self) -> None:
        mark: Mark | None = None
        hole: Hole | None = None
        statements: list[Control] = []
        while not isinstance(entry := self._waiting.popleft(), Held):
            if isinstance(entry, Control):
                statements.append(entry)
            elif isinstance(entry, Hole):
                hole = entry if hole is None else _joined(hole, entry)
            elif hole is None:
                mark = entry
        self._forget(entry)
        self._waiting_messages -= 1
        self.dropped += 1
        if hole is None:
            hole = Hole(entry.received / 1e9, None, "overflow")
        hole.since = None
        hole.dropped += 1
        self._waiting.appendleft(hole)
        if mark is not None:
            self._waiting.appendleft(mark)
        self._waiting.extendleft(reversed(statements))

    def add_hole(self, hole: Hole) -> None:
        """Note that messages are missing behind all that was added so far."""
        self._waiting.append(hole)

    def mark(self, time: float) -> None:
        """Note that everything that was received until ``time`` has been added."""
        if self._waiting and isinstance(last := self._waiting[-1], Mark):
            last.time = time
        else:
            self._waiting.append(Mark(time))

    # What goes out

    @property
    def has_room(self) -> bool:
        """Whether one more entry may be published."""
        return len(self._in_flight) < self._max_in_flight

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not (self._waiting or self._in_flight)

    @property
    def in_flight(self) -> int:
        """How many entries are in flight, and those that an older one keeps."""
        return len(self._in_flight)

    @property
    def head(self) -> Entry | None:
        """The entry that is to be published next."""
        return self._waiting[0] if self._waiting else None

    @property
    def next_held(self) -> Held | None:
        """The message that is to be published next."""
        return next((each for each in islice(self._waiting, 0, None) if isinstance(each, Held)), None)

    def take(self) -> int:
        """Move the head to those in flight; return its number, for :meth:`acknowledged`."""
        entry = self._waiting.popleft()
        self._waiting_messages -= isinstance(entry, Held)
        return self._launch(entry)

    def launch(self, control: Control) -> int:
        """Add a statement to those in flight, before all that waits; return its number."""
        return self._launch(control)

    def _launch(self, entry: Entry) -> int:
        self._in_flight.append(entry)
        return self._first_number + len(self._in_flight) - 1

    def skip(self) -> None:
        """Remove the head without publishing it."""
        entry = self._waiting.popleft()
        if isinstance(entry, Held):
            self._waiting_messages -= 1
            self._forget(entry)

    def reject(self) -> None:
        """Replace the head, a message that cannot be published, by a hole."""
        self.refused(self.take())

    def refused(self, number: int) -> bool:
        """Replace an entry in flight by a hole before all that waits; return whether it was a message."""
        entry = self.acknowledged(number)
        if not isinstance(entry, Held):
            return False
        self.dropped += 1
        self._waiting.appendleft(Hole(entry.received / 1e9, entry.received / 1e9, "refused", 1, is_ordered=True))
        return True

    def acknowledged(self, number: int) -> Entry | None:
        """Forget an entry that the broker has stored; return it. None: it is not in flight."""
        at = number - self._first_number
        if not 0 <= at < len(self._in_flight):
            return None
        entry = self._in_flight[at]
        self._in_flight[at] = None
        while self._in_flight and self._in_flight[0] is None:
            self._in_flight.popleft()
            self._first_number += 1
        if isinstance(entry, Held):
            self._forget(entry)
        return entry

    def restore(self) -> None:
        """Put what is in flight before what waits, in order: the connection to the broker was lost."""
        again = [entry for entry in self._in_flight if entry is not None]
        self._first_number += len(self._in_flight)
        self._in_flight.clear()
        self._waiting.extendleft(reversed(again))
        self._waiting_messages += sum(isinstance(entry, Held) for entry in again)

    def _forget(self, entry: Held) -> None:
        self.pending -= 1
        self.bytes -= len(entry.payload)


def _joined(first: Hole, second: Hole) -> Hole:
    return Hole(first.until, second.since, first.reason, first.dropped + second.dropped, second.stale_since)
