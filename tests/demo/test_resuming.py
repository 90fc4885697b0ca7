"""The demo exchange sends missed messages again, in the ways of several exchanges, and forgets them on request."""

from __future__ import annotations

import asyncio
import json

import pytest
import websockets

from rxws import demo
from rxws.demo.history import History

pytestmark = pytest.mark.usefixtures("virtual_time")


def connect(url):
    """Connect without compression, proxy and pings."""
    return websockets.connect(url, compression=None, proxy=None, ping_interval=None)


async def received(client, seconds=0.1):
    """Return the messages that arrive within a number of seconds."""
    messages = []
    try:
        async with asyncio.timeout(seconds):
            while True:
                messages.append(json.loads(await client.recv()))
    except TimeoutError:
        return messages


def counts(messages):
    """Return the counts of messages."""
    return [each["c"] for each in messages if "c" in each]


async def seen(exchange, url, count=10):
    """Connect once, so that the exchange keeps messages, publish some, and return them."""
    async with connect(url) as client:
        await asyncio.sleep(0.1)
        await exchange.publish(count)
        return await received(client)


async def test_messages_have_a_count_only_for_clients_with_a_cursor():
    """Without ``cursor`` in the URL messages are unchanged; with it each has a number, without holes."""
    async with demo.serve(rate=0) as exchange, connect(exchange.url) as plain:
        assert counts(await seen(exchange, f"{exchange}?cursor=")) == list(range(1, 11))
        assert counts(await received(plain)) == []


@pytest.mark.parametrize("includes", [True, False])
async def test_replay_from_a_cursor(includes):
    """``?cursor=7`` sends messages again from the seventh on, including it or not, and then new ones."""
    async with demo.serve(rate=0) as exchange:
        exchange.replays_cursor = includes
        await seen(exchange, f"{exchange}?cursor=")
        async with connect(f"{exchange}?cursor=7") as client:
            await asyncio.sleep(0.1)
            await exchange.publish(2)
            assert counts(await received(client)) == list(range(7 if includes else 8, 13))


@pytest.mark.parametrize("cursor", ["7", "99", "nonsense", "-1", ""])
async def test_cursor_that_is_not_known_replays_nothing(cursor):
    """After ``forget()``, and for a cursor that was never issued, only new messages are sent."""
    async with demo.serve(rate=0) as exchange:
        await seen(exchange, f"{exchange}?cursor=")
        if cursor == "7":
            exchange.forget()
        async with connect(f"{exchange}?cursor={cursor}") as client:
            await asyncio.sleep(0.1)
            await exchange.publish(1)
            assert counts(await received(client)) == [11]


async def test_old_messages_are_dropped():
    """Messages older than a minute are not sent again, and a cursor among them is not known."""
    async with demo.serve(rate=0) as exchange:
        await seen(exchange, f"{exchange}?cursor=")
        await asyncio.sleep(61)
        await exchange.publish(5)
        async with connect(f"{exchange}?cursor=3") as client:
            assert counts(await received(client)) == []
        async with connect(f"{exchange}?cursor=12") as client:
            assert counts(await received(client)) == [12, 13, 14, 15]


async def test_subscription_with_a_cursor():
    """The answer states whether the channel was recovered, and precedes the repeated messages."""
    async with demo.serve(rate=0) as exchange:
        await seen(exchange, f"{exchange}?cursor=", 60)
        async with connect(f"{exchange.stream_url}?cursor=") as client:
            request = {"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1, "cursor": 1, "epoch": 1}
            await client.send(json.dumps(request))
            answer, *messages = await received(client)
            assert answer == {"result": None, "id": 1, "recovered": True, "cursor": 60, "epoch": 1}
            assert messages
            assert {each["s"] for each in messages} == {"BTCUSDT"}
            await client.send(json.dumps(request | {"epoch": 2}))
            [answer] = await received(client)
            assert answer["recovered"] is False


async def test_session():
    """A resumed session gets the repeated messages and then a statement; an unknown session is invalid."""
    url = "/session"
    async with demo.serve(rate=0) as exchange:
        base = exchange.url.removesuffix("/ws") + url
        async with connect(base) as client:
            [hello] = await received(client)
            await exchange.publish(5)
            assert counts(await received(client)) == [1, 2, 3, 4, 5]
        await exchange.publish(3)
        async with connect(f"{base}?id={hello['session']}&cursor=5") as client:
            messages = await received(client)
            assert counts(messages) == [5, 6, 7, 8]
            assert messages[-1] == {"op": "resumed"}
        exchange.forget()
        async with connect(f"{base}?id={hello['session']}&cursor=8") as client:
            invalid, again = await received(client)
            assert invalid == {"op": "invalid"}
            assert again["session"] != hello["session"]


async def test_last_values_first_and_greetings():
    """On request the last message of each channel is sent first, and each connection gets a different greeting."""
    async with demo.serve(rate=0) as exchange:
        exchange.greets = exchange.shows_last_first = True
        await seen(exchange, f"{exchange}?cursor=", 100)
        greetings = set()
        for _ in range(2):
            async with connect(f"{exchange}?cursor=99") as client:
                greeting, *messages = await received(client)
                greetings.add(greeting["hello"])
                assert counts(messages)[-2:] == [99, 100]
                assert len({(each["e"], each["s"]) for each in messages[:-2]}) == len(messages) - 2
        assert len(greetings) == 2


async def test_history_is_bounded(monkeypatch):
    """The number of kept messages is limited."""
    monkeypatch.setattr("rxws.demo.history._MOST", 100)
    history = History()
    history.is_kept = True
    for number in range(1000):
        history.add(0.0, "a", {"n": number})
    assert history.knows(900)
    assert not history.knows(899)
    assert len(history.since(1, {"a"}, includes=True)) == 100
