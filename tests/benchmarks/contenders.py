"""The contenders. Each receives messages and measures this process's processor time per message, in microseconds.

First a fifth of the messages warm up the same connection. Then the time runs from the contender's order until the last
message has reached its consumer. Connecting, subscribing and closing are not included.
"""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import time
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import picows.websockets
import websockets
from reactivex import operators as ops
from reactivex.subject import Subject

import rxws

from .frames import SYMBOLS, order, symbol

WANTED: Final = 100
"""A program that wants 1 % of the messages subscribes every hundredth symbol, including the last one of an order."""

Connect = Callable[..., Any]
Decode = Callable[[Any], Any]
Send = Callable[[str], Awaitable[Any]]

OPTIONS: dict[str, Any] = {"compression": None, "ping_interval": None, "open_timeout": 10}

json_loads = json.loads
msgspec_decode = msgspec.json.decode
on_websockets = websockets.connect
on_picows = picows.websockets.connect
# An older checkout, which --compare measures, has only picows' own connection.
on_pushed = rxws.picows.connect if "picows" in dir(rxws) else on_picows


@dataclass(frozen=True)
class Run:
    """The URL of the server, and the factor for the numbers of messages."""

    url: str
    scale: float = 1.0

    def scaled(self, count: int) -> int:
        """Return ``count`` times the scale, rounded so that a fifth of it also ends with the last symbol."""
        whole = 5 * SYMBOLS
        return max(1, round(count * self.scale / whole)) * whole


Measure = Callable[[Run], Coroutine[Any, Any, float]]
"""Measures a cost. Lower is better."""


