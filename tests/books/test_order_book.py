"""OrderBook: the messages that it reads, the levels that it keeps, and the errors that it raises."""

from __future__ import annotations

import asyncio
import json
import math
import random
import zlib
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest

import rxws
from rxws import Snapshot, demo
from rxws.books import ChecksumMismatch, OrderBook

D = Decimal
BINANCE = {"bids": "b", "asks": "a"}, {"bids": "bids", "asks": "asks"}


def levels(book: OrderBook[Any]) -> tuple[list[Any], list[Any]]:
    """Return all levels."""
    return [*book.bids], [*book.asks]


def test_book_when_snapshots_and_changes_arrive() -> None:
    """A snapshot replaces all levels; a change sets sizes, and a size of 0 removes a level."""
    book = OrderBook(*BINANCE)
    assert (levels(book), book.best) == (([], []), (None, None))
    book.apply(Snapshot({"bids": [["9.8", "2"], ["9.9", "1"], ["9.7", "0"]], "asks": [["10.1", "3"]]}, "start"))
    assert levels(book) == ([(D("9.9"), 1), (D("9.8"), 2)], [(D("10.1"), 3)])
    book.apply({"b": [["9.9", "0"], ["1", "0"]], "a": [["10.0", "4"], ["10.1", "5"]]})
    assert levels(book) == ([(D("9.8"), 2)], [(D(10), 4), (D("10.1"), 5)])
    assert book.best == (D("9.8"), D(10))
    assert book.depth(1) == ([(D("9.8"), 2)], [(D(10), 4)])
    assert book.asks.volume_to(D("10.1")) == 9
    assert repr(book) == "<OrderBook: 1 bids, 2 asks, best 9.8 / 10.0>"
    book.apply(Snapshot({"bids": [], "asks": [["7", "1"]]}, "hole"))
    assert levels(book) == ([], [(7, 1)])
    book.clear()
    assert levels(book) == ([], [])


class Level(msgspec.Struct):
    """A level as a Struct."""

    px: str
    sz: str


def of_bitfinex(message: Any) -> Iterator[tuple[str, Any, Any]]:
    """Read ``[chanId, [price, count, amount]]``, or several such levels."""
    found = message[1] if isinstance(message[1][0], list) else [message[1]]
    for price, count, amount in found:
        yield "bid" if amount > 0 else "ask", price, abs(amount) if count else 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"bids": ("data", 0, "bids"), "asks": ("data", 0, "asks")},
            {"data": [{"bids": [["9", "1", "0"]], "asks": []}]},
        ),
        ({"bids": "bs", "asks": "as"}, {"bs": [["9", "1", "1534614057.3"]]}),
        ({"bids": "b", "asks": "a", "price": "p", "size": "q"}, {"b": [{"p": 9, "q": 1.0}], "a": ()}),
        ({"bids": (1, "bs"), "asks": (1, "as"), "price": 1, "size": 2}, [7, {"bs": [["new", "9", "1"]], "as": []}]),
        ({"bids": "b", "asks": "a", "price": "px", "size": "sz"}, {"b": [Level("9", "1")], "a": None}),
        (of_bitfinex, [17, [9, 1, 1]]),
        (of_bitfinex, [17, [[9, 1, 1], [10, 0, -1]]]),
    ],
)
@pytest.mark.parametrize("number", [Decimal, float])
def test_book_when_venues_have_other_shapes(changes: Any, message: Any, number: Any) -> None:
    """Keys, paths, positions, Structs and functions name the levels; a side that did not change may be missing."""
    book = OrderBook(changes, number=number)
    book.apply(message)
    assert levels(book) == ([(9, 1)], [])
    assert type(book.bids[0][0]) is number
    book.replace(message)
    assert levels(book) == ([(9, 1)], [])


def test_book_when_numbers_are_floats() -> None:
    """Decimals have the digits that the server sent, even those of floats; strings keep their zeros for checksums."""
    book = OrderBook(BINANCE[0])
    book.apply({"b": [[0.1, 1e-8]], "a": [["0.10", "5.00000000"], ["0.20", 7]]})
    assert levels(book) == ([(D("0.1"), D("1E-8"))], [(D("0.10"), D(5)), (D("0.2"), 7)])
    assert str(book.asks[0][1]) == "5.00000000"
    book.apply({"b": [["0.10", "0.0"]], "a": []})
    assert not book.bids


