"""Where a feed's frames come from."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any, Protocol

from ..connections.connection import Connection

__all__ = ["FrameSource"]


class FrameSource(Protocol):
    """Where a feed's frames come from: its connections, which rotate; or, in a replay, a recording."""

    @property
    def connections(self) -> Collection[Connection]:
        """All that are open."""

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """What must come to its end after :meth:`stop`, besides the connections."""

    @property
    def last_received_at(self) -> float | None:
        """When the last message came, on the loop's clock, or None if none has. May be read from any thread."""

    def start(self) -> None:
        """Let frames come."""

    def stop(self) -> None:
        """Let no more come. Idempotent."""

    def rotate(self) -> asyncio.Future[bool]:
        """Replace the connection now."""
