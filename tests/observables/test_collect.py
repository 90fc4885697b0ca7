"""``collect`` and ``await``: the items of a sequence as a list, and its last item."""

from __future__ import annotations

import asyncio
import functools

import pytest
import reactivex as rx

import rxws
from rxws import operators as rxops
from rxws.observables.buffer import Buffer
from rxws.reporting.reporter import Reporter

from ..support.wiring import Wiring, settle

pytestmark = pytest.mark.usefixtures("virtual_time")


def broadcast(server, message):
    """Send a message on every connection."""
    for connection in server.connections:
        connection.send_nowait(message)


async def test_collect_when_given_a_count(feed_server):
    """With a count, collect returns that many items, and the stream keeps the others."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        stream = ws.stream_filter()
        await ws.wait_connected()
        for n in range(5):
            broadcast(feed_server, n)
        assert await stream.collect(2, seconds=60.0) == [0, 1]
        assert await stream.collect(count=2) == [2, 3]
        assert await stream.collect(0) == []
        assert await stream.collect(1) == [4]


async def test_collect_when_given_seconds(feed_server, virtual_time):
    """With seconds, collect returns the items that arrive within this time of the loop's clock."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        stream = ws.stream_filter()
        await ws.wait_connected()
        broadcast(feed_server, 1)
        virtual_time.call_later(5.0, broadcast, feed_server, 2)
        virtual_time.call_later(15.0, broadcast, feed_server, 3)
        started = virtual_time.time()
        assert await stream.collect(count=10, seconds=10.0) == [1, 2]
        assert virtual_time.time() - started == pytest.approx(10.0)
        assert await stream.collect(count=1, seconds=10.0) == [3]
        assert virtual_time.time() - started == pytest.approx(15.0, abs=0.1)


async def test_collect_when_seconds_are_zero(feed_server):
    """With seconds=0, collect returns all waiting items, however many, and does not wait."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        stream = ws.stream_filter()
        await ws.wait_connected()
        for n in range(1000):
            broadcast(feed_server, n)
        await asyncio.sleep(1.0)
        assert await stream.collect(seconds=0) == list(range(1000))
        assert await stream.collect(seconds=0) == []


async def test_collect_when_seconds_are_zero_and_subscribing_delivers_items():
    """With seconds=0, collect returns all items that the source emits during subscribe."""
    assert await rxws.on_loop(rx.of(*range(1000))).collect(seconds=0) == list(range(1000))


async def test_collect_when_a_message_arrives_at_the_end_of_the_seconds(virtual_time):
    """The stream keeps a message that arrives when the seconds are over."""
    wiring = Wiring()
    stream = wiring.stream()
    at_one_second = functools.partial(wiring.context.scheduler.schedule_relative, 1.0)
    at_one_second(lambda *_: wiring.route("in time"))
    collecting = asyncio.ensure_future(stream.collect(seconds=1.0))
    await asyncio.sleep(0)
    at_one_second(lambda *_: wiring.route("late"))
    assert await collecting == ["in time"]
    assert await stream.collect(1) == ["late"]


async def test_collect_when_messages_are_conflated(virtual_time):
    """After ``conflate``, collect returns the newest message of each key."""
    wiring = Wiring()
    collecting = asyncio.ensure_future(wiring.router.messages.pipe(rxops.conflate("s")).collect(seconds=1.0))
    await asyncio.sleep(0)
    wiring.route({"s": 1, "n": 1}, {"s": 2, "n": 2}, {"s": 1, "n": 3})
    assert [conflated.message["n"] for conflated in await collecting] == [3, 2]
    del collecting
    await settle()
    assert not wiring.router.messages.observed


async def test_collect_when_without_limits(feed_server):
    """Without count and seconds, collect returns all items until the end."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        stream = ws.stream_filter()
        await ws.wait_connected()
        broadcast(feed_server, 1)
        await asyncio.sleep(1.0)
        assert await ws.messages.take(0).collect() == []
        await stream.close()
        assert await stream.collect() == [1]


