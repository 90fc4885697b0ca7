"""Channels on whole feeds: which messages the server gets, and that no message of a channel is lost."""

from __future__ import annotations

import asyncio
import itertools
import json
import random

import pytest

import rxws
from rxws import Connected, Disconnected, Gap, Rotated, SendTimeout, State, SubscriptionFailed, demo
from rxws.demo import channel_of
from rxws.rate_limit import MARGIN
from rxws.testing import FeedServer
from tests.support.life import Ledger, Record

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


def now():
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


def subscribe(feed, symbol, kind="trade", **options):
    """Return a stream of a channel of the demo feed."""
    event = {"trade": "trade", "bookTicker": "bookTicker", "depth": "depthUpdate"}[kind]
    params = [channel_of(symbol, kind)]
    return feed.multiplex(
        {"method": "SUBSCRIBE", "params": params, "id": params[0]},
        {"method": "UNSUBSCRIBE", "params": params, "id": params[0]},
        filters=[{"e": event, "s": symbol}],
        **({"acknowledged": [{"id": params[0]}]} | options),
    )


def sent_by(connection):
    """Return the messages of a client in a short form."""
    messages = [json.loads(message) for message in connection.received]
    return [("+" if m["method"] == "SUBSCRIBE" else "-") + ",".join(m["params"]) for m in messages]


class Timed:
    """A server script that records each message and when it arrived."""

    def __init__(self):
        self.times = []
        self.messages = []

    async def __call__(self, connection):
        async for message in connection:
            self.times.append(now())
            self.messages.append(message)

    def assert_strict(self, messages, seconds):
        """Assert that no window of ``seconds`` contains more than ``messages`` messages."""
        for earlier, later in zip(self.times, self.times[messages:], strict=False):
            assert later - earlier > seconds


async def test_channel_is_subscribed_as_long_as_it_has_a_stream():
    """A channel is subscribed once for two streams, again after a rotation, and unsubscribed with the last stream."""
    async with demo.serve() as exchange, rxws.ReactiveWebSocket(exchange.stream_url) as feed:
        one, other = subscribe(feed, "BTCUSDT"), subscribe(feed, "BTCUSDT")
        first, second = await anext(one), await anext(other)
        assert first == second
        await feed.rotate()
        async for message in one:
            if message["n"] > first["n"] + 100:
                break
        for stream in (one, other):
            await stream.close()
        await asyncio.sleep(1)
        assert exchange.server.opened == 2
        assert sent_by(exchange.server.connections[0]) == ["+btcusdt@trade", "-btcusdt@trade"]
        assert feed.statistics().discarded == 1


@pytest.mark.parametrize(("end", "sent"), [("closed", ["+a", "-a", "+a"]), ("collected", ["+a"])])
async def test_channel_is_subscribed_again_when_a_closed_stream_is_made_again_at_once(end, sent):
    """If a stream is closed, and another one of its channel is made in the same loop iteration, both messages are sent.

    If the first one was only collected, the channel stays subscribed.
    """
    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url) as feed:
        stream = feed.multiplex("+a", "-a", filters=[{"s": "a"}])
        await feed.wait_connected()
        if end == "closed":
            await stream.close()
        del stream
        again = feed.multiplex("+a", "-a", filters=[{"s": "a"}])
        await asyncio.sleep(1)
        assert server.connections[0].received == sent
        del again
        await asyncio.sleep(1)
        assert server.connections[0].received == [*sent, "-a"]


async def test_changes_during_an_overlap_are_made_on_both_connections():
    """During an overlap a channel is (un)subscribed on both connections, and one of the two answers is delivered."""
    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url, handover_timeout=5) as feed:
        answers = feed.stream_filter([{"ok": "+b"}])
        kept = feed.multiplex("+a", "-a", filters=[{"s": "a"}])
        await feed.wait_connected()
        rotating = asyncio.ensure_future(feed.rotate())
        await server.connected(2)
        await asyncio.sleep(1)
        assert feed.state.value is State.ROTATING
        added = feed.multiplex("+b", "-b", filters=[{"s": "b"}], acknowledged=[{"ok": "+b"}])
        await asyncio.sleep(0.1)
        assert [connection.received for connection in server.connections] == [["+a", "+b"], ["+a", "+b"]]
        await server.send({"ok": "+b"})
        await kept.close()
        await asyncio.sleep(0.1)
        assert [connection.received[2:] for connection in server.connections] == [["-a"], ["-a"]]
        assert await rotating
        await asyncio.sleep(10)
        assert (answers.pending, feed.statistics().discarded) == (1, 1)
        await added.close()


