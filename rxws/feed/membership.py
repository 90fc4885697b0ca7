"""A stream as a member of its channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..sending.channel_group import ChannelGroup
from ..sending.channel_groups import ChannelGroups
from ..sending.channels import Channel
from ..streams.stream_receiver import StreamReceiver
from .shutdown import Shutdown

__all__ = ["Membership"]


@dataclass(eq=False, slots=True)
class Membership:
    """Keeps a channel subscribed as long as a stream of it is open.

    There is one for each stream of ``multiplex``, so one object with methods takes the place of several closures.

    Attributes:
        channels: the channels of the feed.
        channel: the channel of the stream.
        shutdown: the shutdown of the feed.
        receiver: the receiver of the stream.
    """

    channels: ChannelGroup | ChannelGroups
    channel: Channel
    shutdown: Shutdown
    receiver: StreamReceiver[Any] | None = None

    def __call__(self) -> bool:
        """Return whether the channel is subscribed on its live connection."""
        return self.channels.has_subscribed(self.channel.identity)

    def renew(self) -> None:
        """Unsubscribe the channel and subscribe it again."""
        self.channels.resubscribe(self.channel)

    async def wait_subscribed(self) -> None:
        """Wait until the channel is subscribed; see :class:`ChannelGroup`."""
        await self.channels.wait_subscribed(self.channel)

    def end(self) -> None:
        """Called when the stream has ended."""
        if self.receiver in self.channel.receivers:
            self.channel.receivers.remove(self.receiver)
        if not self.shutdown.is_over:
            self.channels.remove_reference(self.channel)
