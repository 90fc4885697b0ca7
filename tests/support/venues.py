"""Small servers of order books in the dialects of venues, written from their public documentation, with faults."""

from __future__ import annotations

import itertools
import json
import random
import zlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, NamedTuple, Self

from rxws.testing import FeedServer, HttpRequest
from rxws.testing.broadcast import DelayedDelivery
from rxws.testing.connection import FeedConnection

__all__ = ["VENUES", "Bitfinex", "Kraken", "Okx", "Venue"]

Level = tuple[str, Decimal, Decimal]
"""The side, ``"bid"`` or ``"ask"``, the price and the new size of a level."""


class Change(NamedTuple):
    """A change of the book: the number before it, its first and its last number, and its levels."""

    previous: int
    first: int
    last: int
    levels: list[Level]


class Venue:
    """A venue with one order book.

    A subclass overrides what its venue does differently. Messages are JSON.

    Attributes:
        bids: the sizes of the bids, by price.
        asks: the sizes of the asks, by price.
        number: the last number of the last change.
        lags: the delay of the messages on a connection, in seconds, by the number of the connection.
        subscriptions: the number of subscriptions.
    """

    subscribe: Any = None
    unsubscribe: Any = None
    path = ""
    #: Whether the numbers of a book are consecutive.
    is_dense = True
    #: Whether the client can notice a missing change.
    shows_holes = True
    #: The number of levels of each side that the server sends, None for all; it does not report those that drop out.
    depth: int | None = None
    step = 1
    #: The largest number of levels in a change.
    most_levels = 3

    def __init__(self, seed: int = 1) -> None:
        self.server = FeedServer(self._talk, http={self.path: self._rest} if self.path else None)
        self.bids: dict[Decimal, Decimal] = {}
        self.asks: dict[Decimal, Decimal] = {}
        self.number = 1_000
        self.lags: dict[int, float] = {}
        self.subscriptions = 0
        self.sent: Counter[FeedConnection] = Counter()
        self._random = random.Random(seed)
        self._subscribed: dict[FeedConnection, None] = {}
        self._delivery = DelayedDelivery()
        for _ in range(60):
            self.change()

    async def __aenter__(self) -> Self:
        await self.server.__aenter__()
        return self

    async def __aexit__(self, *details: object) -> None:
        self._delivery.clear()
        await self.server.__aexit__(*details)

    # The dialect

    def answer(self, request: Any, connection: FeedConnection) -> Any:
        """Return the answer to a request to subscribe or unsubscribe."""
        return {"ok": request}

    @abstractmethod
    def snapshot(self) -> Any:
        """Return the message with all levels, or the answer to a request over HTTP."""

    @abstractmethod
    def message(self, change: Change) -> Any:
        """Return the message of a change."""

    def addressed(self, message: Any, connection: FeedConnection) -> Any:
        """Return the form of a message for one connection."""
        return message

    # The market

    def change(self) -> Change:
        """Change some levels."""
        levels = []
        for _ in range(self._random.randint(1, self.most_levels)):
            side = self._random.choice(("bid", "ask"))
            price = Decimal(self._random.randint(1, 15) * (-1 if side == "bid" else 1) + 500) / 10
            size = Decimal(self._random.choice((0, 0, 15, 250, 1000))) / 1000
            levels.append((side, price, size))
            book = self.bids if side == "bid" else self.asks
            book[price] = size
            if not size:
                del book[price]
        jump = 0 if self.is_dense else self._random.randint(0, 5)
        previous, first = self.number, self.number + jump + 1
        self.number = first + self._random.randint(0, self.step - 1)
        return Change(previous, first, self.number, levels)

    def levels(self, side: str) -> list[tuple[Decimal, Decimal]]:
        """Return the levels of ``"bid"`` or ``"ask"``, the best first."""
        found = sorted(self.bids.items(), reverse=True) if side == "bid" else sorted(self.asks.items())
        return found[: self.depth]

    def pairs(self, side: str) -> list[list[str]]:
        """Return the levels as pairs of strings."""
        return [[str(price), str(size)] for price, size in self.levels(side)]

    @property
    def truth(self) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        """The bids and the asks."""
        return self.levels("bid"), self.levels("ask")

    def publish(self, count: int = 1, *, lost: bool = False) -> None:
        """Change the book and send the changes, or lose them."""
        for _ in range(count):
            message = self.message(self.change())
            if not lost:
                self.send(message)

    def send(self, message: Any) -> None:
        """Send a message on all subscribed connections."""
        for connection in [*self._subscribed]:
            if connection.is_open:
                self._deliver(connection, self.addressed(message, connection))

    async def _talk(self, connection: FeedConnection) -> None:
        async for frame in connection:
            request = json.loads(frame)
            if request == self.unsubscribe_of(connection):
                self._subscribed.pop(connection, None)
                self._deliver(connection, self.answer(request, connection))
            elif request == self.subscribe:
                self.subscriptions += 1
                self._deliver(connection, self.answer(request, connection))
                self._subscribed[connection] = None
                if not self.path:
                    self._deliver(connection, self.addressed(self.snapshot(), connection))
            else:
                raise AssertionError(f"{type(self).__name__} does not understand {request}")

    def unsubscribe_of(self, connection: FeedConnection) -> Any:
        """Return the message that ends the subscription of a connection."""
        return self.unsubscribe

    def _rest(self, _request: HttpRequest) -> Any:
        return self.snapshot()

    def _deliver(self, connection: FeedConnection, message: Any) -> None:
        text = message if isinstance(message, str) else json.dumps(message)
        self._delivery.deliver(connection, "book", text, self.lags.get(connection.number, 0.0))


