"""ReactiveWebSocket: a feed made from a URL, argument by argument."""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import logging
import socket
from collections import Counter

import msgspec
import picows.websockets
import pytest
import reactivex
import websockets
from reactivex.subject import Subject

import rxws
from rxws import CallbackFailed, ConnectFailed, Disconnected, FeedClosed, Gap, ReactiveWebSocket, Rotated, State
from rxws.reporting.library_log import library_logger
from rxws.testing import FeedServer, assert_no_leaks
from tests.support.feeds import greet, of_kind, opened, record, take
from tests.support.life import ScriptedWebsocket, StuckWebsocket

virtual = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")

PLAIN = {"compression": None, "proxy": None, "ping_interval": None}
"""Options for a connection without compression, proxy and pings."""


def now():
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


def feed_of(url, **arguments):
    """Return a feed with plain connections."""
    return ReactiveWebSocket(url, **{"connect_options": PLAIN, "handover_timeout": 1} | arguments)


def connecting(*websockets):
    """Return a ``connect`` function that returns these connections one after the other, and the list of its calls."""
    calls, left = [], list(websockets)

    async def connect(url, **options):
        calls.append((url, options))
        if not left:
            await asyncio.Future()
        return left.pop(0)

    return connect, calls


class Trade(msgspec.Struct):
    price: float


def test_arguments_have_the_defaults_of_the_contract():
    """All arguments except the URL are keyword-only, with the defaults of the contract."""
    parameters = inspect.signature(ReactiveWebSocket).parameters
    assert {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    } == {
        "connect": websockets.connect,
        "connect_options": None,
        "decode": msgspec.json.decode,
        "decoder_factory": None,
        "split": False,
        "rotate_every": None,
        "rotate_on": None,
        "on_open": (),
        "identity": None,
        "per_connection": None,
        "reply": None,
    }
    assert next(iter(parameters)) == "url"
    assert ReactiveWebSocket[int].__args__ == (int,)
    assert issubclass(ReactiveWebSocket, rxws.AsyncWebsocketStreamInterface)


@virtual
class TestConnecting:
    async def test_url_alone_makes_a_feed(self, feed_server):
        """A feed with only a URL connects, decodes JSON, stays connected, and sends."""
        feed_server.script = greet
        async with ReactiveWebSocket(feed_server.url) as feed:
            assert await take(feed.stream_filter(), 2) == [{"connection": 1, "n": 1}, {"connection": 1, "n": 2}]
            await feed.send({"op": "hello"})
            assert await feed_server.expect() == '{"op":"hello"}'
            await asyncio.sleep(50)
            assert feed_server.opened == 1

    @pytest.mark.parametrize("is_coroutine_function", [False, True])
    async def test_url_and_options_are_functions_called_for_every_connection(self, feed_server, is_coroutine_function):
        """Functions and coroutine functions for URL and options are called for every connection."""
        numbers = Counter()

        def url():
            numbers["url"] += 1
            return f"{feed_server.url}key-{numbers['url']}"

        def options():
            numbers["options"] += 1
            return PLAIN | {"additional_headers": {"X-Number": str(numbers["options"])}}

        def later(function):
            async def call():
                await asyncio.sleep(0.1)
                return function()

            return call

        if is_coroutine_function:
            url, options = later(url), later(options)
        async with feed_of(url, connect_options=options) as feed:
            await opened(feed, feed_server)
            await feed.rotate()
            await feed_server.close()
            await opened(feed, feed_server, 3)
        assert [handshake.path for handshake in feed_server.handshakes] == ["/key-1", "/key-2", "/key-3"]
        assert [handshake.headers["X-Number"] for handshake in feed_server.handshakes] == ["1", "2", "3"]

    async def test_url_function_that_raises_is_called_again(self, feed_server):
        """A failed request for a listen key is retried like a failed connection."""
        answers = iter([OSError("no key"), TimeoutError(), feed_server.url])

        async def url():
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        async with feed_of(url) as feed:
            events = record(feed.events)
            await opened(feed, feed_server)
            assert [event.number for event in of_kind(Disconnected, events)] == [None, None]

    async def test_connect_is_called_as_websockets_is(self):
        """``connect`` may be any function with the signature of ``websockets.connect``."""
        connect, calls = connecting(ScriptedWebsocket("1"), ScriptedWebsocket("2"))
        async with ReactiveWebSocket("ws://a", connect=connect, connect_options={"ssl": None}) as feed:
            stream = feed.stream_filter()
            await take(stream, 1)
            feed.present_ws.end()
            await take(stream, 1)
        assert calls[:2] == [("ws://a", {"ssl": None})] * 2

    async def test_connect_without_options_gets_only_the_url(self):
        """Without ``connect_options`` the function is called with the URL only."""
        connect, calls = connecting(ScriptedWebsocket("1"))
        async with ReactiveWebSocket("ws://a", connect=connect) as feed:
            await take(feed.stream_filter(), 1)
        assert calls == [("ws://a", {})]

    async def test_connect_that_returns_no_connection_fails_the_feed(self):
        """The result of ``connect`` must have the websockets API; the error names the argument."""

        async def connect(url):
            return None

        with pytest.raises(ConnectFailed, match=r"^TypeError: connect must return .*, not NoneType"):
            await ReactiveWebSocket("ws://a", connect=connect).wait_connected()

    async def test_invalid_url_fails_the_feed_without_its_secrets(self, caplog):
        """An invalid URL is fatal; the error, the repr and the log contain no secret of it."""
        feed = ReactiveWebSocket("http://me:password@host/?token=secret")
        with pytest.raises(ConnectFailed) as caught:
            await feed.wait_connected()
        for text in (str(caught.value), repr(feed), caplog.text):
            assert "password" not in text
            assert "secret" not in text

    async def test_repr_shows_the_address_without_its_secrets(self, feed_server):
        """The repr shows the state and the redacted URL; a URL function is not called for the repr."""
        async with ReactiveWebSocket("wss://me:password@example.com/ws?token=secret", name="mine") as feed:
            assert repr(feed) == "<mine: connecting, 0 messages, wss://***@example.com/ws?token=***>"
            await feed.exit()
        async with feed_of(lambda: feed_server.url, name="mine") as feed:
            assert repr(feed) == "<mine: connecting, 0 messages, URL from a function>"


