"""The demo exchange: numbered messages, listen keys that expire, and faults on request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections import defaultdict
from urllib.parse import urlsplit

import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

from rxws import demo
from rxws.demo.__main__ import main
from rxws.testing import HttpError, assert_no_leaks, serve_in_process


def connect(url, **options):
    """Connect without compression, proxy and pings."""
    return websockets.connect(url, **{"compression": None, "proxy": None, "ping_interval": None} | options)


async def receive(client, count):
    """Receive ``count`` messages and decode them."""
    async with asyncio.timeout(5):
        return [json.loads(await client.recv()) for _ in range(count)]


async def closing(client):
    """Read to the end of the connection; return the messages."""
    messages = []
    with contextlib.suppress(ConnectionClosed):
        async for message in client:
            messages += [json.loads(message)]  # A list comprehension would lose the messages before the end.
    return messages


def channel(message):
    """Return the name of a message's channel."""
    kind = {"depthUpdate": "depth"}.get(message["e"], message["e"])
    return demo.channel_of(message["s"], kind)


def numbers_by_channel(messages):
    """Return the received numbers of each channel, in order."""
    numbers = defaultdict(list)
    for message in messages:
        numbers[channel(message)].append(message["n"])
    return dict(numbers)


class OrderBook:
    """An order book, kept from a snapshot and the changes after it."""

    def __init__(self, snapshot):
        self.last = snapshot["lastUpdateId"]
        self.bids = dict(snapshot["bids"])
        self.asks = dict(snapshot["asks"])

    def apply(self, update):
        if update["u"] <= self.last:
            return
        assert update["U"] <= self.last + 1
        for side, changes in ((self.bids, update["b"]), (self.asks, update["a"])):
            for price, quantity in changes:
                if quantity:
                    side[price] = quantity
                else:
                    side.pop(price)
        self.last = update["u"]

    def snapshot(self):
        return {
            "lastUpdateId": self.last,
            "bids": [list(level) for level in sorted(self.bids.items(), reverse=True)],
            "asks": [list(level) for level in sorted(self.asks.items())],
        }


