"""The base of ``resync`` and ``backfill``: an Observable whose subscribers each have a session that supplies losses."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Generic, TypeVar

from reactivex import Observable, abc

from ..observables.hot import HotObservable, Subscription
from ..observables.loop_context import LoopContext
from ..observables.observable import AsyncObservable, Scheduler
from ..reporting.cancellation import FAILURES
from ..reporting.events import Gap
from .availability import Availability

__all__ = ["Session", "Source", "Synchronized"]

T = TypeVar("T")
S = TypeVar("S", bound="Session")


@dataclass(eq=False, slots=True)
class Source(Generic[S]):
    """The stream whose messages the sessions take. The sessions of all subscribers share it.

    Attributes:
        messages: the messages.
        gaps: the gaps among them.
        availability: whether messages can arrive at present.
        name: the name of the stream in reports.
        sessions: the sessions of the present subscribers.
    """

    messages: Observable[Any]
    gaps: Observable[Gap]
    availability: Availability
    name: str
    sessions: set[S] = field(default_factory=set, init=False)


class Session(HotObservable[Any]):
    """The items of one subscriber, and the tasks that obtain what the stream has lost.

    Args:
        context: the feed's event loop, scheduler and reporter.
        source: the stream.
    """

    #: The user's arguments that read a message, for reports.
    reads: ClassVar[str]

    def __init__(self, context: LoopContext, source: Source[Any]) -> None:
        super().__init__(context)
        # This is not named `_source`, because an AsyncObservable subscribes to its `_source`.
        self._stream: Final = source
        self._subscriptions: list[abc.DisposableBase] = []
        self._tasks: Final[set[asyncio.Task[None]]] = set()
        # Whether the last message could not be read.
        self._is_unreadable = False

    @property
    @abstractmethod
    def in_sync(self) -> bool:
        """Whether no message is missing, and none may be missing. May be read in any thread."""

    def start(self) -> None:
        """Begin to take messages.

        A subclass creates its first task before. If the stream has ended, it ends this session while the session
        subscribes, and that cancels the task.
        """
        self._stream.sessions.add(self)
        self._subscriptions.append(self._stream.gaps.subscribe(self._lose))
        self._subscriptions.append(self._stream.messages.subscribe(self._take, self.end, self.end))

    def remove(self, subscription: Subscription[Any]) -> None:
        """Stop, because the subscriber has disposed of its subscription."""
        super().remove(subscription)
        self._stop()

    def end(self, error: Exception | None = None) -> None:
        """Stop, and end the sequence of the subscriber."""
        self._stop()
        super().end(error)

    def _stop(self) -> None:
        self._stream.sessions.discard(self)
        for subscription in self._subscriptions:
            subscription.dispose()
        for task in self._tasks:
            task.cancel()

    def _run(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a coroutine in a task, which the end of the session cancels."""
        task = self._context.loop.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @abstractmethod
    def _lose(self, gap: Gap) -> None:
        """Note that messages may be missing at this point."""

    def _take(self, message: Any) -> None:
        if isinstance(message, Gap):
            # The stream was made with gaps=True. `_lose` has already handled this gap.
            return
        try:
            items = self._apply(message)
            self._is_unreadable = False
        except FAILURES as error:
            # A wrong argument fails for every message, so report only the first failure in a row.
            if self._is_unreadable:
                self._context.reporter.counters.failures += 1
            else:
                self._context.reporter.failed(f"{self.reads} for {self._stream.name}", message, error)
            self._is_unreadable = True
            items = self._apply_unreadable(message)
        self._deliver(items)

    @abstractmethod
    def _apply(self, message: Any) -> list[Any]:
        """Take a message of the stream and return the items to deliver.

        Raises:
            Exception: the message cannot be read. The session is unchanged.
        """

    @abstractmethod
    def _apply_unreadable(self, message: Any) -> list[Any]:
        """Take a message that cannot be read and return the items to deliver."""

    @abstractmethod
    def _deliver(self, items: list[Any]) -> None:
        """Pass items to the subscriber."""


class Synchronized(AsyncObservable[T], Generic[T]):
    """An Observable that makes a session for each subscriber.

    Args:
        context: the feed's event loop, scheduler and reporter.
        source: the stream.
        make_session: returns a new session.
    """

    def __init__(self, context: LoopContext, source: Source[Any], make_session: Callable[[], Session]) -> None:
        super().__init__(context)
        # This is not named `_source`, because an AsyncObservable subscribes to its `_source`.
        self._stream: Final = source
        self._make_session: Final = make_session

    @property
    def in_sync(self) -> bool:
        """Whether all subscribers have got all messages so far. May be read in any thread.

        False without a subscriber, while messages are missing or may be missing, and while no messages can arrive,
        because there is no connection or because the stream is not subscribed on it. Also False while the feed holds
        messages at the end of a rotation.
        """
        # Another thread may read this property, so copy the set, which happens in one step.
        sessions = (*self._stream.sessions,)
        return bool(sessions) and self._stream.availability.is_available() and all(each.in_sync for each in sessions)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._context.reporter.name}: {'' if self.in_sync else 'not '}in sync>"

    def _attach(self, on_next: Any, on_error: Any, on_completed: Any, scheduler: Scheduler) -> abc.DisposableBase:
        session = self._make_session()
        subscription = session._attach(on_next, on_error, on_completed, scheduler)
        session.start()
        return subscription
