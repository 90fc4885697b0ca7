"""The function that blocks the event loop is found, and a stopped process causes no report."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import rxws
from rxws import LoopBlocked
from rxws.reporting.loop_watch import BLOCKED, INTERVAL

pytestmark = pytest.mark.slow

SECONDS = 1.2


pause = time.sleep


def sleep(message):
    time.sleep(SECONDS)


async def sleep_in_a_coroutine(message):
    await _sleep_deep()


async def _sleep_deep():
    sleep(None)


def count(message):
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        pass


def keep_the_lock(message):
    # Each call of pow() runs C code that keeps the GIL.
    start = time.process_time()
    number = 10**6
    while time.process_time() - start < SECONDS:
        pow(7, number)
        number *= 2


def watches():
    """Return the threads that watch a loop. They may include ending threads of earlier tests."""
    return {each for each in threading.enumerate() if each.name == "rxws loop watch"}


async def blocked(server, consume):
    """Return the LoopBlocked events of a feed whose consumer gets one message."""
    events = []
    async with rxws.ReactiveWebSocket(server.url) as feed:
        feed.events.subscribe(lambda event: events.append(event) if isinstance(event, LoopBlocked) else None)
        await feed.wait_connected()
        await asyncio.sleep(2 * INTERVAL)
        kept = consume(feed)
        await server.send(1.2)
        await asyncio.sleep(0.3)
        await asyncio.sleep(2 * INTERVAL)
        del kept
    return events


async def test_handler_is_named_when_it_holds_the_gil(feed_server):
    """A handler in C code that holds the GIL is named, although the watching thread runs only between its calls."""
    events = await blocked(feed_server, lambda feed: feed.add_handler(keep_the_lock))
    assert any("keep_the_lock" in handler for event in events for handler in event.handlers)


@pytest.mark.parametrize(
    "handler", [sleep, count, time.sleep, functools.partial(sleep)], ids=["sleep", "count", "C", "partial"]
)
async def test_handler_is_named_when_it_blocks_the_loop(feed_server, handler, caplog):
    """A plain handler that blocks the loop in any way is named in one event and one warning."""
    events = await blocked(feed_server, lambda feed: feed.add_handler(handler))
    (event,) = events
    assert event.handlers == (getattr(handler, "func", handler).__qualname__,)
    assert BLOCKED <= event.seconds <= 5 * SECONDS
    (record,) = [each for each in caplog.records if "blocked" in each.getMessage()]
    assert record.levelno == logging.WARNING
    assert str(event) in record.getMessage()


@pytest.mark.parametrize(
    ("consume", "name"),
    [
        (lambda feed: feed.add_handler(sleep_in_a_coroutine), "sleep_in_a_coroutine"),
        (lambda feed: feed.messages.subscribe(sleep), "sleep"),
        (lambda feed: feed.stream_filter(sleep), "sleep"),
        (lambda feed: asyncio.get_running_loop().call_soon(sleep, None), "sleep"),
    ],
    ids=["coroutine handler", "subscriber", "filter", "other callback"],
)
async def test_other_function_is_named_when_it_blocks_the_loop(feed_server, consume, name):
    """Coroutine handlers, subscribers, filters and other callbacks of the program are named."""
    (event,) = await blocked(feed_server, consume)
    assert event.handlers == (name,)


async def test_loop_is_not_blocked_when_functions_are_short(feed_server):
    """A loop that is busy with short functions is not reported."""

    async def busy():
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            pause(0.02)
            await asyncio.sleep(0)

    assert await blocked(feed_server, lambda feed: asyncio.ensure_future(busy())) == []


async def test_feeds_of_a_loop_share_one_thread(feed_server):
    """Each feed of the loop reports, and the thread ends with the last feed."""
    before = watches()
    feeds = [rxws.ReactiveWebSocket(feed_server.url) for _ in range(3)]
    events = []
    for feed in feeds:
        feed.events.subscribe(lambda event: events.append(event) if isinstance(event, LoopBlocked) else None)
        await feed.wait_connected()
    assert len(watches() - before) == 1
    await feeds[0].exit()
    await asyncio.sleep(2 * INTERVAL)
    events.clear()
    sleep(None)
    await asyncio.sleep(2 * INTERVAL)
    assert len(events) == 2
    for feed in feeds:
        await feed.exit()
    async with asyncio.timeout(5):
        while watches() - before:
            await asyncio.sleep(INTERVAL)


async def test_no_thread_when_time_is_virtual(virtual_time, feed_server):
    """A loop with virtual time is not watched, because its clock does not advance while a function runs."""
    before = watches()
    async with rxws.ReactiveWebSocket(feed_server.url) as feed:
        await feed.wait_connected()
        assert watches() <= before


PROGRAM = """
import asyncio, rxws
async def main():
    async with rxws.testing.FeedServer() as server, rxws.ReactiveWebSocket(server.url) as feed:
        feed.events.subscribe(lambda event: print(type(event).__name__, flush=True))
        for _ in range(100):
            await server.send("x")
            await asyncio.sleep(0.03)
asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system does not stop processes")
def test_loop_is_not_blocked_when_the_process_was_stopped():
    """A process that was stopped and continued reports nothing."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    with process:
        lines = [process.stdout.readline()]
        for _ in range(3):
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(2 * BLOCKED)
            os.kill(process.pid, signal.SIGCONT)
            time.sleep(0.3)
        lines += process.stdout.read().split()
    assert "Connected" in lines[0]
    assert "LoopBlocked" not in lines


def test_thread_ends_when_the_loop_is_closed_before_its_feed():
    """If a feed is never closed, its thread ends with the loop."""

    async def main():
        feed = rxws.ReactiveWebSocket("ws://localhost:9")
        await asyncio.sleep(INTERVAL)
        return feed

    before = watches()
    feed = asyncio.run(main())
    deadline = time.monotonic() + 5
    while watches() - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert watches() <= before
    assert feed.state.value.is_final
