"""Takes each frame from its connection, parses it and delivers its message, in one loop."""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from types import CoroutineType
from typing import Any, Final

from ..callables import is_coroutine_function
from ..reporting.cancellation import FAILURES
from ..reporting.events import Gap
from .backlog import SLICE
from .dispatcher import FrameDispatcher
from .frames import Frame, Frames, frame_size
from .hooks import Many
from .inbound import Inbound
from .lazy import LARGE
from .pushed import IDLE, PushedFrames

__all__ = ["Reader"]

#: The largest number of messages between two calls of the clock.
MAX_BATCH: Final = 32

#: Seconds that a parse hook may wait before its frame is rejected.
PARSE_TIMEOUT: Final = 10.0


class Reader:
    """Reads one connection to its end. It waits for no consumer, and lets other tasks run after each time slice.

    The parse hook runs in the reader's own task and not in one task per message, because most hooks never suspend, and
    because hooks that suspend then keep the order.

    Args:
        inbound: the receiving side of the connection.
        frames: returns the source of the connection's frames; called when reading begins.
        dispatcher: has the hooks and the router, and delivers messages that do not go straight to the router.
        parse: returns the message of a frame, or a coroutine that returns it.
        defer: replaces ``parse`` for large frames, see :mod:`~.lazy`; None: they are parsed as all others.
    """

    def __init__(
        self,
        inbound: Inbound,
        frames: Callable[[], Frames],
        dispatcher: FrameDispatcher,
        parse: Callable[[Frame], Any],
        defer: Callable[[Frame], Any] | None = None,
    ) -> None:
        self._inbound = inbound
        self._frames = frames
        self._dispatcher = dispatcher
        self._parse = parse
        self._defer = defer
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self._in_burst = False
        self._is_unheard = False
        self._delivered_before = 0
        self._latency = dispatcher.router.latency
        self._parsing: CoroutineType[Any, Any, Any] | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._is_overdue = False
        self._complete_types: set[type] = set()

    async def read(self) -> None:
        """Read until the connection ends. It raises the exception that ends the connection's iteration."""
        self._task = asyncio.current_task()
        frames = self._frames()
        # A connection that pushes continues the loop outside a task. A coroutine may need one: `asyncio.timeout` does.
        pushed = None if is_coroutine_function(self._parse) else frames.pushed
        try:
            if pushed is None:
                await self._read(frames, None)
            else:
                await pushed.run(self._read(frames, pushed))
        finally:
            frames.release()
            if self._parsing is not None:
                # If it never began, it would warn.
                self._parsing.close()
            if self._patience is not None:
                self._patience.cancel()

    # The hot path: no lock, no copy, no task and no call of the clock per message. It is a generator that serves as a
    # coroutine, because the connection itself continues it with each frame that it pushes.
    @types.coroutine
    def _read(self, frames: Frames, pushed: PushedFrames | None) -> Generator[Any, Any, None]:
        waiting, take, next_frame = frames.waiting, frames.waiting.popleft, frames.next
        inbound, dispatcher, clock = self._inbound, self._dispatcher, self._loop.time
        parse, defer, is_copy, reply = self._parse, self._defer, inbound.is_copy, dispatcher.hooks.reply
        route, counters = dispatcher.router.route, dispatcher.reporter.counters
        keep = None if dispatcher.recent is None else dispatcher.recent.add
        # These two objects are never replaced, so read the attributes only once. `watching` is empty while frames have
        # no subscribers, `expected` while no reply is awaited.
        watching, expected = dispatcher.frames.subscriptions, inbound.pending_replies
        complete, time_ns = self._complete_types, dispatcher.reporter.time_ns
        step = countdown = 1
        slice_start = looked = 0.0
        try:
            while True:
                if pushed is not None:
                    counters.message_size = 0
                    frame = yield IDLE
                elif waiting:
                    frame = take()
                else:
                    counters.message_size = 0
                    coming = next_frame()
                    try:
                        # Iterating over a coroutine itself creates no iterator.
                        frame = yield from coming if type(coming) is CoroutineType else coming.__await__()  # type: ignore[misc]
                    except StopAsyncIteration:
                        return
                    if frame is None:
                        continue
                if not self._in_burst:
                    self._begin_burst()
                    slice_start = clock()
                received = time_ns() if watching else 0
                if reply is not None:
                    dispatcher.reply(inbound, frame, reply)
                if is_copy is not None and is_copy(frame):
                    if self._is_unheard:
                        self._hear(None, is_delivered=False)
                else:
                    try:
                        size = len(frame) if frame.isascii() else frame_size(frame)
                        counters.bytes += size
                        message = parse(frame) if defer is None or size < LARGE else defer(frame)
                        if type(message) is CoroutineType:
                            self._parsing = message
                            counters.message_size = 0
                            if pushed is not None:
                                yield from pushed.enter_task()
                            message = yield from message  # type: ignore[misc]
                            if self._is_overdue:
                                # The hook caught the cancellation and returned a message, so use that message.
                                self._has_parsed_too_long()
                        if type(message) not in complete:
                            message = self._complete(type(message), message)
                    except FAILURES as error:
                        message = self._rejected(frame, error)
                    if inbound.sink is None and not (received or expected) and type(message) is not Many:
                        if self._is_unheard:
                            self._hear(message)
                        counters.message_size = size
                        if keep is not None:
                            keep(frame, message)
                        route(message)
                    elif dispatcher.dispatch(inbound, frame, message, received) and self._is_unheard:
                        self._hear(message, is_delivered=counters.messages > self._delivered_before)
                # Call the clock only once per `step` messages, which take a fraction of a time slice.
                countdown -= 1
                if not countdown:
                    now = clock()
                    if now - looked > SLICE / 4:
                        step = max(1, step // 2)
                    elif step < MAX_BATCH:
                        step *= 2
                    if now - slice_start > SLICE:
                        counters.message_size = 0
                        if pushed is not None:
                            yield from pushed.enter_task()
                        yield from asyncio.sleep(0)
                        slice_start = now = clock()
                    looked, countdown = now, step
        except BaseException as error:
            if pushed is None or not pushed.fail(error):
                raise
            yield

    def _begin_burst(self) -> None:
        # This runs once per iteration of the loop, however many messages arrive in it.
        self._in_burst = self._is_unheard = True
        self._delivered_before = self._dispatcher.reporter.counters.messages
        self._loop.call_soon(self._end_burst)
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _hear(self, message: Any, *, is_delivered: bool = True) -> None:
        # Only messages count: a frame that is rejected, or contains only replies, does not show that the feed is live.
        self._is_unheard = False
        now = self._dispatcher.reporter.now()
        self._inbound.received(self._loop.time(), now)
        if is_delivered and self._latency is not None:
            self._latency.measure(message, now)

    def _end_burst(self) -> None:
        self._in_burst = False
        if self._is_parsing and self._patience is None:
            # The hook is suspended. The next burst cannot begin before it returns, and cancels this timer.
            self._patience = self._loop.call_later(PARSE_TIMEOUT, self._on_parse_timeout)

    @property
    def _is_parsing(self) -> bool:
        return self._parsing is not None and self._parsing.cr_suspended

    def _on_parse_timeout(self) -> None:
        if self._is_parsing and self._task is not None:
            self._is_overdue = True
            self._task.cancel()

    def _has_parsed_too_long(self) -> bool:
        """Return whether the timeout cancelled the hook; undo the cancellation, so that the reader continues."""
        if not self._is_overdue or self._task is None:
            return False
        self._is_overdue = False
        self._task.uncancel()
        return True

    def _complete(self, kind: type, message: Any) -> Any:
        """Check that several receivers can share the message, and return it. Remember its type for the next messages.

        Raises:
            TypeError: the message is an awaitable or an iterator, which several receivers cannot share.
        """
        if kind is Gap:
            # Wrap a Gap, so that it goes through the dispatcher, which announces it in its place between the messages.
            return Many((message,))
        is_awaitable = isinstance(message, Awaitable)
        if not is_awaitable and not isinstance(message, Iterator | AsyncIterator):
            self._complete_types.add(kind)
            return message
        if type(message) is CoroutineType:
            message.close()
        raise TypeError(
            f"the parse hook returned a {kind.__name__} instead of a message that several receivers can share: "
            + ("it must await it ('async def')" if is_awaitable else "it must return rxws.Many of the items")
        )

    def _rejected(self, frame: Frame, error: BaseException) -> Any:
        """Skip a frame that could not be parsed; raise if the reader itself is cancelled."""
        if self._has_parsed_too_long():
            error = TimeoutError(f"the parse hook waited for more than {PARSE_TIMEOUT:g} s")
        elif isinstance(error, asyncio.CancelledError) and self._task is not None and self._task.cancelling():
            # `is_being_cancelled` does not know the task if this runs in a callback of the connection.
            if self._inbound.undelivered is not None:
                self._inbound.undelivered(frame)
            raise error
        self._dispatcher.reject(frame, error)
        return Many()
