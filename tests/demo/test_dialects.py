"""The dialects of the demo exchange, and feeds that understand them: compression, ids that the server assigns."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import zlib

import pytest
import websockets

import rxws
from rxws import demo
from rxws.interface import feed_of
from rxws.testing import FeedServer
from tests.support.feeds import of_kind, record

pytestmark = pytest.mark.usefixtures("virtual_time")


PLAIN = {"compression": None, "proxy": None, "ping_interval": None}
"""Options for a connection without compression, proxy and pings."""


async def connect_later(answer):
    """A coroutine function, which is not allowed where a plain function is."""


def connect(url):
    """Connect without compression, proxy and pings."""
    return websockets.connect(url, compression=None, proxy=None, ping_interval=None)


def numbers(messages, symbol):
    """Return the numbers of a symbol's trades."""
    return [each["n"] for each in messages if each.get("e") == "trade" and each["s"] == symbol]


def decompressing():
    """Return the decoder of one connection's zlib stream."""
    stream = zlib.decompressobj()
    return lambda frame: json.loads(stream.decompress(frame))


# Compressed streams


async def test_frames_are_pieces_of_one_stream_when_the_url_asks_for_compression():
    """With ``?compress=zlib`` each connection has one zlib stream, and requests are answered in it."""
    async with demo.serve(rate=0) as exchange, connect(f"{exchange.stream_url}?compress=zlib") as client:
        decode = decompressing()
        await client.send(json.dumps({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1}))
        assert decode(await client.recv()) == {"result": None, "id": 1}
        await exchange.publish(100)
        assert [decode(await client.recv())["n"] for _ in range(2)] == [1, 2]


async def test_compressed_feed_loses_nothing_when_it_rotates_and_is_cut():
    """With ``decoder_factory`` and ``identity`` a zlib stream survives rotations without losses, and cuts."""
    async with (
        demo.serve(rate=200, lag=0.05, symbols=["BTCUSDT"]) as exchange,
        rxws.ReactiveWebSocket(
            f"{exchange}?compress=zlib",
            connect_options=PLAIN,
            decoder_factory=decompressing,
            identity=lambda message: (message["e"], message["n"]),
        ) as feed,
    ):
        messages, gaps = record(feed.messages), record(feed.events.filter(lambda event: type(event) is rxws.Gap))
        await feed.wait_connected()
        for _ in range(3):
            await asyncio.sleep(1)
            assert await feed.rotate()
        assert gaps == []
        received = numbers(messages, "BTCUSDT")
        assert received == list(range(received[0], received[0] + len(received)))
        await exchange.cut()
        await asyncio.sleep(2)
        received = numbers(messages, "BTCUSDT")
        assert len(gaps) == 1
        assert len([(a, b) for a, b in itertools.pairwise(received) if b != a + 1]) <= 1
        assert feed.statistics().rejected == 0


# Ids that the server assigns


def numbered(request, channel, number):
    """Return a JSON-RPC request about a channel."""
    return {"jsonrpc": "2.0", "id": number, "method": request, "params": [channel]}


def subscribe(feed, channel, number, **options):
    """Return a stream of a channel whose messages are recognized by an id that the server assigns."""
    return feed.multiplex(
        numbered("subscribe", channel, number),
        acknowledged=[{"id": number, "result": rxws.present}],
        filters_from=lambda answer: [{("params", "subscription"): answer["result"]}],
        unsubscribe_from=lambda answer: numbered("unsubscribe", answer["result"], -number),
        **options,
    )


def rpc_feed(exchange, **options):
    """Return a feed in JSON-RPC."""
    return rxws.ReactiveWebSocket(
        exchange.rpc_url,
        connect_options=PLAIN,
        per_connection=[{"id": rxws.present}],
        identity=lambda message: channel_and_number(message["params"]["result"]),
        **options,
    )


