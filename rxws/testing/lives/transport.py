"""Connections without a socket, with lags in each direction, and with resets, which in-memory sockets lack."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.frames import Close
from websockets.http11 import Response
from websockets.protocol import State

from .venue import Venue, cursor_of

__all__ = ["Pipe", "VirtualConnection", "VirtualNetwork", "virtual_network"]

CLOSE_TIMEOUT: Final = 10.0
"""Seconds after which the websockets library stops waiting for a closing handshake."""

TOO_LATE: Final = 1000.0
"""Seconds after which a late handshake is answered. No feed waits that long."""

READ_AHEAD: Final = 16
"""The number of frames that a websocket library reads ahead of the application.

Further frames wait in the buffer of the operating system.
"""


class _Peer(Protocol):
    """The server's end of a connection."""

    def received(self, frame: Any) -> None: ...

    def closed_by_client(self) -> None: ...

    def gone(self) -> None: ...

    def cut_by_client(self) -> None: ...


class Pipe:
    """Calls functions later: each when it is due, and never before one that was put in earlier with the same time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[float, int, Callable[[], object]]] = []
        self._timers: set[asyncio.TimerHandle] = set()
        self._count = 0

    def put(self, seconds: float, call: Callable[[], object]) -> None:
        """Call a function in this many seconds, after all calls that are due sooner."""
        due = self._loop.time() + seconds
        self._count += 1
        heapq.heappush(self._waiting, (due, self._count, call))
        timer: asyncio.TimerHandle
        timer = self._loop.call_at(due, lambda: self._next(timer))
        self._timers.add(timer)

    def _next(self, timer: asyncio.TimerHandle) -> None:
        # Make the first waiting call, not the one of this timer: timers with equal due times fire in any order.
        self._timers.discard(timer)
        heapq.heappop(self._waiting)[2]()

    def clear(self) -> None:
        """Cancel all waiting calls."""
        self._waiting.clear()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()


def _broken() -> BaseException:
    return ConnectionClosedError(None, None)


class _Transport:
    """The part of an asyncio transport that rxws uses to cut a connection."""

    def __init__(self, connection: VirtualConnection) -> None:
        self._connection = connection

    def abort(self) -> None:
        """Cut the connection as asyncio's transports do: frames that were read ahead are still delivered."""
        self._connection.cut()

    def is_closing(self) -> bool:
        """Return whether the connection has ended or is closing."""
        return self._connection.state is not State.OPEN


