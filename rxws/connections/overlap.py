"""Two connections at once: the old one delivers until the new one takes over, whose messages are held until then."""

from __future__ import annotations

import enum
import functools
import itertools
import math
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final

from ..messages.backlog import Backlog
from ..messages.dispatcher import FrameDispatcher
from ..messages.frames import Frame
from ..messages.numbers import Counted
from ..observables.loop_context import LoopContext
from ..options import Options
from ..reporting.events import Gap
from .connection import Connection
from .matching import INCOMPARABLE, GapFound, Limits, Matcher
from .merger import Merger, Unit
from .opener import ConnectionSender

__all__ = ["FARTHEST", "HELD_MAX", "POLL_INTERVAL", "RECALLED", "Overlap", "Verdict"]

#: The largest number of messages that are held for a connection that does not deliver yet.
HELD_MAX: Final = 100_000

#: The largest number of bytes of these messages.
BYTES_MAX: Final = 256 << 20

#: The largest number of seconds by which a connection may lag, unless ``handover_timeout`` allows more.
FARTHEST: Final = 10.0

#: Seconds between two checks of whether the overlap is proven.
POLL_INTERVAL: Final = 0.02

#: The longest wait beyond ``handover_timeout`` to see if the old connection is mute, in multiples of the settle time.
MUTE_CHECK: Final = 3

#: The number of delivered frames that are recalled at once. A new connection may deliver them again.
RECALLED: Final = 256


class Verdict(enum.Enum):
    """Whether the old connection may be closed, and why."""

    #: Not yet.
    WAIT = "wait"
    #: Yes: it is proven that the new connection has all messages of the old one.
    PROVEN = "proven"
    #: Yes, without a proof: the overlap has lasted long enough.
    TIMEOUT = "timeout"
    #: Yes, without a proof: too many messages are held.
    FULL = "full"


