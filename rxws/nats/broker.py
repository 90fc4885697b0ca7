"""One connection to a NATS server. It does not reconnect by itself; the caller opens a new one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from nats.errors import Error as NatsError

from ..delays import default_delays
from ..errors import RxwsError
from ..reporting import redact
from .client import DirectClient
from .credentials import check_credentials

__all__ = [
    "ApiError",
    "Broker",
    "BrokerError",
    "UnsuitableError",
    "broker_delays",
    "check_connect_options",
    "check_servers",
]

#: The oldest version of the server that works. Older ones silently ignore several filters of one consumer.
OLDEST_SERVER: Final = (2, 10)

#: Seconds within which a connection must be open, unless the caller passes a shorter time.
CONNECT_TIMEOUT: Final = 5.0

#: Seconds to wait for the answer of JetStream's API.
API_TIMEOUT: Final = 5.0

#: Seconds to wait for a connection to close; then it is aborted.
CLOSE_TIMEOUT: Final = 1.0

#: Seconds between two pings. Two of them may be unanswered. With the library's default of 2 minutes, a dead peer would
#: not be noticed in time.
PING_INTERVAL: Final = 2

#: The delays between attempts to reach a broker. They are short, because users run their own brokers.
broker_delays: Final[Callable[[], Iterator[float]]] = partial(default_delays, first=0.1, longest=2.0)

#: The options that :class:`Broker` sets. If the library reconnected by itself, it would send buffered messages after
#: newer ones.
_OWN_OPTIONS: Final = frozenset(
    {
        *("servers", "allow_reconnect", "max_reconnect_attempts", "reconnect_time_wait", "pending_size"),
        *("error_cb", "closed_cb", "disconnected_cb", "reconnected_cb", "discovered_server_cb", "lame_duck_mode_cb"),
    }
)


class BrokerError(RxwsError, ConnectionError):
    """The broker cannot be reached or refused a request, or its connection was lost."""


class ApiError(BrokerError):
    """JetStream's API answered with an error.

    Attributes:
        code: the status code, as in HTTP.
        err_code: JetStream's number of the error.
    """

    def __init__(self, what: str, error: Mapping[str, Any]) -> None:
        self.code = error.get("code", 0)
        self.err_code = error.get("err_code", 0)
        super().__init__(f"{what}: {error.get('description', 'unknown error')} ({self.err_code})")


class UnsuitableError(BrokerError, NotImplementedError):
    """The server is too old, or the configuration of its stream does not work. A retry does not help."""


def check_servers(servers: object) -> list[str]:
    """Return the addresses of servers as a list.

    Raises:
        TypeError: ``servers`` is neither a str nor a list of them.
        ValueError: it is empty.
    """
    listed = [servers] if isinstance(servers, str) else servers
    if not isinstance(listed, Sequence) or not all(isinstance(each, str) for each in listed):
        # Do not show the value, because an address may contain a password.
        raise TypeError(f"servers must be a str or a list of str, not {type(servers).__name__}")
    if not listed or not all(listed):
        raise ValueError("servers must name at least one server, such as 'nats://127.0.0.1:4222'")
    return list(listed)


def check_connect_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the keyword arguments for the library's ``connect``.

    Raises:
        TypeError: ``options`` is not a mapping, or contains an option that rxws sets.
    """
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f"connect_options must be a mapping or None, not {type(options).__name__}")
    own = sorted(_OWN_OPTIONS & set(options or ()))
    if own:
        raise TypeError(f"connect_options must not contain {own[0]!r}: rxws sets it")
    return dict(options or {})


