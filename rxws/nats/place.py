"""The place of a feed in a stream, which outlives its connections."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from .consumer import Start
from .control import read_control
from .frames import MissingFrame
from .watermarks import Watermarks

__all__ = ["Place"]


@dataclass(slots=True)
class Place:
    """The place up to which a feed has read a stream. It is kept from connection to connection.

    Attributes:
        following: the number of the next message of the stream; None if it is not known yet.
        start: where a consumer begins as long as ``following`` is None.
        created: when the stream was made, so that the feed notices if the stream was deleted and made again.
        has_looked_back: whether the statements before the place were read.
        delivered: the number of the last message that was parsed.
        missing: the frames that report missing messages, to be delivered before the next message.
        share: the worker and the number of workers that share the partitions of the stream; None: it is not shared.
        watermarks: the statements of the relays.
    """

    following: int | None
    start: Start
    created: str | None = None
    has_looked_back: bool = False
    delivered: int = 0
    share: tuple[int, int] | None = None
    missing: deque[MissingFrame] = field(default_factory=deque)
    watermarks: Watermarks = field(default_factory=Watermarks)

    def take(self, payload: bytes) -> list[tuple[float, float]]:
        """Take a statement of a relay; return the times between which messages may be missing."""
        control = read_control(payload)
        return [] if control is None else self.watermarks.take(control)
