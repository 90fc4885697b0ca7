"""One open websocket: from its opening to its end, sent to in time, closed or aborted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final

from ..errors import SendFailed, SendTimeout
from ..messages.filters import Filter
from ..messages.frames import Websocket
from ..reporting.cancellation import EXITS, FAILURES, is_being_cancelled
from ..reporting.reporter import Reporter
from .failures import Failure, diagnose
from .send_queue import Priority, PrioritySendQueue

__all__ = ["Connection", "Sink", "abort_websocket", "check_websocket"]

ABORT_TIMEOUT: Final = 0.25
"""Seconds that a reader has to come to its end by itself after its transport was cut."""

CLOSE_TIMEOUT: Final = 30.0
"""Seconds after which a close that nobody waits for is given up; the libraries give up after 10."""

CLOSED: Final = 3
"""The state of a closed connection in the enum of websockets and in that of picows; ``OPEN`` is 1."""

Sink = Callable[[str | bytes, Any, int], None]
"""Takes a frame, its message, and when it was received (nanoseconds since the epoch, or 0 when nobody asks)."""


def _drop(_frame: str | bytes, _message: Any, _received: int) -> None:
    """Take a message of a connection that has been given up."""


def check_websocket(websocket: object, origin: str) -> Websocket:
    """Return ``websocket`` if it has the websockets asyncio API.

    Raises:
        TypeError: naming ``origin``, what it gave and what was expected.
    """
    missing = [name for name in ("__aiter__", "send", "close") if not callable(getattr(websocket, name, None))]
    if not missing:
        return websocket  # type: ignore[return-value]
    hint = " (is an 'await' missing?)" if callable(getattr(websocket, "__await__", None)) else ""
    raise TypeError(
        f"{origin} must return an open connection with the websockets asyncio API (async for, send, close), "
        f"not {type(websocket).__name__} without {', '.join(missing)}{hint}"
    )


def _transport(websocket: Websocket) -> asyncio.WriteTransport | None:
    transport = getattr(websocket, "transport", None)
    return transport if callable(getattr(transport, "abort", None)) else None


def _is_closing(transport: asyncio.WriteTransport | None) -> bool:
    # A connection of a subclass's own making may have a transport of its own making.
    is_closing = getattr(transport, "is_closing", None)
    return callable(is_closing) and bool(is_closing())


_CLOSING: Final[set[asyncio.Task[None]]] = set()
"""Tasks that close connections which nobody waits for: the loop holds tasks weakly."""


def _close_soon(websocket: Websocket) -> asyncio.Task[None]:
    async def close() -> None:
        # A connection that breaks while it is being closed is closed.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await websocket.close()

    task = asyncio.get_running_loop().create_task(close(), name="rxws close websocket")
    _CLOSING.add(task)
    task.add_done_callback(_CLOSING.discard)
    return task


def abort_websocket(websocket: Websocket) -> None:
    """Cut a connection without a closing handshake: nothing that the peer does delays it.

    One that shows no transport, as picows', is left to its own ``close``, which gives up after its own timeout.
    """
    transport = _transport(websocket)
    if transport is not None:
        transport.abort()
    else:
        _close_soon(websocket)


class Connection:
    """An open websocket with the task that reads it to its end.

    Attributes:
        number: 1 for the feed's first connection.
        opened_at: when it was opened, on the loop's clock.
        last_received_at: when the last message came, on the loop's clock, to the accuracy of one turn of the loop;
            None if none has come.
        sink: where its messages go; the delivery sets it.
        reader: the task; its result is why the connection ended.
        ended_at: when it was read to its end, in seconds since the epoch.
        hook: the task of its rotation hook, once that has begun.
        turns: who may send next, where sending is limited.
        expected: what is awaited as an answer: by the future of the first message that passes, the filters, and whether
            that message is for others, too.
        is_subscribed: whether everything is subscribed on it, so that it counts as open.
        predecessor: the connection from which it is to take over, in a rotation; None: from none, or it has.
    """

    def __init__(self, websocket: Websocket, number: int, loop: asyncio.AbstractEventLoop, reporter: Reporter) -> None:
        self.websocket: Final = websocket
        self.number: Final = number
        self.opened_at = loop.time()
        self.last_received_at: float | None = None
        self.sink: Sink | None = None
        self._loop = loop
        self._reporter = reporter
        self._failure: Failure | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing: asyncio.Task[None] | None = None
        self._last_call: asyncio.TimerHandle | None = None
        self.reader: asyncio.Task[Failure]
        self.ended_at = 0.0
        self.rotation_task: asyncio.Task[Any] | None = None
        self.send_queue: PrioritySendQueue | None = None
        self.pending_replies: dict[asyncio.Future[tuple[Any, Filter]], tuple[list[Filter], bool]] = {}
        self.is_subscribed = False
        self.predecessor: Connection | None = None

    @property
    def is_held(self) -> bool:
        """Whether its messages are held for the reason that the connection before it delivers still."""
        return self.predecessor is not None and not self.predecessor.reader.done()

    @property
    def is_live(self) -> bool:
        """Whether it can still be sent to: neither read to its end, nor known to be closing."""
        # Both websockets and picows tell; 1 is OPEN in the enum State of either.
        state = getattr(self.websocket, "state", 1)
        return self._failure is None and not self.reader.done() and state == 1

    @property
    def failure(self) -> Failure:
        """Why it ended; to be asked only once it was read to its end, or closed."""
        if self.reader.done():
            return self.reader.result()
        # Closed, but what parses its last frame does not heed the cancellation.
        assert self._failure is not None
        return self._failure

    def start(self, read: Callable[[], Awaitable[None]]) -> None:
        """Begin to read: ``read`` takes what comes, and returns or raises when the connection has ended."""
        self.reader = self._loop.create_task(self._read(read), name=f"rxws reader {self.number}")

    async def _read(self, read: Callable[[], Awaitable[None]]) -> Failure:
        error: BaseException | None = None
        try:
            await read()
        except asyncio.CancelledError as ended:
            if self._failure is None and is_being_cancelled(ended):
                # The loop is being torn down, and nothing that takes time can be done any more.
                transport = _transport(self.websocket)
                if transport is not None:
                    transport.abort()
                raise
            error = ended
        except EXITS:
            abort_websocket(self.websocket)
            raise
        except BaseException as ended:
            # Whatever a hook or a handler raises, the connection does not just stop being read.
            error = ended
        self.ended_at = self._reporter.now()
        if self._closing is None and getattr(self.websocket, "state", None) != CLOSED:
            # What was raised, or the end of the iteration, was not the end of the connection.
            abort_websocket(self.websocket)
        return self._failure or diagnose(error, self.websocket, now=self.ended_at)

    def expect_reply(self, filters: list[Filter], *, is_shared: bool = False) -> asyncio.Future[tuple[Any, Filter]]:
        """Return a future of the next message here that passes one of ``filters``, and of the first that it passes.

        It is to be cancelled if it is not awaited.

        One message is one answer: of two who expect the same, the second waits for the next. But where it ``is_shared``
        it answers all who share it, and is for the streams as well.
        """
        future: asyncio.Future[tuple[Any, Filter]] = self._loop.create_future()
        self.pending_replies[future] = filters, is_shared
        future.add_done_callback(self.pending_replies.pop)
        return future

    def resolve_reply(self, message: Any) -> bool:
        """Fulfil whoever has expected ``message`` for longest; return whether it was for nobody else."""
        # A filter of the user's may expect something in its turn.
        for future, (filters, is_shared) in list(self.pending_replies.items()):
            if is_shared and self.sink is None:
                # The streams have it in the same moment: no filter is asked twice.
                continue
            passed = None if future.done() else next((each for each in filters if self._passes(each, message)), None)
            if passed is not None:
                future.set_result((message, passed))
                if not is_shared:
                    return True
        return False

    def _passes(self, expected: Filter, message: Any) -> bool:
        # Not guarded: a thousand answers may be awaited, and each message is held against all of them.
        try:
            return expected(message)
        except FAILURES as error:
            self._reporter.failed(expected.predicate or expected, message, error)
            return False

    async def acquire_slot(self, priority: Priority) -> None:
        """Wait until one more message may be sent, which is at once where sending is not limited.

        Whoever was given a turn sends with a ``priority`` of None, or calls :meth:`release_slot`. Cancelling is safe.

        Raises:
            SendFailed: if the connection is lost meanwhile.
        """
        if self.send_queue is not None and not await self.send_queue.acquire(priority):
            raise SendFailed("the connection was lost before it was the message's turn: it was not sent")

    def release_slot(self) -> None:
        """Do without a turn that was taken."""
        if self.send_queue is not None:
            self.send_queue.release()

    async def send(
        self,
        payload: str | bytes,
        timeout: float,
        priority: Priority | None = Priority.NORMAL,
        *,
        patience: float | None = None,
    ) -> None:
        """Hand a payload to the connection within ``timeout`` seconds, in its turn where sending is limited.

        The wait for the turn counts. With a ``priority`` of None the turn has been taken already. A peer is cut off
        only if it took nothing for half of ``patience`` (None: of ``timeout``): what went by before is not its fault.

        Cancelling leaves it open whether the payload was sent.

        Raises:
            SendTimeout: if the turn does not come for that long; if the peer takes nothing, and then the connection is
                aborted; or if the time is over before it has taken everything, which it may do yet.
            SendFailed: if the connection is lost meanwhile.
        """
        deadline = self._loop.time() + timeout
        if priority is not None and self.send_queue is not None:
            try:
                async with asyncio.timeout_at(deadline):
                    await self.acquire_slot(priority)
            except TimeoutError as error:
                raise SendTimeout(f"it was not the message's turn for {timeout:g} s: it was not sent") from error
        if self.send_queue is not None:
            self.send_queue.record()
        try:
            async with asyncio.timeout_at(deadline) as waiting:
                handed = self._loop.time()
                await self.websocket.send(payload)
        except TimeoutError as error:
            if not waiting.expired():
                raise SendFailed("the connection was lost while sending") from error
            if self._loop.time() - handed < (patience or timeout) / 2:
                # What the library has taken goes out when the peer reads again: it cannot be taken back.
                raise SendTimeout(
                    f"the peer had not taken the message within {patience or timeout:g} s: whether it does is not known"
                ) from error
            self.fail(Failure("network", f"the peer took nothing for {timeout:g} s", error=error))
            raise SendTimeout(f"the peer took nothing for {timeout:g} s: the connection was aborted") from error
        except Exception as error:
            raise SendFailed("the connection was lost while sending") from error
        if _is_closing(_transport(self.websocket)):
            # The transport takes what the kernel refuses, without a word.
            raise SendFailed("the connection was lost while sending")

    def send_soon(self, payload: str | bytes, timeout: float, priority: Priority = Priority.NORMAL) -> None:
        """Send in the background, in the order of the calls. If it fails, so does the connection, which is reported."""
        task = self._loop.create_task(self.send(payload, timeout, priority), name=f"rxws send {self.number}")
        self.track(task)

    def track(self, task: asyncio.Task[Any]) -> None:
        """Hold on to a task that lives no longer than the connection; its failure ends with it."""
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        # Otherwise the reader meets the same end, and that one is reported.
        if error is not None and self.is_live:
            self._reporter.failed(task.get_name(), None, error)

    def fail(self, failure: Failure) -> None:
        """End the connection at once, for the reason given."""
        if self.reader.done():
            return
        self._failure = self._failure or failure
        self.abort()

    def abort(self) -> None:
        """Cut the connection without a closing handshake: nothing that the peer does delays it."""
        if self.reader.done():
            return
        transport = _transport(self.websocket)
        if transport is not None:
            transport.abort()
            if self._last_call is None:
                # By then it has delivered what had come, unless it waits for something that never comes.
                self._last_call = self._loop.call_later(ABORT_TIMEOUT, self.reader.cancel)
            return
        if self._closing is None:
            self._closing = _close_soon(self.websocket)
        self.reader.cancel()

    async def close(self, failure: Failure, timeout: float) -> None:
        """Close with code 1000, reading on to the end; abort after ``timeout`` seconds.

        Cancelling aborts the connection.
        """
        if self.reader.done():
            return
        self._failure = self._failure or failure
        if self._closing is None:
            self._closing = _close_soon(self.websocket)
        closing = self._closing
        try:
            await asyncio.wait({self.reader, closing}, timeout=timeout)
        finally:
            if not (self.reader.done() and closing.done()):
                self.abort()
        await asyncio.wait({self.reader}, timeout=2 * ABORT_TIMEOUT)
        if not self.reader.done():
            # What comes of it now would come too late.
            self.ended_at = self._reporter.now()
            self.sink = _drop

    def end(self) -> None:
        """Cancel all that lives no longer than the connection: it has been read to its end."""
        if self._last_call is not None:
            self._last_call.cancel()
        if self.send_queue is not None:
            self.send_queue.stop()
        for answer in self.pending_replies:
            answer.cancel()
        for task in (*self._tasks, self.rotation_task):
            if task is not None:
                task.cancel()
