"""A TCP proxy that injects the faults of a network, with the toxics of toxiproxy."""

from __future__ import annotations

import asyncio
import enum
import operator
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, fields, replace
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from rxws.testing.connection import reset_transport
from rxws.testing.waiting import Changes

CHUNK = 65_536
TICK = 0.01
"""Seconds between two sends of a throttled direction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Toxics:
    """The faults of one direction. All times are in seconds. The defaults are those of a healthy network."""

    latency: float = 0.0
    """Delay of all bytes."""
    jitter: float = 0.0
    """Maximum of an additional random delay of each piece; the order is kept."""
    bandwidth: float | None = None
    """Maximum number of bytes per second. None means no limit."""
    slow_close: float = 0.0
    """Delay of the end of the stream."""
    timeout: float | None = None
    """No bytes pass, and the connection is closed after this time (0: never)."""
    reset_peer: float | None = None
    """The connection is reset (RST to both sides) after this time."""
    slicer: int | None = None
    """Size of the slices in which bytes pass, each in its own TCP segment if the system allows it."""
    slicer_delay: float = 0.0
    """Time between two slices."""
    limit_data: int | None = None
    """The connection is closed after this number of bytes, counted from its opening."""


class Direction:
    """The toxics of one direction, for all open and future connections."""

    def __init__(self) -> None:
        self.toxics = Toxics()
        self.changes = Changes()

    def set(self, **toxics: Any) -> None:
        """Set some toxics and keep the others; takes effect at once."""
        self.toxics = replace(self.toxics, **toxics)
        self.changes.notify()

    async def changed(self, before: Toxics) -> None:
        """Wait until the toxics differ from these."""
        await self.changes.until(lambda: None if self.toxics is before else True, timeout=None, describe=str)

    def clear(self, *names: str) -> None:
        """Remove the named toxics, or all."""
        healthy = Toxics()
        self.set(**{name: getattr(healthy, name) for name in names or [field.name for field in fields(Toxics)]})


class FaultProxy:
    """A proxy before a server on loopback::

        async with FeedServer() as server, FaultProxy(server.url) as proxy:
            async with ReactiveWebSocket(proxy.url) as feed:
                proxy.downstream.set(latency=0.1, jitter=0.05)   # server to client
                proxy.upstream.set(bandwidth=1000)               # client to server
                await proxy.down()                               # refuses, and resets open connections
                await proxy.up()                                 # on the same port
                proxy.downstream.clear()

    Leaving the block cuts all connections and does not wait for any peer.
    """

    def __init__(self, target: str, *, seed: int = 0) -> None:
        parts = urlsplit(target)
        assert parts.hostname is not None
        assert parts.port is not None
        self.upstream = Direction()
        self.downstream = Direction()
        self.random = random.Random(seed)
        self.port = 0
        self._target = parts
        self._links: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.down()

    @property
    def url(self) -> str:
        """The URL of the target through this proxy."""
        return self._target._replace(netloc=f"127.0.0.1:{self.port}").geturl()

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._links)

    async def up(self) -> None:
        """Listen on the same port as before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Refuse new connections, and reset all open ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        links = list(self._links)
        for link in links:
            link.cancel()
        if links:
            await asyncio.wait(links, timeout=5.0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.create_task(self._link(reader, writer))
        self._links.add(link)
        link.add_done_callback(self._links.discard)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection(self._target.hostname, self._target.port)
        except OSError:
            reset_transport(writer.transport)
            return
        except asyncio.CancelledError:
            reset_transport(writer.transport)
            raise
        await _Link(self, (reader, writer), there).run()


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class End(enum.Enum):
    """How a direction ended: only its stream ended, or the whole link is closed, or the whole link is reset."""

    STREAM = "stream"
    CLOSE = "close"
    RESET = "reset"


class _Link:
    """The connection of one client, and its connection to the target."""

    def __init__(self, proxy: FaultProxy, client: Streams, target: Streams) -> None:
        self._writers = (client[1], target[1])
        self._pumps = (
            _Pump(client[0], target[1], proxy.upstream, proxy.random),
            _Pump(target[0], client[1], proxy.downstream, proxy.random),
        )

    async def run(self) -> None:
        """Forward bytes until both directions have ended, or a toxic or a lost peer ends the link."""
        running = {asyncio.create_task(work()) for pump in self._pumps for work in (pump.run, pump.watch)}
        tasks, end = list(running), End.RESET
        try:
            # Two watching tasks run until the link ends, so two tasks are left when both streams have ended.
            while len(running) > 2:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                ends = {task.result() for task in done} - {End.STREAM}
                if ends:
                    end = End.RESET if End.RESET in ends else End.CLOSE
                    return
            end = End.CLOSE
        finally:
            for task in tasks:
                task.cancel()
            if end is End.CLOSE:
                for writer in self._writers:
                    writer.close()
                await self._flush()
            else:
                for writer in self._writers:
                    reset_transport(writer.transport)

    async def _flush(self) -> None:
        try:
            async with asyncio.timeout(1.0):
                await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)
        except TimeoutError:
            for writer in self._writers:
                writer.transport.abort()


