"""Where items enter: hot Observables, cheap per item, in which one subscriber that raises disturbs no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import length_hint
from typing import Any, Generic, TypeVar

from reactivex import abc

from ..reporting.cancellation import FAILURES
from .loop_context import LoopContext
from .observable import AsyncObservable, Scheduler

__all__ = ["CurrentObservable", "HotObservable", "Subscription"]

T = TypeVar("T")


@dataclass(slots=True, eq=False, repr=False)
class Subscription(abc.DisposableBase, Generic[T]):
    """One subscriber of a HotObservable. Disposable from any thread.

    reactivex's AutoDetachObserver is not used: it stands between each item and the subscriber's function, and with its
    Disposables and their locks it takes six times the memory.
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
    """The subscribers, in order, until one subscribes or disposes."""

    subscriptions: tuple[Subscription[T], ...] = ()
    pushes: tuple[Callable[[T], object], ...] = ()
    # Most streams have one subscriber: nothing that it changes concerns anybody else's turn.
    only: Callable[[T], object] | None = None
    # Not empty once that is so. A list, because to look whether it is empty costs least.
    changes: list[None] = field(default_factory=list)


class HotObservable(AsyncObservable[T], Generic[T]):
    """Where items enter: hands each to all subscribers, and one that raises disturbs no other.

    reactivex.Subject is not used: per item it takes a lock twice and copies its list of observers, and an observer
    that raises starves those behind it.
    """

    def __init__(self, context: LoopContext) -> None:
        super().__init__(context)
        # Each with what must live as long as it does. The same dict for ever: the hot path looks whether it is empty.
        self.subscriptions: dict[Subscription[T], object] = {}
        # Whose turn it is with the next item. None when they are to be listed anew: once per change, however many
        # change between two items.
        self._turn: _Observers[T] | None = None
        self._ended = False
        self._error: Exception | None = None

    @property
    def observed(self) -> bool:
        """Whether anybody is subscribed."""
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
        """Hand a new subscriber what came before it, if that is of use to it. For subclasses to define."""

    def remove(self, subscription: Subscription[T]) -> None:
        """Hand on to this subscriber no more. Idempotent."""
        if self.subscriptions.pop(subscription, self) is not self:
            self._change()

    def _change(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.changes.append(None)

    def on_next(self, item: T) -> None:
        """Hand an item to all who are subscribed now, and still are when it is their turn."""
        turn = self._turn or self._list()
        # Not by way of `hand`: a call for each subscriber costs as much as all the rest.
        push = turn.only
        if push is not None:
            try:
                push(item)
            except FAILURES as error:
                self._context.reporter.failed(push, item, error)
            return
        changes, rest = turn.changes, iter(turn.pushes)
        for push in rest:
            try:
                push(item)
            except FAILURES as error:
                self._context.reporter.failed(push, item, error)
            if changes:
                # It subscribed or disposed somebody: who is gone gets nothing more.
                for subscription in turn.subscriptions[len(turn.pushes) - length_hint(rest) :]:
                    if subscription in self.subscriptions:
                        self.notify(subscription, item)
                return

    def _list(self) -> _Observers[T]:
        # In its place before it is filled: a finalizer may dispose of a subscription at any allocation.
        turn = self._turn = _Observers()
        turn.subscriptions = (*self.subscriptions,)
        turn.pushes = tuple([subscription.on_next for subscription in turn.subscriptions])
        if len(turn.pushes) == 1:
            turn.only = turn.pushes[0]
        return turn

    def notify(self, subscription: Subscription[T], item: T) -> None:
        """Hand an item to one subscriber."""
        try:
            subscription.on_next(item)
        except FAILURES as error:
            self._context.reporter.failed(subscription.on_next, item, error)

    def end(self, error: Exception | None = None) -> None:
        """End the sequence, for those who are subscribed and those who will be. Idempotent."""
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
        guard = self._context.reporter.guard
        if self._error is None:
            with guard(subscription.on_completed):
                subscription.on_completed()
        else:
            with guard(subscription.on_error):
                subscription.on_error(self._error)


class CurrentObservable(HotObservable[T]):
    """A value that changes: an observer gets the current one, then each new one."""

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
        # Also after the end: whoever asks late wants to know how it ended.
        self.notify(subscription, self._value)
