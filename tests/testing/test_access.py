"""Servers refuse web pages: requests with an ``Origin``, and requests with a foreign ``Host``."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit

import picows.websockets
import pytest
import websockets
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus

from rxws import demo
from rxws.demo.__main__ import main as demo_main
from rxws.testing import FeedServer, serve_in_process
from rxws.testing.__main__ import main as serve_main
from rxws.testing.access import Access

EVIL = "https://evil.example"


async def answer(url: str, *, host: str | None = None, origin: str | None = None) -> str:
    """GET a URL with these headers and return the whole answer."""
    parts = urlsplit(url)
    lines = [f"GET {parts.path or '/'} HTTP/1.1", f"Host: {parts.netloc if host is None else host}"]
    lines += [] if origin is None else [f"Origin: {origin}"]
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            writer.write("".join(f"{line}\r\n" for line in (*lines, "")).encode())
            return (await reader.read()).decode()
        finally:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def connected(url: str, *, name: str | None = None, origin: str | None = None):
    """Connect as a web page of this origin that reaches the server by this host name."""
    parts = urlsplit(url)
    seen = url if name is None else f"ws://{name}:{parts.port}{parts.path}"
    options = {"proxy": None, "open_timeout": 5, "host": parts.hostname, "port": parts.port}
    async with websockets.connect(seen, origin=origin, **options) as client:
        yield client


async def refusal(url: str, **options: str) -> str:
    """Return the text with which a handshake is refused with 403."""
    with pytest.raises(InvalidStatus) as caught:
        async with connected(url, **options):
            pass
    assert caught.value.response.status_code == 403
    return caught.value.response.body.decode()


@pytest.mark.usefixtures("virtual_time")
async def test_handshake_is_refused_when_a_web_page_opens_it():
    """A handshake with an ``Origin`` gets 403 and the name of the option. It is recorded, but takes no queued fault."""
    async with FeedServer() as server:
        server.refuse(429)
        text = await refusal(server.url, origin=EVIL)
        assert text == f"Origin '{EVIL}' is not accepted; --allow-origin (in Python: allow_origins) accepts it\n"
        assert (len(server.handshakes), server.opened) == (1, 0)
        with pytest.raises(InvalidStatus, match="429"):
            await websockets.connect(server.url, proxy=None)


async def test_handshake_is_refused_when_its_host_is_foreign():
    """A handshake to a name that resolves to this machine by DNS rebinding gets 403 and the name of the option."""
    async with FeedServer() as server:
        text = await refusal(server.url, name="evil.example")
        assert text == (
            f"Host 'evil.example:{server.port}' is not accepted; --allow-host (in Python: allow_hosts) accepts it\n"
        )
        async with connected(server.url, name="localhost"):
            await server.connected()


async def test_endpoint_is_not_called_when_a_web_page_asks_for_it():
    """Requests of web pages get 403 on every path, and no endpoint is called."""
    called = []
    async with FeedServer(http={"/key": called.append}) as server:
        for path in ("/key", "/nothing"):
            assert "403 Forbidden" in await answer(server.http_url + path, origin=EVIL)
            assert "--allow-host" in await answer(server.http_url + path, host="evil.example")
        assert called == []
        assert "200 OK" in await answer(f"{server.http_url}/key")
        assert len(called) == 1


async def test_web_page_is_served_when_it_is_allowed():
    """Allowed origins and host names can use the feed and read the endpoints; others are still refused."""
    good = "http://pages.example:8888"
    async with FeedServer(
        http={"/key": lambda request: 1}, allow_origins=[good], allow_hosts=["feeds.example"]
    ) as server:
        async with connected(server.url, name="feeds.example", origin=good):
            await server.connected()
        read = await answer(f"{server.http_url}/key", host="feeds.example", origin=good)
        assert "200 OK" in read
        assert f"Access-Control-Allow-Origin: {good}\r\n" in read
        assert "Access-Control" not in await answer(f"{server.http_url}/key")
        assert "--allow-origin" in await refusal(server.url, origin=EVIL)
        assert "--allow-host" in await refusal(server.url, name="evil.example", origin=good)


async def test_demo_exchange_refuses_web_pages():
    """``rxws.demo.serve()`` refuses web pages on the feed and on the endpoints unless arguments allow them."""
    async with demo.serve(rate=0) as exchange:
        assert "--allow-origin" in await refusal(exchange, origin=EVIL)
        assert "--allow-host" in await answer(f"{exchange.http_url}/listenKey", host="evil.example")
    async with (
        demo.serve(rate=0, allow_origins=[EVIL], allow_hosts=["feeds.example"]) as exchange,
        connected(exchange.url, name="feeds.example", origin=EVIL),
    ):
        await exchange.server.connected()


@pytest.mark.slow
@pytest.mark.parametrize("module", ["rxws.demo", "rxws.testing"])
async def test_process_refuses_web_pages_unless_options_allow_them(module):
    """The servers of the command line have the options that their refusals name."""
    arguments = ("--allow-origin", "http://a", "--allow-origin", "http://b", "--allow-host", "feeds.example")
    async with serve_in_process(*arguments, module=module) as process:
        async with connected(process.url, name="feeds.example", origin="http://b"):
            pass
        assert "--allow-origin" in await refusal(process.url, origin=EVIL)


@pytest.mark.parametrize("main", [demo_main, serve_main])
def test_help_names_the_options(main, capsys):
    """``--help`` of the servers shows the options for web pages."""
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert "--allow-origin URL" in out
    assert "--allow-host NAME" in out


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ([], None),
        ([("Host", "127.0.0.1:80")], None),
        ([("Host", "127.9.9.9")], None),
        ([("Host", "[::1]:80")], None),
        ([("Host", "LocalHost.:80")], None),
        ([("Host", "feed.localhost")], None),
        ([("Host", "192.0.2.7:80")], None),
        ([("Host", "[2001:db8::1]:80")], None),
        ([("Host", "names.example:1")], None),
        ([("Host", "me:hunter2@127.0.0.1:80")], None),
        ([("Host", "192.0.2.8")], "Host"),
        ([("Host", "localhost.evil.example")], "Host"),
        ([("Host", "127.0.0.1.evil.example")], "Host"),
        ([("Host", "[::1].evil.example")], "Host"),
        ([("Host", "notlocalhost")], "Host"),
        ([("Host", "127.0.0.1@evil.example")], "Host"),
        ([("Host", "")], "Host"),
        ([("Host", "127.0.0.1"), ("Host", "evil.example")], "Host"),
        ([("Origin", "https://pages.example"), ("Host", "127.0.0.1")], None),
        ([("Origin", "HTTPS://Pages.example")], None),
        ([("Origin", "http://pages.example")], "Origin"),
        ([("Origin", "https://pages.example:444")], "Origin"),
        ([("Origin", "http://127.0.0.1:80"), ("Host", "127.0.0.1:80")], "Origin"),
        ([("Origin", "null")], "Origin"),
        ([("Origin", "")], "Origin"),
        ([("Origin", "https://pages.example"), ("Origin", EVIL)], "Origin"),
    ],
)
def test_request_is_refused_when_its_host_or_origin_is_foreign(headers, refused):
    """Only loopback, the addresses of the server, and allowed values are accepted."""
    access = Access(["https://pages.example/"], ["Names.example:8080"])
    text = access.refusal(Headers(headers), "192.0.2.7", "2001:db8::1")
    assert text is None if refused is None else text.startswith(f"{refused} '")


def test_refusal_shows_no_password_when_the_host_contains_one():
    """The user and the password that some libraries send in ``Host`` are not quoted."""
    assert "hunter2" not in Access().refusal(Headers({"Host": "me:hunter2@evil.example"}))


@pytest.mark.parametrize("connect", [websockets.connect, picows.websockets.connect])
async def test_client_is_accepted_when_its_url_contains_a_password(connect):
    """Clients of both libraries are accepted when the URL contains a user and a password."""
    async with FeedServer() as server, connect(server.url.replace("://", "://me:hunter2@")):
        await server.connected()


def test_every_request_is_accepted_when_all_are_allowed():
    """``*`` accepts every origin, and every host."""
    assert Access(["*"], ["*"]).refusal(Headers({"Origin": EVIL, "Host": "evil.example"})) is None
    assert Access(["*"]).refusal(Headers({"Origin": EVIL, "Host": "evil.example"})).startswith("Host")


def test_refusal_is_one_short_line_when_the_header_is_long():
    """A refusal quotes at most 200 characters of a header, and no control characters."""
    text = Access().refusal(Headers({"Origin": "\x85" + "x" * 5_000}))
    assert text[:-1].isprintable()
    assert len(text) < 300


@pytest.mark.parametrize("name", ["allow_origins", "allow_hosts"])
def test_str_is_rejected_where_a_collection_is_expected(name):
    """One str in place of a collection raises TypeError, because each of its characters would be allowed."""
    with pytest.raises(TypeError, match=f"{name}: expected a collection of str"):
        FeedServer(**{name: "http://localhost"})
