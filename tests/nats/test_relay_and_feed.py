"""Relay and feed in one process, on a real server: captured messages arrive in order, whichever link is cut."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import nats
import pytest

import rxws
from rxws.nats.broker import ApiError, Broker, UnsuitableError
from rxws.nats.client import DirectClient
from rxws.testing import FeedServer

from .server import NatsServer

pytestmark = pytest.mark.slow

TIMEOUT = 15.0


async def until(condition: Any, timeout: float = TIMEOUT) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def trade(n: int, symbol: str = "BTC") -> dict[str, Any]:
    """Return a message."""
    return {"e": "trade", "s": symbol, "n": n}


class Capture:
    """A feed with its relay, and the server that it is connected to."""

    def __init__(self, server: FeedServer, ws: rxws.ReactiveWebSocket[Any], relay: rxws.nats.Relay) -> None:
        self.server = server
        self.ws = ws
        self.relay = relay

    async def send(self, *messages: Any) -> None:
        """Send messages, and wait until the broker has them."""
        wanted = self.relay.published + self.relay.dropped + len(messages)
        for message in messages:
            await self.server.send(message)
        await until(lambda: self.relay.published + self.relay.dropped >= wanted)


@asynccontextmanager
async def capturing(
    nats_server: NatsServer, *, feed: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[Capture]:
    """A feed that is relayed."""
    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url, name="upstream", **(feed or {})) as ws:
        await server.connected()
        async with rxws.nats.relay(ws, nats_server.url, **options) as relay:
            await until(lambda: relay.is_connected)
            yield Capture(server, ws, relay)


async def take(stream: Any, count: int) -> list[Any]:
    """Return the first items of a stream."""
    async with asyncio.timeout(TIMEOUT):
        return [await anext(stream) for _ in range(count)]


async def test_messages_are_delivered_as_they_were_captured(nats_server: NatsServer) -> None:
    """A feed delivers the messages that a relay has captured, in order, each with its position."""
    async with capturing(nats_server) as capture:
        await capture.send(*map(trade, range(100)))
        async with rxws.nats.NatsFeed(nats_server.url, start="all") as ws:
            found = await take(ws.stream_filter(), 100)
            assert found == [trade(number) for number in range(100)]
            positions = [ws.position_of(message) for message in found]
            assert positions == sorted(set(positions))
            with pytest.raises(LookupError, match="not a message of this feed"):
                ws.position_of(trade(1))
            assert ws.position is not None
            assert ws.position >= positions[-1]
        assert capture.relay.pending == 0
    assert not capture.relay.is_connected


async def test_frames_are_those_that_were_captured(nats_server: NatsServer) -> None:
    """Frames arrive unchanged, text as text and bytes as bytes, with their sequence, subject, relay and time."""
    options = {"decode": lambda raw: {"e": "x", "s": "é.1", "raw": raw}}
    before = time.time_ns()
    async with (
        capturing(nats_server, feed=options, name="the relay") as capture,
        rxws.nats.NatsFeed(nats_server.url, start="new", decode=lambda raw: raw) as ws,
    ):
        frames: list[Any] = []
        ws.frames.subscribe(lambda entry: frames.append(entry[0]))
        await ws.wait_connected()
        await asyncio.sleep(0.3)
        await capture.send('{"a":  "é"}', b"\x00\xff")
        await until(lambda: len(frames) == 2)
    assert frames == ['{"a":  "é"}', b"\x00\xff"]
    assert [frame.subject for frame in frames] == ["rx.x.%C3%A9%2E1"] * 2
    assert frames[0].relay == "the%20relay"
    assert before < frames[0].received_ns < time.time_ns()
    assert frames[1].sequence == frames[0].sequence + 1


async def test_each_message_of_a_frame_with_several_is_published(nats_server: NatsServer) -> None:
    """With ``split`` each item of an array is a separate message, with its own subject, even in an array of one."""
    async with capturing(nats_server, feed={"split": True}) as capture:
        await capture.server.send([trade(1, "A"), trade(2, "B")])
        await capture.server.send([trade(3, "C")])
        await capture.server.send(trade(4, "D"))
        await until(lambda: capture.relay.published == 4)
        async with rxws.nats.NatsFeed(nats_server.url, start="all") as ws:
            found = await take(ws.stream_filter(), 4)
    assert [message["n"] for message in found] == [1, 2, 3, 4]


async def test_filter_of_the_relay_decides_what_is_published(nats_server: NatsServer) -> None:
    """A relay with a filter publishes only the messages that pass it."""
    async with capturing(nats_server, filters=[{"s": "B"}]) as capture:
        await capture.server.send(trade(1, "A"))
        await capture.send(trade(2, "B"))
        assert capture.relay.published == 1


@pytest.mark.parametrize("filters", [[{"s": "A"}], [{"s": "A"}, {"s": "C"}], lambda message: message["s"] in "AC"])
async def test_streams_get_what_passes_their_filters_in_order(nats_server: NatsServer, filters: Any) -> None:
    """Streams with one pattern, several patterns or a function get exactly the messages that pass, in order."""
    symbols = ["A", "B", "C", "C", "B", "A", "D"] * 30
    messages = [trade(number, symbol) for number, symbol in enumerate(symbols)]
    wanted = rxws.nats.subjects.Filter.parse(filters)
    async with capturing(nats_server) as capture:
        await capture.send(*messages[:100])
        async with rxws.nats.NatsFeed(nats_server.url, start="all") as ws:
            stream = ws.stream_filter(filters)
            await capture.send(*messages[100:])
            expected = [message for message in messages if wanted(message)]
            assert await take(stream, len(expected)) == expected
            assert ws.statistics().gaps == 0


async def test_thousand_streams_make_one_change_at_the_server(nats_server: NatsServer) -> None:
    """A thousand new streams cost one consumer; a few streams cost one for each pattern, and one more."""
    async with capturing(nats_server) as capture:
        await capture.send(trade(0))
        async with rxws.nats.NatsFeed(nats_server.url, start="all") as ws, watching(nats_server) as js:
            few = [ws.stream_filter([{"s": symbol}]) for symbol in "ABC"]
            await until_consumers(js, 4)
            many = [ws.stream_filter([{"s": f"S{number}"}]) for number in range(1000)]
            await until_consumers(js, 1)
            await capture.send(trade(1, "S7"), trade(2, "B"))
            assert await take(many[7], 1) == [trade(1, "S7")]
            assert await take(few[1], 1) == [trade(2, "B")]
            for stream in many:
                await stream.close()
            await until_consumers(js, 4)
            await capture.send(trade(3, "C"))
            assert await take(few[2], 1) == [trade(3, "C")]


@asynccontextmanager
async def watching(nats_server: NatsServer) -> AsyncIterator[Any]:
    """The library's view of JetStream."""
    client = await nats.connect(nats_server.url)
    try:
        yield client.jetstream()
    finally:
        await client.close()


