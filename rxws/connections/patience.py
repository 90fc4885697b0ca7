"""Timeouts that do not mistake a blocked event loop for a silent peer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

__all__ = ["GRACE", "LATE", "timeout_at", "wait_done"]

#: If a timer fires later than due by this many seconds, the event loop was blocked.
LATE: Final = 0.05

#: The longest further wait, in seconds, for data that arrived while the event loop was blocked.
GRACE: Final = 1.0


@asynccontextmanager
async def timeout_at(deadline: float) -> AsyncIterator[asyncio.Timeout]:
    """Do the same as :func:`asyncio.timeout_at`, but wait for ``GRACE`` seconds more if the event loop was blocked."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as waiting:

        def expire() -> None:
            now = loop.time()
            waiting.reschedule(now + GRACE if now - deadline > LATE else now)

        timer = loop.call_at(deadline, expire)
        try:
            yield waiting
        finally:
            timer.cancel()


async def wait_done(task: asyncio.Task[Any], timeout: float) -> None:
    """Wait until a task is done or the timeout has passed. If the loop was blocked, wait ``GRACE`` seconds more."""
    loop = asyncio.get_running_loop()
    due = loop.time() + timeout
    await asyncio.wait({task}, timeout=timeout)
    if loop.time() - due > LATE:
        await asyncio.wait({task}, timeout=GRACE)
