"""The continuity that a feed reports: its intervals, its gaps, and since when no message is missing."""

from __future__ import annotations

import asyncio

import pytest

import rxws
from rxws import Connected, Gap, Interval, Many, Resumed, Rotated, State
from tests.support.life import ScriptedFeed, ScriptedWebsocket
from tests.support.wiring import in_thread

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


class Resuming(ScriptedWebsocket):
    """A connection that resumes."""

    is_resumed = True


async def come(feed, *frames):
    """Let frames arrive, and return the time when they are delivered."""
    count = len(feed.record.messages) + len(frames)
    feed.websocket.come(*frames)
    await feed.record.received(count)
    return feed.record.of(Connected)[0].time + asyncio.get_running_loop().time() - feed.began


async def connected(feed):
    """Wait until a feed is connected."""
    await feed.record.entered(State.CONNECTED)
    feed.began = asyncio.get_running_loop().time()
    return feed.record.of(Connected)[0].time


def shown(feed):
    """Return the intervals, in seconds since the first connection, with their proofs."""
    began = feed.record.of(Connected)[0].time
    intervals = feed.continuity().intervals
    return [(round(each.start - began, 3), round(each.end - began, 3), each.proof) for each in intervals]


async def test_continuity_before_the_first_connection_is_empty():
    """Before the first connection there is neither an interval nor a gap, and nothing is complete."""
    async with ScriptedFeed() as feed:
        assert feed.continuity() == rxws.Continuity((), ())
        assert feed.statistics().complete_since is None
        await connected(feed)


async def test_continuity_lasts_to_the_last_message():
    """The interval begins with the connection and ends at its last message; frames without a message do not count."""
    async with ScriptedFeed(parse=lambda raw: Many() if raw == "nothing" else raw) as feed:
        began = await connected(feed)
        assert feed.statistics().complete_since == began
        await asyncio.sleep(10)
        await come(feed, "a")
        await asyncio.sleep(10)
        feed.websocket.come("nothing")
        await asyncio.sleep(1)
        assert shown(feed) == [(0, 10, "connection")]


async def test_continuity_after_a_loss():
    """A loss ends the interval at the last message; the next one begins where the gap ends."""
    async with ScriptedFeed(reconnect_delays=lambda: iter([5])) as feed:
        await connected(feed)
        await asyncio.sleep(10)
        await come(feed, "a")
        await asyncio.sleep(10)
        feed.websocket.end()
        await asyncio.sleep(1)
        assert feed.statistics().complete_since is None
        assert shown(feed) == [(0, 10, "connection")]
        gap = await feed.record.happened(Gap)
        assert feed.statistics().complete_since == gap.end
        await asyncio.sleep(5)
        await come(feed, "b")
        assert shown(feed) == [(0, 10, "connection"), (25, 30, "connection")]
        assert feed.continuity().gaps == (gap,)
    assert feed.statistics().complete_since is None
    assert shown(feed) == [(0, 10, "connection"), (25, 30, "connection")]


async def test_continuity_through_a_rotation():
    """A rotation without a gap continues the chain, so no message is missing since the first connection."""
    async with ScriptedFeed(handover_timeout=2) as feed:
        began = await connected(feed)
        await asyncio.sleep(10)
        rotating = feed.rotate()
        await feed.opened(2)
        for number in range(30):
            for websocket in feed.websockets:
                websocket.come(str(number))
            await asyncio.sleep(0.1)
        assert await rotating
        (rotated,) = feed.record.of(Rotated)
        assert rotated.proven
        assert feed.statistics().complete_since == began
        (first, second) = feed.continuity().intervals
        assert (first.start, first.proof, second.proof) == (began, "connection", "overlap")
        assert first.end == second.start
        assert second.end > rotated.time
        assert feed.continuity().gaps == ()


async def test_continuity_through_a_rotation_that_breaks_before_it_makes():
    """Without a handover a rotation leaves a gap, and begins a new chain."""
    async with ScriptedFeed(handover_timeout=0) as feed:
        await connected(feed)
        await come(feed, "a")
        await asyncio.sleep(10)
        assert await feed.rotate()
        (gap,) = feed.record.of(Gap)
        assert feed.statistics().complete_since == gap.end
        assert shown(feed)[-1] == (10, 10, "connection")


async def test_continuity_of_a_connection_that_resumes():
    """A connection that resumes continues the chain from where the lost one ended."""
    async with ScriptedFeed(ScriptedWebsocket(), Resuming(), reconnect_delays=lambda: iter([5])) as feed:
        began = await connected(feed)
        await asyncio.sleep(10)
        await come(feed, "a")
        feed.websocket.end()
        await feed.record.happened(Resumed)
        assert feed.statistics().complete_since == began
        await asyncio.sleep(10)
        await come(feed, "b")
        assert shown(feed) == [(0, 10, "connection"), (10, 25, "resumed")]


async def test_continuity_with_a_gap_of_the_source():
    """A gap that the parse hook returns cuts the interval that it lies in."""
    gaps = []
    async with ScriptedFeed(parse=lambda raw: gaps[0] if raw == "gap" else raw) as feed:
        began = await connected(feed)
        gaps.append(Gap(began + 2, began + 3))
        await asyncio.sleep(10)
        await come(feed, "a")
        feed.websocket.come("gap")
        await feed.record.happened(Gap)
        assert feed.statistics().complete_since == began + 3
        assert shown(feed) == [(0, 2, "connection"), (3, 10, "source")]


async def test_continuity_in_another_thread():
    """In another thread ``continuity()`` raises, but ``statistics().complete_since`` can be read."""
    async with ScriptedFeed() as feed:
        began = await connected(feed)
        with pytest.raises(RuntimeError, match="belongs to the event loop"):
            in_thread(feed.continuity)
        assert in_thread(feed.statistics).complete_since == began


async def test_continuity_is_a_snapshot_that_cannot_be_changed():
    """A result of ``continuity()`` does not change later, and an interval is immutable."""
    async with ScriptedFeed() as feed:
        await connected(feed)
        before = feed.continuity()
        await asyncio.sleep(1)
        await come(feed, "a")
        assert before.intervals[0].end == before.intervals[0].start
        with pytest.raises(AttributeError):
            before.intervals[0].end = 0.0
        assert isinstance(feed.continuity().intervals[0], Interval)