@virtual
class TestOnOpen:
    async def test_messages_are_sent_on_every_connection_before_anything_else(self, feed_server):
        """A list of messages, and of functions that return messages, is sent in order on every new connection."""
        numbers = iter(range(10))

        async def later():
            await asyncio.sleep(0.5)
            return {"n": next(numbers)}

        on_open = ["text", b"binary", {"op": "subscribe"}, lambda: f"n={next(numbers)}", later, ["a", "list"]]
        async with feed_of(feed_server.url, on_open=on_open) as feed:
            on_open.clear()
            sending = asyncio.create_task(feed.send("mine"))
            first = await opened(feed, feed_server)
            await first.expect("mine")
            await sending
            await feed.rotate()
            second = feed_server.connections[-1]
            await feed.send("again")
            await second.expect("again")
        subscribe = '{"op":"subscribe"}'
        assert first.received == ["text", b"binary", subscribe, "n=0", '{"n":1}', '["a","list"]', "mine"]
        assert second.received == ["text", b"binary", subscribe, "n=2", '{"n":3}', '["a","list"]', "again"]

    async def test_coroutine_function_is_called_with_every_connection(self, feed_server):
        """``async on_open(connection)`` is called first on every connection, and may send and receive."""

        async def handshake(connection):
            await connection.send("hello")
            assert json.loads(await connection.recv()) == {"welcome": True}
            await connection.send("subscribe")

        async def serve(connection):
            await connection.expect("hello")
            await connection.send({"welcome": True})
            await connection.expect("subscribe")
            await connection.send({"n": connection.number})

        feed_server.script = serve
        async with feed_of(feed_server.url, on_open=handshake) as feed:
            stream = feed.stream_filter()
            assert await take(stream, 1) == [{"n": 1}]
            await feed_server.close()
            assert await take(stream, 1) == [{"n": 2}]

    async def test_on_open_that_raises_closes_the_connection_and_is_called_again(self, feed_server):
        """An exception of ``on_open`` closes the websocket, and the feed opens the next one."""
        calls = []

        async def on_open(connection):
            calls.append(connection)
            if len(calls) < 3:
                raise OSError("not yet")
            await connection.send("hello")

        async with feed_of(feed_server.url, on_open=on_open) as feed:
            third = await opened(feed, feed_server, 3)
            await third.expect("hello")
            assert feed_server.connections == [third]
            assert feed.statistics().opened == 1

    async def test_function_in_on_open_that_raises_closes_the_connection(self, feed_server):
        """An exception of a function in the list closes the websocket, and the feed opens the next one."""
        answers = iter([KeyError("not yet"), "hello"])

        def message():
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        async with feed_of(feed_server.url, on_open=["first", message]) as feed:
            second = await opened(feed, feed_server, 2)
            await second.expect("hello")
            assert feed_server.connections == [second]

    async def test_on_open_that_takes_too_long_closes_the_connection(self, feed_server):
        """After ``open_timeout`` seconds ``on_open`` is cancelled and the websocket is closed."""
        calls = []

        async def on_open(connection):
            calls.append(now())
            if len(calls) == 1:
                await asyncio.Future()

        async with feed_of(feed_server.url, on_open=on_open, open_timeout=4) as feed:
            second = await opened(feed, feed_server, 2)
            assert calls[1] - calls[0] == pytest.approx(4, abs=0.1)
            assert feed_server.connections == [second]

    async def test_exit_during_on_open_closes_the_connection(self, feed_server):
        """``exit()`` closes a connection that is still being opened."""

        async def on_open(connection):
            await asyncio.Future()

        async with feed_of(feed_server.url, on_open=on_open):
            await feed_server.connected()
        await feed_server.disconnected()

    async def test_plain_function_for_on_open_fails_the_feed(self, feed_server):
        """A plain function fails the feed with an error that asks for a coroutine function."""

        def subscribe(connection):
            """A plain function in place of a coroutine function."""

        with pytest.raises(
            ConnectFailed, match=r"on_open must be an 'async def on_open\(connection\)', not .*subscribe"
        ):
            await feed_of(feed_server.url, on_open=subscribe).wait_connected()
        await feed_server.disconnected()


