"""ReactiveWebSocket: the ready-made feed, made from a URL."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import ipaddress
import types
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, Unpack
from urllib.parse import urlsplit

import reactivex
import websockets
from reactivex import Observable
from reactivex import operators as ops
from websockets.asyncio.client import connect as connect_websockets

from . import codec
from .callables import asks_for, is_coroutine_function, name_of, resolve, takes
from .checks import check_seconds
from .connections.backoff import Address
from .connections.transport import abort_websocket, check_websocket
from .feed.hooks import ADDRESS
from .interface import AsyncWebsocketStreamInterface, T, feed_of
from .messages.filters import Filter, Filters
from .messages.frames import Websocket
from .messages.hooks import Many
from .observables.observable import on_loop
from .options import FeedOptions
from .reporting.library_log import library_logger
from .reporting.redaction import redact_url

__all__ = ["ReactiveWebSocket"]

#: Seconds after which the next address of a host is tried too, if the one before has not answered (RFC 8305).
HAPPY_EYEBALLS_DELAY: Final = 0.25

OneUrl = str | Callable[[], str | Awaitable[str]] | Callable[[Any], str | Awaitable[str]]
Url = OneUrl | Sequence[OneUrl]
ConnectOptions = (
    Mapping[str, Any]
    | Callable[[], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
    | Callable[[Any], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
    | None
)
F = TypeVar("F")
OnOpen = Iterable[Any] | Callable[[Any], Awaitable[object]] | Callable[[Any, Any], Awaitable[object]]


class ReactiveWebSocket(AsyncWebsocketStreamInterface[T]):
    """A feed made from a URL: an :class:`~rxws.AsyncWebsocketStreamInterface` whose hooks are implemented.

    ``ReactiveWebSocket[T]`` tells type checkers that ``decode`` returns messages of type ``T``.

    Args:
        url: the address, or an (async) function that returns it. The function is called for every connection, so it can
            get a fresh listen key. A list of addresses and functions: after a failure the next one is used, and the
            first one again when its delay is over. With ``lines`` each line begins with a different one.
        connect: a function with the signature of ``websockets.connect``, such as ``rxws.picows.connect``.
        connect_options: keyword arguments of ``connect`` (``additional_headers=…``, ``ssl=…``), or an (async) function
            that returns them, called for every connection. None passes none. ``websockets.connect`` and
            ``rxws.picows.connect`` get ``happy_eyeballs_delay=0.25`` by default: if an address of a host has not
            answered for 0.25 s, the next address is tried too. (Not on uvloop, which does not support it, and not if
            the host is an IP address.) They also get ``logger``, a child of ``websockets.client`` whose lines contain
            no secrets.
        decode: a function or a coroutine function that turns a frame into a message; by default
            ``msgspec.json.decode``. ``msgspec.json.Decoder(Trade).decode`` gives typed messages. For a frame of several
            messages, or none, it may return :class:`~rxws.Many`: ``Many(items)``, ``Many()``. With the default, a frame
            of 512 bytes or more is decoded lazily while every consumer has a filter of dicts and no option looks into
            each message (``split``, ``identity``, ``per_connection``, ``resume``, ``sent_at``): the keys of the filters
            are decoded first, and the whole message when a consumer takes it. If that fails, the frame is rejected
            then. If no consumer wants the message, invalid JSON elsewhere in the frame may not be noticed.
        decoder_factory: a plain function without parameters that returns the ``decode`` of a new connection, for frames
            whose meaning depends on earlier frames of the same connection, see :meth:`_create_parser`. It excludes
            ``decode``. None, the default, uses ``decode`` on every connection.
        split: whether a list that ``decode`` returns is split into one message per item.
        rotate_every: seconds after which a connection is replaced. None, the default, never rotates by time.
        rotate_on: a filter, as in :meth:`stream_filter`, or an Observable. The feed rotates when a message passes the
            filter or the Observable emits. The Observable is subscribed again for every connection. If it ends with an
            error, the error is reported, and the feed does not rotate. By default None: neither of them.
        on_open: the first action on every new connection, before it counts as open. Either a list of messages to send
            and of (async) functions that return a message to send within ``send_timeout``; or one ``async def
            on_open(connection)``, which uses the raw connection and must finish within ``open_timeout``. Messages that
            this function sends do not count for ``send_limit``. If it raises, the connection is closed, and the feed
            tries again.
        identity: a function of a message, see :meth:`_message_identity`. None uses the frame itself.
        per_connection: a filter for the messages that the server sends on every new connection, see
            :meth:`_is_per_connection`. None matches no message.
        reply: a function of a frame, see :meth:`_reply`. None sends no replies.
        options: ``name``, ``encode``, ``heartbeat`` and all other options of
            :class:`~rxws.AsyncWebsocketStreamInterface`.

    Raises:
        RuntimeError: outside a running event loop.
        TypeError: an argument is unknown or has the wrong type.
        ValueError: a time is not positive and finite, or another argument has a value that is not allowed.

    Example::

        async with rxws.ReactiveWebSocket("ws://localhost:8765", rotate_every=20 * 3600) as ws:
            async for message in ws.stream_filter():
                ...
    """

    def __init__(
        self,
        url: Url,
        *,
        # How to connect
        connect: Callable[..., Any] = websockets.connect,
        connect_options: ConnectOptions = None,
        on_open: OnOpen = (),
        # What a frame means
        decode: Callable[[str | bytes], Many[T] | T | Awaitable[Many[T] | T]] = codec.decode,
        decoder_factory: Callable[[], Callable[[str | bytes], Many[T] | T | Awaitable[Many[T] | T]]] | None = None,
        split: bool = False,
        identity: Callable[[T], Hashable] | None = None,
        per_connection: Filters = None,
        reply: Callable[[str | bytes], Any] | None = None,
        # When to rotate
        rotate_every: float | None = None,
        rotate_on: Observable[Any] | Filters = None,
        **options: Unpack[FeedOptions],
    ) -> None:
        if hasattr(url, "__aenter__"):
            raise TypeError("url is a context manager: is an 'async with … as url' missing?")
        urls = list(url) if isinstance(url, list | tuple) else [url]
        if not urls:
            raise ValueError("url must be an address or a list of at least one, not an empty list")
        for each in urls:
            _check_source("url", each, str, "a str")
        _check_source("connect_options", connect_options, Mapping | None, "a mapping")
        if rotate_every is not None:
            check_seconds("rotate_every", rotate_every, zero=False)
        self.__resumes = options.get("resume") is not None
        if self.__resumes and split and identity is None:
            raise ValueError("resume with split=True needs identity=: messages may be repeated in other frames")
        self.__urls = [self.__with_cursor("url", 1, each) for each in urls]
        self.__connect = _checked("connect", connect)
        self.__connect_options = self.__with_cursor("connect_options", 1, connect_options)
        # The sender sends the messages of a list, so that they count for send_limit.
        messages = [self.__with_cursor("a function in on_open", 1, each) for each in _messages_of(on_open)]
        self.__on_open = self.__with_cursor("on_open", 2, on_open) if callable(on_open) else None
        self.__decode = _checked("decode", decode)
        if decoder_factory is not None:
            if not takes(0, decoder_factory):
                raise TypeError(f"decoder_factory must be a plain function without parameters, not {decoder_factory!r}")
            if decode is not codec.decode:
                raise TypeError("decode and decoder_factory exclude each other")
        self.__decoder_factory = decoder_factory
        self.__split = split
        self.__rotate_every = rotate_every
        if not isinstance(rotate_on, Observable | None):
            rotate_on = Filter.parse(rotate_on, "rotate_on")
        self.__rotate_on = rotate_on
        self.__set_hooks(identity, per_connection, reply)
        super().__init__(**options)
        feed_of(self).sender.on_open = tuple(messages)
        feed_of(self).opener.addresses.extend(Address() for _ in urls[1:])
        if type(self)._create_ws is ReactiveWebSocket._create_ws:
            # The user did not write the hook and does not know its name, so error texts must not use it.
            feed_of(self).opener.name = f"connecting to {self.shown_url or 'the URL that a function returns'}"

    def __with_cursor(self, what: str, parameters: int, function: Any) -> Any:
        """Return ``function``, or if it has a parameter for the cursor, a function that passes the cursor to it."""
        if not asks_for(parameters, function):
            return function
        if not self.__resumes:
            raise TypeError(f"{what}: {name_of(function)} has a parameter for the cursor, which needs resume=")
        # `wraps` keeps the name of the user's function for error texts.
        return functools.wraps(function)(lambda *arguments: function(*arguments, feed_of(self).cursor))

    def __set_hooks(self, identity: Any, per_connection: object, reply: Any) -> None:
        """Set the given hooks on the instance. A hook that is not set costs nothing per message."""
        decode = self.__decode
        gives_messages = is_coroutine_function(decode) or isinstance(decode, types.BuiltinFunctionType)
        if gives_messages and not self.__split and type(self)._parse_raw_data is ReactiveWebSocket._parse_raw_data:
            self._parse_raw_data = decode  # type: ignore[method-assign, assignment]
        if self.__decoder_factory is not None and type(self)._create_parser is ReactiveWebSocket._create_parser:
            self._create_parser = self.__parser_of_factory  # type: ignore[method-assign]
        if identity is not None:
            self._message_identity = _checked("identity", identity)  # type: ignore[method-assign]
        if per_connection is not None:
            self._is_per_connection = Filter.parse(per_connection, "per_connection")  # type: ignore[method-assign]
        if reply is not None:
            self._reply = _checked("reply", reply)  # type: ignore[method-assign]

    async def _create_ws(self) -> Websocket:
        url = await resolve(self.__urls[ADDRESS.get()])
        options = await resolve(self.__connect_options) or {}
        if type(self)._create_ws is ReactiveWebSocket._create_ws and isinstance(url, str):
            feed_of(self).opener.name = f"connecting to {redact_url(url)}"
        if self.__connect is websockets.connect or _is_subclass_of_connect(self.__connect):
            options = {"logger": library_logger(), **options}
            if "unix" not in options and _takes_happy_eyeballs(url):
                options = {"happy_eyeballs_delay": HAPPY_EYEBALLS_DELAY, **options}
        websocket = check_websocket(await self.__connect(url, **options), "connect")
        try:
            if self.__on_open is not None:
                done = self.__on_open(websocket)
                if not inspect.isawaitable(done):
                    what = name_of(self.__on_open)
                    raise TypeError(f"on_open must be an 'async def on_open(connection)', not {what}")
                await done
        except BaseException:
            # Abort the connection here, because the caller does not have it yet.
            abort_websocket(websocket)
            raise
        return websocket

    async def _when2create_new_ws(self) -> None:
        # The signals are merged with `never`, because without it the completion of all signals would end the hook. The
        # signals are subscribed before this hook first suspends, so a signal in the first message is not missed.
        await on_loop(reactivex.merge(*self.__rotation_signals(), reactivex.never())).pipe(ops.first())

    def __rotation_signals(self) -> Iterator[Observable[Any]]:
        if self.__rotate_every is not None:
            yield reactivex.timer(self.__rotate_every)
        if isinstance(self.__rotate_on, Observable):
            yield self.__rotate_on.pipe(ops.catch(self.__rotation_signal_failed))
        elif self.__rotate_on is not None:
            # Call the method of the base class, because a subclass may use the name for another attribute.
            yield super().stream_filter(self.__rotate_on)

    def __rotation_signal_failed(self, error: Exception, _source: object) -> Observable[Any]:
        # Report the error and do not rotate, because a new connection would not fix it.
        feed_of(self).reporter.failed("rotate_on", None, error)
        return reactivex.never()

    def __parser_of_factory(self) -> Callable[[str | bytes], Any]:
        assert self.__decoder_factory is not None
        decode = _checked("the result of decoder_factory", self.__decoder_factory())
        return functools.partial(self.__parse, decode) if self.__split else decode

    def _parse_raw_data(self, raw_data: str | bytes) -> Any:
        return self.__parse(self.__decode, raw_data)

    def __parse(self, decode: Callable[[str | bytes], Any], raw_data: str | bytes) -> Any:
        message = decode(raw_data)
        return self.__split_later(message) if inspect.isawaitable(message) else self.__split_now(message)

    async def __split_later(self, message: Awaitable[T]) -> Any:
        return self.__split_now(await message)

    def __split_now(self, message: Any) -> Any:
        return Many(message) if self.__split and isinstance(message, list) else message

    @property
    def shown_url(self) -> str | None:
        """The first address without its secrets, for display. None if it is a function."""
        return redact_url(self.__urls[0]) if isinstance(self.__urls[0], str) else None

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, {self.shown_url or 'URL from a function'}>"


def _is_subclass_of_connect(connect: object) -> bool:
    """Return whether ``connect`` has the options of ``websockets.connect``, which is a class."""
    return isinstance(connect, type) and issubclass(connect, connect_websockets)


def _takes_happy_eyeballs(url: object) -> bool:
    """Return whether to try the addresses of the URL's host in parallel.

    uvloop does not support it. For an IP address there is only one address to try, and a cancelled attempt could leave
    a socket open.
    """
    with contextlib.suppress(ValueError):  # the host is not an IP address
        ipaddress.ip_address((urlsplit(url).hostname if isinstance(url, str) else None) or "")
        return False
    return isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)


def _check_source(argument: str, given: object, kind: Any, wanted: str) -> None:
    if not isinstance(given, kind) and not callable(given):
        raise TypeError(f"{argument} must be {wanted} or a function that returns one, not {type(given).__name__}")


def _checked(argument: str, function: F) -> F:
    if not callable(function):
        raise TypeError(f"{argument} must be a function, not {function!r}")
    return function


def _messages_of(on_open: OnOpen) -> tuple[Any, ...]:
    if callable(on_open):
        return ()
    if isinstance(on_open, str | bytes | Mapping) or not isinstance(on_open, Iterable):
        raise TypeError(
            "on_open must be a list of messages and of functions that return messages, or one 'async def "
            f"on_open(connection)', not {type(on_open).__name__}"
        )
    return tuple(on_open)
