"""Keeps a feed connected. It takes signals that a new connection is needed, and provides connections that deliver.

A handover replaces the current connection by a new one, in one of three ways: the old one has already ended (replace);
the old one is closed first (break before make); or both overlap for a while (make before break).
"""

from __future__ import annotations

import asyncio
import enum
import functools
from typing import Any, Final

import reactivex
from reactivex import Observable, abc
from reactivex import operators as ops
from reactivex.disposable import Disposable
from reactivex.subject import Subject

from ..errors import ConnectFailed
from ..observables.loop_context import LoopContext
from ..reporting.cancellation import EXITS
from ..reporting.event import Reason
from ..reporting.state import State
from .connection import Connection
from .failures import Failure
from .loss_reporter import LossReporter
from .opener import Opener, RotationHost
from .overlap import RECALLED, Overlap, Verdict
from .resumption import Resumption
from .rotation_hook import RotationHook

__all__ = ["Rotation", "Signal"]

#: The largest number of seconds for which rxws reads the old connection after the closing handshake has begun.
DRAIN_TIMEOUT: Final = 1.0

#: Seconds after which an overlap is forgotten at the latest, when the next rotation waits for that.
FORGET_TIMEOUT: Final = 15.0

#: Seconds between two checks of whether an overlap is proven.
POLL_INTERVAL: Final = 0.02


class Signal(enum.Enum):
    """Why a new connection is needed."""

    START = enum.auto()
    LOST = enum.auto()
    #: The rotation hook ended.
    DUE = enum.auto()
    #: ``rotate()`` was called.
    ROTATE = enum.auto()


