"""AsyncWebsocketStreamInterface: inherit three hooks, get one Observable and unlimited streams."""

from __future__ import annotations

import asyncio
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Generic, Literal, Required, Self, TypedDict, Unpack, overload

from reactivex import abc

from .callables import is_coroutine_function, name_of, reject_generator_function, shadowable
from .feed.wiring import Feed, Hooks, make_feed
from .messages.filters import Filters
from .observables.buffer import DEFAULT_MAXSIZE, Overflow
from .observables.hot import CurrentObservable
from .observables.observable import AsyncObservable
from .options import FeedOptions, Options
from .reporting.events import Event, Gap, State, Statistics
from .sending.channels import Channel
from .streams.stream import Stream
from .streams.stream_options import StreamOptions

__all__ = ["AsyncWebsocketStreamInterface", "ChannelKeywords", "StreamKeywords", "T", "feed_of"]

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # A feed that is told nothing of its messages gives what json.loads does (PEP 696, which Python has from 3.13 on).
    T = TypeVar("T", default=Any)
else:
    from typing import TypeVar

    T = TypeVar("T")


class StreamKeywords(TypedDict, total=False):
    """What ``stream_filter`` and ``multiplex`` take for a stream's buffer: written once for their overloads."""

    maxsize: int | None
    overflow: Overflow
    copy: bool


class ChannelKeywords(StreamKeywords, total=False):
    """What ``multiplex`` takes for its channel, besides."""

    filters: Required[Filters]
    acknowledged: Filters
    rejected: Filters
    timeout: float
    combine: Callable[[list[Any]], Any] | None
    combine_max: int