@virtual
class TestDecoding:
    async def test_typed_decoder_returns_typed_messages(self, feed_server):
        """With a typed decoder of msgspec the messages are objects; frames that it refuses are rejected."""
        decode = msgspec.json.Decoder(Trade).decode
        async with ReactiveWebSocket[Trade](feed_server.url, decode=decode, connect_options=PLAIN) as feed:
            connection = await opened(feed, feed_server)
            stream = feed.stream_filter(lambda trade: trade.price > 1)
            await connection.send({"price": 1}, {"price": "high"}, {"price": 2.5})
            assert await take(stream, 1) == [Trade(2.5)]
            assert feed.statistics().rejected == 1

    async def test_integers_beyond_64_bits_are_kept(self, feed_server):
        """By default JSON is decoded without loss, from text frames and binary frames."""
        async with feed_of(feed_server.url) as feed:
            connection = await opened(feed, feed_server)
            await connection.send("123456789012345678901234567890", b'{"a":1}')
            assert await take(feed.stream_filter(), 2) == [123456789012345678901234567890, {"a": 1}]

    @pytest.mark.parametrize("split", [False, True])
    @pytest.mark.parametrize("is_coroutine_function", [False, True])
    async def test_split_makes_a_message_of_each_item(self, feed_server, split, is_coroutine_function):
        """With ``split=True`` each item of a JSON array is a message; any other frame is one message."""

        async def decode_later(frame):
            await asyncio.sleep(0.01)
            return json.loads(frame)

        decode = decode_later if is_coroutine_function else json.loads
        async with feed_of(feed_server.url, decode=decode, split=split) as feed:
            connection = await opened(feed, feed_server)
            messages = record(feed.messages)
            await connection.send([1, [2]], [], {"a": [3]})
            await asyncio.sleep(1)
            assert messages == ([1, [2], {"a": [3]}] if split else [[1, [2]], [], {"a": [3]}])

    @pytest.mark.parametrize("split", [False, True])
    async def test_decoder_factory_is_called_for_every_connection(self, feed_server, split):
        """Each connection has its own decoder; ``split`` applies to its result."""

        def counting():
            seen = []

            def decode(frame):
                seen.append(frame)
                return list(seen)

            return decode

        async with feed_of(feed_server.url, decoder_factory=counting, split=split) as feed:
            messages = record(feed.messages)
            for number in (1, 2):
                connection = await opened(feed, feed_server, number)
                await connection.send("a", "b")
                await asyncio.sleep(1)
                connection.reset()
            assert messages == (["a", "a", "b"] * 2 if split else [["a"], ["a", "b"]] * 2)

    async def test_decoder_factory_that_raises_on_a_later_connection_is_called_again(self, feed_server):
        """After a success the feed keeps trying, and reports why no connection was opened."""
        results = [json.loads, None, ValueError("no dictionary"), json.loads]

        def factory():
            result = results.pop(0)
            if isinstance(result, Exception):
                raise result
            return result

        async with feed_of(feed_server.url, decoder_factory=factory) as feed:
            events = record(feed.events)
            connection = await opened(feed, feed_server)
            connection.reset()
            await opened(feed, feed_server, 4)
            causes = [each.cause for each in of_kind(Disconnected, events)][1:]
            assert "the result of decoder_factory must be a function, not None" in causes[0]
            assert "no dictionary" in causes[1]
            assert len(feed_server.connections) == 1

    async def test_encode_applies_to_everything_that_is_sent(self, feed_server):
        """``encode`` applies to ``send``, ``on_open``, ``heartbeat`` and ``reply``."""
        arguments = {
            "encode": lambda message: f"<{message}>",
            "on_open": [1],
            "heartbeat": (2, 5),
            "reply": lambda frame: 3,
        }
        async with feed_of(feed_server.url, **arguments) as feed:
            connection = await opened(feed, feed_server)
            await connection.send("0")
            await connection.expect("<3>")
            await asyncio.sleep(6)
            await feed.send(4)
            await connection.expect("<4>")
            assert connection.received == ["<1>", "<3>", "<2>", "<4>"]

    async def test_subclass_may_override_hooks(self, feed_server):
        """Hooks of a subclass take precedence over the defaults of the arguments, and may call ``super()``."""

        class Numbered(ReactiveWebSocket):
            def _parse_raw_data(self, raw_data):
                return {"message": super()._parse_raw_data(raw_data)}

            def _reply(self, raw_data):
                return raw_data

        async with Numbered(feed_server.url, connect_options=PLAIN) as feed:
            connection = await opened(feed, feed_server)
            await connection.send("1")
            assert await take(feed.stream_filter(), 1) == [{"message": 1}]
            await connection.expect("1")