def _texts(levels: Iterable[Level], side: str) -> list[list[str]]:
    return [[str(price), str(size)] for each, price, size in levels if each == side]


class BinanceSpot(Venue):
    """https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams"""

    subscribe = {"method": "SUBSCRIBE", "params": ["btcusdt@depth"], "id": 1}
    unsubscribe = {"method": "UNSUBSCRIBE", "params": ["btcusdt@depth"], "id": 2}
    acknowledged = {"id": 1, "result": None}
    path = "/api/v3/depth"
    step = 4

    def answer(self, request: Any, connection: FeedConnection) -> Any:
        return {"result": None, "id": request["id"]}

    def snapshot(self) -> Any:
        return {"lastUpdateId": self.number, "bids": self.pairs("bid"), "asks": self.pairs("ask")}

    def message(self, change: Change) -> Any:
        return {
            "e": "depthUpdate",
            "E": 1672515782136,
            "s": "BTCUSDT",
            "U": change.first,
            "u": change.last,
            "b": _texts(change.levels, "bid"),
            "a": _texts(change.levels, "ask"),
        }


class BinanceFutures(BinanceSpot):
    """https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams"""

    path = "/fapi/v1/depth"
    is_dense = False

    def message(self, change: Change) -> Any:
        return {**super().message(change), "pu": change.previous}


class Bybit(Venue):
    """https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook"""

    subscribe = {"op": "subscribe", "args": ["orderbook.50.BTCUSDT"]}
    unsubscribe = {"op": "unsubscribe", "args": ["orderbook.50.BTCUSDT"]}
    acknowledged = {"op": "subscribe", "success": True}

    def answer(self, request: Any, connection: FeedConnection) -> Any:
        return {"success": True, "ret_msg": "", "conn_id": "2324d924", "op": request["op"]}

    def _wrap(self, kind: str, bids: Any, asks: Any) -> Any:
        data = {"s": "BTCUSDT", "b": bids, "a": asks, "u": self.number, "seq": 7961638724}
        return {"topic": "orderbook.50.BTCUSDT", "type": kind, "ts": 1687940967466, "data": data, "cts": 1687940967464}

    def snapshot(self) -> Any:
        return self._wrap("snapshot", self.pairs("bid"), self.pairs("ask"))

    def message(self, change: Change) -> Any:
        return self._wrap("delta", _texts(change.levels, "bid"), _texts(change.levels, "ask"))

    def restart(self) -> None:
        """Restart the service: a snapshot with the number 1 is sent, and the numbers continue from there."""
        self.number = 1
        self.send(self.snapshot())


class Okx(Venue):
    """https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-order-book-channel"""

    subscribe = {"op": "subscribe", "args": [{"channel": "books", "instId": "BTC-USDT"}]}
    unsubscribe = {"op": "unsubscribe", "args": [{"channel": "books", "instId": "BTC-USDT"}]}
    acknowledged = {"event": "subscribe", ("arg", "channel"): "books", ("arg", "instId"): "BTC-USDT"}
    is_dense = False

    def answer(self, request: Any, connection: FeedConnection) -> Any:
        return {"event": request["op"], "arg": request["args"][0], "connId": "a4d3ae55"}

    def _wrap(self, action: str, previous: int, bids: Any, asks: Any) -> Any:
        data = {"asks": asks, "bids": bids, "ts": "1597026383085", "prevSeqId": previous, "seqId": self.number}
        return {"arg": self.subscribe["args"][0], "action": action, "data": [data]}

    def snapshot(self) -> Any:
        sides = ([[*each, "0", "1"] for each in self.pairs(side)] for side in ("bid", "ask"))
        return self._wrap("snapshot", -1, *sides)

    def message(self, change: Change) -> Any:
        sides = ([[*each, "0", "1"] for each in _texts(change.levels, side)] for side in ("bid", "ask"))
        return self._wrap("update", change.previous, *sides)

    def heartbeat(self) -> None:
        """Send the message of a minute without changes: both of its numbers are the last change's."""
        self.send(self._wrap("update", self.number, [], []))

    def maintain(self) -> None:
        """Restart the count, as maintenance does: ``seqId`` is less than ``prevSeqId`` once."""
        previous, self.number = self.number, 3
        self.send(self._wrap("update", previous, [], []))


