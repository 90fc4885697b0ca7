"""``connect``: its options, the errors of an opening, and what a cancelled opening leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import sys

import pytest
import trustme
import websockets
from websockets.exceptions import (
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
    NegotiationError,
    ProxyError,
    SecurityError,
)

import rxws
import rxws.picows
from rxws.testing import FeedServer, HttpResponse
from tests.picows.rig import BOTH

pytestmark = pytest.mark.usefixtures("assert_no_leaks")

each_library = pytest.mark.parametrize("connect", BOTH.values(), ids=BOTH)


async def opened(url, **options):
    """Open a connection without keepalive and proxy."""
    return await rxws.picows.connect(url, **({"ping_interval": None, "proxy": None} | options))


async def raw_server(answer):
    """Start a TCP server that reads a request and calls ``answer`` with it and the writer."""

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await reader.readuntil(b"\r\n\r\n")
            await answer(request.decode(), writer)
            await reader.read()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


def url_of(server, path="/"):
    """Return the URL of a TCP server."""
    return f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}{path}"


async def test_connect_works_as_that_of_websockets_when_it_is_used_without_a_feed():
    """``await``, ``async with`` and ``async for`` work, and the connection is one of websockets."""
    async with FeedServer() as server:
        async with rxws.picows.connect(server.url, proxy=None) as websocket:
            assert isinstance(websocket, websockets.ClientConnection)
            assert isinstance(websocket, rxws.picows.Connection)
            await server.connected()
            await server.send("1")
            assert await websocket.recv() == "1"
            assert websocket.remote_address[1] == server.port
        async for websocket in rxws.picows.connect(server.url, proxy=None):
            await server.connected(2)
            await server.send("2")
            assert await anext(aiter(websocket)) == "2"
            break
        await websocket.close()


async def test_request_has_the_same_headers_as_that_of_websockets_when_options_are_given():
    """The headers of the request, with credentials, origin and subprotocols, equal those of websockets."""
    seen = []
    async with FeedServer(
        admit=lambda handshake: seen.append(handshake.headers), allow_origins=["*"], subprotocols=["one", "two"]
    ) as server:
        for connect in BOTH.values():
            url = server.url.replace("ws://", "ws://user:secret@") + "path?token=1"
            websocket = await connect(
                url,
                origin="http://example.com",
                subprotocols=["two", "three"],
                additional_headers={"X-Key": "k"},
                user_agent_header="tests",
                proxy=None,
            )
            assert websocket.subprotocol == "two"
            assert websocket.response.status_code == 101
            assert websocket.request.path == "/path?token=1"
            await websocket.close()
    theirs, ours = ({name.lower(): value for name, value in headers.raw_items()} for headers in seen)
    for headers in (theirs, ours):
        assert len(headers.pop("sec-websocket-key")) == 24
    assert ours == theirs


@each_library
@pytest.mark.parametrize("status", [401, 404, 503])
async def test_error_has_the_response_when_the_handshake_is_refused(connect, status):
    """A refused handshake raises the exception of websockets, with the status, the headers and the body."""
    refusal = HttpResponse("why", status, {"Retry-After": "7"})
    async with FeedServer(admit=lambda _handshake: refusal) as server:
        with pytest.raises(InvalidStatus) as caught:
            await connect(server.url, proxy=None)
        response = caught.value.response
        assert (response.status_code, response.headers["Retry-After"]) == (status, "7")
        await server.disconnected()


ACCEPT = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("", InvalidMessage),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", InvalidMessage),
        (f"{ACCEPT}Sec-WebSocket-Accept: wrong\r\n\r\n", InvalidHandshake),
        (ACCEPT.replace("Upgrade: websocket\r\n", "") + "\r\n", InvalidHandshake),
        ("HTTP/1.1 101 x\r\nX: " + "y" * 20_000 + "\r\n\r\n", InvalidHandshake),
    ],
    ids=["nothing", "another protocol", "a wrong key", "no upgrade", "a header that is too long"],
)
async def test_error_is_that_of_websockets_when_the_answer_is_no_handshake(answer, kind):
    """An answer that is no handshake raises an exception of websockets, and leaves no socket open."""

    async def send(_request, writer):
        writer.write(answer.encode())
        await writer.drain()
        writer.close()

    server = await raw_server(send)
    async with server:
        with pytest.raises(kind):
            await opened(url_of(server))


@pytest.mark.parametrize("header", ["Sec-WebSocket-Extensions: x-new", "Sec-WebSocket-Protocol: other"])
async def test_error_is_raised_when_the_server_chooses_what_was_not_offered(header):
    """An extension or a subprotocol that the client has not offered ends the handshake."""

    async def send(request, writer):
        key = next(line.partition(": ")[2] for line in request.splitlines() if "Sec-WebSocket-Key" in line)
        accept = websockets.utils.accept_key(key)
        writer.write(f"{ACCEPT}Sec-WebSocket-Accept: {accept}\r\n{header}\r\n\r\n".encode())

    server = await raw_server(send)
    async with server:
        with pytest.raises(NegotiationError):
            await opened(url_of(server))


async def test_redirect_is_followed_when_the_server_redirects():
    """A redirect to another origin is followed without the credentials, and too many are refused."""
    seen = []
    async with FeedServer(admit=lambda handshake: seen.append(handshake.headers)) as server:

        def redirect(_handshake):
            return HttpResponse("", 302, {"Location": server.url})

        async with FeedServer(admit=redirect) as first:
            websocket = await opened(first.url, additional_headers={"Authorization": "secret", "X-Key": "k"})
            await websocket.close()
        server.admit = redirect
        with pytest.raises(SecurityError, match="redirects"):
            await opened(server.url)
    assert ("Authorization" in seen[0], seen[0]["X-Key"]) == (False, "k")


def contexts():
    """Return TLS contexts of a server and of a client that trusts it."""
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return server, client


async def test_messages_are_pushed_when_the_connection_is_encrypted():
    """``wss://`` works with a context, and a certificate that is not trusted raises ssl.SSLError."""
    server_context, client_context = contexts()
    async with FeedServer(ssl=server_context) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        with pytest.raises(ssl.SSLCertVerificationError):
            await opened(url)
        websocket = await opened(url, ssl=client_context, server_hostname="localhost")
        await server.connected()
        taken = []
        websocket.push_frames(taken.append)
        await server.send("1", b"2")
        await server.close()
        with pytest.raises(websockets.ConnectionClosedOK):
            await websocket.recv()
        assert taken == ["1", b"2"]