async def until_consumers(js: Any, count: int) -> None:
    """Wait until the stream has this number of consumers."""
    deadline = time.monotonic() + TIMEOUT
    while (found := (await js.stream_info("rxws")).state.consumer_count) != count:
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)


async def test_start_is_where_the_feed_begins(nats_server: NatsServer) -> None:
    """A feed begins with the newest message, all, the last of each subject, a number, or a time."""
    async with capturing(nats_server) as capture:
        await capture.send(trade(1, "A"), trade(2, "B"))
        await asyncio.sleep(0.05)
        moment = datetime.now(UTC)
        await asyncio.sleep(0.05)
        await capture.send(trade(3, "A"))

        async def first(start: Any, count: int) -> list[int]:
            async with rxws.nats.NatsFeed(nats_server.url, start=start) as ws:
                stream = ws.stream_filter()
                await ws.wait_connected()
                await asyncio.sleep(0.3)
                if start == "new":
                    await capture.send(trade(4, "A"))
                found = await take(stream, count)
                places.append(ws.position_of(found[0]))
                return [message["n"] for message in found]

        places: list[int] = []
        assert await first("all", 3) == [1, 2, 3]
        assert await first("last", 2) == [2, 3]
        assert await first(places[0] + 1, 2) == [2, 3]
        assert await first(moment, 1) == [3]
        assert await first("new", 1) == [4]


async def test_handlers_and_observables_get_messages(nats_server: NatsServer) -> None:
    """Handlers, ``messages``, ``async for`` over the feed and operators work, and stop fetching when they end."""
    async with capturing(nats_server) as capture, rxws.nats.NatsFeed(nats_server.url, start="all") as ws:
        handled: list[Any] = []
        seen: list[Any] = []
        handler = ws.add_handler(handled.append, [{"s": "A"}])
        subscription = ws.messages.subscribe(seen.append)
        everything = aiter(ws)
        await capture.send(trade(1, "A"), trade(2, "B"))
        await until(lambda: len(seen) == 2 and len(handled) == 1)
        assert await take(everything, 2) == seen
        subscription.dispose()
        handler.dispose()
        await everything.close()
        async with watching(nats_server) as js:
            await until_consumers(js, 1)
        stream = ws.stream_filter([{"s": "B"}])
        await capture.send(trade(3, "A"), trade(4, "B"))
        assert await take(stream, 1) == [trade(4, "B")]
        assert len(seen) == 2


