"""The receiving part of a stream, which the router holds."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from ..messages.filters import Filter
from ..messages.router import Router
from ..observables.buffer import Buffer
from ..observables.hot import HotObservable, Subscription
from ..reporting.events import Gap
from ..reporting.redaction import redact
from .stream_options import StreamOptions

__all__ = ["StreamReceiver"]

T = TypeVar("T")


class StreamReceiver(Buffer[T]):
    """The part of a stream that the router holds: it must not refer to the stream, which would never be collected.

    Only while somebody is subscribed it does, by way of what hands on to subscribers.
    """

    __slots__ = ("_copies", "_filters", "_router", "_takes_gaps", "abandoned", "fan_out", "keeps", "matched")

    def __init__(self, router: Router, filters: Filter, options: StreamOptions) -> None:
        super().__init__(router.context.loop, router.context.reporter, options.maxsize, options.overflow)
        self._router = router
        self._filters = filters
        self._takes_gaps = options.gaps
        self._copies = options.copy
        self.abandoned = False
        self.matched = 0
        self.keeps = True
        self.fan_out: HotObservable[T] | None = None

    def describe(self) -> str:
        """Name the stream by its filter."""
        return f"stream {redact(repr(self._filters))}"

    def on_message(self, message: T, /) -> None:
        """Take a message that passes the filter."""
        self.matched += 1
        if self._copies:
            message = copy.deepcopy(message)
        if self.keeps:
            self.put(message)
        if self.fan_out is not None:
            self.fan_out.on_next(message)

    def on_gap(self, gap: Gap, /) -> None:
        """Take a gap, if gaps were asked for."""
        if self._takes_gaps:
            item: Any = gap
            if self.keeps:
                self.put(item)
            if self.fan_out is not None:
                self.fan_out.on_next(item)

    def on_end(self, error: Exception | None, /) -> None:
        """Take nothing more in."""
        self._router.remove(self)
        self.close(error)
        # What is held and not kept is on its way to the first subscriber, who is told of the end after that.
        if self.fan_out is not None and (self.keeps or not self):
            self.fan_out.end(self.error)

    def overflowed(self) -> None:
        """End the stream: it was full."""
        # Now, and not when the consumer gets to it: a stream that takes nothing in must cost nothing either.
        self._router.remove(self)
        if self.fan_out is not None:
            self.fan_out.end(self.error)

    def abandon(self) -> None:
        """Hold no more: the stream is being collected. From any thread, and in the midst of anything."""
        self.abandoned = True
        self.keeps = False

    def hand_over(self, subscription: Subscription[T]) -> None:
        """Hand what is held to the first subscriber, as far as it wants it; the rest is nobody's."""
        fan_out = self.fan_out
        assert fan_out is not None
        while self._items and subscription in fan_out.subscriptions:
            fan_out.notify(subscription, self._items.popleft())
        if not self.keeps:
            self.clear()
        if self.closed:
            fan_out.end(self.error)
