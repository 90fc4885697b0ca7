"""rxws.testing: the server with its script and methods, the broadcast, the check for leaks, processes, fixtures."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import ssl
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import trustme
import websockets
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidMessage, InvalidStatus

from rxws.testing import (
    FeedServer,
    HttpError,
    HttpRequest,
    HttpResponse,
    NumberedBroadcast,
    assert_no_leaks,
    get_json,
    serve_in_process,
)
from rxws.testing.__main__ import main
from rxws.testing.messages import matches

pytest_plugins = ["pytester"]


def connect(url, **options):
    """Connect without compression, proxy and pings."""
    return websockets.connect(url, **{"compression": None, "proxy": None, "ping_interval": None} | options)


async def closing(connection):
    """Read to the end of the connection; return the close code."""
    with contextlib.suppress(ConnectionClosed):
        async for _ in connection:
            pass
    return connection.close_code


class FeedServerTests:
    """Tests for every loop; the subclasses choose the loop."""

    @pytest.fixture
    async def server(self, feed_server):
        async with assert_no_leaks():
            yield feed_server
            await feed_server.stop()

    async def test_send_reaches_all_live_connections_in_order(self, server):
        """All live clients get the server's messages in order: text, binary, and anything else as JSON."""
        async with connect(server.url) as first, connect(server.url) as second:
            await server.connected(2)
            await server.send("a", b"b", {"n": 3})
            for client in (first, second):
                assert [await client.recv() for _ in range(3)] == ["a", b"b", '{"n":3}']

    async def test_send_reaches_only_some_connections_when_to_names_them(self, server):
        """``to=`` sends to some connections and not to the others."""
        async with connect(server.url) as first, connect(server.url) as second:
            newest = await server.connected(2)
            await server.send("for the second", to=[newest])
            await server.send("for both")
            assert await first.recv() == "for both"
            assert await second.recv() == "for the second"

    async def test_send_skips_a_connection_when_it_is_lost_meanwhile(self, server):
        """A send to all connections does not fail because one of them is lost."""
        async with connect(server.url), connect(server.url) as second:
            await server.connected(2)
            both = server.connections
            both[0].reset()
            await server.send("hello", to=both)
            assert await second.recv() == "hello"

    async def test_connections_are_the_live_ones_oldest_first(self, server):
        """A connection is listed from its handshake until it ends, in the order of opening."""
        async with connect(server.url + "first?x=1"), connect(server.url + "second") as second:
            await server.connected(2)
            assert [(c.number, c.path) for c in server.connections] == [(1, "/first?x=1"), (2, "/second")]
            await second.close()
            await asyncio.sleep(0.01)
            assert [c.number for c in server.connections] == [1]
        await server.disconnected()
        assert server.connections == []
        assert server.opened == 2

    async def test_connected_returns_the_connection_when_it_has_ended(self, server):
        """``connected`` counts all connections that were ever open, including those that have ended."""
        async with connect(server.url):
            pass
        await server.disconnected()
        assert (await server.connected()).number == 1

    async def test_wait_raises_timeout_error_when_nothing_arrives(self, server):
        """Every wait is bounded, and its TimeoutError names the expected and the actual state."""
        with pytest.raises(TimeoutError, match=r"expected 1 connections, had 0 in 0 handshakes"):
            await server.connected(timeout=0.02)
        with pytest.raises(TimeoutError, match="expected 1 handshakes, had 0"):
            await server.attempted(timeout=0.02)
        with pytest.raises(TimeoutError, match=r"expected 'x', received \[\]"):
            await server.expect("x", timeout=0.02)
        async with connect(server.url):
            connection = await server.connected()
            with pytest.raises(TimeoutError, match=r"expected no connection, have \[<FeedConnection 1 open>\]"):
                await server.disconnected(timeout=0.02)
            with pytest.raises(TimeoutError):
                await connection.wait_closed(timeout=0.02)

    async def test_expect_claims_each_message_once(self, server):
        """``expect`` returns the first match that was not returned before, and keeps the others for later."""
        async with connect(server.url) as client:
            connection = await server.connected()
            for message in ("a", '{"op": "subscribe", "id": 1}', b"\x01", "a"):
                await client.send(message)
            assert await server.expect({"op": "subscribe"}) == '{"op": "subscribe", "id": 1}'
            assert await server.expect(lambda message: isinstance(message, bytes)) == b"\x01"
            assert await server.expect("a") == "a"
            assert await server.expect() == "a"
            assert server.received == ["a", '{"op": "subscribe", "id": 1}', b"\x01", "a"] == connection.received
            assert await connection.expect(b"\x01") == b"\x01"
            with pytest.raises(TimeoutError, match=r"expected None, received .*subscribe"):
                await server.expect(timeout=0.02)

    async def test_script_runs_on_each_new_connection(self, server):
        """A script exchanges messages with its client, and the connection stays open when the script returns."""

        async def script(connection):
            await connection.send({"hello": connection.number})
            assert await connection.expect() == "go on"
            async for message in connection:
                await connection.send(message + message)
                if message == "end":
                    return

        server.script = script
        for number in (1, 2):
            async with connect(server.url) as client:
                assert json.loads(await client.recv()) == {"hello": number}
                await client.send("go on")
                await client.send("b")
                await client.send("end")
                assert [await client.recv() for _ in range(2)] == ["bb", "endend"]
                assert (await (await client.ping())) >= 0

    async def test_iteration_ends_when_its_connection_ends(self, server):
        """``async for`` over a connection ends when the client has closed it."""
        seen = []

        async def script(connection):
            seen.extend([message async for message in connection])

        server.script = script
        async with connect(server.url) as client:
            await client.send("a")
        await server.disconnected()
        assert seen == ["a"]

    @pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012, 1013, 3000, 4999])
    async def test_close_sends_the_client_the_code_and_the_reason(self, server, code):
        """Any close code can be sent; the server keeps running."""
        async with connect(server.url) as client:
            await server.connected()
            await server.close(code, "because")
            assert await closing(client) == code
            assert client.close_reason == "because"
            assert server.connections == []
        async with connect(server.url):
            await server.connected(2)

    async def test_close_aborts_the_connection_when_the_client_does_not_answer(self, server):
        """A closing handshake takes no longer than its timeout."""
        async with connect(server.url, close_timeout=0.01) as client:
            connection = await server.connected()
            client.transport.pause_reading()
            began = asyncio.get_running_loop().time()
            await connection.close(timeout=0.05)
            await connection.wait_closed()
            assert 0.04 < asyncio.get_running_loop().time() - began < 2
            client.transport.resume_reading()

    async def test_reset_cuts_without_a_close_frame(self, server):
        """After a reset the client loses the connection at once, and the server no longer lists it."""
        async with connect(server.url) as client:
            await server.connected()
            server.reset()
            assert server.connections == []
            async with asyncio.timeout(1):
                assert await closing(client) == 1006

    async def test_reset_drops_the_buffer_when_the_client_does_not_read(self, server):
        """A reset drops the messages that are buffered for a client that does not read."""
        async with connect(server.url, close_timeout=0.01) as client:
            connection = await server.connected()
            client.transport.pause_reading()
            for _ in range(100):
                connection.send_nowait("x" * 100_000)
            connection.reset()
            await connection.wait_closed(timeout=1)
            client.transport.resume_reading()

    async def test_stall_keeps_the_connection_open_and_dead(self, server):
        """A stalled connection sends, reads and answers nothing; after ``resume`` it reads what the client sent."""
        async with connect(server.url) as client:
            connection = await server.connected()
            server.stall()
            assert connection.is_stalled
            await server.send("lost")
            connection.send_nowait("lost, too")
            await client.send("late")
            pong = await client.ping()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.recv(), 0.05)
            assert server.received == []
            assert not pong.done()
            server.resume()
            assert await server.expect() == "late"
            await pong
            await server.send("alive")
            assert await client.recv() == "alive"

    async def test_close_ends_a_stall(self, server):
        """Closing a stalled connection ends the stall and completes the closing handshake."""
        async with connect(server.url) as client:
            await server.connected()
            server.stall()
            await asyncio.gather(server.close(4000), closing(client))
            assert client.close_code == 4000

    async def test_stop_does_not_wait_for_stalled_connections(self, server):
        """Leaving the block aborts stalled connections."""
        async with connect(server.url) as client:
            await server.connected()
            server.stall()
            began = asyncio.get_running_loop().time()
            await server.stop()
            assert asyncio.get_running_loop().time() - began < 0.5
            assert await closing(client) == 1006

    async def test_refuse_answers_the_next_handshakes_with_a_status(self, server):
        """The next ``times`` handshakes get the status, the headers and the body; then handshakes succeed again."""
        server.refuse(429, {"Retry-After": "3"}, body="slow down", times=2)
        for _ in range(2):
            with pytest.raises(InvalidStatus) as caught:
                await connect(server.url)
            assert caught.value.response.status_code == 429
            assert caught.value.response.headers["Retry-After"] == "3"
            assert caught.value.response.body == b"slow down"
        async with connect(server.url):
            assert (await server.connected()).number == 1
        assert len(server.handshakes) == 3
        assert (await server.attempted(3)).path == "/"

    async def test_refuse_sends_a_status_when_no_registry_contains_it(self, server):
        """520 and similar codes can be sent."""
        server.refuse(520)
        with pytest.raises(InvalidStatus) as caught:
            await connect(server.url, process_exception=lambda error: error)
        assert caught.value.response.status_code == 520

    async def test_faults_queue_up_until_accept_removes_them(self, server):
        """Each handshake takes the first fault of the queue; ``times=None`` lasts until ``accept()``."""
        server.refuse(401)
        server.garbage()
        server.refuse(404, times=None)
        seen = []
        for _ in range(4):
            try:
                await connect(server.url, process_exception=lambda error: error)
            except InvalidStatus as error:
                seen.append(error.response.status_code)
            except InvalidMessage:
                seen.append("garbage")
        assert seen == [401, "garbage", 404, 404]
        server.accept()
        async with connect(server.url):
            await server.connected()

    async def test_garbage_closes_during_the_handshake_when_it_is_empty(self, server):
        """``garbage(b"")`` ends the TCP connection and sends nothing."""
        server.garbage(b"")
        with pytest.raises((InvalidMessage, OSError, EOFError)):
            await connect(server.url, process_exception=lambda error: error)

    async def test_mute_accepts_and_stays_silent(self, server):
        """A muted handshake gets no answer until the client gives up."""
        server.mute()
        with pytest.raises(TimeoutError):
            await connect(server.url, open_timeout=0.1)
        async with connect(server.url):
            await server.connected()
        server.mute()
        attempt = asyncio.create_task(connect(server.url).__aenter__())
        await server.attempted(3)
        await server.stop()
        with pytest.raises((InvalidMessage, OSError, EOFError)):
            await attempt

    async def test_slow_handshake_succeeds_after_its_seconds(self, server):
        """A slow handshake succeeds after the given seconds; it ends early when the client gives up."""
        server.slow_handshake(0.1, times=2)
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with connect(server.url):
            assert 0.09 < loop.time() - began < 2
        with pytest.raises(TimeoutError):
            await connect(server.url, open_timeout=0.02)
        assert server.opened == 1

    async def test_times_below_one_is_rejected(self, server):
        """A fault for less than one handshake is an error that names the argument."""
        with pytest.raises(ValueError, match="times: expected"):
            server.refuse(times=0)

    async def test_stop_and_start_keep_the_port(self, server):
        """Between ``stop()`` and ``start()`` connections are refused; afterwards the port is the same."""
        url = server.url
        async with connect(url) as client:
            await server.connected()
            await asyncio.gather(server.stop(1012, "back soon"), closing(client))
            assert (client.close_code, client.close_reason) == (1012, "back soon")
        with pytest.raises(ConnectionRefusedError):
            await connect(url, process_exception=lambda error: error)
        await server.start()
        assert server.url == url
        with pytest.raises(RuntimeError, match="already running"):
            await server.start()
        async with connect(url):
            await server.connected(2)

    async def test_burst_sends_numbered_messages(self, server):
        """A burst sends ``count`` numbered messages, or one message ``count`` times."""
        async with connect(server.url) as client:
            await server.connected()
            sending = asyncio.create_task(server.burst(5_000))
            assert [json.loads(await client.recv())["n"] for _ in range(5_000)] == list(range(1, 5_001))
            await sending
            await server.burst(2, "again")
            assert [await client.recv() for _ in range(2)] == ["again", "again"]

    async def test_fragments_make_one_message(self, server):
        """A message can be sent in thousands of frames."""
        async with connect(server.url) as client:
            connection = await server.connected()
            await connection.send_fragments("x" for _ in range(4_000))
            assert await client.recv() == "x" * 4_000

    async def test_invalid_utf8_makes_the_client_fail_the_connection(self, server):
        """A client ends the connection with 1007 when a text frame is not UTF-8."""
        async with connect(server.url) as client:
            connection = await server.connected()
            await connection.send_invalid_utf8()
            with pytest.raises(ConnectionClosedError):
                await client.recv()
            assert client.protocol.close_sent.code == 1007

    async def test_raw_octets_may_end_in_mid_frame(self, server):
        """Half a frame and then a reset cut the connection in the middle of a frame."""
        async with connect(server.url) as client:
            connection = await server.connected()
            connection.send_raw(b"\x81\x7ehalf")
            await asyncio.sleep(0.01)
            connection.reset()
            assert await closing(client) == 1006

    async def test_client_fails_the_connection_when_a_message_is_above_its_limit(self, server):
        """The server has no size limit: a message above the client's limit reaches it, and it closes with 1009."""
        async with connect(server.url, max_size=1000) as client:
            await server.connected()
            await server.send("x" * 1001)
            with pytest.raises(ConnectionClosedError):
                await client.recv()
            assert client.protocol.close_sent.code == 1009

    async def test_send_is_bounded_when_the_client_does_not_read(self, server):
        """When the client does not read, ``send`` raises at its timeout, and ``send_nowait`` returns at once."""
        async with connect(server.url, close_timeout=0.01) as client:
            connection = await server.connected()
            client.transport.pause_reading()
            with pytest.raises(TimeoutError):
                await server.send(*["x" * 100_000] * 200, timeout=0.1)
            connection.send_nowait("y")
            connection.reset()
            client.transport.resume_reading()

    async def test_http_endpoints_answer_next_to_the_websocket(self):
        """Endpoints get method, query and headers, and return JSON, text or any status; other paths get 404."""
        seen: list[HttpRequest] = []

        async def answer(request):
            seen.append(request)
            return {"n": request.query["n"]}

        endpoints = {
            "/json": answer,
            "/large": lambda request: ["x" * 3_000_000],
            "/text": lambda request: "words",
            "/teapot": lambda request: HttpResponse({"error": 1}, 418, {"X-Tea": "green"}),
        }
        async with FeedServer(http=endpoints) as server:
            assert await get_json(f"{server.http_url}/json?n=1&empty=") == {"n": "1"}
            assert (seen[0].method, seen[0].path) == ("GET", "/json")
            assert seen[0].query == {"n": "1", "empty": ""}
            assert len((await get_json(f"{server.http_url}/large"))[0]) == 3_000_000
            with pytest.raises(HttpError, match="HTTP 418") as caught:
                await get_json(f"{server.http_url}/teapot")
            assert (caught.value.status, caught.value.body) == (418, b'{"error":1}')
            with pytest.raises(HttpError) as caught:
                await get_json(f"{server.http_url}/nowhere")
            assert caught.value.status == 404
            with pytest.raises(ValueError, match="malformed"):
                await get_json(f"{server.http_url}/text")
            assert server.handshakes == []

    async def test_http_error_quotes_the_body_when_there_is_one(self):
        """The text of an HttpError says what the server answered: one line, without secrets, at most 200 characters."""
        bodies = {
            "/said": b'{"code": -1121,\n "msg": "Invalid symbol."}\n',
            "/secret": b'{"msg": "bad", "listenKey": "pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61"}',
            "/empty": b" \n",
            "/binary": b"\xff\x1b",
            "/long": b"so many words " * 1_000_000,
        }
        endpoints = {path: lambda request: HttpResponse(bodies[request.path], 400) for path in bodies}
        texts = {}
        async with FeedServer(http=endpoints) as server:
            for path in bodies:
                with pytest.raises(HttpError) as caught:
                    await get_json(server.http_url + path)
                assert caught.value.body == bodies[path]
                texts[path] = str(caught.value)
        assert texts["/said"] == r'HTTP 400: {"code": -1121,\n "msg": "Invalid symbol."}'
        assert texts["/secret"] == 'HTTP 400: {"msg": "bad", "listenKey": "***"}'
        assert texts["/empty"] == "HTTP 400"
        assert texts["/binary"].isprintable()
        assert texts["/long"] == "HTTP 400: " + ("so many words " * 15)[:200] + "…"

    async def test_stop_does_not_wait_for_slow_endpoints(self):
        """An endpoint that sleeps for an hour does not keep the server from stopping."""
        started = asyncio.Event()

        async def endpoint(request):
            started.set()
            await asyncio.sleep(3600)

        async with assert_no_leaks():
            async with FeedServer(http={"/": endpoint}) as server:
                request = asyncio.create_task(get_json(server.http_url, timeout=1))
                await started.wait()
            with pytest.raises((ValueError, OSError)):
                await request

    async def test_get_json_fails_when_the_server_is_mute_or_sends_junk(self):
        """``get_json`` raises TimeoutError for a mute server, and ValueError for junk and for other schemes."""

        async def serve(reader, writer):
            writer.write((await reader.readline())[:0] + b"SSH-2.0\r\n\r\n")
            writer.close()

        tcp = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with tcp:
            port = tcp.sockets[0].getsockname()[1]
            with pytest.raises(ValueError, match="not HTTP"):
                await get_json(f"http://127.0.0.1:{port}/")
        with pytest.raises(ValueError, match="expected http://"):
            await get_json("https://127.0.0.1/")
        async with FeedServer(http={"/": lambda request: asyncio.sleep(60)}) as server:
            with pytest.raises(TimeoutError):
                await get_json(server.http_url, timeout=0.05)

    async def test_admit_refuses_a_handshake_by_its_headers(self):
        """``admit`` is called with each handshake, and can answer it with a status."""

        def admit(handshake):
            return None if handshake.headers.get("X-Token") == "good" else HttpResponse("who are you?", 401)

        async with FeedServer(admit=admit) as server:
            with pytest.raises(InvalidStatus, match="401"):
                await connect(server.url)
            async with connect(server.url, additional_headers={"X-Token": "good"}):
                assert (await server.connected()).headers["X-Token"] == "good"

    async def test_exception_of_a_script_is_raised_when_the_block_is_left(self):
        """The end of the block raises the exceptions of scripts, except ConnectionClosed."""

        async def script(connection):
            if connection.number == 1:
                raise LookupError("wrong script")
            while True:
                await connection.send("x")
                await asyncio.sleep(0.001)

        server = FeedServer(script)
        await server.start()
        async with connect(server.url):
            await server.connected()
        async with connect(server.url) as client:
            assert await client.recv() == "x"
        await server.disconnected()
        with pytest.raises(ExceptionGroup) as caught:
            await server.__aexit__(None, None, None)
        assert [str(error) for error in caught.value.exceptions] == ["wrong script"]

    async def test_exception_of_an_endpoint_is_raised_when_the_block_is_left(self):
        """When an endpoint or ``admit`` raises, the client gets 500, and the end of the block raises the exception."""

        def fail(request):
            raise LookupError("wrong endpoint")

        with pytest.raises(ExceptionGroup) as caught:
            async with FeedServer(http={"/": fail}) as server:
                with pytest.raises(HttpError, match="500"):
                    await get_json(server.http_url)
        with pytest.raises(ExceptionGroup) as caught_too:
            async with FeedServer(admit=fail) as server:
                with pytest.raises(InvalidStatus, match="500"):
                    await connect(server.url, process_exception=lambda error: error)
        for group in (caught.value, caught_too.value):
            assert [str(error) for error in group.exceptions] == ["wrong endpoint"]

    async def test_start_leaves_no_socket_when_it_is_cancelled_at_any_step(self):
        """A start that is cancelled at any step leaves no socket behind, and the server can be started again."""
        server = FeedServer()
        cancelled = 0
        for step in range(10):
            async with assert_no_leaks():
                starting = asyncio.create_task(server.start())
                for _ in range(step):
                    await asyncio.sleep(0)
                starting.cancel()
                await asyncio.wait({starting})
                cancelled += starting.cancelled()
                await server.stop()
        assert 2 < cancelled < 10

    async def test_stop_leaves_no_connection_when_it_is_cancelled_at_any_step(self):
        """A stop that is cancelled at any step leaves no connection behind."""
        for step in range(1, 10):
            async with assert_no_leaks():
                server = FeedServer()
                await server.start()
                async with connect(server.url, close_timeout=0.05) as client:
                    connection = await server.connected()
                    client.transport.pause_reading()
                    stopping = asyncio.create_task(server.stop())
                    for _ in range(step):
                        await asyncio.sleep(0)
                    stopping.cancel()
                    await asyncio.wait({stopping})
                    await connection.wait_closed(timeout=0.5)
                    client.transport.resume_reading()

    async def test_exception_of_a_script_is_a_note_when_the_block_raises_too(self):
        """When the block raises, its exception carries a note with the exception of the script."""

        async def script(connection):
            raise LookupError("wrong script")

        with pytest.raises(TimeoutError) as caught:
            async with FeedServer(script) as server, connect(server.url):
                await server.expect("never", timeout=0.02)
        assert "wrong script" in caught.value.__notes__[0]