async def test_no_message_is_lost_when_the_broker_is_restarted(nats_server: NatsServer) -> None:
    """If the broker is killed and restarted, each message arrives once and in order, without a Gap."""
    async with capturing(nats_server) as capture, rxws.nats.NatsFeed(nats_server.url, start="all") as ws:
        events: list[Any] = []
        capture.ws.events.subscribe(events.append)
        stream = ws.stream_filter(gaps=True)
        await capture.send(*map(trade, range(20)))
        nats_server.kill()
        for number in range(20, 40):
            await capture.server.send(trade(number))
        await until(lambda: capture.relay.pending == 20 and not capture.relay.is_connected)
        assert isinstance(capture.relay.error, ConnectionError)
        nats_server.start()
        await until(lambda: capture.relay.pending == 0)
        await capture.send(*map(trade, range(40, 60)))
        assert await take(stream, 60) == [trade(number) for number in range(60)]
        assert ws.statistics().gaps == 0
        assert capture.relay.error is None
        failed = [event for event in events if isinstance(event, rxws.RelayFailed)]
        assert failed
        assert capture.ws.statistics().dropped == 0


async def test_frozen_broker_stalls_no_local_stream(nats_server: NatsServer) -> None:
    """A frozen broker delays no local stream; afterwards each message is published once."""
    async with capturing(nats_server, ack_timeout=1.0) as capture:
        local = capture.ws.stream_filter()
        nats_server.signal(signal.SIGSTOP)
        began = time.monotonic()
        for number in range(2000):
            await capture.server.send(trade(number))
        assert len(await take(local, 2000)) == 2000
        assert time.monotonic() - began < 3
        await until(lambda: capture.relay.error is not None)
        nats_server.signal(signal.SIGCONT)
        await until(lambda: capture.relay.published == 2000)
        async with rxws.nats.NatsFeed(nats_server.url, start="all") as ws:
            assert await take(ws.stream_filter(), 2000) == [trade(number) for number in range(2000)]


