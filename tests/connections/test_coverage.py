"""The chain of the intervals that sources claim to be complete: examples, and properties with clocks that differ."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxws.connections.coverage import SOURCES, Coverage, Hole, Interval


def spans(coverage: Coverage) -> list[tuple[float, float]]:
    """Return the intervals without their proofs."""
    return [(each.start, each.end) for each in coverage.intervals]


def test_is_empty_before_the_first_claim():
    """Before the first claim the coverage has no chain, no interval and no hole."""
    coverage = Coverage()
    assert (coverage.since, coverage.until, coverage.intervals, coverage.holes(9.0)) == (None, None, (), [])


def test_claim_of_the_same_source_extends_its_interval():
    """A claim with the same start as the last one of its source extends the interval."""
    coverage = Coverage()
    coverage.claim("a", 1.0, 2.0, 2.0, "connection")
    coverage.claim("a", 1.0, 5.0, 5.0, "connection")
    assert coverage.intervals == (Interval(1.0, 5.0, "connection"),)
    assert (coverage.since, coverage.until) == (1.0, 5.0)


def test_claim_that_is_older_than_the_last_one_changes_nothing():
    """A claim that ends before the last one of its source does not shorten the interval."""
    coverage = Coverage()
    coverage.claim("a", 1.0, 5.0, 5.0)
    coverage.claim("a", 1.0, 3.0, 6.0)
    assert spans(coverage) == [(1.0, 5.0)]


def test_another_source_that_overlaps_continues_the_chain():
    """A claim that begins before the chain's end is a further interval of the chain, with its own proof."""
    coverage = Coverage()
    coverage.claim("a", 0.0, 10.0, 10.0, "connection")
    coverage.claim("b", 8.0, 12.0, 12.0, "line")
    assert coverage.intervals == (Interval(0.0, 10.0, "connection"), Interval(10.0, 12.0, "line"))
    assert (coverage.since, coverage.until) == (0.0, 12.0)


def test_sources_that_take_turns_make_one_interval_each():
    """Two sources that both continue make two intervals, and not one for each claim."""
    coverage = Coverage()
    for time in range(1, 100):
        coverage.claim("ab"[time % 2], 0.0, float(time), float(time))
    assert spans(coverage) == [(0.0, 1.0), (1.0, 99.0)]


def test_claim_after_a_hole_waits_for_another_source():
    """A claim that begins after the chain's end joins it when another source closes the hole within the patience."""
    coverage = Coverage(patience=2.0)
    coverage.claim("a", 0.0, 10.0, 10.0)
    coverage.claim("b", 11.0, 12.0, 12.0)
    assert coverage.holes(13.9) == []
    coverage.claim("a", 0.0, 11.5, 13.9)
    assert coverage.holes(99.0) == []
    assert (coverage.since, coverage.until) == (0.0, 12.0)


def test_hole_is_found_once_when_patience_ends():
    """A hole that no source closes is found once, and a new chain begins after it."""
    coverage = Coverage(patience=2.0)
    coverage.claim("a", 0.0, 10.0, 10.0, "connection")
    coverage.claim("b", 11.0, 12.0, 12.0, "source")
    coverage.claim("b", 11.0, 13.0, 13.0, "source")
    assert coverage.holes(14.0) == [Hole(10.0, 11.0)]
    assert coverage.holes(99.0) == []
    assert coverage.intervals == (Interval(0.0, 10.0, "connection"), Interval(11.0, 13.0, "source"))
    assert (coverage.since, coverage.until) == (11.0, 13.0)


def test_source_that_restarts_within_its_own_interval_needs_no_overlap():
    """An interval that begins at the end of the same source's previous interval continues it, at any tolerance."""
    coverage = Coverage(tolerance=1.0)
    coverage.claim("a", 0.0, 10.0, 10.0)
    coverage.claim("a", 10.0, 11.0, 11.0)
    assert coverage.holes(99.0) == []
    assert coverage.since == 0.0


def test_overlap_that_clocks_may_feign_is_a_hole():
    """If two sources' claims overlap by less than the tolerance of the clocks, there is a hole of this tolerance."""
    coverage = Coverage(tolerance=0.5)
    coverage.claim("a", 0.0, 10.0, 10.0)
    coverage.claim("b", 9.75, 12.0, 12.0)
    assert coverage.holes(12.0) == [Hole(9.5, 10.0)]
    assert spans(coverage) == [(0.0, 9.5), (10.0, 12.0)]