class TestFeedServer(FeedServerTests):
    """On real sockets."""


class TestFeedServerInVirtualTime(FeedServerTests):
    """On sockets in memory."""

    pytestmark = pytest.mark.usefixtures("virtual_time")


async def test_reset_is_a_reset_on_the_wire():
    """On real sockets a reset gives the client ECONNRESET, not the end of the stream."""
    async with FeedServer() as server, connect(server.url) as client:
        await server.connected()
        server.reset()
        with pytest.raises(ConnectionClosedError) as caught:
            await client.recv()
        assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_tls_is_served_when_a_context_is_given():
    """With ``ssl=`` the URL is ``wss://``, and reset works through TLS."""
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    async with FeedServer(ssl=server_context, path="/feed") as server:
        assert server.url.startswith("wss://127.0.0.1:")
        assert server.http_url.startswith("https://")
        async with connect(server.url, ssl=client_context) as client:
            await server.connected()
            assert repr(server).endswith("/feed up>")
            server.reset()
            assert await closing(client) == 1006


@pytest.mark.parametrize(
    ("wanted", "message", "result"),
    [
        (None, b"", True),
        ("a", "a", True),
        ("a", "b", False),
        (b"a", b"a", True),
        ({"a": 1}, '{"a": 1, "b": 2}', True),
        ({"a": 1}, '{"a": 2}', False),
        ({"a": None}, "{}", False),
        ({"a": 1}, "[1]", False),
        ({"a": 1}, "no JSON", False),
        ([1], "[1]", True),
        (5, "6", False),
    ],
)
def test_matches_compares_by_the_type_of_the_wanted_value(wanted, message, result):
    """Text and bytes are compared unchanged, dicts by their own keys, and other values as JSON."""
    assert matches(wanted, message) is result