class Rotation:
    """Keeps a feed connected.

    ::

        signals ── exclusive(handover) ── switch_map(watch) ──┐
           ▲       one at a time          the newest one      │
           └──────── lost, or due for rotation ◄──────────────┘

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
        self._dispatcher = opener.dispatcher
        self._opener = opener
        self._backoff = opener.backoff
        self._connection_reporter = opener.connection_reporter
        self._signals: Subject[Signal] = Subject()
        self._subscription: abc.DisposableBase = Disposable()
        self._current: Connection | None = None
        self._forgetting: asyncio.Task[None] | None = None
        self._losses = LossReporter(opener.dispatcher, opener.sender.channel_of, opener.connection_reporter)
        self._hook = RotationHook(context, host, opener.connection_reporter)
        self._finished: asyncio.Future[bool] | None = None
        self._handing_over: asyncio.Task[Connection] | None = None
        self._stopped = False
        # Whether the replacement of a lost connection delivers and is not announced yet, and whether rotate() was
        # called since then.
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
            A future that tells whether the first attempt succeeded. Cancelling it does not cancel the rotation.
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
        """Open a connection to replace the current one, and return it when it delivers."""
        old = self._current
        try:
            if old is None or old.reader.done():
                new = await self._replace(old)
            elif self._opener.options.handover_timeout == 0:
                new = await self._break_before_make(old)
            else:
                new = await self._make_before_break(old)
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
        self._current = new
        return new

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

    async def _replace(self, old: Connection | None) -> Connection:
        """Open a connection when no other connection is open, and return it when it delivers.

        Args:
            old: the connection that ended last; None if there was none.
        """
        # No delay if the old connection was closed for a rotation.
        if old is not None and old.failure.reason != "rotation":
            await self._pause(old)
        if self._forgetting is not None:
            # Wait until the held messages of the last connection are delivered, before its loss is reported.
            await asyncio.wait({self._forgetting})
        resumption = None if old is None else await self._recall(old)
        while True:
            self._host.enter(State.CONNECTING)
            opened = await self._opener.open(self._losses.hold if resumption is None else resumption.hold)
            if isinstance(opened, Connection):
                if old is None or resumption is None:
                    break
                if await resumption.is_decided(opened):
                    return await self._resume(opened, old, resumption)
            if old is not None and resumption is not None and resumption.has_begun:
                # The held messages are lost, so nothing that they proved is valid on the next connection.
                resumption = await self._recall(old, is_repeated=True)
            self._resolve_rotation(False)
            await self._pause(opened)
        self._is_entered = old is None or old.failure.reason != "rotation"
        await self._enter(opened, old)
        await self._losses.deliver(opened)
        return opened

    async def _recall(self, old: Connection, *, is_repeated: bool = False) -> Resumption | None:
        """Return what a connection in place of ``old`` may resume with; None: the feed cannot resume.

        Args:
            old: the connection that ended last.
            is_repeated: whether a connection in place of ``old`` has ended before it delivered.
        """
        recent = self._dispatcher.recent
        if not recent:
            return None
        recent.await_delivery(is_repeated=is_repeated)
        since = self._losses.last_delivery(old)

        def announce(start: float) -> None:
            self._announce_gap(old, 0.0, min(start, since))

        sender, options = self._opener.sender, self._opener.options
        resumption = Resumption(self._context, self._dispatcher, old, sender, options, announce)
        await resumption.recall_all(recent)
        return resumption

    async def _resume(self, new: Connection, old: Connection, resumption: Resumption) -> Connection:
        """Let ``new`` deliver, for which it is decided whether it begins where ``old`` ended."""
        report, recent = self._connection_reporter, self._dispatcher.recent
        self._is_entered = old.failure.reason != "rotation"
        await self._enter(new, None)
        report.reconnected(old.failure.reason)
        if resumption.is_broken and recent is not None:
            report.not_resumed(resumption.doubts(recent))
        resumption.on_resumed = functools.partial(report.resumed, new.number)
        await resumption.deliver_held()
        self._forgetting = self._loop.create_task(self._forget(resumption, new), name="rxws forget resumption")
        return new

    async def _break_before_make(self, old: Connection) -> Connection:
        """Close the old connection before opening the new one, for servers that allow only one."""
        await self._close_for_rotation(old)
        new = await self._replace(old)
        self._connection_reporter.rotated(new.number)
        return new

    async def _make_before_break(self, old: Connection) -> Connection:
        """Open the new connection while the old one delivers, and hold its messages until the overlap is proven.

        A failed attempt is repeated with the delays of the backoff, as long as the old connection is open.
        """
        options = self._opener.options
        self._losses.decide()
        while not await self._overlap_forgotten(old):
            self._host.enter(State.ROTATING)
            announce = functools.partial(self._announce_gap, old, self._losses.delivered_until or 0.0)
            overlap = Overlap(self._context, self._dispatcher, old, self._opener.sender, options, announce)
            if self._dispatcher.recent is not None:
                overlap.recall(self._dispatcher.recent.delivered(RECALLED))
            new = await self._opener.open(overlap.hold)
            if isinstance(new, Connection):
                was_live = not old.reader.done()
                overlap.subscribed(new)
                if await self._may_close(old, new, overlap):
                    return await self._take_over(old, new, overlap, was_live)
            overlap.give_up(new if isinstance(new, Connection) else None)
            self._forgetting = self._loop.create_task(self._forget(overlap, old), name="rxws forget overlap")
            self._resolve_rotation(False)
            await self._pause(new, old)
        return await self._replace(old)

    def _announce_gap(self, old: Connection, earliest: float, start: float, reason: Reason = "rotation") -> None:
        # If the old connection had no message, the one before it may have delivered after the old one was opened.
        # If the old connection still delivers, the rotation is the only possible reason for missing messages.
        self._connection_reporter.gap(max(earliest, start), old.failure.reason if old.reader.done() else reason)

    async def _may_close(self, old: Connection, new: Connection, overlap: Overlap) -> bool:
        """Wait until ``old`` may be closed or has ended; return False if ``new`` ends first."""
        while not old.reader.done() and overlap.verdict(new) is Verdict.WAIT:
            await asyncio.wait({old.reader, new.reader}, timeout=POLL_INTERVAL, return_when=asyncio.FIRST_COMPLETED)
            if new.reader.done() and not old.reader.done():
                return False
        return True

    async def _take_over(self, old: Connection, new: Connection, overlap: Overlap, was_live: bool) -> Connection:
        """Close ``old``, let ``new`` deliver, and return ``new``.

        If both have ended, open another connection and return that one: there was no rotation.

        Args:
            old: the connection that delivers.
            new: the connection whose messages are held.
            overlap: their overlap.
            was_live: whether ``old`` was still open when ``new`` was subscribed.
        """
        asked = self._loop.time()
        await self._close_for_rotation(old)
        report, is_planned = self._connection_reporter, old.failure.reason == "rotation"
        if not is_planned and was_live:
            # The cause of its end may also end the other connection soon.
            await self._ended_within(POLL_INTERVAL, new)
        self._losses.last_delivery(old)
        if new.reader.done():
            # No other connection has the held messages, so deliver them, unless the server sends them again.
            is_needed = overlap.is_holding and self._dispatcher.recent is None
            has_delivered = is_needed and await overlap.release(new, is_planned=is_planned)
            if overlap.has_mixed:
                self._losses.last_delivery(new)
            self._resolve_rotation(False)
            return await self._replace(new if has_delivered or is_planned else old)
        self._is_entered = not is_planned
        await self._enter(new, None)
        report.reconnected(old.failure.reason)
        if overlap.dropped:
            report.flooded(new.number, overlap.dropped)
        paused = self._loop.time() - max(asked, old.inbound.last_received_at or asked)
        await overlap.release(new, is_planned=is_planned)
        verdict = overlap.verdict(new)
        self._forgetting = self._loop.create_task(self._forget(overlap, new), name="rxws forget overlap")
        report.rotated(
            new.number,
            proven=verdict is Verdict.PROVEN,
            held=overlap.held,
            duplicates=overlap.duplicates,
            discarded=overlap.discarded,
            paused=paused,
            uncopied=overlap.uncopied,
            truncated=verdict is Verdict.FULL,
        )
        return new

    async def _close_for_rotation(self, old: Connection) -> None:
        # The old connection is read for at most DRAIN_TIMEOUT. If its parse hook ignores cancellation, rxws stops
        # waiting for the reader half a second later.
        await old.close(Failure("rotation", "a planned rotation"), DRAIN_TIMEOUT)

    async def _forget(self, overlap: Overlap, left: Connection) -> None:
        """Let the remaining connection deliver directly, as soon as no later message on it can be a copy."""
        try:
            while not (overlap.is_over() or await self._ended_within(POLL_INTERVAL, left)):
                pass
            await overlap.drained()
        finally:
            overlap.forget(left)

    async def _overlap_forgotten(self, old: Connection) -> bool:
        """Wait for the end of the last overlap, as only one may be active. Return whether ``old`` ended meanwhile."""
        if self._forgetting is not None:
            both = {self._forgetting, old.reader}
            done, _ = await asyncio.wait(both, timeout=FORGET_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                # A channel that only a lost connection had may leave it undecided. That must not stop all rotations.
                self._forgetting.cancel()
                await asyncio.wait({self._forgetting})
        return old.reader.done()

    # A connection

    async def _enter(self, connection: Connection, lost: Connection | None) -> None:
        """Report that ``connection`` takes over, and run its rotation hook to the hook's first suspension.

        Args:
            connection: the new connection.
            lost: the connection that ended before it without an overlap, for which a gap is reported; otherwise None.
        """
        self._connection_reporter.connected(connection.number, self._backoff.attempts)
        if lost is not None:
            self._connection_reporter.reconnected(lost.failure.reason)
            self._losses.replaced(connection, lost)
        await self._hook.start(connection)

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
        delay = self._backoff.next_delay(failure)
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
        if self._forgetting is not None:
            self._forgetting.cancel()
        self._resolve_rotation(False)

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
        own = (self._handing_over, self._forgetting)
        return [*self._opener.tasks, *(task for task in own if task is not None)]

    def _resolve_rotation(self, success: bool) -> None:
        if self._finished is not None and not self._finished.done():
            self._finished.set_result(success)
