"""``GET /trades`` of the demo exchange: the history of trades, and its faults on request."""

from __future__ import annotations

import asyncio

import pytest

from rxws import demo
from rxws.testing import HttpError

pytestmark = pytest.mark.usefixtures("virtual_time")


@pytest.fixture
async def exchange():
    """Return an exchange with one symbol that has published about fifty trades."""
    async with demo.serve(symbols=["BTCUSDT"], rate=0, start=0) as exchange:
        for _ in range(100):
            await exchange.publish(1)
            await asyncio.sleep(0.1)
        yield exchange


async def fetched(exchange, **asked):
    """Return the numbers of the trades in an answer."""
    query = "&".join(f"{name}={value}" for name, value in asked.items())
    return [each["n"] for each in await exchange.get_json(f"/trades?symbol=BTCUSDT&{query}")]


async def test_trades_between_two_numbers(exchange):
    """``after`` and ``before`` exclude their own trades; ``limit`` returns the oldest of them."""
    last = exchange.numbers["btcusdt@trade"]
    assert await fetched(exchange) == list(range(1, last + 1))
    assert await fetched(exchange, after=3, before=9) == [4, 5, 6, 7, 8]
    assert await fetched(exchange, after=3, before=9, limit=2) == [4, 5]
    assert await fetched(exchange, after=last - 2) == [last - 1, last]


async def test_trades_when_there_is_no_after(exchange):
    """Without ``after`` the answer has the newest trades before ``before``."""
    assert await fetched(exchange, before=9, limit=2) == [7, 8]


async def test_trades_between_two_times(exchange):
    """``by=time`` takes times in milliseconds, and includes the trades of both."""
    trades = await exchange.get_json("/trades?symbol=BTCUSDT")
    first, last = trades[3]["T"], trades[6]["T"]
    assert await fetched(exchange, by="time", after=first, before=last) == [4, 5, 6, 7]


async def test_trades_are_those_of_the_feed(exchange):
    """A trade has the form that it has in the feed."""
    [trade] = await exchange.get_json("/trades?symbol=BTCUSDT&limit=1")
    assert set(trade) == {"e", "s", "p", "q", "T", "n"}


async def test_trades_when_the_history_is_behind_short_or_lacks_some(exchange):
    """The newest trades, all but the newest, or single ones are missing on request."""
    last = exchange.numbers["btcusdt@trade"]
    exchange.trades.behind = 2
    assert (await fetched(exchange))[-1] == last - 2
    exchange.trades.kept = 5
    assert await fetched(exchange) == [last - 4, last - 3, last - 2]
    exchange.trades.omit("BTCUSDT", last - 3)
    assert await fetched(exchange) == [last - 4, last - 2]


async def test_trades_when_before_does_not_count_and_pages_are_small(exchange):
    """Without ``takes_before`` the answer goes beyond ``before``; ``page`` limits every answer."""
    exchange.trades.takes_before = False
    exchange.trades.page = 4
    assert await fetched(exchange, after=2, before=4, limit=100) == [3, 4, 5, 6]


async def test_trades_when_the_history_is_slow_and_fails(exchange):
    """``delay`` makes an answer late, and ``fail`` refuses the next requests."""
    clock = asyncio.get_running_loop().time
    exchange.trades.delay, began = 2.0, clock()
    exchange.trades.fail(status=429)
    with pytest.raises(HttpError, match="429"):
        await fetched(exchange)
    assert clock() - began == pytest.approx(2.0)
    assert await fetched(exchange, limit=1)


@pytest.mark.parametrize("query", ["symbol=X", "symbol=BTCUSDT&after=x", "symbol=BTCUSDT&by=price"])
async def test_request_that_makes_no_sense_is_refused(exchange, query):
    """An unknown symbol, a value that is not a number, and an unknown ``by`` get the status 400."""
    with pytest.raises(HttpError, match="400"):
        await exchange.get_json(f"/trades?{query}")
