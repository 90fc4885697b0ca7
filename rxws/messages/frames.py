"""The source of a connection's frames: the reader asks for each frame, or the connection pushes them."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable
from operator import attrgetter
from typing import Any, Final, NamedTuple, Protocol

from websockets.asyncio.client import ClientConnection
from websockets.frames import Opcode

from ..reporting.log_limit import ONCE
from ..reporting.reporter import Reporter

__all__ = ["Frame", "Frames", "Websocket", "frame_size", "frames_of"]

#: The number of waiting frames at which the connection pauses reading. It resumes when the reader has taken them all.
HIGH_WATER: Final = 64

#: The number of bytes that websockets parses in one call. asyncio reads up to four times as many at once. If websockets
#: parsed all of these in one call, it would create so many objects that the garbage collector runs several times during
#: the call, each time over more live objects. In a measured burst, other tasks waited for 30 ms, and one eighth of the
#: speed was lost.
CHUNK_SIZE: Final = 2**16

#: The undocumented attributes of websockets that pushed frames need. Another version may lack them.
_PRIVATE_PARTS: Final = attrgetter("transport", "data_received", "process_event", "recv_messages.paused")

#: The payload of one websocket message: ``str`` for text, ``bytes`` for binary.
Frame = str | bytes


class Websocket(Protocol):
    """The part of the websockets asyncio API that rxws needs of a connection."""

    def __aiter__(self) -> Any: ...

    def send(self, message: Any, /) -> Awaitable[object]:
        """Send a ``str`` as a text frame, or bytes as a binary one."""

    def close(self) -> Awaitable[object]:
        """Close with a closing handshake."""


class Frames(NamedTuple):
    """The source of a connection's frames.

    Attributes:
        waiting: the frames that have arrived. The reader takes these first.
        next: waits for the next frame. The reader calls it only when ``waiting`` is empty. At the end of the connection
            it raises the connection's exception, or StopAsyncIteration.
        release: called when the reader needs no more frames.
    """

    waiting: deque[Frame]
    next: Callable[[], Awaitable[Frame]]
    release: Callable[[], None]


def frames_of(websocket: Websocket, reporter: Reporter) -> Frames:
    """Return the fastest frame source for ``websocket``; log once if this version of websockets supports only recv."""
    # Push only for exactly this class, because a subclass may override the methods that pushing bypasses.
    if type(websocket) is ClientConnection:
        try:
            _PRIVATE_PARTS(websocket)
        except AttributeError as error:
            line = "this version of websockets has no %s: frames are read through recv, which is slower"
            reporter.log(logging.WARNING, line, error.name, times=ONCE)
            return Frames(deque(), websocket.recv, _nothing)
        pushed = _PushedFrames(websocket)
        return Frames(pushed.waiting, pushed.next, pushed.release)
    if type(websocket).__module__.partition(".")[0] == "picows":
        # A connection of picows iterates with a generator that calls recv. Calling recv directly is faster.
        return Frames(deque(), websocket.recv, _nothing)  # type: ignore[attr-defined]
    return Frames(deque(), aiter(websocket).__anext__, _nothing)


def frame_size(frame: Frame) -> int:
    """Return the size of a frame in bytes."""
    return len(frame.encode(errors="surrogatepass")) if isinstance(frame, str) and not frame.isascii() else len(frame)


def _nothing() -> None:
    """Used as ``release`` if there is nothing to release."""


class _PushedFrames:
    """Takes complete frames from websockets as they arrive, without ``recv``.

    ``recv`` costs as much time as everything else that happens to a message. This class calls it in three cases only,
    so that it need not repeat the rules of websockets for them: for a frame that is not complete (a fragment, or text
    that is not valid UTF-8), for all frames that arrive before ``recv`` has returned that frame, and for the end of the
    connection.
    """

    def __init__(self, websocket: ClientConnection) -> None:
        self.waiting: deque[Frame] = deque()
        self._websocket: Final = websocket
        self._transport: Final = websocket.transport
        self._receive: Final = websocket.data_received
        self._process: Final = websocket.process_event
        # The number of messages that `recv` has yet to return. Infinity means that the number is not known: messages
        # may wait in `recv` until it is called and has to wait for the next one.
        self._owed = math.inf
        # Whether `recv` is waiting, and no event has arrived since it began to wait.
        self._is_idle = False
        self._is_paused = False
        self._waiter: asyncio.Future[None] | None = None
        websocket.data_received = self._feed_chunks  # type: ignore[method-assign]
        websocket.process_event = self._take  # type: ignore[method-assign]
        # Wait for the end in a task, because websockets has no other public way to notice the end.
        self._end = asyncio.get_running_loop().create_task(websocket.wait_closed(), name="rxws end of frames")
        self._end.add_done_callback(self._ended)

    def _feed_chunks(self, data: bytes) -> None:
        """Pass received bytes to websockets in chunks. (uvloop keeps the original method and passes all at once.)"""
        for start in range(0, len(data), CHUNK_SIZE):
            self._receive(data[start : start + CHUNK_SIZE])

    def _take(self, event: Any) -> None:
        """Take an event that websockets has parsed. On the hot path."""
        is_text = event.opcode is Opcode.TEXT
        if self._owed or not event.fin or not (is_text or event.opcode is Opcode.BINARY):
            self._fall_back_to_recv(event)
            return
        try:
            self.waiting.append(event.data.decode() if is_text else bytes(event.data))
        except UnicodeDecodeError:
            self._fall_back_to_recv(event)
            return
        if len(self.waiting) > HIGH_WATER and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def _fall_back_to_recv(self, event: Any) -> None:
        """Hand this event to ``recv``."""
        if event.opcode is Opcode.TEXT or event.opcode is Opcode.BINARY:
            if self._is_idle and self._owed == math.inf:
                # `recv` is not in the middle of a message, so no other message waits in it before this event.
                self._owed = 0
            self._owed += 1
            self._wake()
        self._is_idle = False
        self._process(event)

    async def next(self) -> Frame:
        """Wait for the next frame. It raises the same exceptions as ``recv``. Cancelling is safe."""
        while not self.waiting:
            self._resume()
            if self._owed:
                return await self._pull()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self.waiting.popleft()

    async def _pull(self) -> Frame:
        self._is_idle = True
        try:
            frame = await self._websocket.recv()
        finally:
            self._is_idle = False
        self._owed -= 1
        return frame

    def _resume(self) -> None:
        """Resume reading. If ``recv`` has paused it too, websockets resumes it when ``recv`` has caught up."""
        if self._is_paused:
            self._is_paused = False
            if not self._websocket.recv_messages.paused:
                self._transport.resume_reading()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _ended(self, _end: asyncio.Task[None]) -> None:
        """Restore the methods of websockets, so that ``recv`` raises the exception of the connection's end."""
        for method in ("data_received", "process_event"):
            self._websocket.__dict__.pop(method, None)
        self._owed = math.inf
        self._wake()

    def release(self) -> None:
        """Stop taking frames."""
        self._end.cancel()
        if self._is_paused:
            self._transport.resume_reading()
