"""Derives from the events of a feed the intervals in which no message is missing, and the gaps between them. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ..reporting.events import Connected, Disconnected, Event, Gap, LineJoined, LineLost, Resumed, Rotated
from .coverage import LIMIT, Coverage, Interval, Proof

__all__ = ["Continuity", "Ledger", "ShardLedger"]


@dataclass(frozen=True, slots=True)
class Continuity:
    """When a feed was complete, and where messages may be missing.

    Attributes:
        intervals: the newest 10,000 intervals, in the order of time. They do not overlap. A rotation or a resumption
            begins a new interval where the one before ends, and its ``proof`` names it.
        gaps: the newest 10,000 gaps, in the order in which they were reported. No interval overlaps with a gap.
    """

    intervals: tuple[Interval, ...]
    gaps: tuple[Gap, ...]


class Ledger:
    """Tracks the continuity of a feed by the events of its connections.

    A connection is complete from the event ``Connected`` to its last message. ``Gap``, ``Rotated`` or ``Resumed`` then
    decides whether the connection follows the one before without a missing message.

    Args:
        limit: the largest number of intervals to keep, and of gaps; the oldest are dropped. None keeps all.
    """

    def __init__(self, limit: int | None = LIMIT) -> None:
        self._coverage = Coverage(limit=limit)
        self._gaps: deque[Gap] = deque(maxlen=limit)
        # The connection that delivers (0: its number is unknown), the start of its claim, and whether it is open.
        self._number, self._start, self._is_live = 0, 0.0, False
        self._ended_at = 0.0
        # An open connection, until it is known whether it follows the one before without a missing message; and whether
        # this was unknown at the end of the connection that it replaces.
        self._undecided: int | None = None
        self._is_doubtful = False
        # The connections of other lines, and whether they have joined.
        self._others: dict[int, bool] = {}

    @property
    def complete_since(self) -> float | None:
        """The time since which no message is missing, in seconds since the epoch; None if it is not complete now."""
        return self._coverage.since if self._is_live else None

    def heard(self, time: float | None) -> None:
        """Note when the last message was delivered, in seconds since the epoch; None: there was none.

        Ignored while it is unknown whether the connection of that message follows the one before.
        """
        if self._undecided is None and time is not None:
            self.extend(time)

    def extend(self, time: float) -> None:
        """Note that the connection with the newest claim was complete until ``time``, in seconds since the epoch."""
        if self._coverage.since is not None:
            self._claim(time)

    def continuity(self) -> Continuity:
        """Return the intervals and the gaps."""
        return Continuity(self._coverage.intervals, tuple(self._gaps))

    def began(self, time: float) -> None:
        """Note that a connection whose start was not seen is open at this time. Ignored if a connection is known."""
        if not self._is_live and self._undecided is None:
            self._begin(0, time)

    def before(self, publish: Callable[[Event], None]) -> Callable[[Event], None]:
        """Return a function that takes an event and then publishes it."""

        def note(event: Event) -> None:
            self.note(event)
            publish(event)

        return note

    def note(self, event: Event) -> None:
        """Take an event of the feed."""
        match event:
            case Connected(number=number) if self._coverage.until is None:
                self._begin(number, event.time)
            case Connected(number=number) if self._is_live:
                if number != self._number:
                    self._others.setdefault(number, False)
            case Connected(number=number):
                self._undecided = number
            case LineJoined(number=number) if number != self._number:
                self._others[number] = True
            case LineLost(number=number):
                self._others[number] = False
                if self._is_live and number == self._number:
                    self._leave(event.time)
            case Disconnected(number=int() as number):
                self._others.pop(number, None)
                if number == self._undecided:
                    self._undecided, self._is_doubtful = next(iter(self._others), None), True
                elif self._is_live and number == (self._number or number):
                    self._leave(event.time)
            case Rotated(number=number) if number == self._undecided and not self._is_doubtful:
                self._follow(number, "overlap", self._ended_at)
            case Resumed() if self._undecided is not None:
                # It may be the connection that a rotation has replaced meanwhile.
                self._follow(self._undecided, "resumed", self._ended_at)
            case Gap(start=start, end=end):
                if event.reason != "recording":
                    # Messages before the gap belong to the chain, even if their connection has ended.
                    self.extend(min(start, event.time))
                self._gaps.append(event)
                self.exclude(min(start, end), end, "source" if event.reason == "source" else "connection")

    def _leave(self, time: float) -> None:
        """Continue with a line that has joined. Without one, it is not known which connection follows."""
        joined = next((number for number, is_joined in self._others.items() if is_joined), None)
        if joined is not None:
            self._follow(joined, "line", time)
        else:
            self._is_live, self._ended_at = False, time
            self._undecided = next((number for number in self._others if number != self._number), None)

    def exclude(self, start: float, end: float, proof: Proof = "connection") -> None:
        """Note that messages may be missing from ``start`` to ``end``. ``proof`` is that of the interval after it."""
        self._coverage.exclude(start, end, proof)
        if self._undecided is not None:
            self._begin(self._undecided, end)
        elif self._is_live and self._coverage.since is None:
            self._follow(self._number, proof, end)

    def _begin(self, number: int, time: float) -> None:
        """Begin a chain with this connection."""
        if self._coverage.until is not None and self._coverage.until < time:
            self._coverage.exclude(self._coverage.until, time)
        self._follow(number, "connection", time)

    def _follow(self, number: int, proof: Proof, time: float) -> None:
        """Continue the chain at this time with this connection."""
        self.extend(time)
        until = self._coverage.until
        self._number, self._start = number, time if until is None else until
        self._is_live, self._undecided, self._is_doubtful = True, None, False
        self._others.pop(number, None)
        self._claim(self._start, proof)

    def _claim(self, end: float, proof: Proof = "connection") -> None:
        self._coverage.claim((self._number, self._start), self._start, max(end, self._start), end, proof)


class ShardLedger(Ledger):
    """Tracks the continuity of a feed whose connections have different channels: it is complete while all are open.

    A loss is reported as a ``Gap`` before its replacement counts as open. So while all connections are open, every loss
    is known.
    """

    def heard(self, time: float | None) -> None:
        """Note when the last message was delivered. Ignored while a connection is missing, as messages may be, too."""
        if self._is_live:
            super().heard(time)

    def note(self, event: Event) -> None:
        """Take an event of the feed."""
        if isinstance(event, Gap):
            super().note(event)
            if self._coverage.since is None:
                # It is complete from here until the next gap, whose loss is perhaps not reported yet.
                is_live = self._is_live
                self._begin(0, event.end)
                self._is_live = is_live

    def changed(self, is_live: bool, time: float) -> None:
        """Note that from now on all connections are open, or that one is missing."""
        if self._is_live and not is_live:
            self.extend(time)
            self._is_live = False
        elif is_live and not self._is_live:
            if self._coverage.since is None:
                self._begin(0, time)
            self._is_live = True
