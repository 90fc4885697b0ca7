"""AsyncObservable: an Observable at home on an event loop, that ``async for`` can iterate over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from operator import length_hint
from typing import Any, Final, Generic, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable
from reactivex.observable import ConnectableObservable, GroupedObservable
from reactivex.scheduler import CurrentThreadScheduler
from reactivex.subject import ReplaySubject

from .buffer import Buffer
from .callables import is_coroutine_function, name_of
from .fluent import FluentOperators
from .reporting import FAILURES, Reporter
from .scheduler import LoopScheduler

__all__ = [
    "AsyncConnectableObservable",
    "AsyncGroupedObservable",
    "AsyncObservable",
    "CurrentObservable",
    "EventObservable",
    "Home",
    "HotObservable",
    "on_loop",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Home:
    """Where Observables live: their event loop, its clock, and who is told of errors that nobody takes."""

    loop: asyncio.AbstractEventLoop
    scheduler: LoopScheduler
    reporter: Reporter

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop, reporter: Reporter) -> Home:
        """Make the home on ``loop`` whose errors go to ``reporter``."""

        def failed(error: BaseException) -> None:
            reporter.failed("a timed operator's subscriber", None, error)

        return cls(loop, LoopScheduler(loop, failed), reporter)

    def check(self) -> None:
        """Raise RuntimeError unless the caller runs on the loop's thread, in the loop."""
        # _get_running_loop, because it is the one form that gives None instead of raising where there is no loop.
        if asyncio._get_running_loop() is not self.loop:
            raise RuntimeError(
                f"{self.reporter.name} belongs to the event loop in which it was made: use it from that loop only "
                "(from another thread with loop.call_soon_threadsafe or asyncio.run_coroutine_threadsafe)"
            )

    def disposable(self, dispose: Callable[[], None]) -> abc.DisposableBase:
        """Return a Disposable that may be disposed from any thread: ``dispose`` runs on the loop's."""

        def on_loop_thread() -> None:
            if asyncio._get_running_loop() is self.loop or self.loop.is_closed():
                dispose()
            else:
                self.loop.call_soon_threadsafe(dispose)

        return Disposable(on_loop_thread)


class AsyncObservable(FluentOperators[T_co]):
    """A ``reactivex.Observable`` bound to an event loop: what it is piped into is one too, and ``async for`` iterates.

    Timed operators run on the loop's clock unless they are given a scheduler. Each ``async for`` has a buffer of its
    own (at most 1,000,000 items, then :exc:`~rxws.StreamOverflow`), from the call of ``aiter`` on, which is freed when
    the loop is left or the iterator dropped. It belongs to its loop's thread and raises RuntimeError elsewhere; only
    the Disposable that ``subscribe`` returns may be disposed from any thread.

    Example::

        async for second in ws.messages.pipe(ops.buffer_with_time(1.0)):
            print(len(second))
    """

    # Rx offers a blocking ``for`` through __getitem__; in an event loop it would hang. None makes iter() a TypeError.
    __iter__ = None

    def __init__(self, home: Home, source: Observable[T_co] | None = None) -> None:
        # By name, because ConnectableObservable, which comes next for a subclass, wants more.
        Observable.__init__(self)
        self._home: Final = home
        self._source: Final = source

    def subscribe(
        self,
        on_next: abc.ObserverBase[T_co] | abc.OnNext[T_co] | None = None,
        on_error: abc.OnError | None = None,
        on_completed: abc.OnCompleted | None = None,
        *,
        scheduler: abc.SchedulerBase | None = None,
    ) -> abc.DisposableBase:
        """Subscribe an observer, or up to three functions.

        Args:
            on_next: an observer, or a plain function called with each item; None ignores the items.
            on_error: called with the error that ends the sequence; None logs it and emits it on ``events``.
            on_completed: called at the end; None does nothing.
            scheduler: where timed operators run; None for the loop's clock.

        Returns:
            A Disposable that ends the subscription; it may be disposed from any thread.

        Raises:
            TypeError: if ``on_next`` is a coroutine function (see ``add_handler``) or not callable.
            RuntimeError: outside the loop's thread.
        """
        self._home.check()
        if is_coroutine_function(on_next):
            raise TypeError(
                f"subscribe takes a plain function, and {name_of(on_next)} is a coroutine function: "
                "pass it to add_handler, or iterate with 'async for'"
            )
        is_observer = callable(getattr(on_next, "on_next", None))
        if on_next is not None and not is_observer and not callable(on_next):
            raise TypeError(f"on_next must be an observer or a function of one argument, not {on_next!r}")
        if on_error is None and not is_observer:
            on_error = self._unhandled
        scheduler = scheduler or self._home.scheduler
        return self._attach(on_next, on_error, on_completed, scheduler)

    def _attach(
        self,
        on_next: Any,
        on_error: abc.OnError | None,
        on_completed: abc.OnCompleted | None,
        scheduler: abc.SchedulerBase,
    ) -> abc.DisposableBase:
        """Subscribe; return a Disposable that may be disposed from any thread."""
        # Straight to the source where there is one: no observer of our own stands in the way of its items.
        subscribe = super().subscribe if self._source is None else self._source.subscribe
        return self._home.disposable(subscribe(on_next, on_error, on_completed, scheduler=scheduler).dispose)

    def _unhandled(self, error: Exception) -> None:
        self._home.reporter.failed("a subscription without on_error", None, error)

    def _bind(self, result: Any) -> Any:
        return _bind(result, self._home)

    def __aiter__(self) -> AsyncIterator[T_co]:
        """Subscribe now, and iterate over what comes; ends as the sequence does, or raises its error."""
        return _Iteration(self, self._home)


