"""Plays a life, judges it, and looks for leaks."""

from __future__ import annotations

import asyncio
import random
from typing import Final

from ..leaks import assert_no_leaks
from .course import Life
from .dialect import Dialect
from .endpoint import MakeFeed, ready_made
from .oracle import judge
from .report import Problem, Report
from .schedule import Schedule

__all__ = ["play"]

LONGEST: Final = 180.0
"""Seconds that a whole life may take."""


async def play(
    schedule: Schedule, make_feed: MakeFeed | None = None, dialect: Dialect | None = None, *, is_real: bool = False
) -> Report:
    """Play a life, and return its report.

    During the life the numbers of :mod:`random` come from the schedule's seed, so that the life is repeatable.
    Cancelling is safe.

    Args:
        schedule: the life.
        make_feed: makes the feed; None: a ``ReactiveWebSocket``.
        dialect: the messages of server and client; None: JSON.
        is_real: whether to play on loopback sockets, in a loop with real time.
    """
    dialect = dialect or Dialect()
    loop, chance = asyncio.get_running_loop(), random.getstate()
    unhandled: list[str] = []
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: unhandled.append(str(context.get("exception") or context["message"])))
    random.seed(schedule.seed)
    problems, life = list[Problem](), Life(schedule, dialect)
    try:
        async with asyncio.timeout(LONGEST) as limit, assert_no_leaks(timeout=5.0 if is_real else 1.0):
            await life.live(make_feed or ready_made(schedule.settings, dialect), is_real)
    except TimeoutError:
        if not limit.expired():
            # The machine is too busy to start a server.
            raise
        problems.append(Problem("no end", f"the life has not ended after {LONGEST:g} s"))
    except AssertionError as error:
        problems.append(Problem("left behind", str(error)))
    finally:
        random.setstate(chance)
        loop.set_exception_handler(before)
    problems += [*judge(life.evidence), *life.references()]
    problems += [Problem("unhandled", text) for text in unhandled]
    return Report(schedule, problems, life.counts, life.began_at, life.lateness)
