"""The recipes of the guide for the dialects of venues, on the demo exchange, with faults."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from typing import Any

import msgspec
import pytest
import websockets

import rxws
from rxws import demo
from tests.support.feeds import of_kind, record
from tests.support.guide import named

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


class Watched(rxws.ReactiveWebSocket[Any]):
    """A feed that a test can find after a program has made it."""

    feeds: list[rxws.ReactiveWebSocket[Any]]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.feeds.append(self)
        self.seen = record(self.events)


@pytest.fixture
def feeds(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the list of the feeds that programs make."""
    Watched.feeds = []
    monkeypatch.setattr(rxws, "ReactiveWebSocket", Watched)
    return Watched.feeds


def program(name: str) -> Any:
    """Return the function ``main`` of a program of the guide."""
    names: dict[str, Any] = {"__name__": "guide"}
    exec(named(name), names)
    return names["main"]


async def test_login_is_made_on_every_connection(feeds: list[Any], capsys: Any) -> None:
    """The program logs in again when the feed rotates, and the messages continue."""
    async with demo.serve(rate=500) as exchange:
        await program("login.py")(exchange.private_url, b"demo secret")
        assert capsys.readouterr().out.count("'e': 'trade'") == 2
        assert (exchange.server.opened, feeds[0].statistics().failures) == (2, 0)
        feeds.clear()


async def test_login_that_is_refused_ends_the_feed(feeds: list[Any]) -> None:
    """A wrong secret is not tried again; the error has the server's text."""
    async with demo.serve() as exchange:
        with pytest.raises(rxws.ConnectFailed, match="wrong key or signature"):
            await program("login.py")(exchange.private_url, b"another secret")
        assert exchange.server.opened == 1
        feeds.clear()


async def test_token_is_renewed_before_it_expires(feeds: list[Any], capsys: Any) -> None:
    """With renewals the messages continue; an exchange that refuses one is left for a new connection."""
    async with demo.serve(rate=500) as exchange:
        running = asyncio.ensure_future(program("token.py")(exchange.private_url, 20))
        await asyncio.sleep(10)
        [connection] = exchange.server.connections
        assert len([each for each in connection.received if '"login"' in str(each)]) > 10
        assert of_kind(rxws.SubscriptionEnded, feeds[0].seen) == []
        await exchange.cut()
        await running
        assert exchange.server.opened == 2
        assert (
            feeds[0].statistics().messages == int(capsys.readouterr().out.split()[0]) + 2
        )  # the subscriptions' answers
        assert feeds[0].statistics().rejected == 0
        feeds.clear()


async def test_book_by_requests_is_right_when_the_connection_is_cut(feeds: list[Any], capsys: Any) -> None:
    """Snapshots and changes on one websocket make the exchange's book, over cuts, holes and a rotation."""
    async with demo.serve(rate=500, symbols=["BTCUSDT", "ETHUSDT"]) as exchange:
        running = asyncio.ensure_future(program("rpc_book.py")(exchange.rpc_url, "BTCUSDT", 20))
        await asyncio.sleep(3)
        await exchange.cut()
        await asyncio.sleep(3)
        exchange.drop_deltas(symbol="BTCUSDT")
        await asyncio.sleep(3)
        await feeds[0].rotate()
        await running
        bids, asks = exchange.book("BTCUSDT")["bids"], exchange.book("BTCUSDT")["asks"]
        shown = f"{len(bids)} bids, {len(asks)} asks, best {bids[0][0]} / {asks[0][0]}> in sync"
        assert shown in capsys.readouterr().out
        assert of_kind(rxws.CallbackFailed, feeds[0].seen) == []
        feeds.clear()


async def test_frames_in_other_encodings_are_messages(feeds: list[Any], capsys: Any) -> None:
    """The program decodes MessagePack and lines of JSON, and rejects nothing."""
    async with demo.serve(rate=0) as exchange:
        running = asyncio.ensure_future(program("encodings.py")(exchange.stream_url))
        await asyncio.sleep(0.5)
        await exchange.publish(500)
        await running
        assert capsys.readouterr().out == "1 1\n"
        assert [each.statistics().rejected for each in feeds] == [0, 0]
        feeds.clear()


