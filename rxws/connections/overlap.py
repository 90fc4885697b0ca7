"""Two connections at once: the old one delivers, and what comes on the new one is held, to follow less the copies."""

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
"""A message that is held: what it came in, and its place there."""


@dataclass(slots=True, eq=False)
class _Source:
    """The frame of messages that are held, and all of them: it is one frame, however many they are."""

    frame: Frame
    message: Any
    received: int


class Overlap:
    """What is known while two connections overlap, and where the messages of either go meanwhile.

    Args:
        context: where the feed lives.
        dispatcher: what delivers.
        old: the receiving side of the connection that still delivers.
        handover: decides when the old connection may be closed, and which messages are copies.

    Attributes:
        handover: the same.
        duplicates: how many of the messages that were held were copies.
        discarded: how many were for one connection alone.
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
        """Hold what comes on the new connection, which is open."""
        new.hold(self._from_new, self._old)

    def subscribed(self) -> None:
        """Tell that everything is subscribed on the new connection."""
        self.handover.subscribed(self._now())

    def verdict(self) -> Verdict:
        """Whether the old connection may be closed now."""
        return self.handover.verdict(self._now())

    async def release(self, new: Inbound, before: Callable[[], object] | None = None) -> bool:
        """Deliver what is held, and from now on all that comes but copies: the old one has been read to its end.

        If something is held, ``before`` is called first. Returns whether something was.
        """
        new.take_over()
        held = self.handover.old_ended(self._now())
        if held and before is not None:
            before()
        # Those that come later are counted as they come.
        self.duplicates = self.handover.duplicates
        self._counters.duplicates += self.duplicates
        deliver = functools.partial(self._deliver_places, self._dispatcher.direct_sink(new.number))
        backlog = Backlog(deliver)
        for source, units in itertools.groupby(held, key=lambda unit: unit[0]):
            backlog.hold(source, [place for _, place in units])
        new.hold(functools.partial(self._pass_on, backlog.hold))
        # Finding the copies took time, too.
        await backlog.drain(yield_first=True)
        new.deliver(functools.partial(self._pass_on, deliver))
        return bool(held)

    def is_over(self) -> bool:
        """Whether all memory of the overlap has ended."""
        return self.handover.is_over(self._now())

    # Where the messages of either connection go

    def _from_old(self, frame: Frame, message: Any, received: int) -> None:
        self._deliver(frame, message, received)
        now = self._now()
        for identity, item in self._units(frame, message):
            if not self._is_per_connection(item):
                self.handover.old_delivered(identity, now)

    def _from_new(self, frame: Frame, message: Any, received: int) -> None:
        now = self._now()
        if self._old.has_ended:
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
        """Deliver the messages at these places of a frame, be it all or a part."""
        message = source.message
        if type(message) is Many and len(places) < len(message):
            kept = tuple(place in places for place in range(len(message)))
            self._dispatcher.deliver_kept(deliver, source.frame, message, kept, source.received)
        else:
            deliver(source.frame, message, source.received)

    # What the hooks say of a message

    def _shared_units(self, frame: Frame, message: Any) -> list[tuple[int, Hashable]]:
        """Return the place and the identity of each message in a frame of the new connection.

        Messages for that connection alone are discarded.
        """
        units = self._units(frame, message)
        shared = [(place, unit[0]) for place, unit in enumerate(units) if not self._is_per_connection(unit[1])]
        self.discarded += len(units) - len(shared)
        self._counters.discarded += len(units) - len(shared)
        return shared

    def _units(self, frame: Frame, message: Any) -> list[tuple[Hashable, Any]]:
        """Return the messages of a frame with what makes each the same on another connection."""
        if type(message) is not Many:
            return [(self._identity(frame, message), message)]
        if not message:
            return [(frame, message)]
        # By default the frame and the place in it: equal items of one frame are not each other's copies.
        return [(self._identity((frame, place), item), item) for place, item in enumerate(message)]

    def _identity(self, default: Hashable, message: Any) -> Hashable:
        identity = self._dispatcher.hooks.identity
        with self._reporter.guard(identity or "the identity of a frame", message):
            found = default if identity is None else identity(message)
            # Now, and not in the midst of a handover: of what cannot be compared nothing is a copy.
            if hash(found) is not None and found == found:
                return found
        # Equal to nothing: in doubt a message is delivered.
        return object()

    def _is_per_connection(self, message: Any) -> bool:
        per_connection = self._dispatcher.hooks.per_connection
        if per_connection is None or type(message) is Many:
            return False
        with self._reporter.guard(per_connection, message):
            return bool(per_connection(message))
        return False
