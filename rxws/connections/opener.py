"""Opens connections, and knows those that are open: one, or two while a rotation overlaps."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ..messages.dispatcher import FrameDispatcher
from ..messages.frames import Websocket, frames_of
from ..messages.reader import Reader
from ..messages.router import Router
from ..observables.observable import LoopContext
from ..reporting.cancellation import FAILURES, is_being_cancelled
from ..reporting.events import State
from .backoff import Backoff
from .connection import Connection, Sink, abort_websocket
from .connection_reporter import ConnectionReporter
from .failures import Failure, diagnose
from .watchdog import Watchdog

__all__ = ["Opener", "RotationHost", "Timeouts"]

CANCEL_TIMEOUT: Final = 1.0
"""Seconds that a cancelled opening hook has to come to its end."""

LOSS_TIMEOUT: Final = 1.0
"""Seconds that a connection has to come to its end on which not everything could be subscribed."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The constructor's options that are times of a connection and its rotation, in seconds."""

    open: float
    handover: float
    settle: float
    idle: float | None


class RotationHost(Protocol):
    """What a rotation asks of the feed that it serves."""

    async def create(self) -> Websocket:
        """Open a connection on which everything is subscribed."""

    async def wait_rotation_due(self, connection: Connection) -> None:
        """Return when it is time for a new connection; what it raises is reported already."""

    async def prepare(self, connection: Connection) -> None:
        """Subscribe everything on ``connection``, and begin what is to be done on it as long as it lives."""

    def enter(self, state: State) -> None:
        """Be in ``state`` from now on."""

    def use(self, connection: Connection | None) -> None:
        """Send on ``connection`` from now on."""


def _abort_opened(opening: asyncio.Task[Websocket]) -> None:
    """Cut what was opened too late: nobody knows of it."""
    if not opening.cancelled() and opening.exception() is None:
        abort_websocket(opening.result())


class Opener:
    """Opens a connection, has it read and everything subscribed on it, watches it, and tells when it has ended.

    Args:
        home: where the feed lives.
        hooks: the feed.
        delivery: what the frames meet on their way.
        router: where the messages go.
        backoff: who counts attempts, successes and ends.
        timeouts: the times of the options.
        journal: who is told.
        torn_down: called when reading was cancelled, and not by the feed: the end of all.
    """

    def __init__(
        self,
        context: LoopContext,
        hooks: RotationHost,
        dispatcher: FrameDispatcher,
        router: Router,
        backoff: Backoff,
        timeouts: Timeouts,
        connection_reporter: ConnectionReporter,
        torn_down: Callable[[BaseException], None],
    ) -> None:
        self._loop = context.loop
        self._reporter = context.reporter
        self._hooks = hooks
        self._dispatcher = dispatcher
        self._router = router
        self._backoff = backoff
        self._timeouts = timeouts
        self._connection_reporter = connection_reporter
        self._torn_down = torn_down
        # Each with what watches it, once it is subscribed: until then there may be nothing to hear.
        self._open: dict[Connection, Watchdog | None] = {}
        self._opening: asyncio.Task[Websocket] | None = None
        self._heard: float | None = None
        self._stopped = False

    @property
    def connections(self) -> list[Connection]:
        """All that are open."""
        return list(self._open)

    @property
    def last_received_at(self) -> float | None:
        """When the last message came, on the loop's clock, or None if none has. May be read from any thread."""
        times = [connection.last_received_at for connection in self.connections]
        return max((time for time in (*times, self._heard) if time is not None), default=None)

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """What is under way besides the reading: the opening hook, and the rotation hooks."""
        hooks = [connection.rotation_task for connection in self._open]
        return [task for task in (self._opening, *hooks) if task is not None and not task.done()]

    def stop(self) -> None:
        """Let connections end without another to send on. Idempotent."""
        self._stopped = True

    async def open(self, sink: Callable[[Connection], Sink]) -> Connection | Failure:
        """Open a connection and begin to read it into ``sink``; or return why not."""
        self._backoff.attempt_started()
        try:
            websocket = await self._create()
        except FAILURES as error:
            if is_being_cancelled(error):
                raise
            return diagnose(error, now=self._reporter.now())
        counters = self._reporter.counters
        counters.opened += 1
        connection = Connection(websocket, counters.opened, self._loop, self._reporter)
        connection.sink = sink(connection)
        frames = functools.partial(frames_of, websocket, self._reporter)
        connection.start(Reader(connection, frames, self._dispatcher, self._router, self._reporter).read)
        connection.reader.add_done_callback(functools.partial(self._ended, connection))
        self._open[connection] = None
        try:
            await self._hooks.prepare(connection)
        except FAILURES as error:
            if is_being_cancelled(error):
                raise
            connection.fail(diagnose(error, now=self._reporter.now()))
            await asyncio.wait({connection.reader}, timeout=LOSS_TIMEOUT)
            return connection.failure
        if connection not in self._open:
            # It ended while all seemed well.
            return connection.failure
        self._backoff.opened(self._loop.time())
        connection.is_subscribed = True
        self._open[connection] = Watchdog(
            self._loop, connection, self._timeouts.idle, functools.partial(self._silent, connection)
        )
        self._hooks.use(connection)
        return connection

    async def _create(self) -> Websocket:
        """Run the opening hook, and wait for it no longer than is allowed, whether or not it heeds its cancellation."""
        timeout = self._timeouts.open
        opening = self._opening = self._loop.create_task(self._hooks.create(), name="rxws open")
        try:
            await asyncio.wait({opening}, timeout=timeout)
            if opening.done():
                return opening.result()
            opening.cancel()
            await asyncio.wait({opening}, timeout=CANCEL_TIMEOUT)
            if not opening.done():
                self._reporter.log(logging.WARNING, "_create_ws does not heed its cancellation")
        except asyncio.CancelledError as error:
            # It may as well be the hook's own.
            if is_being_cancelled(error):
                opening.cancel()
                opening.add_done_callback(_abort_opened)
            raise
        opening.add_done_callback(_abort_opened)
        raise TimeoutError(f"_create_ws took longer than {timeout:g} s")

    def _silent(self, connection: Connection, seconds: float) -> None:
        if self._timeouts.idle is not None:
            connection.fail(Failure("idle", f"no message for {seconds:g} s"))
        else:
            self._connection_reporter.quiet(connection.number, seconds)

    def _ended(self, connection: Connection, reader: asyncio.Task[Failure]) -> None:
        """Is called when a connection has been read to its end."""
        self._heard = self.last_received_at
        watchdog = self._open.pop(connection)
        if watchdog is not None:
            watchdog.stop()
        connection.end()
        if reader.cancelled() or reader.exception() is not None:
            # Not by us: the loop is being torn down, or somebody exits the program.
            self._torn_down(asyncio.CancelledError())
            return
        failure = connection.failure
        self._backoff.closed(connection.opened_at, self._loop.time())
        self._connection_reporter.ended(connection.number, failure)
        if not self._stopped:
            rest = next((other for other in reversed(self._open) if other.is_subscribed), None)
            self._hooks.use(rest)
            if rest is None:
                self._hooks.enter(State.CONNECTING)
