"""The diagnosis of why a connection ended or could not be opened: real failures, and exceptions made by hand."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import types
from collections.abc import AsyncIterator

import aiohttp
import picows.websockets
import pytest
import trustme
import websockets
from hypothesis import given
from hypothesis import strategies as st
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus, InvalidURI
from websockets.frames import Close
from websockets.http11 import Response

from rxws.connections.failures import Failure, diagnose, is_fatal
from rxws.messages.filters import Filter
from rxws.testing import FeedServer

NOW = 1_700_000_000.0
LIBRARIES = {"websockets": websockets.connect, "picows": picows.websockets.connect}

both_libraries = pytest.mark.parametrize("connect", LIBRARIES.values(), ids=LIBRARIES)


# Real failures


@contextlib.asynccontextmanager
async def answering(answer: bytes | None, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Run a TCP server that reads a request and sends ``answer``, or aborts if it is None; yield the port."""

    async def answer_request(reader, writer):
        writers.append(writer)
        with contextlib.suppress(ConnectionError):
            await reader.read(4096)
            if answer is None:
                writer.transport.abort()
            else:
                writer.write(answer)
                await writer.drain()
            writer.close()

    writers = []
    server = await asyncio.start_server(answer_request, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]
        # Python 3.11's server does not wait for its connections.
        for writer in writers:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


async def failure_to_open(connect, url: str, **options) -> Failure:
    """Open a connection, which must fail, and return the failure."""
    try:
        async with asyncio.timeout(10):
            await connect(url, proxy=None, open_timeout=5, **options)
    except Exception as error:
        return diagnose(error, now=NOW)
    raise AssertionError(f"{url} was opened")


async def failure_to_stay(connect, script, **options) -> Failure:
    """Open a connection to a server with this script, read the connection to its end, and return the failure."""
    async with asyncio.timeout(10), FeedServer(script, close_timeout=0.2) as server:
        connection = await connect(f"{server.url}?token=5ecre7", proxy=None, close_timeout=0.2, **options)
        error = None
        try:
            async for _ in connection:
                pass
        except Exception as ended:
            error = ended
        failure = diagnose(error, connection, now=NOW)
        await connection.close()
    assert "5ecre7" not in failure.cause
    return failure


def sending(*message, **options):
    """Make a script that sends one message to a client that may close the connection meanwhile."""

    async def script(connection):
        await connection.websocket.send(*message, **options)

    return script


def is_fatal_at_first(failure: Failure) -> bool:
    """Return whether a failure is fatal before the first success; assert that it is not fatal afterwards."""
    assert not is_fatal(failure, succeeded=True, refusals=2)
    return is_fatal(failure, succeeded=False, refusals=1)


