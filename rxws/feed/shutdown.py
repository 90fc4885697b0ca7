"""The shutdown of a feed. It happens once, takes bounded time, and can begin in any state and from any task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

from ..connections.failures import Failure
from ..reporting.reporter import Reporter
from ..streams.handlers import CoroutineHandler
from .source import FrameSource

__all__ = ["Shutdown"]

#: Seconds to wait for cancelled tasks to end.
CANCEL_TIMEOUT: Final = 1.0

#: Seconds between two checks of which tasks still run.
STEP: Final = 0.05


@dataclass(eq=False, slots=True)
class Shutdown:
    """Shuts a feed down.

    Attributes:
        ended: a future that is done when the feed has ended.
        source: the source of frames, with the connections to close and the tasks to wait for.
        handlers: the current handlers, which may finish the messages that they hold.
        stop: called first, and again if the shutdown is cut short. After it the feed starts nothing new.
        finish: called last.
        reporter: logs that a task did not end in time.
        timeout: seconds for handlers to finish and for peers to close.
    """

    source: FrameSource
    handlers: Collection[CoroutineHandler]
    stop: Callable[[], None]
    finish: Callable[[], None]
    reporter: Reporter
    timeout: float
    ended: asyncio.Future[None] = field(init=False, default_factory=lambda: asyncio.get_running_loop().create_future())
    _loop: asyncio.AbstractEventLoop = field(init=False, default_factory=asyncio.get_running_loop)
    _closing: asyncio.Task[None] | None = field(init=False, default=None)
    # Tasks that wait for the end of the shutdown. The shutdown must not wait for them.
    _closers: set[asyncio.Task[Any] | None] = field(init=False, default_factory=set)

    @property
    def has_begun(self) -> bool:
        """Whether the shutdown has begun."""
        return self._closing is not None or self.ended.done()

    @property
    def is_over(self) -> bool:
        """Whether the shutdown has begun, or the loop is closed."""
        return self.has_begun or self._loop.is_closed()

    def request(self) -> asyncio.Future[None]:
        """Begin the shutdown for the current task, which will wait for it.

        Returns:
            A future that is done when the feed has ended. Cancelling it does not cancel the shutdown.
        """
        if not self.ended.done():
            self._closers.add(asyncio.current_task())
            self.begin()
        return asyncio.shield(self.ended)

    def begin(self) -> None:
        """Begin the shutdown in the background. Idempotent."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._close(), name="rxws close")
            self._closing.add_done_callback(self._closed)

    async def _close(self) -> None:
        self.stop()
        why = Failure("user", "exit()")
        closing = []
        for connection in self.source.connections:
            # If the parse hook waits for this shutdown, the connection is not read meanwhile, so do not wait for it.
            timeout = 0 if connection.reader in self._closers else self.timeout
            closing.append(self._loop.create_task(connection.close(why, timeout), name="rxws close connection"))
        await self._until_idle(closing, self.timeout)
        self._cut()
        if not await self._until_idle(closing, CANCEL_TIMEOUT):
            self.reporter.log(logging.WARNING, "closed, but a hook or a handler ignores its cancellation")
        self._finish()

    def _closed(self, closing: asyncio.Task[None]) -> None:
        if not self.ended.done():
            # The shutdown's task was cancelled before it had finished, perhaps even before it had started.
            self.abandon()

    async def _until_idle(self, closing: list[asyncio.Task[None]], timeout: float) -> bool:
        """Wait for all tasks to end, except those that wait for the shutdown.

        Returns:
            Whether all have ended within ``timeout`` seconds.
        """
        deadline = self._loop.time() + timeout
        while True:
            tasks = {*closing, *self.source.tasks, *(handler.task for handler in self.handlers)}
            busy = {task for task in tasks - self._closers if not task.done()}
            if not busy:
                return True
            if self._loop.time() >= deadline:
                return False
            await asyncio.wait(busy, timeout=STEP)

    def abandon(self) -> None:
        """End at once, because the event loop is being torn down."""
        self.stop()
        self._cut()
        self._finish()

    def _cut(self) -> None:
        for connection in list(self.source.connections):
            connection.abort()
        for handler in list(self.handlers):
            if handler.task in self._closers:
                # The handler itself waits for the shutdown. It continues afterwards without the messages that it holds.
                handler.dispose()
            else:
                handler.cancel()

    def _finish(self) -> None:
        self._closers.clear()
        self.finish()
        self.ended.set_result(None)
