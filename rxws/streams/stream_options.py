"""StreamOptions: the options of a stream or of a handler's queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from ..observables.buffer import DEFAULT_MAXSIZE, Overflow

__all__ = ["StreamOptions"]


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """The checked options of a stream or of a handler's queue.

    See :meth:`~rxws.AsyncWebsocketStreamInterface.stream_filter`.

    Attributes:
        maxsize: the largest number of waiting messages; None for no bound.
        overflow: what happens when a message arrives while ``maxsize`` messages wait.
        gaps: whether the stream contains ``Gap`` objects. Handlers ignore it.
        copy: whether each message is a deep copy. Handlers ignore it.

    Raises:
        TypeError: ``maxsize`` is not an int.
        ValueError: ``maxsize`` is less than 1, or ``overflow`` is unknown.
    """

    maxsize: int | None = DEFAULT_MAXSIZE
    overflow: Overflow = "error"
    gaps: bool = False
    copy: bool = False

    def __post_init__(self) -> None:
        maxsize = self.maxsize
        if maxsize is not None and (isinstance(maxsize, bool) or not isinstance(maxsize, int)):
            raise TypeError(f"maxsize must be a positive int, or None for no bound, not {maxsize!r}")
        if maxsize is not None and maxsize < 1:
            raise ValueError(f"maxsize must be at least 1, or None for no bound, not {maxsize}")
        if self.overflow not in get_args(Overflow):
            raise ValueError(f"overflow must be 'error', 'drop_oldest' or 'drop_newest', not {self.overflow!r}")