def channel_and_number(message):
    """Return the channel of a message in the exchange's own dialect, and its number there."""
    return demo.channel_of(message["s"], message["e"].replace("Update", "")), message["n"]


async def test_ids_differ_on_each_connection_and_are_assigned_again():
    """The pool of ids has another order on each connection; an id that becomes free is assigned next."""
    async with demo.serve(rate=0, symbols=["A", "B"]) as exchange:
        given = []
        for _ in range(3):
            async with connect(exchange.rpc_url) as client:

                async def ask(*request, client=client):
                    await client.send(json.dumps(numbered(*request)))
                    return json.loads(await client.recv())

                ids = [(await ask("subscribe", name, 1))["result"] for name in exchange.channels]
                assert sorted(ids) == [f"0x{n}" for n in range(6)]
                given.append(ids)
                assert (await ask("subscribe", "a@trade", 2))["error"]["message"] == "already subscribed"
                assert (await ask("unsubscribe", ids[3], 3)) == {"jsonrpc": "2.0", "id": 3, "result": True}
                assert (await ask("unsubscribe", ids[3], 4))["error"]["message"] == "no such subscription"
                assert (await ask("subscribe", exchange.channels[3], 5))["result"] == ids[3]
                assert (await ask("subscribe", "c@trade", 6))["error"]["message"] == "no such channel"
                assert (await ask("book", "A", 7))["result"] == exchange.book("A")
                assert (await ask("book", "C", 8))["error"]["message"] == "no such symbol"
                assert (await ask("nonsense", "C", 8))["error"]["message"] == "no such method"
                await client.send("{")
                assert json.loads(await client.recv())["error"]["code"] == -32700
        assert given[0] != given[1] != given[2]


@pytest.mark.parametrize("lag", [0.0, 0.05])
async def test_streams_by_id_lose_nothing_when_the_feed_rotates(lag):
    """Over rotations in which ids collide, each stream gets each message of its channel once and in order."""
    async with demo.serve(rate=300, lag=lag, symbols=["A", "B", "C"]) as exchange, rpc_feed(exchange) as feed:
        streams = {name: record(subscribe(feed, name, n + 1)) for n, name in enumerate(exchange.channels)}
        events = record(feed.events)
        await feed.wait_connected()
        for _ in range(5):
            await asyncio.sleep(1)
            assert await feed.rotate()
        await asyncio.sleep(1)
        assert of_kind(rxws.Gap, events) == []
        for name, messages in streams.items():
            found = [channel_and_number(each["params"]["result"]) for each in messages]
            assert found == [(name, found[0][1] + place) for place in range(len(found))]
            assert len(found) > 100
        assert feed.statistics().failures == feed.statistics().rejected == 0
        names = [each.inbound.names for each in feed_of(feed).source.connections]
        assert [len(each._owners) for each in names] == [9]


async def test_streams_by_id_get_only_their_own_messages_when_connections_are_cut():
    """After cuts each stream continues with messages of its own channel, in order, and a Gap covers the rest."""
    delays = {"reconnect_delays": lambda: itertools.repeat(0.1)}
    async with demo.serve(rate=300, symbols=["A", "B", "C"]) as exchange, rpc_feed(exchange, **delays) as feed:
        streams = {name: record(subscribe(feed, name, n + 1, gaps=True)) for n, name in enumerate(exchange.channels)}
        await feed.wait_connected()
        for _ in range(5):
            await asyncio.sleep(1)
            await exchange.cut()
        await asyncio.sleep(1)
        for name, messages in streams.items():
            last = None
            for each in messages:
                if isinstance(each, rxws.Gap):
                    last = None
                    continue
                found, number = channel_and_number(each["params"]["result"])
                assert found == name
                assert last is None or number == last + 1
                last = number
            assert len(messages) > 100


