"""Keeps the last minute of an exchange's messages, and sends them again to a client that was disconnected. No I/O."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Collection
from typing import Any

__all__ = ["History"]

_SECONDS = 60.0
"""Seconds for which messages are kept."""

_MOST = 200_000
"""The largest number of messages that are kept."""


class History:
    """Counts all messages, keeps those of the last minute, and sends them again from a cursor on.

    The cursor is the count: ``"c"`` in each message that a client with a cursor gets.

    Attributes:
        count: the number of messages so far.
        epoch: changes when all messages are forgotten, so that earlier cursors are recognized as useless.
        is_kept: whether messages are kept. It is False until the first client asks for a cursor.
    """

    def __init__(self) -> None:
        self.count = 0
        self.epoch = 1
        self.is_kept = False
        self._messages: deque[tuple[float, str, dict[str, Any]]] = deque()
        self._last: dict[str, dict[str, Any]] = {}
        self._forgotten = 0

    def add(self, now: float, channel: str, message: dict[str, Any]) -> dict[str, Any]:
        """Count a message; return it with its count."""
        self.count += 1
        counted = {**message, "c": self.count}
        if self.is_kept:
            self._messages.append((now, channel, counted))
            self._last[channel] = counted
            while self._messages[0][0] < now - _SECONDS or len(self._messages) > _MOST:
                self._messages.popleft()
        return counted

    def knows(self, cursor: int) -> bool:
        """Return whether all messages after the cursor's message are kept."""
        kept_from = self._messages[0][2]["c"] if self._messages else self.count + 1
        return max(kept_from - 1, self._forgotten + 1) <= cursor <= self.count

    def since(self, cursor: int, channels: Collection[str], *, includes: bool) -> list[dict[str, Any]]:
        """Return the messages of these channels after the cursor; ``includes`` adds the cursor's own message."""
        first = cursor if includes else cursor + 1
        # Look from the end: a client misses a few messages of the many that are kept.
        newer = itertools.takewhile(lambda entry: entry[2]["c"] >= first, reversed(self._messages))
        return [each for _, channel, each in newer if channel in channels][::-1]

    def last_of(self, channels: Collection[str]) -> list[dict[str, Any]]:
        """Return the last message of each of these channels."""
        return [self._last[channel] for channel in sorted(channels) if channel in self._last]

    def forget(self) -> None:
        """Forget all messages, like a server that was restarted."""
        self._messages.clear()
        self._forgotten = self.count
        self._last.clear()
        self.epoch += 1
