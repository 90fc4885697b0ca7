"""Whether messages can come at present. ``resync`` asks this before it fetches a snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

__all__ = ["ALWAYS_AVAILABLE", "Availability", "ChannelAvailability", "FeedAvailability"]

#: The shortest and the longest interval, in seconds, at which availability is polled where no event reports it. The
#: interval grows, because hundreds of channels may be refused for weeks.
POLL_INTERVALS: Final = (0.1, 1.0)

#: The polling interval as a share of the time waited so far: how much polling may prolong a wait.
SHARE: Final = 0.1


class Availability:
    """Whether messages can come. This class is for sources without a connection: their messages can always come."""

    @property
    def is_available(self) -> bool:
        """Whether messages can come at present."""
        return True

    async def wait_available(self) -> None:
        """Return when messages can come. Cancelling is safe."""


ALWAYS_AVAILABLE: Final = Availability()


class FeedAvailability(Availability):
    """The availability of a feed: its messages can come while it has a connection.

    Args:
        is_live: returns whether the feed has a connection.
        live_or_ended: set while the feed has a connection, and after its end.
    """

    def __init__(self, is_live: Callable[[], bool], live_or_ended: asyncio.Event) -> None:
        self._is_live = is_live
        self._live_or_ended = live_or_ended

    @property
    def is_available(self) -> bool:
        """Whether the feed has a connection."""
        return self._is_live()

    async def wait_available(self) -> None:
        """Return when the feed has a connection. After the feed's end it never returns. Cancelling is safe."""
        while True:
            await self._live_or_ended.wait()
            if self._is_live():
                return
            # The feed has ended; its streams will end soon and cancel this wait.
            await asyncio.sleep(POLL_INTERVALS[0])


class ChannelAvailability(Availability):
    """The availability of a channel: its messages can come while it is subscribed.

    Args:
        feed: the feed's availability.
        is_subscribed: returns whether the channel is subscribed on the connection that ``send`` uses.
    """

    def __init__(self, feed: Availability, is_subscribed: Callable[[], bool]) -> None:
        self._feed = feed
        self._is_subscribed = is_subscribed

    @property
    def is_available(self) -> bool:
        """Whether the feed has a connection on which the channel is subscribed."""
        return self._feed.is_available and self._is_subscribed()

    async def wait_available(self) -> None:
        """Return when the channel is subscribed. Cancelling is safe."""
        await self._feed.wait_available()
        clock, (shortest, longest) = asyncio.get_running_loop().time, POLL_INTERVALS
        began = clock()
        # The channel is usually subscribed already, since a connection counts as open when its channels are subscribed.
        while not self.is_available:
            await asyncio.sleep(min(longest, max(shortest, SHARE * (clock() - began))))
            await self._feed.wait_available()
