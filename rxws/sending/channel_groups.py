"""The channels of a feed, divided into groups of limited size, one for each shard."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Final

from ..messages.filters import Filter
from ..options import Options
from ..reporting.reporter import Reporter
from .channel_group import ChannelGroup
from .channels import Channel, ChannelReceiver
from .sender import Sender

__all__ = ["ChannelGroups", "make_channels"]


class ChannelGroups:
    """Puts each new channel into the first group with room, and a channel that is already wanted into its own group.

    It finds the group of a channel by a look into each group, which takes less time than a stream, and no memory.

    Attributes:
        groups: the groups, the oldest first. There is at least one.
        on_added: called with each new group.
        on_emptied: called with each group that has lost its last channel.

    Args:
        make_group: makes a group without channels.
        limit: the largest number of channels in a group.
    """

    def __init__(self, make_group: Callable[[], ChannelGroup], limit: int) -> None:
        self.groups: Final = [make_group()]
        self.on_added: Callable[[ChannelGroup], object] = lambda _: None
        self.on_emptied: Callable[[ChannelGroup], object] = lambda _: None
        self._make_group = make_group
        self._limit = limit

    def _group_of(self, identity: Hashable) -> ChannelGroup | None:
        return next((group for group in self.groups if identity in group.channels), None)

    def _group_with_room(self) -> ChannelGroup:
        for group in self.groups:
            if len(group.channels) < self._limit and group.occupied < self._limit:
                return group
        group = self._make_group()
        self.groups.append(group)
        self.on_added(group)
        return group

    def remove(self, group: ChannelGroup) -> None:
        """Forget a group without channels."""
        self.groups.remove(group)

    def receivers_of_others(self, group: ChannelGroup) -> set[ChannelReceiver]:
        """Return the receivers of the channels of all groups but one."""
        others = (each for each in self.groups if each is not group)
        return {receiver for other in others for each in other.channels.values() for receiver in each.receivers}

    # As in one group

    @property
    def is_subscribed(self) -> bool:
        """Whether all wanted channels are subscribed on the connections of their groups."""
        return all(group.is_subscribed for group in self.groups)

    def has_subscribed(self, identity: Hashable) -> bool:
        """Whether a channel is subscribed on the live connection of its group."""
        group = self._group_of(identity)
        return group is not None and group.is_in_use and group.has_subscribed(identity)

    def filter_by_name(self, channel: Channel) -> Filter:
        """Return the filter of a stream whose channel is named by the server; see :class:`ChannelRegistry`."""
        return (self._group_of(channel.identity) or self.groups[0]).filter_by_name(channel)

    def add_reference(self, channel: Channel, wanted_messages: Filter) -> Channel:
        """Count one more stream that wants the channel; return the channel to pass to ``remove_reference``."""
        group = self._group_of(channel.identity) or self._group_with_room()
        return group.add_reference(channel, wanted_messages)

    def remove_reference(self, channel: Channel) -> None:
        """Count one stream less that wants the channel."""
        group = self._group_of(channel.identity)
        assert group is not None
        group.remove_reference(channel)
        if not group.channels:
            self.on_emptied(group)

    def resubscribe(self, channel: Channel) -> None:
        """Unsubscribe a wanted channel and subscribe it again."""
        group = self._group_of(channel.identity)
        assert group is not None
        group.resubscribe(channel)

    async def wait_subscribed(self, channel: Channel) -> None:
        """Wait until the connection of its group has subscribed a wanted channel; see :class:`ChannelGroup`."""
        await (self._group_of(channel.identity) or self.groups[0]).wait_subscribed(channel)

    def when_subscribed_again(self, identity: Hashable, hold_back: Callable[[], Callable[[], None]]) -> None:
        """If the channel of a new stream was just unsubscribed, hold the stream back until it is subscribed again."""
        group = self._group_of(identity)
        assert group is not None
        group.when_subscribed_again(identity, hold_back)


def make_channels(sender: Sender, options: Options, reporter: Reporter) -> ChannelGroup | ChannelGroups:
    """Return the channels of a feed: one group, or several if ``channels_per_connection`` is set."""
    make_group, limit = functools.partial(ChannelGroup, sender, options, reporter), options.channels_per_connection
    return make_group() if limit is None else ChannelGroups(make_group, limit)
