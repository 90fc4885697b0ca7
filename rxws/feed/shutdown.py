"""The end of a feed: once, in bounded time, in whatever state it is, and whoever asks for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Any, Final

from ..connections.failures import Failure
from ..reporting.reporter import Reporter
from ..streams.handlers import CoroutineHandler
from .source import FrameSource

__all__ = ["Shutdown"]

CANCEL_TIMEOUT: Final = 1.0
"""Seconds that a cancelled task has to come to its end."""

STEP: Final = 0.05
"""Seconds between two looks at who is still busy."""


class Shutdown:
    """Ends a feed.

    Attributes:
        ended: done when the feed has ended.

    Args:
        source: has the connections to close and the tasks to wait for.
        handlers: the handlers, which may finish what they hold; it changes as handlers come and go.
        stop: called first; begins nothing more. Called again if the shutdown is cut short.
        finish: called last.
        reporter: logs what does not end in time.
        timeout: seconds that handlers and peers are given.
    """

    def __init__(
        self,
        source: FrameSource,
        handlers: Collection[CoroutineHandler],
        stop: Callable[[], None],
        finish: Callable[[], None],
        reporter: Reporter,
        timeout: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._source = source
        self._handlers = handlers
        self._stop = stop
        self._report_end = finish
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
        self._stop()
        why = Failure("user", "exit()")
        closing = []
        for connection in self._source.connections:
            # A parse hook that waits for us reads nothing meanwhile.
            timeout = 0 if connection.reader in self._closers else self._timeout
            closing.append(self._loop.create_task(connection.close(why, timeout), name="rxws close connection"))
        await self._until_idle(closing, self._timeout)
        self._cut()
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
            tasks = {*closing, *self._source.tasks, *(handler.task for handler in self._handlers)}
            busy = {task for task in tasks - self._closers if not task.done()}
            if not busy:
                return True
            if self._loop.time() >= deadline:
                return False
            await asyncio.wait(busy, timeout=STEP)

    def abandon(self) -> None:
        """End at once, where nothing that takes time can be done any more."""
        self._stop()
        self._cut()
        self._finish()

    def _cut(self) -> None:
        for connection in list(self._source.connections):
            connection.abort()
        for handler in list(self._handlers):
            if handler.task in self._closers:
                # It waits for the shutdown, and goes on when that is done: with what it holds no more.
                handler.dispose()
            else:
                handler.cancel()

    def _finish(self) -> None:
        self._closers.clear()
        self._report_end()
        self.ended.set_result(None)
