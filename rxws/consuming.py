"""The consuming half of a feed: its streams, handlers and Observables."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypedDict, Unpack, overload

from reactivex import abc

from .callables import shadowable
from .connections.ledger import Continuity
from .feed.wiring import Feed
from .messages.filters import Filters
from .observables.buffer import DEFAULT_MAXBYTES, DEFAULT_MAXSIZE, Overflow
from .observables.hot import CurrentObservable
from .observables.observable import AsyncObservable
from .reporting.events import Event, Gap
from .reporting.state import State, Statistics
from .sending.channels import Channel
from .streams.stream import Stream
from .streams.stream_options import StreamOptions

__all__ = ["ChannelKeywords", "Consuming", "FilterKeywords", "StreamKeywords", "T", "feed_of"]

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # A TypeVar can have a default (PEP 696) since Python 3.13. Without a type argument a message is Any, like the
    # result of json.loads.
    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")


class StreamKeywords(TypedDict, total=False):
    """The keywords of ``stream_filter`` and ``multiplex`` for the stream's buffer, for their overloads."""

    maxsize: int | None
    maxbytes: int | None
    overflow: Overflow
    copy: bool


class FilterKeywords(StreamKeywords, total=False):
    """The further keyword of ``stream_filter``: the old name of ``filters``."""

    _filters: Filters


class ChannelKeywords(StreamKeywords, total=False):
    """The further keywords of ``multiplex``."""

    filters: Filters
    filters_from: Callable[[Any], Filters] | None
    unsubscribe_from: Callable[[Any], Any] | None
    acknowledged: Filters
    rejected: Filters
    ended: Filters
    on_ended: Literal["resubscribe", "complete"]
    timeout: float
    combine: Callable[[list[Any]], Any] | None
    combine_max: int


