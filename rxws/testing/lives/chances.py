"""When, and of which connections: what ingredients decide by chance. Pure."""

from __future__ import annotations

from random import Random
from typing import Final

from .schedule import Plan

__all__ = ["ALL", "NEWEST", "OLDEST", "some", "which"]

NEWEST: Final = 0
OLDEST: Final = 1
ALL: Final = 2
"""Which connections an act is about."""


def some(rng: Random, plan: Plan, most: int) -> list[float]:
    """Return up to so many moments of ten seconds of life, at least one, none of them within its first second."""
    most = max(1, round(most * plan.seconds / 10))
    return sorted(rng.uniform(1.0, plan.seconds) for _ in range(rng.randint(1, most)))


def which(rng: Random) -> int:
    """Return which connections are meant: mostly the newest."""
    return rng.choice((NEWEST, NEWEST, OLDEST, ALL))
