"""Several lines have the same messages. Each message is delivered once, from the line on which it arrives first."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Hashable
from typing import Any, Final

from ..messages.backlog import Backlog
from ..messages.dispatcher import FrameDispatcher
from ..messages.frames import Frame
from ..messages.hooks import Many
from ..observables.loop_context import LoopContext
from ..options import Options
from ..reporting.event import Reason
from ..reporting.events import Gap, LineJoined, LineLost
from ..reporting.log_limit import ONCE
from .connection import Connection
from .connection_reporter import ConnectionReporter
from .failures import Failure
from .lockstep import Lockstep
from .matching import INCOMPARABLE, GapFound, Joined, Limits, Lost, Matcher, Reopen
from .merger import COMPARABLE, Merger, Source, Unit
from .opener import ConnectionSender
from .overlap import FARTHEST

__all__ = ["Arbitration"]

#: Seconds between two applications of the rules that depend on time.
TICK: Final = 0.1

#: The number of identities that may be remembered beyond twice those that the matcher remembers.
SPARE_IDENTITIES: Final = 64

_UNKNOWN: Final = object()


class Arbitration(Merger):
    """Merges the lines of a feed, channel by channel, as A/B line arbitration merges market data feeds.

    A gap is reported only if no line is left that is known to have all messages.

    Args:
        context: the feed's event loop, scheduler and reporter.
        dispatcher: delivers the messages.
        sender: knows the channels of messages, and the subscriptions of each connection.
        options: the feed's options, for its times.
        report: reports gaps.

    Attributes:
        firsts: the number of frames that arrived first on each line.
        rotating: the line that rotates now. The others wait; None: no line rotates.
    """

    def __init__(
        self,
        context: LoopContext,
        dispatcher: FrameDispatcher,
        sender: ConnectionSender,
        options: Options,
        report: ConnectionReporter,
    ) -> None:
        limits = Limits(options.handover_settle, options.reach, max(FARTHEST, options.reach))
        # If the feed has channels, messages without a channel are mostly answers, and have no order.
        matcher: Matcher[Unit] = Matcher(limits, lambda channel: channel is not None or not sender.channels)
        super().__init__(context, dispatcher, sender, matcher, limits.settle)
        self.firsts: Final[dict[int, int]] = {}
        self._lockstep = Lockstep(matcher, limits, self._counters, self.firsts, self._now)
        hooks = dispatcher.hooks
        # Whether copies are recognized by their frames, whatever the frames contain.
        self._compares_frames = hooks.identity is None and hooks.is_parser_shared
        self.rotating: object | None = None
        self._report = report
        # The line of each connection that has not ended.
        self._lines: dict[int, int] = {}
        # The connections whose rotation hooks have begun. Until there is one, the messages wait in the backlog.
        self._entered: set[int] = set()
        # The connections whose last event was LineJoined, and those whose last event was LineLost.
        self._joined: set[int] = set()
        self._lost: set[int] = set()
        # Why the last connection ended, unless a gap was reported since then.
        self._reason: Reason | None = None
        self._ticking: asyncio.Task[None] | None = None
        # While the lines keep step: whether the feed has channels, and the first arrivals before.
        self._has_channels = False
        self._firsts_before: dict[int, int] = {}

    # The connections

    def hold(self, line: int, connection: Connection) -> None:
        """Take the messages of a new connection of a line, which is being subscribed."""
        if self._ticking is None:
            self._ticking = self._loop.create_task(self._tick(), name="rxws lines")
        self._leave_lockstep()
        self._await_entry()
        self._lines[connection.number] = line
        self.firsts.setdefault(line, 0)
        others = [each for number, each in self._connections.items() if number in self._entered]
        number, inbound = connection.number, connection.inbound
        if self._compares_frames:
            compare, watching = functools.partial(self._is_copy, number), self._dispatcher.frames.subscriptions
            inbound.is_copy = self._lockstep.comparer(number, line, compare, inbound.pending_replies, watching)
            inbound.undelivered = functools.partial(self._parsing_cancelled, number)
        inbound.hold(self._add(connection), others[0].inbound if others else None)
        connection.reader.add_done_callback(functools.partial(self._ended, connection))

    def subscribed(self, connection: Connection) -> None:
        """Note that all channels are subscribed on a connection."""
        self._channel_changed(connection.number, None, is_subscribed=True)

    async def enter(self, connection: Connection) -> None:
        """Deliver from now on, because the rotation hook of this connection has begun."""
        if connection.reader.done():
            return
        self._entered.add(connection.number)
        connection.inbound.deliver(connection.inbound.sink)
        if self._backlog is not None:
            await self._drain(self._backlog)

    def is_joined(self, connection: Connection) -> bool:
        """Return whether a connection has every delivered message. May be called from any thread."""
        return self._matcher.is_joined(connection.number)

    def lag(self, connection: Connection) -> list[float]:
        """Return the lags of the newest copies on a connection, in seconds. May be called from any thread."""
        return [*self._matcher.lags.get(connection.number, ())]

    def _ended(self, connection: Connection, reader: asyncio.Task[Failure]) -> None:
        if reader.cancelled() or reader.exception() is not None:
            # The feed fails.
            return
        self._leave_lockstep()
        number, self._reason = connection.number, connection.failure.reason
        self._lockstep.ended(number)
        for numbers in (self._entered, self._joined, self._lost):
            numbers.discard(number)
        self._await_entry()
        self._matcher.ended(number, self._now())
        self._flush()
        del self._connections[number], self._sinks[number], self._lines[number]

    def _await_entry(self) -> None:
        if not self._entered and self._backlog is None:
            self._backlog = Backlog(self._deliver)

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks that must end after :meth:`stop`."""
        return [task for task in (self._ticking, self._draining) if task is not None]

    def stop(self) -> None:
        """Deliver no more messages. Idempotent."""
        for task in self.tasks:
            task.cancel()

    # Without the matcher

    def _apply_deadlines(self, now: float) -> None:
        if self._lockstep.is_on:
            if self._lockstep.look(now) and bool(self._sender.channels) is self._has_channels:
                return
            self._leave_lockstep()
        super()._apply_deadlines(now)
        if self._may_keep_step(now):
            self._enter_lockstep()

    def _may_keep_step(self, now: float) -> bool:
        """Return whether no rule but "drop the copies" concerns the messages."""
        dispatcher, numbers = self._dispatcher, self._connections.keys()
        is_plain = self._compares_frames and not (
            dispatcher.hooks.per_connection or dispatcher.frames.subscriptions or dispatcher.router.expects_snapshots
        )
        return (
            is_plain
            and self._entered == numbers
            and len(numbers) > 1
            and self._backlog is None
            and not self._matcher.out
            and not any(each.inbound.pending_replies or each.inbound.names for each in self._connections.values())
            and self._matcher.may_bypass(numbers, now)
        )

    def _enter_lockstep(self) -> None:
        self._has_channels = bool(self._sender.channels)
        self._firsts_before = dict(self.firsts)
        for number, connection in self._connections.items():
            in_step = functools.partial(self._arrived_in_step, number)
            connection.inbound.sink = in_step if self._has_channels else None
            connection.inbound.sink_of_many = in_step
        self._lockstep.begin()

    def _leave_lockstep(self) -> None:
        """Continue by the rules of the matcher, because something concerns other rules."""
        if not self._lockstep.is_on:
            return
        self._lockstep.end()
        for number, connection in self._connections.items():
            inbound, line = connection.inbound, self._lines[number]
            inbound.sink, inbound.sink_of_many = functools.partial(self._arrived, number), None
            if inbound.last_received_at is not None and self.firsts[line] > self._firsts_before[line]:
                self._matcher.note_last_new(number, inbound.last_received_at)
        self._channel_by_identity |= self._matcher.channel_by_identity()

    def _arrived_in_step(self, number: int, frame: Frame, message: Any, received: int) -> None:
        """Deliver a frame that is no copy."""
        connection, is_many = self._connections[number], type(message) is Many
        if is_many and any(type(item) is Gap for item in message):
            self._lockstep.withdraw(frame, number)
            self._leave_lockstep()
            self._arrived(number, frame, message, received)
            return
        channels = [self._sender.channel_of(item, connection) for item in (message if is_many else (message,))]
        self._lockstep.channels[frame] = channels if is_many and channels else channels[0] if channels else None
        self._sinks[number](frame, message, received)

    def _parsing_cancelled(self, number: int, frame: Frame) -> None:
        """Report a gap if a frame was not delivered, although its copies were dropped."""
        if self._lockstep.withdraw(frame, number):
            self._announce_gap(GapFound(self._now(), self._now(), ()))

    def _channel_changed(self, number: int, channel: Hashable, is_subscribed: bool, answer: Any = None) -> None:
        self._leave_lockstep()
        super()._channel_changed(number, channel, is_subscribed, answer)

    # The results of the matcher

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._look(self._now(), TICK)
            self._flush()
            if len(self._channel_by_identity) > SPARE_IDENTITIES + 2 * self._matcher.remembered:
                self._channel_by_identity = self._matcher.channel_by_identity()

    def _flush(self) -> None:
        changes = [each for each in self._matcher.out if not isinstance(each, (tuple, GapFound))]
        super()._flush()
        for change in changes:
            if isinstance(change, Joined):
                self._note_joined(change.line)
            elif isinstance(change, Lost):
                self._note_lost(change)
            elif isinstance(change, Reopen):
                self._reopen(change.line)

    def _note_joined(self, number: int) -> None:
        if number in self._lines and number not in self._joined and self._matcher.is_joined(number):
            self._joined.add(number)
            self._lost.discard(number)
            event = self._reporter.emit(LineJoined, line=self._lines[number], number=number)
            self._reporter.log(logging.INFO, event, about=event.line)

    def _note_lost(self, lost: Lost) -> None:
        if lost.line in self._lines and lost.line not in self._lost:
            self._lost.add(lost.line)
            self._joined.discard(lost.line)
            event = self._reporter.emit(LineLost, line=self._lines[lost.line], number=lost.line, reason=lost.reason)
            self._reporter.log(logging.WARNING, event, about=event.line)

    def _reopen(self, number: int) -> None:
        line = (
            "a line has none of the messages of the others, and is opened again: if messages contain something that "
            "differs on each connection, set identity= to a function that returns what is equal on all of them"
        )
        if number in self._connections:
            self._reporter.log(logging.WARNING, line, times=ONCE)
            self._connections[number].fail(Failure("line", "its messages are not those of the other lines"))

    def _announce_gap(self, gap: GapFound) -> None:
        passed = self._reporter.now() - self._now()
        self._report.gap(gap.start + passed, self._reason or "idle", gap.end + passed)
        self._reason = None

    def _deliver(self, what: GapFound | Source, places: list[int]) -> None:
        if isinstance(what, Source) and what.number in self._lines:
            self.firsts[self._lines[what.number]] += 1
        super()._deliver(what, places)

    # Its messages

    def _is_copy(self, number: int, frame: Frame) -> bool:
        """Drop a frame whose message is a copy, before it is parsed."""
        self._leave_lockstep()
        if type(frame) not in COMPARABLE or self._connections[number].inbound.pending_replies:
            return False
        channel = self._channel_by_identity.get(frame, _UNKNOWN)
        # Where the server names channels on each connection, equal frames may belong to different channels.
        if (
            channel is _UNKNOWN
            or self._connections[number].inbound.names
            or not self._matcher.copied(number, channel, frame, self._now())
        ):
            return False
        self._flush()
        if self._dispatcher.frames.subscriptions:
            self._dispatcher.show_copy(frame, number)
        return True

    def _match(self, number: int, channel: Hashable, key: Hashable, unit: Unit, size: int) -> None:
        is_shown = self._dispatcher.frames.subscriptions and key is not INCOMPARABLE
        if not (is_shown and self._matcher.copied(number, channel, key, self._now())):
            super()._match(number, channel, key, unit, size)
        elif unit[1] == 0:
            self._dispatcher.show_copy(unit[0].frame, number)

    def _is_superfluous(self, number: int, channel: Hashable) -> bool:
        return self._matcher.first_joined(channel) not in (None, number)

    def _gap_arrived(self, number: int, unit: Unit, now: float) -> None:
        # If other lines are joined, they have what this one has lost.
        if self._matcher.interrupted(number, now):
            self._matcher.out.append((unit,))
