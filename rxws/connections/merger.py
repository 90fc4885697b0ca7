"""Merges the messages of several connections: each one is delivered once, by the rules of the matcher."""

from __future__ import annotations

import asyncio
import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..messages.backlog import Backlog
from ..messages.dispatcher import FrameDispatcher
from ..messages.frames import Frame
from ..messages.hooks import Many
from ..messages.inbound import DirectSink, Sink
from ..observables.loop_context import LoopContext
from ..reporting.events import Gap
from .connection import Connection
from .matching import INCOMPARABLE, GapFound, Matcher
from .opener import ConnectionSender

__all__ = ["COMPARABLE", "Merger", "Source", "Unit"]

#: The largest number of frames that are delivered at once. If there are more, other tasks run in between.
SLICE: Final = 256


#: The types of frames that can be compared as they are. A connection of the user's own may bring others.
COMPARABLE: Final = frozenset({str, bytes})


@dataclass(slots=True, eq=False)
class Source:
    """A frame, its message (which may be a ``Many``), and the connection on which it arrived, with its sink.

    ``named`` has the channels that had the names of its messages when it arrived. ``order`` is its place among the
    frames that an overlap holds.
    """

    number: int
    sink: DirectSink
    frame: Frame
    message: Any
    received: int
    named: Sequence[Sequence[Hashable]] = ()
    order: int = 0


#: A message, as the frame that contains it and its place in that frame.
Unit = tuple[Source, int]


