"""A timer per connection notices silence."""

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
    """A connection that was opened now, and on which nothing has come."""
    return SimpleNamespace(opened_at=asyncio.get_running_loop().time(), last_received_at=None)


def watch(connection, limit, *, loop=None):
    """Return a watchdog and the list of what it said: when, and for how long it was silent."""
    loop = loop or asyncio.get_running_loop()
    said = []
    start = connection.opened_at

    def silent(seconds):
        said.append((round(loop.time() - start, 3), seconds))

    return Watchdog(loop, connection, limit, silent), said


@in_virtual_time
async def test_silence_without_a_limit_is_told_at_a_minute_and_then_doubling(connection):
    """With no limit of its own a silence is told at 60 s, 120 s, 240 s and so on."""
    watchdog, said = watch(connection, None)
    await asyncio.sleep(16 * QUIET_AFTER + 1)
    watchdog.stop()
    assert said == [(60, 60), (120, 120), (240, 240), (480, 480), (960, 960)]


@in_virtual_time
async def test_silence_is_counted_from_the_last_message(connection):
    """A message in time puts the limit off, and one timer looks back instead of one being set by every message."""
    watchdog, said = watch(connection, 10.0)
    for _ in range(5):
        await asyncio.sleep(9)
        connection.last_received_at = asyncio.get_running_loop().time()
    assert said == []
    await asyncio.sleep(9.9)
    assert said == []
    await asyncio.sleep(0.2)
    watchdog.stop()
    assert said == [(55, 10)]


@in_virtual_time
async def test_silence_begins_anew_after_a_message(connection):
    """The limit that had doubled is the first one again after a message."""
    watchdog, said = watch(connection, None)
    await asyncio.sleep(130)
    connection.last_received_at = asyncio.get_running_loop().time()
    await asyncio.sleep(61)
    watchdog.stop()
    assert said == [(60, 60), (120, 120), (190, 60)]


@in_virtual_time
async def test_stop_ends_the_watch(connection):
    """After ``stop`` nothing is told, and no timer is left."""
    watchdog, said = watch(connection, 1.0)
    watchdog.stop()
    await asyncio.sleep(10)
    assert said == []


@given(opened_at=st.integers(1, 10**13).map(lambda ticks: ticks / 1e6), limit=st.floats(0.01, 1e5))
def test_silence_is_told_once_per_limit_however_times_round(opened_at, limit):
    """Whatever the numbers, the timer fires at the limit once: rounding makes it neither late nor fire for ever."""
    loop = virtual_loop()

    async def main():
        loop._selector.clock.advance(opened_at)
        watchdog, said = watch(SimpleNamespace(opened_at=loop.time(), last_received_at=None), limit)
        await asyncio.sleep(1.5 * limit)
        watchdog.stop()
        assert said == [(pytest.approx(limit, abs=0.002), limit)]

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())