class TestNumberedBroadcast:
    pytestmark = pytest.mark.usefixtures("virtual_time")

    async def collect(self, client, seconds):
        seen = defaultdict(list)
        arrivals = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                async for message in client:
                    message = json.loads(message)
                    seen[message["channel"]].append(message["n"])
                    arrivals.append((message["channel"], message["n"]))
        return seen, arrivals

    async def test_numbers_arrive_once_and_in_order_per_channel_when_lags_differ(self, feed_server):
        """With random lags the order on each channel is kept, and channels interleave differently per connection."""
        numbers = random.Random(7)
        async with (
            NumberedBroadcast(
                feed_server, channels=("a", "b", "c"), lag=lambda connection, channel: numbers.uniform(0, 0.06)
            ) as broadcast,
            connect(feed_server.url) as first,
            connect(feed_server.url) as second,
        ):
            collecting = [asyncio.create_task(self.collect(client, 20)) for client in (first, second)]
            await feed_server.connected(2)
            await broadcast.run(rate=500, seconds=10)
            await broadcast.delivered()
            (one, one_order), (two, two_order) = await asyncio.gather(*collecting)
        assert sum(broadcast.sent.values()) == 5_000
        for channel in ("a", "b", "c"):
            assert one[channel] == two[channel] == list(range(1, broadcast.sent[channel] + 1))
        assert one_order != two_order

    async def test_run_keeps_the_rate_of_the_clock(self, feed_server):
        """``rate`` is the number of messages a second of all channels together, for low and high rates."""
        loop = asyncio.get_running_loop()
        for rate, seconds in ((0.5, 10), (3, 2), (20_000, 0.5)):
            broadcast = NumberedBroadcast(feed_server)
            began = loop.time()
            await broadcast.run(rate=rate, seconds=seconds)
            assert broadcast.sent["a"] == rate * seconds
            assert abs(loop.time() - began - seconds) < 0.02

    async def test_channel_begins_later_when_it_is_subscribed_later(self, feed_server):
        """The first number of a late channel on a connection was published after its subscription."""
        async with (
            NumberedBroadcast(
                feed_server,
                channels=("early", "late"),
                subscribed_after=lambda connection, channel: 0.3 if channel == "late" else 0.0,
            ) as broadcast,
            connect(feed_server.url) as client,
        ):
            await feed_server.connected()
            collecting = asyncio.create_task(self.collect(client, 3))
            await broadcast.run(rate=200, seconds=1)
            seen, _ = await collecting
        assert seen["early"] == list(range(1, 101))
        assert seen["late"] == list(range(seen["late"][0], 101))
        assert 28 <= seen["late"][0] <= 33

    async def test_publish_uses_the_given_channel_and_message(self, feed_server):
        """``publish`` publishes on one channel or on all, and ``make`` makes the message."""
        async with (
            NumberedBroadcast(feed_server, channels=("x", "y"), make=lambda channel, n: f"{channel}{n}") as broadcast,
            connect(feed_server.url) as client,
        ):
            await feed_server.connected()
            broadcast.publish("x", 2)
            broadcast.publish()
            assert [await client.recv() for _ in range(4)] == ["x1", "x2", "x3", "y1"]
            assert broadcast.sent == {"x": 3, "y": 1}

    async def test_message_arrives_no_earlier_than_its_lag(self, feed_server):
        """A message with a short lag waits for the previous message of its channel; none arrives before its lag."""
        lags = iter([0.5, 0.1, 0.7])
        loop = asyncio.get_running_loop()
        async with (
            NumberedBroadcast(feed_server, lag=lambda *_: next(lags)) as broadcast,
            connect(feed_server.url) as client,
        ):
            await feed_server.connected()
            began = loop.time()
            broadcast.publish(count=3)
            came = [(json.loads(await client.recv())["n"], loop.time() - began) for _ in range(3)]
        assert [n for n, _ in came] == [1, 2, 3]
        assert [time for _, time in came] == pytest.approx([0.5, 0.5, 0.7], abs=0.001)

    async def test_undelivered_messages_are_dropped_when_the_block_is_left(self, feed_server):
        """Leaving the block leaves no timer; waiting for undelivered messages is bounded."""
        async with connect(feed_server.url), assert_no_leaks():
            await feed_server.connected()
            async with NumberedBroadcast(feed_server, lag=lambda *_: 60.0) as broadcast:
                broadcast.publish(count=3)
                assert broadcast.pending == 3
                with pytest.raises(TimeoutError, match="3 messages are not delivered yet"):
                    await broadcast.delivered(timeout=1)
            assert broadcast.pending == 0


