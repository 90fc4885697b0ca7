"""Decides which numbered messages can be delivered, and which changes follow which snapshot, without any I/O."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, TypeVar

from ..reporting.quoting import quoted_repr

__all__ = ["HELD_MAX", "SequenceTracker", "Snapshot", "SnapshotTracker"]

T = TypeVar("T")

#: The largest number of messages that are held while a snapshot or missing messages are fetched.
HELD_MAX: Final = 100_000


@dataclass(frozen=True, slots=True, repr=False)
class Snapshot(Generic[T]):
    """A snapshot. ``stream.resync`` delivers it before the changes that follow it.

    Attributes:
        data: the value that ``snapshot()`` returned, or the message with the snapshot.
        reason: why it was fetched: ``"start"``, ``"hole"`` (numbers are missing), ``"overflow"`` (too many changes had
            to be held), ``"restart"`` (the numbers went back), ``"unreadable"`` (the numbers of a message could not be
            read), ``"server"`` (the server sent it without need), the reason of the feed's ``Gap``, or that of
            ``restart(reason)``.
    """

    data: T
    reason: str

    def __repr__(self) -> str:
        return f"Snapshot(data={quoted_repr(self.data)}, reason={self.reason!r})"


@dataclass(eq=False, slots=True)
class SequenceTracker(Generic[T]):
    """Compares the numbers of messages, and holds messages while some before them are missing.

    Attributes:
        range_of: returns the first and the last number of a message.
        held_max: the largest number of messages held. With 0 none is held, and nothing is dropped for it.
        in_sync: whether all messages were delivered.
        dropped: number of messages that were dropped because too many were held.
    """

    range_of: Callable[[Any], tuple[int, int]]
    held_max: int = field(default=HELD_MAX, kw_only=True)
    in_sync: bool = field(default=False, init=False)
    dropped: int = field(default=0, init=False)
    # The numbers of held messages, and the messages.
    _held: deque[tuple[int, int, T]] = field(default_factory=deque, init=False)
    # The last number that was delivered; minus infinity at the start, and after the server restarted its count.
    _last: float = field(default=-math.inf, init=False)

    def _place(self, first: int, last: int) -> Literal["old", "next", "later"]:
        """Return whether a message was delivered, follows the delivered ones, or comes after missing ones."""
        if last <= self._last:
            return "old"
        return "next" if first <= self._last + 1 else "later"


@dataclass(eq=False, slots=True)
class SnapshotTracker(SequenceTracker[T]):
    """Decides which changes follow which snapshot.

    While the tracker is out of sync, it holds changes and needs a snapshot. With a snapshot that is not older than the
    held changes it is in sync: it delivers the snapshot, then the changes after it. The first number of a delivered
    change is at most one more than the last number of the previous change. The tracker gets out of sync when numbers
    are missing, and when they go back because the server restarted its count. A snapshot that is older than the
    delivered changes is refused, because it comes from a cache, unless the numbers went back after those changes.

    Attributes:
        number_of: returns the last number in a snapshot.
        reason: why a snapshot is needed, or was needed last.
        losses: number of times that changes were missing. A snapshot requested before the last loss may be outdated.
    """

    number_of: Callable[[Any], int]
    reason: str = field(default="start", init=False)
    losses: int = field(default=0, init=False)
    # The last number of the latest change, whether it was delivered or not.
    _seen: float = field(default=-math.inf, init=False)

    def forget(self) -> None:
        """Note that the server may have restarted its count, so that lower numbers are not older."""
        self._last = self._seen = -math.inf

    def reset(self, reason: str) -> None:
        """Get out of sync, and discard the held changes. ``reason`` says why changes are missing."""
        self._held.clear()
        self.in_sync = False
        self.reason = reason
        self.losses += 1

    def apply(self, message: T) -> list[T]:
        """Take a change and return the items to deliver.

        Raises:
            Exception: the numbers of the change cannot be read. The tracker is unchanged.
        """
        first, last = self.range_of(message)
        if last < self._seen:
            # This change proves that the server restarted its count, even if the tracker is out of sync.
            self.forget()
            self.reset("restart")
        self._seen = last
        return self._follow(first, last, message)

    def _follow(self, first: int, last: int, message: T) -> list[T]:
        """Return the change if it can be delivered now; hold it if a snapshot must come first."""
        if self.in_sync:
            place = self._place(first, last)
            if place == "next":
                self._last = last
                return [message]
            if place == "old":
                return []
            self.reset("hole")
        elif not self.held_max:
            return []
        elif len(self._held) >= self.held_max:
            self._held.popleft()
            self.reason = "overflow"
            self.dropped += 1
        self._held.append((first, last, message))
        return []

    def snapshot(self, data: Any) -> list[Any] | None:
        """Take a snapshot and return the items to deliver, the snapshot first; None if the snapshot is too old.

        It is too old if the first held change does not follow it, or if it is older than the delivered changes.
        Afterwards :attr:`in_sync` is False if numbers are missing in the held changes. Then another snapshot is needed.

        Raises:
            Exception: the number of the snapshot cannot be read. The tracker is unchanged.
        """
        number = self.number_of(data)
        if number < self._last:
            return None
        held = [change for change in self._held if change[1] > number]
        if held and held[0][0] > number + 1:
            return None
        self._held.clear()
        self._last = number
        self.in_sync = True
        delivered: list[Any] = [Snapshot(data, self.reason)]
        for change in held:
            delivered += self._follow(*change)
        return delivered