@pytest.mark.parametrize(
    ("message", "error", "words"),
    [
        ({"x": []}, KeyError, r"changes\['bids'\] 'b': there is no 'b' in the keys 'x'"),
        (7, KeyError, "there is no 'b' in an object of type int"),
        ({"b": [["x", "1"]]}, ValueError, "finite price, and a size that is not negative, not 'x' and '1'"),
        ({"b": [["1", "-1"]]}, ValueError, "not '1' and '-1'"),
        ({"b": [["nan", "1"]]}, ValueError, "not 'nan' and '1'"),
        ({"b": [["1", "sNaN"]]}, ValueError, "not '1' and 'sNaN'"),
        ({"b": [[math.inf, 1]]}, ValueError, "not inf and 1"),
        ({"b": [["1", None]]}, ValueError, "not '1' and None"),
        ({"b": [["1"]]}, KeyError, r"changes\['size'\] 1: there is no 1 in"),
        ({"b": [{"p": 1}]}, KeyError, r"changes\['price'\] 0: there is no 0 in the keys 'p'"),
    ],
)
@pytest.mark.parametrize("number", [Decimal, float])
def test_book_when_a_message_is_wrong(message: Any, error: type[Exception], words: str, number: Any) -> None:
    """A wrong message raises one error that shows what is wrong, and leaves the book unchanged."""
    book = OrderBook(*BINANCE, number=number)
    book.apply({"b": [["9", "1"]], "a": [["10", "1"]]})
    before = levels(book)
    if isinstance(message, dict) and "b" in message:
        message = {"b": [["9", "5"], *message["b"]], "a": [["11", "2"]]}
    with pytest.raises(error, match=words):
        book.apply(message)
    assert levels(book) == before


async def coroutine_function(*_: Any) -> Any:
    raise AssertionError


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        (["b"], {}, TypeError, "changes must be a mapping"),
        ([{"bids": "b"}], {}, ValueError, "changes must have the keys 'bids' and 'asks'.*not \\['bids'\\]"),
        ([{**BINANCE[0], "quantity": 1}], {}, ValueError, "quantity"),
        ([{**BINANCE[0], "bids": ()}], {}, ValueError, r"changes\['bids'\] is an empty tuple"),
        ([{**BINANCE[0], "price": [0]}], {}, TypeError, r"changes\['price'\] must be a key"),
        ([BINANCE[0], {"asks": "asks"}], {}, ValueError, "snapshot must have the keys"),
        (
            [coroutine_function],
            {},
            TypeError,
            "changes must be a plain function, and coroutine_function is a coroutine",
        ),
        ([BINANCE[0]], {"number": int}, TypeError, "number must be Decimal or float, not <class 'int'>"),
        ([BINANCE[0]], {"depth": "10"}, TypeError, "depth must be an int, or None for all levels, not '10'"),
        ([BINANCE[0]], {"depth": True}, TypeError, "depth must be an int"),
        ([BINANCE[0]], {"depth": 0}, ValueError, "depth must be at least 1, not 0"),
        ([BINANCE[0]], {"checksum": coroutine_function}, TypeError, "checksum must be a plain function"),
        ([BINANCE[0]], {"checksum": 7}, TypeError, "checksum must be a plain function"),
    ],
)
def test_book_when_an_argument_is_wrong(
    arguments: list[Any], options: dict[str, Any], error: type[Exception], words: str
) -> None:
    """A wrong argument raises one error that names it."""
    with pytest.raises(error, match=words):
        OrderBook(*arguments, **options)


def test_function_when_it_returns_another_side() -> None:
    """A side that is neither bid nor ask raises ValueError, and the book is unchanged."""
    book = OrderBook(lambda message: [("bid", 1, 1), ("buy", 1, 1)])
    with pytest.raises(ValueError, match="changes: the side of a level must be 'bid' or 'ask', not 'buy'"):
        book.apply({})
    assert not book.bids


# Checksums


def digits(number: Decimal) -> str:
    """Return a number in the form of Kraken's checksum: without the point and without leading zeros."""
    return f"{number:f}".replace(".", "").lstrip("0")


def kraken(book: OrderBook[Decimal], message: Any) -> bool:
    """Check a book of Kraken: https://docs.kraken.com/api/docs/guides/spot-ws-book-v2/."""
    best = book.asks[:10] + book.bids[:10]
    text = "".join(digits(price) + digits(size) for price, size in best)
    return zlib.crc32(text.encode()) == message["data"][0]["checksum"]


KRAKEN: dict[str, Any] = {"bids": ("data", 0, "bids"), "asks": ("data", 0, "asks"), "price": "price", "size": "qty"}


