"""What a line has brought again of the messages that were delivered before it began. Pure."""

from __future__ import annotations

import enum
import math

from .memory import Delivery, Memory

__all__ = ["Proof", "Replay"]


class Proof(enum.Enum):
    """What proves that a line resumes where the line that ended before it stopped."""

    #: Every unique message that was delivered since the first copy has come again.
    COPIES = "copies"
    #: The server states it.
    STATEMENT = "statement"
    #: The number of a message is the next one of its channel.
    NUMBERS = "numbers"


class Replay:
    """The copies that one line has brought of what was delivered before it began, in all channels.

    Attributes:
        progress: when the line was last subscribed somewhere, or brought a copy; infinity before.
    """

    __slots__ = ("_first", "_missing", "progress")

    def __init__(self) -> None:
        self.progress = math.inf
        self._first: Delivery | None = None
        self._missing: set[int] = set()

    def came(self, line: int, copy: Delivery, memory: Memory) -> bool:
        """Note a unique copy. Return whether everything unique that was delivered since the first copy has come."""
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

    def begins_with(self, oldest: int) -> bool:
        """Return whether the replay reaches back to the oldest remembered delivery, so that more may precede it."""
        return self._first is not None and self._first.number <= oldest