async def test_stream_of_a_channel_has_gaps_and_copies_when_requested():
    """``gaps`` and ``copy`` work with ``multiplex`` as with ``stream_filter``."""
    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url) as feed:
        plain = feed.multiplex("+a", filters=[{"s": "a"}])
        marked = feed.multiplex("+a", filters=[{"s": "a"}], gaps=True, copy=True)
        await feed.wait_connected()
        await server.send({"s": "a", "n": 1})
        await asyncio.sleep(1)
        server.connections[0].reset()
        await feed.wait_connected()
        await asyncio.sleep(1)
        await server.send({"s": "a", "n": 2})
        await asyncio.sleep(1)
        shared, own = await plain.collect(2), await marked.collect(3)
        assert [item if isinstance(item, dict) else type(item) for item in own] == [shared[0], Gap, shared[1]]
        assert own[0] is not shared[0]


@pytest.mark.parametrize("gaps", [True, False])
async def test_stream_begins_with_its_new_subscription_when_its_channel_was_just_unsubscribed(gaps):
    """A new stream of a just unsubscribed channel begins after the server's answer to the new subscription.

    Late messages of the old subscription are discarded, because messages are missing between them and the new ones.
    """
    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url) as feed:

        def wanted():
            return feed.multiplex("+a", "-a", filters=[{"s": "a"}], acknowledged=[{"ok": "+a"}], gaps=gaps)

        old = wanted()
        await server.connected(1)
        await server.expect("+a")
        await server.send({"ok": "+a"}, {"s": "a", "n": 1})
        assert (await anext(old))["n"] == 1
        await old.close()
        await asyncio.sleep(1)
        new, second = wanted(), wanted()
        # The server sent 2 and 3 before it unsubscribed the channel. It never sends 4 to 6.
        await server.send({"s": "a", "n": 2}, {"s": "a", "n": 3})
        await asyncio.sleep(0.5)
        await server.send({"ok": "+a"}, {"s": "a", "n": 7}, {"s": "a", "n": 8})
        for stream in (new, second):
            items = await stream.collect(2 + gaps)
            assert [item["n"] for item in items[gaps:]] == [7, 8]
            if gaps:
                assert (type(items[0]), items[0].reason) == (Gap, "user")
                assert items[0].end - items[0].start == pytest.approx(0.5, abs=0.1)
        assert feed.statistics().discarded == 4
        assert feed.statistics().gaps == 0
        third = wanted()
        await server.send({"s": "a", "n": 9})
        assert (await anext(third))["n"] == 9
        assert server.connections[0].received == ["+a", "-a", "+a"]


async def test_stream_begins_when_its_channel_is_refused_or_the_connection_is_lost_after_it_was_unsubscribed():
    """If the new subscription is refused or the connection is lost, the stream begins without its answer."""
    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url) as feed:

        def wanted():
            return feed.multiplex(
                "+a", "-a", filters=[{"s": "a"}], acknowledged=[{"ok": "+a"}], rejected=[{"no": "+a"}], gaps=True
            )

        async def swap(stream):
            await server.send({"ok": "+a"})
            await asyncio.sleep(1)
            await stream.close()
            await asyncio.sleep(1)
            return wanted()

        first = wanted()
        await server.connected(1)
        await server.expect("+a")
        stream = await swap(first)
        await asyncio.sleep(0.5)
        server.connections[0].reset()
        await server.connected(2)
        await server.expect("+a")
        await server.send({"ok": "+a"}, {"s": "a", "n": 1})
        items = await stream.collect(2)
        assert (items[0].reason, items[1]["n"]) == ("network", 1)
        stream = await swap(stream)
        await server.send({"no": "+a"})
        await asyncio.sleep(0.1)
        await server.send({"s": "a", "n": 2})
        assert (await anext(stream))["n"] == 2


