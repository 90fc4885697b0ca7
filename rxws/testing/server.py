"""FeedServer: a scripted websocket server on loopback, which can also misbehave."""

from __future__ import annotations

import asyncio
import inspect
import ssl
import weakref
from collections.abc import Awaitable, Callable, Collection, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from .access import Access
from .clients import Clients, Handshake
from .connection import FeedConnection
from .faults import HandshakeFaults
from .http import HttpHandler, HttpRequest, HttpResponse

__all__ = ["FeedServer", "Script"]

Script = Callable[[FeedConnection], Awaitable[None]]
"""Called with each new connection. The connection stays open when the script returns."""


class FeedServer(Clients, HandshakeFaults):
    """A scripted websocket server on loopback, to test feeds with; it runs while its block runs.

    It sends nothing by itself and records the clients' messages. A script or the methods of a :class:`FeedConnection`
    control one connection; the server's methods of the same names act on all live connections. :meth:`refuse`,
    :meth:`slow_handshake`, :meth:`mute` and :meth:`garbage` act on the next handshakes. Every wait is bounded by a
    ``timeout`` in seconds. It also runs on async-solipsism's event loop, in memory and in virtual time.

    Args:
        script: coroutine function that is called with each new connection, and cancelled when the connection ends. An
            exception in it (except ``ConnectionClosed``), in an endpoint or in ``admit`` is raised at the end of the
            block. None: no script.
        http: endpoints for plain HTTP on the same port, by path: functions or coroutine functions of an
            :class:`HttpRequest` that return the JSON to send, or an :class:`HttpResponse`.
        admit: function of a :class:`Handshake` that returns an :class:`HttpResponse` to refuse it, or None to accept.
        host: the address to listen on.
        port: the port; 0 takes a free one, which stays the same after :meth:`stop` and :meth:`start`.
        path: the path in :attr:`url`; every path is served.
        ssl: a context to serve ``wss://``; None serves ``ws://``.
        allow_origins: values of the header ``Origin`` that are accepted, ``["http://localhost:8888"]`` for example;
            ``["*"]`` accepts all. By default a request with an ``Origin`` is refused with 403, because web pages send
            one, and any web page could use the server.
        allow_hosts: names that the header ``Host`` may contain, in addition to ``localhost``, the addresses of loopback
            and the address that the server listens on; ``["*"]`` accepts all. Other names are refused with 403, because
            a web page can let its own name resolve to this machine (DNS rebinding).
        options: more options for ``websockets.asyncio.server.serve``. By default there are no pings, no compression and
            no limits on time, queue or size, so that nothing happens that the test did not ask for.

    Example::

        async with FeedServer() as server, ReactiveWebSocket(server.url) as feed:
            await server.connected()
            await server.send({"e": "trade", "n": 1})
            await server.close(1012)
            await server.connected(2)
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        http: Mapping[str, HttpHandler] | None = None,
        admit: Callable[[Handshake], HttpResponse | None] | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        path: str = "/",
        ssl: ssl.SSLContext | None = None,
        allow_origins: Collection[str] = (),
        allow_hosts: Collection[str] = (),
        **options: Any,
    ) -> None:
        super().__init__()
        # A test may change the following three attributes while the server runs: each new connection reads them.
        self.script = script
        self.http = dict(http or {})
        self.admit = admit
        self.host = host
        self.port = port
        self.path = path
        self._access = Access(allow_origins, allow_hosts)
        self._options: dict[str, Any] = {
            "ssl": ssl,
            "compression": None,
            "open_timeout": None,
            "ping_interval": None,
            # Only stall() may pause reading.
            "max_queue": None,
            "max_size": None,
        } | options
        self._secure = ssl is not None
        self._server: Server | None = None
        self._accepted: weakref.WeakSet[ServerConnection] = weakref.WeakSet()
        self._scripts: set[asyncio.Task[None]] = set()
        self._errors: list[Exception] = []

    def __repr__(self) -> str:
        return f"<FeedServer {self.url} {'up' if self._server else 'down'}>"

    # Addresses

    @property
    def url(self) -> str:
        """The URL of the server, ``ws://127.0.0.1:port/path``. The port is known once the server runs."""
        return f"{'wss' if self._secure else 'ws'}://{self.host}:{self.port}{self.path}"

    @property
    def http_url(self) -> str:
        """The same origin for plain HTTP, as ``http://127.0.0.1:port``."""
        return f"{'https' if self._secure else 'http'}://{self.host}:{self.port}"

    # Starting and stopping

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()
        if self._errors and error is not None:
            error.add_note(f"in the server: {self._errors!r}")
        elif self._errors:
            raise ExceptionGroup("in the server", self._errors)

    async def start(self) -> None:
        """Listen; entering the block does this. After :meth:`stop` it listens on the same port again.

        Cancelling is safe.

        Raises:
            OSError: the port is taken.
            RuntimeError: the server is already running.
        """
        if self._server is not None:
            raise RuntimeError("the server is already running")
        # Listen in a separate task, because asyncio leaves the socket open if it is cancelled while it opens it.
        listening = asyncio.create_task(self._listen())
        try:
            await asyncio.shield(listening)
        except asyncio.CancelledError:
            await asyncio.wait({listening})
            await self.stop()
            raise

    async def stop(self, code: int = 1001, reason: str = "", *, timeout: float = 1.0) -> None:
        """Stop listening and end all connections. New connections are refused until :meth:`start`.

        Args:
            code: the code of the close frame that live connections get.
            reason: the reason in that frame.
            timeout: seconds for the closing handshakes. Connections that are still open afterwards are aborted, and
                so are stalled ones.
        """
        server, self._server = self._server, None
        if server is None:
            return
        server.close(close_connections=False)
        answering = [connection for connection in self.connections if not connection.is_stalled]
        try:
            await self._each(lambda connection: connection.close(code, reason, timeout=timeout), answering)
        finally:
            for websocket in list(self._accepted):
                websocket.transport.abort()
            # Cancel handlers of HTTP requests, which may sleep although their clients are gone.
            for task in list(server.handler_tasks):
                task.cancel()
        await server.wait_closed()
        if self._scripts:
            await asyncio.wait(self._scripts, timeout=timeout)

    # Implementation

    async def _listen(self) -> None:
        accepted = self._accepted

        class Accepted(ServerConnection):
            # websockets lists a connection only after its handshake, but connections without a handshake must end too.
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                accepted.add(self)
                super().connection_made(transport)

        self._server = await serve(
            self._serve_connection,
            self.host,
            self.port,
            process_request=self._process_request,
            create_connection=Accepted,
            **self._options,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _process_request(self, websocket: ServerConnection, request: Request) -> Response | None:
        try:
            return await self._answer(websocket, request)
        except Exception as error:
            # The end of the server's block raises this error. websockets answers the client with 500.
            self._errors.append(error)
            raise

    async def _answer(self, websocket: ServerConnection, request: Request) -> Response | None:
        parts = urlsplit(request.path)
        handler = self.http.get(parts.path)
        is_handshake = handler is None and "Upgrade" in request.headers
        handshake = Handshake(asyncio.get_running_loop().time(), request.path, request.headers)
        if is_handshake:
            self._handshake_started(handshake)
        # Check Origin and Host first: a refused page must neither reach an endpoint nor take a fault from the queue.
        if (forbidden := self._access.refusal(request.headers, self.host, websocket.local_address[0])) is not None:
            return HttpResponse(forbidden, 403).to_websockets()
        if handler is not None:
            return await self._call(handler, request)
        if not is_handshake:
            return HttpResponse("no such endpoint\n", 404).to_websockets()
        if (fault := self._next_fault()) is not None and (response := await fault(websocket)) is not None:
            return response
        if self.admit is not None and (refusal := self.admit(handshake)) is not None:
            return refusal.to_websockets()
        return None

    async def _call(self, handler: HttpHandler, request: Request) -> Response:
        parts = urlsplit(request.path)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        answer = handler(HttpRequest(request.method, parts.path, query, request.headers))
        if inspect.isawaitable(answer):
            answer = await answer
        response = (answer if isinstance(answer, HttpResponse) else HttpResponse(answer)).to_websockets()
        for origin in request.headers.get_all("Origin"):
            # The origin is accepted, but without this header the browser would not let the page read the answer.
            response.headers.setdefault("Access-Control-Allow-Origin", origin)
        return response

    async def _serve_connection(self, websocket: ServerConnection) -> None:
        connection = FeedConnection(websocket, self.opened + 1)
        # Start the script first, so that a test that waits for the connection can rely on a running script.
        script = asyncio.create_task(self._run_script(connection))
        self._scripts.add(script)
        script.add_done_callback(self._scripts.discard)
        self._came(connection)
        try:
            async for message in websocket:
                self._said(connection, message)
        except ConnectionClosed:
            pass  # How the connection ended is checked at the client.
        finally:
            connection.inbox.end()
            try:
                # A script that iterates or sends ends by itself now. Any other script is cancelled below.
                await asyncio.wait([script], timeout=0.05)
            finally:
                script.cancel()
                self._went(connection)

    async def _run_script(self, connection: FeedConnection) -> None:
        if self.script is None:
            return
        try:
            await self.script(connection)
        except ConnectionClosed:
            pass  # The client has gone while the script was sending.
        except Exception as error:
            self._errors.append(error)
