"""One open websocket with its reader and its state. Sends with a timeout, closes, and aborts."""

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
from .patience import timeout_at
from .send_queue import Priority, PrioritySendQueue
from .transport import abort_transport, abort_websocket, close_soon, discards, wait_overdue

__all__ = ["Connection", "ConnectionState"]

T = TypeVar("T")

#: The reader is cancelled if it has not ended this many seconds after its transport was aborted.
ABORT_TIMEOUT: Final = 0.25


class ConnectionState(enum.Enum):
    """The state of a connection."""

    #: It is open and has a reader. Not all channels are subscribed on it yet.
    SUBSCRIBING = "subscribing"
    #: All channels are subscribed on it.
    LIVE = "live"
    #: The closing handshake has begun. The reader continues until the connection ends.
    CLOSING = "closing"
    #: Its transport was aborted. The reader still takes the frames that arrived before.
    ABORTING = "aborting"
    #: The reader has ended.
    ENDED = "ended"


#: For each state the states that may follow, which are all later ones.
TRANSITIONS: Mapping[ConnectionState, frozenset[ConnectionState]] = {
    state: frozenset(tuple(ConnectionState)[number:]) for number, state in enumerate(ConnectionState, 1)
}

_USABLE: Final = frozenset({ConnectionState.SUBSCRIBING, ConnectionState.LIVE})


