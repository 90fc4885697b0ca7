"""StreamReceiver: the part of a stream that is registered with the router."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from ..messages.filters import Filter
from ..messages.router import Receiver, Router
from ..observables.buffer import Buffer
from ..observables.deferred import SKIPPED, Deferred, made
from ..observables.hot import HotObservable, Subscription
from ..reporting.events import Gap
from ..reporting.quoting import quoted_repr
from .stream_options import StreamOptions

__all__ = ["StreamReceiver"]

T = TypeVar("T")


class StreamReceiver(Buffer[T], Receiver):
    """The part of a stream that the router refers to.

    It must not refer to the stream itself, so that a stream that is no longer used can be garbage collected. It does so
    only while the stream has subscribers, through ``fan_out``.

    Attributes:
        router: the router.
        filters: the filter of the stream.
        abandoned: whether the stream was collected.
        matched: number of messages that passed the filter.
        keeps: whether messages are put into the buffer: until the first subscription, and from the first iteration on.
        fan_out: passes messages to the subscribers; None until the first one subscribes.
        gaps: emits each gap, also without ``gaps=True``; None until it is needed.
    """

    __slots__ = (
        *("_copies", "_takes_gaps", "_waits"),
        *("abandoned", "fan_out", "filters", "gaps", "keeps", "matched", "router"),
    )

    takes_deferred = True

    def __init__(self, router: Router, filters: Filter, options: StreamOptions) -> None:
        context = router.context
        super().__init__(context.loop, context.reporter, options.maxsize, options.overflow, options.maxbytes)
        self.router = router
        self.filters = filters
        self._takes_gaps = options.gaps
        self._copies = options.copy
        self._waits = False
        self.abandoned = False
        self.matched = 0
        self.keeps = True
        self.fan_out: HotObservable[T] | None = None
        self.gaps: HotObservable[Gap] | None = None

    def all_gaps(self) -> HotObservable[Gap]:
        """Return the Observable of all gaps of the stream."""
        if self.gaps is None:
            self.gaps = HotObservable(self.router.context)
        return self.gaps

    def describe(self) -> str:
        """Return the name of the stream, which contains its filter."""
        return f"stream {quoted_repr(self.filters)}"

    def on_message(self, message: Any, /) -> None:
        """Take a message that passes the filter. It may be a Deferred."""
        self.matched += 1
        if self._copies:
            message = made(message)
            if message is SKIPPED:
                return
            message = copy.deepcopy(message)
        if self.keeps:
            self.put(message)
        if self.fan_out is not None:
            if type(message) is Deferred:
                message = message.get()
                if message is SKIPPED:
                    return
            self.fan_out.on_next(message)

    def hold_back(self) -> Callable[[], None]:
        """Discard messages until the returned function is called. If any were discarded, a ``Gap`` follows them."""
        counters, began = self._reporter.counters, self._reporter.now()
        before = counters.discarded

        def discard(message: T) -> None:
            counters.discarded += 1

        def begin() -> None:
            self.router.divert(self, self.filters, self.on_message)
            # Take the difference of the counter, because during an overlap the overlap discards the messages.
            discarded = counters.discarded - before
            if discarded and not self.closed:
                reporter = self._reporter
                line = "%s begins with its new subscription: %d messages that came before were discarded"
                reporter.log(logging.INFO, line, self.describe(), discarded)
                self._announce(began, "user")

        self.router.divert(self, self.filters, discard)
        return begin

    def interrupt(self, since: float) -> None:
        """Announce a Gap before the next message, because the channel is not subscribed on any connection. Idempotent.

        Args:
            since: the start of the gap: when the last message arrived, in seconds since the epoch.
        """
        if self._waits or not self.matched:
            return
        self._waits = True

        def resume(message: T) -> None:
            self._waits = False
            self.router.divert(self, self.filters, self.on_message)
            self._announce(since, "subscription")
            self.on_message(message)

        self.router.divert(self, self.filters, resume)

    def resubscribed(self, since: float) -> None:
        """Take a Gap, because the channel was subscribed again on request. ``resync`` gets a snapshot anyway."""
        self._take_gap(self._gap(since, "user"))

    def _announce(self, start: float, reason: Literal["user", "subscription"]) -> None:
        self.on_gap(self._gap(start, reason))

    def _gap(self, start: float, reason: Literal["user", "subscription"]) -> Gap:
        # The feed lost no message, so publish no event and do not count a gap.
        now = self._reporter.now()
        return Gap(name=self._reporter.name, time=now, start=start, end=now, reason=reason, last_message=None)

    def on_gap(self, gap: Gap, /) -> None:
        """Emit a gap, and take it if the stream was made with ``gaps=True``."""
        if self.gaps is not None:
            self.gaps.on_next(gap)
        self._take_gap(gap)

    def _take_gap(self, gap: Gap) -> None:
        if self._takes_gaps:
            item: Any = gap
            if self.keeps:
                self.put(item)
            if self.fan_out is not None:
                self.fan_out.on_next(item)

    def on_end(self, error: Exception | None, /) -> None:
        """Take no more messages, and end the sequence."""
        self.router.remove(self)
        self.close(error)
        # If messages wait although `keeps` is False, they are for the first subscriber. Then `hand_over` ends the
        # sequence after them.
        if self.fan_out is not None and (self.keeps or not self):
            self.fan_out.end(self.error)

    def overflowed(self) -> None:
        """Unregister and end the sequence, because the buffer was full."""
        # Unregister now and not when the consumer reaches the end, so that a full stream costs no time per message.
        self.router.remove(self)
        if self.fan_out is not None:
            self.fan_out.end(self.error)

    def abandon(self) -> None:
        """Keep no more messages. Called by the garbage collector, in any thread and during any allocation."""
        self.abandoned = True
        self.keeps = False

    def hand_over(self, subscription: Subscription[T]) -> None:
        """Pass the waiting messages to the first subscriber until it disposes, then discard the rest."""
        fan_out = self.fan_out
        assert fan_out is not None
        while self._items and subscription in fan_out.subscriptions:
            item = made(self._items.popleft())
            if item is not SKIPPED:
                fan_out.notify(subscription, item)
        if not self.keeps:
            self.clear()
        if self.closed:
            fan_out.end(self.error)
