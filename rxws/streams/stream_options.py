"""StreamOptions: the options of a stream or of a handler's queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from ..observables.buffer import DEFAULT_MAXBYTES, DEFAULT_MAXSIZE, Overflow

__all__ = ["StreamOptions"]


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """The checked options of a stream or of a handler's queue.

    See :meth:`~rxws.AsyncWebsocketStreamInterface.stream_filter`.

    Attributes:
        maxsize: the largest number of waiting messages; None for no bound.
        overflow: what happens when a message arrives while the buffer is full.
        gaps: whether the stream contains ``Gap`` objects. Handlers ignore it.
        copy: whether each message is a deep copy. Handlers ignore it.
        maxbytes: the largest size of the waiting messages in bytes; None for no bound.

    Raises:
        TypeError: ``maxsize`` or ``maxbytes`` is not an int.
        ValueError: ``maxsize`` or ``maxbytes`` is less than 1, or ``overflow`` is unknown.
    """

    maxsize: int | None = DEFAULT_MAXSIZE
    overflow: Overflow = "error"
    gaps: bool = False
    copy: bool = False
    maxbytes: int | None = DEFAULT_MAXBYTES

    def __post_init__(self) -> None:
        for name, limit in (("maxsize", self.maxsize), ("maxbytes", self.maxbytes)):
            if limit is None:
                continue
            if isinstance(limit, bool) or not isinstance(limit, int):
                raise TypeError(f"{name} must be a positive int, or None for no bound, not {limit!r}")
            if limit < 1:
                raise ValueError(f"{name} must be at least 1, or None for no bound, not {limit}")
        if self.overflow not in get_args(Overflow):
            raise ValueError(f"overflow must be 'error', 'drop_oldest' or 'drop_newest', not {self.overflow!r}")