async def test_id_is_given_to_another_channel_when_streams_change():
    """An id that another channel gets on the same connection, even in an overlap, never mixes their messages."""
    async with demo.serve(rate=300, lag=0.02, symbols=["A", "B"]) as exchange, rpc_feed(exchange) as feed:
        await feed.wait_connected()
        names = itertools.cycle(exchange.channels)
        for turn in range(30):
            name = next(names)
            stream = subscribe(feed, name, turn % 6 + 1)
            if turn % 4 == 0:
                feed.rotate()
            async with asyncio.timeout(10):
                found = [channel_and_number((await anext(stream))["params"]["result"]) for _ in range(5)]
            assert found == [(name, found[0][1] + place) for place in range(5)]
            await stream.close()
            await asyncio.sleep(0.05)
        await asyncio.sleep(40)
        client = exchange.server.connections[-1]
        sent = [json.loads(each)["method"] for each in client.received]
        assert sent.count("subscribe") == sent.count("unsubscribe")
        assert not any(each.inbound.names for each in feed_of(feed).source.connections) or len(sent) < 4


async def test_second_stream_of_a_channel_gets_the_messages_at_once():
    """Streams of one channel share its id, even if the answer arrived before the second stream was made."""
    async with demo.serve(rate=100, symbols=["A"]) as exchange, rpc_feed(exchange) as feed:
        first = subscribe(feed, "a@trade", 1)
        await anext(first)
        second, everything = subscribe(feed, "a@trade", 1), feed.stream_filter([{"method": "update"}])
        first.clear()
        assert await anext(first) is await anext(second) is await anext(everything)
        assert exchange.server.connections[0].received == [
            json.dumps(numbered("subscribe", "a@trade", 1)).replace(" ", "")
        ]


async def test_plain_streams_continue_when_the_first_stream_by_id_is_made():
    """Streams by filters and streams by ids work on the same connection, even if it was open before."""
    async with demo.serve(rate=100, symbols=["A"]) as exchange, rpc_feed(exchange) as feed:
        plain = feed.multiplex(
            numbered("subscribe", "a@depth", 7),
            filters=[{("params", "result", "e"): "depthUpdate"}],
            acknowledged=[{"id": 7}],
        )
        await anext(plain)
        named = subscribe(feed, "a@trade", 1)
        for _ in range(5):
            assert (await anext(plain))["params"]["result"]["e"] == "depthUpdate"
            assert (await anext(named))["params"]["result"]["e"] == "trade"


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda answer: [{("params", "subscription"): answer["subscription"]}], "KeyError"),
        (lambda answer: None, "must not be empty"),
        (lambda answer: {"id": answer["result"]}, "must be a list of dicts"),
    ],
)
async def test_answer_without_a_filter_is_reported(function, text):
    """A ``filters_from`` that raises or returns no filter is reported by name; other channels are not disturbed."""
    async with demo.serve(rate=100, symbols=["A"]) as exchange, rpc_feed(exchange) as feed:
        events = record(feed.events)
        wrong = feed.multiplex(numbered("subscribe", "a@depth", 7), acknowledged=[{"id": 7}], filters_from=function)
        right = subscribe(feed, "a@trade", 1)
        await asyncio.sleep(5)
        [event] = of_kind(rxws.CallbackFailed, events)
        assert "<lambda>" in str(event)
        assert text in repr(event.error)
        assert right.pending > 100
        assert wrong.pending == 0
        assert len(exchange.server.connections[0].received) == 2


async def test_unsubscribe_from_that_raises_is_reported_and_its_stream_continues():
    """Without a message to unsubscribe, the stream gets its messages, and its end sends nothing."""
    async with demo.serve(rate=100, symbols=["A"]) as exchange, rpc_feed(exchange) as feed:
        events = record(feed.events)
        stream = feed.multiplex(
            numbered("subscribe", "a@depth", 7),
            acknowledged=[{"id": 7}],
            filters_from=lambda answer: [{("params", "subscription"): answer["result"]}],
            unsubscribe_from=lambda answer: answer["nothing"],
        )
        await anext(stream)
        await stream.close()
        await asyncio.sleep(1)
        assert [repr(each.error) for each in of_kind(rxws.CallbackFailed, events)] == ["KeyError('nothing')"]
        assert len(exchange.server.connections[0].received) == 1


