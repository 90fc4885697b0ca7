"""The overlap of two connections: the old one delivers, the new one's messages are held and later delivered."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from typing import Any, Final

from ..messages.backlog import Backlog
from ..messages.dispatcher import FrameDispatcher
from ..messages.frames import Frame
from ..messages.hooks import Many
from ..messages.inbound import Inbound, Sink
from ..observables.loop_context import LoopContext
from .handover import Handover, Verdict

__all__ = ["Overlap", "Unit"]

Unit = tuple["_Source", int]
"""A held message: its frame, and its place among the messages of the frame."""


@dataclass(slots=True, eq=False)
class _Source:
    """A frame with its message, or with all its messages as one ``Many``: compared by identity, as one frame."""

    frame: Frame
    message: Any
    received: int


class Overlap:
    """Passes the messages of two overlapping connections through a :class:`Handover`.

    Creating it makes the old connection's messages known to the handover; they are delivered as before.

    Args:
        context: the feed's event loop and reporter.
        dispatcher: delivers frames.
        old: the receiving side of the connection that still delivers.
        handover: decides when the old connection may be closed, and which messages are copies.

    Attributes:
        handover: the handover.
        duplicates: how many held messages were copies.
        discarded: how many messages of the new connection were per connection (acknowledgements, snapshots).
    """

    def __init__(
        self, context: LoopContext, dispatcher: FrameDispatcher, old: Inbound, handover: Handover[Unit]
    ) -> None:
        self.handover: Final = handover
        self.duplicates = 0
        self.discarded = 0
        self._counters = context.reporter.counters
        self._reporter = context.reporter
        self._dispatcher = dispatcher
        self._now = context.loop.time
        self._deliver = dispatcher.direct_sink(old.number)
        self._old = old
        old.deliver(self._from_old)

    def hold(self, new: Inbound) -> None:
        """Hold the messages of the new connection from now on."""
        new.hold(self._from_new, self._old)

    def subscribed(self) -> None:
        """Note that everything is subscribed on the new connection."""
        self.handover.subscribed(self._now())

    def verdict(self) -> Verdict:
        """Return whether the old connection may be closed now."""
        return self.handover.verdict(self._now())

    async def release(self, new: Inbound, before: Callable[[], object] | None = None) -> bool:
        """Deliver the held messages, and then all messages of the new connection directly, without the copies.

        Call this when the old connection was read to its end.

        Args:
            new: the receiving side of the new connection.
            before: called before the first held message, if there is one; None: nothing is called.

        Returns:
            Whether any message was held.
        """
        new.take_over()
        held = self.handover.old_ended(self._now())
        if held and before is not None:
            before()
        # Later copies are counted when they come.
        self.duplicates = self.handover.duplicates
        self._counters.duplicates += self.duplicates
        deliver = functools.partial(self._deliver_places, self._dispatcher.direct_sink(new.number))
        backlog = Backlog(deliver)
        for source, units in itertools.groupby(held, key=lambda unit: unit[0]):
            backlog.hold(source, [place for _, place in units])
        new.hold(functools.partial(self._pass_on, backlog.hold))
        # Other tasks run first, because finding the copies took time.
        await backlog.drain(yield_first=True)
        new.deliver(functools.partial(self._pass_on, deliver))
        return bool(held)

    def is_over(self) -> bool:
        """Return whether no message of the new connection can be a copy any more."""
        return self.handover.is_over(self._now())

    # Sinks of both connections

    def _from_old(self, frame: Frame, message: Any, received: int) -> None:
        self._deliver(frame, message, received)
        now = self._now()
        for identity, item in self._units(frame, message):
            if not self._is_per_connection(item):
                self.handover.old_delivered(identity, now)

    def _from_new(self, frame: Frame, message: Any, received: int) -> None:
        now = self._now()
        if self._old.has_ended():
            self.handover.old_lost()
        source = _Source(frame, message, received)
        for place, identity in self._shared_units(frame, message):
            self.handover.hold(identity, (source, place), now)

    def _pass_on(
        self, sink: Callable[[_Source, Collection[int]], None], frame: Frame, message: Any, received: int
    ) -> None:
        """Give ``sink`` a frame of the new connection and the places of its messages that are not copies."""
        now, places = self._now(), []
        for place, identity in self._shared_units(frame, message):
            if self.handover.is_copy(identity, now):
                self._counters.duplicates += 1
            else:
                places.append(place)
        if places:
            sink(_Source(frame, message, received), places)

    def _deliver_places(self, deliver: Sink, source: _Source, places: Collection[int]) -> None:
        """Deliver the messages at these places of a frame: all of them, or some."""
        message = source.message
        if type(message) is Many and len(places) < len(message):
            kept = tuple(place in places for place in range(len(message)))
            self._dispatcher.deliver_kept(deliver, source.frame, message, kept, source.received)
        else:
            deliver(source.frame, message, source.received)

    # Identities

    def _shared_units(self, frame: Frame, message: Any) -> list[tuple[int, Hashable]]:
        """Return the place and the identity of each message in a frame of the new connection.

        Messages that are per connection are discarded.
        """
        units = self._units(frame, message)
        shared = [(place, unit[0]) for place, unit in enumerate(units) if not self._is_per_connection(unit[1])]
        self.discarded += len(units) - len(shared)
        self._counters.discarded += len(units) - len(shared)
        return shared

    def _units(self, frame: Frame, message: Any) -> list[tuple[Hashable, Any]]:
        """Return the identity and the item of each message of a frame."""
        if type(message) is not Many:
            return [(self._identity(frame, message), message)]
        if not message:
            return [(frame, message)]
        # The default identity is the frame and the place in it: equal items of one frame are different messages.
        return [(self._identity((frame, place), item), item) for place, item in enumerate(message)]

    def _identity(self, default: Hashable, message: Any) -> Hashable:
        identity = self._dispatcher.hooks.identity
        with self._reporter.guard(identity or "the identity of a frame", message):
            found = default if identity is None else identity(message)
            # Hash and compare here, so that a failure is reported and does not break the handover.
            if hash(found) is not None and found == found:
                return found
        # Not equal to any other identity, so the message is delivered: a doubled message is better than a lost one.
        return object()

    def _is_per_connection(self, message: Any) -> bool:
        per_connection = self._dispatcher.hooks.per_connection
        if per_connection is None or type(message) is Many:
            return False
        with self._reporter.guard(per_connection, message):
            return bool(per_connection(message))
        return False
