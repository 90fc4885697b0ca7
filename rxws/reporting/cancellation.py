"""Whose cancellation an exception is, and which exceptions end nothing but the function that raised them."""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["EXITS", "FAILURES", "is_being_cancelled", "is_torn_down"]

FAILURES: Final = (Exception, asyncio.CancelledError)
"""What a function of the user's may raise without ending anything but itself. CancelledError is one: it comes out of
any ``future.result()``, and that does not cancel the task that called the function."""

EXITS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""What ends the program or the coroutine: rxws passes these on."""


def is_being_cancelled(error: BaseException) -> bool:
    """Whether ``error`` is the cancellation of the task that runs, and not one that it came upon."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling() > 0)


def is_torn_down() -> bool:
    """Whether all tasks of the running loop are being cancelled, as ``asyncio.run`` does at its end."""
    return all(task.cancelling() for task in asyncio.all_tasks())
