"""The messages of a client: recorded, awaited, compared."""

from __future__ import annotations

from collections import deque
from typing import Any

import msgspec

from .waiting import Changes

__all__ = ["RECORDED", "Inbox", "encode", "matches"]

RECORDED = 10_000
"""The number of received messages that are kept. The limit bounds the memory of a test that runs for weeks."""


def encode(message: Any) -> str | bytes:
    """Return the payload of a frame for a message: ``str`` and ``bytes`` unchanged, anything else as JSON text."""
    return message if isinstance(message, str | bytes) else msgspec.json.encode(message).decode()


def matches(wanted: Any, message: str | bytes) -> bool:
    """Return whether a received message is the wanted one.

    Args:
        wanted: None (any message), ``str`` or ``bytes`` (exactly this message), a function of the message that returns
            a truth value, a dict (a JSON object with at least these keys and values), or any other JSON value.
        message: the message, not decoded.
    """
    if wanted is None:
        return True
    if isinstance(wanted, str | bytes):
        return wanted == message
    if callable(wanted):
        return bool(wanted(message))
    try:
        decoded = msgspec.json.decode(message)
    except msgspec.DecodeError:
        return False
    if isinstance(wanted, dict):
        return isinstance(decoded, dict) and all(
            key in decoded and decoded[key] == value for key, value in wanted.items()
        )
    return bool(wanted == decoded)


class Inbox:
    """The received messages in order. Each message is returned only once, by ``expect`` or by ``next``."""

    def __init__(self) -> None:
        self._received: deque[str | bytes] = deque(maxlen=RECORDED)
        self._unclaimed: deque[str | bytes] = deque(maxlen=RECORDED)
        self._changes = Changes()
        self._ended = False

    @property
    def received(self) -> list[str | bytes]:
        """All received messages (the last 10,000), oldest first."""
        return list(self._received)

    def record(self, message: str | bytes) -> None:
        """Add a message."""
        self._received.append(message)
        self._unclaimed.append(message)
        self._changes.notify()

    def end(self) -> None:
        """Mark the end of the messages, so that the iteration ends."""
        self._ended = True
        self._changes.notify()

    async def expect(self, wanted: Any = None, *, timeout: float | None = 5.0) -> str | bytes:
        """Wait for a message that :func:`matches`, and return it. No other call returns this message."""
        return await self._changes.until(
            lambda: self._claim(wanted),
            timeout=timeout,
            describe=lambda: f"expected {wanted!r}, received {self.received[-20:]!r}",
        )

    async def next(self) -> str | bytes | None:
        """Wait for the next message and return it, or None at the end. No other call returns this message."""
        claimed = await self._changes.until(self._claim_or_end, timeout=None, describe=str)
        return claimed[0] if claimed else None

    def _claim(self, wanted: Any) -> str | bytes | None:
        for index, message in enumerate(self._unclaimed):
            if matches(wanted, message):
                del self._unclaimed[index]
                return message
        return None

    def _claim_or_end(self) -> tuple[str | bytes, ...] | None:
        if self._unclaimed:
            return (self._unclaimed.popleft(),)
        return () if self._ended else None
