"""Knows each message's number in the stream, as long as other code holds a reference to the message."""

from __future__ import annotations

import sys
from typing import Any, Final

__all__ = ["Positions"]

#: At this number of remembered messages, those without another reference are forgotten.
SMALLEST: Final = 10_000


class Positions:
    """Remembers the sequence numbers of messages.

    A message may be any object, even one without a hash or attributes. It is remembered by a reference, and forgotten
    when this is its only reference. So memory depends on the number of messages that consumers hold.
    """

    def __init__(self) -> None:
        self._sequences: dict[int, tuple[Any, int]] = {}
        self._limit = SMALLEST

    def __len__(self) -> int:
        return len(self._sequences)

    def note(self, message: Any, sequence: int) -> None:
        """Remember the number of a message."""
        self._sequences[id(message)] = message, sequence
        if len(self._sequences) > self._limit:
            self._forget()

    def get(self, message: Any) -> int | None:
        """Return the number of a message, or None if it is not remembered."""
        found = self._sequences.get(id(message))
        return found[1] if found is not None and found[0] is message else None

    def _forget(self) -> None:
        """Forget the messages without another reference."""
        # The reference count of such a message depends on the version of Python, so measure it with a new object.
        unheld = _unheld()
        count = sys.getrefcount
        self._sequences = {key: entry for key, entry in self._sequences.items() if count(entry[0]) > unheld}
        # Allow twice the number that is left, so that many held messages are not examined again and again.
        self._limit = max(SMALLEST, 2 * len(self._sequences))


def _unheld() -> int:
    entries = {0: (object(), 0)}
    [found] = [sys.getrefcount(entry[0]) for entry in entries.values()]
    return found
