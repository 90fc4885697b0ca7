"""Blocks the loop: by sleeping in real time, or by advancing the clock in virtual time. Finds other blockages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

__all__ = ["STARVED", "note_lateness", "stand_still"]

STARVED: Final = 0.1
"""A loop in real time that wakes up this many seconds late does not get enough of the processor."""

PULSE: Final = 0.02
"""Seconds between two checks of whether the loop is late."""


def _virtual_clock() -> Any:
    """Return async-solipsism's clock, or None in real time."""
    return getattr(getattr(asyncio.get_running_loop(), "_selector", None), "clock", None)


def stand_still(seconds: float) -> None:
    """Block the loop; in virtual time advance the clock instead."""
    clock = _virtual_clock()
    if clock is None:
        time.sleep(seconds)
    else:
        clock.advance(seconds)


async def note_lateness(note: Callable[[float, float], object]) -> None:
    """Call ``note`` with the start and the end of each interval in which the loop did not run although it should have.

    This runs until it is cancelled.
    """
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + PULSE
        await asyncio.sleep(PULSE)
        if loop.time() - due > STARVED:
            note(due, loop.time())
