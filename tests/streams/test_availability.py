"""Whether messages can come at present."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from rxws.streams.availability import ALWAYS_AVAILABLE, ChannelAvailability, FeedAvailability

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


class Switched:
    """What two flows ask."""

    def __init__(self):
        self.is_live = self.is_subscribed = False
        self.live_or_ended = asyncio.Event()
        self.feed = FeedAvailability(lambda: self.is_live, self.live_or_ended)
        self.channel = ChannelAvailability(self.feed, lambda: self.is_subscribed)

    def connect(self, is_live=True):
        """Have a connection, or end."""
        self.is_live = is_live
        self.live_or_ended.set()


async def is_done(waiting, seconds):
    """Return whether a wait ends within so many seconds."""
    done, _ = await asyncio.wait({waiting}, timeout=seconds)
    return bool(done)


async def test_what_nobody_tells_of_comes():
    """A source that is no feed's comes as long as it does not end."""
    assert ALWAYS_AVAILABLE.is_available
    await ALWAYS_AVAILABLE.wait_available()


async def test_feed_gives_what_it_has_a_connection_for():
    """Whoever waits goes on when there is a connection, and not at the end of the feed."""
    switched = Switched()
    waiting = asyncio.ensure_future(switched.feed.wait_available())
    assert not await is_done(waiting, 60)
    assert not switched.feed.is_available
    switched.connect()
    assert switched.feed.is_available
    assert await is_done(waiting, 0.001)


async def test_feed_that_has_ended_gives_nothing():
    """Whoever waits for what will not come waits until it is cancelled."""
    switched = Switched()
    waiting = asyncio.ensure_future(switched.feed.wait_available())
    switched.connect(is_live=False)
    assert not await is_done(waiting, 60)
    waiting.cancel()


async def test_channel_comes_once_it_is_subscribed():
    """A connection is not enough: it must have the channel subscribed, and be there still."""
    switched = Switched()
    waiting = asyncio.ensure_future(switched.channel.wait_available())
    switched.connect()
    assert not await is_done(waiting, 1)
    assert not switched.channel.is_available
    switched.is_live = False
    switched.live_or_ended.clear()
    switched.is_subscribed = True
    assert not await is_done(waiting, 1)
    assert not switched.channel.is_available
    switched.connect()
    assert await is_done(waiting, 0.2)
    assert switched.channel.is_available


async def test_channel_that_does_not_come_is_looked_at_ever_more_rarely():
    """Hundreds of channels that are refused for weeks cost nothing; one that comes late is noticed soon after."""
    switched, looks = Switched(), []
    switched.connect()

    def is_subscribed():
        looks.append(asyncio.get_running_loop().time())
        return len(looks) == 5_000

    channel = ChannelAvailability(switched.feed, is_subscribed)
    await channel.wait_available()
    assert looks[1] < 0.2
    assert all(later - earlier <= max(0.101, 0.1 * earlier + 0.001) for earlier, later in itertools.pairwise(looks))
    assert looks[-1] > 4_000
