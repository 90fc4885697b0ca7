"""A timer for each connection detects silence."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxws.connections.watchdog import QUIET_AFTER, Watchdog
from rxws.pytest_plugin import virtual_loop

in_virtual_time = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


@pytest.fixture
async def connection():
    """A connection that was opened now and has received nothing."""
    return SimpleNamespace(opened_at=asyncio.get_running_loop().time(), last_received_at=None)


def watch(connection, limit, *, loop=None):
    """Return a watchdog and the list of its calls: when, and with how many seconds."""
    loop = loop or asyncio.get_running_loop()
    calls = []
    start = connection.opened_at

    def silent(seconds):
        calls.append((round(loop.time() - start, 3), seconds))

    return Watchdog(loop, connection, limit, silent), calls


@in_virtual_time
async def test_silence_without_a_limit_is_reported_at_a_minute_and_then_doubling(connection):
    """Without a limit, silence is reported at 60 s, 120 s, 240 s and so on."""
    watchdog, calls = watch(connection, None)
    await asyncio.sleep(16 * QUIET_AFTER + 1)
    watchdog.stop()
    assert calls == [(60, 60), (120, 120), (240, 240), (480, 480), (960, 960)]


@in_virtual_time
async def test_silence_is_counted_from_the_last_message(connection):
    """A message restarts the limit, without a new timer for each message."""
    watchdog, calls = watch(connection, 10.0)
    for _ in range(5):
        await asyncio.sleep(9)
        connection.last_received_at = asyncio.get_running_loop().time()
    assert calls == []
    await asyncio.sleep(9.9)
    assert calls == []
    await asyncio.sleep(0.2)
    watchdog.stop()
    assert calls == [(55, 10)]


@in_virtual_time
async def test_silence_starts_over_after_a_message(connection):
    """After a message the doubled limit is the first one again."""
    watchdog, calls = watch(connection, None)
    await asyncio.sleep(130)
    connection.last_received_at = asyncio.get_running_loop().time()
    await asyncio.sleep(61)
    watchdog.stop()
    assert calls == [(60, 60), (120, 120), (190, 60)]


@in_virtual_time
async def test_stop_cancels_the_timer(connection):
    """After ``stop`` no silence is reported, and no timer is left."""
    watchdog, calls = watch(connection, 1.0)
    watchdog.stop()
    await asyncio.sleep(10)
    assert calls == []


@given(opened_at=st.integers(1, 10**13).map(lambda ticks: ticks / 1e6), limit=st.floats(0.01, 1e5))
def test_silence_is_reported_once_for_each_limit_when_times_are_rounded(opened_at, limit):
    """For any numbers the timer fires once at the limit: rounding makes it neither late nor repeat."""
    loop = virtual_loop()

    async def main():
        loop._selector.clock.advance(opened_at)
        watchdog, calls = watch(SimpleNamespace(opened_at=loop.time(), last_received_at=None), limit)
        await asyncio.sleep(1.5 * limit)
        watchdog.stop()
        assert calls == [(pytest.approx(limit, abs=0.002), limit)]

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
