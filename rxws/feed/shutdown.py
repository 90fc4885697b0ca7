"""The end of a feed: once, in bounded time, in whatever state it is, and whoever asks for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Final, Protocol

from ..connections.connection import Connection
from ..connections.failures import Failure
from ..reporting.reporter import Reporter
from ..streams.handlers import CoroutineHandler

__all__ = ["Shutdown", "ShutdownTarget"]

CANCEL_TIMEOUT: Final = 1.0
"""Seconds that a cancelled task has to come to its end."""

STEP: Final = 0.05
"""Seconds between two looks at who is still busy."""


class ShutdownTarget(Protocol):
    """What has to come to its end."""

    @property
    def connections(self) -> Iterable[Connection]:
        """The connections that are open."""

    @property
    def tasks(self) -> Iterable[asyncio.Task[Any]]:
        """What is under way besides the connections."""

    @property
    def handlers(self) -> Iterable[CoroutineHandler]:
        """The handlers, which may finish what they hold."""

    def stop(self) -> None:
        """Begin nothing more."""

    def finish(self) -> None:
        """Tell that this was the end."""


class Shutdown:
    """Closes what has to come to its end.

    Attributes:
        ended: done when all is.

    Args:
        target: what has to come to its end.
        reporter: who is told of what does not.
        timeout: seconds that handlers and peers are given.
    """

    def __init__(self, ending: ShutdownTarget, reporter: Reporter, timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending = ending
        self._reporter = reporter
        self._timeout = timeout
        self._closing: asyncio.Task[None] | None = None
        # Who waits for the end; it must not wait for them.
        self._closers: set[asyncio.Task[Any] | None] = set()
        self.ended: Final[asyncio.Future[None]] = self._loop.create_future()

    @property
    def has_begun(self) -> bool:
        """Whether the end has begun."""
        return self._closing is not None or self.ended.done()

    def wanted(self) -> asyncio.Future[None]:
        """Close, because the task that runs asks for it; what is returned is done when all is."""
        if not self.ended.done():
            self._closers.add(asyncio.current_task())
            self.begin()
        return asyncio.shield(self.ended)

    def begin(self) -> None:
        """Close in the background. Idempotent."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._close(), name="rxws close")
            self._closing.add_done_callback(self._closed)

    async def _close(self) -> None:
        ending = self._ending
        ending.stop()
        why = Failure("user", "exit()")
        closing = [
            # A parse hook that waits for us reads nothing meanwhile.
            self._loop.create_task(
                connection.close(why, 0 if connection.reader in self._closers else self._timeout),
                name="rxws close connection",
            )
            for connection in ending.connections
        ]
        await self._until_idle(closing, self._timeout)
        for connection in list(ending.connections):
            connection.abort()
        for handler in list(ending.handlers):
            if handler.task in self._closers:
                # It waits for us, and goes on when we are done: with what it holds no more.
                handler.dispose()
            else:
                handler.cancel()
        if not await self._until_idle(closing, CANCEL_TIMEOUT):
            self._reporter.log(logging.WARNING, "closed, but a hook or a handler does not heed its cancellation")
        self._finish()

    def _closed(self, closing: asyncio.Task[None]) -> None:
        if not self.ended.done():
            # Cancelled before its end, or even its beginning.
            self.abandon()

    async def _until_idle(self, closing: list[asyncio.Task[None]], timeout: float) -> bool:
        """Wait for all tasks to end but those that wait for us; False if some have not after ``timeout`` seconds."""
        deadline = self._loop.time() + timeout
        while True:
            tasks = {*closing, *self._ending.tasks, *(handler.task for handler in self._ending.handlers)}
            busy = {task for task in tasks - self._closers if not task.done()}
            if not busy:
                return True
            if self._loop.time() >= deadline:
                return False
            await asyncio.wait(busy, timeout=STEP)

    def abandon(self) -> None:
        """End at once, where nothing that takes time can be done any more."""
        self._ending.stop()
        for connection in list(self._ending.connections):
            connection.abort()
        for handler in list(self._ending.handlers):
            handler.cancel()
        self._finish()

    def _finish(self) -> None:
        self._closers.clear()
        self._ending.finish()
        self.ended.set_result(None)
