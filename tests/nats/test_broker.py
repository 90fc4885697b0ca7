"""One connection to a server: what it says first, and how it ends."""

from __future__ import annotations

import asyncio
import itertools
import json

import pytest

from rxws.nats.broker import Broker, BrokerError, broker_delays

INFO = (
    b"INFO %b\r\n" % json.dumps({"server_id": "x", "version": "2.15.1", "max_payload": 2**20, "headers": True}).encode()
)


async def test_news_of_the_cluster_before_the_first_pong_is_an_error() -> None:
    """The library ignores a second INFO before the first PONG, and then sends nothing: the connection is refused."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(INFO)
        await reader.readuntil(b"PING\r\n")
        writer.write(INFO + b"PONG\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BrokerError, match="a different message before the first PONG"):
            await Broker.connect([f"nats://127.0.0.1:{port}"], {}, "test")


def test_delays_are_short() -> None:
    """The first retry follows at once. Then the longest delay doubles from 0.1 s to 2 s, and each delay is random."""
    many = [list(itertools.islice(broker_delays(), 9)) for _ in range(200)]
    for number, ceiling in enumerate([0, 0.1, 0.2, 0.4, 0.8, 1.6, 2, 2, 2]):
        drawn = [delays[number] for delays in many]
        assert ceiling * 0.9 <= max(drawn) <= ceiling
        assert min(drawn) <= ceiling * 0.1