class _Iteration(AsyncIterator[T]):
    """One ``async for``: its buffer and its subscription, which ends when nobody refers to the iterator any more."""

    __slots__ = ("_buffer", "_subscription")

    def __init__(self, source: AsyncObservable[T], home: Home) -> None:
        buffer: Buffer[T] = Buffer(home.loop, home.reporter)
        self._buffer = buffer
        # The subscription refers to the buffer alone, so that the iterator can be collected while it lasts.
        self._subscription = source.subscribe(buffer.put, buffer.close, buffer.close)

    async def __anext__(self) -> T:
        return await self._buffer.get()

    async def aclose(self) -> None:
        """End the subscription; what is held is dropped. Cancelling is safe: it never waits."""
        self._subscription.dispose()
        self._buffer.clear()
        self._buffer.close()

    def __del__(self) -> None:
        # Absent when subscribing raised.
        subscription = getattr(self, "_subscription", None)
        if subscription is not None:
            subscription.dispose()


class AsyncConnectableObservable(AsyncObservable[T], ConnectableObservable[T]):
    """An AsyncObservable that starts when told to: what ``publish`` and ``replay`` return."""

    def __init__(self, home: Home, source: ConnectableObservable[T]) -> None:
        AsyncObservable.__init__(self, home)
        self.subject = source.subject
        self.source = source.source
        self.has_subscription = False
        self.subscription = None
        if isinstance(self.subject, ReplaySubject) and isinstance(self.subject.scheduler, CurrentThreadScheduler):
            # It was given none, and would keep its window by the wall clock.
            self.subject.scheduler = home.scheduler

    def connect(self, scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase | None:
        """Subscribe to the source on behalf of all observers; the Disposable ends that."""
        self._home.check()
        return super().connect(scheduler or self._home.scheduler)

    def auto_connect(self, subscriber_count: int = 1) -> AsyncObservable[T]:
        """Return an Observable that connects when it has ``subscriber_count`` subscribers (0: at once)."""
        self._home.check()
        bound: AsyncObservable[T] = self._bind(super().auto_connect(subscriber_count))
        return bound


class AsyncGroupedObservable(AsyncObservable[T_co]):
    """An AsyncObservable of the items that share a key: what ``group_by`` emits."""

    def __init__(self, home: Home, source: GroupedObservable[Any, T_co]) -> None:
        super().__init__(home, source)
        self.key = source.key
        self.underlying_observable: Observable[T_co] = source.underlying_observable


def _ignore(*_: object) -> None:
    """Stands for a function that was not given."""


def _bind(result: Any, home: Home) -> Any:
    if isinstance(result, AsyncObservable) or not isinstance(result, Observable):
        return result
    if isinstance(result, ConnectableObservable):
        return AsyncConnectableObservable(home, result)
    if isinstance(result, GroupedObservable):
        return AsyncGroupedObservable(home, result)
    return AsyncObservable(home, result)


def on_loop(observable: Observable[T]) -> AsyncObservable[T]:
    """Make an AsyncObservable of any Observable, on the running event loop.

    Args:
        observable: what ``rx.merge(...)``, ``rx.timer(...)`` or an operator gives.

    Returns:
        The same items, async-iterable, its timed operators on the loop's clock. An AsyncObservable is returned as is.

    Raises:
        TypeError: if it is no Observable.
        RuntimeError: outside a running event loop.

    Example::

        async for trade in rxws.on_loop(rx.merge(spot.messages, futures.messages)):
            ...
    """
    if not isinstance(observable, Observable):
        raise TypeError(f"on_loop takes a reactivex Observable, not {observable!r}")
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise RuntimeError(
            "on_loop must be called inside a running event loop: from a coroutine or a callback"
        ) from None
    bound: AsyncObservable[T] = _bind(observable, Home.of(loop, Reporter(loop, "on_loop")))
    return bound


class Subscription(abc.DisposableBase, Generic[T]):
    """One subscriber of a HotObservable. Disposable from any thread.

    reactivex's AutoDetachObserver is not used: it stands between each item and the subscriber's function, and with its
    Disposables and their locks it takes six times the memory.
    """

    __slots__ = ("_source", "on_completed", "on_error", "on_next")

    def __init__(
        self,
        source: HotObservable[T],
        on_next: Any,
        on_error: abc.OnError | None,
        on_completed: abc.OnCompleted | None,
    ) -> None:
        if callable(getattr(on_next, "on_next", None)):
            on_next, on_error, on_completed = on_next.on_next, on_next.on_error, on_next.on_completed
        self._source = source
        self.on_next: Callable[[T], None] = on_next or _ignore
        self.on_error: abc.OnError = on_error or _ignore
        self.on_completed: abc.OnCompleted = on_completed or _ignore

    def dispose(self) -> None:
        """End the subscription. Idempotent."""
        home = self._source._home
        if asyncio._get_running_loop() is home.loop or home.loop.is_closed():
            self._source.remove(self)
        else:
            home.loop.call_soon_threadsafe(self._source.remove, self)


class HotObservable(AsyncObservable[T], Generic[T]):
    """Where items enter: hands each to all subscribers, and one that raises disturbs no other.

    reactivex.Subject is not used: per item it takes a lock twice and copies its list of observers, and an observer
    that raises starves those behind it.
    """

    def __init__(self, home: Home) -> None:
        super().__init__(home)
        # The same dict for ever: the hot path looks whether it is empty.
        self.subscriptions: dict[Subscription[T], None] = {}
        # Those who are subscribed, and their functions. None when they are to be listed anew: once per change, however
        # many change between two items.
        self._listed: tuple[Subscription[T], ...] = ()
        self._pushes: tuple[Callable[[T], None], ...] | None = ()
        self._ended = False
        self._error: Exception | None = None

    @property
    def observed(self) -> bool:
        """Whether anybody is subscribed."""
        return bool(self.subscriptions)

    def _attach(
        self,
        on_next: Any,
        on_error: abc.OnError | None,
        on_completed: abc.OnCompleted | None,
        scheduler: abc.SchedulerBase,
    ) -> abc.DisposableBase:
        subscription = Subscription(self, on_next, on_error, on_completed)
        try:
            self._welcome(subscription)
        except FAILURES as error:
            self._failed(subscription.on_next, None, error)
        if self._ended:
            self._finish(subscription)
        else:
            self.subscriptions[subscription] = None
            self._pushes = None
        return subscription

    def _welcome(self, subscription: Subscription[T]) -> None:
        """Hand a new subscriber what came before it, if that is of use to it. For subclasses to define."""

    def remove(self, subscription: Subscription[T]) -> None:
        """Hand on to this subscriber no more. Idempotent."""
        if self.subscriptions.pop(subscription, self) is None:
            self._pushes = None

    def emit(self, item: T) -> None:
        """Hand an item to all who are subscribed now, and still are when it is their turn."""
        pushes = self._pushes
        if pushes is None:
            self._listed = tuple(self.subscriptions)
            pushes = self._pushes = tuple([subscription.on_next for subscription in self._listed])
        listed, rest = self._listed, iter(pushes)
        for push in rest:
            try:
                push(item)
            except FAILURES as error:
                self._failed(push, item, error)
            if self._pushes is not pushes:
                self._emit_to_rest(item, listed[len(listed) - length_hint(rest) :])
                return

    def _emit_to_rest(self, item: T, rest: tuple[Subscription[T], ...]) -> None:
        """Go on after a subscriber that subscribed or disposed somebody: who is gone gets nothing more."""
        for subscription in rest:
            if subscription in self.subscriptions:
                try:
                    subscription.on_next(item)
                except FAILURES as error:
                    self._failed(subscription.on_next, item, error)

    def end(self, error: Exception | None = None) -> None:
        """End the sequence, for those who are subscribed and those who will be. Idempotent."""
        if self._ended:
            return
        self._ended = True
        self._error = error
        subscriptions = list(self.subscriptions)
        self.subscriptions.clear()
        self._listed = self._pushes = ()
        for subscription in subscriptions:
            self._finish(subscription)

    def _finish(self, subscription: Subscription[T]) -> None:
        try:
            if self._error is None:
                subscription.on_completed()
            else:
                subscription.on_error(self._error)
        except FAILURES as failure:
            self._failed(subscription.on_next, None, failure)

    def _failed(self, push: Callable[[T], None], item: T | None, error: BaseException) -> None:
        self._home.reporter.failed(push, item, error)


class EventObservable(HotObservable[T]):
    """The events: an observer of them that raises is logged and counted, but makes no event of its own."""

    def _failed(self, push: Callable[[T], None], item: T | None, error: BaseException) -> None:
        self._home.reporter.counters.failures += 1
        self._home.reporter.log(logging.ERROR, "a subscriber of events raised", error=error)


class CurrentObservable(HotObservable[T]):
    """A value that changes: an observer gets the current one, then each new one."""

    def __init__(self, home: Home, value: T) -> None:
        super().__init__(home)
        self._value = value

    @property
    def value(self) -> T:
        """The current value. May be read from any thread."""
        return self._value

    def emit(self, item: T) -> None:
        """Change the value."""
        self._value = item
        super().emit(item)

    def _welcome(self, subscription: Subscription[T]) -> None:
        # Also after the end: whoever asks late wants to know how it ended.
        subscription.on_next(self._value)
