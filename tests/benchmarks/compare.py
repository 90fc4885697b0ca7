"""Compares two checkouts of rxws row by row, to find out whether the new one is slower."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .contenders import Run
from .cost import ROOT, cost_of
from .rows import Row

PAIRS = 7
"""How many times each row is measured with each checkout."""

TOLERANCE = 0.03
"""The fraction by which a row's cost may grow."""

WIDE = 0.05
"""If the quartiles differ by more than this fraction, the spread is noted."""


@dataclass(frozen=True)
class Comparison:
    """The costs of one row with two checkouts, pair by pair."""

    row: Row
    old: Sequence[float]
    new: Sequence[float]

    @property
    def ratios(self) -> list[float]:
        """Old cost divided by new cost. Below 1 the new checkout is worse. If both costs are 0, the ratio is 1."""
        pairs = zip(self.old, self.new, strict=True)
        return [old / new if new > 0 else 1.0 if old <= 0 else float("inf") for old, new in pairs]

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The middle half of the ratios."""
        if len(self.ratios) < 2:
            return self.ratio, self.ratio
        low, _, high = statistics.quantiles(self.ratios, n=4, method="inclusive")
        return low, high

    @property
    def is_worse(self) -> bool:
        """Whether the new checkout is worse by more than :data:`TOLERANCE`.

        A row that is not steady is worse only if the new checkout misses the row's target and the old one reaches it.
        """
        if self.row.is_steady:
            return self.ratio * (1 + TOLERANCE) < 1
        if self.row.theirs is not None:
            return False
        old, new = map(statistics.median, (self.old, self.new))
        return self.row.is_reached(old) and not self.row.is_reached(new)

    @property
    def note(self) -> str:
        """A note on how far the ratio can be trusted, or ""."""
        if not self.row.is_steady:
            return "not steady: judged by its target" if self.row.theirs is None else "not steady: not judged"
        low, high = self.quartiles
        if high - low < WIDE:
            return ""
        return "wide spread" + (": measure it again" if low * (1 + TOLERANCE) < 1 < high * (1 + TOLERANCE) else "")

    def __str__(self) -> str:
        old, new = map(statistics.median, (self.old, self.new))
        low, high = self.quartiles
        return (
            f"{self.row.name:20} {old:>10,.2f} {new:>10,.2f} {self.row.cost_unit:5} {self.ratio:6.3f}"
            f"  ({low:.3f} to {high:.3f}, {len(self.old)} pairs)  {'WORSE' if self.is_worse else 'ok':6} {self.note}"
        ).rstrip()


def distinct(rows: Iterable[Row]) -> list[Row]:
    """Return the rows, but leave out a row in which rxws does the same work as in an earlier row."""
    found: dict[object, Row] = {}
    for row in rows:
        found.setdefault(row.ours, row)
    return list(found.values())


async def compare(checkout: Path, row: Row, run: Run, pairs: int | None = None) -> Comparison:
    """Measure a row alternately with both checkouts, each time in a new process.

    A row that seems worse is measured up to three times as often before it counts as worse.
    """
    old: list[float] = []
    new: list[float] = []
    batch = pairs or min(row.rounds or PAIRS, PAIRS)
    for _ in range(3):
        for _ in range(batch):
            # The order alternates, so that a trend over time favours neither checkout.
            for side in ("old", "new") if len(new) % 2 else ("new", "old"):
                costs, place = (old, checkout) if side == "old" else (new, ROOT)
                costs.append(await cost_of(place, row.name, run))
        comparison = Comparison(row, old, new)
        if not comparison.is_worse:
            break
    return comparison
