"""The way of a frame: taken from its connection, parsed, and handed on, in one loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import CoroutineType
from typing import Any, Final

from ..reporting.cancellation import FAILURES, is_being_cancelled
from .backlog import SLICE
from .dispatcher import FrameDispatcher
from .frames import Frame, Frames
from .hooks import Many
from .inbound import Inbound

__all__ = ["Reader"]

MAX_BATCH: Final = 32
"""How many messages may pass between two looks at the clock."""

PARSE_TIMEOUT: Final = 10.0
"""Seconds that a parse hook may wait for something before its frame is rejected."""


class Reader:
    """Reads one connection to its end. It waits for no consumer, and gives way to other tasks by time.

    The parse hook runs in the reader's own task, not in one per message: most hooks never suspend, and those that do
    keep the order.

    Args:
        inbound: the receiving side of the connection that is read.
        frames: called when reading begins: how its frames are had.
        dispatcher: what the frames meet on their way.
    """

    def __init__(self, inbound: Inbound, frames: Callable[[], Frames], dispatcher: FrameDispatcher) -> None:
        self._inbound = inbound
        self._frames = frames
        self._dispatcher = dispatcher
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self._in_burst = False
        self._parsing: CoroutineType[Any, Any, Any] | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._is_overdue = False
        self._complete_types: set[type] = set()

    async def read(self) -> None:
        """Take what comes until the connection ends; raises as its iteration does."""
        self._task = asyncio.current_task()
        frames = self._frames()
        try:
            await self._read(frames)
        finally:
            frames.release()
            if self._patience is not None:
                self._patience.cancel()

    # The hot path: no lock, no copy, no task, no call of a clock per message.
    async def _read(self, frames: Frames) -> None:
        waiting, take, next_frame = frames.waiting, frames.waiting.popleft, frames.next
        inbound, dispatcher, clock = self._inbound, self._dispatcher, self._loop.time
        parse, reply = dispatcher.hooks.parse, dispatcher.hooks.reply
        route, counters = dispatcher.router.route, dispatcher.reporter.counters
        # These two are the same for ever: empty while nobody watches the frames, or expects an answer.
        watching, expected = dispatcher.frames.subscriptions, inbound.pending_replies
        complete = self._complete_types
        step = countdown = 1
        slice_start = looked = clock()
        while True:
            try:
                frame = take() if waiting else await next_frame()
            except StopAsyncIteration:
                return
            if not self._in_burst:
                self._begin_burst()
            received = time.time_ns() if watching else 0
            try:
                counters.bytes += len(frame) if frame.isascii() else _size(frame)
                if reply is not None:
                    dispatcher.reply(inbound, frame, reply)
                message = parse(frame)
                if type(message) is CoroutineType:
                    self._parsing = message
                    message = await message
                    if self._is_overdue:
                        # It answered its cancellation with a message: that is as good.
                        self._has_parsed_too_long()
                if type(message) not in complete:
                    self._complete(type(message), message)
            except FAILURES as error:
                message = self._rejected(frame, error)
            if inbound.sink is None and not (received or expected) and type(message) is not Many:
                route(message)
            else:
                dispatcher.dispatch(inbound, frame, message, received)
            # The clock is looked at every so many messages, as many as pass in a fraction of a slice.
            countdown -= 1
            if not countdown:
                now = clock()
                if now - looked > SLICE / 4:
                    step = max(1, step // 2)
                elif step < MAX_BATCH:
                    step *= 2
                if now - slice_start > SLICE:
                    await asyncio.sleep(0)
                    slice_start = now = clock()
                looked, countdown = now, step

    def _begin_burst(self) -> None:
        # Once per turn of the loop, however many messages come in it.
        self._in_burst = True
        self._inbound.received(self._loop.time())
        self._loop.call_soon(self._end_burst)
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _end_burst(self) -> None:
        self._in_burst = False
        if self._is_parsing and self._patience is None:
            # The hook waits for something. The next burst means that it waits no longer.
            self._patience = self._loop.call_later(PARSE_TIMEOUT, self._on_parse_timeout)

    @property
    def _is_parsing(self) -> bool:
        return self._parsing is not None and self._parsing.cr_suspended

    def _on_parse_timeout(self) -> None:
        if self._is_parsing and self._task is not None:
            self._is_overdue = True
            self._task.cancel()

    def _has_parsed_too_long(self) -> bool:
        """Whether the reader was cancelled because its parse hook waited for too long; it goes on then."""
        if not self._is_overdue or self._task is None:
            return False
        self._is_overdue = False
        self._task.uncancel()
        return True

    def _complete(self, kind: type, message: Any) -> None:
        """Let pass from now on what is of this type, unless it is the promise of a message instead of one.

        Raises:
            TypeError: if it is.
        """
        is_awaitable = isinstance(message, Awaitable)
        if not is_awaitable and not isinstance(message, Iterator | AsyncIterator):
            self._complete_types.add(kind)
            return
        if type(message) is CoroutineType:
            message.close()
        raise TypeError(
            f"the parse hook gave a {kind.__name__} where a message was expected, which many will share: "
            + ("it must await it ('async def')" if is_awaitable else "it must return rxws.Many of the items")
        )

    def _rejected(self, frame: Frame, error: BaseException) -> Any:
        """Skip a frame that could not be parsed."""
        if self._has_parsed_too_long():
            error = TimeoutError(f"the parse hook waited for longer than {PARSE_TIMEOUT:g} s")
        elif is_being_cancelled(error):
            raise error
        self._dispatcher.reject(frame, error)
        return Many()


def _size(frame: Frame) -> int:
    return len(frame.encode(errors="surrogatepass")) if isinstance(frame, str) else len(frame)