async def test_query_ends_when_the_server_completes_it(feeds: list[Any], capsys: Any) -> None:
    """The program in GraphQL gets the messages until the end of its subscription, and reports that."""
    async with demo.serve(rate=500) as exchange:
        asyncio.get_running_loop().call_later(5, exchange.end_subscriptions, "btcusdt@trade")
        await program("graphql.py")(exchange.graphql_url, 100)
        ended, count = capsys.readouterr().out.splitlines()
        assert "complete" in ended
        assert int(count.split()[0]) == exchange.numbers["btcusdt@trade"] or int(count.split()[0]) > 30
        feeds.clear()


# The dialects themselves


async def connect(url: str) -> websockets.ClientConnection:
    """Connect without compression, proxy and pings."""
    return await websockets.connect(url, compression=None, proxy=None, ping_interval=None)


async def test_private_feed_demands_a_login_and_ends_it() -> None:
    """Without a login nothing is subscribed; a login that has expired sends a notice and then nothing."""
    async with demo.serve(rate=0, symbols=["A"]) as exchange, await connect(exchange.private_url) as client:

        async def ask(request: Any) -> Any:
            await client.send(request if isinstance(request, str) else json.dumps(request))
            return json.loads(await client.recv())

        sign = "9f23a2f4a6f50c5e4c7e5bb3d3ddcb39"
        login = {"op": "login", "key": "demo key", "time": 5, "sign": sign}
        assert (await ask({"op": "subscribe", "channel": "a@trade"}))["error"] == "log in first"
        assert (await ask(login))["error"] == "wrong key or signature"
        login["sign"] = hmac.new(b"demo secret", b"5", hashlib.sha256).hexdigest()
        assert await ask(login | {"expires_in": 1e9}) == {"op": "login", "ok": True, "expires_in": 60.0}
        assert await ask(login | {"expires_in": 1}) == {"op": "login", "ok": True, "expires_in": 1.0}
        assert (await ask({"op": "subscribe", "channel": "b@trade"}))["error"] == "no such channel"
        assert (await ask({"op": "nonsense"}))["error"] == "no such op"
        assert (await ask("{"))["op"] == "error"
        assert (await ask({"op": "subscribe", "channel": "a@trade"}))["ok"]
        await exchange.publish(30)
        assert json.loads(await client.recv())["data"]["e"] == "trade"
        await asyncio.sleep(1)
        await exchange.publish(30)
        while "data" in (message := json.loads(await client.recv())):
            pass
        assert message == {"op": "expired"}
        assert (await ask({"op": "unsubscribe", "channel": "a@trade"}))["error"] == "log in first"
        assert (await ask(login))["ok"]
        assert (await ask({"op": "subscribe", "channel": "a@trade"}))["ok"]
        exchange.end_subscriptions("a@depth")
        exchange.end_subscriptions("a@trade")
        assert json.loads(await client.recv()) == {"op": "unsubscribed", "channel": "a@trade"}
        assert (await ask({"op": "subscribe", "channel": "a@trade"}))["ok"]
        assert (await ask({"op": "unsubscribe", "channel": "a@trade"}))["ok"]


async def test_frames_have_the_encoding_that_the_url_asks_for() -> None:
    """``?format=msgpack`` is MessagePack in both directions, ``?format=ndjson`` has several messages in a frame."""
    request = {"method": "SUBSCRIBE", "params": ["a@trade"], "id": 1}
    async with demo.serve(rate=0, symbols=["A"]) as exchange:
        async with await connect(f"{exchange.stream_url}?format=msgpack") as client:
            await client.send(msgspec.msgpack.encode(request))
            assert msgspec.msgpack.decode(await client.recv()) == {"result": None, "id": 1}  # type: ignore[arg-type]
            await client.send(b"\xc1")
            assert msgspec.msgpack.decode(await client.recv())["error"]["code"] == 1  # type: ignore[arg-type]
            await client.send(json.dumps(request))
            assert msgspec.msgpack.decode(await client.recv()) == {"result": None, "id": 1}  # type: ignore[arg-type]
        async with await connect(f"{exchange.stream_url}?format=ndjson") as client:
            await client.send(json.dumps(request))
            assert await client.recv() == '{"result":null,"id":1}\n'
            await exchange.publish(100)
            lines = str(await client.recv()).splitlines()
            assert len(lines) > 1
            assert [json.loads(line)["n"] for line in lines] == [*range(1, len(lines) + 1)]
