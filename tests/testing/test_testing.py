"""The server that feeds are tested with does what it is told, and the check for leaks finds them."""

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
    """Connect with nothing that the test does not ask for."""
    return websockets.connect(url, **{"compression": None, "proxy": None, "ping_interval": None} | options)


async def closing(connection):
    """Read to the end; return the close code."""
    with contextlib.suppress(ConnectionClosed):
        async for _ in connection:
            pass
    return connection.close_code


class WhatFeedServersDo:
    """What a server does on every loop; the subclasses choose the loop."""

    @pytest.fixture
    async def server(self, feed_server):
        async with assert_no_leaks():
            yield feed_server
            await feed_server.stop()

    async def test_send_reaches_all_live_connections_in_order(self, server):
        """What the server sends comes to every live client in order: text, binary, and anything else as JSON."""
        async with connect(server.url) as first, connect(server.url) as second:
            await server.connected(2)
            await server.send("a", b"b", {"n": 3})
            for client in (first, second):
                assert [await client.recv() for _ in range(3)] == ["a", b"b", '{"n":3}']

    async def test_send_reaches_only_the_connections_that_are_named(self, server):
        """``to=`` sends to some connections and not to the others."""
        async with connect(server.url) as first, connect(server.url) as second:
            newest = await server.connected(2)
            await server.send("for the second", to=[newest])
            await server.send("for both")
            assert await first.recv() == "for both"
            assert await second.recv() == "for the second"

    async def test_send_skips_a_connection_that_is_lost_meanwhile(self, server):
        """One client's end is no error for whoever sends to all."""
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

    async def test_connected_returns_for_a_connection_that_has_gone(self, server):
        """The n-th connection ever counts, be it live or not."""
        async with connect(server.url):
            pass
        await server.disconnected()
        assert (await server.connected()).number == 1

    async def test_waits_end_with_what_there_was_when_nothing_comes(self, server):
        """Every wait is bounded, and its TimeoutError says what was there instead."""
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
        """``expect`` gives the first unclaimed match, and leaves the others for later."""
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
        """A script talks with its client, and the connection outlives it."""

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
        """``async for`` over a connection stops when the client has gone."""
        seen = []

        async def script(connection):
            seen.extend([message async for message in connection])

        server.script = script
        async with connect(server.url) as client:
            await client.send("a")
        await server.disconnected()
        assert seen == ["a"]

    @pytest.mark.parametrize("code", [1000, 1001, 1008, 1011, 1012, 1013, 3000, 4999])
    async def test_close_gives_the_client_the_code_and_the_reason(self, server, code):
        """Any close code can be sent; the server goes on."""
        async with connect(server.url) as client:
            await server.connected()
            await server.close(code, "because")
            assert await closing(client) == code
            assert client.close_reason == "because"
            assert server.connections == []
        async with connect(server.url):
            await server.connected(2)

    async def test_close_aborts_a_client_that_does_not_answer(self, server):
        """A closing handshake waits for its timeout and not longer."""
        async with connect(server.url, close_timeout=0.01) as client:
            connection = await server.connected()
            client.transport.pause_reading()
            began = asyncio.get_running_loop().time()
            await connection.close(timeout=0.05)
            await connection.wait_closed()
            assert 0.04 < asyncio.get_running_loop().time() - began < 2
            client.transport.resume_reading()

    async def test_reset_cuts_without_a_close_frame(self, server):
        """After a reset the client sees a lost connection, at once, and the connection is listed no more."""
        async with connect(server.url) as client:
            await server.connected()
            server.reset()
            assert server.connections == []
            async with asyncio.timeout(1):
                assert await closing(client) == 1006

    async def test_reset_does_not_wait_for_what_is_not_sent_yet(self, server):
        """What is buffered for a client that does not read is dropped by a reset."""
        async with connect(server.url, close_timeout=0.01) as client:
            connection = await server.connected()
            client.transport.pause_reading()
            for _ in range(100):
                connection.send_nowait("x" * 100_000)
            connection.reset()
            await connection.wait_closed(timeout=1)
            client.transport.resume_reading()

    async def test_stall_keeps_the_connection_open_and_dead(self, server):
        """While stalled nothing is sent, read, or answered; afterwards what the client sent is read."""
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
        """A stalled connection that is closed closes in good order."""
        async with connect(server.url) as client:
            await server.connected()
            server.stall()
            await asyncio.gather(server.close(4000), closing(client))
            assert client.close_code == 4000

    async def test_stop_does_not_wait_for_stalled_connections(self, server):
        """Leaving the block aborts what is stalled."""
        async with connect(server.url) as client:
            await server.connected()
            server.stall()
            began = asyncio.get_running_loop().time()
            await server.stop()
            assert asyncio.get_running_loop().time() - began < 0.5
            assert await closing(client) == 1006

    async def test_refuse_answers_the_next_handshakes_with_a_status(self, server):
        """The next handshakes, and no more, get the status, the headers and the body."""
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

    async def test_refuse_takes_a_status_that_is_in_no_registry(self, server):
        """520 and its kind can be sent."""
        server.refuse(520)
        with pytest.raises(InvalidStatus) as caught:
            await connect(server.url, process_exception=lambda error: error)
        assert caught.value.response.status_code == 520

    async def test_faults_queue_up_and_accept_forgets_them(self, server):
        """Each handshake takes the first fault in line; ``times=None`` lasts until ``accept()``."""
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

    async def test_garbage_of_nothing_closes_during_the_handshake(self, server):
        """``garbage(b"")`` ends the TCP connection without a word."""
        server.garbage(b"")
        with pytest.raises((InvalidMessage, OSError, EOFError)):
            await connect(server.url, process_exception=lambda error: error)

    async def test_mute_accepts_and_stays_silent(self, server):
        """A muted handshake is answered by nothing until the client gives up."""
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

    async def test_slow_handshake_takes_its_time(self, server):
        """A slow handshake succeeds after the seconds it was told; a client that leaves earlier ends it."""
        server.slow_handshake(0.1, times=2)
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with connect(server.url):
            assert 0.09 < loop.time() - began < 2
        with pytest.raises(TimeoutError):
            await connect(server.url, open_timeout=0.02)
        assert server.opened == 1

    async def test_times_below_one_is_rejected(self, server):
        """A fault for no handshake at all is an error that names the argument."""
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
        """A burst is so many numbered messages, or one message so many times."""
        async with connect(server.url) as client:
            await server.connected()
            sending = asyncio.create_task(server.burst(5_000))
            assert [json.loads(await client.recv())["n"] for _ in range(5_000)] == list(range(1, 5_001))
            await sending
            await server.burst(2, "again")
            assert [await client.recv() for _ in range(2)] == ["again", "again"]

    async def test_fragments_make_one_message(self, server):
        """A message may come in thousands of frames."""
        async with connect(server.url) as client:
            connection = await server.connected()
            await connection.send_fragments("x" for _ in range(4_000))
            assert await client.recv() == "x" * 4_000

    async def test_invalid_utf8_makes_the_client_fail_the_connection(self, server):
        """A text frame that is no UTF-8 ends with 1007."""
        async with connect(server.url) as client:
            connection = await server.connected()
            await connection.send_invalid_utf8()
            with pytest.raises(ConnectionClosedError):
                await client.recv()
            assert client.protocol.close_sent.code == 1007

    async def test_raw_octets_may_end_in_mid_frame(self, server):
        """Half a frame and a reset are a cut in mid-frame."""
        async with connect(server.url) as client:
            connection = await server.connected()
            connection.send_raw(b"\x81\x7ehalf")
            await asyncio.sleep(0.01)
            connection.reset()
            assert await closing(client) == 1006

    async def test_a_message_above_the_limit_makes_the_client_fail_the_connection(self, server):
        """The server has no limit of its own: an oversize message gets to the client, who ends with 1009."""
        async with connect(server.url, max_size=1000) as client:
            await server.connected()
            await server.send("x" * 1001)
            with pytest.raises(ConnectionClosedError):
                await client.recv()
            assert client.protocol.close_sent.code == 1009

    async def test_send_is_bounded_when_the_client_does_not_read(self, server):
        """A client that takes nothing makes ``send`` raise at its timeout, and ``send_nowait`` go on."""
        async with connect(server.url, close_timeout=0.01) as client:
            connection = await server.connected()
            client.transport.pause_reading()
            with pytest.raises(TimeoutError):
                await server.send(*["x" * 100_000] * 200, timeout=0.1)
            connection.send_nowait("y")
            connection.reset()
            client.transport.resume_reading()

    async def test_http_endpoints_answer_beside_the_websocket(self):
        """Endpoints give JSON, text, any status; they see method, query and headers; other paths are 404."""
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

    async def test_get_json_is_bounded_and_names_what_it_does_not_take(self):
        """A mute server ends in TimeoutError, junk and other schemes in ValueError."""

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

    async def test_admit_refuses_by_what_a_handshake_asks_for(self):
        """``admit`` sees each handshake and may answer it with a status."""

        def admit(handshake):
            return None if handshake.headers.get("X-Token") == "good" else HttpResponse("who are you?", 401)

        async with FeedServer(admit=admit) as server:
            with pytest.raises(InvalidStatus, match="401"):
                await connect(server.url)
            async with connect(server.url, additional_headers={"X-Token": "good"}):
                assert (await server.connected()).headers["X-Token"] == "good"

    async def test_a_script_that_raises_is_reported_when_the_block_is_left(self):
        """An exception in a script is not swallowed; that its client has gone is none."""

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

    async def test_an_endpoint_that_raises_is_reported_when_the_block_is_left(self):
        """An exception in an endpoint, or in ``admit``, gives the client 500, and is not swallowed."""

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

    async def test_starting_may_be_cancelled_at_any_step(self):
        """Whenever it is cancelled, a server that was to start leaves no socket behind, and may be started again."""
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

    async def test_stopping_may_be_cancelled_at_any_step(self):
        """Whenever it is cancelled, a server that was to stop leaves no connection behind."""
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

    async def test_a_failed_script_is_noted_on_the_test_that_failed(self):
        """When the block raises as well, its error carries a note of what happened in the script."""

        async def script(connection):
            raise LookupError("wrong script")

        with pytest.raises(TimeoutError) as caught:
            async with FeedServer(script) as server, connect(server.url):
                await server.expect("never", timeout=0.02)
        assert "wrong script" in caught.value.__notes__[0]


