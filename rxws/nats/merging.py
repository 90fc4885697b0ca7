"""Merges what several consumers of one stream bring into the order of the stream. Pure."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

__all__ = ["Merge"]

T = TypeVar("T")


class Merge(Generic[T]):
    """Gives items out in the order of their sequence numbers.

    Each consumer brings increasing numbers, and an item is given out when no other consumer can bring a smaller one: it
    has brought a greater one, or is known to have passed that number. An item whose number is not greater than one that
    was given out is given out at once: late is better than lost.

    Args:
        consumers: how many there are.
        start: all have passed the numbers before this one.

    Attributes:
        consumers: how many there are.
        last: the greatest number that was given out, or the one before ``start``.
        late: how many items were given out behind a greater number.

    Example::

        merge = Merge(2, 1)
        merge.add(0, 5, "five")
        merge.take()                    # None: the other consumer may bring less
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
        """Add an item that a consumer has brought."""
        self._queues[consumer].append((sequence, item))
        self._passed[consumer] = max(self._passed[consumer], sequence)

    def passed(self, consumer: int, sequence: int) -> None:
        """Note that a consumer brings no number up to ``sequence`` any more."""
        self._passed[consumer] = max(self._passed[consumer], sequence)

    def take(self) -> tuple[int, T] | None:
        """Return the next number and its item; None: it is not known yet which is next."""
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
        """Return how many items of a consumer wait."""
        return len(self._queues[consumer])

    @property
    def newest(self) -> int:
        """The greatest number that some consumer has brought or passed."""
        return max(self._passed)

    @property
    def waits_for(self) -> list[int]:
        """The consumers that must bring something or pass the next number before it is given out."""
        found = self._first()
        return [] if found is None else self._lagging(self._queues[found][0][0])

    def _first(self) -> int | None:
        heads = [(queue[0][0], number) for number, queue in enumerate(self._queues) if queue]
        return min(heads)[1] if heads else None

    def _lagging(self, sequence: int) -> list[int]:
        return [number for number, queue in enumerate(self._queues) if not queue and self._passed[number] < sequence]
