"""A line: one websocket that is kept alive.

Signals say that a new connection is needed. A handover then replaces the connection, and returns the one that delivers.
"""

from __future__ import annotations

import asyncio
import enum
from abc import ABC, abstractmethod
from typing import Any, Final

import reactivex
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.subject import Subject

from ..errors import ConnectFailed
from ..observables.loop_context import LoopContext
from ..reporting.cancellation import EXITS
from ..reporting.state import State
from .connection import Connection
from .failures import Failure
from .opener import Opener, RotationHost
from .rotation_hook import RotationHook

__all__ = ["Line", "Signal"]

#: The largest number of seconds for which rxws reads the old connection after the closing handshake has begun.
DRAIN_TIMEOUT: Final = 1.0


class Signal(enum.Enum):
    """Why a new connection is needed."""

    START = enum.auto()
    LOST = enum.auto()
    #: The rotation hook ended.
    DUE = enum.auto()
    #: ``rotate()`` was called.
    ROTATE = enum.auto()


class Line(ABC):
    """One websocket that is kept alive: after each loss and for each rotation another connection replaces it.

    ::

        signals ── exclusive(handover) ── switch_map(watch) ──┐
           ▲       one at a time          the newest one      │
           └──────── lost, or due for rotation ◄──────────────┘

    A subclass implements the handover.

    Args:
        context: the feed's event loop, scheduler and reporter.
        host: the feed.
        opener: opens connections.

    Attributes:
        connections: all open connections.
    """

    def __init__(self, context: LoopContext, host: RotationHost, opener: Opener) -> None:
        self.connections: Final = opener.connections
        self._context = context
        self._loop = context.loop
        self._host = host
        self._opener = opener
        self._backoff = opener.backoff
        self._connection_reporter = opener.connection_reporter
        self._signals: Subject[Signal] = Subject()
        self._subscription: abc.DisposableBase = Disposable()
        self._current: Connection | None = None
        self._hook = RotationHook(context, host, opener.connection_reporter)
        self._finished: asyncio.Future[bool] | None = None
        self._handing_over: asyncio.Task[Connection] | None = None
        self._stopped = False
        # Whether a connection that replaced a lost one delivers but is not announced yet; and whether rotate() was
        # called in that time.
        self._is_entered = self._is_asked = False

    # The Observable

    def start(self) -> None:
        """Open the first connection, and then a new one after each loss and for each rotation."""
        handovers = self._signals.pipe(
            ops.map(self._handover),
            # `exclusive` ignores signals during a rotation.
            ops.exclusive(),
        )
        self._subscription = handovers.pipe(ops.switch_map(self._watch)).subscribe(
            self._signals.on_next, self._host.failed, scheduler=self._context.scheduler
        )
        self._signals.on_next(Signal.START)

    def rotate(self) -> asyncio.Future[bool]:
        """Rotate now, unless a rotation is under way.

        Returns:
            A future with the result: whether the first attempt succeeded. Cancelling it does not cancel the rotation.
        """
        if self._finished is None or self._finished.done():
            self._finished = self._loop.create_future()
        self._is_asked = self._is_asked or self._is_entered
        self._signals.on_next(Signal.ROTATE)
        # Each caller gets its own future, so that cancelling it does not cancel the futures of other callers.
        return asyncio.shield(self._finished)

    def _handover(self, signal: Signal) -> Observable[Connection]:
        def begin(_scheduler: abc.SchedulerBase) -> Observable[Connection]:
            if signal is not Signal.DUE:
                self._hook.reset()
            self._handing_over = self._loop.create_task(self._hand_over(), name="rxws handover")
            return reactivex.from_future(self._handing_over)

        return reactivex.defer(begin)

    def _watch(self, connection: Connection) -> Observable[Signal]:
        # Announce in a later callback. A caller that waits for the state may then call rotate() at once, which would be
        # ignored during this handover.
        self._loop.call_soon(self._announce_connected, connection)
        # The reader itself is not passed to switch_map, because switch_map cancels the future of the connection that it
        # leaves, and because the reader may have raised, which the opener reports.
        ended: asyncio.Future[Signal] = self._loop.create_future()
        connection.reader.add_done_callback(lambda _: None if ended.done() else ended.set_result(Signal.LOST))
        lost = reactivex.from_future(ended)
        due = self._hook.due(connection).pipe(ops.map(lambda _: Signal.DUE))
        return reactivex.merge(lost, due).pipe(ops.take(1))

    # A handover

    async def _hand_over(self) -> Connection:
        """Return a connection that delivers in place of the current one."""
        try:
            self._current = await self._next_connection(self._current)
        except GeneratorExit as error:
            if asyncio.current_task() is not self._handing_over:
                # The loop is gone, and this coroutine is being garbage-collected.
                raise
            # A handler of a held message raised it.
            self._host.failed(error)
            raise asyncio.CancelledError from error
        except (Exception, asyncio.CancelledError, *EXITS):
            raise
        except BaseException as error:
            # Rx passes on only subclasses of Exception. Any other exception would stop the feed without an error.
            raise RuntimeError(f"the opening hook raised {type(error).__name__}") from error
        return self._current

    @abstractmethod
    async def _next_connection(self, old: Connection | None) -> Connection:
        """Open a connection in place of ``old``, and return it when it delivers.

        Args:
            old: the connection that delivers, or that ended last; None if there was none.
        """

    def _report_connected(self, connection: Connection, lost: Connection | None) -> None:
        """Report that ``connection`` takes over, and count it if it replaces a connection that was ``lost``."""
        self._connection_reporter.connected(connection.number, self._backoff.attempts)
        if lost is not None:
            self._connection_reporter.reconnected(lost.failure.reason)

    def _announce_connected(self, connection: Connection) -> None:
        # Reset the flags first, because a subscriber of the state may call rotate() to get the next connection.
        is_asked, self._is_asked, self._is_entered = self._is_asked, False, False
        if not is_asked:
            self._resolve_rotation(True)
        if not (self._stopped or connection.reader.done()):
            self._host.enter(State.CONNECTED)
        if is_asked and not self._stopped:
            # rotate() was called after messages arrived on this connection, so it asks for the next one.
            self._signals.on_next(Signal.ROTATE)

    async def _close_for_rotation(self, old: Connection) -> None:
        # The old connection is read for at most DRAIN_TIMEOUT. If its parse hook ignores cancellation, rxws stops
        # waiting for the reader half a second later.
        await old.close(Failure("rotation", "a planned rotation"), DRAIN_TIMEOUT)

    # Waiting

    async def _pause(self, ended: Connection | Failure, old: Connection | None = None) -> None:
        """Wait for the backoff's delay, or until ``old`` ends.

        Args:
            ended: the connection that ended, or the failure of the attempt.
            old: a connection that still delivers; None if there is none.

        Raises:
            ConnectFailed: if the backoff allows no further attempt.
        """
        failure = ended if isinstance(ended, Failure) else ended.failure
        delay = self._backoff.next_delay(failure, self._loop.time())
        if ended is failure:
            self._connection_reporter.refused(failure, delay)
        if delay is None:
            raise ConnectFailed(failure.status, failure.cause, self._backoff.attempts) from failure.error
        if old is not None:
            await self._ended_within(delay, old)
        elif delay > 0:
            self._host.enter(State.WAITING)
            await asyncio.sleep(delay)

    async def _ended_within(self, seconds: float, connection: Connection) -> bool:
        await asyncio.wait({connection.reader}, timeout=seconds)
        return connection.reader.done()

    # The end

    def stop(self) -> None:
        """Open no more connections, and cancel a handover that is under way. Idempotent."""
        self._stopped = self._hook.is_stopped = True
        self._opener.stop()
        self._subscription.dispose()
        self._resolve_rotation(False)

    @property
    def current(self) -> Connection | None:
        """The connection that delivers, or that delivered last; None before the first."""
        return self._current

    @property
    def last_delivery_time(self) -> float | None:
        """When the last message of the delivering connection arrived, in seconds since the epoch."""
        return None if self._current is None else self._current.inbound.last_received_time

    @property
    def last_received_at(self) -> float | None:
        """When the last message arrived, on the loop's clock; None before the first. May be read from any thread."""
        return self._opener.last_received_at

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks that must end after :meth:`stop`, besides those of the connections."""
        own = [] if self._handing_over is None else [self._handing_over]
        return [*self._opener.tasks, *own]

    def _resolve_rotation(self, success: bool) -> None:
        if self._finished is not None and not self._finished.done():
            self._finished.set_result(success)
