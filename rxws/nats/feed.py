"""NatsFeed: a feed whose frames come from a stream of JetStream."""

from __future__ import annotations

import asyncio
import types
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NoReturn, TypeVar, Unpack

import reactivex
from reactivex import abc

from .. import codec
from ..callables import is_coroutine_function, is_plain_function
from ..checks import check_count, check_seconds
from ..interface import AsyncWebsocketStreamInterface, T, feed_of
from ..messages import Filter, Filters, Many
from ..observables import DEFAULT_MAXBYTES, DEFAULT_MAXSIZE, AsyncObservable, Overflow, on_loop
from ..options import FeedOptions
from ..reporting import Gap
from ..streams import Stream
from .broker import Broker, broker_delays, check_connect_options, check_servers
from .frames import MissingFrame, TextFrame
from .place import Place
from .positions import Positions
from .sharing import check_share
from .stream import check_name
from .subjects import Template, merged
from .subscription import Subscription

__all__ = ["NatsFeed"]

U = TypeVar("U")

#: Options that have a meaning only for websockets.
_UNSUITABLE: Final = ("lines", "channels_per_connection", "connect_limit", "heartbeat")


class NatsFeed(AsyncWebsocketStreamInterface[T]):
    """A feed of the messages that relays have published to a stream of NATS JetStream; see :func:`relay`.

    Streams, operators, handlers, ``resync`` and recordings work as with any feed. The filters of the streams decide
    which subjects the server sends. The frames are those of the captured feed, so pass the ``decode`` of that feed. A
    lost connection is replaced, and the feed continues after the last message that it has delivered. So there is a
    ``Gap`` only if the relays or the stream have lost messages. The feed only reads: ``send`` raises TypeError.

    Args:
        servers: the address of a server, or a list of addresses of one cluster.
        stream: the name of the stream.
        subject: the template of the subjects, as for the relay. ``*`` and ``>`` are allowed as tokens.
        filters: the filter of all messages that the server is asked for, as in ``stream_filter``. With None the feed
            asks for the messages that its streams, handlers and subscribers want at the time.
        start: where the feed begins: ``"new"`` (with the next message), ``"all"``, ``"last"`` (with the newest message
            of each subject), the number of a message in the stream, or an aware datetime.
        share: ``(k, n)``: this is the k-th (from 0) of n workers, and reads its part of the partitions of the stream,
            see the guide. None reads all.
        decode: a function or a coroutine function that turns a frame into a message, by default
            ``msgspec.json.decode``.
        batch: the number of messages that the server is asked for at a time.
        idle_heartbeat: seconds between the heartbeats of a server that has no message to send. After 2.5 intervals
            without one, the connection counts as lost.
        connect_options: arguments of ``nats.connect``: ``tls``, ``user_credentials``, ``nkeys_seed``, ``token``.
        options: ``name``, ``idle_timeout`` and other options of :class:`~rxws.AsyncWebsocketStreamInterface`. By
            default ``reconnect_delays`` are 0, then uniform(0, min(2, 0.1·2ⁿ)) seconds. ``handover_timeout`` has no
            effect, because ``rotate()`` continues after the last message.

    Raises:
        RuntimeError: outside a running event loop.
        TypeError: an argument is unknown, has the wrong type, or has a meaning only for websockets.
        ValueError: a number is not positive, ``subject`` is not a template, or ``start`` has no time zone.

    Example::

        async with rxws.nats.NatsFeed("nats://127.0.0.1:4222", start="all") as ws:
            trades = ws.stream_filter([{"e": "trade"}])
    """

    def __init__(
        self,
        servers: str | Sequence[str] = "nats://127.0.0.1:4222",
        *,
        stream: str = "rxws",
        subject: str = "rx.{e}.{s}",
        filters: Filters = None,
        start: str | int | datetime = "new",
        share: tuple[int, int] | None = None,
        decode: Callable[[str | bytes], T | Awaitable[T]] = codec.decode,
        batch: int = 1000,
        idle_heartbeat: float = 1.0,
        connect_options: Mapping[str, Any] | None = None,
        **options: Unpack[FeedOptions],
    ) -> None:
        _check(batch, idle_heartbeat, decode, options)
        self.__servers = check_servers(servers)
        self.__connect_options = check_connect_options(connect_options)
        self.__stream = check_name("stream", stream)
        self.__template = Template(subject, wildcards=True)
        self.__filters = None if filters is None else self.__template.patterns(Filter.parse(filters, "filters"))
        self.__place = _place_of(start)
        self.__place.share = check_share(share)
        self.__decode = decode
        self.__batch = batch
        self.__idle_heartbeat = idle_heartbeat
        self.__wanted: Counter[tuple[str, ...]] = Counter()
        self.__positions = Positions()
        self.__subscription: Subscription | None = None
        self.__has_begun = False
        is_sync = isinstance(decode, types.BuiltinFunctionType) or is_plain_function(decode)
        if is_coroutine_function(decode) or not is_sync:
            self._parse_raw_data = self.__parse_later  # type: ignore[method-assign]
        options = {"reconnect_delays": broker_delays, **options, "handover_timeout": 0}
        super().__init__(**options)
        feed_of(self).opener.name = "connecting to NATS"

    # Its place in the stream

    @property
    def position(self) -> int | None:
        """The number in the stream of the last message that was delivered, or None before the first one.

        A feed with ``start=position + 1`` continues after it. Consumers may not have processed this message yet; see
        :meth:`position_of`.
        """
        place = self.__place
        if place.following is None:
            return place.delivered or None
        return max(place.delivered, place.following - 1)

    @property
    def complete_until(self) -> float | None:
        """The time before which all messages that the relays received have arrived, in seconds since the epoch.

        Messages that a Gap reports as missing are excepted. It is None before the first statement of a relay, and when
        all relays are closed.
        """
        return self.__place.watermarks.complete_until

    def position_of(self, message: Any) -> int:
        """Return the number in the stream of a message that this feed has delivered.

        A worker that stores this number with the result of a message, in one transaction, continues after a crash with
        ``start=number + 1`` and processes each message once.

        Args:
            message: the object itself, not a copy.

        Raises:
            LookupError: this feed has not delivered the object.
        """
        found = self.__positions.get(message)
        if found is None:
            raise LookupError("this object is not a message of this feed (a copy has no position)")
        return found

    # Hooks

    async def _create_ws(self) -> Subscription:
        name = f"rxws feed {feed_of(self).reporter.name}"
        broker = await Broker.connect(self.__servers, self.__connect_options, name)
        subscription = Subscription(
            broker, self.__stream, self.__place, self.__template, self.__batch, self.__idle_heartbeat
        )
        try:
            await subscription.open()
        except BaseException:
            await subscription.close()
            raise
        self.__subscription = subscription
        return subscription

    async def _when2create_new_ws(self) -> None:
        assert self.__subscription is not None
        self.__subscription.begin(self.__patterns, is_first=not self.__has_begun)
        self.__has_begun = True
        await asyncio.get_running_loop().create_future()

    def _parse_raw_data(self, raw_data: Any) -> Any:
        if not raw_data and (missing := _missing_at(raw_data)) is not None:
            return missing
        # Convert to an exact str, because msgspec accepts no subclass.
        message = self.__decode(str(raw_data) if type(raw_data) is TextFrame else raw_data)
        self.__note(message, raw_data)
        return message

    async def __parse_later(self, raw_data: Any) -> Any:
        if not raw_data and (missing := _missing_at(raw_data)) is not None:
            return missing
        message = await self.__decode(str(raw_data) if type(raw_data) is TextFrame else raw_data)  # type: ignore[misc]
        self.__note(message, raw_data)
        return message

    def __note(self, message: Any, frame: Any) -> None:
        # In a replay, frames are plain and have no number.
        sequence = getattr(frame, "sequence", None)
        if sequence is None:
            return
        if type(message) is Many:
            for each in message:
                self.__positions.note(each, sequence)
        else:
            self.__positions.note(message, sequence)
        if sequence > self.__place.delivered:
            self.__place.delivered = sequence

    # The subjects that the server is asked for

    def __patterns(self) -> tuple[str, ...] | None:
        patterns = self.__filters
        if patterns is None:
            patterns = tuple(dict.fromkeys(pattern for wanted in self.__wanted for pattern in wanted))
        if self.__template.everything in patterns:
            return None
        return merged(patterns)

    def __want(self, wanted: Filter) -> Callable[[], None]:
        """Ask for the messages that pass a filter. Return a function that ends this."""
        patterns = self.__template.patterns(wanted)
        is_new = not self.__wanted[patterns]
        self.__wanted[patterns] += 1
        if is_new:
            self.__changed(is_less=False)

        def release() -> None:
            self.__wanted[patterns] -= 1
            if not self.__wanted[patterns]:
                del self.__wanted[patterns]
                self.__changed(is_less=True)

        return release

    def __changed(self, *, is_less: bool) -> None:
        if self.__filters is None and self.__subscription is not None:
            self.__subscription.changed(is_less=is_less)

    # Consuming

    def stream_filter(self, filters: Filters = None, *, _filters: Filters = None, **options: Any) -> Stream[Any]:
        """Return a stream of the messages that pass a filter, and ask the server for their subjects.

        See :meth:`rxws.AsyncWebsocketStreamInterface.stream_filter`.
        """
        stream = super().stream_filter(filters, _filters=_filters, **options)
        if not feed_of(self).is_closing:
            stream.when_ended(self.__want(Filter.parse(filters if _filters is None else _filters)))
        return stream

    def __aiter__(self) -> Stream[T]:
        """Return a stream of all messages, starting now."""
        return self.stream_filter()

    def add_handler(
        self,
        function_or_coroutine_function: Callable[[T], object],
        filters: Filters = None,
        *,
        maxsize: int | None = DEFAULT_MAXSIZE,
        maxbytes: int | None = DEFAULT_MAXBYTES,
        overflow: Overflow = "error",
    ) -> abc.DisposableBase:
        """Call a function with each message that passes a filter, and ask the server for their subjects.

        See :meth:`rxws.AsyncWebsocketStreamInterface.add_handler`.
        """
        wanted = Filter.parse(filters, "filters")
        handler = super().add_handler(
            function_or_coroutine_function, wanted, maxsize=maxsize, maxbytes=maxbytes, overflow=overflow
        )
        release = self.__want(wanted)

        def dispose() -> None:
            handler.dispose()
            release()

        return feed_of(self).context.disposable(dispose)

    @property
    def messages(self) -> AsyncObservable[T]:
        """The hot Observable of all messages. While it has a subscriber, all subjects are asked for."""
        return self.__all_of(super().messages)

    @property
    def frames(self) -> AsyncObservable[tuple[str | bytes, int, int]]:
        """The hot Observable of all frames. While it has a subscriber, all subjects are asked for."""
        return self.__all_of(super().frames)

    def __all_of(self, observable: AsyncObservable[U]) -> AsyncObservable[U]:
        def want() -> abc.DisposableBase:
            return feed_of(self).context.disposable(self.__want(Filter.parse(None)))

        return on_loop(reactivex.using(want, lambda _: observable))

    # Sending

    async def send(self, msg: Any) -> NoReturn:
        """Raise TypeError: the feed only reads."""
        raise TypeError("a NatsFeed only reads: send with the feed that its relay captures")

    async def request(self, msg: Any, reply: Filters, *, timeout: float = 10.0) -> NoReturn:
        """Raise TypeError: the feed only reads."""
        raise TypeError("a NatsFeed only reads: send with the feed that its relay captures")

    def multiplex(self, *_: Any, **__: Any) -> NoReturn:
        """Raise TypeError: the feed only reads. The filters of its streams decide what the server sends."""
        raise TypeError("a NatsFeed only reads: stream_filter asks the server for the messages that pass its filter")


