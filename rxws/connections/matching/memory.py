"""Remembers deliveries, so that their copies are recognized. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["Delivery", "Memory"]


@dataclass(eq=False, slots=True)
class Delivery:
    """A delivered message.

    Attributes:
        number: its place in the order of all deliveries.
        channel: its channel.
        key: its identity.
        size: its bytes.
        time: when it was delivered.
        lines: the lines on which it has arrived.
    """

    number: int
    channel: Hashable
    key: Hashable
    size: int
    time: float
    lines: set[int]


class Memory:
    """A ring of the newest deliveries, and in addition the newest few deliveries of each channel.

    Args:
        messages: the largest number of deliveries in the ring.
        bytes: the largest number of bytes of messages in the ring.
        tail: the number of deliveries of each channel that are remembered even after they have left the ring. For these
            ``messages`` limits the number of channels, and ``bytes`` their size. The channels that have been silent
            longest are forgotten first.
    """

    def __init__(self, messages: int, bytes: int, tail: int) -> None:  # noqa: A002
        self._messages: Final = messages
        self._bytes: Final = bytes
        self._tail: Final = tail
        self._number = 0
        self._size = 0
        self._ring: dict[int, Delivery] = {}
        # The channels in the order of their last delivery.
        self._tails: dict[Hashable, deque[Delivery]] = {}
        self._tails_size = 0
        self._by_key: dict[tuple[Hashable, Hashable], list[Delivery]] = {}

    def __iter__(self) -> Iterator[Delivery]:
        """Iterate over all remembered deliveries, in no particular order."""
        for deliveries in self._by_key.values():
            yield from deliveries

    def __len__(self) -> int:
        """Return the number of remembered identities."""
        return len(self._by_key)

    @property
    def newest(self) -> int:
        """The number of the newest delivery; 0: there was none."""
        return self._number

    @property
    def oldest(self) -> int:
        """The number of the oldest delivery in the ring; 0: the ring is empty."""
        return next(iter(self._ring), 0)

    def after(self, number: int, channel: Hashable) -> list[Delivery]:
        """Return the remembered deliveries of a channel after the one with this number, the oldest first."""
        return [each for each in self._ring.values() if each.number > number and each.channel == channel]

    def newest_of(self, channel: Hashable) -> Sequence[Delivery]:
        """Return the newest few deliveries of a channel, the oldest first."""
        return self._tails.get(channel, ())

    def find(self, channel: Hashable, key: Hashable) -> Sequence[Delivery]:
        """Return the remembered deliveries with this identity, the oldest first."""
        return self._by_key.get((channel, key), ())

    def is_unique(self, delivery: Delivery) -> bool:
        """Return whether no other remembered delivery has the same identity. Only a unique delivery is evidence."""
        return len(self.find(delivery.channel, delivery.key)) == 1

    def add(
        self, line: int, channel: Hashable, key: Hashable, size: int, now: float
    ) -> tuple[Delivery, list[Delivery]]:
        """Remember a delivery. Return it, and the deliveries that were forgotten to make room."""
        self._number += 1
        new = Delivery(self._number, channel, key, size, now, {line})
        self._ring[new.number] = new
        self._by_key.setdefault((channel, key), []).append(new)
        self._size += size
        return new, self._shrink(new)

    def _shrink(self, new: Delivery) -> list[Delivery]:
        # Put the channel behind the others, even if it is known.
        tail = self._tails.pop(new.channel) if new.channel in self._tails else deque()
        self._tails[new.channel] = tail
        tail.append(new)
        self._tails_size += new.size
        left = list[Delivery]()
        if len(tail) > self._tail:
            left.append(tail.popleft())
            self._tails_size -= left[0].size
        while len(self._tails) > self._messages or (self._tails_size > self._bytes and len(self._tails) > 1):
            oldest = self._tails.pop(next(iter(self._tails)))
            self._tails_size -= sum(each.size for each in oldest)
            left += oldest
        forgotten = [each for each in left if each.number not in self._ring]
        while len(self._ring) > self._messages or self._size > self._bytes:
            old = self._ring.pop(next(iter(self._ring)))
            self._size -= old.size
            if old not in self._tails.get(old.channel, ()):
                forgotten.append(old)
        for old in forgotten:
            self._forget(old)
        return forgotten

    def _forget(self, old: Delivery) -> None:
        same = self._by_key[old.channel, old.key]
        same.remove(old)
        if not same:
            del self._by_key[old.channel, old.key]