@virtual
class TestRotating:
    async def test_rotate_every_replaces_a_connection_at_its_age(self, feed_server):
        """``rotate_every`` rotates each connection at this age, without a gap."""
        async with feed_of(feed_server.url, rotate_every=3600) as feed:
            events = record(feed.events)
            await asyncio.sleep(4 * 3600 - 10)
            assert [event.number for event in of_kind(Rotated, events)] == [2, 3, 4]
            assert of_kind(Gap, events) == []
            assert of_kind(CallbackFailed, events) == []

    async def test_rotate_on_a_message_that_passes(self, feed_server):
        """A message that passes the filter rotates, and is delivered like any other message."""
        async with feed_of(feed_server.url, rotate_on=[{"e": "listenKeyExpired"}, {"e": "bye"}]) as feed:
            stream = feed.stream_filter()
            first = await opened(feed, feed_server)
            await first.send({"e": "trade"}, {"e": "listenKeyExpired"})
            second = await opened(feed, feed_server, 2)
            await asyncio.sleep(3)
            await second.send({"e": "bye"})
            await opened(feed, feed_server, 3)
            await asyncio.sleep(3)
            assert feed.statistics().rotations == 2
            assert [message["e"] for message in await take(stream, 3)] == ["trade", "listenKeyExpired", "bye"]
            assert feed.statistics().streams == 2

    async def test_rotate_on_needs_no_public_name_of_the_subclass(self, feed_server):
        """``rotate_on`` works even if a subclass reuses the name ``stream_filter``."""
        kind = type("Shadow", (ReactiveWebSocket,), {"stream_filter": "the subclass's own"})
        async with kind(feed_server.url, rotate_on=[{"e": "bye"}], connect_options=PLAIN) as feed:
            events = record(feed.events)
            connection = await opened(feed, feed_server)
            await asyncio.sleep(10)
            assert feed_server.opened == 1
            await connection.send({"e": "bye"})
            await feed_server.connected(2)
            assert of_kind(CallbackFailed, events) == []

    async def test_rotate_on_a_function_of_a_message(self, feed_server):
        """A function ``message -> bool`` may be the filter."""
        async with feed_of(feed_server.url, rotate_on=lambda message: message == "bye") as feed:
            connection = await opened(feed, feed_server)
            await connection.send('"hello"', '"bye"')
            await opened(feed, feed_server, 2)

    async def test_rotate_on_a_signal_in_the_first_message(self, feed_server):
        """A connection rotates if its first message is the signal, even if that message was held."""

        async def expire(connection):
            await connection.send({"e": "expired"} if connection.number < 4 else {"e": "fine"})

        feed_server.script = expire
        async with feed_of(feed_server.url, rotate_on=[{"e": "expired"}]) as feed:
            assert await take(feed.stream_filter([{"e": "fine"}]), 1) == [{"e": "fine"}]
            await asyncio.sleep(100)
            assert feed_server.opened == 4

    async def test_rotate_on_an_observable_that_emits(self, feed_server):
        """An Observable rotates when it emits; each connection subscribes to it and disposes the subscription."""
        signal = Subject()
        async with feed_of(feed_server.url, rotate_on=signal) as feed:
            await opened(feed, feed_server)
            await asyncio.sleep(10)
            for number in (2, 3):
                signal.on_next("now")
                await opened(feed, feed_server, number)
                await asyncio.sleep(3)
            assert feed.statistics().rotations == 2
            assert len(signal.observers) == 1
        assert len(signal.observers) == 0

    async def test_rotate_on_a_timed_observable_runs_on_the_loops_clock(self, feed_server):
        """``rotate_on=rx.timer(…)`` runs on the loop's clock."""
        async with feed_of(feed_server.url, rotate_on=reactivex.timer(1800.0)) as feed:
            await asyncio.sleep(2 * 1800 + 60)
            assert feed.statistics().rotations == 2

    async def test_rotate_on_an_observable_that_completes_is_not_a_signal(self, feed_server):
        """An Observable that completes without an item does not rotate; ``rotate_every`` still does."""
        async with feed_of(feed_server.url, rotate_on=reactivex.empty(), rotate_every=100) as feed:
            events = record(feed.events)
            await asyncio.sleep(90)
            assert feed_server.opened == 1
            await asyncio.sleep(20)
            assert feed.statistics().rotations == 1
            assert of_kind(CallbackFailed, events) == []

    async def test_rotate_on_an_observable_that_fails_is_reported_and_no_signal(self, feed_server):
        """An error of the Observable is reported once per connection and does not rotate; ``rotate_every`` does."""
        error = ValueError("no signal")
        arguments = {"rotate_on": reactivex.throw(error), "rotate_every": 100, "handover_timeout": 0}
        async with feed_of(feed_server.url, **arguments) as feed:
            events = record(feed.events)
            await asyncio.sleep(90)
            assert feed_server.opened == 1
            await asyncio.sleep(20)
            assert feed_server.opened == 2
            assert [(event.handler, event.error) for event in of_kind(CallbackFailed, events)] == [
                ("rotate_on", error)
            ] * 2

    @pytest.mark.parametrize("end", ["exit", "fail", "lose"])
    async def test_nothing_is_left_of_the_signals(self, feed_server, caplog, end):
        """When the connection ends in another way, no task, subscription or unretrieved exception is left."""
        signal = Subject()

        def passes(message):
            return False

        for rotate_on in (passes, signal):
            arguments = {"rotate_on": rotate_on, "rotate_every": 3600, "should_retry": lambda error: end != "fail"}
            feed = feed_of(feed_server.url, **arguments)
            await opened(feed, feed_server, feed_server.opened + 1)
            if end != "exit":
                await feed_server.close()
                await asyncio.sleep(1)
            await feed.exit()
            assert not [task for task in asyncio.all_tasks() if "rxws" in repr(task)]
        gc.collect()
        assert "never retrieved" not in caplog.text
        assert len(signal.observers) == 0

    async def test_signals_in_one_burst_rotate_once(self, feed_server):
        """Several messages that pass ``rotate_on`` at the same moment cause one rotation, and no error."""
        async with feed_of(feed_server.url, rotate_on=[{"e": "expired"}]) as feed:
            events = record(feed.events)
            connection = await opened(feed, feed_server)
            await connection.send({"e": "expired"}, {"e": "expired"})
            await asyncio.sleep(5)
            assert feed.statistics().rotations == 1
            assert of_kind(CallbackFailed, events) == []

    async def test_simultaneous_signals_rotate_once(self, feed_server):
        """A message that passes and ``rotate_every`` at the same moment cause one rotation."""
        async with feed_of(feed_server.url, rotate_on=[{"e": "expired"}], rotate_every=10) as feed:
            connection = await opened(feed, feed_server)
            started = now()
            await asyncio.sleep(10 - (now() - started))
            await connection.send({"e": "expired"})
            await asyncio.sleep(5)
            assert feed.statistics().rotations == 1