async def test_channel_is_subscribed_again_when_no_answer_names_it():
    """Without an answer a channel by id is subscribed again and again, until an answer arrives."""
    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url, connect_options=PLAIN) as feed:
        stream = feed.multiplex(
            {"id": 1},
            acknowledged=[{"id": 1, "result": rxws.present}],
            filters_from=lambda answer: [{"key": answer["result"]}],
            timeout=1,
        )
        connection = await server.connected()
        for _ in range(5):
            await connection.expect({"id": 1}, timeout=60)
        await connection.send({"key": 5}, {"id": 1, "result": 5}, {"key": 5, "n": 1})
        assert await anext(stream) == {"key": 5, "n": 1}
        await asyncio.sleep(60)
        assert len(connection.received) == 5


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({}, TypeError, "filters is missing: give one of them"),
        ({"filters": [], "filters_from": str, "acknowledged": []}, TypeError, "exclude each other"),
        ({"filters_from": str}, TypeError, "filters_from needs acknowledged"),
        ({"filters": [], "unsubscribe_from": str}, TypeError, "unsubscribe_from needs acknowledged"),
        ({"filters_from": 3, "acknowledged": []}, TypeError, "filters_from must be a plain function of the server's"),
        ({"filters_from": lambda a, b: [], "acknowledged": []}, TypeError, "filters_from must be a plain function"),
        ({"filters_from": connect_later, "acknowledged": []}, TypeError, "filters_from must be a plain function"),
        (
            {"filters_from": str, "unsubscribe_from": str, "unsubscribe": "-", "acknowledged": []},
            TypeError,
            "unsubscribe and unsubscribe_from exclude each other",
        ),
        ({"subscribe": "+plain", "filters_from": str, "acknowledged": []}, ValueError, "has a stream without it"),
    ],
)
async def test_arguments_that_exclude_or_need_others_are_refused(arguments, error, text):
    """``multiplex`` raises an error that names the argument."""
    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url, connect_options=PLAIN) as feed:
        plain = feed.multiplex("+plain", filters=[])
        with pytest.raises(error, match=text):
            feed.multiplex(**{"subscribe": "+"} | arguments)
        await plain.close()


async def test_replay_refuses_channels_that_a_server_names(tmp_path):
    """A replay has no server whose answers name channels, and to subscribe on, and says so."""
    async with demo.serve(symbols=["A"]) as exchange, rpc_feed(exchange) as feed:
        with rxws.record(feed, tmp_path / "a.jsonl"):
            await anext(subscribe(feed, "a@trade", 1))
    async with rxws.replay(tmp_path / "a.jsonl") as played:
        with pytest.raises(rxws.RxwsError, match="is a replay: filters_from needs the answers of a server"):
            subscribe(played, "a@trade", 1)
        with pytest.raises(rxws.RxwsError, match="is a replay: there is no connection to subscribe on"):
            await played.multiplex("+", filters=[]).resubscribe()


# Subscriptions that the server ends


def subscribe_query(feed, channel, number="1", **options):
    """Return a stream of a channel in GraphQL."""
    payload = {
        "query": "subscription ($channel: String!) { updates(channel: $channel) }",
        "variables": {"channel": channel},
    }
    return feed.multiplex(
        {"id": number, "type": "subscribe", "payload": payload},
        {"id": number, "type": "complete"},
        **{"filters": [{"id": number, "type": "next"}], "ended": [{"id": number, "type": "complete"}]} | options,
    )


def graphql_feed(exchange, **options):
    """Return a feed in GraphQL."""
    return rxws.ReactiveWebSocket(
        exchange.graphql_url, connect_options=PLAIN, on_open=[{"type": "connection_init"}], **options
    )


