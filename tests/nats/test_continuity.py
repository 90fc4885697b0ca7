"""Several lines, shards, a history and the audit together with NATS: each message once, over any loss."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import rxws
from rxws.recording import read
from rxws.recording.audit import Auditor
from rxws.testing import FeedConnection, FeedServer

from .server import NatsServer
from .test_relay_and_feed import TIMEOUT, capturing, take, trade, until


async def test_line_that_is_lost_leaves_no_gap(nats_server: NatsServer) -> None:
    """A relay of a feed with two lines publishes each message once, and a killed line is no Gap for its readers."""
    options = {"lines": 2, "handover_settle": 0.1, "reconnect_delays": lambda: [0.0] * 9}
    async with capturing(nats_server, feed=options) as capture, rxws.nats.NatsFeed(nats_server.url, start="all") as ws:
        await capture.server.connected(2)
        stream, sent = ws.stream_filter(gaps=True), 0
        for opened in (3, 4, 5):
            joined = False
            while not joined:
                await capture.send(trade(sent))
                sent += 1
                await asyncio.sleep(0.02)
                joined = all(line.is_joined for line in capture.ws.statistics().lines)
            capture.server.connections[0].reset()
            await capture.send(*map(trade, range(sent, sent + 20)))
            sent += 20
            await capture.server.connected(opened)
        assert await take(stream, sent) == [trade(number) for number in range(sent)]
        assert (ws.statistics().gaps, capture.ws.statistics().gaps) == (0, 0)


async def test_shards_are_one_stream(nats_server: NatsServer) -> None:
    """A relay publishes the messages of all shards; the loss of one is a Gap, and all messages arrive once."""
    subscribed: dict[str, FeedConnection] = {}

    async def script(connection: FeedConnection) -> None:
        async for frame in connection:
            subscribed[json.loads(frame)["subscribe"]] = connection

    async with (
        FeedServer(script) as server,
        rxws.ReactiveWebSocket(server.url, name="shards", channels_per_connection=1) as upstream,
        rxws.nats.relay(upstream, nats_server.url) as relay,
        rxws.nats.NatsFeed(nats_server.url, start="all") as ws,
    ):
        stream = ws.stream_filter(gaps=True)
        kept = [
            upstream.multiplex({"subscribe": symbol}, {"unsubscribe": symbol}, filters=[{"s": symbol}])
            for symbol in ("BTC", "ETH")
        ]
        await until(lambda: relay.is_connected and len(subscribed) == 2)
        lost = subscribed["BTC"]
        assert lost is not subscribed["ETH"]
        for symbol, connection in subscribed.items():
            await connection.send(trade(1, symbol))
        await until(lambda: relay.published == 2)
        lost.reset()
        await until(lambda: subscribed["BTC"] is not lost)
        for symbol, connection in subscribed.items():
            await connection.send(trade(2, symbol))
        found = await take(stream, 5)
        assert all(each.matched == 2 for each in kept)
    gaps = [item for item in found if isinstance(item, rxws.Gap)]
    messages = sorted((item["s"], item["n"]) for item in found if not isinstance(item, rxws.Gap))
    assert messages == [("BTC", 1), ("BTC", 2), ("ETH", 1), ("ETH", 2)]
    assert [gap.reason for gap in gaps] == ["source"]


async def test_history_fills_what_the_captured_feed_has_missed(nats_server: NatsServer, tmp_path: Path) -> None:
    """A reader asks a history for the messages that a Gap has lost; the audit of its recording shows that Gap."""
    asked: list[tuple[int | None, int | None]] = []

    async def history(after: int | None, before: int | None) -> list[Any]:
        asked.append((after, before))
        return [] if after is None else [trade(number) for number in range(after + 1, before or 0)]

    path = tmp_path / "far.jsonl"
    async with (
        capturing(nats_server) as capture,
        rxws.nats.NatsFeed(nats_server.url, start="all") as ws,
        rxws.record(ws, path),
    ):
        got: list[Any] = []
        backfilled = ws.stream_filter([{"e": "trade"}]).backfill(history, sequence="n")
        backfilled.subscribe(got.append)
        await capture.send(*map(trade, range(1, 6)))
        await until(lambda: len(got) == 5)
        capture.server.connections[0].reset()
        await capture.server.connected(2)
        await until(lambda: capture.ws.statistics().gaps == 1)
        await capture.send(*map(trade, range(16, 21)))
        await until(lambda: len(got) == 20)
        assert backfilled.in_sync
    assert got == [trade(number) for number in range(1, 21)]
    assert asked == [(None, 1), (5, 16)]
    auditor = Auditor(read(path), "n")
    for _ in auditor:
        pass
    found = auditor.result(())
    assert (found.messages, found.doubles, found.missing, found.cut_short) == (10, 0, 0, 0)
    assert [(gap.reason, gap.missing) for gap in found.gaps] == [("source", 10)]


async def test_latency_includes_the_way_over_the_broker(nats_server: NatsServer) -> None:
    """A ``NatsFeed`` with ``sent_at`` measures from the sending of a message to its arrival in this process."""
    async with (
        capturing(nats_server) as capture,
        rxws.nats.NatsFeed(nats_server.url, start="all", sent_at="n", unit="s", max_latency=5.0) as ws,
    ):
        ws.add_handler(lambda message: None)
        late = asyncio.get_running_loop().create_future()
        ws.events.subscribe(lambda event: late.set_result(event) if isinstance(event, rxws.LatencyExceeded) else None)
        await capture.send({"n": time.time()})
        await until(lambda: ws.statistics().latency is not None)
        latency = ws.statistics().latency
        assert latency is not None
        assert 0 < latency.newest < TIMEOUT
        await asyncio.sleep(0.02)
        await capture.send({"n": time.time() - 20.0})
        assert (await asyncio.wait_for(late, TIMEOUT)).latency > 5.0
