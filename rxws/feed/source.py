"""The source of a feed's frames."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from ..connections.connection import Connection

__all__ = ["FrameSource"]


class FrameSource(Protocol):
    """The source of a feed's frames: its rotating connections, or a recording in a replay."""

    @property
    def connections(self) -> Collection[Connection]:
        """All open connections."""

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks that must end after :meth:`stop`, besides those of the connections."""

    @property
    def last_received_at(self) -> float | None:
        """When the last message arrived, on the loop's clock; None before the first. May be read from any thread."""

    @property
    def last_delivery_time(self) -> float | None:
        """When the last message was delivered, in seconds since the epoch; None before the first."""

    def start(self) -> None:
        """Start the frames."""

    def stop(self) -> None:
        """Stop the frames. Idempotent."""

    def rotate(self) -> asyncio.Future[bool]:
        """Replace the connection now."""

    def statistics(self) -> Mapping[str, Any]:
        """Return fields of ``Statistics``: a snapshot of each line, if there are several. Safe from any thread."""
