"""Faults and their outcomes, one test for each fault.

"Reconnects" means: the feed opens the next connection, after a delay if one is required, subscribes again, and reports
the cause and a gap. "Fails" means: the feed and all its streams end with the error.

The main rows run on each event loop and with each library. Tests of long waits use virtual time. A server that is
stopped or killed runs in its own process.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import random
import re
import signal
import socket
import ssl
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import aiohttp
import msgspec
import picows.websockets
import pytest
import trustme
import websockets
from websockets.exceptions import ConnectionClosed

import rxws
import rxws.picows
from rxws import CallbackFailed, Connected, ConnectFailed, Disconnected, Gap, MessageRejected, Quiet, Rotated, State
from rxws.testing import FeedServer, NumberedBroadcast, assert_no_leaks, serve_in_process
from tests.support.life import Ledger, Record, ScriptedFeed, ScriptedWebsocket
from tests.support.proxy import FaultProxy

try:
    import uvloop
except ImportError:  # not on Windows
    uvloop = None

in_virtual_time = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


# Event loops and libraries


def eager_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop with eager tasks (Python 3.12)."""
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)
    return loop


class Kind(NamedTuple):
    """An event loop and a websocket library."""

    name: str
    loop: Callable[[], asyncio.AbstractEventLoop]
    connect: Callable[..., Any]


KINDS = [
    Kind("asyncio, websockets", asyncio.new_event_loop, websockets.connect),
    Kind("asyncio, picows", asyncio.new_event_loop, picows.websockets.connect),
    Kind("asyncio, rxws.picows", asyncio.new_event_loop, rxws.picows.connect),
]
if uvloop is not None:
    KINDS += [
        Kind("uvloop, websockets", uvloop.new_event_loop, websockets.connect),
        Kind("uvloop, picows", uvloop.new_event_loop, picows.websockets.connect),
        Kind("uvloop, rxws.picows", uvloop.new_event_loop, rxws.picows.connect),
    ]
if sys.version_info >= (3, 12):
    KINDS += [Kind("eager, websockets", eager_loop, websockets.connect)]


each_library = pytest.mark.parametrize(
    "connect",
    [websockets.connect, picows.websockets.connect, rxws.picows.connect],
    ids=["websockets", "picows", "rxws.picows"],
)


def main_row(test):
    """Run a coroutine function of a Kind on each loop and with each library, and check that nothing leaks."""

    @pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
    def run(kind):
        async def checked():
            # A picows connection to a frozen peer is abandoned and gives up after 10 s.
            async with assert_no_leaks(timeout=15), asyncio.timeout(60):
                await test(kind)

        with asyncio.Runner(loop_factory=kind.loop) as runner:
            runner.run(checked())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


