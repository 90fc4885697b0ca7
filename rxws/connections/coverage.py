"""Chains the intervals that sources claim to be complete, and so knows up to what time no message is missing. No I/O.

A *source* is a connection, a line, or a relay on another machine. It *claims* that it had every message between two
times. Claims that follow each other without a hole are a *chain*. Messages may be missing only in the holes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

__all__ = ["LIMIT", "Coverage", "Hole", "Interval", "Proof"]

#: The proof that an interval follows the one before it without a missing message.
#:
#: - ``"connection"``: none. The interval begins when all channels were subscribed on a new connection.
#: - ``"overlap"``: in a rotation, the new connection was subscribed before the old one ended.
#: - ``"resumed"``: the server sent the messages that the lost connection had missed again.
#: - ``"line"``: another line with the same messages takes over.
#: - ``"source"``: the source of the messages states when it is complete.
Proof: TypeAlias = Literal["connection", "overlap", "resumed", "line", "source"]

#: Only this many of the newest intervals are kept.
LIMIT: Final = 10_000

#: Only this many sources are remembered: those with the latest claims.
SOURCES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A period in which no message is missing. Times are in seconds since the epoch, by the clock of its source.

    Attributes:
        start: its beginning. If it equals the end of the interval before, no message is missing between the two, unless
            a hole of length zero was reported there.
        end: its end; while the interval is still open, the time of the last message.
        proof: the proof that it follows the interval before: ``"overlap"``, ``"resumed"``, ``"line"`` or ``"source"``;
            or ``"connection"``, which is none.
    """

    start: float
    end: float
    proof: Proof


class Hole(NamedTuple):
    """A period in which messages may be missing."""

    start: float
    end: float


@dataclass(slots=True)
class _Claim:
    start: float
    end: float
    proof: Proof
    came: float
    is_joined: bool = False
    has_extended: bool = False


class Coverage:
    """Chains claims, and finds the holes between them.

    A claim joins the chain if it begins before the chain's end. A claim that begins later waits for another source to
    close the hole. Because the clocks of two sources may differ, a source joins the chain of others only if it overlaps
    with the chain by ``tolerance``.

    Args:
        tolerance: seconds by which the clocks of two sources may differ, at most.
        patience: seconds for which a claim waits for another source to close the hole in front of it, before the hole
            is reported.
        limit: the largest number of intervals to keep; the oldest are dropped. None keeps all.

    Attributes:
        since: the start of the current chain; None if there is none.
        until: the end of that chain, or of the last hole if that is later; None before the first claim.

    Example::

        coverage = Coverage(tolerance=0.1, patience=2.5)
        coverage.claim("relay a", 0.0, 10.0, now=10.0)
        coverage.claim("relay b", 8.0, 12.0, now=12.0)
        coverage.until                                          # 12.0
        coverage.claim("relay a", 15.0, 16.0, now=16.0)
        coverage.holes(18.5)                                    # [Hole(start=12.0, end=15.0)]
    """

    def __init__(self, tolerance: float = 0.0, patience: float = 0.0, limit: int | None = LIMIT) -> None:
        self.since: float | None = None
        self.until: float | None = None
        self._tolerance = tolerance
        self._patience = patience
        self._intervals: deque[Interval] = deque(maxlen=limit)
        # The newest claim of each source, in the order of these claims.
        self._claims: dict[Hashable, _Claim] = {}

    @property
    def intervals(self) -> tuple[Interval, ...]:
        """The newest intervals, which do not overlap, in the order of time."""
        return tuple(self._intervals)

    def claim(self, source: Hashable, start: float, end: float, now: float, proof: Proof = "source") -> None:
        """Note that a source had every message from ``start`` to ``end``.

        Args:
            source: the source. A claim with the same ``start`` as its last one continues that one.
            start: the beginning, in seconds on the source's clock.
            end: the end, on the same clock.
            now: the time by which patience is measured, in seconds.
            proof: the proof that it follows the interval before.

        Raises:
            ValueError: ``start`` or ``end`` is not finite, or the end is before the start.
        """
        _check(start, end)
        claim = self._claims.pop(source, None)
        if claim is None or claim.start != start:
            # Both intervals are on the clock of the same source, so no tolerance is needed.
            follows = claim is not None and claim.is_joined and claim.start <= start <= claim.end
            claim = _Claim(start, end, proof, now, is_joined=follows)
        if self.until is None:
            self.until = start
        if claim.end <= self.until:
            # The claim could not extend the chain before, so it has not waited until now.
            claim.came = now
        claim.end = max(claim.end, end)
        # After a hole, even one without a length, the claim begins a new interval.
        claim.has_extended = claim.has_extended and self.since is not None
        self._claims[source] = claim
        if len(self._claims) > SOURCES:
            del self._claims[next(iter(self._claims))]
        self._extend()

    def exclude(self, start: float, end: float, proof: Proof = "connection") -> None:
        """Note that messages may be missing from ``start`` to ``end``.

        Args:
            start: the beginning of the hole, in seconds.
            end: its end.
            proof: the proof of the interval after it.

        Raises:
            ValueError: ``start`` or ``end`` is not finite, or the end is before the start.
        """
        _check(start, end)
        behind: list[Interval] = []
        while self._intervals and self._intervals[-1].end > start:
            interval = self._intervals.pop()
            if interval.end > end:
                is_cut = interval.start <= end
                behind.append(Interval(end, interval.end, proof) if is_cut else interval)
            if interval.start < start:
                self._intervals.append(Interval(interval.start, start, interval.proof))
                break
        self._intervals.extend(reversed(behind))
        if self.until is None or end >= self.until:
            self.since, self.until = None, end
        elif self.since is not None:
            self.since = max(self.since, end)

    def holes(self, now: float) -> list[Hole]:
        """Return the new holes that no source has closed in time. A new chain begins after each of them."""
        found: list[Hole] = []
        while self.until is not None:
            until = self.until
            waiting = [each for each in self._claims.values() if not each.is_joined and each.end > until]
            first = min(waiting, key=lambda each: each.start, default=None)
            if first is None or now - first.came < self._patience:
                break
            # Because clocks differ, a claim may begin before the chain's end without following it.
            end = max(first.start, until)
            found.append(Hole(min(until, end - self._tolerance), end))
            self.exclude(*found[-1])
            self._extend_by(first, found[-1].end)
            self._extend()
        return found

    def _extend(self) -> None:
        """Join the claims that follow the chain, and extend it by those that are joined."""
        changed = True
        while changed:
            changed = False
            for claim in self._claims.values():
                assert self.until is not None
                # A new chain has no times yet with which the clock of a source could disagree.
                margin = 0.0 if self.since is None else self._tolerance
                if not claim.is_joined and claim.start + margin <= self.until:
                    claim.is_joined = True
                begins = self.since is None and claim.end == self.until and not claim.has_extended
                if claim.is_joined and (claim.end > self.until or begins):
                    self._extend_by(claim, self.until)
                    changed = True

    def _extend_by(self, claim: _Claim, until: float) -> None:
        claim.is_joined = True
        if self.since is None:
            self.since = until
        elif claim.has_extended and self._intervals:
            last = self._intervals.pop()
            self._intervals.append(Interval(last.start, claim.end, last.proof))
            self.until = claim.end
            return
        self._intervals.append(Interval(until, claim.end, claim.proof))
        claim.has_extended = True
        self.until = claim.end


def _check(start: float, end: float) -> None:
    if not -float("inf") < start <= end < float("inf"):
        raise ValueError(f"an interval needs finite times, and its end not before its start, not {start!r} and {end!r}")
