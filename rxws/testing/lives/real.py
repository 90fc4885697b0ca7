"""Lives on loopback sockets: with real resets, and a server that is frozen (SIGSTOP)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import websockets

from ..connection import FeedConnection
from ..process import ServerProcess, serve_in_process
from ..server import FeedServer
from .line import Line
from .transport import Pipe
from .venue import Venue, cursor_of

__all__ = ["RealNetwork", "real_network"]

ABNORMAL: Final = 1006
"""The close code of a connection that ended without a closing handshake (RFC 6455 §7.4.1)."""

START: Final = 60.0
"""Seconds within which a relay must have started, even on a busy machine."""

FROZEN: Final = 2.0
"""Seconds for which a server stays frozen after its clients have noticed."""


class _RealWire:
    """The path from the server to a client through a socket."""

    has_unread = True

    def __init__(self, network: RealNetwork, connection: FeedConnection) -> None:
        self._network = network
        self._connection = connection

    def come(self, frame: Any) -> None:
        self._connection.send_nowait(frame)

    def close_by_server(self, code: int) -> None:
        self._network.begin(self._connection.close(code))

    def drop(self) -> None:
        self._connection.websocket.transport.close()

    def reset(self) -> None:
        self._connection.reset()

    def die(self) -> None:
        self._network.freeze(self._connection)

    def fail(self) -> None:
        self._network.begin(self._connection.send_invalid_utf8())


class RealNetwork:
    """The network between a client and a server on loopback; :meth:`connect` works like ``websockets.connect``.

    Args:
        venue: the server's behaviour.
        server: the server's sockets.
        relay: a process between client and server that can be frozen, or None.
    """

    def __init__(self, venue: Venue, server: FeedServer, relay: ServerProcess | None) -> None:
        self.url: Final = server.url if relay is None else relay.url
        self._venue = venue
        self._server = server
        self._relay = relay
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thaw: asyncio.TimerHandle | None = None
        server.script = self.serve

    async def connect(self, url: str, **options: Any) -> Any:
        """Open a connection. The next fault in the queue of handshake faults is applied first."""
        word, seconds = self._venue.next_handshake()
        if word == "slow":
            self._server.slow_handshake(seconds)
        elif word in ("mute", "late"):
            self._server.mute()
        elif word == "reset":
            self._server.garbage(b"")
        elif word:
            status, _, after = word.partition(" after ")
            self._server.refuse(int(status), {"Retry-After": after} if after else {})
        half = self._venue.settings.keepalive / 2
        return await websockets.connect(url, **{"ping_interval": half, "ping_timeout": half, **options})

    async def serve(self, connection: FeedConnection) -> None:
        """Run the server's end of a connection: the script of the FeedServer."""
        up, down = self._venue.lags()
        line, pipe = self._venue.open(down, cursor_of(connection.path)), Pipe()
        line.attach(_RealWire(self, connection))
        try:
            async for frame in connection:
                pipe.put(up, lambda frame=frame: line.received(frame))  # type: ignore[misc]
        finally:
            pipe.clear()
            if connection.websocket.close_code == ABNORMAL and not line.record.damages:
                line.cut_by_client()
            line.gone()

    def begin(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the background."""
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and not isinstance(task.exception(), websockets.ConnectionClosed):
            task.result()

    def freeze(self, connection: FeedConnection) -> None:
        """Freeze the whole server until its clients have noticed; without a relay, stall one connection."""
        if self._relay is None:
            connection.stall()
        elif self._thaw is None:
            self._relay.stop()
            for line in self._venue.lines:
                self._note(line)
            seconds = self._venue.settings.keepalive + FROZEN
            self._thaw = asyncio.get_running_loop().call_later(seconds, self.thaw)

    def _note(self, line: Line) -> None:
        if line.is_open and not line.record.damages:
            line.damage("half-open")

    def thaw(self) -> None:
        """Continue a frozen server."""
        if self._relay is not None and self._thaw is not None:
            self._thaw.cancel()
            self._thaw = None
            self._relay.resume()

    async def finish(self) -> None:
        """Cancel the background tasks, and continue a frozen server."""
        self.thaw()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


@asynccontextmanager
async def real_network(venue: Venue) -> AsyncIterator[RealNetwork]:
    """Run a server on loopback, behind a relay that can be frozen if the life needs one."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(FeedServer())
        relay = None
        if any(act.kind == "half-open" for act in venue.schedule.acts):
            there = f"{server.host}:{server.port}"
            relay = await stack.enter_async_context(
                serve_in_process("--to", there, module="rxws.testing.lives.relay", timeout=START, lifetime=300.0)
            )
        network = RealNetwork(venue, server, relay)
        try:
            yield network
        finally:
            await network.finish()
