"""The shortest life that still fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Final

from .report import Report
from .schedule import Schedule, simpler

__all__ = ["shorter", "shrink"]

MOST_PLAYED: Final = 300
"""How many lives are played at most to find a shorter one."""


def _search(report: Report) -> Generator[Schedule, Report, Report]:
    """Give schedules to be played, take their reports, and return the shortest that fails as the first one did."""
    played, is_shorter = 0, True
    while is_shorter:
        is_shorter = False
        for schedule in simpler(report.schedule):
            if played == MOST_PLAYED:
                return report
            played += 1
            found = yield schedule
            if found.kinds & report.kinds:
                report, is_shorter = found, True
                break
    return report


async def shrink(report: Report, play: Callable[[Schedule], Awaitable[Report]]) -> Report:
    """Return the report of the shortest schedule that fails in one of the ways in which this one does.

    Args:
        report: of a life that failed.
        play: plays a schedule.
    """
    search = _search(report)
    try:
        schedule = next(search)
        while True:
            schedule = search.send(await play(schedule))
    except StopIteration as found:
        shortest: Report = found.value
        return shortest


def shorter(report: Report, play: Callable[[Schedule], Report]) -> Report:
    """Do the same with a function that plays each schedule in a loop of its own."""
    search = _search(report)
    try:
        schedule = next(search)
        while True:
            schedule = search.send(play(schedule))
    except StopIteration as found:
        shortest: Report = found.value
        return shortest