def test_excluded_time_cuts_the_intervals_that_it_touches():
    """An excluded time in the past is cut out of the intervals, and the chain begins at its end."""
    coverage = Coverage()
    coverage.claim("a", 0.0, 10.0, 10.0, "connection")
    coverage.claim("b", 5.0, 20.0, 20.0, "overlap")
    coverage.exclude(8.0, 12.0, "source")
    assert coverage.intervals == (Interval(0.0, 8.0, "connection"), Interval(12.0, 20.0, "source"))
    assert (coverage.since, coverage.until) == (12.0, 20.0)


def test_excluded_time_keeps_the_proofs_after_it():
    """Intervals after an excluded time keep their own proofs."""
    coverage = Coverage()
    coverage.claim("a", 0.0, 10.0, 10.0, "connection")
    coverage.claim("b", 5.0, 20.0, 20.0, "overlap")
    coverage.exclude(2.0, 3.0, "source")
    assert coverage.intervals == (
        Interval(0.0, 2.0, "connection"),
        Interval(3.0, 10.0, "source"),
        Interval(10.0, 20.0, "overlap"),
    )


def test_excluded_time_before_the_chain_leaves_it():
    """An excluded time before the chain does not change the chain."""
    coverage = Coverage()
    coverage.claim("a", 0.0, 10.0, 10.0)
    coverage.exclude(10.0, 15.0)
    coverage.claim("b", 15.0, 20.0, 20.0)
    coverage.exclude(3.0, 4.0)
    assert (coverage.since, spans(coverage)) == (15.0, [(0.0, 3.0), (4.0, 10.0), (15.0, 20.0)])


def test_excluded_time_at_the_end_ends_the_chain():
    """An excluded time beyond the chain's end ends the chain; the same source begins the next chain after it."""
    coverage = Coverage()
    coverage.claim("a", 0.0, 10.0, 10.0, "connection")
    coverage.exclude(9.0, 12.0)
    assert (coverage.since, coverage.until) == (None, 12.0)
    coverage.claim("a", 0.0, 11.0, 12.0, "connection")
    assert coverage.since is None
    coverage.claim("a", 0.0, 13.0, 13.0, "connection")
    assert (coverage.since, spans(coverage)) == (12.0, [(0.0, 9.0), (12.0, 13.0)])


def test_hole_without_a_length_still_ends_the_chain():
    """An excluded time without a length still separates the intervals before it from those after it."""
    coverage = Coverage()
    coverage.claim("a", 0.0, 10.0, 10.0)
    coverage.exclude(4.0, 4.0)
    assert (coverage.since, spans(coverage)) == (4.0, [(0.0, 4.0), (4.0, 10.0)])


@pytest.mark.parametrize(("start", "end"), [(2.0, 1.0), (math.nan, 1.0), (0.0, math.inf), (-math.inf, 0.0)])
@pytest.mark.parametrize("method", ["claim", "exclude"])
def test_invalid_interval_is_refused(method, start, end):
    """An interval that ends before it starts, or is not finite, raises an error that names both times."""
    coverage = Coverage()
    more = (0.0,) if method == "claim" else ()
    with pytest.raises(ValueError, match="finite times"):
        getattr(coverage, method)(*(["a"] if more else []), start, end, *more)


def test_keeps_the_newest_intervals_and_sources():
    """The oldest intervals are forgotten, and so are the sources whose last claims are the oldest."""
    coverage = Coverage(limit=10)
    for number in range(SOURCES + 50):
        coverage.claim(number, float(number), number + 1.5, number + 1.5)
    assert len(coverage.intervals) == 10
    assert coverage.intervals[-1].end == coverage.until == SOURCES + 50.5
    assert coverage.since == 0.0
    # The first source is forgotten, so its next claim joins the chain as the claim of a new source would.
    coverage.claim(0, 0.0, SOURCES + 60.0, SOURCES + 60.0)
    assert coverage.until == SOURCES + 60.0


# Properties. Each source is complete in some intervals, and its clock differs from the true time.


