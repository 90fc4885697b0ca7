"""The dispatcher handles what the reader cannot pass straight to the router.

These are replies, frames that cannot be parsed, frames that have subscribers, frames with several messages, and
messages that are held during a rotation.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final

from ..observables.hot import HotObservable
from ..observables.loop_context import LoopContext
from ..reporting.cancellation import FAILURES
from ..reporting.event import GapReason
from ..reporting.events import Gap, MessageRejected
from .answers import ANSWER
from .frames import Frame, frame_size
from .hooks import Many, ParseHooks
from .inbound import DirectSink, Inbound
from .recent import RecentMessages
from .router import Router

__all__ = ["FrameDispatcher"]


class FrameDispatcher:
    """Delivers the messages of a frame to the sink of its connection, or to the router if there is no sink.

    Attributes:
        frames: emits each frame, the time when it was received, and the number of its connection.
        hooks: the hooks that are called with a frame.
        router: takes the messages.
        reporter: counts and reports failures.
        kept: one flag for each message of the frame that ``frames`` is emitting: whether the message is delivered.
            None: all its messages are delivered.
        recent: keeps the delivered frames; None if they are not kept.
        holds_many: whether the frame that ``frames`` is emitting contains several messages. They are delivered one by
            one after the frame.
    """

    def __init__(self, context: LoopContext, router: Router, hooks: ParseHooks) -> None:
        self.frames: HotObservable[tuple[Frame, int, int]] = HotObservable(context)
        self.hooks: Final = hooks
        self.router: Final = router
        self.reporter: Final = context.reporter
        self.kept: tuple[bool, ...] | None = None
        self.recent: RecentMessages | None = None
        self._watches = False
        self.holds_many = False

    def dispatch(self, inbound: Inbound, frame: Frame, message: Any, received: int) -> bool:
        """Deliver a message to the callers that await it as a reply, to the subscribers of frames, and to the sink.

        Each item of a ``Many`` is a message.

        Returns:
            Whether the frame contains more than replies.
        """
        if message is ANSWER:
            if self.frames.subscriptions:
                self.show_copy(frame, inbound.number)
            return False
        items = message if type(message) is Many else (message,)
        is_heard = bool(items)
        if inbound.names.ends:
            for item in items:
                inbound.names.note_end(item)
        if inbound.pending_replies:
            others = [item for item in items if type(item) is Gap or not inbound.resolve_reply(item)]
            is_heard = bool(others)
            if self.recent is not None:
                self.recent.exclude([item for item in items if all(item is not other for other in others)])
            if inbound.is_held and len(others) < len(items):
                # A reply answers a request on this connection, and the other connection of an overlap gets no copy of
                # it. So do not pass replies on to the overlap, but count them as discarded here.
                self.reporter.counters.discarded += len(items) - len(others)
                if not others:
                    inbound.resolved.clear()
                    return False
                message = Many(others)
        (inbound.sink or inbound.sink_of_many or self.direct_sink(inbound))(frame, message, received)
        if inbound.resolved:
            inbound.resolved.clear()
        return is_heard

    def reject(self, frame: Frame, error: BaseException) -> None:
        """Skip a frame that could not be parsed: count it, log it and emit an event."""
        reporter = self.reporter
        reporter.counters.rejected += 1
        event = reporter.emit(MessageRejected, raw=frame, error=error, count=reporter.counters.rejected)
        reporter.log(logging.WARNING, event)

    def reply(self, inbound: Inbound, frame: Frame, reply: Callable[[Frame], Any]) -> None:
        """Call the reply hook with a frame, and send the answer that it returns."""
        try:
            answer = reply(frame)
            if answer is not None:
                inbound.answer(answer)
        except FAILURES as error:
            self.reporter.failed(reply, frame, error)

    def deliver_from(self, inbound: Inbound) -> None:
        """From now on, deliver the messages of this connection as soon as they arrive."""
        # Without a sink the reader itself keeps the messages.
        compares = self.recent is not None and self.recent.numbers is not None
        inbound.deliver(self.direct_sink(inbound) if self._watches or compares else None)

    def watch_arrivals(self, connections: Iterable[Inbound]) -> None:
        """From now on, look up each message among the names and the ends of channels on its connection."""
        if not self._watches:
            self._watches = True
            for inbound in connections:
                if inbound.sink is None:
                    self.deliver_from(inbound)

    def direct_sink(self, inbound: Inbound) -> DirectSink:
        """Return a sink that delivers the messages of a connection."""
        frames, number, names, route_all = self.frames, inbound.number, inbound.names, self.router.route
        counters = self.reporter.counters
        # The sink must not refer to the connection: it would keep the connections before it alive.
        report_gap = inbound.report_gap or self.router.report_gap
        keep, time_ns = None if self.recent is None else self.recent.add, self.reporter.time_ns
        compare = None if self.recent is None or self.recent.numbers is None else self.recent.numbers.compare

        def route(message: Any, channels: Sequence[Hashable]) -> None:
            # The name is looked up first, because a receiver may subscribe a channel that gets the name.
            channels = channels or (names.channels_of(message) if names else ())
            if compare is not None:
                compare(message, channels[0] if channels else None)
            route_all(message)
            for channel in channels:
                self.router.route_to(channel, message)

        def deliver(frame: Frame, message: Any, received: int, named: Sequence[Sequence[Hashable]] = ()) -> None:
            counters.message_size = size = frame_size(frame)
            # The frame may have been held, so ask only now whether frames have subscribers.
            if frames.subscriptions:
                self.holds_many = type(message) is Many
                frames.on_next((frame, received or time_ns(), number))
            if keep is not None:
                keep(frame, message)
            if type(message) is Many:
                # The messages of a frame share its size.
                counters.message_size = size // (len(message) or 1)
                for item, channels in itertools.zip_longest(message, named, fillvalue=()):
                    if type(item) is Gap:
                        self._announce(frame, item, report_gap)
                    else:
                        route(item, channels)
            elif names or named or compare is not None:
                route(message, named[0] if named else ())
            else:
                route_all(message)
            counters.message_size = 0

        return deliver

    def _announce(self, frame: Frame, gap: Gap, report: Callable[[float, float, GapReason], None]) -> None:
        """Announce a gap that the parse hook returned."""
        try:
            start, end = float(gap.start), float(gap.end)
            if not -math.inf < start <= end < math.inf:
                raise ValueError("the end is before the start, or a time is not finite")
        except (TypeError, ValueError) as error:
            expected = "a Gap that a parse hook returns needs its start and its end in seconds since the epoch"
            self.reject(frame, ValueError(f"{expected}, not {gap.start!r} and {gap.end!r}: {error}"))
            return
        report(start, end, "source")

    def show_copy(self, frame: Frame, number: int) -> None:
        """Emit a frame of which no message is delivered: it is a copy, or the answer to a heartbeat."""
        self.kept = ()
        self.reporter.counters.message_size = frame_size(frame)
        try:
            self.frames.on_next((frame, self.reporter.time_ns(), number))
        finally:
            self.kept = None
            self.reporter.counters.message_size = 0

    def deliver_kept(
        self,
        sink: DirectSink,
        frame: Frame,
        message: Many[Any],
        kept: tuple[bool, ...],
        received: int,
        named: Sequence[Sequence[Hashable]] = (),
    ) -> None:
        """Deliver those messages of a frame for which ``kept`` is true."""
        self.kept = kept
        try:
            sink(frame, Many(itertools.compress(message, kept)), received, [*itertools.compress(named, kept)])
        finally:
            self.kept = None
