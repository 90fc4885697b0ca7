"""The line of a feed with a single line: each connection continues where the one before stopped delivering.

A new connection replaces the current one in one of three ways: the old one has already ended (replace); the old one is
closed first (break before make); or both overlap for a while (make before break).
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any, Final

from ..observables.loop_context import LoopContext
from ..reporting.event import Reason
from ..reporting.state import State
from .connection import Connection
from .line import Line
from .loss_reporter import LossReporter
from .opener import Opener, RotationHost
from .overlap import POLL_INTERVAL, RECALLED, Overlap, Verdict
from .resumption import Resumption

__all__ = ["Rotation"]

#: The longest time, in seconds, for which the next rotation waits until the last overlap is forgotten.
FORGET_TIMEOUT: Final = 15.0


class Rotation(Line):
    """The line of a feed with a single line. A gap is reported if messages may be missing.

    Args:
        context: the feed's event loop, scheduler and reporter.
        host: the feed.
        opener: opens connections.
    """

    def __init__(self, context: LoopContext, host: RotationHost, opener: Opener) -> None:
        super().__init__(context, host, opener)
        self._dispatcher = opener.dispatcher
        self._forgetting: asyncio.Task[None] | None = None
        self._losses = LossReporter(opener.dispatcher, opener.sender.channel_of, opener.connection_reporter)

    # A handover

    async def _next_connection(self, old: Connection | None) -> Connection:
        if old is None or old.reader.done():
            return await self._replace(old)
        if self._opener.options.handover_timeout == 0:
            return await self._break_before_make(old)
        return await self._make_before_break(old)

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
                resumption = await self._recall(old)
            self._resolve_rotation(False)
            await self._pause(opened)
        self._is_entered = old is None or old.failure.reason != "rotation"
        await self._enter(opened, old)
        await self._losses.deliver(opened)
        return opened

    async def _recall(self, old: Connection) -> Resumption | None:
        """Return the resumption for the connection that replaces ``old``; None if the feed cannot resume."""
        recent = self._dispatcher.recent
        if not recent:
            return None
        since = self._losses.last_delivery(old)

        def announce(start: float) -> None:
            self._announce_gap(old, 0.0, min(start, since))

        sender, options = self._opener.sender, self._opener.options
        resumption = Resumption(self._context, self._dispatcher, old, sender, options, announce)
        await resumption.recall_all(recent)
        return resumption

    async def _resume(self, new: Connection, old: Connection, resumption: Resumption) -> Connection:
        """Let ``new`` deliver, after it was decided whether it begins where ``old`` ended."""
        report, recent = self._connection_reporter, self._dispatcher.recent
        self._is_entered = old.failure.reason != "rotation"
        await self._enter(new, None)
        report.reconnected(old.failure.reason)

        def broken() -> None:
            if recent is not None:
                report.not_resumed(resumption.doubts(recent))

        await resumption.deliver_held(functools.partial(report.resumed, new.number), broken)
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
            overlap.give_up()
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
        if not is_planned and self._dispatcher.recent and overlap.verdict(new) is not Verdict.PROVEN:
            # The next connection resumes, while this one may lack messages of the old one.
            await self._close_for_rotation(new)
        if new.reader.done():
            # No other connection has the held messages, so deliver them, unless the server sends them again.
            is_needed = overlap.is_holding and self._dispatcher.recent is None
            has_delivered = is_needed and await overlap.release(new, old.failure.reason, asked)
            self._resolve_rotation(False)
            return await self._replace(new if has_delivered or is_planned else old)
        self._is_entered = not is_planned
        await self._enter(new, None)
        report.reconnected(old.failure.reason)
        if overlap.dropped:
            report.flooded(new.number, overlap.dropped)
        paused = self._loop.time() - max(asked, old.inbound.last_received_at or asked)
        await overlap.release(new, old.failure.reason, asked)
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

    async def _forget(self, overlap: Overlap, left: Connection) -> None:
        """Let the remaining connection deliver directly, as soon as no later message on it can be a copy."""
        holding = self._dispatcher.router.holding

        def is_holding() -> bool:
            return overlap.is_holding

        holding.add(is_holding)
        try:
            while not (overlap.is_over() or await self._ended_within(POLL_INTERVAL, left)):
                pass
            if self._dispatcher.recent is None:
                # Otherwise the server sends them again.
                overlap.conclude(left)
            await overlap.drained()
        finally:
            holding.discard(is_holding)
            overlap.forget(left)

    async def _overlap_forgotten(self, old: Connection) -> bool:
        """Wait for the end of the last overlap, as only one may be active. Return whether ``old`` ended meanwhile."""
        if self._forgetting is not None:
            both = {self._forgetting, old.reader}
            done, _ = await asyncio.wait(both, timeout=FORGET_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                # A channel that only a lost connection had may leave the overlap undecided. Rotate nevertheless.
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
        if self._dispatcher.recent is not None:
            self._dispatcher.recent.deliver_from(connection.number)
        self._report_connected(connection, lost)
        if lost is not None:
            self._losses.replaced(connection, lost)
        await self._hook.start(connection)

    # The end

    def stop(self) -> None:
        """Open no more connections, and cancel a handover that is under way. Idempotent."""
        super().stop()
        if self._forgetting is not None:
            self._forgetting.cancel()

    def statistics(self) -> dict[str, Any]:
        """Return no fields, because there is one line."""
        return {}

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks that must end after :meth:`stop`, besides those of the connections."""
        own = [] if self._forgetting is None else [self._forgetting]
        return [*super().tasks, *own]
