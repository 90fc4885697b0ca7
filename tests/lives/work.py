"""Functions that play lives in their own loop, for tests and for processes."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Collection
from unittest import mock

from rxws.connections import rotation
from rxws.pytest_plugin import virtual_loop
from rxws.testing.lives import Report, Schedule, compose, play
from rxws.testing.lives.clock import STARVED

__all__ = ["play_one", "play_some"]

ATTEMPTS = 3
"""How often a life in real time is played if it fails and the machine is busy."""


def play_one(schedule: Schedule, *, is_real: bool = False) -> Report:
    """Play a life in its own loop: in virtual time, or in real time on loopback sockets."""
    if is_real:
        return _play_in_real_time(schedule)
    # An overlap must end by itself. The limit would hide one that does not.
    no_limit = mock.patch.object(rotation, "FORGET_TIMEOUT", 1e6)
    with no_limit, asyncio.Runner(loop_factory=virtual_loop) as runner:
        return runner.run(play(schedule))


def _play_in_real_time(schedule: Schedule) -> Report:
    """Play a life on sockets, and again if it fails on a machine that was too busy for its times."""
    for _ in range(ATTEMPTS):
        report = asyncio.run(play(schedule, is_real=True))
        if not (report.problems and report.lateness > STARVED):
            break
    return report


def play_some(seeds: Collection[int], without: Collection[str], only: Collection[str], is_real: bool) -> list[Report]:
    """Play lives in a process of the pool, and return the reports of those that failed."""
    logging.disable(logging.CRITICAL)
    gc.freeze()
    reports = (play_one(compose(seed, without, only), is_real=is_real) for seed in seeds)
    return [report for report in reports if report.problems]