class Countdown:
    """Counts the messages that reach their consumers."""

    __slots__ = ("finished", "left")

    def __init__(self) -> None:
        self.left = 0
        self.finished: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def take(self, _message: Any) -> None:
        """Count a message."""
        self.left -= 1
        if not self.left:
            self.finished.set_result(time.process_time())

    async def microseconds_each(self, send: Send, count: int, kind: str = "trade", wanted: int = 1) -> float:
        """Order ``count`` messages, of which one in ``wanted`` is consumed; return the processor time per message."""
        started = ended = 0.0
        for number in (count // 5, count):
            self.left = number // wanted
            self.finished = asyncio.get_running_loop().create_future()
            gc.collect()
            started = time.process_time()
            await send(order(number, kind))
            ended = await self.finished
        return (ended - started) / count * 1e6


class Feed(rxws.AsyncWebsocketStreamInterface[Any]):
    """A subclass of the abstract class with an async parse hook, so that the user's code decodes."""

    def __init__(self, connect: Connect, url: str, **options: Any) -> None:
        super().__init__(**options)
        self.connect = connect
        self.url = url

    async def _create_ws(self) -> Any:
        return await self.connect(self.url, **OPTIONS)

    async def _when2create_new_ws(self) -> None:
        await asyncio.Event().wait()

    async def _parse_raw_data(self, raw_data: Any) -> Any:
        return msgspec_decode(raw_data)


class Trade(msgspec.Struct):
    """A trade as a Struct."""

    e: str
    s: str
    t: int
    p: str
    q: str
    T: int


class TypedFeed(Feed):
    """The same with Structs as messages."""

    _decode = staticmethod(msgspec.json.Decoder(Trade).decode)

    async def _parse_raw_data(self, raw_data: Any) -> Any:
        return self._decode(raw_data)


class ResumingFeed(Feed):
    """The same with a cursor, so that the newest messages are kept."""

    def __init__(self, connect: Connect, url: str) -> None:
        super().__init__(connect, url, resume=True, cursor="t")


def ready_made(connect: Connect, url: str, **options: Any) -> rxws.ReactiveWebSocket[Any]:
    """Make a feed of the ready-made class, so that rxws decodes; ``options`` are those of ``connect``."""
    return rxws.ReactiveWebSocket(url, connect=connect, connect_options=OPTIONS | options)


def bare(connect: Connect, decode: Decode, count: int, kind: str = "trade") -> Measure:
    """Make a contender: the loop that programmers write by hand, which decodes all messages and routes none."""

    async def measure(run: Run) -> float:
        connection = await connect(run.url, **OPTIONS)
        total = run.scaled(count)
        started = ended = 0.0
        for number in (total // 5, total):
            left = number
            gc.collect()
            started = time.process_time()
            await connection.send(order(number, kind))
            async for frame in connection:
                decode(frame)
                left -= 1
                if not left:
                    break
            ended = time.process_time()
        await connection.close()
        return (ended - started) / total * 1e6

    return measure


def subscribed(
    connect: Connect,
    count: int,
    shared: dict[str, Any] | None = None,
    *,
    key: str | int = "s",
    kind: str = "trade",
    make: type[Feed] = Feed,
) -> Measure:
    """Make a contender: rxws with a subscribed stream per symbol.

    Args:
        connect: connects with the library.
        count: number of messages.
        shared: what all filters contain.
        key: the key, or the position, of the symbol.
        kind: the kind of the frames.
        make: the class of the feed.
    """

    async def measure(run: Run) -> float:
        countdown = Countdown()
        async with make(connect, run.url) as feed:
            for number in range(SYMBOLS):
                feed.stream_filter([{**(shared or {}), key: symbol(number)}]).subscribe(countdown.take)
            return await countdown.microseconds_each(feed.send, run.scaled(count), kind)

    return measure


RATE: Final = 10_000
"""Messages a second of a feed with lines. Without pauses one line would be far ahead of the other."""


def lined(connect: Connect, count: int, lines: int) -> Measure:
    """Make a contender: rxws with a subscribed stream per symbol, and ``lines`` connections that bring all messages."""

    async def measure(run: Run) -> float:
        countdown, total = Countdown(), run.scaled(count)
        opened: list[Any] = []

        async def connect_and_keep(url: str, **options: Any) -> Any:
            opened.append(await connect(url, **options))
            return opened[-1]

        async with Feed(connect_and_keep, run.url, lines=lines) as feed:
            for number in range(SYMBOLS):
                feed.stream_filter([{"s": symbol(number)}]).subscribe(countdown.take)
            await feed.wait_connected()
            while len(opened) < lines:
                await asyncio.sleep(0.01)
            started = ended = first = 0
            for number in (4 * RATE, total):
                countdown.left = number
                countdown.finished = asyncio.get_running_loop().create_future()
                gc.collect()
                started = time.process_time()
                for connection in opened:
                    await connection.send(order(number, "trade", RATE, first))
                ended = await countdown.finished
                first += number
            assert all(line.is_joined for line in feed.statistics().lines)
        return (ended - started) / total * 1e6

    return measure


def second_line(connect: Connect, count: int) -> Measure:
    """Make a contender: what a second line costs, which is the cost of a feed with two lines less that with one."""
    one, two = lined(connect, count, 1), lined(connect, count, 2)

    async def measure(run: Run) -> float:
        return await two(run) - await one(run)

    return measure


def iterated(connect: Connect, count: int) -> Measure:
    """Make a contender: rxws with a stream per symbol, and a task per stream that iterates with ``async for``."""

    async def consume(stream: rxws.Stream[Any], countdown: Countdown) -> None:
        async for message in stream:
            countdown.take(message)

    async def measure(run: Run) -> float:
        countdown = Countdown()
        async with Feed(connect, run.url) as feed, asyncio.TaskGroup() as tasks:
            for number in range(SYMBOLS):
                tasks.create_task(consume(feed.stream_filter([{"s": symbol(number)}]), countdown))
            cost = await countdown.microseconds_each(feed.send, run.scaled(count))
            await feed.exit()
        return cost

    return measure


def looped(connect: Connect, count: int) -> Measure:
    """Make a contender: ``ReactiveWebSocket`` with one ``async for`` over all messages.

    In a burst the stream holds most of the messages before the loop takes them. The cost of holding them is included.
    """

    async def measure(run: Run) -> float:
        async with ready_made(connect, run.url) as feed:
            stream = feed.stream_filter()
            total = run.scaled(count)
            await _loop(stream, feed.send, total // 5)
            return await _loop(stream, feed.send, total) / total * 1e6

    return measure


async def _loop(stream: AsyncIterable[Any], send: Send, count: int) -> float:
    """Return the processor time of ``count`` messages in one loop, in seconds."""
    left = count
    gc.collect()
    started = time.process_time()
    await send(order(count))
    async for _message in stream:
        left -= 1
        if not left:
            break
    return time.process_time() - started


def wanting_few(connect: Connect, count: int, kind: str = "trade") -> Measure:
    """Make a contender: ``ReactiveWebSocket`` with subscribed streams for 1 % of the symbols."""

    async def measure(run: Run) -> float:
        countdown = Countdown()
        async with ready_made(connect, run.url) as feed:
            for number in range(WANTED - 1, SYMBOLS, WANTED):
                feed.stream_filter([{"s": symbol(number)}]).subscribe(countdown.take)
            return await countdown.microseconds_each(feed.send, run.scaled(count), kind, WANTED)

    return measure


def routed(connect: Connect, count: int, streams: int) -> Measure:
    """Make a contender: rxws with ``streams`` disjoint streams, and one subscriber of all messages."""

    async def measure(run: Run) -> float:
        countdown = Countdown()
        async with Feed(connect, run.url) as feed:
            kept = [feed.stream_filter([{"x": number}], maxsize=1) for number in range(streams)]
            feed.messages.subscribe(countdown.take)
            cost = await countdown.microseconds_each(feed.send, run.scaled(count))
            del kept
            return cost

    return measure


def with_subject(connect: Connect, count: int) -> Measure:
    """Make a contender: plain Rx with a Subject, and an ``ops.filter`` per stream."""

    async def measure(run: Run) -> float:
        countdown = Countdown()
        subject: Subject[Any] = Subject()
        for number in range(SYMBOLS):
            wanted = symbol(number)
            subject.pipe(ops.filter(lambda message, wanted=wanted: message["s"] == wanted)).subscribe(countdown.take)
        connection = await connect(run.url, **OPTIONS)

        async def receive() -> None:
            async for frame in connection:
                subject.on_next(msgspec_decode(frame))

        receiving = asyncio.create_task(receive())
        cost = await countdown.microseconds_each(connection.send, run.scaled(count))
        await connection.close()
        await receiving
        return cost

    return measure


def replaced(count: int) -> Measure:
    """Make a contender: the package that rxws replaces, which checks every stream for each message, and copies.

    It takes milliseconds per message, so there is no warm-up and no scale.
    """

    async def measure(run: Run) -> float:
        # The package is in a separate extra, because of its dependencies.
        import loguru
        from AsyncWebsocketStreamInterface import AsyncWebsocketStreamInterface

        loguru.logger.remove()
        countdown = Countdown()
        countdown.left = count
        started = 0.0

        class Replaced(AsyncWebsocketStreamInterface):
            async def _create_ws(self) -> Any:
                nonlocal started
                connection = await websockets.connect(run.url, **OPTIONS)
                started = time.process_time()
                await connection.send(order(count))
                return connection

            async def _when2create_new_ws(self) -> None:
                await asyncio.Event().wait()

            async def _parse_raw_data(self, raw_data: Any) -> Any:
                return json.loads(raw_data)

        feed = Replaced()
        for number in range(SYMBOLS):
            feed.stream_filter([{"s": symbol(number)}])
        feed.add_handler(countdown.take)
        ended = await countdown.finished
        await feed.exit()
        return (ended - started) / count * 1e6

    return measure


async def on_pushed_bounded(url: str, **options: Any) -> Any:
    """Connect with picows and a kernel buffer of at most 256 KiB, because picows reads the whole buffer at once."""
    address = urlsplit(url)
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**17)  # The kernel doubles it.
    opened.setblocking(False)
    await asyncio.get_running_loop().sock_connect(opened, (address.hostname, address.port))
    return await on_pushed(url, sock=opened, **options)
