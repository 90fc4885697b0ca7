"""Opens connections, and keeps the open ones: usually one, and two during an overlap."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Any, Final, Protocol

from ..heartbeat import heartbeat_of
from ..messages.answers import parse_answer, without_answers
from ..messages.dispatcher import FrameDispatcher
from ..messages.frames import Frame, Websocket, frames_of
from ..messages.lazy import LARGE, lazily
from ..messages.reader import Reader
from ..options import Options
from ..reporting.cancellation import FAILURES, is_being_cancelled
from ..reporting.event import GapReason
from ..reporting.state import State
from .backoff import Address, Backoff
from .connection import Connection
from .connection_reporter import ConnectionReporter
from .failures import Failure, diagnose
from .patience import wait_done
from .transport import abort_websocket
from .watchdog import watch

__all__ = ["ConnectionSender", "Opener", "RotationHost"]

#: Seconds to wait for a cancelled opening hook to end.
CANCEL_TIMEOUT: Final = 1.0

#: Seconds to wait for the end of a connection that was aborted because subscribing on it failed.
LOSS_TIMEOUT: Final = 1.0


class RotationHost(Protocol):
    """The part of a feed that one of its lines uses."""

    @property
    def opening(self) -> str:
        """The name of the user's opening hook, or the address. Texts of failures contain it."""

    @property
    def line(self) -> int:
        """The number of the line: 1 for the first."""

    async def wait_for_handshake(self) -> None:
        """Wait until ``connect_limit`` allows a handshake."""

    async def create(self, address: int) -> Websocket:
        """Run the opening hook for the address with this index, and return its websocket."""

    async def wait_rotation_due(self) -> None:
        """Run the rotation hook, and return when a new connection is due. The feed reports what the hook raises."""

    @property
    def report_gap(self) -> Callable[[float, float, GapReason], None]:
        """Reports that messages of this line may be missing, from a time to another, for a reason."""

    def enter(self, state: State) -> None:
        """Set the state of the feed."""

    def failed(self, error: BaseException) -> None:
        """End the feed, because no connection can be opened, or a reader or a task of the rotation was cancelled."""


class ConnectionSender(Protocol):
    """Sends on the connections that the opener opens."""

    @property
    def channels(self) -> Collection[Hashable]:
        """The channels that the feed wants."""

    @property
    def is_subscribed(self) -> bool:
        """Whether all wanted channels are subscribed on every connection."""

    async def prepare(self, connection: Connection) -> None:
        """Subscribe all channels on ``connection``, and start its heartbeat."""

    def use(self, connection: Connection | None, line: int) -> None:
        """Send on this connection of a line from now on. None means that the line has no connection to send on."""

    def answer(self, connection: Connection, answer: Any) -> None:
        """Send an answer, for example a pong, on ``connection`` with the highest priority."""

    def channel_of(self, message: Any, connection: Connection | None = None) -> Hashable:
        """Return the channel of a message of this connection, or None if it has none.

        Without a connection, channels whose name differs on each connection are not found.
        """

    def asked(self, connection: Connection) -> Iterable[Hashable]:
        """Return the channels whose subscription was sent on ``connection``, whether or not it was answered."""

    def is_leaving(self, connection: Connection, channel: Hashable) -> bool:
        """Return whether a channel was unsubscribed on ``connection`` and is not subscribed there again."""


def _abort_opened(opening: asyncio.Task[Websocket]) -> None:
    """Abort a websocket that was opened too late, because no other code has a reference to it."""
    if not opening.cancelled() and opening.exception() is None:
        abort_websocket(opening.result())