def _check(batch: object, idle_heartbeat: object, decode: object, options: Mapping[str, Any]) -> None:
    """Raise TypeError or ValueError if one of these arguments is wrong."""
    unsuitable = [option for option in _UNSUITABLE if option in options]
    if unsuitable:
        raise TypeError(f"NatsFeed() has no option {unsuitable[0]!r}: it is for websockets")
    check_count("batch", batch)
    check_seconds("idle_heartbeat", idle_heartbeat, zero=False)
    if not callable(decode):
        raise TypeError(f"decode must be a function, not {decode!r}")


def _missing_at(frame: object) -> Gap | Many[Any] | None:
    """Return what the feed delivers for an empty frame that is not a message; None if it is a message."""
    if type(frame) is MissingFrame:
        return Gap(frame.start, frame.end)
    # In a replay the frame of missing messages is a plain str, and the recorded Gap follows it.
    return Many() if type(frame) is str else None


def _place_of(start: object) -> Place:
    if isinstance(start, str) and start in _STARTS:
        return Place(None, {"deliver_policy": _STARTS[start]}, has_looked_back=start in ("all", "last"))
    if isinstance(start, datetime):
        if start.tzinfo is None:
            raise ValueError("start must be a datetime with a time zone")
        return Place(
            None, {"deliver_policy": "by_start_time", "opt_start_time": start.isoformat()}, has_looked_back=True
        )
    if isinstance(start, int) and not isinstance(start, bool):
        if start < 1:
            raise ValueError(f"start must be at least 1, not {start}")
        return Place(start, {"deliver_policy": "all"})
    expected = "'new', 'all', 'last', a number in the stream, or an aware datetime"
    if isinstance(start, str):
        raise ValueError(f"start must be {expected}, not {start!r}")
    raise TypeError(f"start must be {expected}, not {type(start).__name__}")


_STARTS: Final = {"new": "new", "all": "all", "last": "last_per_subject"}