async def test_broadcast_is_rejected_when_it_has_no_channels(feed_server):
    """A broadcast without channels is an error that names the argument."""
    with pytest.raises(ValueError, match="channels: expected"):
        NumberedBroadcast(feed_server, channels=())


class TestAssertNoLeaks:
    async def test_block_passes_when_nothing_leaks(self):
        """A block that cleans up passes, even if its tasks are still ending."""
        async with assert_no_leaks():
            asyncio.create_task(asyncio.sleep(0.02))  # noqa: RUF006
            async with FeedServer() as server, connect(server.url):
                await server.connected()

    async def test_leaked_task_is_named(self):
        """The error names a task that still runs, with its coroutine and its line."""

        async def forgotten():
            await asyncio.Event().wait()

        with pytest.raises(AssertionError, match=r"task .*forgotten at test_testing\.py:\d+"):
            async with assert_no_leaks(timeout=0.02):
                task = asyncio.create_task(forgotten())
        task.cancel()

    async def test_leaked_file_descriptor_is_named(self, tmp_path):
        """The error names an open file by its path."""
        with pytest.raises(AssertionError, match=r"file descriptor \d+: .*left\.txt"):
            async with assert_no_leaks(timeout=0.02):
                file = (tmp_path / "left.txt").open("w")
        file.close()

    async def test_leaked_timer_is_named(self):
        """The error names a pending timer by its callback; a cancelled timer is not a leak."""
        loop = asyncio.get_running_loop()

        def forget():
            loop.call_later(60, print).cancel()
            return loop.call_later(60, forget)

        with pytest.raises(AssertionError, match=r"timer: .*\.forget \(1 more than before\)"):
            async with assert_no_leaks(timeout=0.02):
                timer = forget()
        timer.cancel()

    async def test_leaked_socket_is_named_in_virtual_time(self, virtual_time):
        """In virtual time, where sockets have no file descriptors, an open socket is found as well."""
        async with FeedServer() as server:
            with pytest.raises(AssertionError, match="in memory, "):
                async with assert_no_leaks(timeout=0.02):
                    client = await connect(server.url)
            await client.close()

    async def test_nothing_is_checked_when_the_block_raises(self):
        """When the block raises, leaks are not checked, so its exception is not replaced."""
        timers = []

        async def block():
            async with assert_no_leaks(timeout=0.02):
                timers.append(asyncio.get_running_loop().call_later(60, print))
                raise LookupError

        with pytest.raises(LookupError):
            await block()
        timers[0].cancel()