async def eventually(condition, *, timeout=60.0):
    """Poll until a condition is true."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


class Followed(rxws.ReactiveWebSocket):
    """A feed with short timeouts and a record of its messages, events and states."""

    def __init__(self, url, connect=websockets.connect, **options):
        options = {
            "connect_options": {"ping_interval": None, "close_timeout": 0.5, "proxy": None},
            "reconnect_delays": rising,
            "close_timeout": 2,
        } | options
        super().__init__(url, connect=connect, **options)
        self.record = Record(self)


def rising(step: float = 0.001):
    """Return growing delays. They are all different, so a delay shows its place in the sequence."""
    return itertools.count(0.0, step)


async def survived(server, feed, *, count=2):
    """Assert that a feed has recovered: connected ``count`` times, subscribed again, and delivering."""
    await server.connected(count, timeout=30)
    await feed.record.happened(Connected, count)
    newest = await server.connected(count)
    await newest.expect({"subscribe": "trades"}, timeout=30)
    await feed.wait_connected()
    before = len(feed.record.messages)
    await newest.send({"after": count})
    assert (await feed.record.received(before + 1))[-1] == {"after": count}
    assert len(feed.record.of(Gap)) >= count - 1


SUBSCRIBE = {"on_open": [{"subscribe": "trades"}]}


# Closed


@main_row
async def test_close_1000_or_1001_by_the_server(kind):
    """After a normal close by the server the feed reconnects, as after any loss."""
    async with FeedServer() as server, Followed(server.url, kind.connect, **SUBSCRIBE) as feed:
        for count, code in enumerate((1000, 1001, 1000), 2):
            await server.connected(count - 1)
            await feed.record.happened(Connected, count - 1)
            await server.close(code)
            await survived(server, feed, count=count)
        events = feed.record.of(Disconnected)
        assert [(event.reason, event.code) for event in events] == [
            ("server", 1000),
            ("server", 1001),
            ("server", 1000),
        ]
        assert [gap.reason for gap in feed.record.of(Gap)] == ["server"] * 3


@in_virtual_time
@pytest.mark.parametrize(("code", "delay"), [(1011, 0), (1012, 2), (1013, 2), (3005, 0), (4999, 0)])
async def test_close_1011_1012_1013_3xxx_4xxx(feed_server, virtual_time, code, delay):
    """The feed reconnects and the event has the close code; after 1012 and 1013 the delay is at least 2 s."""
    async with Followed(feed_server.url, **SUBSCRIBE) as feed:
        await feed.record.happened(Connected)
        at = virtual_time.time()
        await feed_server.close(code, "for a reason")
        await survived(feed_server, feed)
        event = feed.record.of(Disconnected)[0]
        assert (event.reason, event.code) == ("server", code)
        assert "for a reason" in event.cause
        assert delay <= virtual_time.time() - at < delay + 0.5


@in_virtual_time
@pytest.mark.parametrize(("code", "reason"), [(1008, "server"), (3000, "auth"), (4401, "auth")])
async def test_close_1008_or_an_authentication_code(virtual_time, code, reason):
    """The feed reconnects with growing delays, as a refusal usually repeats; ``should_retry`` can end the feed."""

    async def refuse(connection):
        await connection.close(code, "not you")

    async with FeedServer(refuse) as server:
        async with Followed(server.url, reconnect_delays=lambda: rising(1)) as feed:
            await feed.record.happened(Connected, 6)
            times = [event.time for event in feed.record.of(Connected)]
            waits = [round(after - before) for before, after in itertools.pairwise(times)]
            assert waits == [0, 1, 2, 3, 4]
            assert set(feed.record.reasons) == {reason}
        feed = Followed(server.url, should_retry=lambda error: False if isinstance(error, ConnectionClosed) else None)
        stream = feed.stream_filter()
        with pytest.raises(ConnectFailed, match="not you"):
            await anext(stream)
        with pytest.raises(ConnectFailed, match="not you"):
            await feed.wait_closed()


# Cut


@main_row
async def test_abort_rst(kind):
    """After a reset, the feed replaces the connection without a delay."""
    async with FeedServer() as server, Followed(server.url, kind.connect, **SUBSCRIBE) as feed:
        await feed.record.happened(Connected)
        server.reset()
        await survived(server, feed)
        assert feed.record.reasons == ["network"]
        assert State.WAITING not in feed.record.states


@pytest.mark.slow
@main_row
async def test_server_killed(kind):
    """After a server was killed, the feed reconnects as soon as the server runs again."""
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serve_in_process("--script", "broadcast", "--rate", "200"))
        feed = await stack.enter_async_context(
            Followed(server.url, kind.connect, reconnect_delays=lambda: rising(0.02))
        )
        await feed.record.received(10)
        server.kill()
        assert (await feed.record.happened(Disconnected)).reason == "network"
        await server.wait()
        assert feed.state.value in (State.CONNECTING, State.WAITING)
        port = server.url.rpartition(":")[2].strip("/")
        await stack.enter_async_context(serve_in_process("--script", "broadcast", "--port", port))
        await feed.record.happened(Connected, 2)
        await feed.record.received(len(feed.record.messages) + 10)
        # A dying process may accept one more connection and reset it during the handshake.
        assert set(feed.record.reasons) <= {"network", "handshake"}
        assert len(feed.record.of(Gap)) == 1


# Refused


@in_virtual_time
@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_http_400_401_403_404_on_the_handshake(feed_server, status):
    """HTTP 400, 401, 403 and 404 fail a feed that was never connected. After a success the feed reconnects."""
    feed_server.refuse(status)
    feed = Followed(feed_server.url)
    stream = feed.stream_filter()
    with pytest.raises(ConnectFailed) as caught:
        await anext(stream)
    assert (caught.value.status, caught.value.attempt) == (status, 1)
    assert feed_server.opened == 0
    with pytest.raises(ConnectFailed):
        await feed.wait_closed()
    async with Followed(feed_server.url, **SUBSCRIBE) as feed:
        await feed.record.happened(Connected)
        feed_server.refuse(status, times=2)
        feed_server.reset()
        await survived(feed_server, feed)
        reason = "auth" if status in (401, 403) else "handshake"
        assert feed.record.reasons == ["network", reason, reason]


@in_virtual_time
async def test_http_401_403_three_times_in_a_row(feed_server):
    """The third 401 or 403 in a row fails the feed even after a success, as credentials do not mend by themselves."""
    feed = Followed(feed_server.url)
    await feed.record.happened(Connected)
    for status in (401, 403, 500, 401, 403, 401):
        feed_server.refuse(status)
    feed_server.reset()
    with pytest.raises(ConnectFailed, match="401"):
        await feed.wait_closed()
    assert feed.record.reasons == ["network", "auth", "auth", "handshake", "auth", "auth", "auth"]


@main_row
async def test_http_status_on_the_handshake_with_each_library(kind):
    """With both libraries a 404 fails the feed before the first success; after it the feed reconnects."""
    async with FeedServer() as server:
        server.refuse(403)
        feed = Followed(server.url, kind.connect)
        with pytest.raises(ConnectFailed) as caught:
            await feed.wait_closed()
        assert caught.value.status == 403
        async with Followed(server.url, kind.connect, **SUBSCRIBE) as feed:
            await feed.record.happened(Connected)
            server.refuse(404)
            server.refuse(503, {"Retry-After": "0.3"})
            server.reset()
            await survived(server, feed)
            assert feed.record.reasons == ["network", "handshake", "handshake"]
            assert feed.record.of(Disconnected)[2].delay == 0.3


@in_virtual_time
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("retry_after", "backoff", "delay"), [("7", 1, 7), ("1", 7, 7), ("nonsense", 3, 3)])
async def test_http_429_503_with_retry_after(feed_server, virtual_time, status, retry_after, backoff, delay):
    """Even before the first success the feed retries, after ``Retry-After`` or the backoff, whichever is longer."""
    feed_server.refuse(status, {"Retry-After": retry_after})
    async with Followed(feed_server.url, reconnect_delays=lambda: itertools.repeat(backoff)) as feed:
        await feed.record.happened(Connected)
        assert virtual_time.time() == pytest.approx(delay, abs=0.1)
        assert [event.delay for event in feed.record.of(Disconnected)] == [delay]


@in_virtual_time
@pytest.mark.parametrize("status", [500, 502, 504, 520])
async def test_http_500_502_504_520(feed_server, status):
    """The feed retries after these statuses, before the first success and after it."""
    feed_server.refuse(status, times=5)
    async with Followed(feed_server.url, **SUBSCRIBE) as feed:
        await feed.record.happened(Connected)
        feed_server.refuse(status, times=5)
        feed_server.reset()
        await survived(feed_server, feed)
        assert feed.record.reasons == [*["handshake"] * 5, "network", *["handshake"] * 5]


@pytest.fixture(scope="module")
def authority():
    """A certificate authority that only contexts made for it trust."""
    return trustme.CA()


def trusting(authority):
    """Return a client's context that trusts this authority, or the system's authorities if it is None."""
    context = ssl.create_default_context()
    if authority is not None:
        authority.configure_trust(context)
    return context


def serving(authority, name):
    """Return a server's context for a host."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@contextlib.asynccontextmanager