class WhatTheDemoDoes:
    """Tests for every loop; the subclasses choose the loop."""

    @pytest.fixture
    async def exchange(self):
        async with assert_no_leaks(), demo.serve(rate=0, listen_key_lifetime=60, listen_key_grace=0.1) as exchange:
            yield exchange

    async def test_exchange_is_its_url(self, exchange):
        """The value of ``serve()`` is a string: the URL of the feed on which all channels are subscribed."""
        parts = urlsplit(exchange)
        assert (parts.scheme, parts.hostname, parts.path) == ("ws", "127.0.0.1", "/ws")
        assert exchange == exchange.url == f"{exchange}"
        assert type(exchange.url) is str
        assert exchange.stream_url == f"ws://{parts.netloc}/stream"
        assert repr(exchange) == f"<DemoExchange http://{parts.netloc}>"

    async def test_every_connection_gets_the_same_numbered_messages(self, exchange):
        """The numbers of each channel run from 1 without holes; every connection gets those since its opening."""
        async with connect(exchange) as first:
            await exchange.publish(500)
            async with connect(exchange) as second:
                assert exchange.connections == 2
                before = exchange.numbers
                await exchange.publish(1_000)
                one, two = await asyncio.gather(receive(first, 1_500), receive(second, 1_000))
        assert one[500:] == two
        for name, numbers in numbers_by_channel(one).items():
            assert numbers == list(range(1, exchange.numbers[name] + 1))
        for name, numbers in numbers_by_channel(two).items():
            assert numbers[0] == before.get(name, 0) + 1
        assert exchange.published == 1_500
        assert set(numbers_by_channel(one)) == set(exchange.channels)
        assert len(exchange.channels) == 60

    async def test_root_is_the_feed_too(self, exchange):
        """All channels are also subscribed at ``ws://HOST:PORT``, without a path."""
        async with connect(f"ws://{urlsplit(exchange).netloc}") as client, connect(exchange) as other:
            await exchange.publish(100)
            assert await receive(client, 100) == await receive(other, 100)

    async def test_messages_have_the_fields_of_their_kind(self, exchange):
        """Trades, best prices and changes of books have the documented fields."""
        async with connect(exchange) as client:
            await exchange.publish(200)
            examples = {message["e"]: message for message in await receive(client, 200)}
        assert {kind: set(message) for kind, message in examples.items()} == {
            "trade": {"e", "s", "p", "q", "T", "n"},
            "bookTicker": {"e", "s", "b", "B", "a", "A", "n"},
            "depthUpdate": {"e", "s", "U", "u", "b", "a", "n"},
        }
        assert examples["bookTicker"]["b"] < examples["bookTicker"]["a"]
        assert examples["trade"]["p"] > 0 < examples["trade"]["q"]

    async def test_messages_are_the_same_when_the_seed_is(self):
        """The same seed gives the same messages, even if a listen key is made meanwhile; another seed gives others."""
        runs = []
        for seed in (1, 1, 2):
            async with demo.serve(rate=0, seed=seed, start=1_000) as exchange, connect(exchange) as client:
                if len(runs) == 1:
                    await exchange.get_json("/listenKey")
                await exchange.publish(100)
                runs.append([message | {"T": 0} for message in await receive(client, 100)])
        assert runs[0] == runs[1] != runs[2]

    async def test_order_per_channel_is_kept_when_messages_lag(self, exchange):
        """With a lag, channels interleave differently on each connection, but each channel stays in order."""
        exchange.lag = 0.05
        async with connect(exchange) as first, connect(exchange) as second:
            await exchange.publish(600)
            one, two = await asyncio.gather(receive(first, 600), receive(second, 600))
        assert one != two
        assert numbers_by_channel(one) == numbers_by_channel(two)
        assert all(numbers == sorted(numbers) for numbers in numbers_by_channel(one).values())

    async def test_stream_sends_a_channel_when_it_is_subscribed(self, exchange):
        """``/stream`` acknowledges a subscription by its id, and sends the channel until it is unsubscribed."""
        async with connect(exchange.stream_url) as client:
            await exchange.publish(50)
            await client.send('{"method": "SUBSCRIBE", "params": ["btcusdt@trade", "ethusdt@depth"], "id": 1}')
            assert await receive(client, 1) == [{"result": None, "id": 1}]
            before = exchange.numbers
            await exchange.publish(500)
            after = exchange.numbers
            count = sum(after[name] - before.get(name, 0) for name in ("btcusdt@trade", "ethusdt@depth"))
            assert set(numbers_by_channel(await receive(client, count))) == {"btcusdt@trade", "ethusdt@depth"}
            await client.send('{"method": "UNSUBSCRIBE", "params": ["btcusdt@trade"], "id": "two"}')
            await client.send('{"method": "LIST_SUBSCRIPTIONS", "id": 3}')
            assert await receive(client, 2) == [{"result": None, "id": "two"}, {"result": ["ethusdt@depth"], "id": 3}]

    async def test_ws_ends_a_channel_when_it_is_unsubscribed(self, exchange):
        """On ``/ws`` all channels are subscribed, and a channel ends when it is unsubscribed."""
        async with connect(exchange) as client:
            await client.send('{"method": "LIST_SUBSCRIPTIONS", "id": 1}')
            (listed,) = await receive(client, 1)
            assert listed["result"] == exchange.channels
            everything_else = [name for name in exchange.channels if name != "btcusdt@trade"]
            await client.send(json.dumps({"method": "UNSUBSCRIBE", "params": everything_else, "id": 2}))
            await receive(client, 1)
            await exchange.publish(300)
            messages = await receive(client, exchange.numbers["btcusdt@trade"])
            assert set(numbers_by_channel(messages)) == {"btcusdt@trade"}

    @pytest.mark.parametrize(
        ("message", "answer"),
        [
            ("no JSON", {"error": {"code": 1, "msg": "expected method, params and id"}, "id": None}),
            ('{"method": "SUBSCRIBE", "params": 5, "id": 1}', None),
            ('{"method": "SING", "id": 1}', {"error": {"code": 2, "msg": "no such method"}, "id": 1}),
            (
                '{"method": "SUBSCRIBE", "params": ["x@trade"], "id": 1}',
                {"error": {"code": 3, "msg": "no such channel"}, "id": 1},
            ),
        ],
    )
    async def test_answer_is_an_error_when_the_request_is_invalid(self, exchange, message, answer):
        """An invalid request gets an error as its answer, and the connection stays open."""
        async with connect(exchange.stream_url) as client:
            await client.send(message)
            (got,) = await receive(client, 1)
            assert got == answer or (answer is None and got["error"]["code"] == 1)

    async def test_client_is_closed_when_it_sends_too_much(self):
        """With a limit of 5 messages a second, the sixth in a second closes the connection with 1008."""
        async with demo.serve(rate=0, max_messages_per_second=5) as exchange, connect(exchange.stream_url) as client:
            for n in range(6):
                await client.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": n}))
            assert len(await closing(client)) == 5
            assert (client.close_code, client.close_reason) == (1008, "too many messages")

    async def test_connections_are_closed_when_their_listen_key_expires(self, exchange):
        """When a listen key expires, its connections get a message and are closed; later handshakes get 401."""
        key = (await exchange.get_json("/listenKey"))["listenKey"]
        async with connect(exchange.key_url(key)) as client:
            await exchange.publish(3)
            await receive(client, 3)
            exchange.expire_listen_keys()
            began = asyncio.get_running_loop().time()
            await exchange.publish(1)
            messages = await closing(client)
            assert messages[0] == {"e": "listenKeyExpired", "listenKey": key}
            assert len(messages) == 2
            assert 0.09 < asyncio.get_running_loop().time() - began < 1
            assert client.close_code == 1000
        with pytest.raises(InvalidStatus, match="401"):
            await connect(exchange.key_url(key))

    async def test_listen_key_expires_after_its_lifetime(self):
        """A key expires after its lifetime, even when no connection uses it."""
        async with demo.serve(rate=0, listen_key_lifetime=0.1, listen_key_grace=0.05) as exchange:
            used, unused = [(await exchange.get_json("/listenKey"))["listenKey"] for _ in range(2)]
            assert used != unused
            async with connect(exchange.key_url(used)) as client:
                assert [message["e"] for message in await closing(client)] == ["listenKeyExpired"]
            for key in (used, unused, "nonsense"):
                with pytest.raises(InvalidStatus, match="401"):
                    await connect(exchange.key_url(key))

    async def test_only_live_connections_get_the_message_when_their_key_expires(self, exchange):
        """Only live connections get the message and are closed; an earlier end of one does not affect the others."""
        key = (await exchange.get_json("/listenKey"))["listenKey"]
        async with connect(exchange.key_url(key)) as stays:
            async with connect(exchange.key_url(key)):
                assert exchange.connections == 2
            exchange.expire_listen_keys()
            assert [message["e"] for message in await closing(stays)] == ["listenKeyExpired"]

    async def test_connection_is_closed_when_its_key_expires_during_the_handshake(self, exchange):
        """When a key expires between its check and the opening of the connection, the connection is closed."""
        key = (await exchange.get_json("/listenKey"))["listenKey"]
        admit = exchange.server.admit

        def admit_and_expire(handshake):
            refusal = admit(handshake)
            exchange.expire_listen_keys()
            return refusal

        exchange.server.admit = admit_and_expire
        async with connect(exchange.key_url(key)) as client:
            assert await closing(client) == []
            assert client.close_reason == "listen key expired"

    async def test_listen_key_is_made_when_the_method_is_post(self, exchange):
        """The endpoint accepts POST without a body, as real exchanges do."""
        parts = urlsplit(exchange)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        request = f"POST /listenKey HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 0\r\n\r\n"
        writer.write(request.encode())
        answer = await reader.read()
        writer.transport.abort()
        assert b"200 OK" in answer.splitlines()[0]
        assert len(json.loads(answer.partition(b"\r\n\r\n")[2])["listenKey"]) == 64

    async def test_other_paths_are_404(self, exchange):
        """There are no other feeds and no other endpoints."""
        with pytest.raises(InvalidStatus, match="404"):
            await connect(exchange.url.replace("/ws", "/elsewhere"))
        with pytest.raises(HttpError, match="404"):
            await exchange.get_json("/elsewhere")

    async def test_book_from_a_snapshot_and_the_changes_is_the_true_one(self, exchange):
        """Changes are contiguous, and a snapshot with the changes after it always gives the true book."""
        async with connect(exchange.stream_url) as client:
            names = [demo.channel_of(symbol, "depth") for symbol in demo.SYMBOLS]
            await client.send(json.dumps({"method": "SUBSCRIBE", "params": names, "id": 1}))
            await receive(client, 1)
            await exchange.publish(300)
            books = {s: OrderBook(await exchange.get_json(f"/depth?symbol={s}")) for s in demo.SYMBOLS}
            await exchange.publish(3_000)
            last = {}
            for update in await receive(client, sum(exchange.numbers[name] for name in names)):
                assert update["U"] == last.get(update["s"], update["U"] - 1) + 1
                last[update["s"]] = update["u"]
                books[update["s"]].apply(update)
        for symbol, book in books.items():
            assert book.snapshot() == exchange.book(symbol)
            assert book.last > 20
            assert max(book.bids) < min(book.asks)

    async def test_snapshot_is_an_old_book_when_it_lags(self, exchange):
        """With ``snapshot_lag=k`` a snapshot is the book of k changes ago, or the oldest book that is kept."""
        await exchange.publish(1_000)
        now = exchange.book("BTCUSDT")
        exchange.snapshot_lag = 5
        old = await exchange.get_json("/depth?symbol=BTCUSDT")
        assert 5 <= now["lastUpdateId"] - old["lastUpdateId"] <= 100
        assert old == exchange.market.book("BTCUSDT", behind=5) != now
        exchange.snapshot_lag = 1_000_000
        assert (await exchange.get_json("/depth?symbol=BTCUSDT"))["lastUpdateId"] == 0
        exchange.snapshot_lag = 0
        assert await exchange.get_json("/depth?symbol=BTCUSDT") == now

    async def test_snapshot_shows_the_book_at_the_end_when_it_is_delayed(self, exchange):
        """A delayed snapshot shows the book at the end of the delay."""
        exchange.snapshot_delay = 0.1
        request = asyncio.create_task(exchange.get_json("/depth?symbol=BTCUSDT"))
        await asyncio.sleep(0.05)
        await exchange.publish(500)
        assert await request == exchange.book("BTCUSDT")

    async def test_snapshot_requests_fail_on_command(self, exchange):
        """``fail_snapshots`` makes ``count`` requests fail; requests for an unknown symbol always fail."""
        exchange.fail_snapshots(2, status=429)
        for _ in range(2):
            with pytest.raises(HttpError, match="429"):
                await exchange.get_json("/depth?symbol=BTCUSDT")
        assert await exchange.get_json("/depth?symbol=BTCUSDT") == exchange.book("BTCUSDT")
        for query in ("", "?symbol=XXX"):
            with pytest.raises(HttpError, match="400"):
                await exchange.get_json("/depth" + query)

    @pytest.mark.parametrize("symbol", [None, "ETHUSDT"])
    async def test_numbers_are_missing_when_deltas_are_dropped(self, exchange, symbol):
        """Dropped changes are in the true book, but no client receives them."""
        async with connect(exchange) as client:
            await exchange.publish(300)
            exchange.drop_deltas(3, symbol=symbol)
            await exchange.publish(1_000)
            messages = await receive(client, 1_297)
        missing = {
            name: set(range(1, exchange.numbers[name] + 1)) - set(numbers)
            for name, numbers in numbers_by_channel(messages).items()
        }
        lost = {name: len(numbers) for name, numbers in missing.items() if numbers}
        assert sum(lost.values()) == 3
        assert all(name.endswith("@depth") for name in lost)
        if symbol is not None:
            assert lost == {"ethusdt@depth": 3}

    async def test_cut_resets_all_connections(self, exchange):
        """A cut resets all connections without a close frame, and clients can connect again."""
        async with connect(exchange) as first, connect(exchange) as second:
            await asyncio.sleep(0.01)
            assert await exchange.cut() == 2
            for client in (first, second):
                assert await closing(client) == []
                assert client.close_code == 1006
        async with connect(exchange):
            assert exchange.connections == 1

    async def test_handshakes_are_refused_or_slow_on_command(self, exchange):
        """``times`` handshakes are refused or slow, and then they succeed again."""
        exchange.refuse(429, headers={"Retry-After": "2"}, times=2)
        for _ in range(2):
            with pytest.raises(InvalidStatus, match="429"):
                await connect(exchange)
        exchange.slow(0.1)
        began = asyncio.get_running_loop().time()
        async with connect(exchange):
            assert 0.09 < asyncio.get_running_loop().time() - began < 1

    async def test_nothing_is_left_when_the_block_is_left(self):
        """The end of the block leaves nothing behind: no valid key, stalled connection or undelivered message."""
        async with assert_no_leaks():
            async with demo.serve(rate=200, lag=30, listen_key_grace=30) as exchange:
                keys = [(await exchange.get_json("/listenKey"))["listenKey"] for _ in range(2)]
                async with connect(exchange.key_url(keys[0]), close_timeout=0.05) as client:
                    await asyncio.sleep(0.05)
                    exchange.expire_listen_keys()
                    exchange.server.stall()
                    await exchange.get_json("/listenKey")
            assert client.close_code == 1006


