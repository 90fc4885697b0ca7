"""Merges the messages of several consumers of one stream in the order of the stream. No I/O."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

__all__ = ["Merge"]

T = TypeVar("T")


class Merge(Generic[T]):
    """Returns items in the order of their sequence numbers.

    The numbers of each consumer increase. An item is returned when every other consumer is known to have passed its
    number, or has a greater one. An item that arrives after a greater number was returned is returned at once, because
    late is better than lost.

    Args:
        consumers: the number of consumers.
        start: the first number that consumers may have; all have passed the smaller ones.

    Attributes:
        consumers: the number of consumers.
        last: the greatest number that was returned, or the one before ``start``.
        late: the number of items that were returned after a greater number.

    Example::

        merge = Merge(2, 1)
        merge.add(0, 5, "five")
        merge.take()                    # None: the other consumer may have a smaller number
        merge.add(1, 7, "seven")
        merge.take()                    # (5, "five")
    """

    def __init__(self, consumers: int, start: int) -> None:
        self.consumers = consumers
        self.last = start - 1
        self.late = 0
        self._queues: list[deque[tuple[int, T]]] = [deque() for _ in range(consumers)]
        self._passed = [start - 1] * consumers

    def __len__(self) -> int:
        return sum(map(len, self._queues))

    def add(self, consumer: int, sequence: int, item: T) -> None:
        """Add an item of a consumer."""
        self._queues[consumer].append((sequence, item))
        self._passed[consumer] = max(self._passed[consumer], sequence)

    def passed(self, consumer: int, sequence: int) -> None:
        """Note that a consumer has no more numbers up to ``sequence``."""
        self._passed[consumer] = max(self._passed[consumer], sequence)

    def take(self) -> tuple[int, T] | None:
        """Return the next number and its item; None if it is not known yet which is next."""
        found = self._first()
        if found is None:
            return None
        sequence = self._queues[found][0][0]
        if sequence > self.last and self._lagging(sequence):
            return None
        self.late += sequence <= self.last
        self.last = max(self.last, sequence)
        return self._queues[found].popleft()

    def held(self, consumer: int) -> int:
        """Return the number of waiting items of a consumer."""
        return len(self._queues[consumer])

    @property
    def newest(self) -> int:
        """The greatest number that any consumer has delivered or passed."""
        return max(self._passed)

    @property
    def waits_for(self) -> list[int]:
        """The consumers that must deliver an item or pass the next number before that is returned."""
        found = self._first()
        return [] if found is None else self._lagging(self._queues[found][0][0])

    def _first(self) -> int | None:
        heads = [(queue[0][0], number) for number, queue in enumerate(self._queues) if queue]
        return min(heads)[1] if heads else None

    def _lagging(self, sequence: int) -> list[int]:
        return [number for number, queue in enumerate(self._queues) if not queue and self._passed[number] < sequence]