async def test_full_relay_drops_the_oldest_and_reports_it(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A full relay drops the oldest messages, and counts and reports them; readers get a Gap in their place."""
    async with (
        capturing(nats_server, maxsize=50, max_in_flight=10) as capture,
        rxws.nats.NatsFeed(nats_server.url, start="all") as ws,
    ):
        stream = ws.stream_filter(gaps=True)
        events: list[Any] = []
        capture.ws.events.subscribe(events.append)
        await capture.send(trade(0))
        await asyncio.sleep(1.2)
        nats_server.kill()
        for number in range(1, 201):
            await capture.server.send(trade(number))
        await until(lambda: capture.relay.dropped == 150)
        nats_server.start()
        found = await take(stream, 52)
    assert found[0] == trade(0)
    assert isinstance(found[1], rxws.Gap)
    assert found[1].reason == "source"
    assert found[2:] == [trade(number) for number in range(151, 201)]
    overflowed = [event for event in events if isinstance(event, rxws.Overflowed)]
    assert overflowed
    assert overflowed[0].overflow == "drop_oldest"
    assert capture.ws.statistics().dropped == 150


async def test_lost_upstream_is_one_gap_in_its_place(nats_server: NatsServer) -> None:
    """A feed that was cut shows its readers one Gap between the messages before and after."""
    async with capturing(nats_server) as capture, rxws.nats.NatsFeed(nats_server.url, start="all") as ws:
        stream = ws.stream_filter(gaps=True)
        await capture.send(trade(1))
        await asyncio.sleep(0.7)
        capture.server.connections[0].reset()
        await capture.server.connected(2)
        await until(lambda: capture.ws.statistics().gaps == 1)
        await capture.send(trade(2))
        found = await take(stream, 3)
        await asyncio.sleep(1.2)
        assert ws.statistics().gaps == 1
    assert [found[0], found[2]] == [trade(1), trade(2)]
    assert isinstance(found[1], rxws.Gap)


async def test_rotation_of_the_feed_loses_nothing(nats_server: NatsServer) -> None:
    """``rotate()`` makes a new consumer, and the feed continues after the last message."""
    async with capturing(nats_server) as capture, rxws.nats.NatsFeed(nats_server.url, start="all") as ws:
        stream = ws.stream_filter(gaps=True)
        for round_ in range(4):
            await capture.send(*map(trade, range(round_ * 50, round_ * 50 + 50)))
            assert await ws.rotate()
        assert await take(stream, 200) == [trade(number) for number in range(200)]
        assert ws.statistics().gaps == 0


async def test_too_large_frame_is_refused_and_reported(nats_server: NatsServer) -> None:
    """A frame of 2 MiB, which the broker refuses, is dropped and counted; readers get a Gap in its place."""
    async with (
        capturing(nats_server, feed={"connect_options": {"max_size": None}}) as capture,
        rxws.nats.NatsFeed(nats_server.url, start="all") as ws,
    ):
        stream = ws.stream_filter(gaps=True)
        events: list[Any] = []
        capture.ws.events.subscribe(events.append)
        await capture.send(trade(1))
        await asyncio.sleep(0.7)
        await capture.send({**trade(2), "x": "x" * 2**21}, trade(3))
        found = await take(stream, 3)
    assert [found[0], found[2]] == [trade(1), trade(3)]
    assert isinstance(found[1], rxws.Gap)
    [failed] = [event for event in events if isinstance(event, rxws.RelayFailed)]
    assert failed.delay is None
    assert capture.relay.dropped == 1


async def test_stream_that_was_made_again_is_read_from_its_beginning(nats_server: NatsServer) -> None:
    """After a stream was deleted and made again, the feed reports one Gap and delivers all its messages."""
    async with capturing(nats_server) as capture, rxws.nats.NatsFeed(nats_server.url, start="all") as ws:
        events: list[Any] = []
        capture.ws.events.subscribe(events.append)
        stream = ws.stream_filter(gaps=True)
        await capture.send(*map(trade, range(50)))
        assert len(await take(stream, 50)) == 50
        async with watching(nats_server) as js:
            await js.delete_stream("rxws")
        await until(lambda: any(isinstance(event, rxws.RelayFailed) for event in events))
        for number in range(50, 60):
            await capture.server.send(trade(number))
        found = await take(stream, 11)
    assert isinstance(found[0], rxws.Gap)
    assert found[1:] == [trade(number) for number in range(50, 60)]


async def test_purge_while_the_feed_was_away_is_a_gap(nats_server: NatsServer) -> None:
    """If messages were purged before a feed reconnected, it reports a Gap in their place."""
    async with capturing(nats_server) as capture:
        async with rxws.nats.NatsFeed(nats_server.url, start="all") as ws:
            await capture.send(trade(1))
            assert await take(ws.stream_filter(), 1) == [trade(1)]
            position = ws.position
        await capture.send(trade(2))
        async with watching(nats_server) as js:
            await js.purge_stream("rxws")
        await capture.send(trade(3))
        assert position is not None
        async with rxws.nats.NatsFeed(nats_server.url, start=position + 1) as ws:
            found = await take(ws.stream_filter(gaps=True), 2)
    assert isinstance(found[0], rxws.Gap)
    assert found[1] == trade(3)


async def test_second_relay_adds_nothing_twice(nats_server: NatsServer) -> None:
    """Two relays with equal ids store each message once, and both count those that the other one has stored."""
    identity = {"identity": lambda message: message["n"], "feed_name": "f", "patience": 1.0, "settle": 0.05}
    async with (
        capturing(nats_server, name="a", **identity) as capture,
        rxws.nats.relay(capture.ws, nats_server.url, name="b", **identity) as second,
    ):
        await until(lambda: second.is_connected)
        # The relay that begins later skips what it received within twice ``settle`` after the beginning of the other.
        await asyncio.sleep(0.2)
        await capture.send(*map(trade, range(100)))
        await until(lambda: second.published == 100)
        async with rxws.nats.NatsFeed(nats_server.url, start="all") as ws:
            assert await take(ws.stream_filter(gaps=True), 100) == [trade(number) for number in range(100)]
    assert second.duplicates + capture.relay.duplicates == 100


async def test_complete_until_follows_the_relays(nats_server: NatsServer) -> None:
    """``complete_until`` is the time before which no message is missing; it is None when all relays are closed."""
    async with capturing(nats_server) as capture, rxws.nats.NatsFeed(nats_server.url, start="all") as ws:
        stream = ws.stream_filter()
        assert ws.complete_until is None
        await capture.send(trade(1))
        await take(stream, 1)
        now = time.time()
        await until(lambda: ws.complete_until is not None and ws.complete_until > now)
        assert ws.complete_until is not None
        assert ws.complete_until < time.time()


async def test_typed_messages_have_positions(nats_server: NatsServer) -> None:
    """A decoder that returns Structs, and an asynchronous one, work as in any feed, with positions."""

    class Trade(msgspec.Struct):
        n: int

    async def decode(raw: str | bytes) -> Any:
        await asyncio.sleep(0)
        return json.loads(raw)

    async with capturing(nats_server) as capture:
        await capture.send(trade(1), trade(2))
        for decoder in (msgspec.json.Decoder(Trade).decode, decode):
            async with rxws.nats.NatsFeed(nats_server.url, start="all", decode=decoder) as ws:
                found = await take(ws.stream_filter(), 2)
                assert ws.position_of(found[0]) < ws.position_of(found[1])


async def test_recording_of_a_feed_is_replayed(nats_server: NatsServer, tmp_path: Path) -> None:
    """A recording contains the frames of a feed without the relays' statements, and is replayed like any other."""
    path = tmp_path / "far.jsonl"
    async with (
        capturing(nats_server) as capture,
        rxws.nats.NatsFeed(nats_server.url, start="all") as ws,
        rxws.record(ws, path),
    ):
        stream = ws.stream_filter()
        await capture.send(*map(trade, range(10)))
        await take(stream, 10)
    async with rxws.replay(path, math.inf) as again:
        assert [message async for message in again.stream_filter()] == [trade(number) for number in range(10)]


async def test_feed_only_reads(nats_server: NatsServer) -> None:
    """``send``, ``request`` and ``multiplex`` raise TypeError, and so do options for websockets."""
    async with rxws.nats.NatsFeed(nats_server.url) as ws:
        with pytest.raises(TypeError, match="only reads"):
            await ws.send({})
        with pytest.raises(TypeError, match="only reads"):
            await ws.request({}, None)
        with pytest.raises(TypeError, match="only reads"):
            ws.multiplex({}, filters=None)
        assert ws.position is None
    for option in ("lines", "channels_per_connection", "connect_limit", "heartbeat"):
        with pytest.raises(TypeError, match=f"no option '{option}'"):
            rxws.nats.NatsFeed(nats_server.url, **{option: 1})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="has no option 'nonsense'"):
        rxws.nats.NatsFeed(nats_server.url, nonsense=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"start": "never"}, ValueError, "start must be 'new'"),
        ({"start": 0}, ValueError, "start must be at least 1"),
        ({"start": 1.5}, TypeError, "start must be 'new'"),
        ({"start": datetime(2026, 1, 1)}, ValueError, "time zone"),
        ({"batch": 0}, ValueError, "batch must be an int of at least 1, not 0"),
        ({"batch": "x"}, TypeError, "batch must be an int of at least 1, not 'x'"),
        ({"idle_heartbeat": 0}, ValueError, "idle_heartbeat"),
        ({"subject": "rx..a"}, ValueError, "subject"),
        ({"stream": "a.b"}, ValueError, "stream must be a name"),
        ({"stream": 1}, TypeError, "stream must be a str"),
        ({"servers": 1}, TypeError, "servers must be a str"),
        ({"servers": []}, ValueError, "servers must name"),
        ({"decode": 1}, TypeError, "decode must be a function"),
        ({"connect_options": 1}, TypeError, "connect_options must be a mapping"),
        ({"connect_options": {"allow_reconnect": True}}, TypeError, "rxws sets it"),
        ({"filters": {}}, TypeError, "filters must be a list"),
    ],
)
async def test_feed_names_the_argument_that_is_wrong(options: dict[str, Any], kind: type[Exception], text: str) -> None:
    """A wrong argument of NatsFeed raises one error that names it."""
    with pytest.raises(kind, match=text):
        rxws.nats.NatsFeed(**options)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"maxsize": 0}, ValueError, "maxsize must be an int of at least 1, not 0"),
        ({"maxbytes": None}, TypeError, "maxbytes must be an int of at least 1, not None"),
        ({"max_in_flight": True}, TypeError, "max_in_flight must be an int of at least 1, not True"),
        ({"ack_timeout": 0}, ValueError, "ack_timeout"),
        ({"patience": "1"}, TypeError, "patience"),
        ({"identity": 1}, TypeError, "identity must be a plain function"),
        ({"subject": 1}, TypeError, "subject must be a template"),
        ({"subject": "rx.*"}, ValueError, "subject"),
        ({"name": ""}, TypeError, "name must be a str"),
        ({"create": None}, TypeError, "create must be True"),
        ({"servers": b"x"}, TypeError, "servers must be a str"),
        ({"filters": 1}, TypeError, "filters"),
    ],
)
async def test_relay_names_the_argument_that_is_wrong(
    options: dict[str, Any], kind: type[Exception], text: str
) -> None:
    """A wrong argument of ``relay`` raises one error that names it, and no relay is started."""
    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url) as ws:
        with pytest.raises(kind, match=text):
            rxws.nats.relay(ws, **options)
        with pytest.raises(TypeError, match="ws must be a feed"):
            rxws.nats.relay(server)  # type: ignore[arg-type]
        await ws.exit()
        with pytest.raises(rxws.FeedClosed):
            rxws.nats.relay(ws)