async def test_stream_begins_after_held_messages_of_the_old_subscription():
    """A new stream does not get the messages that a connection held before the stream subscribed its channel.

    A connection that replaces a lost one holds its messages until all channels are subscribed.
    """
    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url) as feed:

        def wanted(name):
            acknowledged = [{"ok": f"+{name}"}]
            return feed.multiplex(f"+{name}", f"-{name}", filters=[{"s": name}], acknowledged=acknowledged, gaps=True)

        first, other = wanted("a"), wanted("b")
        await server.connected(1)
        await server.expect("+b")
        await server.send({"ok": "+a"}, {"ok": "+b"}, {"s": "a", "n": 1}, {"s": "b", "n": 1})
        await anext(other)
        server.connections[0].reset()
        await server.connected(2)
        await server.expect("+b")
        await server.send({"ok": "+a"}, {"s": "a", "n": 5})
        await asyncio.sleep(0.5)
        await first.close()
        await server.expect("-a")
        second = wanted("a")
        await server.expect("+a")
        await server.send({"ok": "+a"}, {"s": "a", "n": 8})
        await asyncio.sleep(0.5)
        await server.send({"ok": "+b"})
        await asyncio.sleep(0.5)
        await server.send({"s": "a", "n": 9})
        items = await second.collect(3)
        assert [item.reason for item in items[:2]] == ["network", "user"]
        assert items[2]["n"] == 9
        assert feed.statistics().discarded == 2


async def test_stream_begins_with_the_first_connection_that_is_subscribed_again_in_an_overlap():
    """A new stream in an overlap begins on the connection that first answers its subscription.

    It does not wait for the other connection, which still sends messages of the old subscription. These are discarded.
    """
    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url, handover_timeout=20) as feed:

        def wanted():
            return feed.multiplex("+a", "-a", filters=[{"s": "a"}], acknowledged=[{"ok": "+a"}], gaps=True)

        first = wanted()
        await server.connected(1)
        await server.expect("+a")
        await server.send({"ok": "+a"})
        await feed.wait_connected()
        rotating = asyncio.ensure_future(feed.rotate())
        await server.connected(2)
        await asyncio.sleep(0.1)
        old, new = server.connections
        await server.send({"ok": "+a"}, {"s": "a", "n": 1}, to=[new])
        await server.send({"s": "a", "n": 1}, to=[old])
        assert (await anext(first))["n"] == 1
        await first.close()
        await asyncio.sleep(0.1)
        second = wanted()
        await asyncio.sleep(0.1)
        await server.send({"s": "a", "n": 2}, {"ok": "+a"}, {"s": "a", "n": 4}, to=[new])
        await server.send({"s": "a", "n": 2}, {"s": "a", "n": 3}, to=[old])
        gap, first_message = await second.collect(2)
        assert (gap.reason, first_message["n"]) == ("user", 4)
        await server.send({"ok": "+a"}, {"s": "a", "n": 5}, to=[old])
        for n in range(5, 20):
            await server.send({"s": "a", "n": n}, to=[new, old] if n > 5 else [new])
            await asyncio.sleep(0.1)
        assert await rotating
        assert [item["n"] for item in await second.collect(15)] == list(range(5, 20))


async def test_stream_begins_at_once_when_its_channel_was_unsubscribed_long_ago():
    """30 s after a channel was unsubscribed, a new stream of it begins at once, because no old messages can arrive."""
    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url) as feed:
        names = ["a", "b"]
        streams = [
            feed.multiplex(f"+{name}", f"-{name}", filters=[{"s": name}], acknowledged=lambda message: "ok" in message)
            for name in names
        ]
        await server.connected(1)
        await server.expect("+b")
        await server.send({"ok": 1}, {"ok": 2})
        await asyncio.sleep(1)
        await streams[0].close()
        await asyncio.sleep(31)
        await streams[1].close()
        await asyncio.sleep(1)
        stream = feed.multiplex("+a", "-a", filters=[{"s": "a"}], acknowledged=[{"ok": 3}])
        await server.send({"s": "a", "n": 1})
        assert (await anext(stream))["n"] == 1


async def test_channel_is_refused_when_the_server_does_not_know_it():
    """If the server refuses a channel, its answer is reported at once; the other channels are subscribed."""
    async with demo.serve() as exchange, rxws.ReactiveWebSocket(exchange.stream_url) as feed:
        record = Record(feed)
        streams = [subscribe(feed, name, rejected=lambda message: "error" in message) for name in ("NONE", "BTCUSDT")]
        await feed.wait_connected()
        assert now() < 1
        await anext(streams[1])
        (event,) = record.of(SubscriptionFailed)
        assert "none@trade" in event.message
        assert event.refusal is not None
        assert "no such channel" in event.refusal


def answering(word, seconds=0.0):
    """Return a script that answers subscriptions of "a" with ``word`` after ``seconds``, and accepts all others."""

    async def script(connection):
        async for message in connection:
            if message == "+a":
                await asyncio.sleep(seconds)
            await connection.send({word if message == "+a" else "ok": message})

    return script


