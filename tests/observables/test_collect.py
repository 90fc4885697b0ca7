"""``collect`` and ``await``: a piece of a sequence as a list, its end as a value."""

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


async def test_collect_ends_at_count(feed_server):
    """With a count, collect returns that many, and the stream keeps the others."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        stream = ws.stream_filter()
        await ws.wait_connected()
        for n in range(5):
            broadcast(feed_server, n)
        assert await stream.collect(2, seconds=60.0) == [0, 1]
        assert await stream.collect(count=2) == [2, 3]
        assert await stream.collect(0) == []
        assert await stream.collect(1) == [4]


async def test_collect_ends_after_seconds(feed_server, virtual_time):
    """With seconds, collect returns what came until then, by the loop's clock."""
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


async def test_collect_of_no_seconds_takes_what_is_there(feed_server):
    """With seconds=0, collect takes all that waits, however much, and does not wait for more."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        stream = ws.stream_filter()
        await ws.wait_connected()
        for n in range(1000):
            broadcast(feed_server, n)
        await asyncio.sleep(1.0)
        assert await stream.collect(seconds=0) == list(range(1000))
        assert await stream.collect(seconds=0) == []


async def test_collect_of_no_seconds_when_a_pipe_gives_all_at_once():
    """With seconds=0, collect takes all that a source gives while it is being subscribed, however much."""
    assert await rxws.on_loop(rx.of(*range(1000))).collect(seconds=0) == list(range(1000))


async def test_collect_when_a_message_comes_at_the_end_of_the_seconds(virtual_time):
    """A message that comes when the seconds are over is not collected: the stream keeps it."""
    wiring = Wiring()
    stream = wiring.stream()
    at_one_second = functools.partial(wiring.context.scheduler.schedule_relative, 1.0)
    at_one_second(lambda *_: wiring.route("in time"))
    collecting = asyncio.ensure_future(stream.collect(seconds=1.0))
    await asyncio.sleep(0)
    at_one_second(lambda *_: wiring.route("late"))
    assert await collecting == ["in time"]
    assert await stream.collect(1) == ["late"]


async def test_collect_of_an_operator_with_an_iterator_of_its_own(virtual_time):
    """What ``conflate`` returns is collected by its own iterator: of each key the newest message."""
    wiring = Wiring()
    collecting = asyncio.ensure_future(wiring.router.messages.pipe(rxops.conflate("s")).collect(seconds=1.0))
    await asyncio.sleep(0)
    wiring.route({"s": 1, "n": 1}, {"s": 2, "n": 2}, {"s": 1, "n": 3})
    assert [conflated.message["n"] for conflated in await collecting] == [3, 2]
    del collecting
    await settle()
    assert not wiring.router.messages.observed


async def test_collect_ends_with_the_sequence(feed_server):
    """Without count and seconds, collect returns all until the end."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        stream = ws.stream_filter()
        await ws.wait_connected()
        broadcast(feed_server, 1)
        await asyncio.sleep(1.0)
        assert await ws.messages.take(0).collect() == []
        await stream.close()
        assert await stream.collect() == [1]


async def test_collect_of_a_pipe_leaves_no_subscription(feed_server, virtual_time):
    """What is piped is subscribed while collect runs, and not a moment longer."""
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


async def test_collect_when_cancelled_gives_back(feed_server):
    """A collect that is cancelled loses nothing: the stream has it all again, in order."""
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


async def test_what_is_given_back_comes_first(virtual_time):
    """What was taken and is given back is before what has come since."""
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


async def test_collect_raises_the_error_and_gives_back(feed_server):
    """When the sequence ends with an error, collect raises it, and a stream has what was collected again."""
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


async def test_collect_does_not_take_a_timeout_for_its_own(feed_server):
    """A TimeoutError of the sequence's own is an error like any other."""

    def fail(_):
        raise TimeoutError

    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        with pytest.raises(TimeoutError):
            await ws.messages.start_with(0).map(fail).collect(1, seconds=5.0)


@pytest.mark.parametrize("wrong", [{"count": -1}, {"seconds": -1.0}, {"seconds": float("nan")}])
async def test_collect_refuses_nonsense(feed_server, wrong):
    """Negative numbers are a ValueError, before anything is taken."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        with pytest.raises(ValueError, match="negative"):
            await ws.messages.collect(**wrong)


async def test_await_gives_the_last_item(feed_server, virtual_time):
    """``await`` on a sequence that ends gives its last item."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        await ws.wait_connected()
        for n in range(3):
            virtual_time.call_later(1.0 + n, broadcast, feed_server, n)
        assert await ws.messages.take(2) == 1


@pytest.mark.parametrize("given", [{"count": "5"}, {"count": 2.5}, {"count": float("nan")}, {"seconds": "1"}])
async def test_limit_of_the_wrong_kind_is_refused(feed_server, given):
    """A limit that is no number raises one error, which names it."""
    async with rxws.ReactiveWebSocket(feed_server.url) as feed:
        with pytest.raises(TypeError, match=f"^{next(iter(given))} must be "):
            await feed.messages.collect(**given)