async def test_collect_when_the_source_is_a_pipe(feed_server, virtual_time):
    """collect subscribes to a pipe only while it runs."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        await ws.wait_connected()
        for n in range(3):
            virtual_time.call_later(1.0 + n, broadcast, feed_server, n)
        assert await ws.messages.map(lambda n: n * 10).collect(2) == [0, 10]
        assert not ws.messages.observed
        collecting = asyncio.ensure_future(ws.messages.collect())
        await asyncio.sleep(0)
        assert ws.messages.observed
        collecting.cancel()
        await asyncio.wait([collecting])
        assert collecting.cancelled()
        assert not ws.messages.observed


async def test_collect_when_cancelled(feed_server):
    """A cancelled collect loses no message: the stream has all of them again, in order."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        stream = ws.stream_filter()
        await ws.wait_connected()
        broadcast(feed_server, 1)
        collecting = asyncio.ensure_future(stream.collect(10))
        await asyncio.sleep(1.0)
        broadcast(feed_server, 2)
        await asyncio.sleep(1.0)
        assert stream.pending == 0
        collecting.cancel()
        await asyncio.wait([collecting])
        assert collecting.cancelled()
        broadcast(feed_server, 3)
        await asyncio.sleep(1.0)
        assert await stream.collect(3, seconds=60.0) == [1, 2, 3]


async def test_put_back_when_items_wait(virtual_time):
    """Items that are put back precede items that arrived meanwhile."""
    buffer = Buffer(virtual_time, Reporter(virtual_time, "test"))
    for n in range(4):
        buffer.put(n)
    taken = buffer.take(2)
    assert taken == [0, 1]
    assert buffer.latest(1) == [3]
    buffer.put_back(taken)
    buffer.put_back([])
    assert buffer.take() == [0, 1, 2, 3]
    assert buffer.latest(1) == []


async def test_collect_when_the_sequence_fails(feed_server):
    """collect raises the error of the sequence, and a stream gets the collected messages back."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        stream = ws.stream_filter(maxsize=2)
        await ws.wait_connected()
        for n in range(3):
            broadcast(feed_server, n)
        await asyncio.sleep(1.0)
        with pytest.raises(rxws.StreamOverflow):
            await stream.collect()
        assert await stream.collect(2, seconds=60.0) == [0, 1]
        with pytest.raises(ZeroDivisionError):
            await rxws.on_loop(ws.messages.start_with(0)).map(lambda n: 1 / n).collect(1)


async def test_collect_when_the_sequence_raises_timeout_error(feed_server):
    """collect raises a TimeoutError of the sequence like any other error."""

    def fail(_):
        raise TimeoutError

    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        with pytest.raises(TimeoutError):
            await ws.messages.start_with(0).map(fail).collect(1, seconds=5.0)


@pytest.mark.parametrize("wrong", [{"count": -1}, {"seconds": -1.0}, {"seconds": float("nan")}])
async def test_collect_when_a_limit_is_negative(feed_server, wrong):
    """A negative limit raises ValueError before any item is taken."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        with pytest.raises(ValueError, match="negative"):
            await ws.messages.collect(**wrong)


async def test_await_when_the_sequence_ends(feed_server, virtual_time):
    """``await`` returns the last item of a sequence when it ends."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        await ws.wait_connected()
        for n in range(3):
            virtual_time.call_later(1.0 + n, broadcast, feed_server, n)
        assert await ws.messages.take(2) == 1


@pytest.mark.parametrize("given", [{"count": "5"}, {"count": 2.5}, {"count": float("nan")}, {"seconds": "1"}])
async def test_collect_when_a_limit_has_the_wrong_type(feed_server, given):
    """A limit that is not a number raises a TypeError that names the limit."""
    async with rxws.ReactiveWebSocket(feed_server.url) as feed:
        with pytest.raises(TypeError, match=f"^{next(iter(given))} must be "):
            await feed.messages.collect(**given)
