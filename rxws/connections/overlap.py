"""Two connections at once: the old one delivers until the new one takes over, whose messages are held until then."""

from __future__ import annotations

import asyncio
import enum
import functools
import math
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from ..messages.backlog import Backlog
from ..messages.dispatcher import FrameDispatcher
from ..messages.frames import Frame
from ..messages.hooks import Many
from ..observables.loop_context import LoopContext
from ..options import Options
from ..reporting.events import Gap
from .connection import Connection
from .matching import INCOMPARABLE, GapFound, Limits, Matcher
from .opener import ConnectionSender

__all__ = ["FARTHEST", "HELD_MAX", "RECALLED", "Overlap", "Unit", "Verdict"]

#: The largest number of messages that are held for a connection that does not deliver yet.
HELD_MAX: Final = 100_000

#: The largest number of bytes of these messages.
BYTES_MAX: Final = 256 << 20

#: The largest number of seconds by which a connection may lag, unless ``handover_timeout`` allows more.
FARTHEST: Final = 10.0

#: The number of delivered frames that are recalled at once. A new connection may deliver them again.
RECALLED: Final = 256

#: The largest number of frames that are delivered at once. If there are more, other tasks run in between.
SLICE: Final = 256


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


@dataclass(slots=True, eq=False)
class _Source:
    """A frame, its message (which may be a ``Many``), and the connection on which it arrived."""

    number: int
    frame: Frame
    message: Any
    received: int


#: A message, as the frame that contains it and its place in that frame.
Unit = tuple[_Source, int]


