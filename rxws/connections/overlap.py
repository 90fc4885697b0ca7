"""Two connections at once: the old one delivers, and what comes on the new one is held, to follow less the copies."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from typing import Any

from ..messages.backlog import Backlog
from ..messages.dispatcher import FrameDispatcher
from ..messages.frames import Frame
from ..messages.hooks import Many
from ..messages.inbound import Inbound, Sink
from ..observables.observable import LoopContext
from ..reporting.cancellation import FAILURES
from .handover import Handover, Verdict

__all__ = ["Overlap"]


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
        settle: seconds of agreement that prove the overlap.
        timeout: seconds after which the old connection may be closed although it is not proven.
    """

    def __init__(
        self, context: LoopContext, dispatcher: FrameDispatcher, old: Inbound, *, settle: float, timeout: float
    ) -> None:
        self._context = context
        self._dispatcher = dispatcher
        self._now = context.loop.time
        self._handover: Handover[tuple[_Source, int]] = Handover(settle=settle, timeout=timeout)
        self._deliver = dispatcher.direct_sink(old.number)
        self._old = old
        self.duplicates = 0
        """How many of the messages that were held were copies."""
        self.discarded = 0
        """How many were for one connection alone."""
        old.deliver(self._from_old)

    @property
    def handover(self) -> Handover[tuple[_Source, int]]:
        """What is known of the overlap."""
        return self._handover

    def hold(self, new: Inbound) -> None:
        """Hold what comes on the new connection, which is open."""
        new.hold(self._from_new, self._old)

    def subscribed(self) -> None:
        """Tell that everything is subscribed on the new connection."""
        self._handover.subscribed(self._now())

    def verdict(self) -> Verdict:
        """Whether the old connection may be closed now."""
        return self._handover.verdict(self._now())

    async def release(self, new: Inbound, before: Callable[[], object] | None = None) -> bool:
        """Deliver what is held, and from now on all that comes but copies: the old one has been read to its end.

        If something is held, ``before`` is called first. Returns whether something was.
        """
        new.take_over()
        held = self._handover.old_ended(self._now())
        if held and before is not None:
            before()
        # Those that come later are counted as they come.
        self.duplicates = self._handover.duplicates
        self._context.reporter.counters.duplicates += self.duplicates
        deliver = self._dispatcher.direct_sink(new.number)

        def deliver_kept(source: _Source, places: Collection[int]) -> None:
            self._deliver_kept(deliver, source.frame, source.message, places, source.received)

        backlog = Backlog(deliver_kept)
        for source, units in itertools.groupby(held, key=lambda unit: unit[0]):
            backlog.hold(source, [place for _, place in units])

        def release_to(sink: Callable[[_Source, Collection[int]], None]) -> Sink:
            def take(frame: Frame, message: Any, received: int) -> None:
                places = self._not_delivered(frame, message)
                if places:
                    sink(_Source(frame, message, received), places)

            return take

        new.hold(release_to(backlog.hold))
        # Finding the copies took time, too.
        await backlog.drain(yield_first=True)
        new.deliver(release_to(deliver_kept))
        return bool(held)

    def give_up(self) -> None:
        """Forget the new connection: the old one delivers as if nothing had been."""
        self._old.deliver()

    def is_over(self) -> bool:
        """Whether all memory of the overlap has ended."""
        return self._handover.is_over(self._now())

    def _from_old(self, frame: Frame, message: Any, received: int) -> None:
        self._deliver(frame, message, received)
        now = self._now()
        for identity, item in self._units(frame, message):
            if not self._is_per_connection(item):
                self._handover.old_delivered(identity, now)

    def _from_new(self, frame: Frame, message: Any, received: int) -> None:
        now = self._now()
        if self._old.has_ended:
            self._handover.old_lost()
        source = _Source(frame, message, received)
        for place, (identity, item) in enumerate(self._units(frame, message)):
            if self._is_per_connection(item):
                self._discard()
            else:
                self._handover.hold(identity, (source, place), now)

    def _not_delivered(self, frame: Frame, message: Any) -> list[int]:
        """Return the places of a frame's messages that are neither copies nor for one connection alone."""
        now, places = self._now(), []
        for place, (identity, item) in enumerate(self._units(frame, message)):
            if self._is_per_connection(item):
                self._discard()
            elif self._handover.is_copy(identity, now):
                self._context.reporter.counters.duplicates += 1
            else:
                places.append(place)
        return places

    def _deliver_kept(self, deliver: Sink, frame: Frame, message: Any, places: Collection[int], received: int) -> None:
        """Deliver what is at these places of a frame, be it all or a part."""
        if type(message) is Many and len(places) < len(message):
            kept = tuple(place in places for place in range(len(message)))
            self._dispatcher.deliver_kept(deliver, frame, message, kept, received)
        else:
            deliver(frame, message, received)

    def _discard(self) -> None:
        self.discarded += 1
        self._context.reporter.counters.discarded += 1

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
        if identity is None:
            return default
        try:
            found = identity(message)
            # Now, and not in the midst of a handover: of what cannot be compared nothing is a copy.
            return found if hash(found) is not None and found == found else object()
        except FAILURES as error:
            self._context.reporter.failed(identity, message, error)
            # Equal to nothing: in doubt a message is delivered.
            return object()

    def _is_per_connection(self, message: Any) -> bool:
        per_connection = self._dispatcher.hooks.per_connection
        if per_connection is None or type(message) is Many:
            return False
        try:
            return bool(per_connection(message))
        except FAILURES as error:
            self._context.reporter.failed(per_connection, message, error)
            return False
