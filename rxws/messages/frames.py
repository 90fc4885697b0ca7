"""Where the frames of a connection come from: it is asked for each, or hands them over as they come."""

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

from ..reporting.reporter import Reporter

__all__ = ["Frame", "Frames", "Websocket", "frames_of"]

HIGH_WATER: Final = 64
"""How many frames may wait before a connection is read no further: what the reader does not get to, it must not pile
up. Reading goes on once all have been taken."""

CHUNK_SIZE: Final = 2**16
"""Bytes that are made frames of at once. asyncio reads four times as much, whose frames are so many objects that the
collector runs for them, each time over more of what lives: that took 30 ms in a burst, and an eighth of the speed."""

_PRIVATE_PARTS: Final = attrgetter("transport", "data_received", "process_event", "recv_messages.paused")
"""What pushed frames need of websockets, and its documentation does not promise: another version may lack it."""

Frame = str | bytes
"""What came in one message of the websocket: ``str`` of a text frame, ``bytes`` of a binary one."""


class Websocket(Protocol):
    """What rxws needs of a connection: a part of the websockets asyncio API."""

    def __aiter__(self) -> Any: ...

    def send(self, message: Any, /) -> Awaitable[object]:
        """Send a ``str`` as a text frame, or bytes as a binary one."""

    def close(self) -> Awaitable[object]:
        """Close with a closing handshake."""


class Frames(NamedTuple):
    """How the frames of a connection are had.

    Attributes:
        waiting: those that have come, and are to be taken first.
        next: waits for one when none is waiting; raises what ends the connection, or StopAsyncIteration.
        release: to be called when no more are wanted.
    """

    waiting: deque[Frame]
    next: Callable[[], Awaitable[Frame]]
    release: Callable[[], None]


def frames_of(websocket: Websocket, reporter: Reporter) -> Frames:
    """Return how the frames of ``websocket`` are had, in the fastest way that it has; log once if that is lacking."""
    # Exactly that class: one that is derived from it may have changed what is gone round here.
    if type(websocket) is ClientConnection:
        try:
            _PRIVATE_PARTS(websocket)
        except AttributeError as error:
            line = "this version of websockets has no %s: frames are read through recv, which is slower"
            reporter.log(logging.WARNING, line, error.name, once=True)
            return Frames(deque(), websocket.recv, _nothing)
        pushed = _PushedFrames(websocket)
        return Frames(pushed.waiting, pushed.next, pushed.release)
    if type(websocket).__module__.partition(".")[0] == "picows":
        # What stands behind its iteration, without the generator in between.
        return Frames(deque(), websocket.recv, _nothing)  # type: ignore[attr-defined]
    return Frames(deque(), aiter(websocket).__anext__, _nothing)


def _nothing() -> None:
    """Release what holds nothing."""


class _PushedFrames:
    """Takes complete frames from websockets as they come, past ``recv``, which costs as much as all the rest.

    What is no complete frame (fragments, text that is no UTF-8), and with it all that comes until it was taken, goes
    the usual way through ``recv``, and so does the end of the connection: its rules are not written again.
    """

    def __init__(self, websocket: ClientConnection) -> None:
        self.waiting: deque[Frame] = deque()
        self._websocket: Final = websocket
        self._transport: Final = websocket.transport
        self._receive: Final = websocket.data_received
        self._process: Final = websocket.process_event
        # How many messages are to be had from `recv`. At first nobody knows, until it is seen to wait for one.
        self._owed = math.inf
        # Whether `recv` waits, and nothing has come since it began to.
        self._is_idle = False
        self._is_paused = False
        self._waiter: asyncio.Future[None] | None = None
        websocket.data_received = self._feed_chunks  # type: ignore[method-assign]
        websocket.process_event = self._take  # type: ignore[method-assign]
        # In a task, because there is no other word of it that anybody may ask for.
        self._end = asyncio.get_running_loop().create_task(websocket.wait_closed(), name="rxws end of frames")
        self._end.add_done_callback(self._ended)

    def _feed_chunks(self, data: bytes) -> None:
        """Let websockets read what was received, piece by piece; on uvloop, which keeps its method, all at once."""
        for start in range(0, len(data), CHUNK_SIZE):
            self._receive(data[start : start + CHUNK_SIZE])

    def _take(self, event: Any) -> None:
        """Take what websockets has read. On the hot path."""
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
        """Let ``recv`` have what it is better at."""
        if event.opcode is Opcode.TEXT or event.opcode is Opcode.BINARY:
            if self._is_idle and self._owed == math.inf:
                # It is in the middle of no message, so there was nothing before this.
                self._owed = 0
            self._owed += 1
            self._wake()
        self._is_idle = False
        self._process(event)

    async def next(self) -> Frame:
        """Wait for a frame; raises as ``recv`` does. Cancelling is safe."""
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
        """Read on, unless ``recv`` has paused for itself, too: then it resumes when it has caught up."""
        if self._is_paused:
            self._is_paused = False
            if not self._websocket.recv_messages.paused:
                self._transport.resume_reading()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _ended(self, _end: asyncio.Task[None]) -> None:
        """Let everything go the usual way again: the end of the connection is to be had there."""
        for method in ("data_received", "process_event"):
            self._websocket.__dict__.pop(method, None)
        self._owed = math.inf
        self._wake()

    def release(self) -> None:
        """Take no more frames."""
        self._end.cancel()
        if self._is_paused:
            self._transport.resume_reading()