async def test_identity_that_raises_is_reported_and_leaves_a_gap(nats_server: NatsServer) -> None:
    """A message whose id or subject cannot be read is reported, counted as dropped, and replaced by a Gap."""
    async with (
        capturing(nats_server, identity=lambda message: message["id"]) as capture,
        rxws.nats.NatsFeed(nats_server.url, start="all") as ws,
    ):
        stream = ws.stream_filter(gaps=True)
        await capture.send({**trade(1), "id": "a b"})
        await asyncio.sleep(0.7)
        await capture.send(trade(2), {**trade(3), "id": 3.5}, {**trade(4), "id": "ü" * 500})
        found = await take(stream, 4)
    assert [found[0]["n"], found[-1]["n"]] == [1, 4]
    assert [type(each) for each in found[1:3]] == [rxws.Gap, rxws.Gap]
    assert capture.relay.dropped == 2
    assert capture.ws.statistics().failures == 2


async def test_subject_may_be_a_function(nats_server: NatsServer) -> None:
    """A function may return the subject; an invalid one is reported. A feed reads such subjects with wildcards."""
    subject = lambda message: f"rx.{message['s']}" if message["n"] else "rx. bad"  # noqa: E731
    async with capturing(nats_server, subject=subject) as capture:
        await capture.send(trade(0), trade(1))
        assert capture.relay.dropped == 1
        async with rxws.nats.NatsFeed(nats_server.url, start="all", subject="rx.>") as ws:
            assert await take(ws.stream_filter(), 1) == [trade(1)]