class TestServerProcess:
    async def test_server_answers_nothing_while_it_is_frozen(self):
        """SIGSTOP leaves the connection open but dead; SIGCONT revives it; SIGKILL ends it."""
        async with serve_in_process("--script", "echo") as server, connect(server.url) as client:
            await client.send("a")
            assert await client.recv() == "a"
            server.stop()
            await client.send("b")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.recv(), 0.1)
            server.resume()
            assert await client.recv() == "b"
            server.kill()
            assert await closing(client) == 1006
            assert await server.wait() == -signal.SIGKILL

    async def test_broadcast_ends_cleanly_when_it_is_interrupted(self):
        """The broadcast script sends numbered messages; SIGINT ends the process cleanly, with close code 1001."""
        arguments = ("--script", "broadcast", "--rate", "200", "--channels", "a,b", "--lag", "0.01")
        async with serve_in_process(*arguments) as server, connect(server.url) as client:
            seen = defaultdict(list)
            for _ in range(20):
                message = json.loads(await client.recv())
                seen[message["channel"]].append(message["n"])
            for numbers in seen.values():
                assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            assert f"{server.pid}" in repr(server)
            server.interrupt()
            assert await closing(client) == 1001
            assert await server.wait() == 0

    async def test_error_contains_the_output_when_a_process_cannot_start(self):
        """When a process prints no URL, the error contains its error output, and nothing is left behind."""
        async with assert_no_leaks(timeout=5):
            with pytest.raises(RuntimeError, match="expected silent, echo, broadcast or module:function"):
                async with serve_in_process("--script", "nonsense"):
                    pass

    async def test_process_is_killed_when_its_block_is_left(self):
        """Leaving the block kills the process, even a frozen one, and closes its pipes."""
        async with assert_no_leaks(timeout=5):
            async with serve_in_process() as server:
                server.stop()
            assert server.process.returncode == -signal.SIGKILL

    def test_main_runs_a_given_script_for_its_seconds(self, capsys):
        """``--script module:function`` runs that function; the URL is printed; ``--seconds`` ends the server."""
        assert main(["--script", "rxws.testing.__main__:echo", "--seconds", "0.01"]) == 0
        assert capsys.readouterr().out.startswith("ws://127.0.0.1:")
        assert main(["--script", "broadcast", "--seconds", "0.01"]) == 0

    @pytest.mark.parametrize("name", ["no.such.module:f", "rxws.testing:no_such_function"])
    def test_main_names_the_script_when_it_does_not_exist(self, name, capsys):
        """A script that cannot be imported is a usage error, with its name."""
        with pytest.raises(SystemExit):
            main(["--script", name])
        assert name in capsys.readouterr().err


