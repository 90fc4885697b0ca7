"""Opens connections, and knows those that are open: one, or two while a rotation overlaps."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from ..messages.frames import Frames, Websocket, frames_of
from ..messages.inbound import Inbound
from ..observables.loop_context import LoopContext
from ..options import Options
from ..reporting.cancellation import FAILURES, is_being_cancelled
from ..reporting.events import State
from .backoff import Backoff
from .connection import Connection, abort_websocket
from .connection_reporter import ConnectionReporter
from .failures import Failure, diagnose
from .watchdog import Watchdog

__all__ = ["ConnectionSender", "Opener", "RotationHost"]

CANCEL_TIMEOUT: Final = 1.0
"""Seconds that a cancelled opening hook has to come to its end."""

LOSS_TIMEOUT: Final = 1.0
"""Seconds that a connection has to come to its end on which not everything could be subscribed."""


class RotationHost(Protocol):
    """What a rotation asks of the feed that it serves."""

    async def create(self) -> Websocket:
        """Open a connection on which everything is subscribed."""

    async def wait_rotation_due(self) -> None:
        """Return when it is time for a new connection; what it raises is reported already."""

    def make_reader(self, inbound: Inbound, frames: Callable[[], Frames]) -> Callable[[], Awaitable[None]]:
        """Return what reads a connection, given its receiving side and a function that gives its frames."""

    def enter(self, state: State) -> None:
        """Be in ``state`` from now on."""

    def failed(self, error: BaseException) -> None:
        """End, because no connection can be had, or because a task of the rotation was cancelled."""


class ConnectionSender(Protocol):
    """What sends on the connections that are opened."""

    async def prepare(self, connection: Connection) -> None:
        """Subscribe everything on ``connection``, and begin what is to be done on it as long as it lives."""

    def use(self, connection: Connection | None) -> None:
        """Send on ``connection`` from now on."""

    def answer(self, connection: Connection, answer: Any) -> None:
        """Send an answer on the connection on which it was asked for, before all else."""


def _abort_opened(opening: asyncio.Task[Websocket]) -> None:
    """Cut what was opened too late: nobody knows of it."""
    if not opening.cancelled() and opening.exception() is None:
        abort_websocket(opening.result())


class Opener:
    """Opens a connection, has it read and everything subscribed on it, watches it, and tells when it has ended.

    Args:
        context: where the feed lives.
        host: the feed.
        sender: prepares each connection, and sends on the newest.
        backoff: counts attempts, successes and ends, and says how long to wait.
        options: the feed's options, of which the times are used.
        connection_reporter: is told what happens.

    Attributes:
        connections: all that are open.
    """

    def __init__(
        self,
        context: LoopContext,
        host: RotationHost,
        sender: ConnectionSender,
        backoff: Backoff,
        options: Options,
        connection_reporter: ConnectionReporter,
    ) -> None:
        self.backoff: Final = backoff
        self.connection_reporter: Final = connection_reporter
        self.options: Final = options
        self._loop = context.loop
        self._reporter = context.reporter
        self._host = host
        self._sender = sender
        # Each with what watches it, once it is subscribed: until then there may be nothing to hear.
        self._open: dict[Connection, Watchdog | None] = {}
        self.connections: Final = self._open.keys()
        self._opening: asyncio.Task[Websocket] | None = None
        self._last_received_at: float | None = None
        self._stopped = False

    @property
    def last_received_at(self) -> float | None:
        """When the last message came, on the loop's clock, or None if none has. May be read from any thread."""
        # The open connections first: one that ends meanwhile is then in the other.
        times = [*(connection.inbound.last_received_at for connection in list(self._open)), self._last_received_at]
        return max((time for time in times if time is not None), default=None)

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """What is under way besides the reading: the opening hook, and the rotation hooks."""
        hooks = [connection.rotation_task for connection in self._open]
        return [task for task in (self._opening, *hooks) if task is not None]

    def stop(self) -> None:
        """Let connections end without another to send on. Idempotent."""
        self._stopped = True

    async def open(self, hold: Callable[[Inbound], None]) -> Connection | Failure:
        """Open a connection whose messages ``hold`` takes from the first on; or return why not."""
        self.backoff.attempt_started()
        try:
            websocket = await self._create()
        except FAILURES as error:
            if is_being_cancelled(error):
                raise
            return diagnose(error, now=self._reporter.now())
        counters = self._reporter.counters
        counters.opened += 1
        connection = Connection(websocket, counters.opened, self._loop, self._reporter, self._sender.answer)
        hold(connection.inbound)
        frames = functools.partial(frames_of, websocket, self._reporter)
        connection.start(self._host.make_reader(connection.inbound, frames))
        connection.reader.add_done_callback(functools.partial(self._ended, connection))
        self._open[connection] = None
        try:
            await self._sender.prepare(connection)
        except FAILURES as error:
            if is_being_cancelled(error):
                raise
            connection.fail(diagnose(error, now=self._reporter.now()))
            await asyncio.wait({connection.reader}, timeout=LOSS_TIMEOUT)
            return connection.failure
        if connection not in self._open:
            # It ended while all seemed well.
            return connection.failure
        self.backoff.opened(self._loop.time())
        connection.subscribed()
        self._open[connection] = Watchdog(
            self._loop, connection.inbound, self.options.idle_timeout, functools.partial(self._silent, connection)
        )
        self._sender.use(connection)
        return connection

    async def _create(self) -> Websocket:
        """Run the opening hook, and wait for it no longer than is allowed, whether or not it heeds its cancellation."""
        timeout = self.options.open_timeout
        opening = self._opening = self._loop.create_task(self._host.create(), name="rxws open")
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
        if self.options.idle_timeout is not None:
            connection.fail(Failure("idle", f"no message for {seconds:g} s"))
        else:
            self.connection_reporter.quiet(connection.number, seconds)

    def _ended(self, connection: Connection, reader: asyncio.Task[Failure]) -> None:
        """Is called when a connection has been read to its end."""
        self._last_received_at = self.last_received_at
        watchdog = self._open.pop(connection)
        if watchdog is not None:
            watchdog.stop()
        connection.end()
        if reader.cancelled() or reader.exception() is not None:
            # Not by us: the loop is being torn down, or somebody exits the program.
            self._host.failed(asyncio.CancelledError())
            return
        failure = connection.failure
        self.backoff.closed(connection.opened_at, self._loop.time())
        self.connection_reporter.ended(connection.number, failure)
        if not self._stopped:
            rest = next((other for other, watchdog in reversed(self._open.items()) if watchdog is not None), None)
            self._sender.use(rest)
            if rest is None:
                self._host.enter(State.CONNECTING)