async def test_stream_with_another_configuration_is_refused(nats_server: NatsServer) -> None:
    """A stream that would silently lose messages, or lacks the subjects, is refused with the reason."""
    async with watching(nats_server) as js:
        await js.add_stream(name="work", subjects=["w.>"], retention="workqueue")
        await js.add_stream(name="other", subjects=["o.>"])
    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url) as ws:
        for stream, text in (("work", "retention 'workqueue'"), ("other", "must take the subjects 'rx.>'")):
            relay = rxws.nats.relay(ws, nats_server.url, stream=stream)
            await until(lambda relay=relay: relay.error is not None)
            assert isinstance(relay.error, UnsuitableError)
            assert text in str(relay.error)
            relay.dispose()


async def test_settings_of_the_stream_are_taken(nats_server: NatsServer) -> None:
    """``create`` overrides settings; a window that is too small for several relays is refused."""
    async with capturing(nats_server, create={"max_age": 60 * 10**9, "duplicate_window": 2 * 10**9}):
        async with watching(nats_server) as js:
            config = (await js.stream_info("rxws")).config
            assert (config.max_age, config.duplicate_window, config.subjects) == (60, 2, ["rx.>", "_rx.>"])
        async with FeedServer() as server, rxws.ReactiveWebSocket(server.url) as ws:
            relay = rxws.nats.relay(ws, nats_server.url, identity=lambda message: 1)
            await until(lambda: relay.error is not None)
            assert "drops copies only within 2 s" in str(relay.error)
            relay.dispose()


async def test_missing_stream_is_waited_for(nats_server: NatsServer) -> None:
    """A feed waits for a stream that does not exist yet; a relay with create=False reports that it is missing."""
    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url) as upstream:
        await server.connected()
        async with rxws.nats.NatsFeed(nats_server.url, start="all") as ws:
            events: list[Any] = []
            ws.events.subscribe(events.append)
            relay = rxws.nats.relay(upstream, nats_server.url, create=False)
            await server.send(trade(1))
            await until(lambda: relay.error is not None)
            assert "no stream takes the messages" in str(relay.error)
            await until(lambda: any("stream not found" in str(event) for event in events))
            async with watching(nats_server) as js:
                await js.add_stream(name="rxws", subjects=["rx.>", "_rx.>"])
            assert await take(ws.stream_filter(), 1) == [trade(1)]
            relay.dispose()


