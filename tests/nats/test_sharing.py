"""Sharing: each worker reads its partitions of a stream, and all workers together read everything once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import rxws
from rxws.nats.sharing import Partitions, check_share

from .server import NatsServer
from .test_relay_and_feed import capturing, take, trade, until

TRANSFORM = {"subject_transform": {"src": "rx.*.*", "dest": "rx.{{partition(4,2)}}.{{wildcard(1)}}.{{wildcard(2)}}"}}


@pytest.mark.parametrize(
    ("share", "kind", "text"),
    [
        ((2, 2), ValueError, "0 <= k < n"),
        ((-1, 2), ValueError, "0 <= k < n"),
        ([0, 2], TypeError, "share must be a pair"),
        ((0, True), TypeError, "share must be a pair"),
        ((0, 1, 2), TypeError, "share must be a pair"),
    ],
)
def test_share_that_is_not_a_pair_is_refused(share: Any, kind: type[Exception], text: str) -> None:
    """A share is a pair of a worker and the number of workers."""
    with pytest.raises(kind, match=text):
        check_share(share)


def test_partitions_are_found_in_the_configuration() -> None:
    """The place and the number of partitions are those of the stream's transformation of subjects."""
    found = Partitions.of(TRANSFORM, (1, 2))
    assert found is not None
    assert (found.place, found.mine) == (1, [1, 3])
    assert found.expanded(["rx.trade.*"]) == ["rx.1.trade.*", "rx.3.trade.*"]
    assert found.stripped("rx.3.trade.BTC") == "rx.trade.BTC"
    assert found.stripped("rx.2.trade.BTC") is None
    assert found.stripped("rx") is None
    assert Partitions.of({}, None) is None
    assert Partitions.of({"subject_transform": {"src": "a.>", "dest": "b.>"}}, None) is None
    everyone = Partitions.of(TRANSFORM, None)
    assert everyone is not None
    assert everyone.expanded(["rx.trade.*"]) == ["rx.*.trade.*"]


@pytest.mark.parametrize("filters", [None, [{"e": "trade"}]])
async def test_workers_share_a_stream(nats_server: NatsServer, filters: Any) -> None:
    """Two workers read each message once between them, all of one key by the same worker and in order."""
    messages = [trade(number, f"S{number % 20}") for number in range(200)]
    async with capturing(nats_server, create=TRANSFORM) as capture:
        await capture.send(*messages)
        found: tuple[list[Any], list[Any]] = ([], [])
        async with (
            rxws.nats.NatsFeed(nats_server.url, start="all", share=(0, 2)) as one,
            rxws.nats.NatsFeed(nats_server.url, start="all", share=(1, 2)) as two,
        ):
            one.add_handler(found[0].append, filters)
            two.add_handler(found[1].append, filters)
            await until(lambda: sum(map(len, found)) >= 200)
            await asyncio.sleep(0.2)
        async with rxws.nats.NatsFeed(nats_server.url, start="all") as ws:
            assert await take(ws.stream_filter(filters), 200) == messages
    assert sorted(message["n"] for mine in found for message in mine) == list(range(200))
    assert all(found)
    symbols = [{message["s"] for message in mine} for mine in found]
    assert not symbols[0] & symbols[1]
    assert all([message["n"] for message in mine] == sorted(message["n"] for message in mine) for mine in found)


async def test_share_of_a_stream_without_partitions_is_refused(nats_server: NatsServer) -> None:
    """A stream without partitions cannot be shared: the feed fails and says what is missing."""
    async with capturing(nats_server):
        with pytest.raises(rxws.ConnectFailed, match="share needs partitions"):
            async with rxws.nats.NatsFeed(nats_server.url, share=(0, 2)) as ws, asyncio.timeout(15):
                await ws.wait_connected()
