"""Whether messages can come at present. ``resync`` asks this before it fetches a snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["ALWAYS_AVAILABLE", "Availability"]

#: The shortest and the longest interval, in seconds, at which availability is polled where no event reports it. The
#: interval grows, because hundreds of channels may be refused for weeks.
POLL_INTERVALS: Final = (0.1, 1.0)

#: The polling interval as a share of the time waited so far: how much polling may prolong a wait.
SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether messages can come.

    Attributes:
        is_available: returns whether messages can come at present.
        live_or_ended: set while the feed has a connection, and after its end.
    """

    is_available: Callable[[], bool]
    live_or_ended: asyncio.Event

    def limited_to(self, is_subscribed: Callable[[], bool]) -> Availability:
        """Return the availability of a channel: its messages can come while it is subscribed on the connection."""
        is_available = self.is_available
        return Availability(lambda: is_available() and is_subscribed(), self.live_or_ended)

    async def wait_available(self) -> None:
        """Return when messages can come. After the feed's end it never returns. Cancelling is safe."""
        clock, (shortest, longest) = asyncio.get_running_loop().time, POLL_INTERVALS
        began = clock()
        # A channel is usually subscribed when the feed has a connection, since a connection counts as open only then.
        while not self.is_available():
            if self.live_or_ended.is_set():
                # Nothing reports that a channel is subscribed. Or the feed has ended: its streams end soon and cancel
                # this wait.
                await asyncio.sleep(min(longest, max(shortest, SHARE * (clock() - began))))
            else:
                await self.live_or_ended.wait()
                began = clock()


#: For sources without a connection: their messages can always come.
ALWAYS_AVAILABLE: Final = Availability(lambda: True, asyncio.Event())
