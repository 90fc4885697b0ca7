"""Sends messages, answers and heartbeats on the live connection, and prepares each new connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from typing import Any, Final

from ..callables import resolve
from ..checks import check_seconds
from ..codec import to_payload
from ..connections.connection import Connection
from ..connections.failures import Failure
from ..connections.send_queue import Priority, PrioritySendQueue
from ..connections.watchdog import let_arrive
from ..errors import SendFailed, SendTimeout
from ..heartbeat import Heartbeat, heartbeat_of
from ..options import Options
from ..rate_limit import Rate, window_of
from ..reporting.reporter import Reporter
from .channel_sync import ChannelSync

__all__ = ["Sender"]

#: Seconds until the first heartbeat if the function that returns its interval fails.
FIRST_INTERVAL: Final = 10.0

#: Seconds between two checks whether a closing connection has ended.
POLL_INTERVAL: Final = 0.05


class Sender:
    """Sends on the live connection, and prepares each new one.

    Attributes:
        on_open: messages, and (async) functions that return messages, which are sent first on every new connection.
        syncs: subscribe the channels on each connection that has not ended.
        connection_available: set while there is a connection to send on, and after the feed has ended.

    Args:
        reporter: logs, counts and emits failures.
        options: the timeouts, the send limit, the heartbeat and ``encode``.
        raise_if_ended: called before each wait for a connection; raises after the feed has ended.
    """

    def __init__(self, reporter: Reporter, options: Options, raise_if_ended: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._reporter = reporter
        self._options = options
        self._raise_if_ended = raise_if_ended
        # The newest usable connection of each line.
        self._live: dict[int, Connection] = {}
        # The number of calls of `send` that wait for a connection, or for earlier calls.
        self._in_line = 0
        if isinstance(options.send_limit, Rate):
            # A Rate of another event loop raises now, and not when the first connection is open.
            window_of(options.send_limit, self._loop)
        self.on_open: tuple[Any, ...] = ()
        self.syncs: Final[dict[Connection, ChannelSync]] = {}
        self.connection_available: Final = asyncio.Event()

    # The live connection

    def use(self, connection: Connection | None, line: int = 1) -> None:
        """Send on ``connection`` from now on, if no earlier line has one. None means that this line has none."""
        if connection is not None:
            self._live[line] = connection
            self.connection_available.set()
        elif self._live.pop(line, None) is not None and not self._live:
            self.connection_available.clear()

    def stop(self) -> None:
        """Send no more, and let those who wait for a connection see that the feed has ended. Idempotent."""
        self._live.clear()
        self.connection_available.set()

    def first_in_use(self, among: Container[Connection]) -> Connection | None:
        """Return the newest usable connection of the first line that has one among these connections."""
        return next((each for _, each in sorted(self._live.items()) if each in among), None)

    @property
    def present(self) -> Connection | None:
        """The connection that ``send`` uses now; None if there is no live connection."""
        usable = (connection for _, connection in sorted(self._live.items()) if connection.is_live)
        return next(usable, None)

    async def wait_connected(self) -> Connection:
        """Wait for a live connection and return it."""
        while True:
            self._raise_if_ended()
            await self.connection_available.wait()
            connection = self.present
            if connection is not None:
                return connection
            if self._live:
                # The connection is closing, and its reader has not ended yet.
                await asyncio.wait({each.reader for each in self._live.values()}, timeout=POLL_INTERVAL)

    # A user's messages

    @property
    def obstacle(self) -> str:
        """The reason why a waiting message was not sent."""
        connection = self.present
        is_limited = connection is not None and connection.send_queue is not None
        return "the send limit left no slot" if is_limited else "there was no live connection"

    async def send(self, message: Any, chosen: Callable[[Connection], object] | None = None) -> None:
        """Send a message on the live connection, and call ``chosen`` with that connection before."""
        payload = to_payload(message, self._options.encode)
        timeout = self._options.send_timeout
        deadline = self._loop.time() + timeout
        try:
            async with asyncio.timeout_at(deadline):
                connection = await self._wait_for_turn()
        except TimeoutError as error:
            raise SendTimeout(f"{self.obstacle} for {timeout:g} s: nothing was sent") from error
        if chosen is not None:
            chosen(connection)
        await connection.send(payload, max(0.0, deadline - self._loop.time()), None, patience=timeout)

    async def _wait_for_turn(self) -> Connection:
        """Wait for earlier calls that subscribe or send. Return the live connection, with a slot for a message."""
        must_wait = self._is_subscribing() or self._in_line > 0
        self._in_line += 1
        try:
            if must_wait:
                # The event loop runs callbacks in the order in which they were scheduled, so earlier calls run first.
                await asyncio.sleep(0)
            return await self._wait_for_slot()
        finally:
            self._in_line -= 1

    def _is_subscribing(self) -> bool:
        """Begin to send earlier subscriptions. Return whether the caller must wait for them.

        If sending is limited, the priorities decide the order instead.
        """
        connection = self.present
        if connection is None or connection.send_queue is not None:
            return False
        sync = self.syncs.get(connection)
        return sync is not None and sync.launch()

    async def _wait_for_slot(self) -> Connection:
        """Return the live connection once it has a slot for one more message."""
        while True:
            connection = await self.wait_connected()
            try:
                await connection.acquire_slot(Priority.NORMAL)
            except SendFailed:
                # The connection was lost before the message was sent, so use the next one.
                continue
            if connection.is_live:
                return connection
            connection.release_slot()

    # Answers and heartbeats

    def answer(self, connection: Connection, answer: Any) -> None:
        """Send the answer to a frame on the connection that received it, before all other messages."""
        connection.send_soon(to_payload(answer, self._options.encode), self._options.send_timeout, Priority.HIGH)

    async def _send_heartbeats(self, connection: Connection, heartbeat: Heartbeat) -> None:
        inbound, seconds, answers = connection.inbound, FIRST_INTERVAL, -1
        while True:
            seconds = self._interval(heartbeat, seconds)
            due = self._loop.time() + seconds
            await asyncio.sleep(seconds)
            if inbound.heartbeat_answers == answers:
                await let_arrive(due, seconds)
            if inbound.heartbeat_answers == answers:
                connection.fail(Failure("idle", f"the heartbeat was not answered for {seconds:g} s"))
                return
            payload, answers = None, -1
            with self._reporter.guard("the heartbeat's message", awaits=True):
                payload = await self._payload_of(heartbeat.message)
            if payload is not None:
                await connection.acquire_slot(Priority.HIGH)
                if heartbeat.answer is not None:
                    answers = inbound.heartbeat_answers
                await connection.send(payload, self._options.send_timeout, None)

    def _interval(self, heartbeat: Heartbeat, previous: float) -> float:
        """Return the seconds until the next heartbeat. If the user's function fails, they do not change."""
        if not callable(heartbeat.interval):
            return heartbeat.interval
        with self._reporter.guard("the heartbeat's interval"):
            seconds = heartbeat.interval()
            check_seconds("the result of the interval of Heartbeat", seconds, zero=False)
            return seconds
        return previous

    async def _payload_of(self, message: Any) -> str | bytes:
        async with asyncio.timeout(self._options.send_timeout):
            message = await resolve(message)
        return to_payload(message, self._options.encode)

    # New connections

    async def prepare(self, connection: Connection) -> None:
        """Send the ``on_open`` messages and start the heartbeat of ``connection``."""
        if self._options.send_limit is not None:
            connection.send_queue = PrioritySendQueue(self._loop, window_of(self._options.send_limit, self._loop))
        heartbeat = heartbeat_of(self._options.heartbeat)
        if heartbeat is not None:
            connection.run(self._send_heartbeats(connection, heartbeat), "rxws heartbeat")
        for message in self.on_open:
            payload = await self._payload_of(message)
            await connection.acquire_slot(Priority.NORMAL)
            await connection.send(payload, self._options.send_timeout, None)
