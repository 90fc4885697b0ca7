"""The loop's clock, where it is a virtual one: it can be set on."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

__all__ = ["stand_apart", "stand_still"]

APART: Final = 600.0
"""Seconds that a virtual clock must differ from the monotonic one, so that nothing takes it for that."""


def _virtual_clock() -> Any:
    """Return async-solipsism's clock, or None where time is real."""
    return getattr(getattr(asyncio.get_running_loop(), "_selector", None), "clock", None)


def stand_still(seconds: float) -> None:
    """Let the loop stand still; in virtual time the clock goes on all the same."""
    clock = _virtual_clock()
    if clock is None:
        time.sleep(seconds)
    else:
        clock.advance(seconds)


def stand_apart() -> None:
    """Set a virtual clock on where it is about to meet the monotonic one, which the feed's times would depend on."""
    clock = _virtual_clock()
    if clock is not None and abs(clock.time() - time.monotonic()) < APART:
        clock.advance(2 * APART)
