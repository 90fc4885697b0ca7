"""The recipes of the guide: books are right despite faults, on servers that speak the dialects of venues."""

from __future__ import annotations

import asyncio
import decimal
import json
import random
from pathlib import Path
from typing import Any

import docutils.core
import docutils.nodes
import pytest

import rxws
from rxws import CallbackFailed
from rxws.books import ChecksumMismatch, OrderBook
from tests.support.guide import ROOT, named
from tests.support.venues import VENUES, Bitfinex, Bybit, Kraken, Okx, Venue

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")

GUIDE = ROOT / "rxws" / "books" / "README.rst"


def table(guide: Path) -> dict[str, list[str]]:
    """Return the table of recipes: the code in each row, by the name of the venue."""
    document = docutils.core.publish_doctree(guide.read_text(), settings_overrides={"report_level": 5})
    section = next(each for each in document.findall(docutils.nodes.section) if each["names"] == ["recipes"])
    rows = [[cell.astext() for cell in row.children] for row in section.findall(docutils.nodes.row)]
    return {venue: [" ".join(cell.split()) for cell in cells] for venue, *cells in rows[1:]}


RECIPES = table(GUIDE)
NAMES: dict[str, Any] = {"rxws": rxws, "__name__": "guide"}
exec(named("venues.py"), NAMES)
exec(named("kraken.py"), NAMES)


def decode(frame: str | bytes) -> Any:
    """Decode a frame, and keep the digits of numbers."""
    return json.loads(frame, parse_float=decimal.Decimal)


class Client:
    """A book that is made by a recipe."""

    def __init__(self, venue: str, server: Venue, feed: rxws.ReactiveWebSocket[Any]) -> None:
        filters, resync, book = RECIPES[venue]
        stream = feed.multiplex(
            server.subscribe, server.unsubscribe, filters=[eval(filters, NAMES)], acknowledged=[server.acknowledged]
        )

        async def fetch() -> Any:
            return await rxws.testing.get_json(server.server.http_url + server.path)

        self.server = server
        self.resynced = eval(f"stream.resync({resync})", {**NAMES, "stream": stream, "fetch": fetch})
        self.book: OrderBook[decimal.Decimal] = eval(f"OrderBook({book})", {**NAMES, "OrderBook": OrderBook})
        self.reasons: list[str] = []
        self.failures: list[CallbackFailed] = []
        feed.events.subscribe(lambda event: self.failures.append(event) if isinstance(event, CallbackFailed) else None)
        self.resynced.subscribe(self.take)

    def take(self, item: Any) -> None:
        """Apply an item, and restart when the checksum is wrong."""
        if isinstance(item, rxws.Snapshot):
            self.reasons.append(item.reason)
        try:
            self.book.apply(item)
        except ChecksumMismatch:
            self.resynced.restart("checksum")

    @property
    def is_right(self) -> bool:
        """Whether the book is in sync and has the levels of the server."""
        return bool(self.resynced.in_sync) and self.book.depth(1000) == self.server.truth


async def publish(server: Venue, seconds: float = 1.0, every: float = 0.05) -> None:
    """Publish changes for some time, and let them arrive."""
    for _ in range(round(seconds / every)):
        server.publish()
        await asyncio.sleep(every)
    await asyncio.sleep(0.5)


async def test_table_has_the_venues() -> None:
    """The table has a row for each venue of which there is a server."""
    assert RECIPES.keys() == VENUES.keys()


@pytest.mark.parametrize("venue", VENUES)
async def test_book_is_right_when_a_recipe_meets_faults(venue: str) -> None:
    """A recipe survives a rotation, a missing change and a lost connection, and gets no needless snapshot."""
    async with VENUES[venue]() as server, rxws.ReactiveWebSocket(server.server.url, decode=decode) as feed:
        client = Client(venue, server, feed)
        await feed.wait_connected()
        await publish(server)
        assert (client.reasons, client.is_right) == (["start"], True)
        assert await feed.rotate()
        await publish(server)
        assert (client.reasons, client.is_right) == (["start"], True)
        if server.shows_holes:
            server.publish(lost=True)
            await publish(server, 12)
            assert client.is_right
            assert client.reasons == ["start", "checksum" if venue == "Kraken" else "hole"]
        server.server.reset()
        await publish(server, 5)
        assert client.is_right
        assert client.reasons[-1] == "network"
        assert client.failures == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("venue", VENUES)