class Consuming(Generic[T]):
    """The part of a feed that any number of consumers use: streams, handlers, Observables, statistics."""

    @overload
    def stream_filter(
        self, filters: Filters = None, *, gaps: Literal[False] = False, **more: Unpack[FilterKeywords]
    ) -> Stream[T]: ...

    @overload
    def stream_filter(
        self, filters: Filters = None, *, gaps: bool, **more: Unpack[FilterKeywords]
    ) -> Stream[T | Gap]: ...

    def stream_filter(
        self,
        filters: Filters = None,
        *,
        _filters: Filters = None,
        maxsize: int | None = DEFAULT_MAXSIZE,
        maxbytes: int | None = DEFAULT_MAXBYTES,
        overflow: Overflow = "error",
        gaps: bool = False,
        copy: bool = False,
    ) -> Stream[Any]:
        """Return a stream of the messages that pass a filter, starting now.

        The stream keeps the messages that arrive before it is consumed. Use it with ``async for``, or as an Observable.

        Args:
            filters: a list of dicts. A message passes if it contains all key-value pairs of at least one dict. A key is
                a key of a mapping, a position in a list or a tuple (``{0: 993, -1: "XBT/USD"}``), or an attribute of a
                msgspec Struct, a dataclass, an attrs object or a named tuple. A tuple as key is a path:
                ``{("data", "s"): "BTCUSDT"}``. A value may be a condition: :func:`~rxws.one_of`,
                :func:`~rxws.starts_with`, :func:`~rxws.between`, :data:`~rxws.present`. With None, ``[]`` or ``[{}]``
                every message passes. A function ``message -> bool`` is a filter too; a message for which it raises does
                not pass.
            _filters: the name that AsyncWebsocketStreamInterface gives to ``filters``.
            maxsize: the number of messages that the stream can hold. None sets no bound.
            maxbytes: the number of bytes that the stream can hold; by default 256 MiB. None sets no bound. A message
                counts the size of its frame, as it was received and decompressed; the messages of one frame share it.
                As a Python object a message takes more memory. A message larger than ``maxbytes`` waits alone.
            overflow: the action when the stream is full. ``"error"`` ends it with :exc:`~rxws.StreamOverflow` after
                the messages that it holds; ``"drop_oldest"`` and ``"drop_newest"`` drop messages, count the dropped
                ones and report them.
            gaps: whether the stream contains a ``Gap`` object between the last message before a loss and the first
                message after it.
            copy: whether each message is a deep copy.

        Raises:
            TypeError: the filter is neither a list of dicts nor a plain function, ``filters`` and ``_filters`` are both
                given, or ``maxsize`` or ``maxbytes`` is not an int.
            ValueError: ``maxsize`` or ``maxbytes`` is less than 1, or ``overflow`` is unknown.
            RuntimeError: the caller is not in the loop's thread.

        Example::

            async for trade in ws.stream_filter([{"e": "trade", "s": "BTCUSDT"}]):
                ...
        """
        if filters is not None and _filters is not None:
            raise TypeError("filters and _filters are two names of the same argument: give only filters")
        wanted = _filters if filters is None else filters
        return feed_of(self).stream(wanted, StreamOptions(maxsize, overflow, gaps, copy, maxbytes))

    def __aiter__(self) -> Stream[T]:
        """Return a stream of all messages, starting now; see :meth:`stream_filter`.

        Example::

            async for message in ws:
                ...
        """
        return feed_of(self).stream(None, StreamOptions())

    @overload
    def multiplex(
        self, subscribe: Any, unsubscribe: Any = None, *, gaps: Literal[False] = False, **more: Unpack[ChannelKeywords]
    ) -> Stream[T]: ...

    @overload
    def multiplex(
        self, subscribe: Any, unsubscribe: Any = None, *, gaps: bool, **more: Unpack[ChannelKeywords]
    ) -> Stream[T | Gap]: ...

    def multiplex(
        self,
        subscribe: Any,
        unsubscribe: Any = None,
        *,
        filters: Filters = (),
        filters_from: Callable[[Any], Filters] | None = None,
        unsubscribe_from: Callable[[Any], Any] | None = None,
        acknowledged: Filters = None,
        rejected: Filters = None,
        ended: Filters = None,
        on_ended: Literal["resubscribe", "complete"] = "resubscribe",
        timeout: float = 10.0,
        combine: Callable[[list[Any]], Any] | None = None,
        combine_max: int = 200,
        maxsize: int | None = DEFAULT_MAXSIZE,
        maxbytes: int | None = DEFAULT_MAXBYTES,
        overflow: Overflow = "error",
        gaps: bool = False,
        copy: bool = False,
    ) -> Stream[Any]:
        """Return a stream of a channel: messages that the server sends only while they are subscribed.

        The first stream of a channel subscribes it, and the last stream to be closed unsubscribes it. Streams with
        equal ``subscribe`` messages share one channel, which uses the other arguments of its first stream. All channels
        are subscribed again on every new connection before it counts as open. So during a rotation they are subscribed
        on both connections, and changes are made on both. A change of a channel waits only for the previous change of
        the same channel.

        The channel stays subscribed while the stream is open: close the stream, or drop every reference to it.

        If a function that makes a message raises or takes longer than ``send_timeout``, a ``CallbackFailed`` is emitted
        and the function is called again after growing delays. Meanwhile the connection counts as open without the
        channel. In a planned rotation, the new connection first waits up to 10 s for the channel.

        Args:
            subscribe: the message that subscribes, as in :meth:`send`, or an (async) function that returns it. The
                function is called for each sending, so it can return a fresh token. Messages that differ only in the
                order of keys are equal; a function is equal only to itself.
            unsubscribe: the message that unsubscribes, or an (async) function that returns it. None sends nothing.
            filters: the filter for the channel's messages, as in :meth:`stream_filter`. It must be given, unless
                ``filters_from`` is.
            filters_from: a plain function of the server's answer that returns the filter for the channel's messages on
                that connection: for servers that give each subscription an id, which differs on each connection. It
                excludes ``filters`` and needs ``acknowledged``. It is called for each answer, before the next message.
                The filter holds on that connection only. If two channels have equal filters there, the messages belong
                to the newer one. If the function raises, or returns no filter, a ``CallbackFailed`` is emitted, and the
                channel counts as refused. If no answer arrives, the channel is subscribed again after growing delays.
                Streams of one channel share the function of its first stream. For rotations give ``identity`` too,
                without the id: the frames of two connections differ.
            unsubscribe_from: a plain function of the server's answer that returns the message that unsubscribes on that
                connection. It excludes ``unsubscribe`` and needs ``acknowledged``. None, the default, uses
                ``unsubscribe``.
            acknowledged: a filter for the server's answer. With None no answer is awaited. One message answers one
                channel: the one that has waited longest. If no answer arrives in time, a ``SubscriptionFailed`` is
                emitted and the message is sent once more. The filter must not match a refusal: errors often have the
                same ``id``, so match the result too, or give ``rejected``, which is checked first.
            rejected: a filter for the server's refusal. With None no message is a refusal. A refused channel is
                reported as ``SubscriptionFailed`` with the server's answer. It is not subscribed again on this
                connection, and not unsubscribed. On the next connection it is subscribed last, in a separate message,
                and the connection counts as open without it. If the server refuses a combined message, each half of the
                message is sent, then each half of a refused half, until the refused channel is found. An error "already
                subscribed" is not a refusal: let ``acknowledged`` match it.
            ended: a filter for the message by which the server ends the subscription: ``complete`` in GraphQL, or a
                notice that a symbol is no longer traded. With None no message is one. A ``SubscriptionEnded`` is
                emitted, and no unsubscribe message is sent for a subscription that has ended.
            on_ended: ``"resubscribe"`` subscribes the channel again after growing delays, which start over after 60 s;
                with ``gaps=True`` a ``Gap`` precedes its next message. ``"complete"`` ends the streams of the channel
                after what they hold, once no connection has the subscription any more.
            timeout: seconds to wait for an answer. A new connection counts as open when all channels are answered, or
                after this time. In a planned rotation, when the old connection still delivers, the limit is twice this
                time. So one channel that is never answered delays every opening.
            combine: a function that turns a list of ``subscribe`` messages into one message. Only channels with the
                same function object are combined, so define it once. If it raises, or its result cannot be sent, this
                is reported and each message is sent separately. With None no messages are combined.
            combine_max: the largest number of channels in one message.
            maxsize: as in :meth:`stream_filter`.
            maxbytes: as in :meth:`stream_filter`.
            overflow: as in :meth:`stream_filter`.
            gaps: as in :meth:`stream_filter`.
            copy: as in :meth:`stream_filter`.

        Raises:
            TypeError: an argument has the wrong type, is missing, or excludes another one.
            ValueError: ``timeout``, ``combine_max``, ``maxsize`` or ``maxbytes`` is not positive, ``overflow`` or
                ``on_ended`` is unknown, every message passes ``ended``, a message contains NaN, an infinity or a lone
                surrogate, or the channel has a stream without ``filters_from``.
            RxwsError: ``filters_from`` is given in a replay, which has no server that answers.
            RuntimeError: the caller is not in the loop's thread.

        Example::

            trades = ws.multiplex(
                {"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1},
                {"method": "UNSUBSCRIBE", "params": ["btcusdt@trade"], "id": 2},
                filters=[{"e": "trade", "s": "BTCUSDT"}],
                acknowledged=[{"id": 1, "result": None}],
                rejected=lambda message: message.get("id") == 1 and "error" in message,
            )
        """
        if (filters == ()) is (filters_from is None):
            given = "filters is missing" if filters_from is None else "filters and filters_from exclude each other"
            raise TypeError(f"{given}: give one of them")
        channel = Channel(
            subscribe,
            unsubscribe,
            acknowledged,
            rejected=rejected,
            timeout=timeout,
            combine=combine,
            combine_max=combine_max,
            encode=feed_of(self).options.encode,
            filters_from=filters_from,
            unsubscribe_from=unsubscribe_from,
            ends_with=ended,
            on_ended=on_ended,
        )
        return feed_of(self).multiplex(channel, filters, StreamOptions(maxsize, overflow, gaps, copy, maxbytes))

    def add_handler(
        self,
        function_or_coroutine_function: Callable[[T], object],
        filters: Filters = None,
        *,
        maxsize: int | None = DEFAULT_MAXSIZE,
        maxbytes: int | None = DEFAULT_MAXBYTES,
        overflow: Overflow = "error",
    ) -> abc.DisposableBase:
        """Call a function with each message that passes a filter, in order.

        Each coroutine function has its own queue, so a slow one does not delay others. If the function raises, the
        error is logged, counted and emitted as ``CallbackFailed``, and the function is called with the next message. A
        handler may add and remove handlers.

        Args:
            function_or_coroutine_function: called with the message.
            filters: as in :meth:`stream_filter`.
            maxsize: the number of messages that can wait for a coroutine function. None sets no bound.
            maxbytes: the number of bytes that can wait for a coroutine function, as in :meth:`stream_filter`.
            overflow: as in :meth:`stream_filter`. ``"error"`` removes the handler and reports its removal.

        Returns:
            A Disposable that removes the handler. A running call is not cancelled.

        Raises:
            TypeError: the function is not callable, or the filter is neither a list of dicts nor a plain function.
            ValueError: ``maxsize`` is less than 1, or ``overflow`` is unknown.
            RuntimeError: the caller is not in the loop's thread.

        Example::

            subscription = ws.add_handler(print, [{"e": "trade"}])
            subscription.dispose()
        """
        options = StreamOptions(maxsize, overflow, maxbytes=maxbytes)
        return feed_of(self).add_handler(function_or_coroutine_function, filters, options)

    @shadowable
    def messages(self) -> AsyncObservable[T]:
        """The hot Observable of all messages.

        It keeps no message: a subscriber gets the messages from its subscription on.

        Example::

            async for second in ws.messages.pipe(ops.buffer_with_time(1.0)):
                ...
        """
        return feed_of(self).router.messages

    @shadowable
    def frames(self) -> AsyncObservable[tuple[str | bytes, int, int]]:
        """The hot Observable of all frames before parsing: ``(raw, received_ns, connection_number)``.

        ``received_ns`` is in nanoseconds since the epoch. Frames that cannot be parsed are included, and with several
        lines the copies on every line. Without a subscriber it costs nothing.
        """
        return feed_of(self).dispatcher.frames

    @shadowable
    def state(self) -> CurrentObservable[State]:
        """The Observable of the feed's :class:`~rxws.State`: the current state first, then every change.

        ``state.value`` is the current state, and may be read in any thread.

        Example::

            subscription = ws.state.subscribe(print)
            assert ws.state.value.is_live
        """
        return feed_of(self).state

    @shadowable
    def events(self) -> AsyncObservable[Event]:
        """The Observable of the feed's events, such as lost connections, gaps and failures; see :class:`~rxws.Event`.

        Events never appear among the messages, except a ``Gap`` in a stream with ``gaps=True``.

        Example::

            subscription = ws.events.subscribe(print)
        """
        return feed_of(self).events

    def statistics(self) -> Statistics:
        """Return a snapshot of the feed's counters. Works in any thread.

        Example::

            print(ws.statistics().messages)
        """
        return feed_of(self).statistics()

    def continuity(self) -> Continuity:
        """Return the intervals in which no message was missing, and the gaps between them: the newest 10,000 of each.

        An interval begins when everything is subscribed on a connection, and ends with the connection's last message.
        Rotations without a gap, and connections that resume, continue the interval. Missing numbers in messages do not
        count here. Neither does a channel that the server refused or did not answer: only its streams get a ``Gap``.

        Raises:
            RuntimeError: the caller is not in the loop's thread.

        Example::

            for interval in ws.continuity().intervals:
                print(f"{interval.end - interval.start:.0f} s complete ({interval.proof})")
        """
        feed = feed_of(self)
        feed.context.check()
        feed.ledger.heard(feed.source.last_delivery_time)
        return feed.ledger.continuity()


def feed_of(interface: Consuming[Any]) -> Feed:
    """Return the internal wiring of a feed, for modules that extend feeds, such as recordings."""
    feed: Feed = interface._AsyncWebsocketStreamInterface__feed  # type: ignore[attr-defined, unused-ignore]
    return feed