@virtual
class TestHeartbeat:
    async def test_heartbeat_is_sent_at_its_interval(self, feed_server):
        """``heartbeat=(message, seconds)`` is sent at this interval on every connection while it is open."""
        async with feed_of(feed_server.url, heartbeat=("ping", 20)) as feed:
            first = await opened(feed, feed_server)
            await asyncio.sleep(70)
            assert first.received == ["ping"] * 3
            await feed.rotate()
            second = feed_server.connections[-1]
            await asyncio.sleep(50)
            assert second.received == ["ping"] * 2
            assert first.received == ["ping"] * 3

    @pytest.mark.parametrize("is_coroutine_function", [False, True])
    async def test_heartbeat_may_be_a_function(self, feed_server, is_coroutine_function):
        """An (async) function is called for the message of every heartbeat."""
        numbers = iter(range(100))

        def beat():
            return {"ping": next(numbers)}

        async def beat_later():
            await asyncio.sleep(0.1)
            return beat()

        heartbeat = (beat_later if is_coroutine_function else beat, 10)
        async with feed_of(feed_server.url, heartbeat=heartbeat) as feed:
            connection = await opened(feed, feed_server)
            await asyncio.sleep(35)
            assert connection.received == ['{"ping":0}', '{"ping":1}', '{"ping":2}']

    @pytest.mark.parametrize("error", [KeyError("token"), asyncio.CancelledError()])
    async def test_heartbeat_that_raises_is_reported_and_continues(self, feed_server, error):
        """A heartbeat whose function raises, or whose message cannot be sent, is reported and skipped."""
        answers = iter([error, float("nan"), "ping", "ping"])

        def beat():
            answer = next(answers)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        async with feed_of(feed_server.url, heartbeat=(beat, 10)) as feed:
            events = record(feed.events)
            connection = await opened(feed, feed_server)
            await asyncio.sleep(35)
            assert connection.received == ["ping"]
            failed = of_kind(CallbackFailed, events)
            assert failed[0].error is error
            assert [type(event.error) for event in failed] == [type(error), ValueError]

    async def test_exit_ends_a_heartbeat_that_waits(self, feed_server):
        """A slow function is cancelled when its connection ends, and is not reported as failed."""

        async def beat():
            await asyncio.Future()

        async with feed_of(feed_server.url, heartbeat=(beat, 1)) as feed:
            events = record(feed.events)
            await opened(feed, feed_server)
            await asyncio.sleep(5)
            await feed_server.close()
            await opened(feed, feed_server, 2)
            await asyncio.sleep(5)
        assert of_kind(CallbackFailed, events) == []

    async def test_heartbeat_to_a_dead_peer_ends_its_connection(self):
        """A heartbeat that cannot be handed over within ``send_timeout`` seconds ends the connection."""
        second = ScriptedWebsocket()
        connect, _ = connecting(StuckWebsocket(), second)
        async with ReactiveWebSocket("ws://a", connect=connect, heartbeat=("ping", 10), send_timeout=2) as feed:
            await feed.wait_connected()
            await asyncio.sleep(13)
            assert feed.present_ws is second
            assert feed.statistics().reconnects == {"network": 1}