async def plain_text(port=0):
    """Run a server that answers TLS with plain text; yield its port."""

    def answer(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    async with server:
        yield server.sockets[0].getsockname()[1]


@each_library
@pytest.mark.parametrize("fault", ["unknown CA", "wrong host", "plain text"])
async def test_tls_unknown_ca_wrong_host_plain_text(authority, connect, fault, assert_no_leaks):
    """A TLS fault fails the feed before the first success; after it the feed reconnects."""

    @contextlib.asynccontextmanager
    async def faulty(port=0):
        if fault == "plain text":
            async with plain_text(port) as port:
                yield port
        else:
            issuer = trustme.CA() if fault == "unknown CA" else authority
            name = "example.com" if fault == "wrong host" else "127.0.0.1"
            async with FeedServer(ssl=serving(issuer, name), port=port) as server:
                yield server.port

    options = {"connect_options": {"ssl": trusting(authority), "ping_interval": None, "proxy": None}}
    async with faulty() as port:
        feed = Followed(f"wss://127.0.0.1:{port}/", connect, **options)
        with pytest.raises(ConnectFailed) as caught:
            await feed.wait_closed()
        assert isinstance(caught.value.__cause__, ssl.SSLError)
        assert feed.record.reasons == ["tls"]
    async with (
        FeedServer(ssl=serving(authority, "127.0.0.1")) as server,
        Followed(server.url, connect, reconnect_delays=lambda: rising(0.02), **options) as feed,
    ):
        await feed.record.happened(Connected)
        await server.stop()
        async with faulty(server.port):
            await eventually(lambda: "tls" in feed.record.reasons)
        await server.start()
        await feed.record.happened(Connected, 2)


@each_library
async def test_name_not_found_connection_refused(connect, assert_no_leaks):
    """The feed retries after both faults, even before the first success."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refused = f"ws://127.0.0.1:{unused.getsockname()[1]}/"
        async with FeedServer() as server:
            urls = itertools.chain(["ws://nowhere.invalid/", refused, refused], itertools.repeat(server.url))
            async with Followed(lambda: next(urls), connect, open_timeout=30) as feed:
                await feed.record.happened(Connected, timeout=60)
                assert feed.record.reasons == ["network"] * 3


@in_virtual_time
async def test_accepts_tcp_and_stays_silent(feed_server, virtual_time):
    """If the server accepts TCP and sends nothing, the feed tries again after ``open_timeout``."""
    feed_server.mute()
    async with Followed(feed_server.url, open_timeout=7) as feed:
        await feed.record.happened(Connected)
        assert virtual_time.time() == pytest.approx(7, abs=0.1)
        assert feed.record.reasons == ["network"]


@each_library
async def test_accepts_tls_and_stays_silent(authority, connect):
    """If the server does not answer after the TLS handshake, the feed tries again after ``open_timeout``."""
    mute = await asyncio.start_server(lambda reader, writer: writers.append(writer), "127.0.0.1", 0)
    writers = []
    async with FeedServer(ssl=serving(authority, "127.0.0.1")) as server:
        muted = f"wss://127.0.0.1:{mute.sockets[0].getsockname()[1]}/"
        urls = itertools.chain([muted], itertools.repeat(server.url))
        options = {"connect_options": {"ssl": trusting(authority), "ping_interval": None}}
        async with Followed(lambda: next(urls), connect, open_timeout=0.5, **options) as feed:
            await feed.record.happened(Connected)
            assert set(feed.record.reasons) == {"network"}
    for writer in writers:
        writer.transport.abort()
    mute.close()
    await mute.wait_closed()


@main_row
async def test_junk_instead_of_a_handshake(kind):
    """The feed retries after an answer that is not a handshake, before the first success and after it."""
    async with FeedServer() as server:
        server.garbage(times=2)
        server.garbage(b"HTTP/1.1 200 OK\r\n\r\n")
        server.garbage(b"\x16\x03\x01" + bytes(range(256)) * 100)
        server.garbage(b"")
        async with Followed(server.url, kind.connect, **SUBSCRIBE) as feed:
            await feed.record.happened(Connected)
            assert len(feed.record.reasons) == 5
            assert set(feed.record.reasons) <= {"handshake", "network"}
            server.garbage(times=3)
            server.reset()
            await survived(server, feed)


@in_virtual_time
async def test_junk_repeatedly_has_capped_delays(feed_server, virtual_time):
    """The delays grow to at most one minute, so the feed keeps trying and does not flood the server."""
    feed_server.garbage(times=None)
    async with Followed(feed_server.url, reconnect_delays=rxws.delays.default_delays) as feed:
        await asyncio.sleep(6 * 3600)
        delays = [event.delay for event in feed.record.of(Disconnected)]
        assert delays[0] == 0
        assert max(delays) <= 60
        assert 6 * 60 <= len(delays) <= 8 * 6 * 60
        assert sum(delays[-200:]) > 200 * 20


@in_virtual_time
async def test_flapping(virtual_time):
    """The delay grows: a short-lived connection does not reset the backoff."""

    async def flap(connection):
        await connection.close()

    async with FeedServer(flap) as server, Followed(server.url, reconnect_delays=rxws.delays.default_delays) as feed:
        with contextlib.suppress(TimeoutError):
            await server.connected(600, timeout=3600)
        assert 60 <= server.opened < 600
        assert len(feed.record.of(Gap)) == pytest.approx(server.opened, abs=2)


# Half-open


@pytest.mark.slow
@main_row
async def test_half_open_while_reading(kind):
    """The library's pings detect a frozen server, and the feed reconnects."""
    options = {"ping_interval": 0.3, "ping_timeout": 0.3, "close_timeout": 0.3, "proxy": None}
    async with (
        serve_in_process("--script", "broadcast", "--rate", "100") as server,
        Followed(server.url, kind.connect, connect_options=options, open_timeout=1) as feed,
    ):
        await feed.record.received(5)
        server.stop()
        event = await feed.record.happened(Disconnected)
        assert (event.number, event.reason) == (1, "network")
        server.resume()
        await feed.record.happened(Connected, 2)
        await feed.record.received(len(feed.record.messages) + 5)
        assert len(feed.record.of(Gap)) >= 1


@pytest.mark.slow
@main_row
async def test_half_open_while_reading_without_pings(kind):
    """Without pings the feed detects a frozen server after ``idle_timeout``, and reconnects."""
    async with (
        serve_in_process("--script", "broadcast", "--rate", "100") as server,
        Followed(server.url, kind.connect, idle_timeout=1, open_timeout=1) as feed,
    ):
        await feed.record.received(5)
        server.stop()
        event = await feed.record.happened(Disconnected)
        assert (event.number, event.reason) == (1, "idle")
        server.resume()
        await feed.record.happened(Connected, 2)
        await feed.record.received(len(feed.record.messages) + 5)


@pytest.mark.slow
@main_row
async def test_half_open_while_sending(kind):
    """``send`` raises at ``send_timeout`` and the feed reconnects; ``exit`` ends in time although no write succeeds."""
    loop = asyncio.get_running_loop()
    async with (
        serve_in_process("--script", "echo") as server,
        Followed(server.url, kind.connect, send_timeout=0.4, open_timeout=1, close_timeout=0.4) as feed,
    ):
        await feed.wait_connected()
        await feed.send("hello")
        server.stop()
        with pytest.raises(rxws.SendTimeout, match="the peer took nothing"):
            for _ in range(1000):
                started = loop.time()
                await feed.send("x" * 1_000_000)
        assert loop.time() - started < 10
        event = await feed.record.happened(Disconnected)
        assert (event.number, event.reason) == (1, "network")
        server.resume()
        await feed.record.happened(Connected, 2)
        server.stop()
        with pytest.raises(rxws.SendTimeout):
            await asyncio.gather(*(feed.send("x" * 1_000_000) for _ in range(100)))
        started = loop.time()
        await feed.exit()
        assert loop.time() - started < 10


@in_virtual_time
@pytest.mark.parametrize("idle_timeout", [10, None])
async def test_pongs_arrive_but_no_data(virtual_time, caplog, idle_timeout):
    """At ``idle_timeout`` the feed reconnects; without it, it warns at 60 s, 120 s … and keeps the connection."""
    options = {"connect_options": {"ping_interval": 5, "ping_timeout": 5}}
    async with FeedServer() as server, Followed(server.url, idle_timeout=idle_timeout, **options) as feed:
        await feed.record.happened(Connected)
        await asyncio.sleep(9)
        await server.send({"n": 1})
        await asyncio.sleep(500)
        if idle_timeout is None:
            assert [event.seconds for event in feed.record.of(Quiet)] == [60, 120, 240, 480]
            assert caplog.text.count("no message for") == 4
            assert server.opened == 1
        else:
            assert feed.record.of(Disconnected)[0].time - feed.record.of(Connected)[0].time == pytest.approx(
                19, abs=0.1
            )
            assert set(feed.record.reasons) == {"idle"}
            assert feed.record.of(Quiet) == []


# Consumers


@pytest.mark.slow
@main_row
async def test_slow_consumer(kind):
    """Other consumers are unaffected, pings are answered, and the connection is kept."""

    async def slow(message):
        await asyncio.sleep(60)

    async with (
        FeedServer(ping_interval=0.3, ping_timeout=10) as server,
        Followed(server.url, kind.connect, close_timeout=0.2) as feed,
    ):
        feed.add_handler(slow)
        untouched = feed.stream_filter()
        quick = feed.stream_filter()
        await feed.record.happened(Connected)
        await server.burst(5_000)
        for n in range(1, 5_001):
            assert (await anext(quick))["n"] == n
        assert untouched.pending == 5_000
        newest = server.connections[0]
        await eventually(lambda: newest.websocket.latency)
        assert feed.statistics().opened == server.opened == 1


@in_virtual_time
async def test_handler_raises(feed_server, caplog):
    """The exception is reported, and all handlers get the next message."""
    got, others = [], []

    def raises(message):
        got.append(message["n"])
        raise ValueError(f"cannot take {message['n']}")

    async def raises_later(message):
        others.append(message["n"])
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    async with Followed(feed_server.url) as feed:
        feed.add_handler(raises)
        feed.add_handler(raises_later)
        await feed.record.happened(Connected)
        await feed_server.burst(10)
        await feed.record.received(10)
        await feed.record.happened(CallbackFailed, 20)
        assert got == others == [message["n"] for message in feed.record.messages] == list(range(1, 11))
        assert feed.statistics().failures == 20
        assert "raises raised" in caplog.text
        assert feed_server.opened == 1


@pytest.mark.slow
async def test_handler_blocks_the_loop(assert_no_leaks):
    """After a handler has blocked the loop, the messages that arrived meanwhile are delivered, or a gap is reported."""
    options = {"ping_interval": 0.5, "ping_timeout": 0.5}
    async with (
        serve_in_process("--script", "broadcast", "--rate", "200") as server,
        Followed(server.url, connect_options=options) as feed,
    ):
        ledger, stream = Ledger(), feed.stream_filter(gaps=True)
        blocking = feed.add_handler(lambda message: time.sleep(0.7) if message["n"] % 100 == 0 else None)
        while ledger.count < 500:
            item = await anext(stream)
            ledger.take(item if isinstance(item, Gap) else item["n"])
            if ledger.count == 300:
                blocking.dispose()
        ledger.check()


# Messages


class Trade(msgspec.Struct):
    n: int


@main_row
async def test_garbage_json_wrong_type_nan_deep_nesting(kind):
    """Each bad frame is skipped, counted and emitted, and the next message is delivered on the same connection."""
    garbage = ["{", "", "nope", '{"n":"one"}', '{"n":NaN}', "[" * 100_000, '{"n":' * 50_000, b"\xff\xfe", b"", "\x00"]
    async with (
        FeedServer() as server,
        Followed(server.url, kind.connect, decode=msgspec.json.Decoder(Trade).decode) as feed,
    ):
        await feed.record.happened(Connected)
        for n, frame in enumerate(garbage):
            await server.send(frame, {"n": n})
        assert await feed.record.received(len(garbage)) == [Trade(n) for n in range(len(garbage))]
        assert [event.raw for event in feed.record.of(MessageRejected)] == garbage
        assert feed.statistics().rejected == len(garbage)
        assert server.opened == 1


@main_row
async def test_invalid_utf8_in_a_text_frame(kind):
    """The feed reconnects, and the event names the cause."""
    async with FeedServer() as server, Followed(server.url, kind.connect, **SUBSCRIBE) as feed:
        await feed.record.happened(Connected)
        await server.connections[0].send_invalid_utf8()
        await survived(server, feed)
        (event,) = feed.record.of(Disconnected)
        assert (event.reason, event.code) == ("server", 1007)
        assert "invalid start byte at position 0" in event.cause
        assert server.opened == 2


BIG = 20_000


async def oversize(connection):
    await connection.send("x" * BIG)


async def bomb(connection):
    await connection.websocket.send("0" * 50 * BIG)


@main_row
async def test_oversize_message_deflate_bomb(kind):
    """The feed reconnects, the event names the limit, and repeated faults have growing delays."""
    for script, compression in ((oversize, None), (bomb, "deflate")):
        options = {"connect_options": {"max_size": BIG // 2, "compression": compression, "ping_interval": None}}
        async with (
            FeedServer(script, compression=compression) as server,
            Followed(server.url, kind.connect, **options) as feed,
        ):
            await feed.record.happened(Connected, 4)
            for event in feed.record.of(Disconnected)[:3]:
                assert (event.reason, event.code) == ("server", 1009)
                assert "too big" in event.cause
            assert feed.record.messages == []


@main_row
async def test_more_than_4096_fragments(kind):
    """The feed reconnects and the event names the limit; a library without a limit delivers the message."""
    async with FeedServer() as server, Followed(server.url, kind.connect, **SUBSCRIBE) as feed:
        await feed.record.happened(Connected)
        with contextlib.suppress(ConnectionClosed):
            await server.connections[0].send_fragments(['{"n":"', *["x"] * 20_000, '"}'])
        await eventually(lambda: feed.record.messages or feed.record.of(Disconnected))
        if not feed.record.messages:
            (event,) = feed.record.of(Disconnected)
            assert event.code in (1008, 1009)
            assert "fragments" in event.cause or "frames" in event.cause
            await survived(server, feed)
        await server.send({"n": "last"})
        await eventually(lambda: feed.record.messages[-1] == {"n": "last"})


@main_row
async def test_a_message_in_4000_fragments(kind):
    """The fragments are delivered as one message."""
    async with FeedServer() as server, Followed(server.url, kind.connect) as feed:
        await feed.record.happened(Connected)

        async def fragments():
            yield '{"n":"'
            for _ in range(3_998):
                yield "x"
            yield '"}'

        await server.connections[0].send_fragments(fragments())
        assert await feed.record.received(1) == [{"n": "x" * 3_998}]
        assert server.opened == 1


async def longest_wait_in_a_burst(connect, total):
    """Receive a burst over the network; return the longest wait of another task, in seconds of CPU time."""
    numbers = msgspec.json.Decoder(Trade)
    longest, ledger, done = 0.0, Ledger(), asyncio.Event()

    def take(trade):
        ledger.take(trade.n)
        if trade.n == total:
            done.set()

    async def watch():
        nonlocal longest
        # Not the wall clock, because other processes use the machine.
        looked = time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            longest = max(longest, time.thread_time() - looked)
            looked = time.thread_time()

    async with (
        serve_in_process("--script", "tests.support.scripts:million") as server,
        rxws.ReactiveWebSocket(server.url, connect=connect, decode=numbers.decode) as feed,
    ):
        feed.add_handler(take)
        watching = asyncio.create_task(watch())
        await feed.send("go")
        async with asyncio.timeout(60):
            await done.wait()
        watching.cancel()
        await asyncio.wait({watching})
    ledger.check()
    assert ledger.count >= total
    return longest


def slowness():
    """Return by which factor Python runs slower now than on a usual machine that has nothing else to do."""
    started = time.thread_time()
    sum(number * number for number in range(1_000_000))
    return max(1.0, (time.thread_time() - started) / 0.080)


@pytest.mark.slow
@each_library
async def test_messages_in_a_burst_over_the_network(connect, unscanned, assert_no_leaks):
    """No message is lost, and in one of three bursts other tasks run at least every 50 ms of CPU time."""
    total = 300_000 if connect is picows.websockets.connect else 100_000
    for _ in range(3):
        longest = await longest_wait_in_a_burst(connect, total)
        if is_short := longest < 0.050 * slowness():
            break
    assert is_short, longest


@pytest.mark.slow
async def test_1000000_messages_in_a_burst(unscanned, assert_no_leaks):
    """Other tasks run even while a connection delivers a million messages without suspending."""
    websocket, longest, count, done = ScriptedWebsocket(), 0.0, 0, asyncio.Event()
    websocket.come(*map(str, range(1_000_000)))

    def take(n):
        nonlocal count
        assert n == count
        count += 1
        if count == 1_000_000:
            done.set()

    async with ScriptedFeed(websocket, parse=int, recorded=False) as feed:
        feed.add_handler(take)
        while not done.is_set() and not feed.state.value.is_final:
            looked = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - looked)
        assert feed.statistics().failures == 0
    assert longest < 0.050


# The network


@each_library
@pytest.mark.parametrize(
    "toxics",
    [{"slicer": 1}, {"latency": 0.1, "jitter": 0.05}, {"bandwidth": 20_000.0}],
    ids=lambda toxics: next(iter(toxics)),
)
async def test_one_byte_slices_latency_bandwidth_limit(connect, toxics, assert_no_leaks):
    """The messages are delivered unchanged through slicing, latency and a bandwidth limit."""
    async with FeedServer() as server, FaultProxy(server.url) as proxy, Followed(proxy.url, connect) as feed:
        proxy.downstream.set(**toxics)
        proxy.upstream.set(**toxics)
        await feed.record.happened(Connected)
        await server.burst(200)
        assert await feed.record.received(200) == [{"n": n} for n in range(1, 201)]
        await feed.send({"subscribe": "trades"})
        await server.expect({"subscribe": "trades"})
        assert server.opened == 1


@each_library
@pytest.mark.parametrize("toxic", ["limit_data", "reset_peer", "timeout", "slow_close", "down"])
async def test_cut_in_mid_frame_and_other_ends(connect, toxic, assert_no_leaks):
    """The feed reconnects after a cut within a frame, a reset, a black hole, a slow close, and a network failure."""
    async with (
        FeedServer() as server,
        FaultProxy(server.url) as proxy,
        Followed(proxy.url, connect, reconnect_delays=lambda: rising(0.05), **SUBSCRIBE) as feed,
    ):
        await feed.record.happened(Connected)
        await server.expect({"subscribe": "trades"})
        match toxic:
            case "limit_data":
                proxy.downstream.set(limit_data=1_000)
                await server.send("x" * 5_000)
            case "reset_peer" | "timeout":
                proxy.downstream.set(**{toxic: 0.05})
            case "slow_close":
                proxy.downstream.set(slow_close=0.2)
                server.reset()
            case "down":
                await proxy.down()
        event = await feed.record.happened(Disconnected)
        assert (event.number, event.reason) == (1, "network")
        proxy.downstream.clear()
        if toxic == "down":
            await proxy.up()
        await survived(server, feed)
        assert feed.record.messages == [{"after": 2}]


# The end


@in_virtual_time
@pytest.mark.parametrize("step", range(0, 60, 3))
async def test_cancellation_at_every_await(feed_server, virtual_time, step):
    """When a user's code is cancelled at its k-th suspension, no task and no descriptor is left.

    ``test_life`` tests every coroutine at every step.
    """

    async def use():
        async with Followed(feed_server.url) as feed:
            await feed.wait_connected()
            await feed.send({"subscribe": "trades"})
            await feed.rotate()
            async for _ in feed.stream_filter():
                pass

    using = asyncio.create_task(use())
    for _ in range(step):
        await asyncio.sleep(0)
    using.cancel()
    await asyncio.wait({using})
    assert using.cancelled()


@main_row
async def test_exit_at_any_moment_of_the_opening(kind):
    """No socket stays open when the feed is closed at any step of the handshake."""
    async with FeedServer() as server:
        for step in range(30):
            feed = Followed(server.url, kind.connect)
            await asyncio.sleep(step / 5_000)
            await feed.exit()
        if kind.connect is picows.websockets.connect:
            # picows 2.3 leaks a connection whose opening is cancelled during the handshake.
            server.reset()
        await server.disconnected(timeout=30)


STATES = ["connecting", "waiting", "connected", "rotating", "handing over", "not begun"]


async def feed_in(feed_server, state):
    """Return a feed in a given state."""
    if state == "connecting":
        feed_server.mute()
    if state == "waiting":
        feed_server.refuse(503)
    feed = Followed(feed_server.url, reconnect_delays=lambda: itertools.repeat(100), open_timeout=50)
    if state == "not begun":
        return feed
    if state in ("connecting", "waiting"):
        await feed_server.attempted()
        await asyncio.sleep(1)
        return feed
    await feed.record.entered(State.CONNECTED)
    if state != "connected":
        if state == "rotating":
            feed_server.mute()
        feed.rotate()
        await feed_server.attempted(2)
        await asyncio.sleep(1)
    return feed


@in_virtual_time
@pytest.mark.parametrize("state", STATES)
async def test_exit_in_every_state(feed_server, virtual_time, state):
    """``exit`` ends in bounded time in every state, even if it is called twice at once; streams and waits end."""
    feed = await feed_in(feed_server, state)
    stream = feed.stream_filter()
    reading = asyncio.create_task(anext(stream, "the end"))
    waiting = asyncio.create_task(feed.wait_closed())
    await asyncio.sleep(0)
    at = virtual_time.time()
    await asyncio.gather(feed.exit(), feed.exit())
    await feed.exit()
    assert virtual_time.time() - at <= 2.5
    assert await reading == "the end"
    await waiting
    assert feed.state.value is State.CLOSED
    assert [message async for message in feed.stream_filter()] == []
    with pytest.raises(rxws.FeedClosed):
        await feed.send("late")
    with pytest.raises(rxws.FeedClosed):
        feed.rotate()


@in_virtual_time
@pytest.mark.parametrize("state", STATES)
async def test_exit_when_it_is_cancelled(feed_server, state):
    """If the call of ``exit`` is cancelled, the feed still closes."""
    feed = await feed_in(feed_server, state)
    closing = asyncio.create_task(feed.exit())
    await asyncio.sleep(0)
    closing.cancel()
    await feed.wait_closed()
    assert closing.cancelled()
    assert feed.state.value is State.CLOSED


@in_virtual_time
@pytest.mark.parametrize("stalled", [False, True])
async def test_exit_while_closing_a_connection(feed_server, virtual_time, stalled):
    """A peer that does not answer the close delays ``exit`` by at most ``close_timeout``."""
    async with Followed(feed_server.url) as feed:
        await feed.record.happened(Connected)
        if stalled:
            feed_server.stall()
        closing = asyncio.create_task(feed.exit())
        await asyncio.sleep(0.001)
        at = virtual_time.time()
        await feed.exit()
        assert virtual_time.time() - at <= 2.5
        await closing


@in_virtual_time
async def test_exit_from_a_handler_and_from_a_consumer(feed_server):
    """Handlers and consumers may close the feed, and continue after it is closed."""
    closed = []

    async def closes(message):
        await feed.exit()
        closed.append("handler")

    def closes_soon(message):
        tasks.append(asyncio.ensure_future(feed.exit()))

    tasks = []
    feed = Followed(feed_server.url)
    feed.add_handler(closes)
    feed.add_handler(closes_soon)
    stream = feed.stream_filter()
    await feed.record.happened(Connected)
    await feed_server.burst(3)
    async for _ in stream:
        await feed.exit()
        closed.append("consumer")
    await asyncio.wait(tasks)
    await asyncio.sleep(0)
    assert sorted(closed) == ["consumer", "consumer", "consumer", "handler"]
    assert feed.state.value is State.CLOSED


PROGRAM = """
import asyncio, sys
import rxws

async def main():
    async with rxws.ReactiveWebSocket(sys.argv[1]) as feed:
        stream = feed.stream_filter()
        async for message in stream:
            print("message", flush=True)
    print("never")

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT for one process alone")
@pytest.mark.parametrize("connected", [True, False])
async def test_exit_by_ctrl_c(connected, assert_no_leaks):
    """An interrupted program closes its feed and ends without an error message."""
    async with FeedServer() as server:
        if not connected:
            server.mute(times=None)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-c", PROGRAM, server.url,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        await server.attempted(timeout=60)
        if connected:
            await server.connected(timeout=60)
            await server.send({"n": 1})
            assert await process.stdout.readline() == b"message\n"
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(60):
            output, errors = await process.communicate()
        assert output == b"interrupted\n"
        assert errors == b""
        assert process.returncode == 0


# Rotation


@pytest.mark.slow
@main_row
async def test_rotation_while_messages_arrive_on_both_connections(kind):
    """Every number arrives once and in order, at any lag of the two connections, with equal heartbeats in between."""
    lag = random.Random(3)
    async with (
        FeedServer() as server,
        NumberedBroadcast(server, lag=lambda *_: lag.uniform(0, 0.06)) as broadcast,
        Followed(server.url, kind.connect, handover_settle=0.3, handover_timeout=20) as feed,
    ):
        stream = feed.stream_filter([{"channel": "a"}], gaps=True)
        await feed.wait_connected()
        running = asyncio.create_task(broadcast.run(rate=500))
        beating = asyncio.create_task(heartbeats(server))
        for n in (1, 2):
            assert await feed.rotate() is True
            assert (await feed.record.happened(Rotated, n)).proven
        for task in (running, beating):
            task.cancel()
            await asyncio.wait({task})
        await broadcast.delivered(timeout=30)
        numbers = [message["n"] async for message in until(stream, broadcast.sent["a"])]
        assert numbers == list(range(1, broadcast.sent["a"] + 1))
        assert feed.record.messages.count({"e": "heartbeat"}) > 0
        assert feed.record.of(Gap) == []


async def heartbeats(server):
    while True:
        await server.send({"e": "heartbeat"})
        await asyncio.sleep(0.05)


async def until(stream, last):
    """Iterate over a stream up to a number."""
    async with asyncio.timeout(60):
        async for message in stream:
            yield message
            if message["n"] == last:
                return


@pytest.mark.slow
@in_virtual_time
@pytest.mark.parametrize("seed", range(5))
async def test_rotation_when_a_channel_is_subscribed_later(feed_server, seed):
    """Every number of each channel arrives once and in order, although one channel starts 300 ms later."""
    lag = random.Random(seed)
    async with (
        NumberedBroadcast(
            feed_server,
            channels="ab",
            lag=lambda *_: lag.uniform(0, 0.06),
            subscribed_after=lambda connection, channel: 0.3 if channel == "b" and connection.number > 1 else 0,
        ) as broadcast,
        Followed(feed_server.url) as feed,
    ):
        await feed.record.happened(Connected)
        running = asyncio.create_task(broadcast.run(rate=1000))
        for n in range(1, 6):
            await asyncio.sleep(0.5)
            await feed.rotate()
            assert (await feed.record.happened(Rotated, n)).proven
        running.cancel()
        await broadcast.delivered()
        await asyncio.sleep(1)
        numbers = defaultdict(list)
        for message in feed.record.messages:
            numbers[message["channel"]].append(message["n"])
        assert numbers == {name: list(range(1, last + 1)) for name, last in broadcast.sent.items()}


@in_virtual_time
async def test_rotation_when_the_new_connection_begins_with_an_acknowledgement_and_a_snapshot(feed_server):
    """A rotation discards and counts per-connection messages, and a book built from the stream stays correct.

    After a loss these messages are delivered, because the book must start again there.
    """
    truth: dict[str, int] = {}

    async def begin(connection):
        await connection.send({"ack": connection.number}, {"snapshot": dict(truth)})

    async def change(count):
        for _ in range(count):
            price = random.choice("abcdefgh")
            truth[price] = truth.get(price, 0) + random.randint(-5, 5)
            changes.append(None)
            await feed_server.send({"n": len(changes), "price": price, "size": truth[price]})
            await asyncio.sleep(0.02)

    def build(message):
        if "snapshot" in message:
            book.clear()
            book.update(message["snapshot"])
            snapshots.append(message)
        elif "price" in message:
            book[message["price"]] = message["size"]

    changes, book, snapshots = [], {}, []
    feed_server.script = begin
    per_connection = lambda message: "ack" in message or "snapshot" in message  # noqa: E731
    async with Followed(feed_server.url, per_connection=per_connection) as feed:
        feed.add_handler(build)
        await feed.record.happened(Connected)
        for n in range(1, 4):
            changing = asyncio.create_task(change(100))
            await asyncio.sleep(0.1)
            await feed.rotate()
            event = await feed.record.happened(Rotated, n)
            assert (event.proven, event.discarded) == (True, 2)
            await changing
            assert book == truth
        assert len(snapshots) == 1
        assert feed.statistics().discarded == 6
        feed_server.reset()
        await feed.record.happened(Connected, 5)
        await asyncio.sleep(0.1)
        assert len(snapshots) == 2
        assert book == truth
        assert [message["n"] for message in feed.record.messages if "n" in message] == list(range(1, 301))


@in_virtual_time
async def test_rotation_when_the_signal_itself_is_repeated_seconds_later(feed_server):
    """A signal equal to the previous one rotates the new connection, and is not dropped as a copy."""
    expired = {"e": "listenKeyExpired"}
    async with NumberedBroadcast(feed_server) as broadcast, Followed(feed_server.url, rotate_on=[expired]) as feed:
        await feed.record.happened(Connected)
        running = asyncio.create_task(broadcast.run(rate=20))
        for n in range(1, 5):
            await asyncio.sleep(3)
            old = feed_server.connections
            await feed_server.send(expired)
            await feed_server.connected(n + 1)
            # Send the signal again during the overlap, on the old connection only, so that the overlap remembers it.
            await feed_server.send(expired, to=old)
            event = await feed.record.happened(Rotated, n)
            assert event.number == n + 1
        running.cancel()
        await asyncio.sleep(1)
        assert feed.record.messages.count(expired) == 8
        numbers = [message["n"] for message in feed.record.messages if "n" in message]
        assert numbers == list(range(1, broadcast.sent["a"] + 1))


async def numbered(feed, broadcast, server, *, rate=50):
    """Start a broadcast in the background and return its task."""
    await feed.wait_connected()
    return asyncio.create_task(broadcast.run(rate=rate))


@in_virtual_time
async def test_rotation_when_the_new_connection_is_refused(feed_server):
    """The old connection stays, the rotation is retried, and no number is missing."""
    async with NumberedBroadcast(feed_server) as broadcast, Followed(feed_server.url) as feed:
        running = await numbered(feed, broadcast, feed_server)
        feed_server.refuse(503, times=3)
        assert await feed.rotate() is False
        await feed.record.happened(Rotated)
        running.cancel()
        await asyncio.sleep(1)
        assert [message["n"] for message in feed.record.messages] == list(range(1, broadcast.sent["a"] + 1))
        assert feed.record.of(Gap) == []


@in_virtual_time
async def test_rotation_when_the_new_connection_dies_in_the_overlap(feed_server):
    """The old connection stays, the held messages are dropped, and no number is missing."""
    async with NumberedBroadcast(feed_server) as broadcast, Followed(feed_server.url) as feed:
        running = await numbered(feed, broadcast, feed_server)
        rotated = feed.rotate()
        newest = await feed_server.connected(2)
        await asyncio.sleep(0.2)
        newest.reset()
        assert await rotated is False
        await feed.record.happened(Rotated)
        running.cancel()
        await asyncio.sleep(1)
        assert [message["n"] for message in feed.record.messages] == list(range(1, broadcast.sent["a"] + 1))
        assert feed.record.of(Gap) == []
        assert feed_server.opened == 3


@in_virtual_time
async def test_rotation_when_the_old_connection_dies_in_the_overlap(feed_server):
    """The held messages are delivered at once, after a gap."""
    async with NumberedBroadcast(feed_server) as broadcast, Followed(feed_server.url) as feed:
        ledger, stream = Ledger(), feed.stream_filter(gaps=True)
        running = await numbered(feed, broadcast, feed_server)
        old = feed_server.connections[0]
        rotated = feed.rotate()
        await feed_server.connected(2)
        await asyncio.sleep(0.2)
        old.reset()
        assert await rotated is True
        event = await feed.record.happened(Rotated)
        assert not event.proven
        assert event.paused < 0.1
        running.cancel()
        await asyncio.sleep(1)
        await feed.exit()
        async for item in stream:
            ledger.take(item if isinstance(item, Gap) else item["n"])
        ledger.check()
        assert (ledger.gaps, ledger.last) == (1, broadcast.sent["a"])


@in_virtual_time
@pytest.mark.parametrize("sends_on", [False, True])
async def test_rotation_when_the_old_server_answers_the_close_after_3_s(sends_on, virtual_time):
    """If the old server answers the close only after three seconds, delivery pauses for at most one second."""
    arrivals = []

    def connection(number):
        websocket = ScriptedWebsocket()

        async def close():
            closed.append(number)
            await asyncio.sleep(3)
            websocket.end(StopAsyncIteration())

        websocket.on_close = close
        return websocket

    closed, old, new = [], connection(1), connection(2)

    async def publish():
        for n in itertools.count(1):
            for websocket in (old, new):
                if websocket in feed.websockets and (websocket is new or not closed or sends_on):
                    websocket.come(str(n))
            await asyncio.sleep(0.05)

    async with ScriptedFeed(old, new) as feed:
        feed.add_handler(lambda n: arrivals.append((n, virtual_time.time())))
        await feed.wait_connected()
        publishing = asyncio.create_task(publish())
        await feed.rotate()
        (event,) = feed.record.of(Rotated)
        await asyncio.sleep(5)
        publishing.cancel()
        await asyncio.sleep(0.1)
        numbers = [n for n, _ in arrivals]
        assert numbers == list(range(1, numbers[-1] + 1))
        assert max(after - before for (_, before), (_, after) in itertools.pairwise(arrivals)) <= 1.1
        assert event.proven
        assert event.paused <= (0.1 if sends_on else 1.1)
        assert closed == [1]


@in_virtual_time
async def test_rotation_signal_is_the_first_message_on_a_new_connection(feed_server):
    """The rotation hook gets a signal that is the first message of a new connection, and rotates that connection."""
    expired = {"e": "listenKeyExpired"}

    async def expire(connection):
        if connection.number <= 3:
            await connection.send(expired)

    feed_server.script = expire
    options = {"rotate_on": [expired], "handover_timeout": 1}
    async with Followed(feed_server.url, **options) as feed:
        await feed.record.happened(Rotated, 3)
        await asyncio.sleep(100)
        assert feed_server.opened == 4
        assert feed.record.messages == [expired] * 3


# Around the connection


async def test_a_rest_call_inside_create_ws_fails_once(assert_no_leaks):
    """A REST call that fails in ``_create_ws`` is retried, even before the first success."""

    class Keyed(rxws.AsyncWebsocketStreamInterface):
        async def _create_ws(self):
            timeout = aiohttp.ClientTimeout(total=0.5)
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(endpoint) as response:
                key = (await response.json())["key"]
            return await websockets.connect(f"{server.url}{key}")

        async def _when2create_new_ws(self):
            await asyncio.get_running_loop().create_future()

        def _parse_raw_data(self, raw_data):
            return json.loads(raw_data)

    async def answer(reader, writer):
        asked.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        if len(asked) <= 2:
            # Two requests, because the client may repeat a request by itself.
            writer.close()
        elif len(asked) > 3:
            writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"key":"k"}')

    asked = []
    rest = await asyncio.start_server(answer, "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{rest.sockets[0].getsockname()[1]}/key"
    async with FeedServer() as server, Keyed(reconnect_delays=rising) as feed:
        record = Record(feed)
        await record.happened(Connected)
        assert (await server.connected()).path == "/k"
        causes = [event.cause for event in record.of(Disconnected)]
        assert causes[0].startswith("ServerDisconnectedError")
        assert "Timeout" in causes[-1]
    for writer in asked:
        writer.transport.abort()
    rest.close()
    await rest.wait_closed()


def pong(frame):
    """Answer an application-level ping."""
    return frame.replace("ping", "pong") if frame.startswith("ping") else None


@pytest.mark.slow
@main_row
async def test_application_level_ping(kind):
    """A ping is answered on the connection on which it arrived, even while a consumer is slow or messages are held."""

    async def slow(message):
        await asyncio.sleep(60)

    async with (
        serve_in_process("--script", "tests.support.scripts:demanding") as server,
        Followed(server.url, kind.connect, decode=str, reply=pong, handover_timeout=1.5, close_timeout=0.2) as feed,
    ):
        feed.add_handler(slow)
        await feed.record.received(3)
        # The pings on the two connections differ, so the overlap is not proven: the new one is held until the timeout.
        assert await feed.rotate() is True
        (event,) = feed.record.of(Rotated)
        assert event.held > 5
        await feed.record.received(len(feed.record.messages) + 3)
        assert feed.record.reasons == ["rotation"]


@pytest.mark.slow
@in_virtual_time
async def test_300_reconnects(virtual_time):
    """After 300 reconnects the numbers of tasks, timers and descriptors are unchanged."""
    async with FeedServer() as server, Followed(server.url) as feed:
        await feed.record.happened(Connected)
        await asyncio.sleep(1)
        tasks, timers = len(asyncio.all_tasks()), len(virtual_time._scheduled)
        for n in range(2, 302):
            server.reset()
            await server.connected(n, timeout=100)
            await feed.wait_connected()
        await asyncio.sleep(40)
        assert len(asyncio.all_tasks()) == tasks
        assert sum(not timer.cancelled() for timer in virtual_time._scheduled) <= timers + 2
        assert feed.statistics().opened == 301
        assert feed.statistics().gaps == 300


async def test_second_event_loop(assert_no_leaks):
    """The methods of a feed, its streams and Observables raise RuntimeError in another event loop."""
    async with FeedServer() as server, Followed(server.url) as feed:
        stream = feed.stream_filter()
        await feed.wait_connected()

        async def elsewhere():
            for use in (
                lambda: feed.send("x"),
                feed.exit,
                feed.wait_closed,
                feed.wait_connected,
                lambda: feed.request("x", None),
            ):
                with pytest.raises(RuntimeError, match="belongs to the event loop"):
                    await use()
            for use in (
                feed.rotate,
                feed.stream_filter,
                lambda: feed.add_handler(print),
                lambda: feed.messages.subscribe(print),
                lambda: aiter(stream),
                lambda: feed.present_ws,
            ):
                with pytest.raises(RuntimeError, match="belongs to the event loop"):
                    use()
            assert feed.state.value is State.CONNECTED
            assert feed.statistics().opened == 1
            outcomes.append("done")

        outcomes = []
        thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
        thread.start()
        await eventually(lambda: not thread.is_alive())
        assert outcomes == ["done"]
        await feed.send("still here")
        await server.expect("still here")


def test_closed_loop():
    """A feed whose loop was closed raises RuntimeError in another loop."""
    feeds = []

    async def make():
        feeds.append(ScriptedFeed())
        await feeds[0].wait_connected()
        await feeds[0].exit()

    asyncio.run(make())

    async def use():
        with pytest.raises(RuntimeError, match="belongs to the event loop"):
            await feeds[0].send("x")
        with pytest.raises(RuntimeError, match="belongs to the event loop"):
            feeds[0].rotate()

    asyncio.run(use())


# Secrets


SECRETS = ("pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61cv6a81va65sdf19v8a65a1", "hunter2", "s3cr3t")


@pytest.mark.slow
@each_library
async def test_no_secret_is_written(connect, caplog, assert_no_leaks):
    """Logs, events, errors and reprs do not contain a listen key, a token in the query, or a password."""
    caplog.set_level(logging.DEBUG, "rxws")
    caplog.set_level(logging.INFO)
    listen_key, password, token = SECRETS
    async with FeedServer() as server:
        url = f"{server.url.replace('://', f'://me:{password}@')}ws/{listen_key}?token={token}"
        server.refuse(503, body=f"no {listen_key}")
        server.mute()
        options = {"handover_timeout": 0.3, "open_timeout": 0.5, "send_timeout": 0.5}
        async with Followed(url, connect, **options) as feed:
            texts = [repr(feed)]
            await feed.record.happened(Connected)
            newest = await server.connected()
            assert listen_key in newest.path
            server.reset()
            await feed.record.entered(State.CONNECTED, 2)
            server.refuse(404)
            await feed.rotate()
            await feed.record.happened(Rotated)
            server.stall()
            with pytest.raises(rxws.RxwsError) as caught:
                for _ in range(1000):
                    await feed.send("x" * 1_000_000)
            texts += [str(caught.value), repr(caught.value)]
            await feed.record.happened(Connected, 4)
            texts += [repr(feed), repr(feed.state), repr(feed.stream_filter())]
        server.refuse(401)
        failing = Followed(url, connect)
        with pytest.raises(ConnectFailed) as refused:
            await failing.wait_closed()
        texts += [str(refused.value), repr(refused.value)]
        server.refuse(503, times=None)
    broken = Followed(f"ws://me:{password}@[/ws/{listen_key}?token={token}", connect)
    with pytest.raises(ConnectFailed) as invalid:
        await broken.wait_closed()
    texts += [str(invalid.value), repr(invalid.value), repr(broken), caplog.text]
    texts += [repr(event) for followed in (feed, failing, broken) for event in followed.record.events]
    for text in texts:
        for secret in SECRETS:
            assert secret not in text


@in_virtual_time
async def test_log_of_a_flapping_server(feed_server, caplog, virtual_time):
    """Each failure is logged at most once a second, so a flapping server does not flood the log."""
    caplog.set_level(logging.DEBUG, "rxws")

    async def flap(connection):
        await connection.close()

    feed_server.script = flap
    async with Followed(feed_server.url, reconnect_delays=lambda: itertools.repeat(0.01)) as feed:
        await asyncio.sleep(5)
        assert feed_server.opened > 200
        kinds = defaultdict(int)
        for record in caplog.records:
            # Each state is a separate kind of line, so one state does not suppress the line of the next.
            kind = record.message.partition(" ... ")[0]
            kinds[re.sub("[0-9.]+", "#", kind) if record.levelno > logging.DEBUG else kind] += 1
        gaps = [kinds.pop(kind) for kind in list(kinds) if "without a connection" in kind]
        assert sum(gaps) == feed.statistics().gaps
        assert max(kinds.values()) <= 6
        assert feed.state.value is not State.FAILED