@pytest.mark.parametrize("is_planned", [False, True], ids=["loss", "rotation"])
async def test_gap_of_one_channel_is_announced_when_it_is_refused_on_one_connection(is_planned):
    """Streams of the refused channel get a Gap before their next message; streams of other channels get none."""
    async with FeedServer(answering("ok")) as server, rxws.ReactiveWebSocket(server.url) as feed:
        record = Record(feed)

        def wanted(name):
            consent, refusal = [{"ok": f"+{name}"}], [{"no": f"+{name}"}]
            return feed.multiplex(
                f"+{name}", filters=[{"s": name}], acknowledged=consent, rejected=refusal, timeout=1, gaps=True
            )

        refused, other = wanted("a"), wanted("b")
        await feed.wait_connected()
        await server.send({"s": "a", "n": 1}, {"s": "b", "n": 1})
        await asyncio.sleep(1)
        server.script = answering("no")
        if is_planned:
            assert await feed.rotate()
        else:
            server.reset()
        await record.happened(SubscriptionFailed)
        await record.happened(Connected, 2)
        unseen = wanted("a")
        await server.send({"s": "b", "n": 2})
        await asyncio.sleep(3)
        server.script = answering("ok")
        server.reset()
        await record.happened(Connected, 3)
        await server.send({"s": "a", "n": 9}, {"s": "b", "n": 3})
        network = ["network", "network"][is_planned:]
        *before, gap, last = await refused.collect(3 + len(network))
        assert [each.reason if isinstance(each, Gap) else each["n"] for each in before] == [1, *network]
        assert (gap.reason, gap.last_message, last["n"]) == ("subscription", None, 9)
        assert gap.start == pytest.approx(record.of(Connected)[0].time, abs=0.1)
        assert record.of(Connected)[2].time <= gap.end == gap.time
        items = await other.collect(3 + len(network))
        assert [each["n"] for each in items if not isinstance(each, Gap)] == [1, 2, 3]
        assert {each.reason for each in items if isinstance(each, Gap)} == {"network"}
        # This stream began after the refusal, so it gets only the Gap of the second loss.
        assert [getattr(each, "reason", None) for each in await unseen.collect(2)] == ["network", None]
        assert feed.statistics().gaps == len(network)


async def test_gap_of_a_channel_lasts_until_its_message_when_it_is_answered_late():
    """If the answer arrives after ``timeout``, the streams get a second Gap, which lasts until the next message."""
    async with FeedServer(answering("ok")) as server, rxws.ReactiveWebSocket(server.url) as feed:
        stream = feed.multiplex("+a", filters=[{"s": "a"}], acknowledged=[{"ok": "+a"}], timeout=1, gaps=True)
        await feed.wait_connected()
        await server.send({"s": "a", "n": 1})
        server.script = answering("ok", 3.0)
        server.connections[0].reset()
        await server.connected(2)
        await asyncio.sleep(5)
        await server.send({"s": "a", "n": 9})
        first, lost, late, last = await stream.collect(4)
        assert (first["n"], lost.reason, late.reason, last["n"]) == (1, "network", "subscription", 9)
        assert lost.start == late.start
        assert late.end - lost.end == pytest.approx(4, abs=0.2)


async def test_answers_in_frames_of_several_messages():
    """If a frame on a held connection contains an answer and other messages, only the answer is discarded."""
    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url, split=True, handover_timeout=1) as feed:
        stream = feed.multiplex("+a", filters=[{"s": "a"}], acknowledged=[{"ok": 1}])
        await server.expect("+a")
        await server.send([{"ok": 1}])
        await feed.wait_connected()
        rotating = asyncio.ensure_future(feed.rotate())
        await (await server.connected(2)).expect("+a")
        await server.connections[1].send([{"ok": 1}, {"s": "a", "n": 1}])
        assert await rotating
        assert await asyncio.wait_for(anext(stream), 60) == {"s": "a", "n": 1}
        assert feed.statistics().discarded == 1


