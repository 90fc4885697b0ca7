"""The receiving side of one connection: where its messages go, which replies it awaits, when it last received."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from ..reporting.cancellation import FAILURES
from ..reporting.reporter import Reporter
from .filters import Filter
from .frames import Frame

__all__ = ["Inbound", "Sink"]

Sink = Callable[[Frame, Any, int], None]
"""Takes a frame, its message, and when it was received (nanoseconds since the epoch, or 0 when no subscriber asks)."""


def _discard(_frame: Frame, _message: Any, _received: int) -> None:
    """Take a message of a connection that was given up."""


class Inbound:
    """What reading needs of a connection. It knows no socket, so a replay has one, too.

    Only its methods change it; the reader and the dispatcher read its attributes.

    Attributes:
        number: the connection's number: 1 for the feed's first.
        sink: takes its messages; None: they go to the router.
        first_received_at: when the first message came, on the loop's clock; None if none has come.
        last_received_at: when the last message came, on the loop's clock, to the accuracy of one turn of the loop;
            None if none has come.
        pending_replies: the awaited replies: by the future of the first message that passes, the filters, and whether
            other receivers get that message, too. The dict is the same for ever, and empty while no reply is awaited.

    Args:
        number: the connection's number.
        loop: the event loop.
        reporter: counts and reports filters that raise.
        answer: sends a reply back on the same connection.
        has_ended: returns whether the connection was read to its end.
    """

    def __init__(
        self,
        number: int,
        loop: asyncio.AbstractEventLoop,
        reporter: Reporter,
        *,
        answer: Callable[[Any], None],
        has_ended: Callable[[], bool],
    ) -> None:
        self.number: Final = number
        self.sink: Sink | None = None
        self.first_received_at: float | None = None
        self.last_received_at: float | None = None
        self.pending_replies: Final[dict[asyncio.Future[tuple[Any, Filter]], tuple[list[Filter], bool]]] = {}
        self.answer: Final = answer
        self._loop = loop
        self._reporter = reporter
        self._has_ended = has_ended
        self._predecessor: Inbound | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the connection was read to its end."""
        return self._has_ended()

    # Where its messages go

    def deliver(self, sink: Sink | None = None) -> None:
        """Give its messages to the router from now on, or to ``sink``, which delivers them."""
        self.sink = sink

    def hold(self, sink: Sink, predecessor: Inbound | None = None) -> None:
        """Give its messages to ``sink``, which holds them, because ``predecessor`` still delivers (None: none does)."""
        self.sink = sink
        self._predecessor = predecessor

    def discard(self) -> None:
        """Discard what still comes: it would come too late."""
        self.sink = _discard

    def take_over(self) -> None:
        """Depend on no predecessor from now on: it was read to its end."""
        self._predecessor = None

    @property
    def is_held(self) -> bool:
        """Whether its messages are held because its predecessor still delivers."""
        return self._predecessor is not None and not self._predecessor.has_ended

    # What comes

    def received(self, now: float) -> None:
        """Note that a message came, ``now`` on the loop's clock."""
        if self.first_received_at is None:
            self.first_received_at = now
        self.last_received_at = now

    def expect_reply(self, filters: list[Filter], *, is_shared: bool = False) -> asyncio.Future[tuple[Any, Filter]]:
        """Return a future of the next message here that passes one of ``filters``, and of the first that it passes.

        Cancel the future if you do not await it.

        One message is one reply: of two callers that expect the same, the second waits for the next message. But where
        it ``is_shared`` the message answers all who share it, and the streams get it as well.
        """
        future: asyncio.Future[tuple[Any, Filter]] = self._loop.create_future()
        self.pending_replies[future] = filters, is_shared
        future.add_done_callback(self.pending_replies.pop)
        return future

    def resolve_reply(self, message: Any) -> bool:
        """Resolve the reply that was awaited for longest; return whether no other receiver gets ``message``."""
        # A copy, because a filter of the user's may expect a reply in its turn.
        for future, (filters, is_shared) in list(self.pending_replies.items()):
            if is_shared and self.sink is None:
                # The streams get the message at the same moment, so no filter is called twice.
                continue
            passed = None if future.done() else next((each for each in filters if self._passes(each, message)), None)
            if passed is not None:
                future.set_result((message, passed))
                if not is_shared:
                    return True
        return False

    def _passes(self, expected: Filter, message: Any) -> bool:
        # Not guarded: a thousand answers may be awaited, and each message is held against all of them.
        try:
            return expected(message)
        except FAILURES as error:
            self._reporter.failed(expected.predicate or expected, message, error)
            return False

    def cancel_replies(self) -> None:
        """Cancel the replies that are still awaited: the connection has ended."""
        for reply in self.pending_replies:
            reply.cancel()
