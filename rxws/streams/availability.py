"""Availability: whether messages can arrive at present. ``resync`` checks it before it fetches a snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["ALWAYS_AVAILABLE", "Availability"]

#: The shortest and the longest interval, in seconds, between two checks of whether a channel is subscribed. No event
#: reports that. The interval grows, because the server may refuse hundreds of channels for weeks.
POLL_INTERVALS: Final = (0.1, 1.0)

#: The polling interval as a share of the time waited so far. So polling prolongs a wait at most by this share.
SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether messages can arrive.

    Attributes:
        is_live: returns whether the feed can deliver messages at present.
        live_or_ended: set while the feed has a connection, and after its end.
        is_subscribed: returns whether the channel of a stream is subscribed; None: the stream has no channel.
    """

    is_live: Callable[[], bool]
    live_or_ended: asyncio.Event
    is_subscribed: Callable[[], bool] | None = None

    def limited_to(self, is_subscribed: Callable[[], bool]) -> Availability:
        """Return the availability of a channel: its messages can arrive while it is subscribed on the connection."""
        return self if self is ALWAYS_AVAILABLE else Availability(self.is_live, self.live_or_ended, is_subscribed)

    def is_available(self) -> bool:
        """Return whether messages can arrive at present."""
        return self.is_live() and (self.is_subscribed is None or self.is_subscribed())

    async def wait_available(self) -> None:
        """Return when messages can arrive. After the feed's end it never returns. Cancelling is safe."""
        clock, (shortest, longest) = asyncio.get_running_loop().time, POLL_INTERVALS
        began = clock()
        # Usually this loop runs once: a connection counts as open only when its channels are subscribed.
        while not self.is_available():
            if self.live_or_ended.is_set():
                # Poll, because no event reports that a channel is subscribed. If the feed has ended, its streams end
                # soon and cancel this wait.
                await asyncio.sleep(min(longest, max(shortest, SHARE * (clock() - began))))
            else:
                await self.live_or_ended.wait()
                began = clock()


#: For sources without a connection: their messages can always arrive.
ALWAYS_AVAILABLE: Final = Availability(lambda: True, asyncio.Event())
