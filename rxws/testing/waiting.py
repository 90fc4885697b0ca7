"""Bounded waits for a condition, which is checked after every change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Changes"]

Result = TypeVar("Result")


class Changes:
    """Lets tasks wait for a condition on state that callbacks of this loop change.

    ``asyncio.Condition`` would need a lock, and therefore an ``await``, around every change.
    """

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        """Make all waiting tasks check their conditions again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(
        self, condition: Callable[[], Result | None], *, timeout: float | None, describe: Callable[[], str]
    ) -> Result:
        """Return the first result of ``condition()`` that is not None. It is called at once and after every change.

        Args:
            condition: returns a result, or None to wait longer.
            timeout: seconds to wait; None waits without a limit.
            describe: called at the timeout; returns the text of the error: the expected state and the actual state.

        Raises:
            TimeoutError: no result within ``timeout`` seconds; the text of the error is the result of ``describe``.
        """
        try:
            async with asyncio.timeout(timeout):
                while (result := condition()) is None:
                    waiter = asyncio.get_running_loop().create_future()
                    self._waiters.add(waiter)
                    try:
                        await waiter
                    finally:
                        self._waiters.discard(waiter)
                return result
        except TimeoutError:
            raise TimeoutError(f"{describe()} (waited for {timeout} s)") from None