class TestDemo(WhatTheDemoDoes):
    """On real sockets."""


class TestDemoInVirtualTime(WhatTheDemoDoes):
    """On sockets in memory."""

    pytestmark = pytest.mark.usefixtures("virtual_time")


async def test_rate_is_messages_a_second(virtual_time):
    """Messages are published at the rate, and ``T`` counts from ``start``."""
    async with demo.serve(rate=400, start=5_000) as exchange, connect(exchange) as client:
        messages = await receive(client, 200)
    times = [message["T"] for message in messages if message["e"] == "trade"]
    assert 5_000_000 <= times[0] < 5_000_050
    assert 450 < times[-1] - times[0] < 510


async def test_rate_is_kept_for_days_in_virtual_time(virtual_time):
    """In virtual time a slow exchange keeps its rate for days."""
    async with demo.serve(rate=0.01, start=0) as exchange, connect(exchange) as client:
        messages = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2 * 86_400):
                async for message in client:
                    messages += [json.loads(message)]
    assert len(messages) in (1_727, 1_728)
    assert next(m["T"] for m in reversed(messages) if m["e"] == "trade") > 172_000_000


async def test_rate_changes_while_the_exchange_runs(virtual_time):
    """A new rate holds at once: 0 pauses, and a paused exchange continues. A rate that is no rate is refused."""
    async with demo.serve(rate=0.001) as exchange:
        exchange.rate = 100
        await asyncio.sleep(1)
        assert exchange.published in (99, 100)
        exchange.rate = 0
        before = exchange.published
        await asyncio.sleep(1_000)
        assert exchange.published == before
        exchange.rate = 10
        await asyncio.sleep(10)
        assert exchange.published - before in (99, 100)
        for wrong in (-1, float("inf"), float("nan")):
            with pytest.raises(ValueError, match="rate"):
                exchange.rate = wrong
        assert exchange.rate == 10


