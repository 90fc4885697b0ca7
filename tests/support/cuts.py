"""The command line of the tests that cut a feed many times, and judge what arrived."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Callable, Collection, Coroutine
from typing import Any, TypeVar

from rxws.pytest_plugin import virtual_loop

__all__ = ["parse_cuts", "timed"]

T = TypeVar("T")


def parse_cuts(name: str, ways: Collection[str], *, cuts: int, rate: float) -> argparse.Namespace:
    """Return the options of the command line: ``cuts``, ``seed``, ``rate`` and ``ways``.

    Args:
        name: the name of the module.
        ways: the names of all ways.
        cuts: the number of cuts by default.
        rate: the messages a second by default.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {name}")
    parser.add_argument("--cuts", type=int, default=cuts, help=f"how many cuts in each way (default: {cuts})")
    parser.add_argument("--seed", type=int, default=0, help="the seed (default: 0)")
    parser.add_argument("--rate", type=float, default=rate, help=f"messages a second (default: {rate:g})")
    parser.add_argument("--way", dest="ways", action="append", choices=ways, help="one way only")
    options = parser.parse_args()
    options.ways = options.ways or [*ways]
    return options


def timed(play: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, str]:
    """Run a coroutine function in virtual time. Return its result, and a text with the processor time."""
    started = time.process_time()
    with asyncio.Runner(loop_factory=virtual_loop) as runner:
        result = runner.run(play())
    return result, f"in {time.process_time() - started:.0f} s of processor time"