class TestFeedServer(WhatFeedServersDo):
    """On real sockets."""


class TestFeedServerInVirtualTime(WhatFeedServersDo):
    """On sockets in memory."""

    pytestmark = pytest.mark.usefixtures("virtual_time")


async def test_reset_is_a_reset_on_the_wire():
    """On real sockets the client gets ECONNRESET, not the end of the stream."""
    async with FeedServer() as server, connect(server.url) as client:
        await server.connected()
        server.reset()
        with pytest.raises(ConnectionClosedError) as caught:
            await client.recv()
        assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_tls_is_served_with_a_context():
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
def test_matches_compares_by_the_kind_of_what_is_wanted(wanted, message, result):
    """Text and bytes are compared as they are, dicts by the keys that they have, other values as JSON."""
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

    async def test_every_number_comes_once_and_in_order_per_channel_whatever_the_lags(self, feed_server):
        """Lags differ per message and connection; order is kept per channel, and channels interleave differently."""
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
        """``rate`` is messages a second in all, at low rates and at high ones."""
        loop = asyncio.get_running_loop()
        for rate, seconds in ((0.5, 10), (3, 2), (20_000, 0.5)):
            broadcast = NumberedBroadcast(feed_server)
            began = loop.time()
            await broadcast.run(rate=rate, seconds=seconds)
            assert broadcast.sent["a"] == rate * seconds
            assert abs(loop.time() - began - seconds) < 0.02

    async def test_a_channel_that_is_subscribed_later_begins_later(self, feed_server):
        """A late channel's first number on a connection is one that was published after its time."""
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

    async def test_publish_takes_a_channel_and_a_message_of_your_own(self, feed_server):
        """``publish`` numbers one channel or all, and ``make`` gives the message."""
        async with (
            NumberedBroadcast(feed_server, channels=("x", "y"), make=lambda channel, n: f"{channel}{n}") as broadcast,
            connect(feed_server.url) as client,
        ):
            await feed_server.connected()
            broadcast.publish("x", 2)
            broadcast.publish()
            assert [await client.recv() for _ in range(4)] == ["x1", "x2", "x3", "y1"]
            assert broadcast.sent == {"x": 3, "y": 1}

    async def test_no_message_comes_before_its_lag_is_over(self, feed_server):
        """A message with a short lag waits for the one before it on its channel, not the other way round."""
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

    async def test_leaving_the_block_drops_what_is_on_its_way(self, feed_server):
        """No timer is left; waiting for what is on its way is bounded."""
        async with connect(feed_server.url), assert_no_leaks():
            await feed_server.connected()
            async with NumberedBroadcast(feed_server, lag=lambda *_: 60.0) as broadcast:
                broadcast.publish(count=3)
                assert broadcast.pending == 3
                with pytest.raises(TimeoutError, match="3 messages are not delivered yet"):
                    await broadcast.delivered(timeout=1)
            assert broadcast.pending == 0


