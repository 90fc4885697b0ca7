"""Distinguishes failures of a user's function from cancellations and exits."""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["EXITS", "FAILURES", "RAISED", "is_being_cancelled", "is_torn_down"]

#: Exceptions that a user's function may raise without affecting its caller. CancelledError is one of them, because the
#: result of a cancelled future raises it, and that does not cancel the running task.
FAILURES: Final = (Exception, asyncio.CancelledError)

#: Exceptions that end the program or the coroutine. rxws always raises them again.
EXITS: Final = (KeyboardInterrupt, SystemExit, GeneratorExit)

#: Exceptions that rxws catches from a plain function that gets messages. GeneratorExit is one of them, because it would
#: silently end one of the feed's tasks. Here it cannot mean that a coroutine is being garbage-collected, because only
#: a suspended coroutine is, and this code is running.
RAISED: Final = (*FAILURES, GeneratorExit)


def is_being_cancelled(error: BaseException) -> bool:
    """Return whether ``error`` cancels the running task. The CancelledError of an awaited future does not."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and (task is None or task.cancelling() > 0)


def is_torn_down() -> bool:
    """Return whether all tasks of the running loop are being cancelled, as ``asyncio.run`` does when it ends."""
    return all(task.cancelling() for task in asyncio.all_tasks())