def tls_contexts(host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for ``host``, and a client's that trusts it."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


def free_port() -> int:
    """A port without a server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@both_libraries
async def test_tls_is_fatal_at_first_when_the_authority_is_unknown(connect):
    """A certificate of an unknown authority is a tls failure, and fatal before the first success."""
    server, _ = tls_contexts("127.0.0.1")
    async with answering(b"", server) as port:
        failure = await failure_to_open(connect, f"wss://127.0.0.1:{port}/")
    assert failure.reason == "tls"
    assert "unable to get local issuer certificate" in failure.cause
    assert is_fatal_at_first(failure)


@both_libraries
async def test_tls_is_fatal_at_first_when_the_host_is_wrong(connect):
    """A certificate for another host is a tls failure, and fatal before the first success."""
    server, client = tls_contexts("other.example")
    async with answering(b"", server) as port:
        failure = await failure_to_open(connect, f"wss://127.0.0.1:{port}/", ssl=client)
    assert failure.reason == "tls"
    assert "IP address mismatch" in failure.cause
    assert is_fatal_at_first(failure)


@both_libraries
async def test_tls_is_fatal_at_first_when_the_port_speaks_plain_text(connect):
    """Plain text where TLS is expected is a tls failure, and fatal before the first success."""
    async with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        failure = await failure_to_open(connect, f"wss://127.0.0.1:{port}/")
    assert failure.reason == "tls"
    assert is_fatal_at_first(failure)


async def test_a_tls_handshake_that_is_cut_is_retried():
    """A server that hangs up in the TLS handshake is a network failure."""
    # One library is enough: picows' transport logs the cut with a traceback that cannot be printed.
    async with answering(None) as port:
        failure = await failure_to_open(websockets.connect, f"wss://127.0.0.1:{port}/")
    assert failure.reason == "network"
    assert not is_fatal_at_first(failure)


@both_libraries
async def test_a_refused_port_is_retried(connect):
    """A refused connection is a network failure."""
    failure = await failure_to_open(connect, f"ws://127.0.0.1:{free_port()}/")
    assert failure.reason == "network"
    assert failure.cause.startswith("ConnectionRefusedError: ")
    assert not is_fatal_at_first(failure)


@both_libraries
async def test_a_name_that_is_not_found_is_retried(connect):
    """A host name that does not resolve is a network failure, because it may resolve later."""
    failure = await failure_to_open(connect, "ws://nowhere.invalid/")
    assert failure.reason == "network"
    assert failure.cause.startswith("gaierror: ")
    assert not is_fatal_at_first(failure)


@both_libraries
@pytest.mark.parametrize(
    ("status", "reason", "fatal"),
    [
        ("400 Bad Request", "handshake", True),
        ("401 Unauthorized", "auth", True),
        ("403 Forbidden", "auth", True),
        ("404 Not Found", "handshake", True),
        ("408 Request Timeout", "handshake", False),
        ("425 Too Early", "handshake", False),
        ("429 Too Many Requests", "handshake", False),
        ("500 Internal Server Error", "handshake", False),
        ("502 Bad Gateway", "handshake", False),
        ("503 Service Unavailable", "handshake", False),
        ("504 Gateway Timeout", "handshake", False),
        ("200 OK", "handshake", False),
    ],
)
async def test_a_handshake_is_refused_with_an_http_status(connect, status, reason, fatal):
    """Before the first success, HTTP 4xx is fatal, but not 408, 425, 429 or an answer with Retry-After."""
    answer = f"HTTP/1.1 {status}\r\n{{}}Content-Length: 0\r\n\r\n"
    async with answering(answer.format("").encode()) as port:
        untimed = await failure_to_open(connect, f"ws://127.0.0.1:{port}/?token=5ecre7")
    async with answering(answer.format("Retry-After: 7\r\n").encode()) as port:
        failure = await failure_to_open(connect, f"ws://127.0.0.1:{port}/?token=5ecre7")
    assert failure.reason == reason
    assert failure.status == int(status[:3])
    assert failure.retry_after == 7
    assert failure.cause == f"InvalidStatus: server rejected WebSocket connection: HTTP {status[:3]}"
    assert not is_fatal_at_first(failure)
    assert untimed.retry_after is None
    assert is_fatal_at_first(untimed) is fatal


@both_libraries
@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x00\xff" * 50,
        b"",
        None,
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 520 Web Server Returned an Unknown Error\r\n\r\n",
        b"HTTP/1.1 200 " + b"x" * 20_000,
    ],
    ids=["banner", "binary", "nothing", "abort", "no websocket", "520", "endless"],
)
async def test_junk_instead_of_a_handshake_is_retried(connect, answer):
    """An answer that is not a handshake is retried."""
    async with answering(answer) as port:
        failure = await failure_to_open(connect, f"ws://127.0.0.1:{port}/?token=5ecre7")
    assert failure.reason == "handshake"
    assert "5ecre7" not in failure.cause
    assert not is_fatal_at_first(failure)


@both_libraries
@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/?token=5ecre7",
        "ws:///?token=5ecre7",
        "127.0.0.1?token=5e cre7",
        "",
        "ws://127.0.0.1:99999/?token=5ecre7",
        "ws://[::1/?token=5ecre7",
        "ws://[5ecre7]/",
        "ws://me:pass5ecre7/word@127.0.0.1/",
        "ws://me:5ecre7@127.0.0.\u2100/",
        "ws://bücher..example/?token=5ecre7",
    ],
)
async def test_an_invalid_uri_is_fatal_at_first_when_it_is_opened(connect, url):
    """An invalid URI is fatal, even if the standard library rejects it, and the cause contains no secret."""
    failure = await failure_to_open(connect, url)
    assert failure.reason == "handshake"
    assert "cre7" not in failure.cause
    assert is_fatal_at_first(failure)


@both_libraries
async def test_a_mute_server_is_retried_when_the_handshake_times_out(connect):
    """A server that accepts the connection and never answers is a network failure."""

    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(TimeoutError) as caught:
        await connect(f"ws://127.0.0.1:{mute.getsockname()[1]}/", proxy=None, open_timeout=0.05)
    failure = diagnose(caught.value, now=NOW)
    assert failure.reason == "network"
    assert "handshake" in failure.cause
    assert not is_fatal_at_first(failure)


@both_libraries
@pytest.mark.parametrize(
    ("code", "reason", "name"),
    [
        (1000, "server", "OK"),
        (1001, "server", "going away"),
        (1008, "server", "policy violation"),
        (1011, "server", "internal error"),
        (1012, "server", "service restart"),
        (1013, "server", "try again later"),
        (3000, "auth", "registered"),
        (4000, "server", "private use"),
        (4403, "auth", "private use"),
    ],
)
async def test_the_server_closes_with_a_code(connect, code, reason, name):
    """The cause of a close by the server has its code and its reason; such a close is never fatal."""
    failure = await failure_to_stay(connect, lambda connection: connection.close(code, "bye token=5ecre7"))
    assert failure.reason == reason
    assert failure.code == code
    assert failure.cause == f"the server closed with {code} ({name}): bye token=***"
    # A normal close ends the iteration without an exception, but should_retry still gets one.
    assert isinstance(failure.error, ConnectionClosedOK) is (code in {1000, 1001})
    assert not is_fatal_at_first(failure)


@both_libraries
async def test_the_server_vanishes_without_a_close_frame(connect):
    """A connection that breaks off is a network failure without a code."""

    async def abort(connection):
        connection.websocket.transport.abort()

    failure = await failure_to_stay(connect, abort)
    assert (failure.reason, failure.code) == ("network", None)
    assert failure.cause.startswith("no close frame received or sent")
    assert not is_fatal_at_first(failure)


@both_libraries
async def test_the_limit_is_named_when_a_message_is_too_big(connect):
    """A message beyond max_size has the reason "server"; the cause names the limit."""
    failure = await failure_to_stay(connect, sending("x" * 2000), max_size=1000)
    assert (failure.reason, failure.code) == ("server", 1009)
    assert failure.cause.startswith("this side closed with 1009 (message too big): ")
    assert "1000" in failure.cause or connect is picows.websockets.connect
    assert 'raise the limit with connect_options={"max_size": ...}' in failure.cause


def test_the_limit_is_named_when_the_library_does_not():
    """The cause names the option ``max_size`` even if the library's text does not name the limit."""
    failure = diagnose(ConnectionClosedError(None, Close(1009, "message too big")), now=NOW)
    assert failure.cause == (
        "this side closed with 1009 (message too big): message too big "
        '(raise the limit with connect_options={"max_size": ...})'
    )


async def test_the_limit_is_named_when_a_message_has_too_many_fragments():
    """A message with more fragments than allowed has the reason "server"; the cause names the limit."""

    async def fragments():
        for _ in range(5000):
            yield "x"

    failure = await failure_to_stay(websockets.connect, sending(fragments()))
    assert (failure.reason, failure.code) == ("server", 1009)
    assert "limit of 4096 frames" in failure.cause


@both_libraries
async def test_the_cause_is_named_when_text_is_not_utf8(connect):
    """Invalid UTF-8 in a text frame has the reason "server", and the cause says that the text was invalid."""
    failure = await failure_to_stay(connect, sending(b"\xff", text=True))
    assert (failure.reason, failure.code) == ("server", 1007)
    assert "invalid start byte" in failure.cause


@both_libraries
async def test_a_missing_pong_is_a_network_failure(connect):
    """When keepalive closes a connection with 1011 because no pong arrived, that is a network failure."""

    async def answer_nothing(connection):
        connection.stall()

    failure = await failure_to_stay(connect, answer_nothing, ping_interval=0.05, ping_timeout=0.05)
    assert (failure.reason, failure.code) == ("network", 1011)
    assert "keepalive ping timeout" in failure.cause


@both_libraries
async def test_this_side_closes(connect):
    """A connection that the user's code closes has the reason "user"."""
    async with FeedServer() as server:
        connection = await connect(server.url, proxy=None)
        await connection.close(4001, "enough")
        with pytest.raises(Exception, match="4001") as caught:
            await connection.recv()
    failure = diagnose(caught.value, connection, now=NOW)
    assert (failure.reason, failure.code) == ("user", 4001)
    assert failure.cause == "this side closed with 4001 (private use): enough"


async def test_a_hook_that_asks_an_http_server_is_judged_like_a_handshake():
    """An HTTP error in the opening hook is retried, unless its status is a fatal 4xx without Retry-After."""

    async def request(port):
        try:
            async with aiohttp.ClientSession(raise_for_status=True) as session:
                await session.post(f"http://127.0.0.1:{port}/listenKey?signature=5ecre7")
        except aiohttp.ClientError as error:
            return diagnose(error, now=NOW)

    async with answering(b"") as port:
        dropped = await request(port)
    async with answering(b"HTTP/1.1 418 Teapot\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n") as port:
        banned = await request(port)
    refused = await request(free_port())
    assert dropped.cause == "ServerDisconnectedError: Server disconnected"
    assert [failure.reason for failure in (dropped, banned, refused)] == ["network", "handshake", "network"]
    assert [is_fatal_at_first(failure) for failure in (dropped, banned, refused)] == [False, False, False]
    assert (banned.status, banned.retry_after) == (418, 60)
    assert "5ecre7" not in banned.cause


# Failures made by hand


def refusal(status: int, **headers: str) -> InvalidStatus:
    """Return the error of a handshake that was refused with ``status``."""
    return InvalidStatus(Response(status, "", Headers({name.replace("_", "-"): v for name, v in headers.items()})))


@pytest.mark.parametrize(
    ("error", "reason", "fatal"),
    [
        (TypeError("x"), "handshake", True),
        (AttributeError("x"), "handshake", True),
        (UnboundLocalError("x"), "handshake", True),
        (NotImplementedError("x"), "handshake", True),
        (ssl.SSLCertVerificationError("x"), "tls", True),
        (InvalidURI("x", "y"), "handshake", True),
        (refusal(407), "auth", True),
        (ModuleNotFoundError("x"), "handshake", False),
        (ValueError("x"), "handshake", False),
        (KeyError("x"), "handshake", False),
        (RuntimeError("x"), "handshake", False),
        (asyncio.CancelledError(), "handshake", False),
        (ExceptionGroup("x", [TypeError("y")]), "handshake", False),
        (asyncio.IncompleteReadError(b"", 1), "network", False),
        (ssl.SSLEOFError("x"), "network", False),
        (ssl.SSLZeroReturnError("x"), "network", False),
        (ssl.SSLError("x"), "tls", False),
        (TimeoutError(), "network", False),
        (PermissionError("x"), "network", False),
    ],
    ids=repr,
)
def test_what_opening_raises_is_fatal_only_if_it_is_listed(error, reason, fatal):
    """Only programming errors, invalid URIs, unverified TLS and 4xx are fatal before the first success."""
    failure = diagnose(error, now=NOW)
    assert failure.reason == reason
    assert failure.error is error
    assert is_fatal_at_first(failure) is fatal


def test_empty_address_is_shown_unchanged():
    """An empty address contains no secret, so the error text stays as it is."""
    assert diagnose(InvalidURI("", "isn't one"), now=NOW).cause.count("isn't") >= 1


def test_a_connection_that_breaks_with_any_exception_is_a_network_failure():
    """An exception while reading is a network failure, unless it is a programming error."""
    failure = diagnose(RuntimeError("torn"), object(), now=NOW)
    assert (failure.reason, failure.cause) == ("network", "RuntimeError: torn")


def raised(kind):
    """Return an exception that code of rxws raises while it reads a connection."""

    def broken(_message):
        raise kind("broken")

    try:
        Filter.parse(broken)({})
    except kind as error:
        return error


@pytest.mark.parametrize("kind", [RuntimeError, KeyError, OSError, AssertionError, ConnectionResetError])
def test_an_exception_that_passed_through_rxws_is_an_internal_failure(kind):
    """An exception of any type that code of rxws raised, or let pass, is an internal failure."""
    error, closed = raised(kind), ConnectionClosedError(None, None)
    closed.__cause__ = error
    assert [diagnose(each, object(), now=NOW).reason for each in (error, closed)] == ["internal", "internal"]
    assert diagnose(kind("broken"), object(), now=NOW).reason == "network"


@pytest.mark.parametrize("module", ["rxws.messages.reader", "rxws.messages.frames", "rxws.testing.connection", "other"])
def test_an_exception_of_the_library_is_a_network_failure(module):
    """An exception that the library raised and that only passed through the reader is a network failure."""
    with pytest.raises(RuntimeError) as caught:
        exec("raise RuntimeError('torn')", {"__name__": module})
    assert diagnose(caught.value, object(), now=NOW).reason == "network"


@pytest.mark.parametrize("kind", [TypeError, AttributeError, UnboundLocalError, NotImplementedError])
def test_a_programming_error_while_reading_is_an_internal_failure(kind):
    """A programming error has the reason "internal", even if the library closed the connection because of it."""
    error = kind("'X' object has no attribute 'paused'")
    closed = ConnectionClosedError(None, None)
    closed.__cause__ = error
    for each in (error, closed):
        failure = diagnose(each, object(), now=NOW)
        assert (failure.reason, failure.error) == ("internal", each)
        assert "has no attribute 'paused'" in failure.cause
        assert not is_fatal(failure, succeeded=True, refusals=0)


def test_a_failure_without_an_exception_is_never_fatal():
    """A failure without an exception, such as an idle connection, is never fatal."""
    assert not is_fatal(Failure("idle", "no message for 60 s"), succeeded=False, refusals=0)


def test_a_silent_end_is_a_close_by_the_server_when_the_connection_has_no_code():
    """An iteration that ends without an exception is a normal close, even if the connection has no close code."""
    for connection in (None, types.SimpleNamespace(close_code=0, close_reason=None)):
        failure = diagnose(None, connection, now=NOW)
        assert (failure.reason, failure.code) == ("server", 1005)
        assert failure.cause == "the server closed with 1005 (no status received [internal])"
        assert isinstance(failure.error, ConnectionClosedOK)


def test_the_first_close_frame_counts_when_both_sides_closed():
    """The side that closed first decides the reason."""
    received, sent = Close(1001, "theirs"), Close(1000, "ours")
    theirs = diagnose(ConnectionClosedOK(received, sent, True), now=NOW)
    ours = diagnose(ConnectionClosedOK(received, sent, False), now=NOW)
    assert (theirs.reason, theirs.code, ours.reason, ours.code) == ("server", 1001, "user", 1000)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120),
        (" 1.5 ", 1.5),
        ("0", 0),
        ("-5", 0),
        ("9" * 400, 86400),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60),
        ("Tuesday, 14-Nov-23 22:14:20 GMT", 60),
        ("Tue Nov 14 22:14:20 2023", 60),
        ("Tue, 14 Nov 2023 22:12:20 GMT", 0),
        ("Fri, 14 Nov 2053 22:14:20 GMT", 86400),
        ("Tue, 99 Foo 2023 99:99:99 GMT", None),
        ("Tue, 14 Nov 99999999999 22:14:20 GMT", None),
        ("soon", None),
        ("1e3", None),
        ("nan", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value, seconds):
    """Retry-After may be a number or one of HTTP's three date formats, and is limited to 0 s to one day."""
    assert diagnose(refusal(503, Retry_After=value), now=NOW).retry_after == seconds