class _Pump:
    """One direction of one link."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: Direction, numbers: random.Random
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._direction = direction
        self._random = numbers
        self._passed = 0
        # The queue is bounded, so that a throttled direction slows down its sender, as a real network does.
        self._queue: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue(64)

    @property
    def _toxics(self) -> Toxics:
        return self._direction.toxics

    async def run(self) -> End:
        """Read and write concurrently, so that delayed writes do not delay reading."""
        reading = asyncio.create_task(self._read())
        try:
            return await self._write()
        except OSError:
            return End.RESET
        finally:
            reading.cancel()

    async def watch(self) -> End:
        """Wait until a toxic ends the link by time, even without traffic."""
        loop = asyncio.get_running_loop()
        set_at: dict[str, float] = {}
        while True:
            deadlines = []
            for name, end in (("timeout", End.CLOSE), ("reset_peer", End.RESET)):
                seconds = getattr(self._toxics, name)
                if seconds is None or (name == "timeout" and seconds == 0):
                    set_at.pop(name, None)
                else:
                    deadlines.append((set_at.setdefault(name, loop.time()) + seconds, end))
            first, end = min(deadlines, key=operator.itemgetter(0), default=(None, End.CLOSE))
            try:
                async with asyncio.timeout_at(first):
                    await self._direction.changed(self._toxics)
            except TimeoutError:
                return end

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while octets := await self._reader.read(CHUNK):
                await self._queue.put((loop.time(), octets))
        except OSError:
            await self._queue.put((loop.time(), None))
        else:
            await self._queue.put((loop.time(), b""))

    async def _write(self) -> End:
        while True:
            came, octets = await self._queue.get()
            await self._sleep_until(came + self._toxics.latency + self._random.uniform(0, self._toxics.jitter))
            if octets is None:
                return End.RESET
            if not octets:
                await asyncio.sleep(self._toxics.slow_close)
                self._writer.write_eof()
                return End.STREAM
            async for piece in self._pieces(octets):
                if self._toxics.timeout is not None:
                    continue  # swallowed
                limit = self._toxics.limit_data
                if limit is not None:
                    piece = piece[: limit - self._passed]
                self._writer.write(piece)
                self._passed += len(piece)
                await self._writer.drain()
                if limit is not None and self._passed >= limit:
                    return End.CLOSE

    async def _pieces(self, octets: bytes) -> AsyncIterator[bytes]:
        while octets:
            toxics = self._toxics
            size = toxics.slicer or CHUNK
            if toxics.bandwidth is not None:
                size = min(size, max(1, int(toxics.bandwidth * TICK)))
            piece, octets = octets[:size], octets[size:]
            if toxics.bandwidth is not None:
                await asyncio.sleep(len(piece) / toxics.bandwidth)
            yield piece
            if toxics.slicer is not None:
                await asyncio.sleep(toxics.slicer_delay)

    @staticmethod
    async def _sleep_until(due: float) -> None:
        if (wait := due - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(wait)
