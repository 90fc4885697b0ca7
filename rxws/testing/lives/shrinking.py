"""The shortest life that still fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from .report import Report
from .schedule import Schedule, simpler

__all__ = ["shrink"]

MOST_PLAYED: Final = 300
"""How many lives are played at most to find a shorter one."""


async def shrink(report: Report, play: Callable[[Schedule], Awaitable[Report]]) -> Report:
    """Return the report of the shortest schedule that fails in one of the ways in which this one does.

    Args:
        report: of a life that failed.
        play: plays a schedule.
    """
    played = 0
    is_shorter = True
    while is_shorter:
        is_shorter = False
        for schedule in simpler(report.schedule):
            if played == MOST_PLAYED:
                return report
            played += 1
            shorter = await play(schedule)
            if shorter.kinds & report.kinds:
                report, is_shorter = shorter, True
                break
    return report
