"""Judges the intervals that a feed claims to be complete, by comparing them with the lost messages. No I/O."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from rxws import Gap, Interval

from .report import Problem

__all__ = ["Claims", "Loss", "judge_claims"]

EXACT = 1e-6
"""Seconds by which equal times may differ, because floats are inexact."""


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss of a number that a consumer did not get.

    Attributes:
        name: the consumer and the number.
        since: the earliest time at which the number would have arrived.
        until: the latest time.
    """

    name: str
    since: float
    until: float


@dataclass(slots=True)
class Claims:
    """What a feed claims about its completeness. Times are those of the loop's clock.

    Attributes:
        intervals: the intervals of ``continuity()``.
        gaps: the gaps of ``continuity()``.
        samples: pairs of a time and the value of ``statistics().complete_since`` at that time.
    """

    intervals: list[Interval] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    samples: list[tuple[float, float | None]] = field(default_factory=list)


def judge_claims(claims: Claims, losses: list[Loss], tolerance: float) -> Iterator[Problem]:
    """Yield each claim that is false: an interval with a loss in it, a hole without a Gap, a Gap in an interval."""
    intervals = claims.intervals
    for each in intervals:
        if each.start > each.end:
            yield Problem("interval backwards", f"{each}")
        for loss in losses:
            if each.start + tolerance < loss.since and loss.until < each.end - tolerance:
                yield Problem(
                    "complete without it", f"{loss.name}, expected {loss.since:.3f} to {loss.until:.3f}: {each}"
                )
        for gap in claims.gaps:
            if min(each.end, gap.end) - max(each.start, gap.start) > EXACT:
                yield Problem("complete in a Gap", f"{gap.start:.3f} to {gap.end:.3f} ({gap.reason}): {each}")
    for before, behind in itertools.pairwise(intervals):
        if behind.start < before.end - EXACT:
            yield Problem("intervals overlap", f"{before}, {behind}")
        for since, until in _not_in_gaps(before.end, behind.start, claims.gaps):
            yield Problem("hole without a Gap", f"{since:.3f} to {until:.3f}, between {before} and {behind}")
    yield from _judge_samples(claims)


def _not_in_gaps(since: float, until: float, gaps: list[Gap]) -> Iterator[tuple[float, float]]:
    """Yield the parts of a time that no Gap covers."""
    for gap in sorted(gaps, key=lambda gap: gap.start):
        if gap.end > since:
            if min(gap.start, until) > since + EXACT:
                yield since, min(gap.start, until)
            since = max(since, gap.end)
    if until > since + EXACT:
        yield since, until


def _judge_samples(claims: Claims) -> Iterator[Problem]:
    """Check that ``complete_since`` was never before the end of a Gap that had already been reported."""
    for at, since in claims.samples:
        told = [gap for gap in claims.gaps if gap.time < at - EXACT]
        wrong = [gap for gap in told if since is not None and since < gap.end - EXACT and gap.start >= since - EXACT]
        if wrong:
            yield Problem("complete since before a Gap", f"{since:.3f}, asked at {at:.3f}: {wrong[-1].end:.3f}")
        elif since is not None and since > at + EXACT and not any(gap.end >= since for gap in told):
            yield Problem("complete since the future", f"{since:.3f}, asked at {at:.3f}")
