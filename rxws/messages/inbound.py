"""The receiving side of one connection: the sink of its messages, its awaited replies, and its last arrival."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, Protocol

from ..reporting.cancellation import FAILURES
from ..reporting.event import GapReason
from ..reporting.reporter import Reporter
from .filters import Filter
from .frames import Frame
from .naming import ChannelNames

__all__ = ["DirectSink", "Inbound", "Sink"]

#: Takes a frame, its message, and the time of receipt in nanoseconds since the epoch (0 if frames have no subscriber).
Sink = Callable[[Frame, Any, int], None]


class DirectSink(Protocol):
    """A sink that delivers messages at once."""

    def __call__(self, frame: Frame, message: Any, received: int, /, named: Sequence[Sequence[Hashable]] = ()) -> None:
        """Deliver a message. ``named`` has its channels (see :meth:`.ChannelNames.look_up`) if it was held."""


def _discard(_frame: Frame, _message: Any, _received: int) -> None:
    """Discard a message of a connection that the feed has abandoned."""


class Inbound:
    """The part of a connection that reading needs. It has no socket, so a replay has an Inbound too.

    Other code changes it only through its methods, except that the reader sets ``last_received_at``.

    Attributes:
        number: the connection's number: 1 for the feed's first.
        is_copy: takes a frame if it is a copy of a delivered one, and returns whether it is. Then the frame is neither
            parsed nor counted. None: all frames are parsed.
        undelivered: called with a frame that was no copy, if the reader is cancelled before its message is delivered.
        sink_of_many: takes the frames with several messages while there is no ``sink``; None: they go to the router.
        sink: takes the messages of the connection; None: they go to the router.
        first_received_at: when the first message arrived, in seconds of the loop's clock. None: no message has arrived.
        last_received_at: when the last message arrived, in seconds of the loop's clock. It is accurate to one iteration
            of the loop. None: no message has arrived.
        last_received_time: when the last message arrived, in seconds since the epoch, because the loop's clock may stop
            while a machine sleeps.
        pending_replies: the awaited replies. Each key is a future, which is done when its reply is no longer awaited.
            Each value is a pair: the function that recognizes and takes the reply, and whether other receivers get the
            reply too. The dict is never replaced, and it is empty while no reply is awaited.
        heartbeat_answers: the number of answers to heartbeats that have arrived.
        report_gap: reports a gap that the parse hook returns; None: it is reported to all receivers.
        has_taken_over: whether its messages are delivered, and not held for a decision.
        names: the names that the server has given to channels on this connection.
        resolved: the messages of the frame that is being dispatched that were awaited replies.

    Args:
        number: the connection's number.
        reporter: counts and reports filters that raise.
        answer: sends an answer on the same connection.
        has_ended: returns whether the connection was read to its end.
    """

    def __init__(
        self, number: int, reporter: Reporter, *, answer: Callable[[Any], None], has_ended: Callable[[], bool]
    ) -> None:
        self.number: Final = number
        self.is_copy: Callable[[Frame], bool] | None = None
        self.undelivered: Callable[[Frame], None] | None = None
        self.sink_of_many: Sink | None = None
        self.sink: Sink | None = None
        self.first_received_at: float | None = None
        self.last_received_at: float | None = None
        self.last_received_time: float | None = None
        self.heartbeat_answers = 0
        self.pending_replies: Final[dict[asyncio.Future[Any], tuple[Callable[[Any], bool], bool]]] = {}
        self.report_gap: Callable[[float, float, GapReason], None] | None = None
        self.names: Final = ChannelNames(reporter)
        self.resolved: Final[list[Any]] = []
        self.answer: Final = answer
        self.has_ended: Final = has_ended
        self._reporter = reporter
        self.has_taken_over = True
        self._predecessor: Inbound | None = None
        # The functions to call after the held messages are delivered. None if no messages are held, or if they are held
        # because the predecessor still delivers.
        self._when_delivered: list[Callable[[], object]] | None = None
        self._when_taken_over: list[Callable[[], object]] = []

    # The sink

    def deliver(self, sink: Sink | None = None) -> None:
        """Pass this connection's messages to the router from now on, or to a ``sink`` that delivers them."""
        self.sink = sink
        self.take_over()
        self._notify_delivered()

    def hold(self, sink: Sink, predecessor: Inbound | None = None) -> None:
        """Pass this connection's messages to a ``sink`` that holds them.

        Args:
            sink: holds the messages.
            predecessor: the connection that delivers meanwhile; None if no connection delivers.
        """
        self.sink = sink
        self.has_taken_over = False
        self._predecessor = predecessor
        self._when_delivered = [] if predecessor is None else None

    def when_delivered(self, function: Callable[[], object]) -> None:
        """Call ``function`` after the held messages are delivered.

        Call it now if no messages are held, or if they are held because the predecessor still delivers.
        """
        if self._when_delivered is None:
            function()
        else:
            self._when_delivered.append(function)

    def _notify_delivered(self) -> None:
        functions, self._when_delivered = self._when_delivered, None
        for function in functions or ():
            function()

    def discard(self) -> None:
        """Discard the messages that arrive from now on, because they are too late."""
        self.sink = _discard

    def take_over(self) -> None:
        """Forget the predecessor, because its last message was read."""
        self.has_taken_over = True
        self._predecessor = None
        functions, self._when_taken_over = self._when_taken_over, []
        for function in functions:
            function()

    def when_taken_over(self, function: Callable[[], object]) -> None:
        """Call ``function`` once this connection's messages are delivered: now, or after its predecessor's last one."""
        if self.has_taken_over:
            function()
        else:
            self._when_taken_over.append(function)

    @property
    def is_held(self) -> bool:
        """Whether this connection's messages are held because its predecessor still delivers."""
        return self._predecessor is not None and not self._predecessor.has_ended()

    def received(self, now: float, time: float) -> None:
        """Note that a message arrived, ``now`` on the loop's clock, at ``time`` in seconds since the epoch."""
        if self.first_received_at is None:
            self.first_received_at = now
        self.last_received_at = now
        self.last_received_time = time

    # Replies

    def expect_replies(self, take: Callable[[Any], bool], *, is_shared: bool = False) -> asyncio.Future[None]:
        """Call ``take`` with each message of this connection, until the returned future is cancelled or done.

        ``take`` returns whether the message is a reply that it expects. A message is the reply for one caller only: if
        two callers expect the same message, the second one waits for the next message. With ``is_shared`` a message is
        the reply for all callers that expect it, and the streams get the message as well. The end of the connection
        cancels the future.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.pending_replies[future] = take, is_shared
        future.add_done_callback(self.pending_replies.pop)
        return future

    def resolve_reply(self, message: Any) -> bool:
        """Pass a message to the caller that has awaited it longest. Return whether no other receiver may get it."""
        # Iterate over a copy, because a user's filter may start another request.
        for future, (take, is_shared) in list(self.pending_replies.items()):
            if is_shared and self.sink is None:
                # Without a sink the streams get this message now. One of them is the caller's, and checks the filter.
                continue
            if not future.done() and take(message):
                self.resolved.append(message)
                if not is_shared:
                    return True
        return False

    def passes(self, expected: Filter, message: Any) -> bool:
        """Return whether a message passes a filter; a filter that raises is reported."""
        # Use try instead of a guard, which costs more, because up to a thousand filters are called for each message.
        try:
            return expected(message)
        except FAILURES as error:
            self._reporter.failed(expected.predicate or expected, message, error)
            return False

    def cancel_replies(self) -> None:
        """Cancel the replies that are still awaited, because the connection has ended."""
        self._notify_delivered()
        for reply in self.pending_replies:
            reply.cancel()