class Broker:
    """A connection to a NATS server. Open it with :meth:`connect`.

    Attributes:
        client: the library's client. An exception of a function that gets its messages ends the connection.
        lost: a future that is done when the connection has ended; its exception is the reason.
    """

    def __init__(self) -> None:
        self.client: Final = DirectClient(self._failed)
        self.lost: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        self._refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._last_error: Exception | None = None
        # Retrieve the exception, so that asyncio does not report it as never retrieved.
        self.lost.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._refused.add_done_callback(lambda future: future.cancelled() or future.exception())

    @classmethod
    async def connect(cls, servers: Sequence[str], options: Mapping[str, Any], name: str) -> Broker:
        """Open a connection.

        Args:
            servers: the addresses.
            options: further arguments of the library's ``connect``.
            name: the name of this client in the server's log.

        Raises:
            BrokerError: no server accepts the connection.
            UnsuitableError: the server is older than 2.10, or the credentials need a package that is not installed.
        """
        broker = cls()
        given = {"connect_timeout": 2, "ping_interval": PING_INTERVAL, "max_outstanding_pings": 2, "name": name}
        try:
            check_credentials(options)
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await broker.client.connect(
                    servers=list(servers),
                    **{**given, **options},
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0.05,  # type: ignore[arg-type]
                    error_cb=broker._on_error,
                    closed_cb=broker._on_closed,
                )
        except (NatsError, OSError, TimeoutError, ValueError) as error:
            await broker.close()
            cause = broker._last_error or error
            raise BrokerError(f"no connection to NATS: {_shown(cause)}") from None
        except ImportError as error:
            await broker.close()
            raise UnsuitableError(
                f"nkeys and credentials files need the package nkeys: pip install nkeys ({error})"
            ) from None
        except BaseException:
            await broker.close()
            raise
        broker.client.mark_encrypted()
        if not broker.client.is_connected:
            # The library mistakes a message about the cluster for the answer to its first ping, and then sends nothing.
            await broker.close()
            raise BrokerError("no connection to NATS: the server sent a different message before the first PONG")
        version = broker.client.connected_server_version
        if (version.major, version.minor) < OLDEST_SERVER:
            await broker.close()
            oldest = ".".join(map(str, OLDEST_SERVER))
            raise UnsuitableError(
                f"nats-server {version.major}.{version.minor}.{version.patch} is too old: {oldest} or newer is needed"
            )
        return broker

    async def _on_error(self, error: Exception) -> None:
        self._last_error = error
        if "permissions violation" in str(error).lower() and not self._refused.done():
            self._refused.set_exception(BrokerError(f"the broker refuses: {_shown(error)}"))

    def _failed(self, error: Exception) -> None:
        if not self.lost.done():
            self.lost.set_exception(error)

    async def _on_closed(self) -> None:
        if not self.lost.done():
            cause = self._last_error or self.client.last_error
            why = f": {_shown(cause)}" if cause is not None else ""
            self.lost.set_exception(BrokerError(f"the connection to NATS was lost{why}"))

    def check(self) -> None:
        """Raise the error if the connection was lost, or the broker refused a message or request."""
        for future in (self.lost, self._refused):
            if future.done():
                future.result()

    async def api(self, subject: str, request: Mapping[str, Any] | None = None, timeout: float = API_TIMEOUT) -> Any:
        """Send a request to JetStream's API and return its answer.

        Args:
            subject: the subject without the prefix ``$JS.API.``
            request: the request; None sends an empty one.
            timeout: seconds to wait for the answer.

        Raises:
            ApiError: the answer is an error.
            BrokerError: no answer arrived, or the request is not permitted.
        """
        payload = b"" if request is None else json.dumps(request).encode()
        asking = asyncio.ensure_future(self.client.request(f"$JS.API.{subject}", payload, timeout=timeout))
        try:
            futures: set[asyncio.Future[Any]] = {asking, self.lost, self._refused}
            await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                # A request that is not permitted gets no answer, and the library would wait until the timeout.
                self.check()
            answer = json.loads(asking.result().data)
        except (NatsError, TimeoutError) as error:
            raise BrokerError(f"JetStream does not answer {subject}: {_shown(error)}") from None
        finally:
            asking.cancel()
        if "error" in answer:
            raise ApiError(subject, answer["error"])
        return answer

    async def close(self) -> None:
        """Close the connection, or abort it after a second. Idempotent."""
        if not self.lost.done():
            self.lost.set_exception(BrokerError("the connection to NATS was closed"))
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self.client.close()
        except (NatsError, OSError, TimeoutError, RuntimeError, AttributeError, AssertionError):
            # A connection that cannot be closed is aborted. The library's assertion fails if it was never opened.
            pass
        finally:
            self.client.abort()


def _shown(error: BaseException) -> str:
    """Return the text of an error without secrets."""
    return redact(str(error) or type(error).__name__)