class Connection:
    """An open websocket with its reader: the task that takes all of its frames.

    Attributes:
        number: 1 for the feed's first connection.
        websocket: the open websocket.
        inbound: its receiving side.
        opened_at: when it was opened, on the loop's clock.
        opened_time: the same time, in seconds since the epoch.
        state: its state; only the connection itself changes it.
        reader: the task that takes its frames; the result is why the connection ended.
        ended_at: when the reader ended, in seconds since the epoch; 0 before.
        rotation_task: the task of its rotation hook; None before the hook has begun.
        send_queue: the queue of messages if sending is rate-limited; None if it is not.
        channels: the channels that are subscribed on it. After its end, those without an answer are included.
        on_channel: called with a channel, whether it is subscribed, and the server's answer to the subscription, when
            that changes; None: nothing is called.
        is_complete: whether the reader took everything that the peer sent before the connection ended.

    Args:
        websocket: the open websocket.
        number: 1 for the feed's first connection.
        loop: the event loop.
        reporter: logs, counts and emits.
        answer: called with a connection and an answer, which it sends.
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
        """Whether messages can be sent: the reader has not ended, and the connection is not known to be closing."""
        # The connections of websockets and of picows both have a ``state`` with the same numbers.
        is_open = getattr(self.websocket, "state", State.OPEN) == State.OPEN
        return self.state in _USABLE and not self.reader.done() and is_open

    def _enter(self, state: ConnectionState) -> None:
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"no transition from {self.state} to {state}")
        self.state = state
        self._reporter.log(logging.DEBUG, "connection %d is %s", self.number, state.value, about=(self.number, state))

    def subscribed(self) -> None:
        """Enter the state LIVE, because all channels are subscribed."""
        if self.state is ConnectionState.SUBSCRIBING:
            self._enter(ConnectionState.LIVE)

    @property
    def failure(self) -> Failure:
        """Why the connection ended. Use this only after the reader has ended, or the connection was closed."""
        if self.reader.done():
            return self.reader.result()
        # The connection is closed, but the parse hook of its last frame ignores cancellation, so the reader still runs.
        assert self._failure is not None
        return self._failure

    def start(self, read: Callable[[], Awaitable[None]]) -> None:
        """Start the reader: ``read`` takes all frames, and returns or raises when the connection has ended."""
        self.reader = self._loop.create_task(self._read(read), name=f"rxws reader {self.number}")

    async def limit_close(self, timeout: float) -> None:
        """Abort the connection if the websocket library itself began to close it and needs over ``timeout`` seconds."""
        await wait_overdue(self.websocket, timeout)
        # If rxws closes the connection, `close` has its own timeout. No failure is set here: the reader reports the
        # library's reason.
        if self._closing is None:
            self.abort()

    async def _read(self, read: Callable[[], Awaitable[None]]) -> Failure:
        error: BaseException | None = None
        try:
            await read()
        except asyncio.CancelledError as ended:
            if self.state is ConnectionState.ABORTING and self._failure is None:
                # The library itself closed the connection, and a handler delayed the reader so long that it was
                # cancelled.
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
            # An exception from a hook or a handler also ends the connection, and becomes its failure.
            error = ended
        self.ended_at = self._reporter.now()
        # The iteration ended without an error, or there is a close frame. So everything that the peer sent has arrived.
        self.is_complete = self.is_complete and (error is None or getattr(error, "rcvd", None) is not None)
        if self._closing is None and getattr(self.websocket, "state", None) != State.CLOSED:
            # The reader has ended, but the connection is still open.
            abort_websocket(self.websocket)
        return self._failure or diagnose(error, self.websocket, now=self.ended_at)

    async def acquire_slot(self, priority: Priority) -> None:
        """Wait until one more message may be sent. If sending is not limited, return at once.

        Afterwards call :meth:`send` with a ``priority`` of None, or :meth:`release_slot`. Cancelling is safe.

        Raises:
            SendFailed: the connection was lost meanwhile.
        """
        if self.send_queue is not None and not await self.send_queue.acquire(priority):
            raise SendFailed("the connection was lost while the message was queued: the message was not sent")

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
        """Send a payload. If sending is limited, wait for a slot first.

        If cancelled, the payload may or may not have been sent.

        Args:
            payload: ``str`` for a text frame, bytes for a binary one.
            timeout: the seconds allowed for both, the wait for a slot and the wait for the peer to take the payload.
            priority: the priority in the queue; None if the caller has already acquired a slot.
            patience: seconds; the connection is aborted only if the peer took nothing for at least half of this time.
                None means ``timeout``. The wait for the slot does not count, because the peer did not cause it.

        Raises:
            SendTimeout: no slot was free in time, and nothing was sent; or the peer took nothing in time, and the
                connection was aborted; or too little time was left for the peer, which may still take the payload.
            SendFailed: the connection was lost meanwhile.
        """
        deadline = self._loop.time() + timeout
        patience = patience or timeout
        if priority is not None and self.send_queue is not None:
            try:
                async with asyncio.timeout_at(deadline):
                    await self.acquire_slot(priority)
            except TimeoutError as error:
                raise SendTimeout(f"the message was queued for {timeout:g} s and was not sent") from error
        if self.send_queue is not None:
            self.send_queue.record()
        try:
            async with timeout_at(deadline) as waiting:
                handed = self._loop.time()
                await self.websocket.send(payload)
        except TimeoutError as error:
            if not waiting.expired():
                raise SendFailed("the connection was lost while sending") from error
            if self._loop.time() - handed < patience / 2:
                # The payload cannot be withdrawn. The library sends it when the peer reads again.
                why = f"the peer did not take the message within {patience:g} s, but may still take it"
                raise SendTimeout(why) from error
            self.fail(Failure("network", f"the peer took nothing for {timeout:g} s", error=error))
            raise SendTimeout(f"the peer took nothing for {timeout:g} s: the connection was aborted") from error
        except Exception as error:
            raise SendFailed("the connection was lost while sending") from error
        if discards(self.websocket):
            raise SendFailed("the connection was lost while sending")

    def send_soon(self, payload: str | bytes, timeout: float, priority: Priority = Priority.NORMAL) -> None:
        """Send in the background, in the order of the calls.

        A failure is reported if the connection is still live. Otherwise only the end of the connection is reported.
        """
        self.run(self.send(payload, timeout, priority), f"rxws send {self.number}")

    def run(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run a coroutine, and cancel it when the connection ends. If it fails before, report the failure."""
        task = self._loop.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        # If the connection is not live, its end explains the error, and is reported once, when the reader ends.
        if error is not None and self.is_live:
            self._reporter.failed(task.get_name(), None, error)

    def change_channel(self, channel: Hashable, is_subscribed: bool, answer: Any = None) -> None:
        """Note whether a channel is now subscribed on this connection, and the server's answer if it is known."""
        if is_subscribed:
            self.channels[channel] = None
        else:
            self.channels.pop(channel, None)
        if self.on_channel is not None:
            self.on_channel(channel, is_subscribed, answer)

    def fail(self, failure: Failure) -> None:
        """Abort the connection because of ``failure``. A failure that was set before is kept."""
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
            # By then the reader has delivered all frames that arrived, unless a hook delays it.
            self._last_call = self._loop.call_later(ABORT_TIMEOUT, self.reader.cancel)

    def _close_soon(self) -> asyncio.Task[None]:
        if self._closing is None:
            self._closing = close_soon(self.websocket)
        return self._closing

    async def close(self, failure: Failure, timeout: float) -> None:
        """Close with code 1000 and wait for the reader; abort after ``timeout`` seconds.

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
            # The parse hook ignores cancellation. Discard what it returns later.
            self.ended_at = self._reporter.now()
            self.inbound.discard()

    def end(self) -> None:
        """Enter the state ENDED after the reader has ended, and cancel the connection's tasks and awaited replies."""
        if self.state is not ConnectionState.ENDED:
            self._enter(ConnectionState.ENDED)
        if self._last_call is not None:
            self._last_call.cancel()
        if self.send_queue is not None:
            self.send_queue.stop()
        self.inbound.cancel_replies()
        for task in self._tasks:
            task.cancel()
