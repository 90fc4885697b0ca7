"""Plain HTTP for tests of feeds: endpoints beside the websocket, and a GET to fetch from them."""

from __future__ import annotations

import asyncio
import http
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import msgspec
from websockets.datastructures import Headers
from websockets.http11 import Response

from ..errors import RxwsError
from ..reporting import quoted

__all__ = ["HttpError", "HttpHandler", "HttpRequest", "HttpResponse", "get_json"]


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request to an endpoint of a :class:`~rxws.testing.FeedServer`.

    Attributes:
        method: ``"GET"``, ``"POST"`` … A request with a body is refused, because the server's parser reads none.
        path: the path without the query.
        query: the parameters of the query. If a parameter is repeated, its last value counts.
        headers: the headers; names are case-insensitive.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Headers


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP answer to a request, or to a refused websocket handshake.

    Attributes:
        body: ``str`` and ``bytes`` are sent unchanged, anything else as JSON.
        status: the HTTP status.
        headers: headers to send in addition to Content-Type, Content-Length and Connection.
    """

    body: Any = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    def to_websockets(self) -> Response:
        """Return the answer in the form that ``process_request`` of a websockets server returns."""
        if isinstance(self.body, str | bytes):
            content_type = "text/plain; charset=utf-8"
            body = self.body.encode() if isinstance(self.body, str) else self.body
        else:
            content_type, body = "application/json", msgspec.json.encode(self.body)
        headers = Headers(self.headers)
        for name, value in (
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ):
            headers.setdefault(name, value)
        try:
            phrase = http.HTTPStatus(self.status).phrase
        except ValueError:  # http.HTTPStatus lacks unregistered codes such as 520.
            phrase = "Unknown"
        return Response(self.status, phrase, headers, body)


HttpHandler = Callable[[HttpRequest], Any | Awaitable[Any]]
"""An endpoint: a function or coroutine function of the request that returns the JSON to send, or an HttpResponse."""


class HttpError(RxwsError, OSError):
    """The server answered an HTTP request with a status other than 2xx.

    Its text quotes the beginning of the body as one line, without secrets.

    Attributes:
        status: the HTTP status.
        body: the answer's body.
    """

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body

    def __str__(self) -> str:
        words = quoted(self.body)
        return f"HTTP {self.status}: {words}" if words else f"HTTP {self.status}"


async def get_json(url: str, *, timeout: float = 5.0) -> Any:
    """GET a JSON document from a plain ``http://`` URL; meant for examples and tests, not as an HTTP client.

    It connects with the event loop, so it also works in virtual time. Cancelling it closes the connection.

    Args:
        url: a URL that starts with ``http://``.
        timeout: seconds for request and answer together.

    Raises:
        HttpError: the status is not 2xx.
        TimeoutError: it took longer than ``timeout``.
        OSError: there is no connection.
        ValueError: the URL does not start with ``http://``, the answer is not HTTP, or its body is not JSON.

    Example::

        async with rxws.demo.serve() as exchange:
            key = (await get_json(f"{exchange.http_url}/listenKey"))["listenKey"]
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None:
        raise ValueError(f"url: expected http://host:port/path, got the scheme {parts.scheme!r}")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
        try:
            writer.write(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
            answer = await reader.read()
        finally:
            # The answer is complete. Abort, because a close could wait for a stalled peer.
            writer.transport.abort()
    head, separator, body = answer.partition(b"\r\n\r\n")
    words = head.split(None, 2)
    if not separator or not head.startswith(b"HTTP/1.") or not words[1].isdigit():
        raise ValueError("the answer is not HTTP")
    status = int(words[1])
    if not 200 <= status < 300:
        raise HttpError(status, body)
    return msgspec.json.decode(body)