async def test_no_channel_is_an_error(feed_server):
    """A broadcast without channels is refused by name."""
    with pytest.raises(ValueError, match="channels: expected"):
        NumberedBroadcast(feed_server, channels=())


class TestAssertNoLeaks:
    async def test_nothing_leaked_is_silence(self):
        """A block that cleans up passes, what is just ending included."""
        async with assert_no_leaks():
            asyncio.create_task(asyncio.sleep(0.02))  # noqa: RUF006
            async with FeedServer() as server, connect(server.url):
                await server.connected()

    async def test_a_task_is_named(self):
        """A task that runs on is named with its coroutine and its line."""

        async def forgotten():
            await asyncio.Event().wait()

        with pytest.raises(AssertionError, match=r"task .*forgotten at test_testing\.py:\d+"):
            async with assert_no_leaks(timeout=0.02):
                task = asyncio.create_task(forgotten())
        task.cancel()

    async def test_a_file_descriptor_is_named(self, tmp_path):
        """An open file is named with its path."""
        with pytest.raises(AssertionError, match=r"file descriptor \d+: .*left\.txt"):
            async with assert_no_leaks(timeout=0.02):
                file = (tmp_path / "left.txt").open("w")
        file.close()

    async def test_a_timer_is_named(self):
        """A pending timer is named with its callback; a cancelled one is none."""
        loop = asyncio.get_running_loop()

        def forget():
            loop.call_later(60, print).cancel()
            return loop.call_later(60, forget)

        with pytest.raises(AssertionError, match=r"timer: .*\.forget \(1 more than before\)"):
            async with assert_no_leaks(timeout=0.02):
                timer = forget()
        timer.cancel()

    async def test_a_socket_in_memory_is_named(self, virtual_time):
        """In virtual time, where sockets are no file descriptors, an open one is found as well."""
        async with FeedServer() as server:
            with pytest.raises(AssertionError, match="in memory, "):
                async with assert_no_leaks(timeout=0.02):
                    client = await connect(server.url)
            await client.close()

    async def test_the_error_of_the_block_comes_first(self):
        """A block that raises is not checked: its error is the news."""
        timers = []

        async def block():
            async with assert_no_leaks(timeout=0.02):
                timers.append(asyncio.get_running_loop().call_later(60, print))
                raise LookupError

        with pytest.raises(LookupError):
            await block()
        timers[0].cancel()