class Overlap(Merger):
    """Decides during an overlap which messages of the two connections are delivered, held or dropped.

    Args:
        context: the feed's event loop, scheduler and reporter.
        dispatcher: delivers the messages.
        old: the connection that delivers.
        sender: knows the channels of messages, and the subscriptions of either connection.
        options: the feed's options, for their times.
        announce: called with the start of a gap, in seconds since the epoch, before the first message after the gap.

    Attributes:
        held: the number of messages that arrived on the new connection before it delivered.
        is_released: whether the new connection delivers.
        duplicates: the number of held messages that were copies.
    """

    def __init__(
        self,
        context: LoopContext,
        dispatcher: FrameDispatcher,
        old: Connection,
        sender: ConnectionSender,
        options: Options,
        announce: Callable[..., object],
    ) -> None:
        self.held = 0
        self.duplicates = 0
        self.is_released = False
        self._has_ended = self._has_gap = False
        self._order = itertools.count()
        # The gaps that the new connection had before it agreed.
        self._missed: list[Unit] = []
        self._old = old
        self._announce = announce
        self._timeout: Final = options.handover_timeout
        self._timeout_at: float | None = None
        self._verdict = Verdict.WAIT
        self._numbers = None if dispatcher.recent is None else dispatcher.recent.numbers
        # The numbers that arrived on the new connection.
        self._numbered: set[Counted] = set()
        reach = max(options.reach, self._timeout)
        limits = Limits(options.handover_settle, reach, max(FARTHEST, reach), HELD_MAX, BYTES_MAX)
        super().__init__(context, dispatcher, sender, self._make_matcher(limits), options.handover_settle)
        last_new = old.inbound.last_received_at
        self._last_new: Final = old.opened_at if last_new is None else last_new
        self._channels = dict.fromkeys((None, *old.channels, *sender.asked(old)))
        self._matcher.begin(old.number, self._channels, self._now(), self._last_new)
        old.inbound.deliver(self._add(old))

    def _make_matcher(self, limits: Limits) -> Matcher[Unit]:
        return Matcher(limits, lambda channel: channel is not None)

    # The phases of the overlap

    def recall(self, delivered: Iterable[tuple[Frame, Any]]) -> None:
        """Remember these frames and their messages as delivered, the oldest first."""
        for frame, message in delivered:
            for identity, item in self._units(frame, message):
                channel = self._sender.channel_of(item, self._old)
                if identity is not INCOMPARABLE:
                    channel = self._channel_by_identity.setdefault(identity, channel)
                # The messages of a channel that was unsubscribed meanwhile are left out.
                if channel in self._channels and not (type(item) is Gap or self._is_per_connection(item, channel)):
                    self._remember(channel, identity, item, len(frame))

    def _remember(self, channel: Hashable, key: Hashable, item: Any, size: int) -> None:
        self._matcher.remember(self._old.number, channel, key, size, self._now())

    def hold(self, new: Connection) -> None:
        """Hold the messages of the new connection, which has been opened."""
        sink = self._add(new)
        self._begin(new)
        new.inbound.hold(sink, self._old.inbound)

    def _begin(self, new: Connection) -> None:
        self._matcher.reserve(new.number)

    def subscribed(self, new: Connection) -> None:
        """Note that all channels are subscribed on the new connection. The timeout starts now."""
        now = self._looked_at = self._now()
        self._matcher.acknowledged(new.number, None, now)
        self._timeout_at = now + self._timeout

    def verdict(self, new: Connection) -> Verdict:
        """Return whether the old connection may be closed now. Any result except ``WAIT`` is final."""
        now = self._now()
        if self._verdict is Verdict.WAIT and self._timeout_at is not None and not self._old.inbound.has_ended():
            self._look(now, POLL_INTERVAL)
            if self._sender.is_subscribed and self._matcher.agrees(new.number, now):
                self._verdict = Verdict.PROVEN
                # The old connection has what the new one missed before.
                self._missed.clear()
            elif self._matcher.is_full(new.number):
                self._verdict = Verdict.FULL
            elif now >= self._timeout_at and not self._may_be_mute(new, now):
                self._verdict = Verdict.TIMEOUT
        return self._verdict

    def _may_be_mute(self, new: Connection, now: float) -> bool:
        """Return whether a short wait, beyond the timeout, will show if the old connection is mute.

        If it is, messages that were published before the new connection was subscribed are missing.
        """
        assert self._timeout_at is not None
        return now < self._timeout_at + MUTE_CHECK * self._settle and self._matcher.is_alone(new.number, now) is None

    async def release(self, new: Connection, reason: str, left_at: float = math.inf) -> bool:
        """Let the new connection deliver, beginning with the held messages except copies.

        Call this when the reader of the old connection has ended.

        Args:
            new: the new connection.
            reason: why the old connection has ended; "rotation" if it was closed for that.
            left_at: when its close began, on the loop's clock.

        Returns:
            Whether any message was delivered.
        """
        new.inbound.take_over()
        messages = self._counters.messages
        self._backlog = Backlog(self._deliver)
        self._note_end()
        if reason == "idle":
            # The silence of a connection that was given up for it is no evidence.
            self._matcher.was_blocked(self._now())
        is_complete = reason == "rotation" and self._old.is_complete
        self._matcher.replace(new.number, self._now(), is_complete=is_complete, left_at=left_at)
        if self._has_gap:
            self._matcher.release_all(new.number, self._now())
        # The matcher releases one channel after the other, but a gap of the new connection belongs between the messages
        # of all channels.
        self._matcher.out.sort(key=lambda each: each[0][0].order if isinstance(each, tuple) else -1)
        self._matcher.out[:0] = [(unit,) for unit in self._missed]
        self._flush()
        self.duplicates = self._matcher.copies
        self.is_released = True
        await self._backlog.drain(yield_first=True)
        self._backlog = None
        return self._counters.messages > messages

    def give_up(self) -> None:
        """Let the old connection continue alone, because the new one has ended, or none was opened.

        Call :meth:`forget` when :meth:`is_over` returns True.
        """
        for new in [each for each in self._connections.values() if each is not self._old]:
            # Its parse hook may delay the last messages.
            new.inbound.discard()
            self._announce = functools.partial(self._announce, reason=new.failure.reason)
            self._matcher.ended(new.number, self._now())
        asked = [*self._old.channels, *self._sender.asked(self._old)]
        self._matcher.await_copies(self._old.number, asked, self._now())
        self._flush()

    def conclude(self, left: Connection) -> None:
        """Deliver the messages of the remaining connection that are still held when it has ended."""
        self._matcher.release_all(left.number, self._now())
        self._flush()

    def forget(self, left: Connection) -> None:
        """Let the remaining connection deliver without looking for copies."""
        if left is self._old and not left.reader.done():
            self._matcher.finish(self._now())
            self._flush()
        if self._draining is not None:
            self._draining.cancel()
        self._dispatcher.deliver_from(left.inbound)
        left.on_channel = None

    def is_over(self) -> bool:
        """Whether no later message can be a copy or be held."""
        self._look(self._now(), POLL_INTERVAL)
        self._flush()
        is_settled = self._sender.is_subscribed and self._matcher.is_settled(self._now())
        return is_settled and self._backlog is None

    @property
    def is_holding(self) -> bool:
        """Whether messages are held."""
        return self._backlog is not None or self._undelivered > 0 or self._matcher.is_holding

    @property
    def dropped(self) -> int:
        """The number of dropped messages that arrived on no other connection."""
        return self._matcher.dropped

    @property
    def uncopied(self) -> int:
        """The number of messages without a channel that were delivered although a copy followed them."""
        return self._matcher.uncopied

    # The messages of both connections

    def _take(self, number: int, frame: Frame, message: Any, received: int) -> None:
        if number != self._old.number:
            self._note_end()
        super()._take(number, frame, message, received)

    def _match(self, number: int, channel: Hashable, key: Hashable, unit: Unit, size: int) -> None:
        is_old = number == self._old.number
        self.held += not (is_old or self.is_released)
        unit[0].order = next(self._order)
        if is_old or not self._is_repeated(number, channel, key, unit):
            super()._match(number, channel, key, unit, size)

    def _is_repeated(self, number: int, channel: Hashable, key: Hashable, unit: Unit) -> bool:
        """Return whether a number has already arrived on the new connection, and its message is no longer held.

        A server may send the last values before it sends the missed messages again. Only the latter are in order.
        """
        counted = None if self._numbers is None else self._numbers.read(channel, self._item(unit))
        if counted is None:
            return False
        if counted not in self._numbered:
            self._numbered.add(counted)
            return False
        self._matcher.copies += 1
        return not self._matcher.withdraw(number, channel, key)

    def _is_superfluous(self, number: int, channel: Hashable) -> bool:
        return self._matcher.owner(channel) not in (None, number)

    def _gap_arrived(self, number: int, unit: Unit, now: float) -> None:
        unit[0].order = next(self._order)
        # Announce it if the connection delivers. Otherwise the connection must agree again from now on.
        if number == self._old.number or self.is_released:
            self._matcher.release_all(number, now)
            self._matcher.out.append((unit,))
        elif self._has_ended:
            self._has_gap = True
            self._matcher.arrived(number, None, INCOMPARABLE, unit, 0, now)
        elif self._matcher.interrupted(number, now):
            # The new connection delivers some channels, which the old one does not have.
            self._matcher.out.append((unit,))
        else:
            # The old connection may have these messages. They are lost if it ends before the overlap is proven again.
            self._missed.append(unit)

    def _note_end(self) -> None:
        if not self._has_ended and self._old.inbound.has_ended():
            self._has_ended = True
            self._matcher.ended(self._old.number, self._now())

    def _announce_gap(self, gap: GapFound) -> None:
        self._announce(self._reporter.now() - (self._now() - gap.start))
