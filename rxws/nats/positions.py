"""Where each message stood in the stream, for as long as something else holds the message."""

from __future__ import annotations

import sys
from typing import Any, Final

__all__ = ["Positions"]

#: So many messages are remembered before those that nothing else holds are forgotten.
SMALLEST: Final = 10_000


class Positions:
    """Remembers the sequence numbers of messages.

    A message is any object: it need not have a hash or an attribute. It is remembered with a reference, and forgotten
    once this is the only one: so memory follows what consumers hold.
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
        """Return the number of a message; None: it is not remembered."""
        found = self._sequences.get(id(message))
        return found[1] if found is not None and found[0] is message else None

    def _forget(self) -> None:
        """Forget the messages that nothing else holds."""
        # An object of which the same is true shows how many references that is on this version of Python.
        unheld = _unheld()
        count = sys.getrefcount
        self._sequences = {key: entry for key, entry in self._sequences.items() if count(entry[0]) > unheld}
        # Twice as many as are left, so that many that are held are not looked through again and again.
        self._limit = max(SMALLEST, 2 * len(self._sequences))


def _unheld() -> int:
    entries = {0: (object(), 0)}
    [found] = [sys.getrefcount(entry[0]) for entry in entries.values()]
    return found