def test_checksum_when_it_is_the_example_of_kraken() -> None:
    """The checksum in Kraken's documentation fits. It does not fit after a changed size, and fits a later snapshot."""
    asks = [
        *[("45285.2", "0.00100000"), ("45286.4", "1.54571953"), ("45286.6", "1.54571109"), ("45289.6", "1.54560911")],
        *[("45290.2", "0.15890660"), ("45291.8", "1.54553491"), ("45294.7", "0.04454749"), ("45296.1", "0.35380000")],
        *[("45297.5", "0.09945542"), ("45299.5", "0.18772827")],
    ]
    bids = [
        *[("45283.5", "0.10000000"), ("45283.4", "1.54582015"), ("45282.1", "0.10000000"), ("45281.0", "0.10000000")],
        *[("45280.3", "1.54592586"), ("45279.0", "0.07990000"), ("45277.6", "0.03310103"), ("45277.5", "0.30000000")],
        *[("45277.3", "1.54602737"), ("45276.6", "0.15445238")],
    ]
    sides = {
        name: [{"price": price, "qty": size} for price, size in side] for name, side in (("bids", bids), ("asks", asks))
    }
    book = OrderBook(KRAKEN, depth=10, checksum=kraken)
    snapshot = {"data": [{**sides, "checksum": 3310070434}]}
    book.replace(snapshot)
    change = {"bids": [{"price": "45283.5", "qty": "0.2"}], "asks": [], "checksum": 3310070434}
    with pytest.raises(
        ChecksumMismatch, match=r"^kraken returned False for <OrderBook: 10 bids, 10 asks, best 45283.5"
    ):
        book.apply({"data": [change]})
    book.apply(Snapshot(snapshot, "restart"))
    # The new level replaces the worst one.
    change = {"bids": [{"price": "45284.0", "qty": "1"}], "asks": [], "checksum": 0}
    with pytest.raises(ChecksumMismatch):
        book.apply({"data": [change]})
    assert (len(book.bids), book.bids[0], book.bids[-1][0]) == (10, (D(45284), 1), D("45277.3"))


def test_checksum_when_its_function_raises() -> None:
    """An exception of ``checksum`` propagates, with a note that names the function and the book."""
    book = OrderBook(KRAKEN, checksum=kraken)
    with pytest.raises(KeyError) as caught:
        book.apply({"data": [{"bids": []}]})
    assert caught.value.__notes__ == [
        "It was raised by kraken, the checksum function of <OrderBook: 0 bids, 0 asks, best None / None>."
    ]


def test_type_of_numbers_is_known() -> None:
    """A JSON number that a decoder returns as a Decimal keeps its digits."""
    decode = msgspec.json.Decoder(dict[str, list[list[Decimal]]]).decode
    book = OrderBook(BINANCE[0])
    book.apply(decode(b'{"b": [[9.90, 1.50]], "a": []}'))
    assert str(book.bids[0]) == "(Decimal('9.90'), Decimal('1.50'))"
    assert json.dumps([str(number) for number in book.bids[0]]) == '["9.90", "1.50"]'


# With resync


@pytest.mark.usefixtures("virtual_time", "assert_no_leaks")
async def test_book_when_faults_happen() -> None:
    """Despite cuts, rotations and dropped changes, a book that applies the items of resync equals the exchange's."""
    chance = random.Random(7)
    async with (
        demo.serve(symbols=("BTCUSDT",), rate=0) as exchange,
        rxws.ReactiveWebSocket(exchange, reconnect_delays=lambda: [0] * 999, handover_timeout=1) as feed,
    ):
        resynced = feed.stream_filter([{"e": "depthUpdate"}]).resync(
            lambda: exchange.get_json("/depth?symbol=BTCUSDT"), sequence=["U", "u"], snapshot_sequence="lastUpdateId"
        )
        book = OrderBook(*BINANCE, number=float)
        resynced.subscribe(book.apply)
        await feed.wait_connected()
        compared = 0
        for _ in range(60):
            fault = chance.choice(["cut", "rotate", "drop", "nothing"])
            if fault == "cut":
                await exchange.cut()
            elif fault == "rotate":
                await feed.rotate()
            elif fault == "drop":
                exchange.drop_deltas(2)
            # Publish many changes, because only a later change shows that earlier ones were dropped.
            await exchange.publish(100)
            await asyncio.sleep(2)
            if resynced.in_sync:
                compared += 1
                expected = exchange.book("BTCUSDT")
                assert [[*map(list, side)] for side in (book.bids, book.asks)] == [expected["bids"], expected["asks"]]
        assert compared > 30
