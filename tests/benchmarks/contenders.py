"""Who receives messages, and how fast: each returns messages per second."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import picows.websockets
import websockets

import rxws

from .server import SYMBOLS

Connect = Callable[..., Any]
Contender = Callable[[str, int], Awaitable[float]]

OPTIONS: dict[str, Any] = {"compression": None, "ping_interval": None, "open_timeout": 10}


class Countdown:
    """Counts messages, and takes the time between the first and the last."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.count = count
        self.started = 0.0
        self.done = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        self.started = time.perf_counter()

    def finish(self) -> None:
        if not self.done.done():
            self.done.set_result(self.count / (time.perf_counter() - self.started))


def bare(connect: Connect, decode: Callable[[Any], Any]) -> Contender:
    """Make the loop that people write by hand: it routes nothing."""

    async def receive(url: str, count: int) -> float:
        left = count
        started = 0.0
        connection = await connect(f"{url}?count={count}", **OPTIONS)
        async for frame in connection:
            if not started:
                started = time.perf_counter()
            decode(frame)
            left -= 1
            if not left:
                break
        rate = count / (time.perf_counter() - started)
        await connection.close()
        return rate

    return receive


class Feed(rxws.AsyncWebsocketStreamInterface[Any]):
    """The abstract class with an async parse hook."""

    def __init__(self, connect: Connect, url: str) -> None:
        super().__init__()
        self.connect = connect
        self.url = url
        self.first = 0.0

    async def _create_ws(self) -> Any:
        connection = await self.connect(self.url, **OPTIONS)
        self.first = time.perf_counter()
        return connection

    async def _when2create_new_ws(self) -> None:
        await asyncio.Event().wait()

    async def _parse_raw_data(self, raw_data: Any) -> Any:
        return msgspec.json.decode(raw_data)


async def until_received(feed: Feed, count: int) -> float:
    """Return messages per second once ``count`` have been routed."""
    while (feed.statistics()).messages < count:
        await asyncio.sleep(0.01)
    return count / (time.perf_counter() - feed.first)


def subscribed(connect: Connect, shared: dict[str, Any] | None = None) -> Contender:
    """Make rxws with a stream per symbol, each with a subscriber; ``shared`` is in the filter of all of them."""

    async def receive(url: str, count: int) -> float:
        async with Feed(connect, f"{url}?count={count}") as feed:
            seen = 0
            finished = asyncio.get_running_loop().create_future()

            def take(_message: Any) -> None:
                nonlocal seen
                seen += 1
                if seen == count:
                    finished.set_result(time.perf_counter())

            for number in range(SYMBOLS):
                feed.stream_filter([{**(shared or {}), "s": f"S{number:04}USDT"}]).subscribe(take)
            return count / (await finished - feed.first)

    return receive


def iterated(connect: Connect) -> Contender:
    """Make rxws with a stream per symbol, each consumed by a task with ``async for``."""

    async def receive(url: str, count: int) -> float:
        async with Feed(connect, f"{url}?count={count}") as feed:
            left = count
            finished = asyncio.get_running_loop().create_future()

            async def consume(stream: rxws.Stream[Any]) -> None:
                nonlocal left
                async for _message in stream:
                    left -= 1
                    if not left:
                        finished.set_result(time.perf_counter())

            async with asyncio.TaskGroup() as tasks:
                for number in range(SYMBOLS):
                    tasks.create_task(consume(feed.stream_filter([{"s": f"S{number:04}USDT"}])))
                rate = count / (await finished - feed.first)
                await feed.exit()
            return rate

    return receive


json_loads = json.loads
msgspec_decode = msgspec.json.decode
on_websockets = websockets.connect
on_picows = picows.websockets.connect


def on_picows_bounded(url: str, **options: Any) -> Any:
    """Connect with picows, which reads at once whatever the kernel holds, and so let that be 256 KiB at most."""

    async def open_socket(parsed: Any) -> socket.socket:
        opened = socket.socket()
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**17)  # the kernel doubles it
        opened.setblocking(False)
        await asyncio.get_running_loop().sock_connect(opened, (parsed.host, parsed.port))
        return opened

    return picows.websockets.connect(url, socket_factory=open_socket, **options)