async def test_book_is_right_when_many_faults_happen(venue: str, seed: int) -> None:
    """Whenever a book is in sync and everything has arrived, it is right, and at the end it is in sync."""
    chance = random.Random(f"{venue} {seed}")
    async with VENUES[venue](seed) as server, rxws.ReactiveWebSocket(server.server.url, decode=decode) as feed:
        client = Client(venue, server, feed)
        await feed.wait_connected()
        for _ in range(20):
            server.lags[server.server.opened + 1] = chance.choice([0.0, 0.0, 0.1, 0.4])
            fault = chance.choice(["cut", "rotate", "rotate", "restart", "lose", "nothing"])
            if fault == "cut":
                server.server.reset()
            elif fault == "rotate":
                asyncio.ensure_future(feed.rotate()).add_done_callback(lambda done: done.exception())
            elif fault == "restart":
                client.resynced.restart("checksum")
            elif fault == "lose" and server.shows_holes:
                server.publish(lost=True)
                server.publish(10)
            await publish(server, chance.uniform(0.1, 3.0))
            if venue == "Kraken" and not client.is_right:
                # The loss of a change beyond the ten best levels is noticed later.
                await publish(server, 3.0)
            assert client.is_right or not client.resynced.in_sync
        await publish(server, 90, every=1.0)
        assert client.is_right


async def test_book_of_bybit_when_the_service_restarts() -> None:
    """After a snapshot with the number 1, the book continues from it."""
    async with Bybit() as server, rxws.ReactiveWebSocket(server.server.url, decode=decode) as feed:
        client = Client("Bybit", server, feed)
        await feed.wait_connected()
        await publish(server)
        server.restart()
        await publish(server, 2)
        assert client.is_right


async def test_book_of_okx_when_its_numbers_repeat_or_restart() -> None:
    """A message without a change does no harm, and after maintenance the channel is subscribed again."""
    async with Okx() as server, rxws.ReactiveWebSocket(server.server.url, decode=decode) as feed:
        client = Client("OKX", server, feed)
        await feed.wait_connected()
        await publish(server)
        server.heartbeat()
        await publish(server)
        assert (client.reasons, client.is_right, server.subscriptions) == (["start"], True, 1)
        server.maintain()
        await publish(server, 2)
        assert (client.reasons, client.is_right, server.subscriptions) == (["start", "restart"], True, 2)


async def test_program_for_kraken_restarts_when_a_change_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """The guide's program for Kraken subscribes again when the checksum is wrong, and its book is right."""
    async with Kraken() as server:
        running = asyncio.ensure_future(NAMES["main"](server.server.url, "BTC/USD", 10))
        await asyncio.sleep(1)
        await publish(server)
        server.publish(5, lost=True)
        await publish(server, 3)
        assert server.subscriptions > 1
        await running
        bids, asks = server.truth
        wanted = f"{len(bids)} bids, {len(asks)} asks, best {bids[0][0]} / {asks[0][0]}> in sync"
        assert wanted in capsys.readouterr().out


async def test_program_for_bitfinex_is_right_after_a_cut_and_a_rotation(capsys: pytest.CaptureFixture[str]) -> None:
    """The guide's program for Bitfinex follows the ids of its channel from one connection to the next."""
    names: dict[str, Any] = {"__name__": "guide"}
    exec(named("bitfinex.py"), names)
    failures: list[CallbackFailed] = []
    feeds: list[rxws.ReactiveWebSocket[Any]] = []

    class Watched(rxws.ReactiveWebSocket[Any]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            feeds.append(self)
            self.events.subscribe(lambda event: failures.append(event) if isinstance(event, CallbackFailed) else None)

    async with Bitfinex() as server:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rxws, "ReactiveWebSocket", Watched)
            running = asyncio.ensure_future(names["main"](server.server.url, "tBTCUSD", 20))
            await asyncio.sleep(1)
        await publish(server)
        server.heartbeat()
        assert await feeds[0].rotate()
        await publish(server)
        server.server.reset()
        await publish(server)
        assert await feeds[0].rotate()
        await publish(server)
        await running
        feeds.clear()
        bids, asks = server.truth
        wanted = f"{len(bids)} bids, {len(asks)} asks, best {bids[0][0]} / {asks[0][0]}> in sync"
        assert wanted in capsys.readouterr().out
        assert (failures, server.subscriptions) == ([], 4)