class TestPlugin:
    @pytest.fixture(autouse=True)
    def importable(self, monkeypatch):
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))

    async def test_virtual_time_passes_at_once(self, virtual_time):
        """A sleep of two weeks takes no time, and a sleep of a nanosecond does not stop the clock."""
        began = virtual_time.time()
        await asyncio.sleep(14 * 24 * 3600)
        await asyncio.sleep(1e-9)
        virtual_time.call_at(virtual_time.time() + 1.4e-6, lambda: None)
        virtual_time.call_at(virtual_time.time() + 1.9e-6, lambda: None)
        await asyncio.sleep(1)
        assert virtual_time.time() - began == pytest.approx(14 * 24 * 3600 + 1)

    async def test_other_tests_run_in_real_time(self):
        """A test that does not ask for virtual time has an ordinary loop."""
        assert type(asyncio.get_running_loop()).__module__.startswith("asyncio")

    @pytest.mark.slow
    def test_fixtures_work_for_a_package_that_uses_them(self, pytester):
        """In a user's project, in strict mode and with warnings as errors, the three fixtures work together."""
        pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n")
        pytester.makepyfile(
            """
            import asyncio, pytest, websockets

            pytest_plugins = ["rxws.pytest_plugin"]

            @pytest.mark.asyncio
            async def test_good(feed_server, virtual_time, assert_no_leaks):
                async with websockets.connect(feed_server.url, proxy=None) as client:
                    await feed_server.connected()
                    await feed_server.send("hello")
                    assert await client.recv() == "hello"
                    await asyncio.sleep(3600)

            @pytest.mark.asyncio
            async def test_leak(assert_no_leaks):
                asyncio.get_running_loop().call_later(60, print)

            @pytest.mark.asyncio
            @pytest.mark.usefixtures("virtual_time")
            async def test_marked():
                await asyncio.sleep(3600)
            """
        )
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:rxws")
        result.assert_outcomes(passed=3, errors=1)
        result.stdout.fnmatch_lines(["*timer: builtins.print (1 more than before)*"])

    @pytest.mark.slow
    def test_plugin_does_nothing_when_its_extra_is_not_installed(self, pytester):
        """Without pytest-asyncio and async-solipsism the plugin does not change a test run."""
        pytester.makeconftest(
            """
            import sys
            sys.modules["async_solipsism"] = None
            pytest_plugins = ["rxws.pytest_plugin"]
            """
        )
        pytester.makepyfile("def test_plain(): pass")
        result = pytester.runpytest_subprocess("-p", "no:asyncio", "-p", "no:rxws", "-W", "error")
        result.assert_outcomes(passed=1)

    @pytest.mark.slow
    @pytest.mark.parametrize("package", ["async_solipsism", "pytest_asyncio"])
    def test_fixture_names_the_extra_when_it_is_not_installed(self, pytester, package):
        """Without the extra, the fixtures exist, and their tests fail with the command that installs it."""
        pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
        pytester.makeconftest(
            f"""
            import sys
            sys.modules["{package}"] = None
            pytest_plugins = ["rxws.pytest_plugin"]
            """
        )
        names = ("feed_server", "virtual_time", "assert_no_leaks")
        pytester.makepyfile("\n".join(f"async def test_{name}({name}): pass" for name in names))
        result = pytester.runpytest_subprocess("-p", "no:rxws")
        result.assert_outcomes(errors=3)
        result.stdout.fnmatch_lines(
            [f"{name} needs {package}, which pip install 'rxws?testing?' installs" for name in names], consecutive=False
        )

    @pytest.mark.slow
    def test_plugin_loads_the_server_only_when_a_fixture_needs_it(self, pytester):
        """The start of pytest, which imports every plugin, does not import the server."""
        code = "import rxws.pytest_plugin, sys; print(*sys.modules, sep='\\n')"
        loaded = pytester.run(sys.executable, "-c", code).outlines
        assert "rxws.pytest_plugin" in loaded
        assert not {"rxws.testing", "websockets.asyncio.server"} & set(loaded)

    @pytest.mark.slow
    def test_virtual_time_fails_with_the_reason_when_a_conftest_chose_the_loop(self, pytester):
        """The hook of pytest-asyncio in a conftest takes precedence; then the fixture fails with the reason."""
        pytester.makeini("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
        pytester.makeconftest(
            """
            import asyncio
            pytest_plugins = ["rxws.pytest_plugin"]
            def pytest_asyncio_loop_factories(config, item):
                return {"mine": asyncio.new_event_loop}
            """
        )
        pytester.makepyfile("async def test_virtual(virtual_time): pass")
        result = pytester.runpytest_subprocess("-p", "no:rxws")
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["*a conftest or another plugin chose the event loop*"])

    @pytest.mark.slow
    def test_testing_can_be_imported_when_pytest_is_not_installed(self, pytester):
        """``rxws.testing`` needs neither pytest nor its plugins."""
        code = "import sys; sys.modules['pytest'] = sys.modules['async_solipsism'] = None; import rxws.testing"
        assert pytester.run(sys.executable, "-c", code).ret == 0