class TestServerProcess:
    async def test_a_frozen_server_answers_nothing_until_it_is_thawed(self):
        """SIGSTOP leaves the connection open and dead; SIGCONT brings it back; SIGKILL ends it."""
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

    async def test_broadcast_numbers_its_channels_and_ends_on_interrupt(self):
        """The broadcast script numbers channels; SIGINT ends the process cleanly, with close code 1001."""
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

    async def test_a_process_that_cannot_start_says_why(self):
        """When no URL comes, the error carries what the process wrote; nothing is left behind."""
        async with assert_no_leaks(timeout=5):
            with pytest.raises(RuntimeError, match="expected silent, echo, broadcast or module:function"):
                async with serve_in_process("--script", "nonsense"):
                    pass

    async def test_a_process_is_killed_when_its_block_is_left(self):
        """Even a frozen one is gone when the block is left, and so are its pipes."""
        async with assert_no_leaks(timeout=5):
            async with serve_in_process() as server:
                server.stop()
            assert server.process.returncode == -signal.SIGKILL

    def test_main_runs_a_script_of_yours_and_ends_after_its_seconds(self, capsys):
        """``--script module:function`` is looked up, the URL printed, the time kept."""
        assert main(["--script", "rxws.testing.__main__:echo", "--seconds", "0.01"]) == 0
        assert capsys.readouterr().out.startswith("ws://127.0.0.1:")
        assert main(["--script", "broadcast", "--seconds", "0.01"]) == 0

    @pytest.mark.parametrize("name", ["no.such.module:f", "rxws.testing:no_such_function"])
    def test_main_names_a_script_that_is_not_there(self, name, capsys):
        """A script that cannot be imported is a usage error, with its name."""
        with pytest.raises(SystemExit):
            main(["--script", name])
        assert name in capsys.readouterr().err