async def test_given_socket_is_used_when_it_is_an_option():
    """``sock`` and ``host`` override the address of the URL."""
    async with FeedServer() as server:
        given = socket.create_connection((server.host, server.port))
        for options in ({"sock": given}, {"host": server.host, "port": server.port}):
            websocket = await opened("ws://127.0.0.1:9/", **options)
            assert websocket.remote_address[1] == server.port
            await websocket.close()


@pytest.mark.parametrize(
    ("url", "options", "error"),
    [
        ("http://localhost", {}, InvalidURI),
        ("ws://localhost", {"ssl": True}, ValueError),
        ("wss://localhost", {"ssl": None}, ValueError),
        ("ws://localhost", {"unix": True, "path": "x"}, TypeError),
        ("ws://localhost", {"create_connection": websockets.ClientConnection}, TypeError),
        ("ws://localhost", {"compression": "zstd"}, ValueError),
    ],
)
async def test_error_is_clear_when_an_argument_is_wrong(url, options, error):
    """A wrong argument raises one error before a connection is opened."""
    with pytest.raises(error):
        await opened(url, **options)


@pytest.mark.parametrize("step", range(12))
async def test_nothing_is_left_when_an_opening_is_cancelled(step):
    """An opening that is cancelled at any moment leaves neither a socket nor a task, though the server is silent."""
    connected, ended = asyncio.Event(), asyncio.Event()

    async def hang(reader, writer):
        connected.set()
        with contextlib.suppress(ConnectionError):
            await reader.read(-1)
        ended.set()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server:
        opening = asyncio.create_task(opened(url_of(server)))
        for _ in range(step):
            await asyncio.sleep(0)
        if step == 11:
            await asyncio.sleep(0.05)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        # The server may not have accepted the connection yet.
        await asyncio.sleep(0.02)
        if connected.is_set():
            await asyncio.wait_for(ended.wait(), 2)


async def test_opening_times_out_when_the_server_is_silent():
    """``open_timeout`` limits the opening, and its end leaves no socket open."""

    async def hang(_request, _writer):
        """Answer nothing."""

    server = await raw_server(hang)
    async with server:
        with pytest.raises(TimeoutError, match="handshake"):
            await opened(url_of(server), open_timeout=0.1)


async def proxy(target):
    """Start an HTTP proxy that connects to a port, or (None) refuses."""

    async def copy(reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(2**16):
                writer.write(data)
        writer.close()

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        if target is None:
            writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
            writer.close()
            return
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))

    return await asyncio.start_server(serve, "127.0.0.1", 0)


async def test_proxy_is_used_when_one_is_given():
    """A connection goes through an HTTP proxy; a refusal of the proxy is an error of websockets."""
    async with FeedServer() as server, await proxy(server.port) as through:
        websocket = await opened("ws://127.0.0.1:9/", proxy=url_of(through, "").replace("ws:", "http:"))
        connection = await server.connected()
        await websocket.send("hello")
        assert await connection.expect() == "hello"
        await websocket.close()
    async with await proxy(None) as through:
        with pytest.raises(ProxyError, match="403"):
            await opened("ws://127.0.0.1:9/", proxy=url_of(through, "").replace("ws:", "http:"))


async def test_log_has_no_secret_when_a_feed_logs_everything(caplog):
    """At DEBUG neither the log of picows nor that of websockets shows a token, a header or a login message."""
    caplog.set_level(1)
    async with (
        FeedServer() as server,
        rxws.ReactiveWebSocket(
            f"{server.url}?token=s3cr3t1",
            connect=rxws.picows.connect,
            connect_options={"proxy": None, "additional_headers": {"X-Api-Key": "s3cr3t2"}},
            on_open=[{"op": "login", "password": "s3cr3t3"}],
        ),
    ):
        await (await server.connected()).expect()
        await server.send({"key": 1})
    shown = "\n".join(record.getMessage() for record in caplog.records if record.name != "websockets.server")
    assert "websockets.client" in {record.name.removesuffix(".rxws") for record in caplog.records}
    assert "s3cr3t" not in shown
    levels = {record.levelno for record in caplog.records if record.name.startswith("websockets.client")}
    assert max(levels) <= logging.INFO


def test_error_names_the_extra_when_picows_is_missing(monkeypatch):
    """Without picows, ``rxws.picows`` raises an ImportError that names the extra."""
    for name in [name for name in sys.modules if name.startswith("rxws.picows")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "picows", None)
    with pytest.raises(ImportError, match=r'pip install "rxws\[picows\]"'):
        __import__("rxws.picows")
