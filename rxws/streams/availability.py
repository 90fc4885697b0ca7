"""Whether messages can come at present: for those who must know it before they come, or do not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["STEADY", "ChannelFlow", "FeedFlow", "Flow"]

LOOK_INTERVALS: Final = (0.1, 1.0)
"""Seconds between two looks where nobody tells, at first and at last: what is refused may be so for weeks, and there
may be hundreds."""

SHARE: Final = 0.1
"""How much longer one may wait, for having looked too rarely."""


class Flow(Protocol):
    """Tells whether messages can come."""

    @property
    def is_on(self) -> bool:
        """Whether they can at present."""

    async def until_on(self) -> None:
        """Return when they can. Cancelling is safe."""


class _Steady:
    """Of a source of which nobody knows more than that it has not ended."""

    is_on = True

    async def until_on(self) -> None:
        return


STEADY: Final[Flow] = _Steady()


class FeedFlow:
    """Of a feed: they can come while it has a connection.

    Args:
        is_live: whether it has one.
        arrived: set while it has one, or has ended.
    """

    def __init__(self, is_live: Callable[[], bool], arrived: asyncio.Event) -> None:
        self._is_live = is_live
        self._arrived = arrived

    @property
    def is_on(self) -> bool:
        """Whether the feed has a connection."""
        return self._is_live()

    async def until_on(self) -> None:
        """Return when it has one; after its end, not at all."""
        while True:
            await self._arrived.wait()
            if self._is_live():
                return
            # It has ended, and its streams are about to.
            await asyncio.sleep(LOOK_INTERVALS[0])


class ChannelFlow:
    """Of a channel: they can come while it is subscribed.

    Args:
        feed: the feed's flow.
        is_subscribed: whether the connection that is sent on has it subscribed.
    """

    def __init__(self, feed: Flow, is_subscribed: Callable[[], bool]) -> None:
        self._feed = feed
        self._is_subscribed = is_subscribed

    @property
    def is_on(self) -> bool:
        """Whether there is a connection that has it subscribed."""
        return self._feed.is_on and self._is_subscribed()

    async def until_on(self) -> None:
        """Return when there is one."""
        await self._feed.until_on()
        clock, (shortest, longest) = asyncio.get_running_loop().time, LOOK_INTERVALS
        began = clock()
        # Mostly it is so at once, since a connection counts as open when all is subscribed.
        while not self.is_on:
            await asyncio.sleep(min(longest, max(shortest, SHARE * (clock() - began))))
            await self._feed.until_on()
