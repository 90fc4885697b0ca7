"""Random choices that ingredients share: times and connections. No I/O."""

from __future__ import annotations

from random import Random
from typing import Final

from .schedule import Plan

__all__ = ["ALL", "NEWEST", "OLDEST", "some", "which"]

NEWEST: Final = 0
OLDEST: Final = 1
ALL: Final = 2
"""The connections that an act affects: the newest, the oldest, or all."""


def some(rng: Random, plan: Plan, most: int) -> list[float]:
    """Return random times of a life, sorted, after its first second: at least one, at most ``most`` per ten seconds."""
    most = max(1, round(most * plan.seconds / 10))
    return sorted(rng.uniform(1.0, plan.seconds) for _ in range(rng.randint(1, most)))


def which(rng: Random) -> int:
    """Return which connections an act affects: mostly the newest."""
    return rng.choice((NEWEST, NEWEST, OLDEST, ALL))