async def test_end_of_the_feed_ends_its_relay(nats_server: NatsServer) -> None:
    """When the feed ends, its relay publishes the messages that it holds, and ends."""
    async with FeedServer() as server:
        ws = rxws.ReactiveWebSocket[Any](server.url)
        await server.connected()
        relay = rxws.nats.relay(ws, nats_server.url)
        await server.send(trade(1))
        await until(lambda: ws.statistics().messages == 1)
        await ws.exit()
        await until(lambda: "ended" in repr(relay))
        assert (relay.is_connected, relay.published) == (False, 1)
        relay.dispose()


async def test_relay_that_ends_without_its_broker_says_so(
    nats_server: NatsServer, caplog: Any, monkeypatch: Any
) -> None:
    """Messages that cannot be published at the end are reported in the log, and the end is bounded."""
    monkeypatch.setattr("rxws.nats.relaying.CLOSE_TIMEOUT", 0.5)
    caplog.set_level(logging.ERROR)
    async with capturing(nats_server) as capture:
        nats_server.kill()
        await capture.server.send(trade(1))
        await until(lambda: capture.relay.pending == 1)
    await until(lambda: "1 messages that the broker has not acknowledged" in caplog.text)


def test_api_error_has_its_numbers() -> None:
    """An error of JetStream's API has its code, its number and its text."""
    error = ApiError("STREAM.INFO.x", {"code": 404, "err_code": 10059, "description": "stream not found"})
    assert (error.code, error.err_code, str(error)) == (404, 10059, "STREAM.INFO.x: stream not found (10059)")


async def test_slow_consumer_of_several_patterns_gets_everything(nats_server: NatsServer) -> None:
    """Even with small batches and uneven patterns each consumer has a request, and all messages arrive in order."""
    symbols = ["A"] * 7 + ["B"] + ["C"] * 40 + ["A", "C"] * 5
    messages = [trade(number, symbol) for number, symbol in enumerate(symbols * 12)]
    async with capturing(nats_server) as capture:
        await capture.send(*messages)
        async with rxws.nats.NatsFeed(nats_server.url, start="all", batch=4) as ws:
            stream = ws.stream_filter([{"s": "A"}, {"s": "B"}, {"s": "D"}])
            wanted = [message for message in messages if message["s"] in "AB"]
            assert await take(stream, len(wanted)) == wanted


async def test_nothing_is_left_behind(nats_server: NatsServer) -> None:
    """After feed and relay have ended, none of their tasks runs, and the server has neither consumer nor client."""
    before = asyncio.all_tasks()
    async with capturing(nats_server) as capture, rxws.nats.NatsFeed(nats_server.url, start="all") as ws:
        stream = ws.stream_filter([{"s": "BTC"}])
        await capture.send(trade(1))
        await take(stream, 1)
        await ws.rotate()
    deadline = time.monotonic() + 3
    while asyncio.all_tasks() - before and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert not asyncio.all_tasks() - before
    async with watching(nats_server) as js:
        await until_consumers(js, 0)