@dataclass(frozen=True)
class World:
    """The times in which each source is complete, the error of its clock, and the times of its claims.

    Attributes:
        tolerance: the largest difference between two clocks.
        patience: the patience of the coverage.
        offsets: how many seconds each source's clock is ahead of the true clock.
        complete: for each source the intervals in which it is complete, in seconds of the true clock.
        every: seconds between two claims.
        delays: how many seconds after its time each source's claim arrives.
    """

    tolerance: float
    patience: float
    offsets: list[float]
    complete: list[list[tuple[float, float]]]
    every: float
    delays: list[float]

    def claims(self) -> list[tuple[float, int, float, float]]:
        """Return the claims by time of arrival: the time, the source, and the interval on the source's clock."""
        found = []
        for source, (offset, intervals) in enumerate(zip(self.offsets, self.complete, strict=True)):
            for start, end in intervals:
                times = [start + step * self.every for step in range(1, 1 + int((end - start) / self.every))]
                found += [(time + self.delays[source], source, start + offset, time + offset) for time in (*times, end)]
        return sorted(found)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Draw a world of one to three sources. All times are multiples of 1/8, so that sums are exact."""
    eighths = st.integers(0, 400).map(lambda count: count / 8)
    tolerance = draw(st.sampled_from((0.0, 0.25, 1.0)))
    count = draw(st.integers(1, 3))
    complete = []
    for _ in range(count):
        times = sorted(draw(st.lists(eighths, min_size=2, max_size=8, unique=True)))
        complete.append(list(zip(times[::2], times[1::2], strict=False)))
    offsets = [draw(st.sampled_from((-tolerance / 2, 0.0, tolerance / 2))) for _ in range(count)]
    delays = [draw(st.sampled_from((0.0, 0.5, 3.0))) for _ in range(count)]
    patience = draw(st.sampled_from((0.0, 2.0, 1000.0)))
    return World(tolerance, patience, offsets, complete, draw(st.sampled_from((0.5, 2.0, 100.0))), delays)


def covered(intervals: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the union of intervals."""
    union: list[tuple[float, float]] = []
    for start, end in sorted(intervals):
        if union and start <= union[-1][1]:
            union[-1] = (union[-1][0], max(end, union[-1][1]))
        else:
            union.append((start, end))
    return union


def played(world: World) -> tuple[Coverage, list[Hole]]:
    """Pass a world's claims to a coverage; return the coverage and the holes that it found after each claim."""
    coverage, holes = Coverage(world.tolerance, world.patience), []
    for when, source, start, end in world.claims():
        holes += coverage.holes(when)
        coverage.claim(source, start, end, when)
        holes += coverage.holes(when)
    return coverage, holes


@given(worlds())
def test_no_interval_covers_a_time_that_no_source_had(world):
    """With clocks that differ by at most the tolerance, no interval covers a time in which no source was complete."""
    coverage, _ = played(world)
    true = covered([interval for each in world.complete for interval in each])
    chains = covered(spans(coverage))
    margin = world.tolerance / 2
    for (_, start), (end, _) in itertools.pairwise(true):
        assert not any(since < start - margin and end + margin < until for since, until in chains)
        # A chain that spans the hole would contain its middle, unless the hole is shorter than the clocks' difference.
        middle = (start + end) / 2
        if end - start > 2 * world.tolerance:
            assert not any(since < middle < until for since, until in chains)


@given(worlds())
def test_intervals_and_holes_never_overlap(world):
    """Intervals are ordered and do not touch, and each hole that was found lies between two of them."""
    coverage, holes = played(world)
    found = spans(coverage)
    assert all(start <= end for start, end in found)
    assert all(before[1] <= behind[0] for before, behind in itertools.pairwise(found))
    for hole in holes:
        assert not any(start < hole.end and hole.start < end for start, end in found)
    for (_, end), (start, _) in itertools.pairwise(found):
        assert end == start or any(since <= end and start <= until for since, until in covered(holes))


@given(worlds())
def test_with_equal_clocks_all_that_was_claimed_is_covered(world):
    """With equal clocks and infinite patience, the chain covers the union of the claims."""
    coverage = Coverage(0.0, math.inf)
    claims = [(start - world.offsets[source], end - world.offsets[source]) for _, source, start, end in world.claims()]
    for (when, source, _, _), (start, end) in zip(world.claims(), claims, strict=True):
        coverage.claim(source, start, end, when)
    chain = next((start, end) for start, end in covered(claims) if start <= claims[0][0] <= end)
    # A waiting claim is forgotten when its source starts a new interval, so the chain may end earlier.
    assert coverage.since == claims[0][0]
    assert claims[0][1] <= coverage.until <= chain[1]
    if all(len(each) == 1 for each in world.complete):
        assert coverage.until == chain[1]


@given(worlds())
def test_since_and_until_are_the_newest_chain(world):
    """``since`` is the start, and ``until`` the end, of the last sequence of intervals that touch each other."""
    coverage, _ = played(world)
    assert (coverage.since, coverage.until) == covered(spans(coverage))[-1]
