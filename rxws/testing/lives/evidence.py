"""The evidence for the judge of a life: the log of the server, and the client's observations and calls. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from rxws import Gap

from .consumers import Seen
from .continuity import Claims
from .dialect import Numbered
from .record import VenueRecord
from .report import Problem
from .schedule import Settings

__all__ = ["CLOSE_TIMEOUT", "Deliveries", "Evidence", "RotateCall"]

CLOSE_TIMEOUT: Final = 1.0
"""The feed's ``close_timeout``, in seconds."""


@dataclass(slots=True)
class RotateCall:
    """A call of ``rotate()``.

    Attributes:
        at: when ``rotate()`` was called, on the loop's clock.
        flowing_on: the number of the only connection, if messages arrived on it; otherwise None.
        result: the result of the call; None: it has not returned yet.
        newest: the number of the newest connection when the call returned.
        returned_at: when the call returned.
        has_ended: whether the feed had ended when the call returned.
    """

    at: float
    flowing_on: int | None
    result: bool | None = None
    newest: int = 0
    returned_at: float = 0.0
    has_ended: bool = False


@dataclass(slots=True)
class Deliveries:
    """The last numbered messages that the feed had delivered before it reported a ``Gap``.

    Attributes:
        last: the last message of all; None: none was delivered.
        channels: the last message of each channel that was consumed at that time; None: none was delivered.
    """

    last: Numbered | None
    channels: dict[str, Numbered | None]


@dataclass(slots=True)
class Evidence:
    """The input of the judge.

    Attributes:
        settings: the settings of the life.
        record: the log of the server.
        seen: the items that each consumer received.
        past: the items of the channel whose missed messages the client fetches; None if there is no such channel.
        lacking: the numbers of that channel that its history lacks.
        gaps: the feed's ``Gap`` events, with times of the loop's clock.
        claims: the times that the feed claims to be complete.
        deliveries: for each of the Gaps, the last messages that had been delivered before.
        rotate_calls: the calls of ``rotate()``.
        standstills: the intervals in which the client's loop was blocked.
        slow_times: the intervals in which a slow handler delayed the client.
        wanted: the channels that must be subscribed at the end.
        quiet_from: messages published before this time must have arrived. None if the feed exited early.
        tolerance: seconds by which times may differ.
        problems: problems that were found outside the judge.
    """

    settings: Settings
    record: VenueRecord
    seen: list[Seen] = field(default_factory=list)
    past: Seen | None = None
    lacking: set[int] = field(default_factory=set)
    gaps: list[Gap] = field(default_factory=list)
    claims: Claims = field(default_factory=Claims)
    deliveries: list[Deliveries] = field(default_factory=list)
    rotate_calls: list[RotateCall] = field(default_factory=list)
    standstills: list[tuple[float, float]] = field(default_factory=list)
    slow_times: list[tuple[float, float]] = field(default_factory=list)
    wanted: list[str] = field(default_factory=list)
    quiet_from: float | None = None
    tolerance: float = 0.0
    problems: list[Problem] = field(default_factory=list)
