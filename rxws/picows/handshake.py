"""The opening handshake: a TCP connection of asyncio, on which picows requests the upgrade."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import picows
from python_socks import ProxyError as SocksError
from websockets.datastructures import Headers
from websockets.exceptions import (
    InvalidHandshake,
    InvalidHeader,
    InvalidMessage,
    InvalidStatus,
    InvalidUpgrade,
    ProxyError,
)
from websockets.http11 import Response

__all__ = ["Handshake", "response_of"]

#: The headers that picows adds to each request.
_ADDED: Final = frozenset({"upgrade", "connection", "sec-websocket-version", "sec-websocket-key"})

#: The options of ``loop.create_connection`` for TLS. All others are for TCP.
_OF_TLS: Final = frozenset({"server_hostname", "ssl_handshake_timeout", "ssl_shutdown_timeout"})


class Handshake:
    """The opening of one connection, which has this in place of a transport until it is open.

    Args:
        url: the address, in ASCII and without credentials.
        options: the options of ``loop.create_connection``, with ``ssl``, ``host`` and ``port``.
        proxy: the URL of a proxy, or None. A proxy is picows' own matter: aborting then waits for ``timeout``.
        timeout: seconds after which picows gives up a connection through a proxy; None: never.
    """

    def __init__(self, url: str, options: dict[str, Any], proxy: str | None, timeout: float | None) -> None:
        self._url = url
        self._context = options.pop("ssl", None)
        self._proxy_context = options.pop("proxy_ssl", None)
        self._tls = {name: options.pop(name) for name in _OF_TLS & options.keys()}
        self._tcp = options
        self._proxy = proxy
        self._timeout = timeout
        self._socket: socket.socket | None = None

    async def run(
        self,
        listener: Callable[[picows.WSUpgradeRequest, picows.WSUpgradeResponse], picows.WSListener],
        headers: Headers,
        max_frame_size: int | None,
        logger: logging.LoggerAdapter[Any],
    ) -> None:
        """Open the connection, with a listener that picows calls. Cancelling is safe if :meth:`abort` is called.

        Args:
            listener: returns the listener; called with the request and the response after the upgrade.
            headers: the headers of the request.
            max_frame_size: the largest number of bytes in a frame; None: no limit.
            logger: takes what picows logs.

        Raises:
            OSError: the TCP connection failed.
            InvalidHandshake: the handshake failed.
        """
        with _translated():
            _, made = await picows.ws_connect(
                listener,
                self._url,
                ssl_context=self._context if isinstance(self._context, ssl.SSLContext) else None,
                # The caller limits the time, and aborts the socket; only a proxy's socket cannot be aborted.
                websocket_handshake_timeout=None if self._proxy is None else self._timeout,
                logger_name=_Quiet(logger),
                enable_auto_pong=False,
                max_frame_size=sys.maxsize if max_frame_size is None else max_frame_size,
                extra_headers=[(name, value) for name, value in headers.raw_items() if name.lower() not in _ADDED],
                max_redirects=0,
                proxy=self._proxy,
                proxy_ssl_context=self._proxy_context,
                socket_factory=self._connect if self._proxy is None else None,
                **self._tls,
                **({} if self._proxy is None else self._tcp),
            )
        if made is None:
            # The peer closed the connection before it answered. picows does not report that.
            raise InvalidMessage("did not receive a valid HTTP response") from EOFError("connection closed")

    async def _connect(self, _url: object) -> socket.socket:
        """Return a connected socket. asyncio connects it, with all of its options, and can abort only its own."""
        given = self._tcp.get("sock")
        if given is not None:
            self._socket = given
        else:
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, **self._tcp)
            try:
                self._socket = _Connected(fileno=transport.get_extra_info("socket").dup().detach())
            finally:
                transport.abort()
        assert self._socket is not None
        self._socket.setblocking(False)
        return self._socket

    def abort(self) -> None:
        """End the connection at once. picows then gives up the handshake."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it is closed
                self._socket.shutdown(socket.SHUT_RDWR)

    def is_closing(self) -> bool:
        """Return False: a connection that is being opened is not closing."""
        return False


class _Connected(socket.socket):
    """A socket that was connected. picows connects a socket without a peer, but this one may have lost its peer."""

    def getpeername(self) -> Any:
        with contextlib.suppress(OSError):
            return super().getpeername()


def response_of(response: picows.WSUpgradeResponse | None, body: bytes | None = None) -> Response:
    """Return a response of picows as one of websockets."""
    assert response is not None
    headers = Headers()
    for name, value in response.headers.items():
        headers[name] = value
    return Response(int(response.status), response.status.phrase, headers, body or b"")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Raise the exceptions of websockets in place of those of picows."""
    try:
        yield
    except picows.WSInvalidStatusError as error:
        raise InvalidStatus(response_of(error.response, error.raw_body)) from error
    except picows.WSInvalidUpgradeError as error:
        raise InvalidUpgrade(error.name, error.value) from error
    except picows.WSInvalidHeaderError as error:
        raise InvalidHeader(error.name, error.value) from error
    except picows.WSInvalidMessageError as error:
        raise InvalidMessage(str(error)) from error
    except picows.WSHandshakeError as error:
        raise InvalidHandshake(str(error)) from error
    except SocksError as error:
        raise ProxyError(str(error)) from error


class _Quiet(logging.LoggerAdapter[Any]):
    """Logs at DEBUG what picows logs, because the exceptions of the connection say it; drops what shows content."""

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 (the name of the base class)
        return level >= logging.DEBUG and super().isEnabledFor(logging.DEBUG)

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        super().log(min(level, logging.DEBUG), msg, *args, **kwargs)