class TestPlugin:
    @pytest.fixture(autouse=True)
    def importable(self, monkeypatch):
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))

    async def test_virtual_time_passes_at_once(self, virtual_time):
        """A fortnight's sleep takes no time, and neither does one of a nanosecond stop the clock."""
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
        """In a project of a user's, in strict mode and with warnings as errors, the three fixtures work together."""
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
    def test_plugin_stands_aside_where_its_extra_is_not_installed(self, pytester):
        """Without pytest-asyncio and async-solipsism a test run goes on as if the plugin were not there."""
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
    def test_fixtures_say_what_is_missing_where_their_extra_is_not_installed(self, pytester, package):
        """Without the extra, the fixtures are there, and fail their tests with the command that installs it."""
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
            [f"{name} needs {package}, which pip install 'rxws?testing?' brings" for name in names], consecutive=False
        )

    @pytest.mark.slow
    def test_plugin_loads_what_its_fixtures_need_when_they_are_asked_for(self, pytester):
        """The start of pytest, which imports every plugin, does not load the server."""
        code = "import rxws.pytest_plugin, sys; print(*sys.modules, sep='\\n')"
        loaded = pytester.run(sys.executable, "-c", code).outlines
        assert "rxws.pytest_plugin" in loaded
        assert not {"rxws.testing", "websockets.asyncio.server"} & set(loaded)

    @pytest.mark.slow
    def test_virtual_time_says_so_when_somebody_else_chose_the_loop(self, pytester):
        """A conftest with the hook of pytest-asyncio wins, and then the fixture fails with the reason."""
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
    def test_testing_needs_neither_pytest_nor_its_plugins(self, pytester):
        """``rxws.testing`` can be imported where pytest is not installed."""
        code = "import sys; sys.modules['pytest'] = sys.modules['async_solipsism'] = None; import rxws.testing"
        assert pytester.run(sys.executable, "-c", code).ret == 0