class Opener:
    """Opens connections, starts their readers and subscriptions, watches them for silence, and reports when they end.

    Args:
        host: the feed.
        sender: prepares each connection, and sends on the newest.
        dispatcher: takes the frames of all connections.
        backoff: counts attempts, successes and ends.
        options: the options of the feed, for its timeouts.

    Attributes:
        connections: all open connections.
    """

    def __init__(
        self,
        host: RotationHost,
        sender: ConnectionSender,
        dispatcher: FrameDispatcher,
        backoff: Backoff,
        options: Options,
    ) -> None:
        self.backoff: Final = backoff
        self.dispatcher: Final = dispatcher
        self.options: Final = options
        self._loop = dispatcher.router.context.loop
        self._reporter = dispatcher.reporter
        self.connection_reporter: Final = ConnectionReporter(self._reporter, host.report_gap)
        self._host = host
        self.sender: Final = sender
        # Each connection, and whether it is subscribed.
        self._open: dict[Connection, bool] = {}
        heartbeat = heartbeat_of(options.heartbeat)
        self._answer = None if heartbeat is None else parse_answer(heartbeat.answer)
        self.connections: Final = self._open.keys()
        self._opening: asyncio.Task[Websocket] | None = None
        self._last_received_at: float | None = None
        self._stopped = False

    @property
    def last_received_at(self) -> float | None:
        """When the last message arrived, on the loop's clock; None before the first. May be read from any thread."""
        # Read the open connections before the attribute, which gets the time of a connection that ends meanwhile.
        times = [*(connection.inbound.last_received_at for connection in list(self._open)), self._last_received_at]
        return max((time for time in times if time is not None), default=None)

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks of the opening hook and of the rotation hooks."""
        hooks = [connection.rotation_task for connection in self._open]
        return [task for task in (self._opening, *hooks) if task is not None]

    def stop(self) -> None:
        """From now on, do not choose another connection to send on when one ends. Idempotent."""
        self._stopped = True

    async def open(self, hold: Callable[[Connection], None]) -> Connection | Failure:
        """Open a connection, and subscribe everything on it.

        Args:
            hold: called with the connection before its first message; makes the receiving side hold its messages.

        Returns:
            The connection, or the failure if none was opened.
        """
        await self._host.wait_for_handshake()
        self.backoff.attempt_started(self._loop.time())
        try:
            websocket = await self._create()
            parse = self._parser_for(websocket)
        except FAILURES as error:
            if is_being_cancelled(error):
                raise
            return diagnose(error, now=self._reporter.now())
        counters = self._reporter.counters
        counters.opened += 1
        connection = Connection(websocket, counters.opened, self._loop, self._reporter, self.sender.answer)
        connection.inbound.report_gap = self._host.report_gap
        # Answers to heartbeats are found in decoded messages, or are equal to small frames.
        is_small = isinstance(self._answer, str | bytes) and len(self._answer) < LARGE
        defer = lazily(parse, connection.inbound, self.dispatcher) if self._answer is None or is_small else None
        if self._answer is not None:
            parse = without_answers(parse, self._answer, connection.inbound)
        frames = functools.partial(frames_of, websocket, self._reporter)
        connection.start(Reader(connection.inbound, frames, self.dispatcher, parse, defer).read)
        connection.run(connection.limit_close(self.options.close_timeout), "rxws close limit")
        connection.reader.add_done_callback(functools.partial(self._ended, connection, self.backoff.address))
        hold(connection)
        self._open[connection] = False
        try:
            await self.sender.prepare(connection)
        except FAILURES as error:
            if is_being_cancelled(error):
                raise
            connection.fail(diagnose(error, now=self._reporter.now()))
            await asyncio.wait({connection.reader}, timeout=LOSS_TIMEOUT)
            return connection.failure
        if connection not in self._open:
            # The connection ended although subscribing succeeded.
            return connection.failure
        self.backoff.opened()
        connection.subscribed()
        silent = functools.partial(self._silent, connection)
        # Start the watchdog only now, because the connection may be silent until it is subscribed.
        connection.run(watch(connection.inbound, self.options.idle_timeout, silent), "rxws watchdog")
        self._open[connection] = True
        self.sender.use(connection, self._host.line)
        return connection

    async def _create(self) -> Websocket:
        """Run the opening hook with a timeout that holds even if the hook ignores cancellation."""
        timeout = self.options.open_timeout
        opening = self._opening = self._loop.create_task(self._host.create(self.backoff.index), name="rxws open")
        try:
            await wait_done(opening, timeout)
            if opening.done():
                if not opening.cancelled() and isinstance(opening.exception(), GeneratorExit):
                    # If GeneratorExit propagated, it would end the handover, and the feed would make no more attempts.
                    raise RuntimeError("the opening hook raised GeneratorExit") from opening.exception()
                return opening.result()
            opening.cancel()
            await asyncio.wait({opening}, timeout=CANCEL_TIMEOUT)
            if not opening.done():
                self._reporter.log(logging.WARNING, "%s ignores its cancellation", self._host.opening)
        except asyncio.CancelledError as error:
            # Otherwise the hook itself raised CancelledError.
            if is_being_cancelled(error):
                opening.cancel()
                opening.add_done_callback(_abort_opened)
            raise
        opening.add_done_callback(_abort_opened)
        raise TimeoutError(f"{self._host.opening} took longer than {timeout:g} s")

    def _parser_for(self, websocket: Websocket) -> Callable[[Frame], Any]:
        try:
            return self.dispatcher.hooks.create_parser()
        except BaseException:
            abort_websocket(websocket)
            raise

    def _silent(self, connection: Connection, seconds: float) -> None:
        if self.options.idle_timeout is not None:
            connection.fail(Failure("idle", f"no message for {seconds:g} s"))
        else:
            self.connection_reporter.quiet(seconds)

    def _ended(self, connection: Connection, address: Address, reader: asyncio.Task[Failure]) -> None:
        """Called when the reader of a connection has ended."""
        self._last_received_at = self.last_received_at
        del self._open[connection]
        connection.end()
        if reader.cancelled() or reader.exception() is not None:
            # rxws itself did not do this: other code cancelled the reader, a function that is called with a message
            # raised GeneratorExit, or the program exits.
            self._host.failed((None if reader.cancelled() else reader.exception()) or asyncio.CancelledError())
            return
        failure = connection.failure
        heard = connection.inbound.first_received_at, connection.inbound.last_received_at
        self.backoff.closed(address, connection.opened_at, self._loop.time(), *heard)
        self.connection_reporter.ended(connection.number, failure)
        if not self._stopped:
            rest = next((other for other, is_subscribed in reversed(self._open.items()) if is_subscribed), None)
            self.sender.use(rest, self._host.line)
            if rest is None:
                self._host.enter(State.CONNECTING)
