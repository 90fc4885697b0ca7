"""Bounded waits: wake whoever waits for a condition whenever something changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Changes"]

Result = TypeVar("Result")


class Changes:
    """Lets tasks wait for a condition on state that this loop's own callbacks change.

    ``asyncio.Condition`` would need a lock, and so an ``await``, around every change.
    """

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def notify(self) -> None:
        """Tell all who wait that something changed."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(
        self, condition: Callable[[], Result | None], *, timeout: float | None, describe: Callable[[], str]
    ) -> Result:
        """Return the first result of ``condition()`` that is not None; it is tried at once and after every change.

        Args:
            condition: gives a result, or None while it is too early.
            timeout: seconds to wait; None waits as long as it takes.
            describe: called when the time is over: says in words what was waited for, and what there was.

        Raises:
            TimeoutError: with that description.
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
