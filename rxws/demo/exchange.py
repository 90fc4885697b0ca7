"""The demo exchange: a market behind a websocket on loopback, with listen keys, snapshots, and faults on request."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import msgspec

from ..testing import DelayedDelivery, FeedConnection, FeedServer, Handshake, HttpRequest, HttpResponse, get_json
from .dialects import DIALECTS, Dialect
from .dialects.encodings import encoded
from .history import History
from .listen_keys import ListenKeys
from .market import SYMBOLS, Market, channel_of
from .trades import Trades

__all__ = ["DemoExchange", "serve"]

_BATCH = 100
"""The number of messages after which other tasks of the loop can run."""
_MOST_UNREAD = 64 * 2**20
"""Bytes that may wait for a client. When more wait, its connection is cut."""


class DemoExchange(str):
    """A running demo exchange, which is a string: the URL of its feed (``ReactiveWebSocket(exchange)``).

    :func:`serve` makes it. It can be passed wherever a URL is expected; its attributes and methods control the
    exchange.

    **Feeds.** ``/ws`` (this URL) and ``/``: all channels are subscribed as soon as the connection is open. ``/stream``
    (:attr:`stream_url`): no channel is subscribed until the client sends ``{"method": "SUBSCRIBE", "params":
    ["btcusdt@trade"], "id": 1}``, which the exchange acknowledges with ``{"result": null, "id": 1}``. ``UNSUBSCRIBE``
    works in the same way. Both work on either path. ``/ws/<listen key>``: all channels are subscribed until the key
    expires. Then the exchange sends ``{"e": "listenKeyExpired", "listenKey": …}``, and closes the connection a few
    seconds later. It answers an unknown or expired key with 401.

    **Messages.** ``n`` is the number of the message on its channel. It starts at 1, has no holes, and is the same on
    every connection, so a client can find all messages that were lost or repeated. Prices and quantities are JSON
    numbers, ``T`` is in milliseconds::

        {"e": "trade", "s": "BTCUSDT", "p": 64000.01, "q": 0.5, "T": 1700000000000, "n": 1}
        {"e": "bookTicker", "s": "BTCUSDT", "b": 63999.9, "B": 1.2, "a": 64000.1, "A": 3.4, "n": 1}
        {"e": "depthUpdate", "s": "BTCUSDT", "U": 81, "u": 83, "b": [[63999.9, 0.0]], "a": [...], "n": 1}

    Changes of a book are numbered separately, from ``U`` to ``u`` in each message, without holes; a quantity of 0
    removes a price. After ``{"method": "SUBSCRIBE", "params": ["btcusdt@depth"], "snapshot": true, "id": 1}`` the whole
    book comes first, ``{"e": "depthUpdate", "s": "BTCUSDT", "snapshot": true, "u": 80, "b": [...], "a": [...]}``.

    **Encodings.** With ``?compress=zlib`` in the URL, all frames of a connection are pieces of one zlib stream. With
    ``?format=msgpack`` both sides send MessagePack. With ``?format=ndjson`` each frame has a line of JSON for each
    message that is sent at the same time.

    **Dialects.** ``/rpc`` (:attr:`rpc_url`): JSON-RPC, with ids of subscriptions that differ on each connection.
    ``/graphql`` (:attr:`graphql_url`): the protocol graphql-transport-ws. ``/private`` (:attr:`private_url`): a signed
    login, which expires.

    **Resuming.** With ``?cursor=`` in the URL, each message contains a count of all messages, ``"c"``. With
    ``?cursor=17`` the exchange first sends the messages of the last minute again, from 17 on. ``{"method":
    "SUBSCRIBE", …, "cursor": 17, "epoch": 1}`` does that for the channels of the subscription, and the answer has
    ``"recovered"``, ``"cursor"`` and ``"epoch"``. ``/session`` first sends ``{"op": "hello", "session": …}``.
    ``/session?id=…&cursor=17`` resumes that session: the exchange sends the messages again and then
    ``{"op": "resumed"}``, or ``{"op": "invalid"}``. See :attr:`replays_cursor`, :attr:`shows_last_first`,
    :attr:`greets` and :meth:`forget`.

    **HTTP**, at :attr:`http_url`: ``/listenKey`` (GET or POST) returns ``{"listenKey": …}``; ``/depth?symbol=BTCUSDT``
    returns the book, ``{"lastUpdateId": …, "bids": [[price, quantity], …], "asks": …}``;
    ``/trades?symbol=BTCUSDT&after=17`` returns the trades after number 17, in the form of the feed; see
    :class:`~rxws.demo.trades.Trades`.

    Attributes:
        server: the FeedServer that it runs on, with its connections, handshakes and faults.
        market: prices and books.
        trades: answers ``/trades``; its attributes and methods make the answers late, short or wrong.
        lag: each message reaches each connection after its own lag, drawn uniformly from 0 to this many seconds; the
            order on each channel is kept. It may be changed at any time.
        snapshot_lag: the number of changes by which ``/depth`` is behind the feed. It may be changed at any time.
        snapshot_delay: seconds until ``/depth`` answers, with the book at the end of that time. With :attr:`lag` the
            snapshot can be ahead of the feed. It may be changed at any time.
        replays_cursor: whether a replay begins with the cursor's own message (the default), or with the next one.
        shows_last_first: whether the last message of each channel is sent first, with or without a replay.
        greets: whether each connection first gets a greeting, ``{"hello": …}``, which differs each time.
    """

    def __new__(cls, server: FeedServer, **options: Any) -> Self:
        """Make the string here, because ``__init__`` cannot set the value of a ``str``."""
        return super().__new__(cls, server.url)

    def __init__(
        self,
        server: FeedServer,
        *,
        market: Market,
        seed: int,
        start: float | None,
        keys: ListenKeys,
        max_messages_per_second: int | None,
        lag: float,
        snapshot_lag: int,
        snapshot_delay: float,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.server = server
        self.market = market
        self.lag = lag
        self.snapshot_lag = snapshot_lag
        self.snapshot_delay = snapshot_delay
        self._epoch = (time.time() if start is None else start) - loop.time()
        # Lags have their own random generator, so that drawing a lag does not change the prices.
        self._lag_random = random.Random(f"lags {seed}")
        self._keys = keys
        self._limit = max_messages_per_second
        self._dispatcher = DelayedDelivery()
        self._subscriptions: dict[FeedConnection, set[str] | None] = {}
        self._dialects: dict[FeedConnection, Dialect] = {}
        self._dropped_deltas: Counter[str | None] = Counter()
        self._failed_snapshots: deque[int] = deque()
        self._history = History()
        self._counted: set[FeedConnection] = set()
        self._sessions: set[str] = set()
        self._rate = 0.0
        self._running: asyncio.Task[None] | None = None
        self.replays_cursor = True
        self.shows_last_first = self.greets = False
        server.script = self._serve
        server.admit = self._admit
        self.trades = Trades(market.symbols)
        server.http = {
            "/listenKey": lambda request: {"listenKey": keys.make()},
            "/depth": self._snapshot,
            "/trades": self.trades.answer,
        }

    def __repr__(self) -> str:
        return f"<DemoExchange {self.http_url}>"

    # Addresses

    @property
    def url(self) -> str:
        """The URL of the feed on which all channels are subscribed, as a plain string."""
        return str.__str__(self)

    @property
    def stream_url(self) -> str:
        """The URL of the feed on which no channel is subscribed at first."""
        return self.url.removesuffix("/ws") + "/stream"

    @property
    def rpc_url(self) -> str:
        """The URL of the feed in JSON-RPC, see :class:`~rxws.demo.dialects.rpc.Rpc`."""
        return self.url.removesuffix("/ws") + "/rpc"

    @property
    def graphql_url(self) -> str:
        """The URL of the feed in GraphQL, see :class:`~rxws.demo.dialects.graphql.GraphQL`."""
        return self.url.removesuffix("/ws") + "/graphql"

    @property
    def private_url(self) -> str:
        """The URL of the feed with a login, see :class:`~rxws.demo.dialects.private.Private`."""
        return self.url.removesuffix("/ws") + "/private"

    @property
    def http_url(self) -> str:
        """The origin of the HTTP endpoints."""
        return self.server.http_url

    def key_url(self, listen_key: str) -> str:
        """Return the URL of the feed of a listen key."""
        return f"{self.url}/{listen_key}"

    async def get_json(self, path: str, *, timeout: float = 5.0) -> Any:
        """GET from one of the endpoints: ``await exchange.get_json("/depth?symbol=BTCUSDT")``.

        Raises:
            rxws.testing.HttpError: the status is not 2xx.
            TimeoutError: there was no answer within ``timeout`` seconds.
        """
        return await get_json(self.http_url + path, timeout=timeout)

    # State

    @property
    def channels(self) -> list[str]:
        """The names of all channels."""
        return self.market.channels

    @property
    def numbers(self) -> dict[str, int]:
        """The last number of each channel on which messages were published."""
        return dict(self.market.numbers)

    @property
    def published(self) -> int:
        """The number of messages that have been published."""
        return self.market.numbers.total()

    @property
    def connections(self) -> int:
        """How many connections are live."""
        return len(self.server.connections)

    def book(self, symbol: str) -> dict[str, Any]:
        """Return the true order book now, in the form of a snapshot of ``/depth``."""
        return self.market.book(symbol)

    # Control

    @property
    def rate(self) -> float:
        """Messages a second, of all channels together. It may be set at any time; 0 pauses the exchange.

        Setting it raises ValueError if the rate is negative or not finite.
        """
        return self._rate

    @rate.setter
    def rate(self, rate: float) -> None:
        if not 0 <= rate < math.inf:
            raise ValueError(f"rate: expected a finite number of messages a second, 0 or more, got {rate!r}")
        self._rate = rate
        if self._running is not None:
            self._running.cancel()
        self._running = asyncio.create_task(self._run(rate)) if rate else None

    async def publish(self, count: int = 1) -> None:
        """Publish the next ``count`` messages now, in addition to those at the exchange's rate.

        Other tasks can run every hundred messages. The exchange does not wait for a client that does not read: it cuts
        the connection when 64 MiB wait for the client.
        """
        loop = asyncio.get_running_loop()
        for n in range(1, count + 1):
            self._publish(self._epoch + loop.time())
            if n % _BATCH == 0:
                await asyncio.sleep(0)
                for connection in self.server.connections:
                    if connection.websocket.transport.get_write_buffer_size() > _MOST_UNREAD:
                        connection.reset()

    async def cut(self) -> int:
        """Reset all connections, without a close frame; return how many there were."""
        count = self.connections
        self.server.reset()
        return count

    def slow(self, seconds: float, *, times: int | None = 1) -> None:
        """Make the next handshakes take this many seconds. (For slow messages, set :attr:`lag`.)"""
        self.server.slow_handshake(seconds, times=times)

    def refuse(self, status: int = 503, *, headers: dict[str, str] | None = None, times: int | None = 1) -> None:
        """Answer the next ``times`` handshakes with an HTTP status; None: all until ``exchange.server.accept()``."""
        self.server.refuse(status, headers, times=times)

    def drop_deltas(self, count: int = 1, *, symbol: str | None = None) -> None:
        """Send the next changes of a symbol's book (None: of any book) to no client: their numbers are missing.

        The true book contains the changes.
        """
        self._dropped_deltas[symbol] += count

    def fail_snapshots(self, count: int = 1, *, status: int = 503) -> None:
        """Answer the next requests for ``/depth`` with an HTTP status."""
        self._failed_snapshots.extend([status] * count)

    def end_subscriptions(self, channel: str) -> None:
        """End all subscriptions of a channel, as when a symbol is no longer traded, and tell the clients.

        On :attr:`stream_url` they get ``{"e": "unsubscribed", "channel": "btcusdt@trade"}``, in the dialects a notice
        of their own.
        """
        for connection, subscribed in self._subscriptions.items():
            if subscribed is not None and channel in subscribed:
                self._subscriptions[connection] = subscribed - {channel}
                self._deliver(connection, channel, {"e": "unsubscribed", "channel": channel})
        for connection, dialect in self._dialects.items():
            notice = dialect.end(channel)
            if notice is not None:
                self._deliver(connection, channel, notice)

    def forget(self) -> None:
        """Forget all messages, sessions and cursors, like an exchange that was restarted."""
        self._history.forget()
        self._sessions.clear()

    def expire_listen_keys(self) -> None:
        """Make all listen keys expire now."""
        self._keys.expire_all()

    # Implementation

    async def _run(self, rate: float) -> None:
        loop = asyncio.get_running_loop()
        start, published = loop.time(), 0
        while True:
            # Publish at most every 10 ms, because the loop's timers are accurate only to about a millisecond.
            await asyncio.sleep(max(0.01, start + (published + 1) / rate - loop.time()))
            due = int((loop.time() - start) * rate + 1e-6) - published
            await self.publish(due)
            published += due

    def _publish(self, now: float) -> None:
        channel, message = self.market.next(now)
        if message["e"] == "depthUpdate":
            for symbol in (message["s"], None):
                if self._dropped_deltas[symbol]:
                    self._dropped_deltas[symbol] -= 1
                    return
        self.trades.add(message)
        counted = self._history.add(now, channel, message)
        text = msgspec.json.encode(message).decode()
        counted_text = msgspec.json.encode(counted).decode() if self._counted else text
        for connection, subscribed in self._subscriptions.items():
            if subscribed is None or channel in subscribed:
                self._deliver(connection, channel, counted_text if connection in self._counted else text)
        for connection, dialect in self._dialects.items():
            translated = dialect.publish(channel, message)
            if translated is not None:
                self._deliver(connection, channel, translated)

    def _deliver(self, connection: FeedConnection, channel: str, message: Any) -> None:
        lag = self._lag_random.uniform(0, self.lag) if self.lag else 0.0
        self._dispatcher.deliver(connection, channel, message, lag)

    def _admit(self, handshake: Handshake) -> HttpResponse | None:
        path = urlsplit(handshake.path).path
        if path in ("/", "/ws", "/stream", "/session", *DIALECTS):
            return None
        if not path.startswith("/ws/"):
            return HttpResponse("no such feed\n", 404)
        return None if path.removeprefix("/ws/") in self._keys else HttpResponse("no such listen key\n", 401)

    async def _serve(self, connection: FeedConnection) -> None:
        path = urlsplit(connection.path).path
        asked = dict(parse_qsl(urlsplit(connection.path).query, keep_blank_values=True))
        connection = encoded(connection, asked)
        if path in DIALECTS:
            await self._converse(connection, DIALECTS[path](self.market, connection.number))
            return
        key = path.removeprefix("/ws/") if path.startswith("/ws/") else None
        if key is not None and not self._keys.join(key, connection):
            # The key has expired since the handshake was admitted.
            await connection.close(1000, "listen key expired")
            return
        if self.greets:
            connection.send_nowait({"hello": random.randrange(2**53)})
        if "cursor" in asked or path == "/session":
            self._counted.add(connection)
            self._history.is_kept = True
        if path == "/session":
            self._begin_session(connection, asked)
        elif path != "/stream" and "cursor" in asked:
            self._replay(connection, _number_of(asked["cursor"]), self.channels)
        self._subscriptions[connection] = set() if path == "/stream" else None
        times: deque[float] = deque(maxlen=self._limit)
        loop = asyncio.get_running_loop()
        try:
            async for message in connection:
                if self._limit is not None:
                    if len(times) == self._limit and loop.time() - times[0] < 1.0:
                        await connection.close(1008, "too many messages")
                        return
                    times.append(loop.time())
                answer = self._answer(connection, message)
                if answer is not None:
                    connection.send_nowait(answer)
        finally:
            del self._subscriptions[connection]
            self._counted.discard(connection)
            self._keys.leave(connection)

    async def _converse(self, connection: FeedConnection, dialect: Dialect) -> None:
        self._dialects[connection] = dialect
        try:
            async for message in connection:
                for answer in dialect.answer(message):
                    connection.send_nowait(answer)
        finally:
            del self._dialects[connection]

    def _begin_session(self, connection: FeedConnection, asked: dict[str, str]) -> None:
        session = asked.get("id", "")
        if session in self._sessions:
            is_known = self._replay(connection, _number_of(asked.get("cursor", "")), self.channels)
            connection.send_nowait({"op": "resumed" if is_known else "invalid"})
            return
        if session:
            connection.send_nowait({"op": "invalid"})
        self._sessions.add(session := f"{random.getrandbits(64):016x}")
        connection.send_nowait({"op": "hello", "session": session})

    def _replay(self, connection: FeedConnection, cursor: int | None, channels: Sequence[str]) -> bool:
        """Send the kept messages from the cursor on again. Return whether all messages since then were kept."""
        if self.shows_last_first:
            for message in self._history.last_of(channels):
                connection.send_nowait(message)
        if cursor is None or not self._history.knows(cursor):
            return False
        for message in self._history.since(cursor, channels, includes=self.replays_cursor):
            connection.send_nowait(message)
        return True

    def _answer(self, connection: FeedConnection, message: str | bytes) -> dict[str, Any] | None:
        """Return the answer to a request, or None if this method has already sent the answer.

        It sends the answer itself before repeated messages and before snapshots.
        """
        try:
            request = msgspec.json.decode(message, type=_Request)
        except msgspec.DecodeError:
            return {"error": {"code": 1, "msg": "expected method, params and id"}, "id": None}
        subscribed = self._subscriptions[connection]
        if request.method == "LIST_SUBSCRIPTIONS":
            return {"result": self.channels if subscribed is None else sorted(subscribed), "id": request.id}
        known = set(self.channels)
        if request.method not in ("SUBSCRIBE", "UNSUBSCRIBE"):
            return {"error": {"code": 2, "msg": "no such method"}, "id": request.id}
        if not known.issuperset(request.params):
            return {"error": {"code": 3, "msg": "no such channel"}, "id": request.id}
        wanted = set(request.params)
        subscribed = known if subscribed is None else subscribed
        self._subscriptions[connection] = subscribed | wanted if request.method == "SUBSCRIBE" else subscribed - wanted
        answer = {"result": None, "id": request.id}
        if request.snapshot and request.method == "SUBSCRIBE":
            connection.send_nowait(answer)
            for symbol in self.market.symbols:
                if (channel := channel_of(symbol, "depth")) in wanted:
                    self._deliver(connection, channel, msgspec.json.encode(self.market.snapshot(symbol)).decode())
            return None
        if request.method == "SUBSCRIBE" and connection in self._counted:
            is_known = request.cursor is not None and request.epoch in (None, self._history.epoch)
            recovered = is_known and self._history.knows(request.cursor or 0)
            connection.send_nowait(
                answer | {"recovered": recovered, "cursor": self._history.count, "epoch": self._history.epoch}
            )
            self._replay(connection, request.cursor if recovered else None, request.params)
            return None
        return answer

    # HTTP

    async def _snapshot(self, request: HttpRequest) -> Any:
        await asyncio.sleep(self.snapshot_delay)
        if self._failed_snapshots:
            return HttpResponse("try again\n", self._failed_snapshots.popleft())
        symbol = request.query.get("symbol", "")
        if symbol not in self.market.symbols:
            return HttpResponse({"msg": "no such symbol"}, 400)
        return self.market.book(symbol, behind=self.snapshot_lag)

    async def _end(self) -> None:
        running, self.rate = self._running, 0.0
        self._dispatcher.clear()
        await self._keys.end()
        if running is not None:
            await asyncio.wait([running], timeout=5.0)
            if not running.cancelled():
                running.result()


class _Request(msgspec.Struct):
    method: str
    params: list[str] = []
    id: int | str | None = None
    cursor: int | None = None
    epoch: int | None = None
    snapshot: bool = False


def _number_of(cursor: str) -> int | None:
    return int(cursor) if cursor.isascii() and cursor.isdigit() else None


@asynccontextmanager
async def serve(
    *,
    symbols: Sequence[str] = SYMBOLS,
    seed: int = 0,
    rate: float = 100.0,
    host: str = "127.0.0.1",
    port: int = 0,
    start: float | None = None,
    listen_key_lifetime: float = 3600.0,
    listen_key_grace: float = 5.0,
    max_messages_per_second: int | None = None,
    lag: float = 0.0,
    snapshot_lag: int = 0,
    snapshot_delay: float = 0.0,
    **options: Any,
) -> AsyncIterator[DemoExchange]:
    """Serve the demo exchange on loopback while the block runs.

    Args:
        symbols: the traded symbols; by default 20.
        seed: the same seed gives the same messages in the same order.
        rate: messages a second, of all channels together, see :attr:`DemoExchange.rate`; 0: messages come only from
            ``exchange.publish(n)``.
        host: the address to listen on.
        port: the port; 0 takes a free one.
        start: the time of the first ``T``, in seconds since the epoch; None: now. With ``start=0`` in virtual time even
            ``T`` is the same in every run.
        listen_key_lifetime: seconds until a listen key expires.
        listen_key_grace: seconds from the ``listenKeyExpired`` message until the connection is closed.
        max_messages_per_second: the exchange closes the connection of a client that sends more, with 1008; None: no
            limit.
        lag: the longest lag of a message, in seconds, see :class:`DemoExchange`.
        snapshot_lag: the number of changes by which snapshots are behind the feed.
        snapshot_delay: seconds until a request for a snapshot is answered.
        options: more options for :class:`rxws.testing.FeedServer`, such as ``allow_origins`` and ``allow_hosts``, which
            let web pages use the exchange.

    Returns:
        A context manager whose value is a :class:`DemoExchange`: a string, the URL.

    Example::

        async with rxws.demo.serve() as exchange, rxws.ReactiveWebSocket(exchange) as feed:
            async for trade in feed.stream_filter([{"e": "trade", "s": "BTCUSDT"}]):
                ...
    """
    async with FeedServer(host=host, port=port, path="/ws", **options) as server:
        exchange = DemoExchange(
            server,
            market=Market(symbols, seed=seed),
            seed=seed,
            start=start,
            keys=ListenKeys(lifetime=listen_key_lifetime, grace=listen_key_grace, seed=seed),
            max_messages_per_second=max_messages_per_second,
            lag=lag,
            snapshot_lag=snapshot_lag,
            snapshot_delay=snapshot_delay,
        )
        exchange.rate = rate
        try:
            yield exchange
        finally:
            await exchange._end()
