"""A timer for each connection detects silence."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
import websockets
from hypothesis import given
from hypothesis import strategies as st

import rxws
from rxws.connections.watchdog import QUIET_AFTER, watch
from rxws.pytest_plugin import virtual_loop

in_virtual_time = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


@pytest.fixture
async def connection():
    """A connection that has just been opened and has received nothing."""
    return SimpleNamespace(opened_at=asyncio.get_running_loop().time(), last_received_at=None)


def watched(connection, limit):
    """Return a task that watches, and the list of its calls: the time and the seconds of silence."""
    loop = asyncio.get_running_loop()
    calls = []
    start = connection.opened_at

    def silent(seconds):
        calls.append((round(loop.time() - start, 3), seconds))

    return loop.create_task(watch(connection, limit, silent)), calls


@in_virtual_time
async def test_silence_without_a_limit_is_reported_at_a_minute_and_then_doubling(connection):
    """Without a limit, silence is reported at 60 s, 120 s, 240 s and so on."""
    watchdog, calls = watched(connection, None)
    await asyncio.sleep(16 * QUIET_AFTER + 1)
    watchdog.cancel()
    assert calls == [(60, 60), (120, 120), (240, 240), (480, 480), (960, 960)]


@in_virtual_time
async def test_silence_is_counted_from_the_last_message(connection):
    """Silence counts from the last message, and a message starts no new timer."""
    watchdog, calls = watched(connection, 10.0)
    for _ in range(5):
        await asyncio.sleep(9)
        connection.last_received_at = asyncio.get_running_loop().time()
    assert calls == []
    await asyncio.sleep(9.9)
    assert calls == []
    await asyncio.sleep(0.2)
    watchdog.cancel()
    assert calls == [(55, 10)]


@in_virtual_time
async def test_silence_starts_over_after_a_message(connection):
    """A message resets the limit, which had doubled, to the first limit."""
    watchdog, calls = watched(connection, None)
    await asyncio.sleep(130)
    connection.last_received_at = asyncio.get_running_loop().time()
    await asyncio.sleep(61)
    watchdog.cancel()
    assert calls == [(60, 60), (120, 120), (190, 60)]


def stand_still(seconds):
    """Block the loop, as a synchronous function or a stopped process does."""
    asyncio.get_running_loop()._selector.clock.advance(seconds)


@in_virtual_time
@pytest.mark.parametrize("turns", range(1, 8))
async def test_messages_that_arrived_while_the_loop_was_blocked_end_the_silence(connection, turns):
    """After a blocked loop, messages that wait in the socket end the silence, however many loop iterations it takes."""
    watchdog, calls = watched(connection, 1.0)
    await asyncio.sleep(0.5)
    stand_still(10.0)
    for _ in range(turns):
        await asyncio.sleep(0)
    connection.last_received_at = asyncio.get_running_loop().time()
    await asyncio.sleep(0.9)
    assert calls == []
    await asyncio.sleep(0.2)
    watchdog.cancel()
    assert calls == [(11.5, 1)]


@in_virtual_time
async def test_a_peer_that_had_to_wait_may_continue(connection):
    """After a blocked loop the server has one second, or the limit if that is shorter, to send something."""
    for limit, grace in ((0.3, 0.3), (5.0, 1.0)):
        connection.opened_at = asyncio.get_running_loop().time()
        watchdog, calls = watched(connection, limit)
        await asyncio.sleep(0)
        stand_still(10.0)
        await asyncio.sleep(grace - 0.01)
        connection.last_received_at = asyncio.get_running_loop().time()
        await asyncio.sleep(0.05)
        assert calls == []
        watchdog.cancel()


@in_virtual_time
async def test_silence_is_found_by_a_loop_that_is_always_late(connection):
    """If the loop is blocked again during the second check, silence is still reported."""
    watchdog, calls = watched(connection, 1.0)
    await asyncio.sleep(0)
    for _ in range(4):
        stand_still(1.5)
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    watchdog.cancel()
    assert [seconds for _, seconds in calls] == [1]


@in_virtual_time
@pytest.mark.parametrize("turns", range(7))
async def test_cancelling_prevents_the_next_check(connection, turns):
    """Cancelling also stops the check that follows the wake-up."""
    watchdog, calls = watched(connection, 1.0)
    await asyncio.sleep(1.0)
    for _ in range(turns):
        await asyncio.sleep(0)
    watchdog.cancel()
    await asyncio.sleep(10)
    assert calls == []


@in_virtual_time
@pytest.mark.parametrize("transport", ["pushed", "recv"])
async def test_a_feed_is_kept_when_the_loop_was_blocked(feed_server, transport):
    """After a blocked loop the messages that wait in the socket are delivered, and the connection stays open."""
    kind = websockets.ClientConnection if transport == "pushed" else type("Other", (websockets.ClientConnection,), {})
    options = {"idle_timeout": 1.0, "connect_options": {"create_connection": kind, "ping_interval": None}}
    async with rxws.ReactiveWebSocket(feed_server.url, **options) as feed:
        messages = feed.stream_filter()
        await feed_server.connected()
        for _ in range(3):
            await feed_server.send(*range(1000))
            stand_still(10.0)
            assert await messages.collect(1000) == list(range(1000))
        assert feed.statistics().opened == 1


@in_virtual_time
async def test_cancelling_leaves_no_timer(connection):
    """After a cancellation no silence is reported, and no timer is left."""
    watchdog, calls = watched(connection, 1.0)
    await asyncio.sleep(0.1)
    watchdog.cancel()
    await asyncio.sleep(10)
    assert calls == []


@given(opened_at=st.integers(1, 10**13).map(lambda ticks: ticks / 1e6), limit=st.floats(0.01, 1e5))
def test_silence_is_reported_once_for_each_limit_when_times_are_rounded(opened_at, limit):
    """For any times, rounding errors make the timer fire neither late nor twice."""
    loop = virtual_loop()

    async def main():
        loop._selector.clock.advance(opened_at)
        watchdog, calls = watched(SimpleNamespace(opened_at=loop.time(), last_received_at=None), limit)
        await asyncio.sleep(1.5 * limit)
        watchdog.cancel()
        assert calls == [(pytest.approx(limit, abs=0.002), limit)]

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