class Stamped:
    """Notes how long ago the bytes of each message came: in the order in which frames are made of them."""

    def __init__(self) -> None:
        self.arrived = 0.0
        self.waits: list[float] = []

    def watch(self, connection: Any) -> Any:
        """Note when bytes come on a connection of websockets."""
        receive = connection.data_received

        def data_received(data: bytes) -> None:
            self.arrived = time.perf_counter()
            receive(data)

        connection.data_received = data_received
        return connection

    def note(self) -> None:
        """Note that a message has reached whom it is for."""
        self.waits.append(time.perf_counter() - self.arrived)

    def figures(self) -> tuple[float, float]:
        """Return the median and the 99th percentile, in seconds."""
        waits = sorted(self.waits)
        return waits[len(waits) // 2], waits[len(waits) * 99 // 100]


SECONDS_OF_LATENCY = 2


async def bare_latencies(url: str, rate: int) -> tuple[float, float]:
    """Take the loop that people write by hand, its body included, at so many messages a second."""
    stamped = Stamped()
    count = left = rate * SECONDS_OF_LATENCY
    connection = stamped.watch(await on_websockets(f"{url}?count={count}&rate={rate}", **OPTIONS))
    async for frame in connection:
        msgspec_decode(frame)
        stamped.note()
        left -= 1
        if not left:
            break
    await connection.close()
    return stamped.figures()


async def handler_latencies(url: str, rate: int) -> tuple[float, float]:
    """Take rxws with a handler, among the streams of 1,000 symbols, at so many messages a second."""
    stamped = Stamped()
    count = left = rate * SECONDS_OF_LATENCY
    finished = asyncio.get_running_loop().create_future()

    async def connect(url: str, **options: Any) -> Any:
        return stamped.watch(await on_websockets(url, **options))

    def handle(_message: Any) -> None:
        nonlocal left
        stamped.note()
        left -= 1
        if not left:
            finished.set_result(None)

    async with Feed(connect, f"{url}?count={count}&rate={rate}") as feed:
        streams = [feed.stream_filter([{"s": f"T{number:04}USDT"}]) for number in range(SYMBOLS)]
        feed.add_handler(handle)
        await finished
        del streams
    return stamped.figures()


def routed(connect: Connect, streams: int) -> Contender:
    """Make rxws with so many disjoint streams, and one subscriber of all messages."""

    async def receive(url: str, count: int) -> float:
        async with Feed(connect, f"{url}?count={count}") as feed:
            seen = 0
            finished = asyncio.get_running_loop().create_future()

            def take(_message: Any) -> None:
                nonlocal seen
                seen += 1
                if seen == count:
                    finished.set_result(time.perf_counter())

            kept = [feed.stream_filter([{"x": number}], maxsize=1) for number in range(streams)]
            feed.messages.subscribe(take)
            rate = count / (await finished - feed.first)
            del kept
            return rate

    return receive


def replaced() -> Contender:
    """Make the package that rxws replaces: per message it asks and copies for every stream."""
    # An extra of its own, because of what it brings along.
    import loguru
    from AsyncWebsocketStreamInterface import AsyncWebsocketStreamInterface

    loguru.logger.remove()

    class Replaced(AsyncWebsocketStreamInterface):
        def __init__(self, url: str) -> None:
            super().__init__()
            self.url = url
            self.first = 0.0

        async def _create_ws(self) -> Any:
            connection = await websockets.connect(self.url, **OPTIONS)
            self.first = time.perf_counter()
            return connection

        async def _when2create_new_ws(self) -> None:
            await asyncio.Event().wait()

        async def _parse_raw_data(self, raw_data: Any) -> Any:
            return json.loads(raw_data)

    async def receive(url: str, count: int) -> float:
        feed = Replaced(f"{url}?count={count}")
        finished = asyncio.get_running_loop().create_future()
        seen = 0

        def take(_message: Any) -> None:
            nonlocal seen
            seen += 1
            if seen == count:
                finished.set_result(time.perf_counter())

        for number in range(SYMBOLS):
            feed.stream_filter([{"s": f"S{number:04}USDT"}])
        feed.add_handler(take)
        rate = count / (await finished - feed.first)
        await feed.exit()
        return rate

    return receive
