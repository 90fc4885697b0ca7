"""AsyncWebsocketStreamInterface: a base class that turns three hooks into one Observable and any number of streams."""

from __future__ import annotations

import asyncio
from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Self, Unpack

from .callables import is_coroutine_function, name_of, reject_generator_function, shadowable
from .consuming import Consuming, T, feed_of
from .feed.factory import make_feed
from .feed.hooks import Hooks
from .feed.wiring import Feed
from .messages.filters import Filters
from .options import FeedOptions, Options

__all__ = ["AsyncWebsocketStreamInterface", "T", "feed_of"]


class AsyncWebsocketStreamInterface(Consuming[T], metaclass=ABCMeta):
    """One websocket, kept open for weeks, as one hot Observable that serves any number of streams.

    A subclass implements three hooks: :meth:`_create_ws` opens a connection, :meth:`_when2create_new_ws` returns when
    a new connection is due, and :meth:`_parse_raw_data` turns a frame into a message. The first connection is opened
    after the constructors of all subclasses have returned. A lost connection is replaced after growing, jittered
    delays, even if the server closed it normally. When :meth:`_when2create_new_ws` ends, the feed rotates: it changes
    to a new connection without a gap.

    Four more hooks are optional. ``_create_parser()`` returns the parse hook of one connection, if parsing depends on
    earlier frames of the connection. ``_reply(raw_data)`` returns an answer to send back at once, such as a pong.
    ``_message_identity(message)`` returns the key by which copies are recognized while two connections overlap.
    ``_is_per_connection(message)`` returns whether the server sends the message on every new connection, such as an
    acknowledgement.

    Construct it inside a running event loop. It belongs to that loop's thread, and its methods raise RuntimeError in
    other threads. These work in any thread: :meth:`statistics`, reading ``state.value`` and the ``in_sync`` of
    ``stream.resync``, and disposing a Disposable.

    All consumers share the same message objects. Treat them as read-only, or make streams with ``copy=True``.

    Args:
        name: the feed's name in logs, events and the repr. None makes a name from the class.
        open_timeout: seconds after which an unfinished :meth:`_create_ws` is cancelled. Default 10.
        send_timeout: seconds that :meth:`send` waits for a live connection and for the peer to take the message.
            Default 10.
        close_timeout: seconds that :meth:`exit` waits for handlers to process their queues, and for the peer to close
            the connection. Default 5.
        handover_timeout: seconds after which a rotation closes the old connection even if the overlap is not proven,
            counted from the moment when everything is subscribed on the new connection. Default 5. If messages arrive
            on the new connection alone, the rotation waits up to three times ``handover_settle`` longer, to see whether
            the old one is mute. With 0 the old connection is closed first, for servers that allow only one connection.
            Then messages may be missing, and a ``Gap`` is emitted.
        handover_settle: seconds during which both connections must deliver the same messages to prove the overlap.
            Default 0.5.
        reach: how far one connection may lag behind the other in a rotation, in seconds. For this time a copy of a
            message is awaited on the other connection, and recognized as a copy. If a copy lags more, the time grows.
            Default 2.
        idle_timeout: seconds without a message after which the connection is replaced. None, the default, never
            replaces it; a warning and a ``Quiet`` event are still emitted after 60 s, 120 s, 240 s and so on.
        reconnect_delays: a function that returns an iterator of seconds, one for each retry. By default the delays are
            0, then uniform(0, min(60, 0.5·2ⁿ)). After a healthy connection the function is called again. The feed fails
            when the iterator ends.
        encode: a function that turns a sent message, other than ``str`` and bytes, into a frame: ``str`` for a text
            frame, bytes for a binary frame. By default it writes JSON.
        heartbeat: ``(message, seconds)``: sends the message on every connection at this interval. In place of the
            message you may give an (async) function that returns it. A :class:`~rxws.Heartbeat` also awaits the
            server's answers, and can follow an interval that the server names. None, the default, sends no heartbeat.
        send_limit: ``(messages, seconds)``: sends at most this many messages within any period of this many seconds on
            one connection. Everything that rxws sends counts. Pongs and heartbeats go first, subscriptions last.
            None, the default, sets no limit. An :class:`~rxws.Rate` is shared by all connections and feeds that get it.
        connect_limit: ``(handshakes, seconds)``: opens at most this many connections within any period of this many
            seconds. Attempts that fail count, too. An :class:`~rxws.Rate` is shared by all feeds that get it. The wait
            for it does not count for ``open_timeout``. None, the default, sets no limit.
        resume: for servers that send missed messages again, beginning at a cursor: ``True``, or a filter for the
            message in which the server states that it has sent all of them (``[{"recovered": True}]``). With
            :meth:`multiplex` the filter is applied to the answer to the subscription. After a lost connection, no
            ``Gap`` is reported if one of these proves that no message is missing: copies of messages, the server's
            statement, or the numbers in messages (``sequence``). Copies are not delivered again. With None, the
            default, a ``Gap`` is reported after each lost connection.
        cursor: where a message contains its cursor: a key, a path, or a function of the message. After a lost
            connection the server is asked to begin at the newest cursor that is not None. By default None: the last
            message itself is the cursor. These functions are called with the cursor if they have a required parameter
            for it: ``url``, ``connect_options``, the functions in the list ``on_open``, and
            ``on_open(connection, cursor)``. So is ``subscribe`` of :meth:`multiplex`, with the cursor of its channel.
        sequence: where a message contains its number, which grows by one: a key, a path, or a function of the message;
            or a list of two of these, for the first and the last number of a message. A hole in the numbers is a
            ``Gap``. By default None: messages have no numbers.
        key: where a message names the part of the channel that it belongs to, if the server numbers the messages of
            each part separately: a key, a path, or a function of the message. By default None: the messages of a
            channel are numbered together.
        lines: the number of connections that are open at the same time and have the same messages. Each message is
            delivered once, from the line on which it arrives first. If a line is lost, no message is missing and no
            ``Gap`` is reported, as long as another line has agreed with it for ``handover_settle`` seconds. The lines
            are compared by ``_message_identity``, by default by whole frames. Everything that is sent on each new
            connection, and every channel of :meth:`multiplex`, is sent on every line; :meth:`send` uses the first line
            that is live. Lines rotate one after the other. Default 1.
        channels_per_connection: the largest number of channels of :meth:`multiplex` on one connection. Further
            channels are subscribed on further connections, which are opened as needed, and closed when they have been
            empty for a minute. A subscription of several names counts as one channel. If a connection is lost,
            the streams of its channels get a ``Gap``, and so do streams without a channel. The feed is live while all
            connections are; :meth:`send` uses the first one that is live. By default None: one connection for all.
        sent_at: where a message contains the time when it was sent: a key, a path, or a function of the message. The
            time is a number in ``unit`` since the epoch, also as a str; an ISO 8601 str; or a datetime. None says that
            the message has no time. Then ``statistics().latency`` and ``stream.waiting`` show how old messages are. At
            most one message in each iteration of the loop, and a hundred a second, are measured: only messages that are
            delivered at once, and that are not per connection. By default None: nothing is measured.
        unit: the unit of ``sent_at``: ``"s"``, ``"ms"`` (the default), ``"us"`` or ``"ns"``.
        max_latency: seconds from sending to arrival above which ``LatencyExceeded`` is emitted. ``LatencyRecovered``
            follows when no message was late for five seconds. None, the default, sets no limit.
        should_retry: a function that takes the exception of a failed attempt to connect. True retries, False ends the
            feed, and None applies the rule described at :exc:`~rxws.ConnectFailed`.

    Raises:
        RuntimeError: no event loop is running.
        TypeError: an option is unknown or has the wrong type.
        ValueError: a time is negative or not finite, or is zero where zero is not allowed; or options exclude each
            other, such as ``lines`` and ``channels_per_connection``.

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

    # All state is in this one attribute, whose name is mangled, and this class reads no other attribute. So a subclass
    # may give its attributes any other name.
    __feed: Feed

    def __init__(self, **options: Unpack[FeedOptions]) -> None:
        base = AsyncWebsocketStreamInterface

        def given(hook: str) -> Any:
            method = getattr(self, hook)
            if getattr(method, "__func__", None) is getattr(base, hook):
                return None
            if is_coroutine_function(method) and hook != "_parse_raw_data":
                raise TypeError(f"{hook} must be a plain function, but {name_of(method)} is a coroutine function")
            return reject_generator_function(method, hook)

        if not any([given("_parse_raw_data"), given("_create_parser")]):
            raise TypeError(f"{type(self).__name__} needs the hook _parse_raw_data, or _create_parser")
        hooks = Hooks(
            create_ws=self._create_ws,
            when2create_new_ws=self._when2create_new_ws,
            create_parser=self.__parser,
            is_parser_shared=given("_create_parser") is None,
            reply=given("_reply"),
            identity=given("_message_identity"),
            per_connection=given("_is_per_connection"),
        )
        self.__feed = make_feed(hooks, Options.of(type(self), options), type(self).__name__)

    def __parser(self) -> Callable[[Any], Any]:
        parse = self._create_parser()
        if not callable(parse):
            raise TypeError(f"_create_parser must return a function of a frame, not {parse!r}")
        return reject_generator_function(parse, "the parse hook")

    # Hooks

    @abstractmethod
    async def _create_ws(self) -> Any:
        """Open a connection, subscribe on it, and return it.

        The connection needs the asyncio API of websockets: ``async for``, ``send`` and ``close``. The results of
        ``await websockets.connect(...)`` and ``await picows.websockets.connect(...)`` have it. Called for every new
        connection. Cancelled after ``open_timeout`` seconds and by :meth:`exit`. If it raises, the feed tries again,
        unless the error is fatal (see :exc:`~rxws.ConnectFailed`).

        You may set an attribute ``is_resumed`` on the connection. If it is true before the first message is delivered,
        the feed assumes that the connection begins where the lost one ended. It then emits ``Resumed`` and no ``Gap``.
        """

    @abstractmethod
    async def _when2create_new_ws(self) -> Any:
        """Return when a new connection is due.

        Called once for every connection. The hook runs until it first suspends before the connection's first message
        is delivered, so a stream that it makes at its start misses no message. Streams that the hook makes are closed
        when it ends. The hook is cancelled when its connection ends for another reason. If it raises, the error is
        reported, and the feed rotates too.

        If the hook ends within 0.25 s of its start, the rotation is delayed: by 0.5 s at first, then twice as long each
        time, up to 60 s.
        """

    def _parse_raw_data(self, raw_data: Any) -> Any:
        """Return the message of a frame.

        It may be a coroutine function or a plain function. If a frame contains several messages, or none, return
        :class:`~rxws.Many`. If the frame says that messages are missing, return ``rxws.Gap(start, end)``, alone or in a
        ``Many``, with times in seconds since the epoch. The Gap is announced in its place between the messages. A frame
        is skipped, logged, counted and emitted as ``MessageRejected`` if the hook raises, takes longer than 10 s, or
        returns a future, a coroutine, an iterator, or a Gap without valid times.

        Args:
            raw_data: ``str`` for a text frame, ``bytes`` for a binary frame.
        """
        raise NotImplementedError("_create_parser returns the parse hook")

    def _create_parser(self) -> Callable[[Any], Any]:
        """Return the parse hook of a new connection: a function, or a coroutine function, like :meth:`_parse_raw_data`.

        Override it if the meaning of a frame depends on earlier frames of the same connection: a compressed stream, or
        ids that the server gave on this connection. It must be a plain function. It is called for every connection
        after :meth:`_create_ws`; if it raises, the connection is closed, and the feed tries again. By default every
        connection uses :meth:`_parse_raw_data`. A subclass with this hook needs no ``_parse_raw_data``.

        A recording contains only frames whose messages were delivered. So a replay cannot parse a compressed stream
        after a rotation in which copies were dropped.

        Example::

            def _create_parser(self):
                stream = zlib.decompressobj()
                return lambda raw_data: json.loads(stream.decompress(raw_data))
        """
        return self._parse_raw_data

    def _reply(self, raw_data: Any) -> Any:
        """Return an answer to send back at once on the same connection, such as an application-level pong.

        It must be a plain function. It is called with every frame before the frame is parsed. If it returns None,
        nothing is sent. The default always returns None.
        """
        return None

    def _message_identity(self, message: Any) -> Hashable:
        """Return the key by which copies of a message are recognized while two connections overlap.

        It must be a plain function. By default the frame itself is the key.
        """
        raise NotImplementedError("the subclass has no _message_identity, so the frame itself is the identity")

    def _is_per_connection(self, message: Any) -> bool:
        """Return whether the server sends this message on every new connection, like an acknowledgement or a snapshot.

        It must be a plain function. These messages are delivered after a (re)connect. In a planned rotation they are
        discarded and counted. By default there are no such messages.
        """
        return False

    # Sending

    async def send(self, msg: Any) -> None:
        """Send a message on the live connection; wait for a connection if there is none.

        During a rotation the message goes to the new connection from the moment it is open. A message that was sent is
        not repeated on the next connection. After a cancellation the message may or may not have been sent.

        Args:
            msg: ``str`` is sent as a text frame and bytes as a binary frame. Anything else goes through ``encode``, by
                default as JSON in a text frame.

        Raises:
            SendTimeout: the message could not be sent within ``send_timeout`` seconds. The text says whether a part of
                it may have been sent. A peer that reads nothing for that long is disconnected.
            SendFailed: the connection was lost while the message was being sent.
            FeedClosed: the feed is closed.
            ConnectFailed: the feed has failed.
            ValueError: the message contains NaN, an infinity or a lone surrogate.
            TypeError: the message has no JSON form.
            Exception: your own ``encode`` raised it.
            RuntimeError: the caller is not in the loop's thread.

        Example::

            await ws.send({"method": "PING"})
        """
        await self.__feed.send(msg)

    async def request(self, msg: Any, reply: Filters, *, timeout: float = 10.0) -> T:
        """Send a message, and return the first message after this call that passes the filter ``reply``.

        Any message that passes counts as the reply, so let the filter match an ``id``. Cancelling is safe, but the
        message may have been sent.

        Args:
            msg: as in :meth:`send`.
            reply: a filter, as in :meth:`stream_filter`.
            timeout: seconds for sending and for the reply together.

        Raises:
            TimeoutError: no reply arrived in time, or the message could not be sent in time; the text says which.
            TypeError: ``timeout`` is not a number, or ``reply`` is not a filter.
            ValueError: ``timeout`` is not positive and finite.
            SendFailed: the connection was lost before the reply arrived. The server may have received the message.
            RxwsError: as in :meth:`send`.

        Example::

            await ws.request({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 7}, [{"id": 7}])
        """
        result: T = await self.__feed.request(msg, reply, timeout)
        return result

    @shadowable
    def cursor(self) -> Any:
        """The newest cursor that was received, for :meth:`_create_ws`; None if there is none yet.

        With the option ``cursor`` it is the newest cursor, except None, in a message or in an answer to a subscription.
        Without that option it is the last message. Without the option ``resume`` it is always None.

        A program that must resume after its own restart stores the cursor, and uses the stored one while this is None.
        """
        return self.__feed.cursor

    @shadowable
    def present_ws(self) -> Any:
        """The live connection as :meth:`_create_ws` returned it, or None."""
        self.__feed.context.check()
        connection = self.__feed.sender.present
        return None if connection is None else connection.websocket

    async def wait_enter_handing_ws(self) -> None:
        """Wait until there is a live connection. ``wait_connected`` is the same method. Cancelling is safe.

        Raises:
            ConnectFailed: the feed has failed.
            FeedClosed: the feed is closed.

        Example::

            await ws.wait_connected()
        """
        await self.__feed.wait_connected()

    wait_connected = wait_enter_handing_ws

    # The life of the connection

    def rotate(self) -> asyncio.Future[bool]:
        """Change to a new connection now, unless a rotation is already running.

        Returns:
            A future that need not be awaited: True if the first attempt of the rotation succeeded, False if not.

        Raises:
            FeedClosed: the feed is closed.
            ConnectFailed: the feed has failed.
            RuntimeError: the caller is not in the loop's thread.

        Example::

            succeeded = await ws.rotate()
        """
        self.__feed.check_open()
        return self.__feed.source.rotate()

    async def exit(self) -> None:
        """Close the feed. Streams deliver the messages that they hold, then end; handlers process their queues.

        It returns after at most ``close_timeout`` seconds, plus one second if hooks or handlers ignore their
        cancellation. You may call it repeatedly, in any state, and in a handler. If it is cancelled, the feed still
        closes in the background.

        Example::

            await ws.exit()
        """
        await self.__feed.exit()

    async def wait_closed(self) -> None:
        """Wait until the feed has been closed by :meth:`exit`. Cancelling is safe.

        Raises:
            ConnectFailed: the feed has failed.
        """
        await self.__feed.wait_closed()

    async def __aenter__(self) -> Self:
        # Do not wait for a connection here, so that a stream that is made at the start of the block gets the feed's
        # first message.
        self.__feed.check_open()
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        await type(self).exit(self)
        if error is None:
            self.__feed.raise_if_failed()

    if not TYPE_CHECKING:  # with `__getattr__`, a type checker would accept every attribute

        def __getattr__(self, name: str) -> Any:
            # Python calls this method only for attributes that do not exist.
            kind = type(self).__name__
            if name == "_AsyncWebsocketStreamInterface__feed":
                raise RuntimeError(f"{kind}.__init__ must call super().__init__() before the feed is used")
            raise AttributeError(f"{kind!r} object has no attribute {name!r}", name=name, obj=self)

    def __repr__(self) -> str:
        return repr(self.__feed)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Show the feed in a notebook's cell: state, rate since the last display, the last few messages.

        Messages are kept for a minute after each display; in a notebook also for the feed's first minute.
        """
        return self.__feed.snapshot(repr(self))