@virtual
class TestHooks:
    async def test_identity_replaces_the_hook(self, feed_server):
        """``identity`` decides which messages are copies in a rotation."""
        async with feed_of(feed_server.url, identity=lambda message: message["id"]) as feed:
            first = await opened(feed, feed_server)
            stream = feed.stream_filter()
            rotating = feed.rotate()
            second = await feed_server.connected(2)
            await first.send({"id": 1, "on": "first"})
            await second.send({"id": 1, "on": "second"}, {"id": 2, "on": "second"})
            await rotating
            assert await take(stream, 2) == [{"id": 1, "on": "first"}, {"id": 2, "on": "second"}]
            assert feed.statistics().duplicates == 1

    @pytest.mark.parametrize("filters", [[{"e": "ack"}, {"e": "snapshot"}], lambda message: message["e"] != "trade"])
    async def test_per_connection_replaces_the_hook(self, feed_server, filters):
        """Messages that pass the filter ``per_connection`` are discarded in a rotation."""

        async def subscribe(connection):
            await connection.send({"e": "ack"}, {"e": "snapshot"}, {"e": "trade", "n": connection.number})

        feed_server.script = subscribe
        async with feed_of(feed_server.url, per_connection=filters) as feed:
            stream = feed.stream_filter()
            await opened(feed, feed_server)
            await feed.rotate()
            assert [message["e"] for message in await take(stream, 4)] == ["ack", "snapshot", "trade", "trade"]
            assert feed.statistics().discarded == 2

    async def test_reply_replaces_the_hook(self, feed_server):
        """The result of ``reply`` is sent on the same connection."""
        async with feed_of(feed_server.url, reply=lambda frame: "pong" if frame == '"ping"' else None) as feed:
            connection = await opened(feed, feed_server)
            await connection.send('"ping"', '"other"')
            assert await connection.expect() == "pong"
            await asyncio.sleep(1)
            assert connection.received == ["pong"]

    async def test_options_of_the_base_are_passed_on(self, feed_server):
        """All options of the base class are accepted and passed to it."""
        feed_server.refuse(503)
        async with feed_of(feed_server.url, name="mine", reconnect_delays=lambda: iter([7])) as feed:
            started = now()
            await feed.wait_connected()
            assert now() - started == pytest.approx(7, abs=0.1)
            assert repr(feed).startswith("<mine: connected")
        with pytest.raises(FeedClosed, match="mine"):
            await feed.send("hello")