class VirtualConnection:
    """The client's end of a connection, with the websockets asyncio API.

    Attributes:
        is_resumed: whether the connection resumes where the last one ended. It exists only in lives with resumptions.
        knows_with_first: whether ``is_resumed`` becomes True only when the first frame is read.

    Args:
        line: the server's end.
        up: seconds until a message of the client arrives at the server.
        keepalive: seconds until the library notices that the server does not answer.
    """

    is_resumed: bool

    def __init__(self, line: _Peer, up: float, keepalive: float) -> None:
        self.knows_with_first = False
        self.state = State.OPEN
        self.transport = _Transport(self)
        self.close_code: int | None = None
        self.close_reason = ""
        self._loop = asyncio.get_running_loop()
        self._line = line
        self._up = up
        self._keepalive = keepalive
        self._pipe = Pipe()
        self._frames: deque[Any] = deque()
        self._buffered: deque[Any] = deque()
        # A function that makes a new exception. A stored exception would keep all frames of its traceback alive.
        self._ending: Callable[[], BaseException] | None = None
        self._is_dead = False
        self._is_failing = False
        self._waiter: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def has_unread(self) -> bool:
        """Whether a frame has arrived that the client has not read."""
        return bool(self._frames)

    # From the server

    def come(self, frame: Any) -> None:
        """Receive a frame of the server."""
        if self._ending is None and not self._is_failing:
            self._buffered.append(frame)
            self._read_ahead()
            self._wake()

    def close_by_server(self, code: int) -> None:
        """Receive the server's close frame, which begins the closing handshake or answers it."""
        self.close_code = code
        if self.state is State.CLOSING:
            self._end(_broken if self._is_failing else StopAsyncIteration)
            return
        close = Close(code, "")
        self._end(StopAsyncIteration if code in (1000, 1001) else lambda: ConnectionClosedError(close, close, True))
        self._pipe.put(self._up, self._line.gone)

    def drop(self) -> None:
        """Receive the end of the stream, without a close frame."""
        self._end(_broken)

    def reset(self) -> None:
        """Receive a reset. The frames in the operating system's buffer are dropped."""
        self._buffered.clear()
        self._end(_broken)

    def die(self) -> None:
        """Become half-open: nothing arrives in either direction, until the keepalive ends the connection."""
        self._is_dead = True
        self._pipe.clear()
        if self._timer is None and self._ending is None:
            self._timer = self._loop.call_later(self._keepalive, self.drop)

    def fail(self) -> None:
        """Receive a violation of the protocol. The client closes the connection and reads nothing more."""
        if self.state is State.OPEN:
            self._is_failing = True
            self._begin_to_close()

    # By the client

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        while not self._frames:
            if self._ending is not None:
                raise self._ending()
            self._waiter = self._loop.create_future()
            await self._waiter
        frame = self._frames.popleft()
        self._read_ahead()
        if self.knows_with_first:
            self.is_resumed = True
        return frame

    async def send(self, message: Any) -> None:
        """Send a message; it arrives after the lag."""
        if self.state is not State.OPEN:
            raise ConnectionClosedOK(None, None) if self._ending is None else _broken()
        if not self._is_dead:
            self._pipe.put(self._up, lambda: self._line.received(message))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close with a closing handshake, and wait until it is complete."""
        if self.state is State.OPEN:
            self._begin_to_close()
        if not self._ended.done():
            await asyncio.wait([self._ended])

    def cut(self) -> None:
        """End the connection at once. The server notices the end after the lag."""
        if self._ending is None:
            if self.state is State.CLOSING and not self._is_failing:
                self._line.cut_by_client()
            self._buffered.clear()
            self._end(_broken)
            if not self._is_dead:
                self._pipe.put(self._up, self._line.gone)

    # Implementation

    def _begin_to_close(self) -> None:
        self.state = State.CLOSING
        if self._timer is None:
            self._timer = self._loop.call_later(CLOSE_TIMEOUT, self.cut)
        if not self._is_dead:
            self._pipe.put(self._up, self._line.closed_by_client)

    def _end(self, error: Callable[[], BaseException]) -> None:
        if self._ending is None:
            self._ending = error
            self.state = State.CLOSED
            if self._timer is not None:
                self._timer.cancel()
            self._ended.set_result(None)
            self._wake()

    def _read_ahead(self) -> None:
        while self._buffered and len(self._frames) < READ_AHEAD:
            self._frames.append(self._buffered.popleft())

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class VirtualNetwork:
    """The network between a client and a virtual server; :meth:`connect` works like ``websockets.connect``."""

    url = "ws://life.invalid/"

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    async def connect(self, url: str, **_options: Any) -> VirtualConnection:
        """Open a connection. The next fault in the queue of handshake faults is applied first."""
        venue = self._venue
        word, seconds = venue.next_handshake()
        up, down = venue.lags()
        await asyncio.sleep(up)
        if word == "slow":
            await asyncio.sleep(seconds)
        elif word == "mute":
            await asyncio.Event().wait()
        elif word == "reset":
            raise ConnectionResetError(104, "Connection reset by peer")
        elif word and word != "late":
            raise InvalidStatus(_response(word))
        line = venue.open(down, cursor_of(url))
        connection = VirtualConnection(line, up, venue.settings.keepalive)
        line.attach(connection)
        line.is_late = word == "late"
        if venue.settings.is_resumed and not venue.settings.replays:
            venue.resume(line)
            connection.is_resumed = line.record.is_resumed and venue.settings.is_resumed == "at once"
            connection.knows_with_first = line.record.is_resumed
        try:
            await asyncio.sleep(TOO_LATE if word == "late" else down)
        except asyncio.CancelledError:
            connection.cut()
            raise
        return connection


@asynccontextmanager
async def virtual_network(venue: Venue) -> AsyncIterator[VirtualNetwork]:
    """Return the network of a virtual server."""
    yield VirtualNetwork(venue)


def _response(word: str) -> Response:
    status, _, after = word.partition(" after ")
    return Response(int(status), "refused", Headers({"Retry-After": after} if after else {}), b"")
