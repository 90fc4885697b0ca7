"""Tracks which earlier deliveries have arrived again on a line that began after them. No I/O."""

from __future__ import annotations

import enum
import math

from .memory import Delivery, Memory

__all__ = ["Proof", "Replay"]


class Proof(enum.Enum):
    """The kind of proof that a line resumes where the ended line stopped."""

    #: Every unique message that was delivered since the first copy has arrived again.
    COPIES = "copies"
    #: The server states that the line resumes.
    STATEMENT = "statement"


class Replay:
    """The copies of earlier deliveries that have arrived on one line, in all channels.

    Attributes:
        progress: when a channel was last acknowledged, or a copy last arrived, on the line; infinity before.
    """

    __slots__ = ("_first", "_missing", "progress")

    def __init__(self) -> None:
        self.progress = math.inf
        self._first: Delivery | None = None
        self._missing: set[int] = set()

    def came(self, line: int, copy: Delivery, memory: Memory) -> bool:
        """Note a unique copy. Return whether every unique message delivered since the first copy has arrived again."""
        if self._first is None or copy.number < self._first.number:
            end = math.inf if self._first is None else self._first.number
            self._missing.update(
                each.number
                for each in memory
                if copy.number < each.number < end and line not in each.lines and memory.is_unique(each)
            )
            self._first = copy
        self._missing.discard(copy.number)
        return not self._missing

    @property
    def has_begun(self) -> bool:
        """Whether any copy has arrived."""
        return self._first is not None

    def begins_with(self, oldest: int) -> bool:
        """Return whether the replay begins with the oldest remembered delivery, or with an even older message."""
        return self._first is not None and self._first.number <= oldest
