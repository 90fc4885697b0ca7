"""The loop's clock, where it is a virtual one: it can be set on."""

from __future__ import annotations

import asyncio
import time
from typing import Any

__all__ = ["stand_still"]


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
