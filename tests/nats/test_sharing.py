"""Sharing: each worker reads its partitions of a stream, and all workers together read everything once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
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


async def test_worker_without_a_partition_is_refused(nats_server: NatsServer) -> None:
    """A worker that no partition is left for would read nothing: the feed fails and says how many there are."""
    async with capturing(nats_server, create=TRANSFORM):
        async with rxws.nats.NatsFeed(nats_server.url, share=(3, 5)) as ws, asyncio.timeout(15):
            await ws.wait_connected()
        with pytest.raises(rxws.ConnectFailed, match=r"share=\(4, 5\) has no partition: stream 'rxws' has 4"):
            async with rxws.nats.NatsFeed(nats_server.url, share=(4, 5)) as ws, asyncio.timeout(15):
                await ws.wait_connected()


class Table:
    """What workers have processed: a table whose key is the position in the stream, as a database would have it.

    Attributes:
        rows: the messages by position, in the order in which they were processed.
        last: the last position that each of the present workers has processed.
    """

    def __init__(self) -> None:
        self.rows: dict[int, Any] = {}
        self.last: dict[int, int] = {}

    async def work(self, url: str, start: Any, share: tuple[int, int]) -> None:
        """Process the messages of a share, until this is cancelled."""
        async with rxws.nats.NatsFeed[Any](url, start=start, share=share) as ws:
            async for message in ws.stream_filter(maxsize=None):
                position = ws.position_of(message)
                self.last[share[0]] = position
                # Another worker may have processed it before the number of workers changed.
                self.rows.setdefault(position, message)


@contextlib.asynccontextmanager
async def working(table: Table, url: str, start: Any, workers: int) -> AsyncIterator[None]:
    """A number of workers, which are stopped at the end of the block."""
    table.last.clear()
    tasks = [asyncio.create_task(table.work(url, start, (number, workers))) for number in range(workers)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_number_of_workers_changes_without_a_loss(nats_server: NatsServer) -> None:
    """Two workers are replaced by three at the smallest position, while messages arrive: each is processed once.

    The messages of each key stay in order.
    """
    table = Table()
    async with capturing(nats_server, create=TRANSFORM) as capture:

        async def send() -> None:
            for number in range(0, 600, 10):
                await capture.server.send(*(trade(each, f"S{each % 12}") for each in range(number, number + 10)))
                await asyncio.sleep(0.02)

        sending = asyncio.create_task(send())
        async with working(table, nats_server.url, "all", 2):
            await until(lambda: len(table.rows) >= 150 and len(table.last) == 2)
        async with working(table, nats_server.url, min(table.last.values()) + 1, 3):
            await sending
            await until(lambda: len(table.rows) >= 600)
            assert len(table.last) == 3
    numbers: dict[str, list[int]] = {}
    for message in table.rows.values():
        numbers.setdefault(message["s"], []).append(message["n"])
    assert numbers == {f"S{key}": list(range(key, 600, 12)) for key in range(12)}
