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
from .pushed import Frame, PushedFrames, PushingWebsocket

__all__ = ["Frame", "Frames", "Websocket", "frame_size", "frames_of"]

#: The number of bytes that websockets parses in one call. asyncio reads up to four times as many at once. If websockets
#: parsed all of these in one call, it would create so many objects that the garbage collector runs several times during
#: the call, each time over more live objects. In a measured burst, other tasks waited for 30 ms, and one eighth of the
#: speed was lost.
CHUNK_SIZE: Final = 2**16

#: The undocumented attributes of websockets that pushed frames need. Another version may lack them.
_PRIVATE_PARTS: Final = attrgetter("transport", "data_received", "process_event", "recv_messages.paused")


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
            it raises the connection's exception, or StopAsyncIteration. It may return None if frames wait now.
        release: called when the reader needs no more frames.
        pushed: the source, if the connection can continue the reader's loop; otherwise None.
    """

    waiting: deque[Frame]
    next: Callable[[], Awaitable[Frame | None]]
    release: Callable[[], None]
    pushed: PushedFrames | None = None


def frames_of(websocket: Websocket, reporter: Reporter) -> Frames:
    """Return the fastest frame source for ``websocket``; log once if this version of websockets supports only recv."""
    pushed: PushedFrames
    if isinstance(websocket, PushingWebsocket):
        pushed = PushedFrames(websocket)
    # Take the events of exactly this class, because a subclass may override the methods that are bypassed.
    elif type(websocket) is ClientConnection:
        try:
            _PRIVATE_PARTS(websocket)
        except AttributeError as error:
            line = "this version of websockets has no %s: frames are read through recv, which is slower"
            reporter.log(logging.WARNING, line, error.name, times=ONCE)
            return Frames(deque(), websocket.recv, _nothing)
        pushed = _EventFrames(websocket)
    elif type(websocket).__module__.partition(".")[0] == "picows":
        # A connection of picows iterates with a generator that calls recv. Calling recv directly is faster.
        return Frames(deque(), websocket.recv, _nothing)  # type: ignore[attr-defined]
    else:
        return Frames(deque(), aiter(websocket).__anext__, _nothing)
    return Frames(pushed.waiting, pushed.next, pushed.release, pushed)


def frame_size(frame: Frame) -> int:
    """Return the size of a frame in bytes."""
    return len(frame.encode(errors="surrogatepass")) if isinstance(frame, str) and not frame.isascii() else len(frame)


def _nothing() -> None:
    """Used as ``release`` if there is nothing to release."""


class _EventFrames(PushedFrames):
    """Takes complete frames from websockets as they arrive, without ``recv``.

    ``recv`` costs as much time as everything else that happens to a message. This class calls it in three cases only,
    so that it need not repeat the rules of websockets for them: for a frame that is not complete (a fragment, or text
    that is not valid UTF-8), for all frames that arrive before ``recv`` has returned that frame, and for the end of the
    connection.
    """

    def __init__(self, websocket: ClientConnection) -> None:
        self._connection: Final = websocket
        self._receive: Final = websocket.data_received
        self._process: Final = websocket.process_event
        # The number of messages that `recv` has yet to return. Infinity means that the number is not known: messages
        # may wait in `recv` until it is called and has to wait for the next one.
        self._owed = math.inf
        # Whether `recv` is waiting, and no event has arrived since it began to wait.
        self._is_idle = False
        super().__init__(websocket)
        websocket.data_received = self._feed_chunks  # type: ignore[method-assign]
        websocket.process_event = self._take_event  # type: ignore[method-assign]

    def _push_to(self, take: Callable[[Frame], Any]) -> None:
        self._push = take

    def _feed_chunks(self, data: bytes) -> None:
        """Pass received bytes to websockets in chunks. (uvloop keeps the original method and passes all at once.)"""
        for start in range(0, len(data), CHUNK_SIZE):
            self._receive(data[start : start + CHUNK_SIZE])

    def _take_event(self, event: Any) -> None:
        """Take an event that websockets has parsed. On the hot path."""
        is_text = event.opcode is Opcode.TEXT
        if self._owed or not event.fin or not (is_text or event.opcode is Opcode.BINARY):
            self._fall_back_to_recv(event)
            return
        try:
            frame = event.data.decode() if is_text else bytes(event.data)
        except UnicodeDecodeError:
            self._fall_back_to_recv(event)
            return
        self._push(frame)

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

    def _must_pull(self) -> bool:
        return bool(self._owed)

    async def _pull(self) -> Frame:
        self._is_idle = True
        try:
            frame = await super()._pull()
        finally:
            self._is_idle = False
        self._owed -= 1
        return frame

    def _resume_reading(self) -> None:
        # If `recv` has paused reading too, websockets resumes it when `recv` has caught up.
        if not self._connection.recv_messages.paused:
            super()._resume_reading()

    def _ended(self, end: asyncio.Task[None]) -> None:
        # Restore the methods of websockets, so that `recv` raises the exception of the connection's end.
        for method in ("data_received", "process_event"):
            self._connection.__dict__.pop(method, None)
        self._owed = math.inf
        super()._ended(end)