class AsyncWebsocketStreamInterface(Generic[T], metaclass=ABCMeta):
    """One websocket, kept open for weeks, as one hot Observable that serves unlimited streams.

    Subclasses give three hooks: :meth:`_create_ws`, :meth:`_when2create_new_ws` and :meth:`_parse_raw_data`. The
    connection is opened when the constructors of all subclasses have returned; it is opened again, with growing and
    jittered delays, whenever it is lost, a normal close by the server included; and it is rotated without a gap
    whenever :meth:`_when2create_new_ws` ends. Three more may be given: ``_reply(raw_data)`` returns what to send back
    at once (a pong); ``_message_identity(message)`` what makes two messages the same on two connections that overlap;
    ``_is_per_connection(message)`` whether every new connection gets it for itself (an acknowledgement). A parse hook
    that finds several messages in a frame returns ``rxws.Many(messages)``.

    Construct it inside a running event loop; it belongs to that loop's thread, and its methods raise RuntimeError
    elsewhere. Only :meth:`statistics` and ``state.value`` may be read from any thread, and a Disposable disposed.

    Messages are shared between consumers, not copied: treat them as read-only, or ask a stream for copies.

    Args:
        name: shown in logs, events and the repr; None makes one from the class.
        open_timeout: seconds that :meth:`_create_ws` may take.
        send_timeout: seconds that :meth:`send` may wait for a live connection and for the peer to take the message.
        close_timeout: seconds that :meth:`exit` waits for handlers to finish what they hold, and for the peer.
        handover_timeout: seconds, from when the new connection of a rotation is subscribed, after which the old one is
            closed although the overlap was not proven. 0 closes the old one first, for servers that allow one
            connection; messages may be missing then, and a ``Gap`` says so.
        handover_settle: seconds of agreement between both connections that prove an overlap.
        idle_timeout: seconds without a message after which the connection is replaced. None never does; a ``Quiet``
            event and a warning come at 60 s, 120 s, 240 s …
        reconnect_delays: a function that returns an iterator of the seconds to wait before each retry. By default 0,
            then uniform(0, min(60, 0.5·2ⁿ)). It starts over after a connection that was open for 30 s. When it ends,
            so does the feed.
        encode: makes a frame of what is sent and is neither ``str`` nor bytes: ``str`` for a text frame, bytes for a
            binary one. By default JSON.
        heartbeat: ``(message, seconds)``: a message, or an (async) function that gives one, sent on every connection
            every so many seconds; None for none.
        send_limit: ``(messages, seconds)``: never more messages than that are sent on a connection within so many
            seconds, in a strict rolling window over all that rxws sends; pongs and heartbeats go first, subscriptions
            last. None for no limit.
        should_retry: a function of an exception: True retries, False ends the feed, None leaves it to the rule
            (see :exc:`~rxws.ConnectFailed`).

    Raises:
        RuntimeError: outside a running event loop.
        TypeError: an option is of the wrong kind.
        ValueError: a time is negative, not finite, or zero where that makes no sense.

    Example::

        class Feed(rxws.AsyncWebsocketStreamInterface):
            async def _create_ws(self):
                return await websockets.connect("ws://localhost:8765")

            async def _when2create_new_ws(self):
                await asyncio.sleep(20 * 3600)

            async def _parse_raw_data(self, raw_data):
                return json.loads(raw_data)

        async with Feed() as ws:
            async for trade in ws.stream_filter([{"e": "trade"}]):
                ...
    """

    # All state is behind this one mangled name, and the base never reads its own public names: a subclass may have
    # attributes of any other name.
    __feed: Feed

    def __init__(self, **options: Unpack[FeedOptions]) -> None:
        base = AsyncWebsocketStreamInterface

        def given(hook: str) -> Any:
            method = getattr(self, hook)
            if getattr(method, "__func__", None) is getattr(base, hook):
                return None
            if is_coroutine_function(method):
                raise TypeError(f"{hook} must be a plain function: nobody waits for the coroutine of {name_of(method)}")
            return reject_generator_function(method, hook)

        hooks = Hooks(
            create_ws=self._create_ws,
            when2create_new_ws=self._when2create_new_ws,
            parse=reject_generator_function(self._parse_raw_data, "_parse_raw_data"),
            reply=given("_reply"),
            identity=given("_message_identity"),
            per_connection=given("_is_per_connection"),
        )
        self.__feed = make_feed(hooks, Options.of(type(self), options), type(self).__name__)

    # Hooks

    @abstractmethod
    async def _create_ws(self) -> Any:
        """Return an open connection on which everything is subscribed.

        Anything with the websockets asyncio API will do (``async for``, ``send``, ``close``): what ``await
        websockets.connect(...)`` returns, or ``await picows.websockets.connect(...)``. What it raises is retried
        unless it is fatal; it is cancelled after ``open_timeout`` seconds and by :meth:`exit`.
        """

    @abstractmethod
    async def _when2create_new_ws(self) -> Any:
        """Return, or raise, when it is time for a new connection.

        Called once per connection, and run to its first suspension before the connection's first message is
        delivered, so that a stream made in it misses nothing; streams made in it are closed when it ends. Cancelled
        when its connection ends otherwise. If it ends within 0.25 s of its start, the rotation waits: 0.5 s at first,
        doubling to 60 s.
        """

    @abstractmethod
    def _parse_raw_data(self, raw_data: Any) -> Any:
        """Return the message of a frame: ``str`` of a text frame, ``bytes`` of a binary one.

        A coroutine function or a plain one. It may return :class:`~rxws.Many`. If it raises, waits for longer than
        10 s, or returns a future, a coroutine or an iterator, that frame is skipped, logged, counted, and emitted as
        ``MessageRejected``.
        """

    def _reply(self, raw_data: Any) -> Any:
        """Return what to send back on the same connection at once, an application-level pong, say; None for nothing.

        A plain function, called with each frame as it comes, before it is parsed.
        """
        return None

    def _message_identity(self, message: Any) -> Hashable:
        """Return what makes two messages the same on two connections that overlap. By default the frame itself."""
        raise NotImplementedError("_message_identity is not given: the frame itself is the identity")

    def _is_per_connection(self, message: Any) -> bool:
        """Return whether every new connection gets this message for itself: an acknowledgement, a snapshot.

        Such a message is delivered after a (re)connect, and discarded in a planned rotation. By default none is.
        """
        return False

    # Consuming

    @overload
    def stream_filter(
        self, _filters: Filters = None, *, gaps: Literal[False] = False, **more: Unpack[StreamKeywords]
    ) -> Stream[T]: ...

    @overload
    def stream_filter(
        self, _filters: Filters = None, *, gaps: bool, **more: Unpack[StreamKeywords]
    ) -> Stream[T | Gap]: ...

    def stream_filter(
        self,
        _filters: Filters = None,
        *,
        maxsize: int | None = DEFAULT_MAXSIZE,
        overflow: Overflow = "error",
        gaps: bool = False,
        copy: bool = False,
    ) -> Stream[Any]:
        """Return a stream of the messages that pass a filter, from now on.

        Args:
            _filters: a list of dicts: a message passes if, for any of them, every key is in it with an equal value. A
                key that is a tuple is a path: ``{("data", "s"): "BTCUSDT"}``. None and ``[]`` pass everything. A
                function ``message -> bool`` is taken too; if it raises, the message does not pass. A message that is
                no mapping passes only no filter or a function.
            maxsize: how many messages it may hold; None for no bound.
            overflow: when full: ``"error"`` ends the stream with :exc:`~rxws.StreamOverflow` after what it holds,
                ``"drop_oldest"`` and ``"drop_newest"`` drop, count and report.
            gaps: whether a ``Gap`` object stands in the stream between the last message before a loss and the first
                after it.
            copy: whether each message is a deep copy.

        Raises:
            TypeError: the filter is neither a list of dicts nor a function, or ``maxsize`` is no int.
            ValueError: ``maxsize`` is less than 1, or ``overflow`` unknown.
            RuntimeError: outside the loop's thread.

        Example::

            async for trade in ws.stream_filter([{"e": "trade", "s": "BTCUSDT"}]):
                ...
        """
        return self.__feed.stream(_filters, StreamOptions(maxsize, overflow, gaps, copy))

    def __aiter__(self) -> Stream[T]:
        """Return a stream of all messages from now on, ``stream_filter()``: ``async for message in ws``."""
        return self.__feed.stream(None, StreamOptions())

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
        filters: Filters,
        acknowledged: Filters = None,
        rejected: Filters = None,
        timeout: float = 10.0,
        combine: Callable[[list[Any]], Any] | None = None,
        combine_max: int = 200,
        maxsize: int | None = DEFAULT_MAXSIZE,
        overflow: Overflow = "error",
        gaps: bool = False,
        copy: bool = False,
    ) -> Stream[Any]:
        """Return a stream of something that the server sends as long as it is subscribed.

        The first stream of an equal subscription sends it, the last one to be closed ends it. It is sent again on every
        new connection before that counts as open, so that in a rotation two subscribed connections overlap; what is
        (un)subscribed during an overlap is on both. Of two changes of one thing the second waits for the first; no
        other waits. What cannot be sent, because its function raises or takes longer than ``send_timeout``, is reported
        as ``CallbackFailed`` and tried again with growing delays; the connection opens without it (in a planned
        rotation after 10 s). The stream counts from the call on, and as long as it is open: close it, or let go of it.

        Args:
            subscribe: the message that subscribes: as in :meth:`send`, or an (async) function that gives it, asked
                each time (a fresh token). Two that are equal, whatever the order of their keys, are one subscription
                with the other arguments of the first; a function is equal to itself alone.
            unsubscribe: the message that ends it, or such a function; None: none is sent.
            filters: what belongs to it, as in :meth:`stream_filter`.
            acknowledged: a filter that the server's answer passes; None: none is awaited. One message answers one
                subscription, the one that has waited longest. An answer that does not come in time is reported as
                ``SubscriptionFailed``, and the message is sent once more. Let it pass no refusal: an ``id`` alone may
                belong to an error, too; or give ``rejected``, which is asked first.
            rejected: a filter that the server's refusal passes; None: there is none. A refusal is an answer: it is
                reported as ``SubscriptionFailed`` with what the server said, ends the wait, and the message is not sent
                again before the next connection, nor is ``unsubscribe``; there it is sent last, by itself, and the
                connection opens without it. If several were combined, either half is sent then, and so on, until it is
                known which is refused. (An error that says that it is subscribed already is no refusal:
                ``acknowledged`` is to pass it.)
            timeout: seconds in which an answer must have come. A new connection counts as open once all has been
                answered, or not within that time from when it was sent: one channel that the server never answers makes
                each opening so long; in a planned rotation, where the old one delivers still, after twice that.
            combine: a function of a list of several ``subscribe`` that gives one message for them all; None: each is
                sent by itself. Combined are those that are given the same function object: define it once. If it
                raises, or gives what cannot be sent, that is reported as above, and each that it was given is sent by
                itself.
            combine_max: how many are combined at most.
            maxsize: as in :meth:`stream_filter`.
            overflow: as in :meth:`stream_filter`.
            gaps: as in :meth:`stream_filter`.
            copy: as in :meth:`stream_filter`.

        Raises:
            TypeError: an argument is of the wrong kind, or ``rejected`` is given without ``acknowledged``.
            ValueError: ``timeout`` or ``combine_max`` is not positive, or as in :meth:`stream_filter`.
            RuntimeError: outside the loop's thread.

        Example::

            trades = ws.multiplex(
                {"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1},
                {"method": "UNSUBSCRIBE", "params": ["btcusdt@trade"], "id": 2},
                filters=[{"e": "trade", "s": "BTCUSDT"}],
                acknowledged=[{"id": 1, "result": None}],
                rejected=lambda message: message.get("id") == 1 and "error" in message,
            )
        """
        channel = Channel.checked(
            subscribe,
            unsubscribe,
            acknowledged,
            rejected=rejected,
            timeout=timeout,
            combine=combine,
            combine_max=combine_max,
            encode=self.__feed.options.encode,
        )
        return self.__feed.multiplex(channel, filters, StreamOptions(maxsize, overflow, gaps, copy))

    def add_handler(
        self,
        function_or_coroutine_function: Callable[[T], object],
        filters: Filters = None,
        *,
        maxsize: int | None = DEFAULT_MAXSIZE,
        overflow: Overflow = "error",
    ) -> abc.DisposableBase:
        """Call a function with each message that passes a filter, in order.

        Each coroutine function has a queue of its own: a slow one delays nobody. One that raises is logged, counted,
        emitted as ``CallbackFailed``, and goes on with the next message. Adding and removing inside a handler is safe.

        Args:
            function_or_coroutine_function: called with the message.
            filters: as in :meth:`stream_filter`.
            maxsize: how many messages may wait for a coroutine function; None for no bound.
            overflow: as in :meth:`stream_filter`; ``"error"`` ends the handler, which is reported.

        Returns:
            A Disposable that removes the handler; a call that is under way comes to its end.

        Raises:
            TypeError: it is not callable, or the filter is neither a list of dicts nor a function.
            ValueError: ``maxsize`` is less than 1, or ``overflow`` unknown.
            RuntimeError: outside the loop's thread.

        Example::

            subscription = ws.add_handler(print, [{"e": "trade"}])
            subscription.dispose()
        """
        return self.__feed.add_handler(function_or_coroutine_function, filters, StreamOptions(maxsize, overflow))

    @shadowable
    def messages(self) -> AsyncObservable[T]:
        """The hot Observable of all messages."""
        return self.__feed.router.messages

    @shadowable
    def frames(self) -> AsyncObservable[tuple[str | bytes, int, int]]:
        """The same before parsing: ``(raw, received_ns, connection_number)``, in nanoseconds since the epoch.

        Frames that cannot be parsed are among them. It costs nothing while nobody subscribes.
        """
        return self.__feed.dispatcher.frames

    @shadowable
    def state(self) -> CurrentObservable[State]:
        """The Observable of the feed's :class:`~rxws.State`: the current one, then each new one; also ``.value``."""
        return self.__feed.state

    @shadowable
    def events(self) -> AsyncObservable[Event]:
        """The Observable of what happens to the feed: connections, gaps, failures. Never mixed into the messages."""
        return self.__feed.events

    def statistics(self) -> Statistics:
        """Return a snapshot of the feed's counters. May be called from any thread."""
        return self.__feed.statistics()

    # Sending

    async def send(self, msg: Any) -> None:
        """Hand a message to the live connection, waiting for one if there is none.

        During a rotation that is the new one, from the moment it is open. What was sent is not repeated on the next
        connection. Cancelling leaves it open whether the message was sent.

        Args:
            msg: ``str`` goes as a text frame and bytes as a binary one, anything else as JSON in a text frame.

        Raises:
            SendTimeout: it could not be handed over within ``send_timeout`` seconds; the text says whether it was sent.
                A peer that took nothing for that long is cut off.
            SendFailed: the connection was lost meanwhile.
            FeedClosed: the feed is closed.
            ConnectFailed: the feed has failed.
            ValueError: NaN or infinity, or a lone surrogate, which JSON does not have.
            TypeError: JSON cannot hold it.
            Exception: what an ``encode`` of your own raises.
        """
        await self.__feed.send(msg)

    async def request(self, msg: Any, reply: Filters, *, timeout: float = 10.0) -> T:
        """Send a message and return the first message that passes the filter ``reply``, sent or not because of it.

        Cancelling is safe but for what was sent.

        Args:
            msg: as in :meth:`send`.
            reply: a filter, as in :meth:`stream_filter`.
            timeout: seconds for both.

        Raises:
            TimeoutError: no such message came in time, or nothing could be sent in it, which it tells.
            TypeError: ``timeout`` is no number, or ``reply`` no filter.
            ValueError: ``timeout`` is not positive and finite.
            RxwsError: as in :meth:`send`.

        Example::

            await ws.request({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 7}, [{"id": 7}])
        """
        result: T = await self.__feed.request(msg, reply, timeout)
        return result

    @shadowable
    def present_ws(self) -> Any:
        """The live connection, as :meth:`_create_ws` returned it, or None."""
        self.__feed.context.check()
        connection = self.__feed.sender.present
        return None if connection is None else connection.websocket

    async def wait_enter_handing_ws(self) -> None:
        """Wait for a live connection; ``wait_connected`` is the same. Cancelling is safe.

        Raises:
            ConnectFailed: the feed has failed.
            FeedClosed: the feed is closed.
        """
        await self.__feed.wait_connected()

    wait_connected = wait_enter_handing_ws

    # The life of the connection

    def rotate(self) -> asyncio.Future[bool]:
        """Rotate now, unless a rotation is under way already.

        Returns:
            A future, which need not be awaited: whether the first attempt of the rotation succeeded.

        Raises:
            FeedClosed: the feed is closed.
            ConnectFailed: the feed has failed.
            RuntimeError: outside the loop's thread.
        """
        self.__feed.check_open()
        return self.__feed.rotation.rotate()

    async def exit(self) -> None:
        """Close the feed. Streams deliver what they hold, then end; handlers may finish what they hold.

        Idempotent, bounded by ``close_timeout`` and one second more for hooks and handlers that do not heed their
        cancellation, and callable in any state and from inside a handler. If it is cancelled, closing goes on in the
        background.
        """
        await self.__feed.exit()

    async def wait_closed(self) -> None:
        """Return when the feed has been closed by :meth:`exit`. Cancelling is safe.

        Raises:
            ConnectFailed: the feed has failed.
        """
        await self.__feed.wait_closed()

    async def __aenter__(self) -> Self:
        # Without waiting: a stream made first in the block gets the first message.
        self.__feed.check_open()
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        await type(self).exit(self)
        if error is None:
            self.__feed.raise_if_failed()

    if not TYPE_CHECKING:  # a type checker would take every name for one that is there

        def __getattr__(self, name: str) -> Any:
            # Is asked only for what is not there.
            kind = type(self).__name__
            if name == "_AsyncWebsocketStreamInterface__feed":
                raise RuntimeError(f"{kind}.__init__ must call super().__init__() before the feed is used")
            raise AttributeError(f"{kind!r} object has no attribute {name!r}", name=name, obj=self)

    def __repr__(self) -> str:
        return repr(self.__feed)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Show the feed in a notebook's cell: state, rate since the last look, the last few messages.

        The messages are kept from the first look on, and in a notebook from the beginning.
        """
        return self.__feed.snapshot(repr(self))


def feed_of(interface: AsyncWebsocketStreamInterface[Any]) -> Feed:
    """Return the wiring behind a feed's public form, for what is built around it: a recording, say."""
    feed: Feed = interface._AsyncWebsocketStreamInterface__feed  # type: ignore[attr-defined, unused-ignore]
    return feed