def requests(exchange, number=-1):
    """Return the types of the messages that a connection of the exchange has received."""
    return [json.loads(each)["type"] for each in exchange.server.connections[number].received]


async def test_ended_subscription_is_subscribed_again_after_growing_delays():
    """Each end is an event, a Gap precedes the next message, and the delays grow until the subscription is healthy."""
    async with demo.serve(rate=100, symbols=["A"]) as exchange, graphql_feed(exchange) as feed:
        events = record(feed.events)
        stream = subscribe_query(feed, "a@trade", gaps=True)
        other = subscribe_query(feed, "a@depth", "2")
        await anext(stream)
        for _ in range(8):
            exchange.end_subscriptions("a@trade")
            while not isinstance(await anext(stream), rxws.Gap):
                pass
            await anext(stream)
        ended = of_kind(rxws.SubscriptionEnded, events)
        assert [each.delay == 0 for each in ended] == [True] + [False] * 7
        assert max(each.delay for each in ended) > 1
        assert "complete" in str(ended[0])
        assert "a@trade" in str(ended[0])
        await asyncio.sleep(61)
        exchange.end_subscriptions("a@trade")
        await asyncio.sleep(0.5)
        assert of_kind(rxws.SubscriptionEnded, events)[-1].delay == 0
        assert requests(exchange).count("complete") == 0
        assert requests(exchange).count("subscribe") == 11
        assert other.pending > 1000
        await stream.close()
        await asyncio.sleep(1)
        assert requests(exchange)[-1] == "complete"


async def test_streams_end_when_the_subscription_is_complete():
    """With ``on_ended="complete"`` the streams deliver what they hold, then end; nothing is sent."""
    async with demo.serve(rate=0, symbols=["A"]) as exchange, graphql_feed(exchange) as feed:
        events = record(feed.events)
        streams = [subscribe_query(feed, "a@trade", on_ended="complete") for _ in range(2)]
        everything = subscribe_query(feed, "a@depth", "2", filters=[{"id": "2"}], on_ended="complete")
        await feed.wait_connected()
        await asyncio.sleep(0.1)
        await exchange.publish(10)
        for channel in exchange.channels:
            exchange.end_subscriptions(channel)
        await asyncio.sleep(0.1)
        numbers = [[each["payload"]["data"]["n"] async for each in stream] for stream in streams]
        assert numbers[0] == numbers[1] == list(range(1, exchange.numbers["a@trade"] + 1))
        assert [each["type"] async for each in everything][-1] == "complete"
        assert [each.delay for each in of_kind(rxws.SubscriptionEnded, events)] == [None, None]
        assert requests(exchange) == ["connection_init", "subscribe", "subscribe"]
        again = subscribe_query(feed, "a@trade", on_ended="complete")
        await asyncio.sleep(0.1)
        await exchange.publish(10)
        await anext(again)
        assert requests(exchange) == ["connection_init", "subscribe", "subscribe", "subscribe"]


