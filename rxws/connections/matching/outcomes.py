"""The limits of a matcher, and its outcomes. Pure."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

__all__ = ["INCOMPARABLE", "GapFound", "Joined", "Limits", "Lost", "Outcome", "Reopen", "Resumed"]

#: The identity of a message that cannot be compared: it is never a copy, has no copies, and proves nothing.
INCOMPARABLE: Final = object()


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a matcher, in seconds, messages and bytes.

    Attributes:
        settle: lines must agree for this many seconds to be joined.
        reach: a joined line may be this many seconds behind, if no larger lag was seen.
        farthest: a joined line may never be further behind; a line without agreement for so long is opened anew.
        messages: how many deliveries are remembered, and how many messages a line holds in a channel.
        bytes: the same in bytes.
        tail: how many deliveries of each channel are remembered in any case.
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
        start: when the last message before the gap was delivered.
        end: when the gap was found.
        channels: the channels of the gap.
    """

    start: float
    end: float
    channels: tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class Joined:
    """A line joined in a channel."""

    line: int
    channel: Hashable


@dataclass(frozen=True, slots=True)
class Lost:
    """A line is no longer joined in a channel, because it is ``"behind"`` or ``"mute"``."""

    line: int
    channel: Hashable
    reason: str


@dataclass(frozen=True, slots=True)
class Reopen:
    """A line cannot be compared: the caller must close it and open another."""

    line: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """A line that began after the end of another continues it in these channels: nothing is missing."""

    line: int
    channels: tuple[Hashable, ...]


Outcome = GapFound | Joined | Lost | Reopen | Resumed
