"""Opens a connection whose frames picows receives, with the signature of ``websockets.connect``."""

from __future__ import annotations

from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_websockets
from websockets.headers import build_host
from websockets.proxy import get_proxy

from .connection import Connection
from .handshake import Handshake

__all__ = ["connect"]


class connect(connect_websockets):  # noqa: N801 (called like a function, as websockets' own)
    """Open a websocket whose frames picows receives. It has the signature of ``websockets.connect``.

    Use it as ``connect`` of a feed, or without a feed as ``websockets.connect``. The connection has the API of
    websockets, and its exceptions. In a feed, a message goes from picows' parser to its consumers without a queue and
    without a task.

    Args:
        uri: the address, ``ws://`` or ``wss://``.
        create_connection: a subclass of :class:`rxws.picows.Connection`. None: that class.
        options: the options of :func:`websockets.asyncio.client.connect`. A proxy may be HTTP, HTTPS or SOCKS; for an
            HTTPS proxy ``proxy_ssl`` is an ``ssl.SSLContext``. Sockets of the file system are not supported.

    Raises:
        InvalidURI: ``uri`` is not a valid URI of a websocket.
        OSError: the TCP connection failed.
        InvalidHandshake: the opening handshake failed.
        TimeoutError: the opening took longer than ``open_timeout`` seconds (default: 10).

    Cancelling is safe: the connection is aborted.

    Example::

        feed = rxws.ReactiveWebSocket("wss://example.com/ws", connect=rxws.picows.connect)
    """

    def __init__(self, uri: str, *, create_connection: type[Connection] | None = None, **options: Any) -> None:
        if options.get("unix"):
            raise TypeError("rxws.picows.connect does not support sockets of the file system")
        if create_connection is not None and not issubclass(create_connection, Connection):
            wanted = "a subclass of rxws.picows.Connection"
            raise TypeError(f"create_connection must be {wanted}, not {create_connection!r}")
        super().__init__(uri, create_connection=create_connection or Connection, **options)

    async def open_tcp_connection(self) -> ClientConnection:
        """Prepare a connection, which opens in its ``handshake``."""
        uri = self.ws_uri
        options = self.create_connection_kwargs.copy()
        proxy = None if options.get("sock") is not None else get_proxy(uri) if self.proxy is True else self.proxy
        if uri.secure and options.setdefault("ssl", True) is None:
            raise ValueError("ssl=None is incompatible with a wss:// URI")
        if uri.secure:
            options.setdefault("server_hostname", uri.host)
        if proxy is None and options.get("sock") is None:
            options.setdefault("host", uri.host)
            options.setdefault("port", uri.port)
        host = build_host(uri.host, uri.port, uri.secure)
        url = f"{'wss' if uri.secure else 'ws'}://{host}{uri.resource_name}"
        connection = self.factory(uri)
        assert isinstance(connection, Connection)
        connection.prepare(Handshake(url, options, proxy, self.open_timeout))
        return connection