async def test_consumer_that_is_being_created_when_the_feed_ends(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The feed asks the server to delete it after the answer, because the server handles requests in parallel."""
    log: list[str] = []
    api, publish = Broker.api, DirectClient.publish
    asked = asyncio.Event()

    async def late(broker: Broker, subject: str, *arguments: Any, **more: Any) -> Any:
        answer = await api(broker, subject, *arguments, **more)
        if subject.startswith("CONSUMER.CREATE"):
            asked.set()
            await asyncio.sleep(0.3)
            log.append("created")
        return answer

    async def noted(client: DirectClient, subject: str, *arguments: Any, **more: Any) -> None:
        if subject.startswith("$JS.API.CONSUMER.DELETE"):
            log.append("deleted")
        await publish(client, subject, *arguments, **more)

    async with capturing(nats_server):
        monkeypatch.setattr(Broker, "api", late)
        monkeypatch.setattr(DirectClient, "publish", noted)
        async with rxws.nats.NatsFeed(nats_server.url, start="all") as ws, asyncio.timeout(TIMEOUT):
            ws.add_handler(log.append)
            await asked.wait()
        assert log == ["created", "deleted"]


class DecodingLater(rxws.nats.NatsFeed[Any]):
    """A feed whose decoder is a coroutine function."""

    def __init__(self, **options: Any) -> None:
        async def decode(raw: str | bytes) -> Any:
            await asyncio.sleep(0)
            return json.loads(raw) if raw else "empty"

        super().__init__(**{"subject": "rx.>", **options}, decode=decode)


@pytest.mark.parametrize("feed", [rxws.nats.NatsFeed, DecodingLater])
async def test_recorded_gap_is_replayed(
    feed: type[rxws.nats.NatsFeed[Any]], nats_server: NatsServer, tmp_path: Path
) -> None:
    """A recording contains the Gaps that relays caused, and a replay emits them again. No decoder gets their frames."""
    path = tmp_path / "far.jsonl"
    async with (
        capturing(nats_server) as capture,
        feed(servers=nats_server.url, start="all") as ws,
        rxws.record(ws, path),
    ):
        stream = ws.stream_filter(gaps=True)
        await capture.send(trade(1))
        await asyncio.sleep(0.7)
        capture.server.connections[0].reset()
        await capture.server.connected(2)
        await until(lambda: capture.ws.statistics().gaps == 1)
        await capture.send(trade(2))
        assert [type(message) for message in await take(stream, 3)] == [dict, rxws.Gap, dict]
    async with rxws.replay(path, math.inf, feed=feed) as again:
        found = [message async for message in again.stream_filter(gaps=True)]
        assert again.statistics().rejected == 0
    assert [type(message) for message in found] == [dict, rxws.Gap, dict]


@pytest.mark.parametrize("is_waiting", [False, True])
async def test_empty_frame_is_a_message(nats_server: NatsServer, is_waiting: bool) -> None:
    """An empty frame that a relay has captured goes to the decoder, like any other frame."""
    options: dict[str, Any] = {"servers": nats_server.url, "start": "all", "subject": "rx.>"}
    async with (
        FeedServer() as server,
        rxws.ReactiveWebSocket(server.url, decode=lambda raw: raw or "empty") as source,
        rxws.nats.relay(source, nats_server.url, subject=lambda message: "rx.a"),
        DecodingLater(**options)
        if is_waiting
        else rxws.nats.NatsFeed(**options, decode=lambda raw: raw or "empty") as ws,
    ):
        stream = ws.stream_filter()
        await server.connected()
        await server.send("")
        assert await take(stream, 1) == ["empty"]


async def test_gap_while_the_reader_was_away_is_noticed(nats_server: NatsServer) -> None:
    """A reader that starts at its position gets a Gap for what the relay missed meanwhile."""
    async with capturing(nats_server) as capture:
        await capture.send(trade(1))
        await asyncio.sleep(0.7)
        async with rxws.nats.NatsFeed(nats_server.url, start="all") as ws:
            assert await take(ws.stream_filter(), 1) == [trade(1)]
            position = ws.position
        capture.server.connections[0].reset()
        await capture.server.connected(2)
        await until(lambda: capture.ws.statistics().gaps == 1)
        await capture.send(trade(2))
        assert position is not None
        async with rxws.nats.NatsFeed(nats_server.url, start=position + 1) as ws:
            found = await take(ws.stream_filter(gaps=True), 2)
    assert isinstance(found[0], rxws.Gap)
    assert found[1] == trade(2)


async def test_standstill_is_noticed_before_the_first_message_after_it(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A relay notices that its process was suspended before it takes a message, which may be too old to publish."""
    noticed = []

    def identity(message: dict[str, Any]) -> Any:
        noticed.append("the process was suspended" in caplog.text)
        return message["n"]

    async with capturing(nats_server, identity=identity, create={"duplicate_window": 4 * 10**9}) as capture:
        await capture.send(trade(1))
        await asyncio.sleep(0.7)
        # The loop reads the message right after the standstill, before it calls the timers that are due then.
        asyncio.get_running_loop().call_soon(time.sleep, 2)
        await capture.send(trade(2))
        await until(lambda: len(noticed) == 2)
    assert noticed == [False, True]


async def test_message_that_waits_in_a_standstill_is_not_published_at_once(nats_server: NatsServer) -> None:
    """A relay whose process was suspended awaits its peers before it publishes a message that it took before that."""

    def identity(message: dict[str, Any]) -> Any:
        if message["n"] == 2:
            time.sleep(2)
        return message["n"]

    async with capturing(nats_server, identity=identity, create={"duplicate_window": 4 * 10**9}) as capture:
        await capture.send(trade(1))
        await capture.server.send(trade(2))
        await until(lambda: capture.relay.pending == 1)
        await asyncio.sleep(1)
        assert capture.relay.published == 1
        await until(lambda: capture.relay.published == 2)
