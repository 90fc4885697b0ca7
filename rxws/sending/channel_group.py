"""The channels that are subscribed together: on each connection of a line, or of all lines of a feed."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final

from ..connections.connection import Connection
from ..errors import RxwsError
from ..messages.filters import Filter
from ..options import Options
from ..reporting.reporter import Reporter
from .channel_sync import ChannelSync
from .channels import Channel, ChannelRegistry
from .sender import Sender
from .subscriptions import Subscription

__all__ = ["ChannelGroup"]

#: Seconds between two checks whether the group has a live connection.
POLL_INTERVAL: Final = 0.05


class ChannelGroup:
    """Prepares the connections of a line, and keeps the wanted channels subscribed on each of them.

    Attributes:
        channels: the channels that streams want.

    Args:
        sender: sends on the connections.
        options: the options of the feed.
        reporter: logs, counts and emits failures.
    """

    def __init__(self, sender: Sender, options: Options, reporter: Reporter) -> None:
        self._sender = sender
        self._options = options
        self._reporter = reporter
        self._syncs: dict[Connection, ChannelSync] = {}
        # When the last message arrived on the connection that delivered and ended last, in seconds since the epoch.
        self._last_message_time = 0.0
        self.channels: Final = ChannelRegistry()

    # The connections

    async def prepare(self, connection: Connection) -> None:
        """Send the ``on_open`` messages, subscribe the wanted channels, and start the heartbeats of ``connection``."""
        await self._sender.prepare(connection)
        sync = ChannelSync(connection, self.channels, self._options, self._reporter, self._channel_ended)
        self._syncs[connection] = self._sender.syncs[connection] = sync
        connection.reader.add_done_callback(lambda _: self._ended(connection))
        await sync.prepare()

    def _ended(self, connection: Connection) -> None:
        del self._sender.syncs[connection]
        sync = self._syncs.pop(connection)
        # Their messages may have been delivered although the answers have not arrived.
        connection.channels.update(dict.fromkeys(sync.asked))
        sync.stop()
        self._note_last_message(connection)

    def _note_last_message(self, ended: Connection) -> None:
        # Messages that a connection held until its end were not delivered.
        if ended.inbound.has_taken_over and ended.inbound.last_received_time is not None:
            self._last_message_time = ended.inbound.last_received_time

    def use(self, connection: Connection | None, line: int) -> None:
        """Send on this connection of a line from now on. None means that the line has no connection to send on."""
        self._sender.use(connection, line)
        if connection is not None:
            self._interrupt_missing()

    def answer(self, connection: Connection, answer: Any) -> None:
        """Send the answer to a frame on the connection that received it, before all other messages."""
        self._sender.answer(connection, answer)

    def _interrupt_missing(self) -> None:
        """Let streams announce a Gap if no connection has their channel subscribed, for example after a refusal."""
        syncs = []
        for connection, sync in self._syncs.items():
            if connection.reader.done():
                self._note_last_message(connection)
            else:
                syncs.append(sync)
        for identity, channel in self.channels.items():
            if not any(sync.subscriptions.has(identity) for sync in syncs):
                for receiver in channel.receivers:
                    receiver.interrupt(self._last_message_time)

    # The channels

    @property
    def occupied(self) -> int:
        """The number of wanted channels, and of those that cannot be unsubscribed before they are subscribed."""
        undecided = (sync.subscriptions.undecided_unwanted for sync in self._syncs.values())
        return len(self.channels) + max(undecided, default=0)

    @property
    def is_subscribed(self) -> bool:
        """Whether all wanted channels are subscribed on every connection."""
        return all(sync.is_settled for sync in self._syncs.values())

    @property
    def is_in_use(self) -> bool:
        """Whether there is a live connection."""
        return self._sender.first_in_use(self._syncs) is not None

    def has_subscribed(self, identity: Hashable) -> bool:
        """Whether a channel is subscribed on the live connection; True if there is none, as in a replay."""
        connection = self._sender.first_in_use(self._syncs)
        return connection is None or self._syncs[connection].subscriptions.has(identity)

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

    def _channel_ended(self, channel: Channel, since: float) -> None:
        """Interrupt or end the streams of a channel whose subscription the server has ended on one connection."""
        is_complete = channel.on_ended == "complete"
        if is_complete and any(sync.subscriptions.has(channel.identity) for sync in self._syncs.values()):
            return
        for receiver in list(channel.receivers):
            if is_complete:
                receiver.on_end(None)
            else:
                # Another connection may have the subscription, but the server may have ended that one at the same time.
                receiver.interrupt(since)

    def channel_of(self, message: Any, connection: Connection | None = None) -> Hashable:
        """Return the channel of a message of this connection, or None if it has none."""
        named = connection.inbound.names.channels_of(message) if connection is not None else ()
        return named[0] if named else self.channels.channel_of(message)

    def filter_by_name(self, channel: Channel) -> Filter:
        """Return the filter of a stream whose channel is named by the server; see :class:`ChannelRegistry`."""
        return self.channels.filter_by_name(channel)

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
                    await self._wait_connected()
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

    async def _wait_connected(self) -> None:
        """Wait for a live connection of this group. Other groups may have one earlier."""
        await self._sender.wait_connected()
        while not self.is_in_use:
            await asyncio.sleep(POLL_INTERVAL)
            await self._sender.wait_connected()

    def _notify_syncs(self, channel: Channel) -> None:
        # In an overlap there are two connections, and each must subscribe the channel.
        for sync in self._syncs.values():
            sync.changed(channel.identity)
