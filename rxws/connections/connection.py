"""One open websocket: from its opening to its end, sent to in time, closed or aborted."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from ..errors import SendFailed, SendTimeout
from ..messages.frames import Websocket
from ..messages.inbound import Inbound
from ..reporting.cancellation import EXITS, is_being_cancelled
from ..reporting.reporter import Reporter
from .failures import Failure, diagnose
from .send_queue import Priority, PrioritySendQueue

__all__ = ["Connection", "ConnectionState", "abort_websocket", "check_websocket"]

ABORT_TIMEOUT: Final = 0.25
"""Seconds that a reader has to come to its end by itself after its transport was cut."""

CLOSE_TIMEOUT: Final = 30.0
"""Seconds after which a close that nobody waits for is given up; the libraries give up after 10."""

CLOSED: Final = 3
"""The state of a closed connection in the enum of websockets and in that of picows; ``OPEN`` is 1."""


class ConnectionState(enum.Enum):
    """Where a connection is in its life."""

    SUBSCRIBING = "subscribing"
    """It is open and read; not everything is subscribed on it."""
    LIVE = "live"
    """Everything is subscribed on it."""
    CLOSING = "closing"
    """It is read to its end after the closing handshake was begun."""
    ABORTING = "aborting"
    """Its transport was cut; what had come before is still read."""
    ENDED = "ended"
    """It was read to its end, or its reader did not end in time."""


TRANSITIONS: Mapping[ConnectionState, frozenset[ConnectionState]] = {
    ConnectionState.SUBSCRIBING: frozenset(
        {ConnectionState.LIVE, ConnectionState.CLOSING, ConnectionState.ABORTING, ConnectionState.ENDED}
    ),
    ConnectionState.LIVE: frozenset({ConnectionState.CLOSING, ConnectionState.ABORTING, ConnectionState.ENDED}),
    ConnectionState.CLOSING: frozenset({ConnectionState.ABORTING, ConnectionState.ENDED}),
    ConnectionState.ABORTING: frozenset({ConnectionState.ENDED}),
    ConnectionState.ENDED: frozenset(),
}
"""Which states may follow each state."""

_USABLE: Final = frozenset({ConnectionState.SUBSCRIBING, ConnectionState.LIVE})


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


def _abort_transport(websocket: Websocket) -> bool:
    """Cut the transport at once; return False if the websocket shows none that can be cut, as picows' do not."""
    abort = getattr(getattr(websocket, "transport", None), "abort", None)
    if not callable(abort):
        return False
    abort()
    return True


def _is_closing(websocket: Websocket) -> bool:
    # A subclass may open its own kind of websocket, whose transport may lack the method.
    is_closing = getattr(getattr(websocket, "transport", None), "is_closing", None)
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
    if not _abort_transport(websocket):
        _close_soon(websocket)


class Connection:
    """An open websocket with the task that reads it to its end.

    Attributes:
        number: 1 for the feed's first connection.
        websocket: the open websocket.
        inbound: its receiving side.
        opened_at: when it was opened, on the loop's clock.
        state: where it is in its life; only the connection changes it.
        reader: the task that reads it; its result is why the connection ended.
        ended_at: when it was read to its end, in seconds since the epoch.
        rotation_task: the task of its rotation hook, once that has begun.
        send_queue: orders what is sent where sending is limited; None: it is not limited.

    Args:
        websocket: the open websocket.
        number: 1 for the feed's first connection.
        loop: the event loop.
        reporter: logs, counts and emits.
        answer: sends a reply on the connection that it is given.
    """

    def __init__(
        self,
        websocket: Websocket,
        number: int,
        loop: asyncio.AbstractEventLoop,
        reporter: Reporter,
        answer: Callable[[Connection, Any], None],
    ) -> None:
        self.number: Final = number
        self.websocket: Final = websocket
        self.opened_at: Final = loop.time()
        self.state = ConnectionState.SUBSCRIBING
        self.reader: asyncio.Task[Failure]
        self.inbound: Final = Inbound(
            number, loop, reporter, answer=functools.partial(answer, self), has_ended=lambda: self.reader.done()
        )
        self.ended_at = 0.0
        self.rotation_task: asyncio.Task[Any] | None = None
        self.send_queue: PrioritySendQueue | None = None
        self._loop = loop
        self._reporter = reporter
        self._failure: Failure | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing: asyncio.Task[None] | None = None
        self._last_call: asyncio.TimerHandle | None = None

    @property
    def is_live(self) -> bool:
        """Whether it can still be sent to: neither read to its end, nor known to be closing."""
        # Both websockets and picows tell their state; 1 is OPEN in the enum State of either.
        return self.state in _USABLE and not self.reader.done() and getattr(self.websocket, "state", 1) == 1

    def _enter(self, state: ConnectionState) -> None:
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"no transition from {self.state} to {state}")
        self.state = state
        self._reporter.log(logging.DEBUG, "connection %d is %s", self.number, state.value, about=(self.number, state))

    def subscribed(self) -> None:
        """Count as open: everything is subscribed."""
        if self.state is ConnectionState.SUBSCRIBING:
            self._enter(ConnectionState.LIVE)

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
                _abort_transport(self.websocket)
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
        patience = patience or timeout
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
            if self._loop.time() - handed < patience / 2:
                # What the library has taken goes out when the peer reads again: it cannot be taken back.
                why = f"the peer had not taken the message within {patience:g} s: whether it does is not known"
                raise SendTimeout(why) from error
            self.fail(Failure("network", f"the peer took nothing for {timeout:g} s", error=error))
            raise SendTimeout(f"the peer took nothing for {timeout:g} s: the connection was aborted") from error
        except Exception as error:
            raise SendFailed("the connection was lost while sending") from error
        if _is_closing(self.websocket):
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
        self._failure = self._failure or failure
        self.abort()

    def abort(self) -> None:
        """Cut the connection without a closing handshake: nothing that the peer does delays it."""
        if self.reader.done():
            return
        if self.state is not ConnectionState.ABORTING:
            self._enter(ConnectionState.ABORTING)
        if not _abort_transport(self.websocket):
            self._close_soon()
            self.reader.cancel()
        elif self._last_call is None:
            # By then it has delivered what had come, unless it waits for something that never comes.
            self._last_call = self._loop.call_later(ABORT_TIMEOUT, self.reader.cancel)

    def _close_soon(self) -> asyncio.Task[None]:
        if self._closing is None:
            self._closing = _close_soon(self.websocket)
        return self._closing

    async def close(self, failure: Failure, timeout: float) -> None:
        """Close with code 1000, reading on to the end; abort after ``timeout`` seconds.

        Cancelling aborts the connection.
        """
        if self.reader.done():
            return
        self._failure = self._failure or failure
        if self.state in _USABLE:
            self._enter(ConnectionState.CLOSING)
        closing = self._close_soon()
        try:
            await asyncio.wait({self.reader, closing}, timeout=timeout)
        finally:
            if not (self.reader.done() and closing.done()):
                self.abort()
        await asyncio.wait({self.reader}, timeout=2 * ABORT_TIMEOUT)
        if not self.reader.done():
            # What comes of it now would come too late.
            self.ended_at = self._reporter.now()
            self.inbound.discard()

    def end(self) -> None:
        """Cancel all that lives no longer than the connection: it has been read to its end."""
        if self.state is not ConnectionState.ENDED:
            self._enter(ConnectionState.ENDED)
        if self._last_call is not None:
            self._last_call.cancel()
        if self.send_queue is not None:
            self.send_queue.stop()
        self.inbound.cancel_replies()
        for task in self._tasks:
            task.cancel()
