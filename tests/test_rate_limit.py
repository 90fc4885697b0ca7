"""Rate limits: the strict rolling window, and rates that feeds share."""

from __future__ import annotations

import asyncio
import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxws import Connected
from rxws.rate_limit import MARGIN, Rate, SlidingWindow
from tests.support.life import ScriptedFeed


def test_limit_allows_a_number_and_then_waits_for_the_oldest():
    """When a window is full, the next message waits until the oldest one has left the window and its margin."""
    limit = SlidingWindow(2, 1.0)
    for now in (0.0, 0.25):
        assert limit.delay(now) == 0
        limit.acquire()
        limit.record(now)
    assert limit.delay(0.25) == pytest.approx(0.75 + MARGIN)
    assert limit.delay(1.0 + MARGIN) == 0


def test_limit_counts_acquired_slots():
    """An acquired slot counts at once; if all slots are acquired, the delay is infinite; a released slot is free."""
    limit = SlidingWindow(1, 1.0)
    limit.acquire()
    assert limit.delay(0.0) == math.inf
    limit.release()
    assert limit.delay(0.0) == 0


def test_limit_counts_a_message_from_when_it_is_sent():
    """A message counts from the time when it is sent, even if its slot was acquired much earlier."""
    limit = SlidingWindow(1, 1.0)
    limit.acquire()
    limit.record(5.0)
    assert limit.delay(5.0) == pytest.approx(1.0 + MARGIN)


@given(st.integers(1, 6), st.floats(0.01, 10), st.lists(st.floats(0, 3), max_size=60))
def test_limit_is_a_strict_rolling_window(messages, seconds, pauses):
    """For any pauses, no interval of the window's length contains more messages than allowed."""
    limit, now, sent = SlidingWindow(messages, seconds), 0.0, []
    for pause in pauses:
        now += pause
        while (delay := limit.delay(now)) > 0:
            now = max(math.nextafter(now, math.inf), now + delay)
        limit.acquire()
        limit.record(now)
        sent.append(now)
    assert all(later - earlier > seconds for earlier, later in zip(sent, sent[messages:], strict=False))


# A rate that feeds share


def test_rates_check_their_arguments():
    """A count that is no int of at least 1, or seconds that are not positive, raise an error that names them."""
    with pytest.raises(TypeError, match=r"count must be an int of at least 1, not 1\.5"):
        Rate(1.5, 1)
    with pytest.raises(ValueError, match="count must be an int of at least 1, not 0"):
        Rate(0, 1)
    with pytest.raises(ValueError, match="seconds must be a positive number of seconds, not 0"):
        Rate(1, 0)
    assert repr(Rate(5, 0.5)) == "Rate(5, 0.5)"


@pytest.mark.parametrize("option", ["connect_limit", "send_limit"])
async def test_rates_belong_to_one_event_loop(option):
    """A Rate in use by another event loop raises TypeError; after that loop is closed, it can be used again."""
    rate = Rate(1, 1)

    async def use():
        async with ScriptedFeed(**{option: rate}) as feed:
            await feed.record.happened(Connected)

    await use()
    with pytest.raises(TypeError, match="another event loop"):
        await asyncio.to_thread(asyncio.run, use())
    again = Rate(1, 1)
    for _ in range(2):
        await asyncio.to_thread(asyncio.run, _made_with(option, again))


async def _made_with(option, rate):
    async with ScriptedFeed(**{option: rate}):
        pass


@pytest.mark.parametrize("limit", [(3, 10), Rate(3, 10)])
@pytest.mark.usefixtures("virtual_time")
async def test_handshakes_stay_within_the_limit(limit):
    """In no period of the limit's length does a feed with several lines begin more handshakes, failed ones included."""
    times = []

    async def refused():
        times.append(asyncio.get_running_loop().time())
        raise OSError("unreachable")

    feed = ScriptedFeed(
        *[refused] * 1_000, lines=2, connect_limit=limit, reconnect_delays=lambda: itertools.repeat(0.1)
    )
    await asyncio.sleep(60)
    assert feed.statistics().opened == 0
    await feed.exit()
    assert len(times) == 18
    assert all(later - earlier >= 10 for earlier, later in zip(times, times[3:], strict=False))


@pytest.mark.usefixtures("virtual_time")
async def test_feeds_share_a_rate_of_handshakes_and_its_wait_is_no_timeout():
    """Feeds with one Rate stay within it together, however long a connection waits for its turn."""
    rate = Rate(1, 30)
    feeds = [ScriptedFeed(connect_limit=rate, open_timeout=1) for _ in range(4)]
    await asyncio.sleep(95)
    assert [feed.statistics().opened for feed in feeds] == [1, 1, 1, 1]
    for feed in feeds:
        assert feed.record.reasons == []
        await feed.exit()


@pytest.mark.usefixtures("virtual_time")
async def test_feeds_share_a_rate_of_messages():
    """Messages of all feeds with one Rate together stay within it; a slot that one gives back goes to another."""
    rate = Rate(2, 10)
    feeds = [ScriptedFeed(send_limit=rate, send_timeout=60) for _ in range(2)]
    for feed in feeds:
        await feed.record.happened(Connected)
    sending = [asyncio.create_task(feed.send(str(number))) for number in range(3) for feed in feeds]
    await asyncio.sleep(5)
    assert [len(feed.websocket.sent) for feed in feeds] == [1, 1]
    await asyncio.wait(sending)
    assert asyncio.get_running_loop().time() == pytest.approx(20, abs=0.5)
    for feed in feeds:
        await feed.exit()
