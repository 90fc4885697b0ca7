"""The demo exchange speaks as some venues do: compressed streams."""

from __future__ import annotations

import asyncio
import itertools
import json
import zlib

import pytest
import websockets

import rxws
from rxws import demo
from tests.support.feeds import record

pytestmark = pytest.mark.usefixtures("virtual_time")


def connect(url):
    """Connect without compression, proxy and pings."""
    return websockets.connect(url, compression=None, proxy=None, ping_interval=None)


def numbers(messages, symbol):
    """Return the numbers of a symbol's trades."""
    return [each["n"] for each in messages if each.get("e") == "trade" and each["s"] == symbol]


def decompressing():
    """Return the decoder of one connection's zlib stream."""
    stream = zlib.decompressobj()
    return lambda frame: json.loads(stream.decompress(frame))


# Compressed streams


async def test_frames_are_pieces_of_one_stream_when_the_url_asks_for_compression():
    """With ``?compress=zlib`` each connection has one zlib stream, and requests are answered in it."""
    async with demo.serve(rate=0) as exchange, connect(f"{exchange.stream_url}?compress=zlib") as client:
        decode = decompressing()
        await client.send(json.dumps({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1}))
        assert decode(await client.recv()) == {"result": None, "id": 1}
        await exchange.publish(100)
        assert [decode(await client.recv())["n"] for _ in range(2)] == [1, 2]


async def test_compressed_feed_loses_nothing_when_it_rotates_and_is_cut():
    """With ``decoder_factory`` and ``identity`` a zlib stream survives rotations without losses, and cuts."""
    async with (
        demo.serve(rate=200, lag=0.05, symbols=["BTCUSDT"]) as exchange,
        rxws.ReactiveWebSocket(
            f"{exchange}?compress=zlib",
            connect_options={"compression": None, "proxy": None, "ping_interval": None},
            decoder_factory=decompressing,
            identity=lambda message: (message["e"], message["n"]),
        ) as feed,
    ):
        messages, gaps = record(feed.messages), record(feed.events.filter(lambda event: type(event) is rxws.Gap))
        await feed.wait_connected()
        for _ in range(3):
            await asyncio.sleep(1)
            assert await feed.rotate()
        assert gaps == []
        received = numbers(messages, "BTCUSDT")
        assert received == list(range(received[0], received[0] + len(received)))
        await exchange.cut()
        await asyncio.sleep(2)
        received = numbers(messages, "BTCUSDT")
        assert len(gaps) == 1
        assert len([(a, b) for a, b in itertools.pairwise(received) if b != a + 1]) <= 1
        assert feed.statistics().rejected == 0
