"""The limits of a matcher, and its results besides the items. No I/O."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["INCOMPARABLE", "GapFound", "Joined", "Limits", "Lost", "Outcome", "Reopen", "Resumed"]

#: The identity of a message that cannot be compared. It is never a copy, has no copies, and is not evidence.
INCOMPARABLE: Final = object()


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a matcher, in seconds, messages and bytes.

    Attributes:
        settle: a line joins after it has agreed for this many seconds.
        reach: a joined line may lag by this many seconds. A larger observed lag raises this limit.
        farthest: the upper limit of that lag. A line that has not agreed for this many seconds is closed, and another
            is opened.
        messages: the largest number of remembered deliveries, and of messages that a line holds in a channel.
        bytes: the same limit in bytes.
        tail: the number of deliveries of each channel that are remembered in any case.
    """

    settle: float = 0.5
    reach: float = 2.0
    farthest: float = 10.0
    messages: int = 10_000
    bytes: int = 64 << 20
    tail: int = 8


@dataclass(frozen=True, slots=True)
class GapFound:
    """Messages may be missing in these channels.

    Attributes:
        start: the time until which every message of these channels was delivered.
        end: when the gap was found.
        channels: the channels of the gap.
    """

    start: float
    end: float
    channels: tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class Joined:
    """A line has joined in a channel."""

    line: int
    channel: Hashable


@dataclass(frozen=True, slots=True)
class Lost:
    """A line is no longer joined in a channel: it is ``"behind"`` (lags too much) or ``"mute"`` (silent)."""

    line: int
    channel: Hashable
    reason: Literal["behind", "mute"]


@dataclass(frozen=True, slots=True)
class Reopen:
    """A line cannot be compared with the others. The caller must close it and open another."""

    line: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """A line that began after the end of another continues it in these channels without a missing message."""

    line: int
    channels: tuple[Hashable, ...]


Outcome = GapFound | Joined | Lost | Reopen | Resumed