class Overlap:
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
        has_mixed: whether a message of the new connection was delivered. That may happen before the new connection
            delivers, in a channel that the old one does not have.
        duplicates: the number of held messages that were copies.
        discarded: the number of messages of the new connection that were dropped, because they concern only that
            connection, are older than the delivered ones, or belong to a channel that is being unsubscribed.
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
        self.discarded = 0
        self.is_released = self.has_mixed = False
        self._has_ended = False
        self._channel_by_identity: dict[Hashable, Hashable] = {}
        self._counted = 0
        self._older = 0
        self._reporter = context.reporter
        self._counters = context.reporter.counters
        self._now = context.loop.time
        self._loop = context.loop
        self._draining: asyncio.Task[None] | None = None
        self._dispatcher = dispatcher
        self._old = old
        self._sender = sender
        self._announce = announce
        self._timeout: Final = options.handover_timeout
        self._timeout_at: float | None = None
        self._settle: Final = options.handover_settle
        self._looked_at = math.inf
        self._verdict = Verdict.WAIT
        self._connections = {old.number: old}
        self._sinks = {old.number: dispatcher.direct_sink(old.number)}
        self._backlog: Backlog[GapFound | _Source, list[int]] | None = None
        reach = max(options.reach, self._timeout)
        limits = Limits(options.handover_settle, reach, max(FARTHEST, reach), HELD_MAX, BYTES_MAX)
        self._matcher = self._make_matcher(limits)
        last_new = old.inbound.last_received_at
        self._last_new: Final = old.opened_at if last_new is None else last_new
        channels = dict.fromkeys((None, *old.channels, *sender.asked(old)))
        self._matcher.begin(old.number, channels, self._now(), self._last_new)
        old.inbound.deliver(functools.partial(self._arrived, old.number))
        old.on_channel = functools.partial(self._channel_changed, old.number)

    def _make_matcher(self, limits: Limits) -> Matcher[Unit]:
        return Matcher(limits, lambda channel: channel is not None)

    # The phases of the overlap

    def recall(self, delivered: Iterable[tuple[Frame, Any]]) -> None:
        """Remember these frames and their messages as delivered, the oldest first."""
        for frame, message in delivered:
            self._take(self._old.number, frame, message, 0)
        self._matcher.out.clear()

    def hold(self, new: Connection) -> None:
        """Hold the messages of the new connection, which has been opened."""
        self._connections[new.number] = new
        self._sinks[new.number] = self._dispatcher.direct_sink(new.number)
        self._begin(new)
        new.inbound.hold(functools.partial(self._arrived, new.number), self._old.inbound)
        new.on_channel = functools.partial(self._channel_changed, new.number)

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
            if now - self._looked_at > self._settle:
                self._matcher.was_blocked(now)
            self._looked_at = now
            self._matcher.tick(now)
            if self._sender.is_subscribed and self._matcher.agrees(new.number, now):
                self._verdict = Verdict.PROVEN
            elif self._matcher.is_full(new.number):
                self._verdict = Verdict.FULL
            elif now >= self._timeout_at:
                self._verdict = Verdict.TIMEOUT
        return self._verdict

    async def release(self, new: Connection, *, is_planned: bool) -> bool:
        """Let the new connection deliver, beginning with the held messages except copies.

        Call this when the reader of the old connection has ended.

        Args:
            new: the new connection.
            is_planned: whether the old connection was closed for the rotation.

        Returns:
            Whether any message was delivered.
        """
        new.inbound.take_over()
        messages = self._counters.messages
        self._backlog = Backlog(self._deliver)
        self._note_end()
        self._matcher.replace(new.number, self._now(), is_complete=is_planned and self._old.is_complete)
        self._flush()
        self.duplicates = self._matcher.copies
        self.is_released = True
        await self._backlog.drain(yield_first=True)
        self._backlog = None
        return self._counters.messages > messages

    def give_up(self, new: Connection | None) -> None:
        """Let the old connection continue alone. Call :meth:`forget` when :attr:`is_over` is true.

        Args:
            new: the new connection, which has ended; None if none was opened.
        """
        if new is not None:
            self._announce = functools.partial(self._announce, reason=new.failure.reason)
            self._matcher.ended(new.number, self._now())
            self._flush()

    async def drained(self) -> None:
        """Wait until all messages that the matcher has released are delivered."""
        if self._draining is not None:
            await self._draining

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
        self._matcher.tick(self._now())
        self._flush()
        is_settled = self._sender.is_subscribed and self._matcher.is_settled(self._now())
        return is_settled and self._backlog is None

    @property
    def is_holding(self) -> bool:
        """Whether messages are held."""
        return self._backlog is not None or self._matcher.is_holding

    @property
    def dropped(self) -> int:
        """The number of dropped messages that arrived on no other connection."""
        return self._matcher.dropped

    @property
    def uncopied(self) -> int:
        """The number of messages without a channel that were delivered although a copy followed them."""
        return self._matcher.uncopied

    # The messages of both connections

    def _channel_changed(self, number: int, channel: Hashable, is_subscribed: bool, answer: Any = None) -> None:
        """Note whether a channel is now subscribed on a connection. ``answer`` is not used."""
        if is_subscribed:
            self._matcher.acknowledged(number, channel, self._now())
        else:
            self._matcher.unsubscribed(number, channel)
        self._flush()

    def _arrived(self, number: int, frame: Frame, message: Any, received: int) -> None:
        self._take(number, frame, message, received)
        self._flush()

    def _take(self, number: int, frame: Frame, message: Any, received: int) -> None:
        is_old = number == self._old.number
        if not is_old:
            self._note_end()
        source = _Source(number, frame, message, received)
        for place, (identity, item) in enumerate(self._units(frame, message)):
            if type(item) is Gap:
                self._gap_arrived(number, (source, place), self._now())
                continue
            # Channels may be added or removed meanwhile, so remember the channel: a message and its copy must have the
            # same one.
            channel = self._sender.channel_of(item)
            if identity is not INCOMPARABLE:
                channel = self._channel_by_identity.setdefault(identity, channel)
            if self._sender.is_leaving(self._connections[number], channel):
                # The message belongs to a subscription that has ended. If the channel is subscribed again, messages in
                # between are missing.
                self._discard(1)
                continue
            is_per_connection = self._is_per_connection(item)
            if is_per_connection and self._is_superfluous(number, channel):
                self._discard(1)
                continue
            self.held += not (is_old or self.is_released)
            key = INCOMPARABLE if is_per_connection else identity
            self._match(number, channel, key, (source, place), len(frame))

    def _is_superfluous(self, number: int, channel: Hashable) -> bool:
        """Return whether the messages of this channel that concern only their connection are dropped."""
        return self._matcher.owner(channel) not in (None, number)

    def _match(self, number: int, channel: Hashable, key: Hashable, unit: Unit, size: int) -> None:
        self._matcher.arrived(number, channel, key, unit, size, self._now())

    def _gap_arrived(self, number: int, unit: Unit, now: float) -> None:
        """Announce a gap if the connection delivers. Otherwise the connection must agree again from now on."""
        if number == self._old.number or self.is_released:
            self._matcher.out.append((unit,))
        elif self._has_ended:
            self._matcher.arrived(number, None, INCOMPARABLE, unit, 0, now)
        elif self._matcher.interrupted(number, now):
            # The new connection delivers some channels, which the old one does not have.
            self._matcher.out.append((unit,))

    def _note_end(self) -> None:
        if not self._has_ended and self._old.inbound.has_ended():
            self._has_ended = True
            self._matcher.ended(self._old.number, self._now())

    def _flush(self) -> None:
        """Deliver the matcher's results, grouped by frame. If there are many frames, let other tasks run in between."""
        self._count()
        out = self._matcher.out
        if not out:
            return
        self._matcher.out = []
        entries: list[tuple[GapFound | _Source, list[int]]] = []
        for outcome in out:
            if isinstance(outcome, GapFound):
                entries.append((outcome, []))
            elif isinstance(outcome, tuple):
                source, place = outcome[0]
                if entries and entries[-1][0] is source:
                    entries[-1][1].append(place)
                else:
                    entries.append((source, [place]))
        if self._backlog is None and len(entries) > SLICE:
            self._backlog = Backlog(self._deliver)
            self._draining = self._loop.create_task(self._drain(self._backlog), name="rxws drain overlap")
        for entry in entries:
            (self._deliver if self._backlog is None else self._backlog.hold)(*entry)

    async def _drain(self, backlog: Backlog[GapFound | _Source, list[int]]) -> None:
        await backlog.drain()
        self._backlog = None

    def _deliver(self, what: GapFound | _Source, places: list[int]) -> None:
        if isinstance(what, GapFound):
            self._announce(self._reporter.now() - (self._now() - what.start))
            return
        self.has_mixed = self.has_mixed or what.number != self._old.number
        sink, message = self._sinks[what.number], what.message
        if type(message) is Many and len(places) < len(message):
            kept = tuple(place in places for place in range(len(message)))
            self._dispatcher.deliver_kept(sink, what.frame, message, kept, what.received)
        else:
            sink(what.frame, message, what.received)

    def _count(self) -> None:
        self._counters.duplicates += self._matcher.copies - self._counted
        self._counted = self._matcher.copies
        self._discard(self._matcher.older - self._older)
        self._older = self._matcher.older

    def _discard(self, count: int) -> None:
        self.discarded += count
        self._counters.discarded += count

    # The user's hooks for a message

    def _units(self, frame: Frame, message: Any) -> list[tuple[Hashable, Any]]:
        """Return the messages of a frame, each with its identity, by which its copy is recognised."""
        if type(message) is not Many:
            return [(self._identity(frame, message), message)]
        if not message:
            return [(frame, message)]
        # The default identity is the frame and the place in it, so equal items of one frame are not copies.
        return [(self._identity((frame, place), item), item) for place, item in enumerate(message)]

    def _identity(self, default: Hashable, message: Any) -> Hashable:
        identity = self._dispatcher.hooks.identity
        with self._reporter.guard(identity or "the identity of a frame", message):
            found = default if identity is None or type(message) is Gap else identity(message)
            # The matcher uses the identity as a key of a dict, so it must be hashable and equal to itself.
            if hash(found) is not None and found == found:
                return found
        # The identity is unusable, so the message is delivered even if it is a copy.
        return INCOMPARABLE

    @staticmethod
    def _item(unit: Unit) -> Any:
        """Return the message of a unit from its frame."""
        source, place = unit
        return source.message[place] if type(source.message) is Many else source.message

    def _is_per_connection(self, message: Any) -> bool:
        per_connection = self._dispatcher.hooks.per_connection
        if per_connection is None or type(message) is Many:
            return False
        with self._reporter.guard(per_connection, message):
            return bool(per_connection(message))
        return False
