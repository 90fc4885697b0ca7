"""Delivers each message to the receivers whose filters it passes."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Container, Hashable
from typing import Any, Final

from ..observables.deferred import SKIPPED, Deferred, made
from ..observables.hot import HotObservable
from ..observables.loop_context import LoopContext
from ..reporting.cancellation import RAISED
from ..reporting.event import GapReason
from ..reporting.events import Gap
from .filters import Filter
from .index import Index, Registration
from .latency import LatencyMeter
from .naming import CHANNEL, is_of_channel

__all__ = ["Receiver", "Router"]


class Receiver:
    """An object that is registered with a router: a stream or a handler. This base class has no queue."""

    __slots__ = ()

    #: Whether ``on_message`` also takes a Deferred.
    takes_deferred = False

    @abstractmethod
    def on_message(self, message: Any, /) -> None:
        """Take a message that passes the receiver's filter."""

    def on_gap(self, gap: Gap, /) -> None:
        """Called with a Gap when messages may be missing at this point. This method does nothing."""

    def on_end(self, error: Exception | None, /) -> None:
        """Called once, after the last message. ``error`` says why the feed failed, or is None if it was closed."""

    @property
    def pending_bytes(self) -> int:
        """The size of the queued messages in bytes. May be read from any thread."""
        return 0

    def __len__(self) -> int:
        """Return how many messages are queued."""
        return 0


