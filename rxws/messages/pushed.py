"""Frames that a connection pushes: the reader's loop runs in the connection's callback."""

from __future__ import annotations

import asyncio
import types
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Final, Protocol, runtime_checkable

__all__ = ["Frame", "PushedFrames", "PushingWebsocket"]

#: The payload of one websocket message: ``str`` for text, ``bytes`` for binary.
Frame = str | bytes

#: The number of waiting frames at which the connection pauses reading. It resumes when the reader has taken them all.
HIGH_WATER: Final = 64

#: What the reader's loop yields to get the next frame.
IDLE: Final = object()


@runtime_checkable
class PushingWebsocket(Protocol):
    """A websocket that calls a function with each message when it arrives.

    ``transport`` has the methods ``pause_reading`` and ``resume_reading`` of asyncio's transports.
    """

    transport: Any

    def push_frames(self, take: Callable[[Frame], object], /) -> None:
        """From now on, call ``take`` with each message in order, first with those that wait in ``recv``.

        It may be called again, with another function, while ``take`` runs.
        """

    async def recv(self) -> Frame:
        """Wait for the end of the connection, and raise its exception."""
        ...

    async def wait_closed(self) -> None:
        """Wait for the end of the connection."""


class PushedFrames:
    """The frames of a connection that pushes them.

    While the reader's task waits for a frame, the connection continues the reader's loop with each frame as soon as it
    arrives: without a task switch and without a queue. While the task has other work, frames wait, and the connection
    pauses reading if there are many.

    Attributes:
        waiting: the frames that have arrived. The reader's task takes these first.
    """

    def __init__(self, websocket: Any) -> None:
        self.waiting: Final[deque[Frame]] = deque()
        # Continues the reader's loop with a frame. None: all frames wait for the task.
        self._take: Callable[[Frame], Any] | None = None
        self._websocket: Final = websocket
        self._transport: Final = websocket.transport
        self._has_ended = False
        self._is_paused = False
        # Wakes the reader's task, which waits in `next`. Only then does the connection continue the loop.
        self._waiter: asyncio.Future[None] | None = None
        # Whether the loop needs the task, and the exception that has ended the loop.
        self._is_left = False
        self._error: BaseException | None = None
        # Wait for the end in a task, because websockets has no other public way to notice the end.
        self._end = asyncio.get_running_loop().create_task(websocket.wait_closed(), name="rxws end of frames")
        self._end.add_done_callback(self._ended)
        self._push_to(self._keep)

    def _push_to(self, take: Callable[[Frame], Any]) -> None:
        self._websocket.push_frames(take)

    @types.coroutine
    def run(self, loop: Generator[Any, Any, None]) -> Generator[Any, Any, None]:
        """Run the reader's loop to its end. It gets each frame in return for IDLE. Cancelling ends the loop.

        Before it yields anything else, which is meant for the event loop, it must call :meth:`enter_task`.
        """
        self._take = loop.send
        try:
            awaited = loop.send(None)
            while True:
                resume, result = loop.send, None
                if awaited is not IDLE:
                    try:
                        result = yield awaited
                    except BaseException as error:
                        resume, result = loop.throw, error
                elif self.waiting:
                    result = self.waiting.popleft()
                else:
                    result = yield from self.next().__await__()
                    if result is None and not self._is_left:
                        continue
                    self._is_left = False
                awaited = resume(result)
        finally:
            loop.close()

    @types.coroutine
    def enter_task(self) -> Generator[Any, None, None]:
        """Continue in the reader's task, if the connection continues the loop now."""
        if self._waiter is not None:
            self._is_left = True
            self._hold()
            yield

    def fail(self, error: BaseException) -> bool:
        """Raise ``error`` in the reader's task; return False if the task itself runs the loop."""
        if self._waiter is None:
            return False
        self._error = error
        self._hold()
        return True

    async def next(self) -> Frame | None:
        """Let the connection continue the loop, until a frame waits or the loop needs the task. Then return None.

        It may return a frame, and raises the same exceptions as ``recv``. Cancelling is safe.
        """
        self._resume()
        if self._must_pull():
            return await self._pull()
        self._waiter = asyncio.get_running_loop().create_future()
        if self._take is not None:
            self._push_to(self._take)
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._push_to(self._keep)
            if self._error is not None:
                raise self._error
        return None

    def _hold(self) -> None:
        """From now on, let frames wait for the task, and wake the task."""
        self._push_to(self._keep)
        self._wake()

    def _keep(self, frame: Frame) -> None:
        self.waiting.append(frame)
        if len(self.waiting) > HIGH_WATER and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _must_pull(self) -> bool:
        """Return whether the next frame, or the exception of the connection's end, comes from ``recv``."""
        return self._has_ended

    async def _pull(self) -> Frame:
        frame: Frame = await self._websocket.recv()
        return frame

    def _resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._resume_reading()

    def _resume_reading(self) -> None:
        self._transport.resume_reading()

    def _ended(self, _end: asyncio.Task[None]) -> None:
        self._has_ended = True
        self._wake()

    def release(self) -> None:
        """Stop taking frames."""
        self._end.cancel()
        if self._is_paused:
            self._transport.resume_reading()
