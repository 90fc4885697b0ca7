"""Fills the holes in a numbered sequence of messages with a history, without any I/O."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

from ..reporting.events import Gap
from .sequence import SequenceTracker

__all__ = ["Delivered", "HoleTracker", "Lost"]

#: The number of delivered messages that are remembered to recognize their copies, at least.
REMEMBERED: Final = 10_000

#: The entry of the memory for a message whose copies are recognized by their number alone.
_ANY: Final = object()


@dataclass(frozen=True, slots=True)
class Lost:
    """Messages are missing at this point, and the history does not have them.

    Attributes:
        gap: the feed's Gap since which they are missing; None if only the numbers show that they are.
    """

    gap: Gap | None


class Delivered:
    """Remembers the messages that were delivered last, of all keys, by their numbers.

    Args:
        identity: what makes two messages with the same number the same; None: the messages are equal.
    """

    def __init__(self, identity: Callable[[Any], Hashable] | None) -> None:
        self._identity = identity
        # The older half is dropped as a whole, so that remembering a message costs one insertion.
        self._newer: dict[Hashable, list[Any]] = {}
        self._older: dict[Hashable, list[Any]] = {}
        self._count = 0

    def add(self, place: Hashable, message: Any) -> None:
        """Remember a message. ``place`` is its key with its number."""
        self._count += 1
        if self._count > REMEMBERED:
            self._newer, self._older, self._count = {}, self._newer, 1
        found = self._newer.get(place)
        if found is None:
            self._newer[place] = [message]
        else:
            found.append(message)

    def has(self, place: Hashable, message: Any) -> bool:
        """Return whether this message was delivered with this number."""
        return self.among(message, (*self._newer.get(place, ()), *self._older.get(place, ())))

    def among(self, message: Any, others: Iterable[Any]) -> bool:
        """Return whether a message is the same as one of the others."""
        if self._identity is None:
            return any(other is _ANY or other == message for other in others)
        mine = self._identity(message)
        return any(other is _ANY or self._identity(other) == mine for other in others)


class HoleTracker(SequenceTracker[Any]):
    """Decides which messages of one key can be delivered, live ones and those of the history.

    While the tracker is out of sync there is a hole: it holds live messages, and needs the history between the last
    delivered and the first held message. The history's messages that follow are delivered at once; those after a
    missing one are kept. When nothing is missing any more, the held messages follow. There is a hole before the first
    message, too, which the history may leave empty.

    With ``contiguous`` the numbers grow by one, and show each hole. Otherwise they only grow, as times do, and each Gap
    counts as a hole. Then the history must contain the last delivered message, which proves that it begins early
    enough, and the first held message or a later one, which proves that it reaches far enough.

    Args:
        range_of: returns the first and the last number of a message.
        contiguous: whether the numbers grow by one.
        key: the key of the messages.
        delivered: remembers the delivered messages of all keys.

    Attributes:
        is_suspect: whether live messages may be missing before the next one.
        is_due: whether the history is asked soon even if no message arrives, because there was a Gap.
        gap: the Gap of the feed because of which messages may be missing; None if there was none.
        holes: number of holes so far.
        copies: number of live messages that were dropped because they had been delivered.
        was_asked: whether the history was asked for the messages of the last hole.
    """

    __slots__ = (
        *("_after", "_contiguous", "_delivered", "_found", "_is_fresh", "_key", "_newest", "_reaches", "_starts"),
        *("copies", "gap", "holes", "is_due", "is_suspect", "was_asked"),
    )

    def __init__(
        self, range_of: Callable[[Any], tuple[int, int]], contiguous: bool, key: Hashable, delivered: Delivered
    ) -> None:
        super().__init__(range_of)
        self.in_sync = self.is_suspect = self.is_due = True
        self.gap: Gap | None = None
        self.holes = self.copies = 0
        self.was_asked = False
        self._contiguous = contiguous
        self._key = key
        self._delivered = delivered
        # The history's messages after a missing one, with their last numbers, by their first numbers.
        self._found: dict[int, list[tuple[int, Any]]] = {}
        # Of the running attempt: its largest new number, the number that it begins with, and whether it has no message.
        self._newest = self._after = -math.inf
        self._is_fresh = True
        # Whether the history begins early enough and reaches far enough, if the numbers do not show it.
        self._starts = self._reaches = False

    @property
    def bounds(self) -> tuple[int | None, int | None]:
        """The numbers of the last delivered and of the first held message; None if there is none."""
        return int(self._last) if self._last > -math.inf else None, self._held[0][0] if self._held else None

    # Live messages

    def lose(self, gap: Gap | None) -> None:
        """Note that live messages may be missing from here on. If ``gap`` is None, they arrived but were not held."""
        if self._held:
            self._held.append((0, 0, Lost(gap)))
        else:
            self.is_suspect, self.is_due, self.gap = True, True, self.gap or gap

    def open(self) -> None:
        """Begin a hole. This is also called if no message arrived for a while after a Gap."""
        self.in_sync = self.is_due = self._starts = self._reaches = self.was_asked = False
        self.holes += 1

    def apply(self, message: Any) -> list[Any]:
        """Take a live message and return the items to deliver.

        Raises:
            Exception: the numbers of the message cannot be read. The tracker is unchanged.
        """
        first, last = self.range_of(message)
        if self.in_sync:
            return self._follow(first, last, message)
        if len(self._held) < self.held_max:
            self._held.append((first, last, message))
        else:
            # Drop the newest message, because it is a part of a later hole.
            self.dropped += 1
            if type(self._held[-1][2]) is not Lost:
                self.lose(None)
        return []

    def _place(self, first: int, last: int) -> Literal["old", "next", "later"]:
        if self._contiguous:
            return super()._place(first, last)
        # Times show neither a hole nor, if they are equal, which message is later.
        return "next" if not self.is_suspect else "old" if last < self._last else "later"

    def _follow(self, first: int, last: int, message: Any, *, was_asked: bool = False) -> list[Any]:
        """Take a live message; ``was_asked`` says that the history has just been delivered, and may have it, too."""
        may_be_copy = self._contiguous or self.is_suspect or was_asked
        if may_be_copy and last <= self._last and self._delivered.has((self._key, last), message):
            self.copies += 1
            return []
        place = self._place(first, last)
        if place == "later":
            self.open()
            self._held.append((first, last, message))
            return []
        lost: list[Any] = []
        if place == "old":
            # The server has restarted its count.
            lost, self._last = [Lost(self.gap)], -math.inf
        self.is_suspect, self.is_due, self.gap = False, False, None
        return lost + self._deliver(last, message, message)

    def _deliver(self, last: int, message: Any, remembered: Any) -> list[Any]:
        self._last = max(self._last, last)
        self._delivered.add((self._key, last), remembered)
        return [message]

    # The history

    def begin(self) -> tuple[int | None, int | None]:
        """Begin an attempt to fill the hole, and return the numbers between which messages are missing."""
        self._newest, self._after, self._is_fresh = -math.inf, self._last, True
        self.was_asked = True
        return self.bounds

    def fill(self, message: Any) -> list[Any]:
        """Take the next message of the history and return the items to deliver.

        Raises:
            ValueError: the history goes back, to a message that it did not have before.
            OverflowError: it has too many messages after a missing one.
            Exception: the numbers of the message cannot be read.
        """
        first, last = self.range_of(message)
        if not (self._is_new_number(first, last) if self._contiguous else self._is_new_time(last, message)):
            return []
        if last < self._newest:
            raise ValueError(f"the history goes back from {self._newest} to {last}")
        self._newest = last
        is_first = self._last == -math.inf
        if is_first or (first <= self._last + 1 if self._contiguous else self._starts):
            return self._deliver_found(last, message)
        if len(self._found) >= self.held_max:
            raise OverflowError(f"the history has more than {self.held_max:,} messages after a missing one")
        self._found.setdefault(first, []).append((last, message))
        return []

    def _is_new_number(self, first: int, last: int) -> bool:
        if last <= self._last or (self._held and first >= self._held[0][0]):
            return False
        if first in self._found:
            # An earlier page or attempt had it.
            self._newest = max(self._newest, last)
            return False
        return True

    def _is_new_time(self, time: int, message: Any) -> bool:
        if self._is_fresh:
            self._is_fresh, self._reaches, self._starts = False, False, self._last == -math.inf
            self._found.clear()
        if time < self._after:
            return False
        if self._delivered.has((self._key, time), message):
            self._starts = True
            return False
        if self._held and time >= self._held[0][0]:
            held = [each for _, last, each in self._held if last == time and type(each) is not Lost]
            if time > self._held[0][0] or self._delivered.among(message, held[:1]):
                self._reaches = True
                return False
            return not self._delivered.among(message, held)
        return not self._delivered.among(message, [each for _, each in self._found.get(time, ())])

    def _deliver_found(self, last: int, message: Any) -> list[Any]:
        # The live copy of a message of the history may differ in form, and its number is enough.
        return self._deliver(last, message, _ANY if self._contiguous else message)

    @property
    def progress(self) -> object:
        """A value that changes when the history has a new message."""
        return self._last, len(self._found), self._newest

    @property
    def is_filled(self) -> bool:
        """Whether no more messages of the history are needed."""
        if self._contiguous:
            return not self._found and bool(self._held) and self._held[0][0] <= self._last + 1
        return self._starts and self._reaches

    def settle(self, *, was_answered: bool = True) -> list[Any]:
        """End an attempt. If the hole is filled, the tracker is in sync again. Return the items to deliver.

        Args:
            was_answered: whether the history was read to its end.
        """
        items: list[Any] = []
        if self._contiguous:
            for first in sorted(self._found):
                if first > self._last + 1:
                    break
                for last, message in self._found.pop(first):
                    items += self._deliver_found(last, message) if last > self._last else []
        # Without a held message the history goes up to now. A history that is empty from its beginning has nothing
        # before the first message.
        reaches_now = not self._held and (not self._found if self._contiguous else self._starts)
        is_filled = self.is_filled or (was_answered and (reaches_now or self._last == -math.inf))
        return items + self._drain() if is_filled else items

    def give_up(self) -> list[Any]:
        """Return the items to deliver, with :class:`Lost` in each place where messages are missing."""
        items: list[Any] = []
        lost = Lost(self.gap)
        if self._found and not self._contiguous:
            items.append(lost)
        for first in sorted(self._found):
            for last, message in self._found.pop(first):
                if self._contiguous and self._place(first, last) == "later":
                    items.append(lost)
                items += self._deliver_found(last, message)
        if self._held and (self._held[0][0] > self._last + 1 if self._contiguous else not self._reaches):
            items.append(lost)
        return items + self._drain(is_filled=False)

    def _drain(self, *, is_filled: bool = True) -> list[Any]:
        """Get in sync, and return the held messages that follow each other."""
        self.in_sync = True
        held, self._held = self._held, deque()
        if not held:
            # No live message proves yet that times are complete. Numbers show a hole by themselves.
            self.is_suspect = not (is_filled and self._contiguous)
            return []
        self.is_suspect, self.is_due, self.gap = False, False, None
        self._last = max(self._last, held[0][0] - 1)
        items: list[Any] = []
        while held:
            first, last, message = held.popleft()
            if type(message) is Lost:
                self.lose(message.gap)
                continue
            items += self._follow(first, last, message, was_asked=True)
            if not self.in_sync:
                self._held.extend(held)
                break
        return items