async def test_limit_holds_for_all_messages_and_pongs_go_first():
    """While 500 subscriptions wait, at most five messages are sent in any second; pongs and heartbeats go first."""
    script = Timed()

    async def ping(connection):
        for n in itertools.count():
            await asyncio.sleep(2)
            await connection.send(f"ping {n} {now()}")

    async def serve(connection):
        pinging = asyncio.ensure_future(ping(connection))
        try:
            await script(connection)
        finally:
            pinging.cancel()

    async with (
        FeedServer(serve) as server,
        rxws.ReactiveWebSocket(
            server.url,
            decode=str,
            send_limit=(5, 1),
            reply=lambda frame: frame.replace("ping", "pong"),
            heartbeat=(lambda: f"beat 0 {now()}", 3),
            on_open=[f"open {n}" for n in range(7)],
        ) as feed,
    ):
        await feed.wait_connected()
        streams = [feed.multiplex(f"+{n}", filters=lambda _: False) for n in range(500)]
        await asyncio.sleep(20)
        asked = now()
        await feed.send("user 1")
        assert now() - asked < 1.2
        await asyncio.sleep(150)
        script.assert_strict(5, 1)
        assert script.messages[:7] == [f"open {n}" for n in range(7)]
        assert [m for m in script.messages if m[0] == "+"] == [f"+{n}" for n in range(500)]
        prompt = [(m, at) for m, at in zip(script.messages, script.times, strict=True) if m[:4] in ("pong", "beat")]
        assert len(prompt) > 100
        assert max(at - float(m.split()[2]) for m, at in prompt) < 1.2
        # The subscriptions take no longer than the limit requires.
        total = len(script.messages[: script.messages.index("+499")])
        assert script.times[script.messages.index("+499")] <= (total // 5 + 2) * (1 + MARGIN)
        del streams


async def test_combined_subscriptions_are_few_messages():
    """With ``combine`` 500 channels of the demo feed are subscribed with three messages, each with its answer."""

    def combined(requests):
        return requests[0] | {"params": [name for request in requests for name in request["params"]]}

    symbols = [f"S{n}" for n in range(500)]
    async with (
        demo.serve(symbols=symbols, max_messages_per_second=5) as exchange,
        rxws.ReactiveWebSocket(exchange.stream_url) as feed,
    ):
        streams = [subscribe(feed, symbol, combine=combined) for symbol in symbols]
        await feed.wait_connected()
        (connection,) = exchange.server.connections
        assert [len(json.loads(message)["params"]) for message in connection.received] == [200, 200, 100]
        await asyncio.sleep(60)
        assert sum(stream.matched > 0 for stream in streams) > 490


async def test_send_that_gets_no_slot_raises_and_the_connection_stays():
    """A message that gets no slot within ``send_timeout`` raises and is not sent; the connection stays."""
    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url, send_limit=(1, 30), send_timeout=5) as feed:
        record = Record(feed)
        await feed.send("first")
        with pytest.raises(SendTimeout, match="the send limit left no slot for 5 s: nothing was sent"):
            await feed.send("second")
        await asyncio.sleep(60)
        await feed.send("third")
        await server.expect("third")
        assert server.received == ["first", "third"]
        assert record.of(Disconnected) == []


async def test_pong_that_gets_no_slot_is_reported():
    """A pong that cannot be sent in time is dropped and reported; the connection stays."""
    async with (
        FeedServer() as server,
        rxws.ReactiveWebSocket(
            server.url, send_limit=(1, 30), send_timeout=5, decode=str, reply=lambda frame: "pong"
        ) as feed,
    ):
        record = Record(feed)
        await server.connected()
        await server.send("a", "b")
        failed = await record.happened(rxws.CallbackFailed)
        assert isinstance(failed.error, SendTimeout)
        assert server.received == ["pong"]
        assert record.of(Disconnected) == []


async def test_send_that_waits_for_a_slot_when_the_connection_is_lost():
    """A message that waits for a slot is sent on the next connection, within its timeout."""
    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url, send_limit=(1, 30)) as feed:
        await feed.send("first")
        sending = asyncio.ensure_future(feed.send("second"))
        await asyncio.sleep(1)
        server.reset()
        await sending
        await server.expect("second")
        assert server.opened == 2


async def test_send_that_gets_a_slot_while_the_connection_closes():
    """A message that gets a slot on a closing connection is sent on the next one."""
    async with (
        FeedServer() as server,
        rxws.ReactiveWebSocket(server.url, send_limit=(1, 3), handover_timeout=2.5) as feed,
    ):
        await feed.send("first")
        await asyncio.sleep(0.2)
        sending = asyncio.ensure_future(feed.send("second"))
        closing = asyncio.ensure_future(feed.present_ws.close())
        await asyncio.gather(sending, closing)
        await server.expect("second")
        assert [server.opened, server.received] == [2, ["first", "second"]]