async def test_end_is_no_event_when_the_stream_is_closed():
    """A subscription that ends while or after its stream is closed is no event, and is not unsubscribed afterwards."""
    limit = {"send_limit": (1, 5)}
    async with demo.serve(rate=100, symbols=["A"]) as exchange, graphql_feed(exchange, **limit) as feed:
        events = record(feed.events)
        stream = subscribe_query(feed, "a@trade")
        await anext(stream)
        await stream.close()
        await asyncio.sleep(0.01)  # The message that unsubscribes waits for its turn.
        exchange.end_subscriptions("a@trade")
        await asyncio.sleep(20)
        assert requests(exchange) == ["connection_init", "subscribe"]
        assert of_kind(rxws.SubscriptionEnded, events) == []
        await anext(subscribe_query(feed, "a@trade"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
async def test_rotation_loses_nothing_when_subscriptions_end(seed):
    """Subscriptions that end and are subscribed again in overlaps: each stream gets no message twice and none late."""
    chances = random.Random(seed)
    async with demo.serve(rate=300, lag=0.03, symbols=["A", "B"], seed=seed) as exchange:

        def identity(message):
            return channel_and_number(message["payload"]["data"]) if message["type"] == "next" else None

        async with graphql_feed(exchange, identity=identity, per_connection=[{"type": "complete"}]) as feed:
            streams = {
                name: record(subscribe_query(feed, name, str(n), gaps=True)) for n, name in enumerate(exchange.channels)
            }
            await feed.wait_connected()
            for turn in range(12):
                await asyncio.sleep(chances.uniform(0, 1))
                feed.rotate()
                await asyncio.sleep(chances.uniform(0, 0.7))
                exchange.end_subscriptions(exchange.channels[turn % 6])
            await asyncio.sleep(30)
            for name, messages in streams.items():
                last = None
                for each in messages:
                    if isinstance(each, rxws.Gap):
                        last = None if last is None else (last[0], False)
                        continue
                    found, number = channel_and_number(each["payload"]["data"])
                    assert found == name
                    assert last is None or number == last[0] + 1 or (number > last[0] and not last[1])
                    last = number, True
                assert last[0] == exchange.numbers[name] or last[0] > exchange.numbers[name] - 10


async def test_subscription_by_id_is_ended_by_a_notice():
    """An end of a channel that has an id of the server is recognized; then the id belongs to another channel."""
    async with demo.serve(rate=200, symbols=["A"]) as exchange, rpc_feed(exchange) as feed:
        events = record(feed.events)
        streams = [
            subscribe(feed, name, n + 1, ended=[{("params", "channel"): name}])
            for n, name in enumerate(exchange.channels)
        ]
        for turn in range(6):
            await anext(streams[0])
            exchange.end_subscriptions(exchange.channels[turn % 3])
            await asyncio.sleep(3)
        assert len(of_kind(rxws.SubscriptionEnded, events)) == 6
        for name, stream in zip(exchange.channels, streams, strict=True):
            items = [await anext(stream) for _ in range(stream.pending)]
            updates = [each["params"]["result"] for each in items if each["method"] == "update"]
            assert {channel_and_number(each)[0] for each in updates} == {name}


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"on_ended": "again"}, ValueError, 'on_ended must be "resubscribe" or "complete", not \'again\''),
        ({"ended": {"type": "complete"}}, TypeError, "ended must be a list of dicts"),
        ({"ended": []}, ValueError, "ended must be a filter that only the end"),
    ],
)
async def test_wrong_arguments_for_ends_are_refused(arguments, error, text):
    """``multiplex`` raises an error that names the argument."""
    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url, connect_options=PLAIN) as feed:
        with pytest.raises(error, match=text):
            feed.multiplex("+", filters=[], **arguments)


async def test_held_message_belongs_to_the_channel_that_had_its_id_when_it_arrived():
    """A message that is held until all is subscribed does not go to a channel that gets its id meanwhile."""
    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url, connect_options=PLAIN) as feed:

        def channel(name):
            return feed.multiplex(
                f"+{name}",
                acknowledged=[{"ok": name}],
                filters_from=lambda answer: [{"id": answer["id"], "m": rxws.present}],
                unsubscribe_from=lambda answer: f"-{name}",
            )

        first, slow = channel("a"), channel("slow")
        connection = await server.connected()
        await connection.expect("+slow")
        await connection.send({"ok": "a", "id": 7}, {"id": 7, "m": "a1"})
        await asyncio.sleep(0.1)
        await first.close()
        second = channel("b")
        await connection.expect("+b")
        await connection.send({"ok": "b", "id": 7}, {"id": 7, "m": "b1"}, {"ok": "slow", "id": 8})
        assert (await anext(second))["m"] == "b1"
        await slow.close()
