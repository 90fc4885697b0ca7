"""Finds the shortest life that still fails."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Final

from .report import Report
from .schedule import Schedule, simpler

__all__ = ["shorter", "shrink"]

MOST_PLAYED: Final = 300
"""Maximum number of lives that are run to find the shortest one."""


def _search(report: Report) -> Generator[Schedule, Report, Report]:
    """Yield schedules to play and receive their reports. Return the report of the shortest schedule that still fails.

    A schedule still fails if it has a problem of the same kind as the first report.
    """
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
                report.is_shortened = True
                break
    return report


async def shrink(report: Report, play: Callable[[Schedule], Awaitable[Report]]) -> Report:
    """Return the report of the shortest schedule that has one of the kinds of problems of this report.

    Args:
        report: the report of a life that failed.
        play: plays a schedule and returns its report.
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
    """Return what :func:`shrink` returns, with a function that plays each schedule in its own loop."""
    search = _search(report)
    try:
        schedule = next(search)
        while True:
            schedule = search.send(play(schedule))
    except StopIteration as found:
        shortest: Report = found.value
        return shortest
