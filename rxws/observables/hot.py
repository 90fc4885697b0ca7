"""Hot Observables. They pass items on cheaply, and a subscriber that raises does not affect others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import length_hint
from typing import Any, Generic, TypeVar

from reactivex import abc

from ..reporting.cancellation import RAISED
from .loop_context import LoopContext
from .observable import AsyncObservable, Scheduler

__all__ = ["CurrentObservable", "HotObservable", "Subscription"]

T = TypeVar("T")


@dataclass(slots=True, eq=False, repr=False)
class Subscription(abc.DisposableBase, Generic[T]):
    """One subscriber of a HotObservable. It can be disposed from any thread.

    reactivex's AutoDetachObserver is not used, because it adds a call between each item and the subscriber's function,
    and takes six times the memory with its Disposables and their locks.
    """

    source: HotObservable[T]
    on_next: abc.OnNext[T]
    on_error: abc.OnError
    on_completed: abc.OnCompleted

    def dispose(self) -> None:
        """End the subscription. Idempotent."""
        self.source._context.call(self.source.remove, self)


@dataclass(slots=True, eq=False)
class _Observers(Generic[T]):
    """A list of the subscribers, in order. It is valid until a subscriber is added or removed."""

    subscriptions: tuple[Subscription[T], ...] = ()
    pushes: tuple[Callable[[T], object], ...] = ()
    # The function of the only subscriber; None if there are several. If there is only one, no other subscriber can be
    # removed before it gets the item, so `changes` need not be checked.
    only: Callable[[T], object] | None = None
    # Not empty after a subscriber was added or removed. It is a list, because testing an empty list is cheapest.
    changes: list[None] = field(default_factory=list)


class HotObservable(AsyncObservable[T], Generic[T]):
    """Passes each item to all subscribers. A subscriber that raises does not affect others.

    reactivex.Subject is not used, because it takes a lock twice and copies its list of observers for each item, and
    because observers after one that raises do not get the item.
    """

    def __init__(self, context: LoopContext) -> None:
        super().__init__(context)
        # Each value is an object that the subscription keeps alive. This dict is never replaced, because the router's
        # hot path keeps a reference to it and tests whether it is empty.
        self.subscriptions: dict[Subscription[T], object] = {}
        # The subscribers that get the next item. A change sets this to None, and `on_next` then makes a new list. So
        # several changes in a row make only one list.
        self._observers: _Observers[T] | None = None
        self._ended = False
        self._error: Exception | None = None

    @property
    def observed(self) -> bool:
        """Whether there is a subscriber."""
        return bool(self.subscriptions)

    def __repr__(self) -> str:
        ended = ", ended" if self._ended else ""
        return f"<{type(self).__name__} of {self._context.reporter.name}: {len(self.subscriptions)} subscribed{ended}>"

    def _attach(self, on_next: Any, on_error: Any, on_completed: Any, scheduler: Scheduler) -> Subscription[T]:
        subscription = Subscription(self, on_next, on_error, on_completed)
        self._on_subscribe(subscription)
        if self._ended:
            self._finish(subscription)
        else:
            self.subscriptions[subscription] = None
            self._change()
        return subscription

    def _on_subscribe(self, subscription: Subscription[T]) -> None:
        """Called with a new subscription before it gets items. Subclasses may pass it an earlier item."""

    def remove(self, subscription: Subscription[T]) -> None:
        """Pass no more items to this subscriber. Idempotent."""
        if self.subscriptions.pop(subscription, self) is not self:
            self._change()

    def _change(self) -> None:
        observers, self._observers = self._observers, None
        if observers is not None:
            observers.changes.append(None)

    def on_next(self, item: T) -> None:
        """Pass an item to all present subscribers, except those that are disposed before they get it."""
        observers = self._observers or self._list()
        # `notify` is not called here, because one more call for each subscriber would double the cost.
        push = observers.only
        if push is not None:
            try:
                push(item)
            except RAISED as error:
                self._context.reporter.raised(push, item, error)
            return
        changes, rest = observers.changes, iter(observers.pushes)
        for push in rest:
            try:
                push(item)
            except RAISED as error:
                self._context.reporter.raised(push, item, error)
            if changes:
                # This subscriber has changed the subscriptions. Skip those that were disposed.
                for subscription in observers.subscriptions[len(observers.pushes) - length_hint(rest) :]:
                    if subscription in self.subscriptions:
                        self.notify(subscription, item)
                return

    def _list(self) -> _Observers[T]:
        # Assign the object before it is filled. Any allocation may run a finalizer that disposes of a subscription, and
        # `_change` must then find the object.
        observers = self._observers = _Observers()
        observers.subscriptions = (*self.subscriptions,)
        observers.pushes = tuple([subscription.on_next for subscription in observers.subscriptions])
        if len(observers.pushes) == 1:
            observers.only = observers.pushes[0]
        return observers

    def notify(self, subscription: Subscription[T], item: T) -> None:
        """Pass an item to one subscriber."""
        try:
            subscription.on_next(item)
        except RAISED as error:
            self._context.reporter.raised(subscription.on_next, item, error)

    def end(self, error: Exception | None = None) -> None:
        """End the sequence for all present and later subscribers. Idempotent."""
        if self._ended:
            return
        self._ended = True
        self._error = error
        subscriptions = list(self.subscriptions)
        self.subscriptions.clear()
        self._change()
        for subscription in subscriptions:
            self._finish(subscription)

    def _finish(self, subscription: Subscription[T]) -> None:
        with self._context.reporter.guard(subscription.on_error if self._error else subscription.on_completed):
            if self._error is None:
                subscription.on_completed()
            else:
                subscription.on_error(self._error)


class CurrentObservable(HotObservable[T]):
    """A value that changes. A subscriber gets the current value, then each new one."""

    def __init__(self, context: LoopContext, value: T) -> None:
        super().__init__(context)
        self._value = value

    @property
    def value(self) -> T:
        """The current value. May be read from any thread."""
        return self._value

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, {self._value!r}>"

    def on_next(self, item: T) -> None:
        """Change the value."""
        self._value = item
        super().on_next(item)

    def _on_subscribe(self, subscription: Subscription[T]) -> None:
        # Do this also after the end, so that a late subscriber gets the last value.
        self.notify(subscription, self._value)
