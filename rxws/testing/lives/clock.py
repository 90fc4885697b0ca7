"""The loop's clock; a virtual clock can be advanced."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

__all__ = ["stand_apart", "stand_still"]

APART: Final = 600.0
"""Seconds by which a virtual clock must differ from the monotonic one, so that code cannot confuse the two."""


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


def stand_apart() -> None:
    """Advance a virtual clock that is close to the monotonic one: otherwise the feed's times would depend on it."""
    clock = _virtual_clock()
    if clock is not None and abs(clock.time() - time.monotonic()) < APART:
        clock.advance(2 * APART)
