"""The sizes of waiting messages: what counts, on each way that a message takes."""

from __future__ import annotations

import asyncio
import json

import pytest
from reactivex import operators as ops

import rxws
from rxws import operators as rxops
from tests.support.feeds import Feed, opened, take
from tests.support.wiring import in_thread

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


class Splitting(Feed):
    """A feed whose frames are arrays of messages."""

    async def _parse_raw_data(self, raw_data):
        return rxws.Many(json.loads(raw_data))


async def test_message_counts_the_size_of_its_frame(feed_server):
    """A message counts the bytes of its frame, in UTF-8, in each buffer in which it waits."""
    async with Feed(feed_server) as feed:
        everything, one = feed.stream_filter(), feed.stream_filter([{"a": 1}])
        started = asyncio.Event()

        async def handle(message):
            started.set()
            await asyncio.sleep(3600)

        feed.add_handler(handle, [{"ä": 2}])
        connection = await feed_server.connected()
        await connection.send('{"a":1}', '{"ä":2}', '{"ä":2}', b'{"b":3}')
        await started.wait()
        await asyncio.sleep(1)
        assert [everything.receiver.pending_bytes, one.receiver.pending_bytes] == [7 + 8 + 8 + 7, 7]
        # The handler has taken its first message.
        assert feed.statistics().pending_bytes == 30 + 7 + 8
        assert in_thread(lambda: feed.statistics().pending_bytes) == 45


async def test_messages_of_one_frame_share_its_size(feed_server):
    """Each item of a ``Many`` counts an equal part of the frame."""
    async with Splitting(feed_server) as feed:
        stream = feed.stream_filter()
        connection = await feed_server.connected()
        await connection.send("[100,200,300]", "[]", "[4]")
        await asyncio.sleep(1)
        assert stream.pending == 4
        assert stream.receiver.pending_bytes == 3 * (13 // 3) + 3


async def test_held_messages_count_their_own_frames(feed_server):
    """Messages that a rotation holds count the sizes of their frames when they are delivered."""
    async with Feed(feed_server) as feed:
        stream = feed.stream_filter()
        old = await feed_server.connected()
        await old.send('{"n":1}')
        await asyncio.sleep(1)
        rotating = asyncio.ensure_future(feed.rotate())
        new = await feed_server.connected(2)
        # The new connection runs ahead, so its messages are held.
        await new.send('{"n":22}', '{"n":333}', '{"n":4444}')
        await asyncio.sleep(0.1)
        await old.send('{"n":22}')
        assert await rotating
        await asyncio.sleep(10)
        assert stream.pending == 4
        assert stream.receiver.pending_bytes == 7 + 8 + 9 + 10


async def test_items_of_operators_count_the_frame_that_causes_them(feed_server):
    """An item of an operator counts the frame that is being delivered, and 0 if a timer has caused it."""
    async with Feed(feed_server) as feed:
        changed = feed.messages.pipe(ops.map(lambda message: [message] * 3), rxops.to_async_iterator(maxbytes=100))
        timed = feed.messages.pipe(ops.buffer_with_time(1.0), rxops.to_async_iterator(maxbytes=100))
        connection = await feed_server.connected()
        await connection.send('{"a":1}', '{"a":22}')
        await asyncio.sleep(1.5)
        assert (changed.pending, changed.receiver.pending_bytes) == (2, 15)
        assert timed.pending
        assert timed.receiver.pending_bytes == 0


async def test_size_is_not_left_over_between_bursts(feed_server):
    """After a burst, an item that arrives outside a delivery counts 0."""
    async with Feed(feed_server) as feed:
        connection = await opened(feed, feed_server)
        stream = feed.stream_filter(gaps=True)
        await connection.send('{"a":1}')
        await asyncio.sleep(1)
        await connection.close(1011)
        await feed_server.connected(2)
        await asyncio.sleep(1)
        assert stream.receiver.pending_bytes == 7
        first, gap = await take(stream, 2)
        assert (first["a"], type(gap)) == (1, rxws.Gap)
        assert stream.receiver.pending_bytes == 0
        assert feed.statistics().pending_bytes == 0


@pytest.mark.parametrize("kind", ["stream", "handler", "iterator"])
async def test_maxbytes_limits_each_kind_of_buffer(feed_server, kind):
    """``maxbytes`` limits streams, handlers and iterators over Observables, with the same policies as ``maxsize``."""
    seen = []

    async def handle(message):
        await asyncio.sleep(10)
        seen.append(message["n"])

    async with Feed(feed_server) as feed:
        options = {"maxsize": None, "maxbytes": 20, "overflow": "drop_oldest"}
        if kind == "stream":
            stream = feed.stream_filter(**options)
        elif kind == "iterator":
            stream = rxops.to_async_iterator(**options)(feed.messages)
        else:
            stream = None
            feed.add_handler(handle, **options)
        connection = await feed_server.connected()
        for n in range(6):
            await connection.send(json.dumps({"n": n}))
            await asyncio.sleep(1)
        await asyncio.sleep(60)
        if stream is None:
            assert seen == [0, 4, 5]
            assert feed.statistics().dropped == 3
        else:
            assert [message["n"] for message in await take(stream, 2)] == [4, 5]
            assert stream.dropped == 4


async def test_stream_ends_when_its_bytes_are_full(feed_server):
    """By default a stream that is full by size delivers what it holds, then raises StreamOverflow."""
    async with Feed(feed_server) as feed:
        stream = feed.stream_filter(maxbytes=20)
        connection = await feed_server.connected()
        await connection.send(*[json.dumps({"n": n}) for n in range(4)])
        assert await take(stream, 2) == [{"n": 0}, {"n": 1}]
        with pytest.raises(rxws.StreamOverflow, match="fell 20 bytes behind"):
            await anext(stream)
