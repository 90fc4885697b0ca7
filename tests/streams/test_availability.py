"""Availability: whether messages can arrive at present."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from rxws.streams.availability import ALWAYS_AVAILABLE, Availability

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


class Switched:
    """The availability of a feed and of a channel, which the test switches on and off."""

    def __init__(self):
        self.is_live = self.is_subscribed = False
        self.live_or_ended = asyncio.Event()
        self.feed = Availability(lambda: self.is_live, self.live_or_ended)
        self.channel = self.feed.limited_to(lambda: self.is_subscribed)

    def connect(self, is_live=True):
        """Open a connection, or end the feed."""
        self.is_live = is_live
        self.live_or_ended.set()


async def is_done(waiting, seconds):
    """Return whether a wait ends within ``seconds``."""
    done, _ = await asyncio.wait({waiting}, timeout=seconds)
    return bool(done)


async def test_availability_when_the_source_is_not_a_feed():
    """A source that is not a feed is always available."""
    assert ALWAYS_AVAILABLE.is_available()
    await ALWAYS_AVAILABLE.wait_available()


async def test_feed_when_it_gets_a_connection():
    """wait_available returns when the feed has a connection."""
    switched = Switched()
    waiting = asyncio.ensure_future(switched.feed.wait_available())
    assert not await is_done(waiting, 60)
    assert not switched.feed.is_available()
    switched.connect()
    assert switched.feed.is_available()
    assert await is_done(waiting, 0.001)


async def test_feed_when_it_has_ended():
    """After the end of the feed wait_available waits until it is cancelled."""
    switched = Switched()
    waiting = asyncio.ensure_future(switched.feed.wait_available())
    switched.connect(is_live=False)
    assert not await is_done(waiting, 60)
    waiting.cancel()


async def test_channel_when_it_gets_subscribed():
    """A channel is available when there is a connection on which it is subscribed."""
    switched = Switched()
    waiting = asyncio.ensure_future(switched.channel.wait_available())
    switched.connect()
    assert not await is_done(waiting, 1)
    assert not switched.channel.is_available()
    switched.is_live = False
    switched.live_or_ended.clear()
    switched.is_subscribed = True
    assert not await is_done(waiting, 1)
    assert not switched.channel.is_available()
    switched.connect()
    assert await is_done(waiting, 0.2)
    assert switched.channel.is_available()


async def test_channel_when_it_is_refused_for_long():
    """A refused channel is polled at growing intervals, so hundreds of refused channels cost little."""
    switched, looks = Switched(), []
    switched.connect()

    def is_subscribed():
        looks.append(asyncio.get_running_loop().time())
        return len(looks) == 5_000

    channel = switched.feed.limited_to(is_subscribed)
    await channel.wait_available()
    assert looks[1] < 0.2
    assert all(later - earlier <= max(0.101, 0.1 * earlier + 0.001) for earlier, later in itertools.pairwise(looks))
    assert looks[-1] > 4_000