class Router:
    """Delivers each message to the subscribers of all messages, and to the receivers whose filters it passes.

    Args:
        context: the event loop and the reporter.
        identity: the user's hook that returns the identity of a message; None if there is no hook.
        latency: measures the latency of messages; None if they do not contain when they were sent.
    """

    def __init__(
        self,
        context: LoopContext,
        identity: Callable[[Any], Hashable] | None = None,
        latency: LatencyMeter | None = None,
    ) -> None:
        self.context: Final = context
        self.identity: Final = identity
        self.latency: Final = latency
        self.messages: HotObservable[Any] = HotObservable(context)
        self._last_message: Any = None
        self._reporter = context.reporter
        #: The receivers with their filters.
        self.index: Final[Index[Callable[[Any], None]]] = Index(self._rejected)
        # The receivers of channels whose name differs on each connection, by the channels' identities.
        self._by_channel: Index[Callable[[Any], None]] = Index(self._rejected)
        self._receivers: dict[Receiver, Registration[Callable[[Any], None]]] = {}
        self._on_removed: dict[Receiver, Callable[[], None]] = {}
        #: Functions that return whether a line holds messages after a rotation, because earlier ones may still arrive.
        self.holding: Final[set[Callable[[], bool]]] = set()
        # Finds for a message the filters of snapshots of the streams that get the message.
        self._snapshots: Index[Filter] = Index(self._rejected)
        self._expecting: dict[Receiver, dict[Filter, Registration[Filter]]] = {}
        self._ended = False
        self._error: Exception | None = None
        #: Delivers a message. A receiver that raises does not affect the others.
        self.route: Final = self._router()

    def _router(self) -> Callable[[Any], None]:
        # This is a closure and not a method, because it runs for every message, and a closure reads no attributes.
        counters, subscribers, emit = self._reporter.counters, self.messages.subscriptions, self.messages.on_next
        match, raised = self.index.match, self._reporter.raised

        def route(message: Any) -> None:
            counters.messages += 1
            self._last_message = message
            if subscribers:
                message = made(message)
                if message is SKIPPED:
                    return
                emit(message)
            for push in match(message):
                try:
                    push(message)
                except RAISED as error:
                    raised(push, made(message), error)

        return route

    def route_to(self, channel: Hashable, message: Any) -> None:
        """Deliver a message to the receivers of a channel, after it was delivered by the filters of all receivers."""
        for push in self._by_channel.match({CHANNEL: channel}):
            try:
                push(message)
            except RAISED as error:
                self._reporter.raised(push, message, error)

    @property
    def last_message(self) -> Any:
        """The last message; None if there is none, or it cannot be decoded. Safe from any thread."""
        last = self._last_message
        return last.peek() if type(last) is Deferred else last

    def _index_for(self, filter: Filter) -> Index[Callable[[Any], None]]:  # noqa: A002
        return self._by_channel if is_of_channel(filter) else self.index

    def is_holding(self) -> bool:
        """Return whether a line holds messages after a rotation."""
        return any(is_holding() for is_holding in self.holding)

    @property
    def receivers(self) -> list[Receiver]:
        """The receivers that are registered now. Safe from any thread."""
        return list(self._receivers)

    def add(self, receiver: Receiver, filter: Filter) -> None:  # noqa: A002
        """Register a receiver. If the feed has ended, call its ``on_end`` immediately instead."""
        if self._ended:
            receiver.on_end(self._error)
        else:
            push = receiver.on_message if receiver.takes_deferred else _whole(receiver.on_message)
            self._receivers[receiver] = self._index_for(filter).add(push, filter)

    def divert(self, receiver: Receiver, filter: Filter, push: Callable[[Any], None]) -> None:  # noqa: A002
        """Pass the messages of ``receiver`` to ``push`` from now on. Do nothing if it is not registered."""
        registration = self._receivers.get(receiver)
        if registration is not None:
            index = self._index_for(filter)
            index.remove(registration)
            self._receivers[receiver] = index.add(push, filter)

    def remove(self, receiver: Receiver) -> None:
        """Unregister a receiver. Idempotent. Call it on the loop's thread; it is safe while a message is delivered."""
        registration = self._receivers.pop(receiver, None)
        if registration is not None:
            self._index_for(registration.filter).remove(registration)
        if receiver in self._expecting:
            for expected in self._expecting.pop(receiver).values():
                self._snapshots.remove(expected)
        if receiver in self._on_removed:
            self._on_removed.pop(receiver)()

    def when_removed(self, receiver: Receiver, on_removed: Callable[[], None]) -> None:
        """Call ``on_removed`` when ``receiver`` is unregistered."""
        self._on_removed[receiver] = on_removed

    def expect_snapshots(self, receiver: Receiver, filter: Filter, snapshots: Filter) -> None:  # noqa: A002
        """Note that the server begins each subscription of a registered receiver with a snapshot.

        Args:
            receiver: the receiver.
            filter: its filter.
            snapshots: the filter of the snapshots among its messages.
        """
        expected = self._expecting.setdefault(receiver, {})
        if receiver in self._receivers and snapshots not in expected:
            expected[snapshots] = self._snapshots.add(snapshots, filter)

    @property
    def expects_snapshots(self) -> bool:
        """Whether a receiver expects snapshots."""
        return bool(self._expecting)

    def is_snapshot(self, message: Any, channel: Hashable) -> bool:
        """Return whether a message of a channel is a snapshot with which a subscription begins on its connection."""
        if not self._expecting:
            return False
        message = made(message)
        # The filters of streams whose channel the server names match no message.
        found = (*self._snapshots.match(message), *self._snapshots.match({CHANNEL: channel}))
        return any(each(message) for each in found)

    def _rejected(self, filter: Filter, message: Any, error: BaseException) -> None:  # noqa: A002
        """Report that a filter raised. The report names the filter's function if it has one."""
        self._reporter.failed(filter.predicate or filter, message, error)

    def report_gap(self, start: float, end: float, reason: GapReason, spared: Container[object] = ()) -> None:
        """Count, emit and announce a Gap: messages from ``start`` to ``end`` may be missing at this point.

        Receivers that are ``spared`` do not get it, because none of their messages is missing.

        After the end of the feed nothing is delivered, so nothing is announced.
        """
        if self._ended:
            return
        self._reporter.counters.gaps += 1
        gap = self._reporter.emit(Gap, start=start, end=end, reason=reason, last_message=self.last_message)
        # The log limits repeated lines per `about`. The number of the gap differs, so every gap is logged.
        self._reporter.log(logging.WARNING, gap, about=self._reporter.counters.gaps)
        self.announce(gap, spared)

    def announce(self, gap: Gap, spared: Container[object] = ()) -> None:
        """Pass a Gap to all receivers that are not spared."""
        for receiver in self.receivers:
            if receiver not in spared:
                receiver.on_gap(gap)

    def end(self, error: Exception | None) -> None:
        """End all receivers, and from now on each receiver that is added."""
        self._ended = True
        self._error = error
        self._last_message = None
        for receiver in self.receivers:
            self.remove(receiver)
            receiver.on_end(error)
        self.messages.end(error)


def _whole(push: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a function that passes only whole messages to ``push``."""

    def push_whole(message: Any) -> None:
        message = made(message)
        if message is not SKIPPED:
            push(message)

    return push_whole
