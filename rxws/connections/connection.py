"""One open websocket with its reader: state, sending with a timeout, closing, aborting."""

from __future__ import annotations

import asyncio
import enum
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from typing import Any, Final, TypeVar

from websockets.protocol import State

from ..errors import SendFailed, SendTimeout
from ..messages.frames import Websocket
from ..messages.inbound import Inbound
from ..reporting.cancellation import EXITS, is_being_cancelled
from ..reporting.reporter import Reporter
from .failures import Failure, diagnose
from .send_queue import Priority, PrioritySendQueue
from .transport import abort_transport, abort_websocket, close_soon, discards, wait_overdue

__all__ = ["Connection", "ConnectionState"]

T = TypeVar("T")

#: Seconds after which a reader is cancelled that has not ended since its transport was aborted.
ABORT_TIMEOUT: Final = 0.25


class ConnectionState(enum.Enum):
    """The state of a connection."""

    #: It is open and read; not everything is subscribed on it yet.
    SUBSCRIBING = "subscribing"
    #: Everything is subscribed on it.
    LIVE = "live"
    #: The closing handshake has begun; the connection is read to its end.
    CLOSING = "closing"
    #: Its transport was aborted; frames that came before are still read.
    ABORTING = "aborting"
    #: It was read to its end.
    ENDED = "ended"


#: Which states may follow each state: all later ones.
TRANSITIONS: Mapping[ConnectionState, frozenset[ConnectionState]] = {
    state: frozenset(tuple(ConnectionState)[number:]) for number, state in enumerate(ConnectionState, 1)
}

_USABLE: Final = frozenset({ConnectionState.SUBSCRIBING, ConnectionState.LIVE})


