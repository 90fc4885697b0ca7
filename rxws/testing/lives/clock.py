"""Blocks the loop: by sleeping in real time, or by advancing the clock in virtual time."""

from __future__ import annotations

import asyncio
import time
from typing import Any

__all__ = ["stand_still"]


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
