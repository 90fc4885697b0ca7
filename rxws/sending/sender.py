"""Sends messages, answers and heartbeats on the live connection, and prepares each new connection."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final

from ..callables import resolve
from ..checks import check_seconds
from ..codec import to_payload
from ..connections.connection import Connection
from ..connections.failures import Failure
from ..connections.send_queue import Priority, PrioritySendQueue
from ..connections.watchdog import let_arrive
from ..errors import RxwsError, SendFailed, SendTimeout
from ..heartbeat import Heartbeat, heartbeat_of
from ..messages.filters import Filter
from ..options import Options
from ..rate_limit import Rate, window_of
from ..reporting.reporter import Reporter
from .channel_sync import ChannelSync
from .channels import Channel, ChannelRegistry
from .subscriptions import Subscription

__all__ = ["Sender"]

#: Seconds until the first heartbeat if the function that returns its interval fails.
FIRST_INTERVAL: Final = 10.0

#: Seconds between two checks whether a closing connection has ended.
POLL_INTERVAL: Final = 0.05


class Sender:
    """Sends on the live connection, and prepares each new one.

    Attributes:
        on_open: messages, and (async) functions that return messages, which are sent first on every new connection.
        channels: the channels that streams want.
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
        self._syncs: dict[Connection, ChannelSync] = {}
        # The number of calls of `send` that wait for a connection, or for earlier calls.
        self._in_line = 0
        if isinstance(options.send_limit, Rate):
            # A Rate of another event loop raises now, and not when the first connection is open.
            window_of(options.send_limit, self._loop)
        # When the last message arrived on the connection that ended last, in seconds since the epoch.
        self._last_message_time = 0.0
        self.on_open: tuple[Any, ...] = ()
        self.channels: Final = ChannelRegistry()
        self.connection_available: Final = asyncio.Event()

    # The live connection

    def use(self, connection: Connection | None, line: int = 1) -> None:
        """Send on ``connection`` from now on, if no earlier line has one. None means that this line has none."""
        if connection is not None:
            self._live[line] = connection
            self.connection_available.set()
            self._interrupt_missing()
        elif self._live.pop(line, None) is not None and not self._live:
            self.connection_available.clear()

    def stop(self) -> None:
        """Send no more, and let those who wait for a connection see that the feed has ended. Idempotent."""
        self._live.clear()
        self.connection_available.set()

    def _interrupt_missing(self) -> None:
        """Let streams announce a Gap if no connection has their channel subscribed, for example after a refusal."""
        syncs = []
        for connection, sync in self._syncs.items():
            if connection.reader.done():
                self._last_message_time = connection.inbound.last_received_time or self._last_message_time
            else:
                syncs.append(sync)
        for identity, channel in self.channels.items():
            if not any(sync.subscriptions.has(identity) for sync in syncs):
                for receiver in channel.receivers:
                    receiver.interrupt(self._last_message_time)

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
        sync = self._syncs.get(connection)
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
        """Send the ``on_open`` messages, subscribe the wanted channels, and start the heartbeats of ``connection``."""
        if self._options.send_limit is not None:
            connection.send_queue = PrioritySendQueue(self._loop, window_of(self._options.send_limit, self._loop))
        heartbeat = heartbeat_of(self._options.heartbeat)
        if heartbeat is not None:
            connection.run(self._send_heartbeats(connection, heartbeat), "rxws heartbeat")
        for message in self.on_open:
            payload = await self._payload_of(message)
            await connection.acquire_slot(Priority.NORMAL)
            await connection.send(payload, self._options.send_timeout, None)
        sync = self._syncs[connection] = ChannelSync(
            connection, self.channels, self._options, self._reporter, self._channel_ended
        )
        connection.reader.add_done_callback(lambda _: self._ended(connection))
        await sync.prepare()

    def _ended(self, connection: Connection) -> None:
        sync = self._syncs.pop(connection)
        # Their messages may have been delivered although the answers have not arrived.
        connection.channels.update(dict.fromkeys(sync.asked))
        sync.stop()
        self._last_message_time = connection.inbound.last_received_time or self._last_message_time

    # Channels

    @property
    def is_subscribed(self) -> bool:
        """Whether all wanted channels are subscribed on every connection."""
        return all(sync.is_settled for sync in self._syncs.values())

    def has_subscribed(self, identity: Hashable) -> bool:
        """Whether a channel is subscribed on the live connection; True if there is none, as in a replay."""
        sync = self._syncs.get(self._live[min(self._live)]) if self._live else None
        return sync is None or sync.subscriptions.has(identity)

    def asked(self, connection: Connection) -> Iterable[Hashable]:
        """Return the channels whose subscription was sent on ``connection``, whether or not it was answered."""
        sync = self._syncs.get(connection)
        return () if sync is None else sync.asked

    def is_leaving(self, connection: Connection, channel: Hashable) -> bool:
        """Return whether a channel was unsubscribed on ``connection`` and is not subscribed there again."""
        sync = self._syncs.get(connection)
        return sync is not None and sync.is_leaving(channel)

    def when_subscribed_again(self, identity: Hashable, hold_back: Callable[[], Callable[[], None]]) -> None:
        """If the channel of a new stream was just unsubscribed, hold the stream back until it is subscribed again.

        The channel must be subscribed on one connection. Until then, messages of the old subscription may still
        arrive, and messages between the two subscriptions are missing.

        Args:
            identity: the identity of the channel.
            hold_back: called if the channel was unsubscribed; returns the function that lets the stream begin.
        """
        syncs = self._syncs
        expiring = {sync for sync in syncs.values() if sync.subscriptions.is_expiring(identity)}
        if not (expiring or any(sync.is_leaving(identity) for sync in syncs.values())):
            return
        if any(
            sync.subscriptions.has(identity) and not (sync in expiring or sync.is_leaving(identity))
            for sync in syncs.values()
        ):
            return
        begin, awaited = hold_back(), list(syncs)

        def decided(connection: Connection, sync: ChannelSync) -> None:
            if connection in awaited:
                awaited.remove(connection)
                is_subscribed = not connection.reader.done() and sync.subscriptions.has(identity)
                if is_subscribed or not awaited:
                    awaited.clear()
                    connection.inbound.when_delivered(begin)

        for connection, sync in syncs.items():
            sync.when_decided(identity, functools.partial(decided, connection, sync))

    def _channel_ended(self, channel: Channel) -> None:
        """Interrupt or end the streams of a channel whose subscription the server has ended on one connection."""
        is_complete = channel.on_ended == "complete"
        if is_complete and any(sync.subscriptions.has(channel.identity) for sync in self._syncs.values()):
            return
        for receiver in list(channel.receivers):
            if is_complete:
                receiver.on_end(None)
            else:
                # Another connection may have the subscription, but the server may have ended that one at the same time.
                receiver.interrupt(self._reporter.now())

    def channel_of(self, message: Any, connection: Connection | None = None) -> Hashable:
        """Return the channel of a message of this connection, or None if it has none."""
        named = connection.inbound.names.channels_of(message) if connection is not None else ()
        return named[0] if named else self.channels.channel_of(message)

    def add_reference(self, channel: Channel, wanted_messages: Filter) -> Channel:
        """Count one more stream that wants the channel; return the channel to pass to ``remove_reference``."""
        wanted = self.channels.add_reference(channel, wanted_messages)
        self._notify_syncs(wanted)
        return wanted

    def remove_reference(self, channel: Channel) -> None:
        """Count one stream less that wants the channel."""
        # In an overlap, the last messages of the channel must still be recognized as its messages.
        is_overlap = any(connection.on_channel is not None for connection in self._syncs)
        self.channels.remove_reference(channel, is_remembered=is_overlap)
        self._notify_syncs(channel)

    def resubscribe(self, channel: Channel) -> None:
        """Unsubscribe a wanted channel and subscribe it again, on each connection."""
        self.channels.renew(channel)
        self._notify_syncs(channel)
        began = self._reporter.now()

        def decided(connection: Connection, sync: ChannelSync) -> None:
            if not connection.reader.done() and sync.subscriptions.has(channel.identity):
                # Messages between the subscriptions are missing. An overlap may deliver those of either connection.
                for receiver in channel.receivers:
                    connection.inbound.when_delivered(functools.partial(receiver.resubscribed, began))

        for connection, sync in self._syncs.items():
            sync.when_decided(channel.identity, functools.partial(decided, connection, sync))

    async def wait_subscribed(self, channel: Channel) -> None:
        """Wait until each open connection has subscribed a wanted channel. The connection may be lost meanwhile.

        Raises:
            TimeoutError: it took longer than ``send_timeout`` and two timeouts of the channel, or no answer arrived.
            RxwsError: the server refused, the channel is no longer wanted, or the feed has ended.
        """
        identity, subscribed = channel.identity, channel.describe()
        seconds = self._options.send_timeout + 2 * channel.timeout
        try:
            async with asyncio.timeout(seconds):
                found: list[Subscription] = []
                while not found:
                    await self.wait_connected()
                    syncs = list(self._syncs.items())
                    for _, sync in syncs:
                        await sync.wait_decided(identity)
                    if identity not in self.channels:
                        raise RxwsError(f"all streams of {subscribed} were closed before it was subscribed again")
                    found = [sync.subscriptions[identity] for connection, sync in syncs if connection in self._syncs]
        except TimeoutError:
            raise TimeoutError(f"{subscribed} was not subscribed again within {seconds:g} s") from None
        if not any(each.is_present for each in found):
            raise RxwsError(f"{subscribed} was not subscribed again: an event reports the refusal")
        if not any(each.is_present and each.is_answered for each in found):
            raise TimeoutError(f"the server has not answered the subscription of {subscribed}")

    def _notify_syncs(self, channel: Channel) -> None:
        # In an overlap there are two connections, and each must subscribe the channel.
        for sync in self._syncs.values():
            sync.changed(channel.identity)
