"""Whether messages can come at present: for those who must know it before they come, or do not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

__all__ = ["ALWAYS_AVAILABLE", "Availability", "ChannelAvailability", "FeedAvailability"]

POLL_INTERVALS: Final = (0.1, 1.0)
"""Seconds between two looks where nobody tells, at first and at last: what is refused may be so for weeks, and there
may be hundreds."""

SHARE: Final = 0.1
"""How much longer one may wait, for having looked too rarely."""


class Availability:
    """Whether messages can come: of a source of which no more is known than that it has not ended, always."""

    @property
    def is_available(self) -> bool:
        """Whether they can at present."""
        return True

    async def wait_available(self) -> None:
        """Return when they can. Cancelling is safe."""


ALWAYS_AVAILABLE: Final = Availability()


class FeedAvailability(Availability):
    """Of a feed: they can come while it has a connection.

    Args:
        is_live: whether it has one.
        arrived: set while it has one, or has ended.
    """

    def __init__(self, is_live: Callable[[], bool], live_or_ended: asyncio.Event) -> None:
        self._is_live = is_live
        self._live_or_ended = live_or_ended

    @property
    def is_available(self) -> bool:
        """Whether the feed has a connection."""
        return self._is_live()

    async def wait_available(self) -> None:
        """Return when it has one; after its end, not at all."""
        while True:
            await self._live_or_ended.wait()
            if self._is_live():
                return
            # It has ended, and its streams are about to.
            await asyncio.sleep(POLL_INTERVALS[0])


class ChannelAvailability(Availability):
    """Of a channel: they can come while it is subscribed.

    Args:
        feed: the feed's flow.
        is_subscribed: whether the connection that is sent on has it subscribed.
    """

    def __init__(self, feed: Availability, is_subscribed: Callable[[], bool]) -> None:
        self._feed = feed
        self._is_subscribed = is_subscribed

    @property
    def is_available(self) -> bool:
        """Whether there is a connection that has it subscribed."""
        return self._feed.is_available and self._is_subscribed()

    async def wait_available(self) -> None:
        """Return when there is one."""
        await self._feed.wait_available()
        clock, (shortest, longest) = asyncio.get_running_loop().time, POLL_INTERVALS
        began = clock()
        # Mostly it is so at once, since a connection counts as open when all is subscribed.
        while not self.is_available:
            await asyncio.sleep(min(longest, max(shortest, SHARE * (clock() - began))))
            await self._feed.wait_available()