@virtual
class TestBadArguments:
    @pytest.mark.parametrize(
        ("arguments", "error", "expected"),
        [
            ({"url": 7}, TypeError, "url must be a str or a function that returns one, not int"),
            ({"url": None}, TypeError, "url must be a str or a function that returns one, not NoneType"),
            ({"connect": "ws"}, TypeError, "connect must be a function, not 'ws'"),
            ({"connect_options": [1]}, TypeError, "connect_options must be a mapping or a function .*, not list"),
            ({"decode": None}, TypeError, "decode must be a function, not None"),
            ({"decoder_factory": 3}, TypeError, "decoder_factory must be a plain function without parameters, not 3"),
            ({"decoder_factory": json.loads}, TypeError, "decoder_factory must be a plain function without parameters"),
            ({"decoder_factory": greet}, TypeError, "decoder_factory must be a plain function without parameters"),
            ({"decoder_factory": dict, "decode": str}, TypeError, "decode and decoder_factory exclude each other"),
            ({"identity": 3}, TypeError, "identity must be a function, not 3"),
            ({"reply": "pong"}, TypeError, "reply must be a function, not 'pong'"),
            ({"encode": 3}, TypeError, "encode must be a plain function of a message, not 3"),
            ({"rotate_every": "1h"}, TypeError, "rotate_every must be a positive number of seconds, not '1h'"),
            ({"rotate_every": 0}, ValueError, "rotate_every must be a positive number of seconds, not 0"),
            ({"rotate_every": float("nan")}, ValueError, "rotate_every must be a positive number of seconds, not nan"),
            ({"rotate_on": {"e": "expired"}}, TypeError, "rotate_on must be a list of dicts, not a dict"),
            ({"rotate_on": 7}, TypeError, "rotate_on must be a list of dicts, or a callable, not int"),
            ({"per_connection": "ack"}, TypeError, "per_connection must be a list of dicts, or a callable, not str"),
            ({"on_open": "subscribe"}, TypeError, "on_open must be a list of messages .*, not str"),
            ({"on_open": b"subscribe"}, TypeError, "on_open must be a list of messages .*, not bytes"),
            ({"on_open": {"op": "subscribe"}}, TypeError, "on_open must be a list of messages .*, not dict"),
            ({"on_open": 7}, TypeError, "on_open must be a list of messages .*, not int"),
            ({"heartbeat": "ping"}, TypeError, "heartbeat must be a pair"),
            ({"open_timeout": -1}, ValueError, "open_timeout must be a positive number of seconds, not -1"),
            ({"nonsense": 1}, TypeError, "nonsense"),
        ],
    )
    async def test_bad_argument_is_refused_by_name(self, arguments, error, expected):
        """An invalid argument raises at once; the error names the argument and the expected value."""
        with pytest.raises(error, match=expected):
            ReactiveWebSocket(**{"url": "ws://127.0.0.1:9"} | arguments)

    @pytest.mark.parametrize("argument", ["identity", "reply", "per_connection", "rotate_on"])
    async def test_coroutine_function_in_place_of_a_plain_one_is_refused(self, argument):
        """A coroutine function in place of a plain one raises TypeError, because its result would always be true."""

        async def later(message):
            """Never called."""

        with pytest.raises(TypeError, match="plain function"):
            ReactiveWebSocket("ws://127.0.0.1:9", **{argument: later})


