"""The way of a message to those who want it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from ..observables.hot import HotObservable
from ..observables.observable import Home
from ..reporting.events import Gap
from ..reporting.reporter import FAILURES
from .filters import Filter
from .index import Index

__all__ = ["Receiver", "Router"]


class Receiver(Protocol):
    """Who is registered with a router: a stream, or a handler."""

    def push(self, message: Any, /) -> None:
        """Take a message that passes the receiver's filter."""

    def announce(self, gap: Gap, /) -> None:
        """Learn that messages may be missing here."""

    def finish(self, error: Exception | None, /) -> None:
        """Learn that no message follows: the feed was closed, or failed with ``error``."""

    def __len__(self) -> int:
        """Return how many messages wait."""


class Router:
    """Hands each message to the receivers whose filters it passes, and to whoever is subscribed to all of them."""

    def __init__(self, home: Home) -> None:
        self.messages: HotObservable[Any] = HotObservable(home)
        self.gaps: HotObservable[Gap] = HotObservable(home)
        self.last_message: Any = None
        self._reporter = home.reporter
        self._index: Index[Callable[[Any], None]] = Index(self._rejected)
        self._receivers: dict[Receiver, Any] = {}
        self._farewells: dict[Receiver, Callable[[], None]] = {}
        self._ended = False
        self._error: Exception | None = None
        self.route: Final = self._router()
        """Hands a message on. One that raises disturbs nobody else."""

    def _router(self) -> Callable[[Any], None]:
        # A function, with all it needs at hand, and no method: it runs for every message.
        counters, subscribers, emit = self._reporter.counters, self.messages.subscriptions, self.messages.emit
        match, failed = self._index.match, self._reporter.failed

        def route(message: Any) -> None:
            counters.messages += 1
            self.last_message = message
            if subscribers:
                emit(message)
            for push in match(message):
                try:
                    push(message)
                except FAILURES as error:
                    failed(push, message, error)

        return route

    @property
    def receivers(self) -> list[Receiver]:
        """All who are registered now. May be read from any thread."""
        return list(self._receivers)

    def add(self, receiver: Receiver, filter: Filter) -> None:  # noqa: A002
        """Register a receiver; after the end it is finished at once."""
        if self._ended:
            receiver.finish(self._error)
        else:
            self._receivers[receiver] = self._index.add(receiver.push, filter)

    def remove(self, receiver: Receiver) -> None:
        """Unregister a receiver. Idempotent, and safe at any moment: a collected stream unregisters itself."""
        registration = self._receivers.pop(receiver, None)
        if registration is not None:
            self._index.remove(registration)
        farewell = self._farewells.pop(receiver, None)
        if farewell is not None:
            farewell()

    def when_removed(self, receiver: Receiver, farewell: Callable[[], None]) -> None:
        """Call ``farewell`` once ``receiver`` is registered no more."""
        self._farewells[receiver] = farewell

    def _rejected(self, filter: Filter, message: Any, error: BaseException) -> None:  # noqa: A002
        """Report that a filter raised, by the name of its function where it is one."""
        self._reporter.failed(filter.predicate or filter, message, error)

    def announce(self, gap: Gap) -> None:
        """Tell all receivers that messages may be missing here."""
        self.gaps.emit(gap)
        for receiver in self.receivers:
            receiver.announce(gap)

    def end(self, error: Exception | None) -> None:
        """Finish all receivers, now and in future."""
        self._ended = True
        self._error = error
        self.last_message = None
        for receiver in self.receivers:
            self.remove(receiver)
            receiver.finish(error)
        self.messages.end(error)
