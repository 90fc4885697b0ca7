"""The items that wait in a buffer, with their sizes."""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TypeVar

__all__ = ["HeldItems"]

T = TypeVar("T")


class HeldItems(deque[T]):
    """The waiting items of a buffer, and their sizes.

    Taking an item leaves its size, so that it costs no time. ``settle`` removes the sizes of all taken items at once.

    Attributes:
        sizes: the sizes of the items, in bytes. Sizes of items that were taken stand at the front.
        total: the sum of the sizes.
        mark: the total at which the buffer reports the lag, or is full.
    """

    __slots__ = ("mark", "sizes", "total")

    def __init__(self, mark: float) -> None:
        super().__init__()
        self.mark = mark
        self.sizes: deque[int] = deque()
        self.total = 0

    def drop_oldest(self) -> None:
        """Remove the oldest item. Call ``settle`` before."""
        self.popleft()
        self.total -= self.sizes.popleft()

    def drop_newest(self) -> None:
        """Remove the newest item."""
        self.pop()
        self.total -= self.sizes.pop()

    def settle(self) -> None:
        """Remove the sizes of the items that were taken."""
        sizes = self.sizes
        if self:
            for _ in range(len(sizes) - len(self)):
                self.total -= sizes.popleft()
        else:
            sizes.clear()
            self.total = 0

    @property
    def size(self) -> int:
        """The size of the items that wait. May be read from any thread."""
        # Summing is one call of C code, so no other thread can change the deque meanwhile.
        return max(0, self.total - sum(islice(self.sizes, max(0, len(self.sizes) - len(self)))))