class Merger(ABC):
    """Passes the messages of several connections to a matcher, and delivers the results.

    Args:
        context: the feed's event loop, scheduler and reporter.
        dispatcher: delivers the messages.
        sender: knows the channels of messages, and the subscriptions of each connection.
        matcher: decides which messages are delivered, held or dropped.
        settle: the seconds after which silence, or an agreement of the connections, is evidence for the matcher.

    Attributes:
        discarded: the number of messages that were dropped, because they concern only one connection, are older than
            the delivered ones, or belong to a channel that is being unsubscribed.
    """

    def __init__(
        self,
        context: LoopContext,
        dispatcher: FrameDispatcher,
        sender: ConnectionSender,
        matcher: Matcher[Unit],
        settle: float,
    ) -> None:
        self.discarded = 0
        self._reporter = context.reporter
        self._counters = context.reporter.counters
        self._loop = context.loop
        self._now = context.loop.time
        self._dispatcher = dispatcher
        self._sender = sender
        self._matcher: Final = matcher
        self._settle: Final = settle
        # When the rules that depend on time were last applied.
        self._looked_at = math.inf
        self._connections: dict[int, Connection] = {}
        self._sinks: dict[int, DirectSink] = {}
        self._channel_by_identity: dict[Hashable, Hashable] = {}
        self._backlog: Backlog[GapFound | Source, list[int]] | None = None
        self._draining: asyncio.Task[None] | None = None
        # The number of released frames that are delivered after the present one.
        self._undelivered = 0
        # The copies and the older messages that are already counted.
        self._counted = self._older = 0

    def _add(self, connection: Connection) -> Sink:
        """Include a connection, and return the sink for its messages."""
        self._connections[connection.number] = connection
        self._sinks[connection.number] = self._dispatcher.direct_sink(connection.inbound)
        connection.on_channel = functools.partial(self._channel_changed, connection.number)
        return functools.partial(self._arrived, connection.number)

    @abstractmethod
    def _announce_gap(self, gap: GapFound) -> None:
        """Report a gap that the matcher has found."""

    @abstractmethod
    def _gap_arrived(self, number: int, unit: Unit, now: float) -> None:
        """Take a gap that the parse hook has returned for a frame of this connection."""

    @abstractmethod
    def _is_superfluous(self, number: int, channel: Hashable) -> bool:
        """Return whether the messages of this channel that concern only their connection are dropped."""

    def _look(self, now: float, interval: float) -> None:
        """Apply the rules that depend on time. Called every ``interval`` seconds, or later if the loop was blocked."""
        # What arrived while the loop was blocked has not been read, so that silence is not evidence. The interval
        # itself is no delay, although it may be longer than a short `settle`.
        if now - self._looked_at > max(self._settle, interval + self._settle / 2):
            self._matcher.was_blocked(now)
        self._looked_at = now
        self._apply_deadlines(now)

    def _apply_deadlines(self, now: float) -> None:
        self._matcher.tick(now)

    async def drained(self) -> None:
        """Wait until all messages that the matcher has released are delivered."""
        if self._draining is not None:
            await self._draining

    # The messages

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
        named = self._connections[number].inbound.names.look_up(message)
        source = Source(number, self._sinks[number], frame, message, received, named)
        for place, (identity, item) in enumerate(self._units(frame, message)):
            if type(item) is Gap:
                self._gap_arrived(number, (source, place), self._now())
                continue
            # Channels may be added or removed meanwhile, so remember the channel: a message and its copy must have the
            # same one.
            channel = self._sender.channel_of(item, self._connections[number])
            if identity is not INCOMPARABLE:
                channel = self._channel_by_identity.setdefault(identity, channel)
            if channel is not None and self._sender.is_leaving(self._connections[number], channel):
                # The message belongs to a subscription that has ended. If the channel is subscribed again, messages in
                # between are missing.
                self._discard(1)
                continue
            is_per_connection = self._is_per_connection(item, channel)
            if is_per_connection and self._is_superfluous(number, channel):
                self._discard(1)
                continue
            resolved = self._connections[number].inbound.resolved
            is_answer = bool(resolved) and any(item is each for each in resolved)
            key = INCOMPARABLE if is_per_connection or is_answer else identity
            self._match(number, channel, key, (source, place), len(frame))

    def _match(self, number: int, channel: Hashable, key: Hashable, unit: Unit, size: int) -> None:
        self._matcher.arrived(number, channel, key, unit, size, self._now())

    def _flush(self) -> None:
        """Deliver the matcher's results, grouped by frame. If there are many frames, let other tasks run in between."""
        self._count()
        out = self._matcher.out
        if not out:
            return
        self._matcher.out = []
        if len(out) == 1 and isinstance(out[0], tuple) and self._backlog is None:
            source, place = out[0][0]
            self._deliver(source, [place])
            return
        entries: list[tuple[GapFound | Source, list[int]]] = []
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
        if self._backlog is not None:
            for entry in entries:
                self._backlog.hold(*entry)
            return
        self._undelivered += len(entries)
        for entry in entries:
            self._undelivered -= 1
            self._deliver(*entry)

    async def _drain(self, backlog: Backlog[GapFound | Source, list[int]]) -> None:
        await backlog.drain()
        if self._backlog is backlog:
            self._backlog = None

    def _deliver(self, what: GapFound | Source, places: list[int]) -> None:
        if isinstance(what, GapFound):
            self._announce_gap(what)
            return
        sink, message = what.sink, what.message
        if type(message) is Many and len(places) < len(message):
            kept = tuple(place in places for place in range(len(message)))
            self._dispatcher.deliver_kept(sink, what.frame, message, kept, what.received, what.named)
        else:
            sink(what.frame, message, what.received, what.named)

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
        """Return the messages of a frame, each with its identity, by which its copy is recognized."""
        if type(message) is not Many:
            return [(self._identity(frame, message), message)]
        if not message:
            return [(frame, message)]
        # The default identity is the frame and the place in it, so equal items of one frame are not copies.
        return [(self._identity((frame, place), item), item) for place, item in enumerate(message)]

    def _identity(self, default: Hashable, message: Any) -> Hashable:
        identity = self._dispatcher.hooks.identity
        if identity is None and type(default) in COMPARABLE:
            return default
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

    def _is_per_connection(self, message: Any, channel: Hashable) -> bool:
        per_connection = self._dispatcher.hooks.per_connection
        if type(message) is Many:
            return False
        with self._reporter.guard(per_connection or "the filter of a snapshot", message):
            if self._dispatcher.router.is_snapshot(message, channel):
                return True
            return per_connection is not None and bool(per_connection(message))
        return False
