"""Finds out from the statements of all relays up to what time none of their messages is missing. No I/O."""

from __future__ import annotations

from ..connections import Coverage
from .control import CLOSED, JOINING, Control

__all__ = ["Watermarks"]

#: Seconds by which the clocks of two relays may differ. The interval of a new relay must overlap with that of another
#: one by at least this time.
TOLERANCE = 0.3


class Watermarks:
    """The statements of the relays of one or more feeds, in the order of the stream.

    Attributes:
        complete_until: the time before which no message that the relays received is missing, in seconds since the
            epoch; None before the first statement, and when all relays are closed.
    """

    def __init__(self) -> None:
        self.complete_until: float | None = None
        self._feeds: dict[str, _Feed] = {}

    def take(self, control: Control) -> list[tuple[float, float]]:
        """Take the next statement. Return the intervals (start and end) in which messages may be missing."""
        feed = self._feeds.setdefault(control.feed, _Feed())
        holes = feed.take(control)
        if feed.is_closed:
            del self._feeds[control.feed]
        times = [each.coverage.until for each in self._feeds.values() if each.coverage.until is not None]
        self.complete_until = min(times, default=None)
        return holes

    def forget(self) -> None:
        """Forget all statements, because the stream is read from another place, or is another one."""
        self._feeds.clear()
        self.complete_until = None


class _Feed:
    def __init__(self) -> None:
        self.coverage = Coverage(tolerance=TOLERANCE)
        # The interval that each relay has claimed: its start and end.
        self._claims: dict[tuple[str, str], tuple[float, float]] = {}

    @property
    def is_closed(self) -> bool:
        return not self._claims

    def take(self, control: Control) -> list[tuple[float, float]]:
        source = control.relay, control.boot
        if control.reason == JOINING:
            return []
        if control.event in ("Alive", "Connected"):
            holes = self._begin(control.since) if control.event == "Connected" else []
            self._claims[source] = control.since, control.time
            self.coverage.claim(source, control.since, control.time, control.time)
            return holes + [(hole.start, hole.end) for hole in self.coverage.holes(control.time)]
        if control.reason == CLOSED:
            self._claims.pop(source, None)
            return []
        return self._retract(source, control.time)

    def _begin(self, since: float) -> list[tuple[float, float]]:
        """Return the hole before a relay that begins and does not follow the others. Its messages follow the hole."""
        until = self.coverage.until
        if until is None or since + TOLERANCE <= until:
            return []
        hole = min(until, since), max(until, since)
        self.coverage.exclude(*hole)
        return [hole]

    def _retract(self, source: tuple[str, str], until: float) -> list[tuple[float, float]]:
        """Shorten a relay's claim to ``until``, because the relay noticed later that its feed was silent."""
        since, claimed = self._claims.get(source, (until, until))
        others = [claim for other, claim in self._claims.items() if other != source]
        if claimed <= until or any(start <= until and claimed <= end for start, end in others):
            return []
        since = min(since, until)
        self._claims[source] = since, until
        if others:
            self.coverage.exclude(until, claimed)
            return [(until, claimed)]
        # The hole is reported when it ends, which is when this relay or another one begins.
        self.coverage = Coverage(tolerance=TOLERANCE)
        self.coverage.claim(source, since, until, until)
        return []
