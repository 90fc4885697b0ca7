"""Heartbeat: a message that is sent regularly, and the server's answer to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

from .callables import takes
from .checks import check_seconds

__all__ = ["Heartbeat", "heartbeat_of"]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A message that is sent regularly on every connection, with the answer that shows that the server is alive.

    A pong of the application, as many venues have it. The pings of websockets (RFC 6455, section 5.5.2) are sent by the
    websocket library. Several feeds may use one Heartbeat.

    Args:
        message: the message, as in :meth:`~rxws.AsyncWebsocketStreamInterface.send`, or an (async) function that
            returns it.
        interval: seconds between two messages; or a plain function without parameters that returns them, for servers
            that name the interval. It is called when a connection opens and after each message. If it raises, or
            returns no positive number, a ``CallbackFailed`` is emitted, and the interval stays as it was (10 s at
            first).
        answer: the frame with which the server answers, as ``str`` or bytes; or a filter for the decoded answer, as in
            :meth:`~rxws.AsyncWebsocketStreamInterface.stream_filter`. An answer is no message: it is not parsed if it
            is a frame, no stream gets it, and it does not end a silence (``idle_timeout``, ``Quiet``). If no answer
            arrives within an interval after the message, the connection is replaced, with the reason ``"idle"``. None,
            the default, awaits no answer.

    Raises:
        TypeError: ``interval`` is neither a number nor a plain function without parameters. The feed's constructor
            raises TypeError if ``answer`` is no filter, and ValueError if every message passes it.
        ValueError: ``interval`` is not positive and finite.

    Example::

        heartbeat = rxws.Heartbeat("ping", 20, answer="pong")
        ws = rxws.ReactiveWebSocket("wss://ws.okx.com:8443/ws/v5/public", heartbeat=heartbeat)
    """

    message: Any
    interval: float | Callable[[], float]
    _: KW_ONLY
    answer: str | bytes | Sequence[Mapping[Any, Any]] | Callable[[Any], bool] | None = None

    def __post_init__(self) -> None:
        if not callable(self.interval):
            check_seconds("the interval of Heartbeat", self.interval, zero=False)
        elif not takes(0, self.interval):
            expected = "a positive number of seconds, or a plain function without parameters that returns it"
            raise TypeError(f"the interval of Heartbeat must be {expected}, not {self.interval!r}")


def heartbeat_of(option: Heartbeat | tuple[Any, float] | None) -> Heartbeat | None:
    """Return the heartbeat that the option ``heartbeat`` of a feed means."""
    return Heartbeat(*option) if isinstance(option, tuple) else option