class Deribit(Venue):
    """https://docs.deribit.com/#book-instrument_name-interval"""

    subscribe = {
        "jsonrpc": "2.0",
        "id": 42,
        "method": "public/subscribe",
        "params": {"channels": ["book.BTC-PERPETUAL.100ms"]},
    }
    unsubscribe = {**subscribe, "id": 43, "method": "public/unsubscribe"}
    acknowledged = {"id": 42, "result": ["book.BTC-PERPETUAL.100ms"]}
    is_dense = False

    def answer(self, request: Any, connection: FeedConnection) -> Any:
        return {"jsonrpc": "2.0", "id": request["id"], "result": request["params"]["channels"], "usOut": 1}

    def _wrap(self, **data: Any) -> Any:
        given = {"timestamp": 1554373962454, "instrument_name": "BTC-PERPETUAL", "change_id": self.number, **data}
        params = {"channel": "book.BTC-PERPETUAL.100ms", "data": given}
        return {"jsonrpc": "2.0", "method": "subscription", "params": params}

    def snapshot(self) -> Any:
        bids, asks = ([["new", *map(float, each)] for each in self.levels(side)] for side in ("bid", "ask"))
        return self._wrap(type="snapshot", bids=bids, asks=asks)

    def message(self, change: Change) -> Any:
        bids, asks = (
            [
                ["change" if size else "delete", float(price), float(size)]
                for each, price, size in change.levels
                if each == side
            ]
            for side in ("bid", "ask")
        )
        return self._wrap(type="change", prev_change_id=change.previous, bids=bids, asks=asks)


class Kucoin(Venue):
    """https://www.kucoin.com/docs/websocket/spot-trading/public-channels/level2-market-data"""

    subscribe = {"id": 1545910660739, "type": "subscribe", "topic": "/market/level2:BTC-USDT", "response": True}
    unsubscribe = {**subscribe, "id": 1545910660740, "type": "unsubscribe"}
    acknowledged = {"id": 1545910660739, "type": "ack"}
    path = "/api/v3/market/orderbook/level2"
    step = 3

    def answer(self, request: Any, connection: FeedConnection) -> Any:
        return {"id": request["id"], "type": "ack"}

    def snapshot(self) -> Any:
        data = {
            "time": 1729176273859,
            "sequence": str(self.number),
            "bids": self.pairs("bid"),
            "asks": self.pairs("ask"),
        }
        return {"code": "200000", "data": data}

    def message(self, change: Change) -> Any:
        changes = {
            f"{side}s": [[*each, str(change.last)] for each in _texts(change.levels, side)] for side in ("bid", "ask")
        }
        # A level with the price 0 only carries a number.
        changes["asks"].append(["0", "1", str(change.last)])
        data = {
            "changes": changes,
            "sequenceEnd": change.last,
            "sequenceStart": change.first,
            "symbol": "BTC-USDT",
            "time": 1663747970273,
        }
        return {"topic": "/market/level2:BTC-USDT", "type": "message", "subject": "trade.l2update", "data": data}


class Coinbase(Venue):
    """https://docs.cdp.coinbase.com/advanced-trade/docs/ws-channels#level2-channel"""

    subscribe = {"type": "subscribe", "product_ids": ["BTC-USD"], "channel": "level2"}
    unsubscribe = {**subscribe, "type": "unsubscribe"}
    acknowledged = {"channel": "subscriptions", ("events", 0, "subscriptions", "level2"): ["BTC-USD"]}
    shows_holes = False

    def answer(self, request: Any, connection: FeedConnection) -> Any:
        there = {"level2": ["BTC-USD"]} if request["type"] == "subscribe" else {}
        return self.addressed({"channel": "subscriptions", "events": [{"subscriptions": there}]}, connection)

    def addressed(self, message: Any, connection: FeedConnection) -> Any:
        self.sent[connection] += 1
        return {**message, "client_id": "", "sequence_num": self.sent[connection] - 1}

    def _wrap(self, kind: str, levels: Iterable[Level]) -> Any:
        updates = [
            {
                "side": "bid" if side == "bid" else "offer",
                "event_time": "1970-01-01T00:00:00Z",
                "price_level": str(price),
                "new_quantity": str(size),
            }
            for side, price, size in levels
        ]
        events = [{"type": kind, "product_id": "BTC-USD", "updates": updates}]
        return {"channel": "l2_data", "timestamp": f"2023-02-09T20:32:50.{self.number:09}Z", "events": events}

    def snapshot(self) -> Any:
        return self._wrap("snapshot", [(side, *level) for side in ("bid", "ask") for level in self.levels(side)])

    def message(self, change: Change) -> Any:
        return self._wrap("update", change.levels)