@given(st.text(max_size=40) | st.from_regex(r"[A-Z][a-z]{2}, [0-9]+ [A-Z][a-z]{2} [0-9]+ [0-9:]+ [A-Z+0-9]*"))
def test_retry_after_is_bounded_for_any_text(value):
    """For every text of the header the diagnosis works, and the wait is at most a day."""
    headers = types.SimpleNamespace(get={"Retry-After": value}.get)
    error = aiohttp.ClientError()
    error.response = types.SimpleNamespace(status=503, headers=headers)
    seconds = diagnose(error, now=NOW).retry_after
    assert seconds is None or 0 <= seconds <= 86400


def test_retry_after_is_ignored_when_it_is_repeated_or_absent():
    """Retry-After is ignored if the header is sent twice or the response has no headers."""
    twice = refusal(503)
    twice.response.headers["Retry-After"] = "1"
    twice.response.headers["Retry-After"] = "2"
    bare = aiohttp.ClientResponseError(None, (), status=503)
    for error in (twice, bare, refusal(503)):
        assert diagnose(error, now=NOW).retry_after is None


def test_the_cause_is_one_short_line_without_secrets_for_any_exception():
    """The texts of an exception, of its cause and of the server are redacted and shortened."""
    error = RuntimeError("cannot open wss://me:5ecre7@h/?token=5ecre7 at all\n\x1b[2J")
    error.__cause__ = ValueError("Authorization: Bearer 5ecre7")
    assert diagnose(error, now=NOW).cause == (
        r"RuntimeError: cannot open wss://***@h/?token=*** at all\n\x1b[2J: Authorization: ***"
    )
    token = "".join(random.choices("0123456789abcdef", k=64))
    # The text is redacted before it is cut, wherever the cut is.
    for length in range(1100, 1250):
        assert token[:8] not in diagnose(RuntimeError("x" * length + " " + token), now=NOW).cause
    long = diagnose(RuntimeError("word " * 10_000), now=NOW).cause
    assert len(long) == 300
    assert long.endswith("…")


def test_the_cause_is_the_name_of_the_exception_when_it_has_no_text():
    """If an exception has no text, or its ``__str__`` raises, the name of its class is shown."""

    class BrokenError(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert diagnose(AssertionError(), now=NOW).cause == "AssertionError"
    assert diagnose(TimeoutError(), now=NOW).cause == "TimeoutError: timed out"
    assert diagnose(BrokenError(), now=NOW).cause == "BrokenError: its text could not be read (ValueError)"


def test_three_refusals_in_a_row_are_fatal_even_after_a_success():
    """After a success the third 401 or 403 in a row is fatal; the second is not."""
    failure = diagnose(refusal(401), now=NOW)
    assert [is_fatal(failure, succeeded=True, refusals=count) for count in (1, 2, 3, 4)] == [False, False, True, True]
