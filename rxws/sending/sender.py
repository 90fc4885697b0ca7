"""What is sent, and on which connection: a user's messages, answers, heartbeats, and what each new connection needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Any, Final

from ..callables import resolve
from ..codec import to_payload
from ..connections.connection import Connection
from ..connections.rate_limit import SlidingWindow
from ..connections.send_queue import Priority, PrioritySendQueue
from ..errors import SendFailed, SendTimeout
from ..options import Options
from ..reporting.reporter import Reporter
from .channel_sync import ChannelSync
from .channels import Channel, ChannelRegistry

__all__ = ["Sender"]

POLL_INTERVAL: Final = 0.05
"""Seconds between two looks at whether a connection that is closing has ended."""


class Sender:
    """Sends on the connection that is live, and prepares each new one.

    Attributes:
        on_open: what is sent on every new connection before all else: messages, and (async) functions that give
            messages.
        subscriptions: what is subscribed as long as anybody wants it.
        told: set while there is a connection to send on, or the feed has ended: whoever waits for one waits for this.

    Args:
        reporter: who is told of what fails.
        options: the times, the limit, the heartbeat, and what makes text of messages.
        raise_if_ended: called before each wait; raises when there will be no connection any more.
    """

    def __init__(self, reporter: Reporter, options: Options, raise_if_ended: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._reporter = reporter
        self._options = options
        self._raise_if_ended = raise_if_ended
        self._live: Connection | None = None
        self._syncs: dict[Connection, ChannelSync] = {}
        self.on_open: tuple[Any, ...] = ()
        self.channels: Final = ChannelRegistry()
        self.connection_available: Final = asyncio.Event()

    # On which connection

    def use(self, connection: Connection | None) -> None:
        """Send on ``connection`` from now on."""
        self._live = connection
        if connection is None:
            self.connection_available.clear()
        else:
            self.connection_available.set()

    @property
    def present(self) -> Connection | None:
        """The connection that ``send`` means."""
        connection = self._live
        return connection if connection is not None and connection.is_live else None

    async def wait_connected(self) -> Connection:
        """Return the live connection, when there is one."""
        while True:
            self._raise_if_ended()
            await self.connection_available.wait()
            connection = self.present
            if connection is not None:
                return connection
            if self._live is not None:
                # It is closing, which its reader has yet to learn.
                await asyncio.wait({self._live.reader}, timeout=POLL_INTERVAL)

    # A user's messages

    @property
    def obstacle(self) -> str:
        """Why a message that waits was not sent."""
        connection = self.present
        is_limited = connection is not None and connection.send_queue is not None
        return "it was not the message's turn" if is_limited else "there was no live connection"

    async def send(self, message: Any, chosen: Callable[[Connection], object] | None = None) -> None:
        """Hand a message to a live connection; ``chosen`` is told before which one it is."""
        payload = to_payload(message, self._options.encode)
        timeout = self._options.send_timeout
        deadline = self._loop.time() + timeout
        try:
            async with asyncio.timeout_at(deadline):
                connection = await self._until_its_turn()
        except TimeoutError as error:
            raise SendTimeout(f"{self.obstacle} for {timeout:g} s: nothing was sent") from error
        if chosen is not None:
            chosen(connection)
        await connection.send(payload, max(0.0, deadline - self._loop.time()), None, patience=timeout)

    async def _until_its_turn(self) -> Connection:
        """Return the live connection, when one more message may be sent on it."""
        while True:
            connection = await self.wait_connected()
            try:
                await connection.acquire_slot(Priority.NORMAL)
            except SendFailed:
                # Nothing was sent: it is for the next connection.
                continue
            if connection.is_live:
                return connection
            connection.release_slot()

    # What the feed sends by itself

    def answer(self, connection: Connection, answer: Any) -> None:
        """Send an answer on the connection where it was asked for, before all else."""
        connection.send_soon(to_payload(answer, self._options.encode), self._options.send_timeout, Priority.HIGH)

    async def _beat(self, connection: Connection, message: Any, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            payload = None
            with self._reporter.guard("the heartbeat's message", awaits=True):
                payload = await self._payload_of(message)
            if payload is not None:
                await connection.acquire_slot(Priority.HIGH)
                await connection.send(payload, self._options.send_timeout, None)

    async def _payload_of(self, message: Any) -> str | bytes:
        async with asyncio.timeout(self._options.send_timeout):
            message = await resolve(message)
        return to_payload(message, self._options.encode)

    # What each new connection needs

    async def prepare(self, connection: Connection) -> None:
        """Send what is to be sent on ``connection`` before all else, and heartbeats as long as it lives."""
        if self._options.send_limit is not None:
            connection.send_queue = PrioritySendQueue(self._loop, SlidingWindow(*self._options.send_limit))
        if self._options.heartbeat is not None:
            message, seconds = self._options.heartbeat
            beating = self._loop.create_task(self._beat(connection, message, seconds), name="rxws heartbeat")
            connection.track(beating)
        for message in self.on_open:
            payload = await self._payload_of(message)
            await connection.acquire_slot(Priority.NORMAL)
            await connection.send(payload, self._options.send_timeout, None)
        sync = self._syncs[connection] = ChannelSync(connection, self.channels, self._options, self._reporter)
        connection.reader.add_done_callback(lambda _: self._syncs.pop(connection).stop())
        await sync.prepare()

    # What is subscribed as long as anybody wants it

    @property
    def is_subscribed(self) -> bool:
        """Whether all that is wanted is subscribed on every connection."""
        return all(sync.is_settled for sync in self._syncs.values())

    def has_subscribed(self, identity: Hashable) -> bool:
        """Whether the connection that is sent on has it subscribed; True where there is none, as in a replay."""
        sync = None if self._live is None else self._syncs.get(self._live)
        return sync is None or sync.has_subscribed(identity)

    def add_reference(self, channel: Channel) -> Channel:
        """Count somebody more who wants it; return what is to be released."""
        wanted = self.channels.add_reference(channel)
        self._notify_syncs(wanted)
        return wanted

    def remove_reference(self, channel: Channel) -> None:
        """Count somebody less."""
        self.channels.remove_reference(channel)
        self._notify_syncs(channel)

    def _notify_syncs(self, channel: Channel) -> None:
        # In an overlap there are two connections, and it is wanted on both.
        for sync in self._syncs.values():
            sync.changed(channel.identity)