class Connection:
    """An open websocket with the task that reads it to its end.

    Attributes:
        number: 1 for the feed's first connection.
        websocket: the open websocket.
        inbound: its receiving side.
        opened_at: when it was opened, on the loop's clock.
        opened_time: the same in seconds since the epoch.
        state: its state; only the connection itself changes it.
        reader: the task that reads it; the task's result is why the connection ended.
        ended_at: when it was read to its end, in seconds since the epoch; 0 before.
        rotation_task: the task of its rotation hook; None before the hook has begun.
        send_queue: the queue of messages where sending is rate-limited; None: sending is not limited.
        channels: the channels that are subscribed on it.
        on_channel: called with a channel, whether it is subscribed, and the server's answer to the subscription, when
            that changes; None: nothing is called.
        is_complete: whether it was read to its own end, so that nothing that had come was cut off.

    Args:
        websocket: the open websocket.
        number: 1 for the feed's first connection.
        loop: the event loop.
        reporter: logs, counts and emits.
        answer: sends an answer on a connection; called with the connection and the answer.
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
        self.opened_time: Final = reporter.now()
        self.state = ConnectionState.SUBSCRIBING
        self.reader: asyncio.Task[Failure]
        self.inbound: Final = Inbound(
            number, reporter, answer=functools.partial(answer, self), has_ended=lambda: self.reader.done()
        )
        self.ended_at = 0.0
        self.channels: Final[dict[Hashable, None]] = {}
        self.on_channel: Callable[[Hashable, bool, Any], None] | None = None
        self.is_complete = True
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
        """Whether messages can be sent on it: it was not read to its end and is not known to be closing."""
        # Connections of websockets and of picows have a state, with the same numbers.
        is_open = getattr(self.websocket, "state", State.OPEN) == State.OPEN
        return self.state in _USABLE and not self.reader.done() and is_open

    def _enter(self, state: ConnectionState) -> None:
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"no transition from {self.state} to {state}")
        self.state = state
        self._reporter.log(logging.DEBUG, "connection %d is %s", self.number, state.value, about=(self.number, state))

    def subscribed(self) -> None:
        """Enter the state LIVE: everything is subscribed."""
        if self.state is ConnectionState.SUBSCRIBING:
            self._enter(ConnectionState.LIVE)

    @property
    def failure(self) -> Failure:
        """Why it ended. Read this only after the connection was read to its end or closed."""
        if self.reader.done():
            return self.reader.result()
        # It is closed, but the parse hook of its last frame ignores cancellation.
        assert self._failure is not None
        return self._failure

    def start(self, read: Callable[[], Awaitable[None]]) -> None:
        """Start the reader: ``read`` takes all frames, and returns or raises when the connection has ended."""
        self.reader = self._loop.create_task(self._read(read), name=f"rxws reader {self.number}")

    async def limit_close(self, timeout: float) -> None:
        """Abort the connection when the websocket library has been closing it by itself for ``timeout`` seconds."""
        await wait_overdue(self.websocket, timeout)
        # A close of rxws's own has a timeout of its own. The failure is what the library closes for.
        if self._closing is None:
            self.abort()

    async def _read(self, read: Callable[[], Awaitable[None]]) -> Failure:
        error: BaseException | None = None
        try:
            await read()
        except asyncio.CancelledError as ended:
            if self.state is ConnectionState.ABORTING and self._failure is None:
                # The websocket library closed for a failure of its own, and a handler still delayed the reader.
                error = None
            elif self._failure is None and is_being_cancelled(ended):
                # The loop is being torn down, so there is no time for a closing handshake.
                abort_transport(self.websocket)
                raise
            else:
                error = ended
        except EXITS:
            abort_websocket(self.websocket)
            raise
        except BaseException as ended:
            # Also what a hook or a handler raises ends the connection, with that failure.
            error = ended
        self.ended_at = self._reporter.now()
        # A clean end of the iteration, or a close frame: all that the peer had sent before came.
        self.is_complete = self.is_complete and (error is None or getattr(error, "rcvd", None) is not None)
        if self._closing is None and getattr(self.websocket, "state", None) != State.CLOSED:
            # The reading has ended, but the connection has not.
            abort_websocket(self.websocket)
        return self._failure or diagnose(error, self.websocket, now=self.ended_at)

    async def acquire_slot(self, priority: Priority) -> None:
        """Wait until one more message may be sent. Where sending is not limited, return at once.

        Afterwards call :meth:`send` with a ``priority`` of None, or :meth:`release_slot`. Cancelling is safe.

        Raises:
            SendFailed: the connection was lost meanwhile.
        """
        if self.send_queue is not None and not await self.send_queue.acquire(priority):
            raise SendFailed("the connection was lost before it was the message's turn: it was not sent")

    def release_slot(self) -> None:
        """Give back a slot without sending."""
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
        """Send a payload. Where sending is limited, wait for a slot first.

        If cancelled, the payload may or may not have been sent.

        Args:
            payload: ``str`` for a text frame, bytes for a binary one.
            timeout: seconds for the slot and for the peer to take the payload.
            priority: the priority in the queue; None: the caller has acquired a slot already.
            patience: the connection is aborted only if the peer took nothing for half of so many seconds; None means
                ``timeout``. The wait for the slot does not count here, because the peer did not cause it.

        Raises:
            SendTimeout: no slot was free in time: nothing was sent. Or the peer took nothing in time: the connection
                was aborted. Or the peer had too little time, and it may take the payload later.
            SendFailed: the connection was lost meanwhile.
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
                # The library sends the payload when the peer reads again: it cannot be withdrawn.
                why = f"the peer had not taken the message within {patience:g} s: whether it does is not known"
                raise SendTimeout(why) from error
            self.fail(Failure("network", f"the peer took nothing for {timeout:g} s", error=error))
            raise SendTimeout(f"the peer took nothing for {timeout:g} s: the connection was aborted") from error
        except Exception as error:
            raise SendFailed("the connection was lost while sending") from error
        if discards(self.websocket):
            raise SendFailed("the connection was lost while sending")

    def send_soon(self, payload: str | bytes, timeout: float, priority: Priority = Priority.NORMAL) -> None:
        """Send in the background, in the order of the calls.

        A failure is reported if the connection is still live; otherwise the end of the connection is reported.
        """
        self.run(self.send(payload, timeout, priority), f"rxws send {self.number}")

    def run(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run a coroutine until the connection ends, which cancels it. If it fails before, report that."""
        task = self._loop.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        # Otherwise the connection has ended, which is reported once, for its reader.
        if error is not None and self.is_live:
            self._reporter.failed(task.get_name(), None, error)

    def change_channel(self, channel: Hashable, is_subscribed: bool, answer: Any = None) -> None:
        """Note that a channel is subscribed here now, or no longer, and what the server answered, if that is known."""
        if is_subscribed:
            self.channels[channel] = None
        else:
            self.channels.pop(channel, None)
        if self.on_channel is not None:
            self.on_channel(channel, is_subscribed, answer)

    def fail(self, failure: Failure) -> None:
        """Abort the connection because of ``failure``. If it has a failure already, that one is kept."""
        self._failure = self._failure or failure
        self.abort()

    def abort(self) -> None:
        """Abort the connection without a closing handshake, so that the peer cannot delay it. Idempotent."""
        if self.reader.done():
            return
        if self.state is not ConnectionState.ABORTING:
            self._enter(ConnectionState.ABORTING)
        self.is_complete = False
        if not abort_transport(self.websocket):
            self._close_soon()
            self.reader.cancel()
        elif self._last_call is None:
            # By then the reader has delivered the frames that had come, unless a hook blocks it.
            self._last_call = self._loop.call_later(ABORT_TIMEOUT, self.reader.cancel)

    def _close_soon(self) -> asyncio.Task[None]:
        if self._closing is None:
            self._closing = close_soon(self.websocket)
        return self._closing

    async def close(self, failure: Failure, timeout: float) -> None:
        """Close with code 1000 and read to the end; abort after ``timeout`` seconds.

        Cancelling aborts the connection.

        Args:
            failure: why the connection ends; kept only if it has no failure yet.
            timeout: seconds for the closing handshake and the reader.
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
            # The parse hook ignores cancellation: discard what it returns later.
            self.ended_at = self._reporter.now()
            self.inbound.discard()

    def end(self) -> None:
        """Enter the state ENDED and cancel the connection's tasks and replies: it was read to its end."""
        if self.state is not ConnectionState.ENDED:
            self._enter(ConnectionState.ENDED)
        if self._last_call is not None:
            self._last_call.cancel()
        if self.send_queue is not None:
            self.send_queue.stop()
        self.inbound.cancel_replies()
        for task in self._tasks:
            task.cancel()