class Kraken(Venue):
    """https://docs.kraken.com/api/docs/websocket-v2/book"""

    subscribe = {"method": "subscribe", "params": {"channel": "book", "symbol": ["BTC/USD"], "depth": 10}}
    unsubscribe = {**subscribe, "method": "unsubscribe"}
    acknowledged = {"method": "subscribe", "success": True}
    depth = 10

    def __init__(self, seed: int = 1) -> None:
        super().__init__(seed)
        self._shown = {side: dict(self.levels(side)) for side in ("bid", "ask")}

    def answer(self, request: Any, connection: FeedConnection) -> Any:
        return {"method": request["method"], "result": {"channel": "book", "symbol": "BTC/USD"}, "success": True}

    def checksum(self) -> int:
        """Return the CRC32 of the ten best asks and bids."""
        levels = itertools.chain(self.levels("ask"), self.levels("bid"))
        digits = (
            f"{number:.1f}" if place == 0 else f"{number:.8f}" for level in levels for place, number in enumerate(level)
        )
        return zlib.crc32("".join(each.replace(".", "").lstrip("0") for each in digits).encode())

    def _wrap(self, kind: str, levels: Callable[[str], Iterable[tuple[Decimal, Decimal]]]) -> str:
        # The numbers keep their trailing zeros, which floats would lose.
        bids, asks = (
            ",".join(f'{{"price":{price:.1f},"qty":{size:.8f}}}' for price, size in levels(side))
            for side in ("bid", "ask")
        )
        return (
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"BTC/USD","bids":[{bids}],"asks":[{asks}],'
            f'"checksum":{self.checksum()},"timestamp":"2023-10-06T17:35:55.{self.number:06}Z"}}]}}'
        )

    def snapshot(self) -> Any:
        return self._wrap("snapshot", self.levels)

    def message(self, change: Change) -> Any:
        return self._wrap("update", self._moved)

    def _moved(self, side: str) -> list[tuple[Decimal, Decimal]]:
        """Return the changes among the ten best levels. A level that only drops out of them is not sent."""
        book, shown, best = self.bids if side == "bid" else self.asks, self._shown[side], dict(self.levels(side))
        self._shown[side] = best
        removed = [(price, Decimal(0)) for price in shown if price not in book]
        return removed + [(price, size) for price, size in best.items() if shown.get(price) != size]


class Bitfinex(Venue):
    """https://docs.bitfinex.com/reference/ws-public-books: arrays with the id of the channel on this connection."""

    subscribe = {"event": "subscribe", "channel": "book", "symbol": "tBTCUSD"}
    shows_holes = False
    most_levels = 1

    def channel(self, connection: FeedConnection) -> int:
        """Return the id of the channel on a connection."""
        return 17_000 + connection.number

    def unsubscribe_of(self, connection: FeedConnection) -> Any:
        return {"event": "unsubscribe", "chanId": self.channel(connection)}

    def answer(self, request: Any, connection: FeedConnection) -> Any:
        answer = {"chanId": self.channel(connection)}
        if request["event"] == "unsubscribe":
            return {"event": "unsubscribed", "status": "OK", **answer}
        return {"event": "subscribed", "channel": "book", **answer, "symbol": "tBTCUSD", "pair": "BTCUSD"}

    def addressed(self, message: Any, connection: FeedConnection) -> Any:
        return [self.channel(connection), message]

    @staticmethod
    def _level(side: str, price: Decimal, size: Decimal) -> list[float]:
        sign = 1 if side == "bid" else -1
        return [float(price), 1 if size else 0, sign * float(size or 1)]

    def snapshot(self) -> Any:
        return [self._level(side, *level) for side in ("bid", "ask") for level in self.levels(side)]

    def message(self, change: Change) -> Any:
        [level] = change.levels
        return self._level(*level)

    def heartbeat(self) -> None:
        """Send the message of fifteen seconds without changes."""
        self.send("hb")


VENUES: dict[str, type[Venue]] = {
    "Binance spot": BinanceSpot,
    "Binance futures": BinanceFutures,
    "Bybit": Bybit,
    "OKX": Okx,
    "Deribit": Deribit,
    "KuCoin": Kucoin,
    "Coinbase": Coinbase,
    "Kraken": Kraken,
}