async def test_on_open_function_that_takes_too_long_fails_the_attempt():
    """A function in ``on_open`` must return within ``send_timeout``."""
    waits = iter([3600])

    async def message():
        for seconds in waits:
            await asyncio.sleep(seconds)
        return "hello"

    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url, on_open=[message], send_timeout=3) as feed:
        await feed.wait_connected()
        await server.expect("hello")
        assert (server.opened, round(now())) == (2, 3)


class Account:
    """The numbers of all channels, and the gaps in which numbers may be missing."""

    def __init__(self, feed, channels):
        self.ledgers = {channel: Ledger() for channel in channels}
        self.record = Record(feed)
        feed.events.subscribe(self._announce)

    def follow(self, channel, stream):
        """Record the numbers of a stream."""
        stream.subscribe(lambda message: self.ledgers[channel].take(message["n"]))

    def _announce(self, event):
        if isinstance(event, Gap):
            for ledger in self.ledgers.values():
                ledger.take(event)

    def check(self):
        """Assert that numbers are missing only in gaps, and that none was delivered twice."""
        for ledger in self.ledgers.values():
            ledger.check()


SYMBOLS = [f"S{n}" for n in range(250)]
KINDS = ("trade", "bookTicker")


@pytest.mark.slow
async def test_five_hundred_channels_survive_rotations_and_cuts():
    """With a limit of five messages a second, no message of 500 channels is lost in a rotation."""
    channels = [(symbol, kind) for symbol in SYMBOLS for kind in KINDS]
    async with (
        demo.serve(symbols=SYMBOLS, rate=30, lag=0.05, max_messages_per_second=5) as exchange,
        rxws.ReactiveWebSocket(exchange.stream_url, send_limit=(5, 1), reconnect_delays=lambda: [0] * 9) as feed,
    ):
        account = Account(feed, channels)
        for symbol, kind in channels:
            account.follow((symbol, kind), subscribe(feed, symbol, kind))
        await feed.wait_connected()
        assert 100 <= now() < 120
        for kind in ("rotation", "cut", "rotation", "cut of the old while the new is subscribed", "rotation"):
            await asyncio.sleep(30)
            if kind == "rotation":
                gaps = len(account.record.of(Gap))
                before = now()
                assert await feed.rotate()
                assert 100 <= now() - before < 130
                assert len(account.record.of(Gap)) == gaps
                assert account.record.of(Rotated)[-1].proven
            elif kind == "cut":
                await exchange.cut()
                await asyncio.sleep(1)
                assert feed.state.value is State.CONNECTING
                await feed.wait_connected()
            else:
                rotating = asyncio.ensure_future(feed.rotate())
                await asyncio.sleep(60)
                exchange.server.connections[0].reset()
                await asyncio.sleep(1)
                assert (feed.state.value, feed.present_ws) == (State.CONNECTING, None)
                await rotating
                assert feed.state.value is State.CONNECTED
            account.check()
        await asyncio.sleep(60)
        account.check()
        # Published numbers are missing only in the two gaps and at the beginning.
        numbers = exchange.numbers
        late = [c for c in channels if numbers[channel_of(*c)] - account.ledgers[c].last > 1]
        assert late == []
        assert account.record.reasons.count("rotation") == 3
        assert [event.reason for event in account.record.of(Gap)] == ["network", "network"]
        assert len(account.record.of(Connected)) == 6


async def test_channels_are_added_and_removed_through_rotations_and_cuts():
    """After streams were made and closed at random, the server has subscribed exactly the channels with streams."""
    chance = random.Random(7)
    async with (
        demo.serve(max_messages_per_second=5) as exchange,
        rxws.ReactiveWebSocket(exchange.stream_url, send_limit=(5, 1), reconnect_delays=lambda: [0] * 99) as feed,
    ):
        codes = []
        feed.events.subscribe(lambda event: codes.append(getattr(event, "code", None)))
        wanted = []
        for _ in range(400):
            what = chance.random()
            if what < 0.55:
                channel = chance.choice(demo.SYMBOLS), chance.choice(KINDS)
                wanted.append((channel_of(*channel), subscribe(feed, *channel)))
            elif what < 0.97 and wanted:
                _, stream = wanted.pop(chance.randrange(len(wanted)))
                await stream.close()
            elif what < 0.985:
                feed.rotate()
            else:
                await exchange.cut()
            await asyncio.sleep(chance.expovariate(3))
        await asyncio.sleep(60)
        (connection,) = exchange.server.connections
        subscribed = set()
        for each in sent_by(connection):
            (subscribed.add if each[0] == "+" else subscribed.remove)(each[1:])
        assert subscribed == {name for name, _ in wanted}
        assert 1008 not in codes