async def test_client_is_not_closed_when_it_keeps_to_the_limit(virtual_time):
    """A client may send five messages in every second without being closed."""
    async with demo.serve(rate=0, max_messages_per_second=5) as exchange, connect(exchange.stream_url) as client:
        for n in range(100):
            await client.send(json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": n}))
            await asyncio.sleep(0.201)
        assert len(await receive(client, 100)) == 100


async def test_hanging_close_is_given_up_when_the_block_is_left():
    """When the block is left, a closing handshake that hangs is aborted."""
    async with assert_no_leaks(), demo.serve(rate=0, listen_key_grace=0.01) as exchange:
        key = (await exchange.get_json("/listenKey"))["listenKey"]
        client = await connect(exchange.key_url(key), close_timeout=0.05)
        client.transport.pause_reading()
        exchange.expire_listen_keys()
        await asyncio.sleep(0.05)
        client.transport.abort()


async def test_client_is_cut_when_it_never_reads():
    """A client is cut when 64 MiB wait for it, and the other clients are not affected."""
    async with demo.serve(rate=0) as exchange, connect(exchange, close_timeout=0.05) as client:
        (connection,) = exchange.server.connections
        client.transport.pause_reading()
        for _ in range(80):
            connection.send_nowait(b"x" * 2**20)
        await exchange.publish(100)
        assert exchange.connections == 0


async def test_exception_in_the_market_is_raised_when_the_block_is_left(monkeypatch):
    """The end of the block raises an exception of the exchange itself."""

    async def block():
        async with demo.serve(rate=100) as exchange:
            monkeypatch.setattr(exchange.market, "next", None)
            await asyncio.sleep(0.05)

    with pytest.raises(TypeError):
        await block()


def test_market_is_rejected_when_it_has_no_symbols():
    """A market needs at least one symbol, and accepts unknown ones."""
    with pytest.raises(ValueError, match="symbols: expected"):
        demo.Market([])
    market = demo.Market(["MINE"])
    assert {market.next(0.0)[0].partition("@")[0] for _ in range(10)} == {"mine"}


async def test_module_serves_in_its_own_process_until_it_is_interrupted():
    """``python -m rxws.demo`` prints its URL, serves, and exits cleanly on SIGINT and SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        async with serve_in_process("--rate", "200", "--seed", "3", module="rxws.demo") as server:
            assert urlsplit(server.url).path == "/ws"
            async with connect(server.url) as client:
                await receive(client, 5)
                server.process.send_signal(number)
                await closing(client)
                assert client.close_code == 1001
            assert await server.wait() == 0


async def test_module_cuts_all_connections_repeatedly_when_given_an_interval():
    """``--cut-every`` resets all connections each time that its seconds have passed."""
    async with serve_in_process("--cut-every", "0.3", module="rxws.demo") as server:
        for _ in range(2):
            async with connect(server.url) as client:
                await closing(client)
                assert client.close_code == 1006


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "often"])
def test_main_refuses_an_interval_of_cuts_that_is_not_positive(seconds, capsys):
    """``--cut-every`` takes a positive, finite number of seconds."""
    with pytest.raises(SystemExit, match="2"):
        main(["--cut-every", seconds])
    assert "--cut-every" in capsys.readouterr().err


def test_main_serves_for_its_seconds(capsys):
    """``--seconds`` ends the server after this time."""
    assert main(["--seconds", "0.01", "--rate", "10"]) == 0
    assert capsys.readouterr().out.startswith("ws://127.0.0.1:")
