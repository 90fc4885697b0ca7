"""The endpoint that the feed of a life connects to, and functions that make feeds."""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import rxws
from rxws import codec
from rxws.interface import feed_of

from .dialect import Dialect
from .evidence import CLOSE_TIMEOUT
from .schedule import Settings

__all__ = ["Endpoint", "Feed", "MakeFeed", "options_of", "ready_made"]

Feed = rxws.AsyncWebsocketStreamInterface[Any]

OPEN_TIMEOUT: Final = 2.0
"""Seconds that opening a connection may take, in addition to the lags."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The endpoint that the feed of a life connects to.

    Attributes:
        url: the address.
        connect: the only function that can connect to it; it has the signature of ``websockets.connect``.
        options: keyword arguments for the constructor of the feed, mostly timeouts.
    """

    url: str
    connect: Callable[..., Any]
    options: Mapping[str, Any]


MakeFeed = Callable[[Endpoint], Feed]
"""Makes a feed that connects to an endpoint; called in the running loop."""


def options_of(settings: Settings) -> dict[str, Any]:
    """Return the options that every feed class accepts."""
    shards = settings.channels_per_connection
    return {
        **({"channels_per_connection": shards} if shards else {}),
        "open_timeout": OPEN_TIMEOUT + 2 * settings.lag,
        "send_timeout": 2.0,
        "close_timeout": CLOSE_TIMEOUT,
        "handover_timeout": settings.handover_timeout,
        "handover_settle": settings.settle,
        "idle_timeout": settings.idle_timeout or None,
        "reconnect_delays": lambda: itertools.repeat(settings.retry_delay),
        "send_limit": (settings.send_limit, 1.0) if settings.send_limit else None,
    }


def ready_made(settings: Settings, dialect: Dialect) -> MakeFeed:
    """Return a function that makes a ``ReactiveWebSocket``, with the options that only this class has."""

    states_channels = settings.channel_cursors and settings.replays == "statement"

    def is_own(message: Any) -> bool:
        """Return whether a message is declared to be one of this connection alone: a snapshot, greeting or signal."""
        read = dialect.read(message)
        if read is not None:
            return settings.snapshots == "declared" and read.is_snapshot
        # No statement about a channel covers a signal, because a signal has no channel.
        return ("hello" in message and settings.greets == "declared") or ("expired" in message and states_channels)

    def cursor(message: Any) -> str | None:
        read = dialect.read(message)
        if read is None and "at" in message:
            # The answer to a subscription.
            return f"{message['subscribed']}:{message['at']}"
        return None if read is None else f"{read.channel}:{read.n}"

    def number(message: Any) -> int | None:
        read = dialect.read(message)
        return None if read is None else read.n

    def channel(message: Any) -> str | None:
        read = dialect.read(message)
        return None if read is None else read.channel

    def make(endpoint: Endpoint) -> Feed:
        replays: dict[str, Any] = {"resume": True, "cursor": cursor} if settings.resumes else {}
        if settings.replays == "statement" and replays:
            replays["resume"] = [{"recovered": True}]
        elif settings.replays == "numbers" and replays:
            replays |= {"sequence": number, "key": channel}

        def url(cursor: str | None) -> str:
            return endpoint.url if cursor is None else f"{endpoint.url}?cursor={cursor}"

        # A weak reference, because the life checks that nothing keeps the feed alive.
        made: list[weakref.ref[Feed]] = []

        def decode(frame: str | bytes) -> Any:
            message, feed = codec.decode(frame), made[0]()
            if "gap" not in message or feed is None:
                return message
            # The frame has times of the loop's clock. A Gap needs times of the feed's clock.
            shift = feed_of(feed).reporter.now() - asyncio.get_running_loop().time()
            return rxws.Gap(*(time + shift for time in message["gap"]))

        ws: Feed = rxws.ReactiveWebSocket(
            url if settings.resumes and not settings.channel_cursors else endpoint.url,
            decode=decode if settings.tells else codec.decode,
            connect=endpoint.connect,
            rotate_every=settings.rotate_every or None,
            rotate_on=[{"expired": True}],
            identity=dialect.identity if settings.gives_ids else None,
            per_connection=is_own if states_channels or "declared" in (settings.snapshots, settings.greets) else None,
            **replays,
            **endpoint.options,
        )
        made.append(weakref.ref(ws))
        return ws

    return make