class TestPicows:
    """The main paths on ``picows.websockets``, in real time, because picows needs real sockets."""

    @pytest.fixture(autouse=True)
    async def leaks(self):
        async with assert_no_leaks():
            yield

    @staticmethod
    def feed(server, **arguments):
        """Return a feed on picows."""
        arguments = {"handover_timeout": 0.2, "handover_settle": 0.05} | arguments
        return ReactiveWebSocket(server.url, connect=picows.websockets.connect, **arguments)

    async def test_feed_on_picows_delivers_sends_rotates_and_closes(self):
        """A feed on picows delivers, sends, replies, rotates, reconnects after a close and a reset, and closes."""
        async with FeedServer(greet) as server:
            async with self.feed(server, on_open=["subscribe"], reply=lambda frame: "pong") as feed:
                stream = feed.stream_filter()
                assert await take(stream, 2) == [{"connection": 1, "n": 1}, {"connection": 1, "n": 2}]
                await feed.send({"op": "hello"})
                await server.expect('{"op":"hello"}')
                await feed.wait_connected()
                assert await feed.rotate()
                assert [message["connection"] for message in await take(stream, 2)] == [2, 2]
                await server.close()
                assert [message["connection"] for message in await take(stream, 2)] == [3, 3]
                server.reset()
                assert [message["connection"] for message in await take(stream, 2)] == [4, 4]
                for _ in range(4):
                    await server.expect("subscribe")
                await server.expect("pong")
                await feed.wait_connected()
                assert isinstance(feed.present_ws, picows.websockets.ClientConnection)
                assert feed.statistics().reconnects.keys() == {"server", "network"}
            assert feed.state.value is State.CLOSED
            await server.disconnected()

    async def test_feed_on_picows_fails_at_a_404(self):
        """A 404 before the first success fails the feed, with the status in the error."""
        async with FeedServer() as server:
            server.refuse(404)
            with pytest.raises(ConnectFailed) as caught:
                async with self.feed(server) as feed:
                    await asyncio.gather(feed.wait_closed(), return_exceptions=True)
            assert caught.value.status == 404

    async def test_feed_on_picows_closes_with_a_dead_peer(self):
        """``exit()`` is bounded even if the peer does not answer the close."""
        async with FeedServer() as server:
            async with self.feed(server, close_timeout=0.2) as feed:
                connection = await opened(feed, server)
                connection.stall()
                started = now()
            assert now() - started < 3
            connection.reset()
            await asyncio.sleep(0.1)


def test_logger_is_not_configured():
    """The logger ``rxws`` has no handler and no level, so the user's configuration applies."""
    assert logging.getLogger("rxws").level == logging.NOTSET
    assert logging.getLogger("rxws").handlers == []


# Addresses


async def test_second_address_is_tried_when_the_first_swallows_packets(monkeypatch):
    """If the first address of a host does not answer, the second one is connected within half a second."""
    loop = asyncio.get_running_loop()
    connect, asked = loop.sock_connect, []

    async def getaddrinfo(host, port, **_):
        kind = socket.AF_INET, socket.SOCK_STREAM, 6, ""
        return [(*kind, (address, port)) for address in ("127.0.0.2", "127.0.0.1")]

    async def sock_connect(sock, address):
        asked.append(address[0])
        if address[0] == "127.0.0.2":
            await asyncio.Future()
        await connect(sock, address)

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(loop, "sock_connect", sock_connect)
    async with FeedServer() as server:
        url = server.url.replace("127.0.0.1", "localhost")
        async with feed_of(url, open_timeout=5) as feed:
            async with asyncio.timeout(1):
                await feed.wait_connected()
    assert asked == ["127.0.0.2", "127.0.0.1"]


@virtual
@pytest.mark.parametrize(
    ("given", "passed"),
    [
        (None, {"happy_eyeballs_delay": 0.25}),
        ({"happy_eyeballs_delay": None}, {"happy_eyeballs_delay": None}),
        ({"unix": True, "path": "/a"}, {"unix": True, "path": "/a"}),
    ],
)
async def test_happy_eyeballs_delay_is_a_default_of_websockets_connect_alone(given, passed, monkeypatch):
    """A value of the user is kept. A unix socket, and a ``connect`` function of the user, get no default."""
    connect, calls = connecting(ScriptedWebsocket(), ScriptedWebsocket())
    async with ReactiveWebSocket("ws://localhost", connect=connect) as feed:
        await feed.wait_connected()
    monkeypatch.setattr(websockets, "connect", connect)
    async with ReactiveWebSocket("ws://localhost", connect=connect, connect_options=given) as feed:
        await feed.wait_connected()
    assert [options for _, options in calls] == [{}, {"logger": library_logger(), **passed}]


@virtual
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:80", "me:pass@127.0.0.1", "[::1]", "[::1]:80"])
async def test_happy_eyeballs_delay_is_not_passed_when_the_host_is_an_address(host, monkeypatch):
    """``happy_eyeballs_delay`` is not passed for a URL with an IP address, because there is only one address."""
    connect, calls = connecting(ScriptedWebsocket())
    monkeypatch.setattr(websockets, "connect", connect)
    async with ReactiveWebSocket(f"ws://{host}/path", connect=connect) as feed:
        await feed.wait_connected()
    assert [options for _, options in calls] == [{"logger": library_logger()}]


def test_happy_eyeballs_delay_is_not_passed_on_uvloop():
    """On uvloop, which does not support ``happy_eyeballs_delay``, a feed connects without it."""
    uvloop = pytest.importorskip("uvloop")

    async def main():
        async with FeedServer() as server, feed_of(server.url) as feed:
            async with asyncio.timeout(5):
                await feed.wait_connected()

    uvloop.run(main())
