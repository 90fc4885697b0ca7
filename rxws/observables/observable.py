"""AsyncObservable: an Observable that is bound to an event loop and works with ``async for``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Generator
from types import CoroutineType
from typing import Any, Final, TypeAlias, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import Disposable, SingleAssignmentDisposable
from reactivex.observable import ConnectableObservable, GroupedObservable
from reactivex.scheduler import CurrentThreadScheduler
from reactivex.subject import ReplaySubject

from ..callables import USE_OF_COROUTINES, is_coroutine_function, is_generator_function, name_of
from ..reporting.cancellation import RAISED
from ..reporting.reporter import Reporter
from .buffer import Buffer
from .fluent import FluentOperators
from .loop_context import LoopContext

__all__ = [
    "AsyncConnectableObservable",
    "AsyncGroupedObservable",
    "AsyncObservable",
    "BufferIterator",
    "Scheduler",
    "on_loop",
]

#: The scheduler of timed operators; None for the loop's clock.
Scheduler: TypeAlias = abc.SchedulerBase | None

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


_CONTAINERS: Final = (list, tuple, dict)


def _coroutines_in(item: Any) -> list[CoroutineType[Any, Any, Any]]:
    """Return the coroutines that an item is or contains, one level deep."""
    members = item.values() if type(item) is dict else item if type(item) in _CONTAINERS else (item,)
    return [each for each in members if isinstance(each, CoroutineType)]


class AsyncObservable(FluentOperators[T_co]):
    """A ``reactivex.Observable`` bound to an event loop, with ``async for``. Its operators return AsyncObservables.

    Timed operators run on the loop's clock unless they are given a scheduler. Each ``async for`` has its own buffer,
    which keeps items from the call of ``aiter`` on. If it holds 1,000,000 items and another one arrives, the iteration
    ends with :exc:`~rxws.StreamOverflow`. The buffer is freed when the ``async for`` is left or the iterator is
    dropped. An AsyncObservable raises RuntimeError outside its loop's thread; only the Disposable that ``subscribe``
    returns may be disposed from any thread.

    Example::

        async for second in ws.messages.pipe(ops.buffer_with_time(1.0)):
            print(len(second))
    """

    # __getitem__ would give Observables a blocking ``for``, which hangs in an event loop. With None, iter() raises
    # TypeError.
    __iter__ = None

    def __init__(self, context: LoopContext, source: Observable[T_co] | None = None) -> None:
        # Do not use super(): in a subclass it is ConnectableObservable, whose constructor takes more arguments.
        Observable.__init__(self)
        self._context: Final = context
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
            on_error: called with the error that ends the sequence; None logs the error and emits it on ``events``.
            on_completed: called at the end; None does nothing.
            scheduler: the scheduler of timed operators; None for the loop's clock.

        Returns:
            A Disposable that ends the subscription; it may be disposed from any thread.

        Raises:
            TypeError: a function is a coroutine function (see ``add_handler``), or is not callable.
            RuntimeError: outside the loop's thread.
        """
        self._context.check()
        if callable(getattr(on_next, "on_next", None)):
            observer: Any = on_next
            on_next, on_error, on_completed = observer.on_next, observer.on_error, observer.on_completed
        elif on_next is not None and not callable(on_next):
            raise TypeError(f"on_next must be an observer or a function of one argument, not {on_next!r}")
        for name, function in (("on_error", on_error), ("on_completed", on_completed)):
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be a function, or None for none, not {function!r}")
        if scheduler is not self._context.scheduler:  # this scheduler means that an operator subscribes, not the user
            for given in (on_next, on_error, on_completed):
                _check_plain(given)
        return self._attach(on_next or _ignore, on_error or self._context.unhandled, on_completed or _ignore, scheduler)

    def _attach(self, on_next: Any, on_error: Any, on_completed: Any, scheduler: Scheduler) -> abc.DisposableBase:
        """Subscribe three functions; return a Disposable that may be disposed from any thread."""
        subscription = SingleAssignmentDisposable()
        if scheduler is not self._context.scheduler:
            # These are functions of the user and not of an operator. Their exceptions must not pass through operators,
            # because a shared operator would then stop for its other subscribers too.
            on_error, on_completed = self._guard(on_error), self._guard(on_completed)
            on_next = self._guard_next(on_next, on_error, subscription)
        # If there is a source, subscribe to it directly, so that items do not pass through another observer.
        subscribe = super().subscribe if self._source is None else self._source.subscribe
        given = scheduler or self._context.scheduler
        subscription.disposable = subscribe(on_next, on_error, on_completed, scheduler=given)
        return self._context.disposable(subscription.dispose)

    def _guard_next(
        self,
        on_next: Callable[[Any], object],
        on_error: Callable[[Exception], None],
        subscription: SingleAssignmentDisposable,
    ) -> Callable[[Any], None]:
        """Return a function that passes items to ``on_next`` and reports the exceptions that ``on_next`` raises.

        An item that is an Observable is bound to the context first. If an item is a coroutine that no operator awaited,
        or a list, tuple or dict that contains one, the subscription ends with TypeError. Of each of these three types,
        only the first item that is not empty is searched for coroutines.
        """
        context = self._context
        # The types of items that need none of these checks. A look-up takes less time than isinstance with an ABC.
        plain: set[type] = set()

        def take(item: Any) -> None:
            try:
                if type(item) not in plain:
                    if coroutines := _coroutines_in(item):
                        for coroutine in coroutines:
                            coroutine.close()
                        if not subscription.is_disposed:
                            subscription.dispose()
                            on_error(TypeError(f"no operator awaited the coroutine of an item: {USE_OF_COROUTINES}"))
                        return
                    if isinstance(item, Observable):
                        item = _bind(item, context)
                    elif type(item) not in _CONTAINERS or item:
                        plain.add(type(item))
                on_next(item)
            except RAISED as error:
                context.reporter.raised(on_next, item, error)

        return take

    def _guard(self, function: Callable[..., object]) -> Callable[..., None]:
        """Return a function that calls ``function`` and reports the exception that it raises."""

        def guarded(*error: Exception) -> None:
            with self._context.reporter.guard(function):
                function(*error)

        return guarded

    def _bind(self, result: Any) -> Any:
        return _bind(result, self._context) if isinstance(result, Observable) else result

    def __await__(self) -> Generator[Any, None, T_co]:
        """Return the last item of the result of an operator, such as ``pipe(ops.take(10), ops.to_list())``.

        Cancelling ends the subscription.

        Raises:
            TypeError: no operator was applied, so that the sequence ends only with its feed.
            SequenceContainsNoElementsError: the sequence ended without an item.
        """
        if self._source is None:
            raise TypeError(
                f"a {type(self).__name__} cannot be awaited, because it ends only with its feed: "
                "await anext(stream) for one item, or stream.collect(count) for a list"
            )
        return super().__await__()

    def __aiter__(self) -> AsyncIterator[T_co]:
        """Subscribe now and iterate over the items. The iteration ends with the sequence, or raises its error."""
        return _Iteration(self)

    async def collect(self, count: int | None = None, seconds: float | None = None) -> list[T_co]:
        """Return the items from now on as a list, for example for ``pandas.DataFrame``.

        It returns when it has ``count`` items, after ``seconds``, or when the sequence ends, whichever is first. The
        list from a stream begins with the items that the stream holds, and items beyond ``count`` stay in the stream.
        (To get only the last item, use ``await observable``.)

        If the sequence ends with an error, ``collect`` raises it. In this case, and when ``collect`` is cancelled, the
        collected items are put back if they came from a stream; the items of any other Observable are lost.

        Args:
            count: the largest number of items; None (the default) for no limit.
            seconds: the longest time in seconds, on the loop's clock (in a replay, on the recording's clock); 0 returns
                only items that already wait; None (the default) for no limit.

        Raises:
            TypeError: ``count`` is not an int, or ``seconds`` is not a number.
            ValueError: ``count`` or ``seconds`` is negative.
            RuntimeError: outside the loop's thread.
            StreamOverflow: more than 1,000,000 items arrived before ``collect`` could take them.

        Example::

            trades = pandas.DataFrame(await ws.stream_filter([{"e": "trade"}]).collect(seconds=10))
        """
        _check_limits(count, seconds)
        loop, reporter = self._context.loop, self._context.reporter
        iterator = aiter(self)
        # The iterator of `conflate` has no buffer to which items can be returned. The new buffer stays empty.
        buffer: Buffer[T_co] = iterator._buffer if isinstance(iterator, BufferIterator) else Buffer(loop, reporter)
        items = buffer.take(count)
        expiry: abc.DisposableBase = Disposable()
        try:
            async with asyncio.timeout(None) as limit:
                if seconds is not None:

                    def expire(*_: object) -> None:
                        # Take the waiting items, which arrived in time. Items that arrive from now on are too late.
                        items.extend(buffer.take(None if count is None else count - len(items)))
                        limit.reschedule(loop.time())

                    expiry = self._context.scheduler.schedule_relative(seconds, expire)
                while count is None or len(items) < count:
                    item = await anext(iterator)
                    if limit.when() is not None:
                        buffer.put_back([item])
                        break
                    items.append(item)
        except StopAsyncIteration:
            pass
        except BaseException as error:
            if not (isinstance(error, TimeoutError) and limit.expired()):
                buffer.put_back(items)
                raise
        finally:
            expiry.dispose()
            if isinstance(iterator, _Iteration):
                await iterator.aclose()
        return items


class BufferIterator(AsyncIterator[T]):
    """Iterates over the items of a buffer."""

    __slots__ = ()
    _buffer: Buffer[T]


class _Iteration(BufferIterator[T]):
    """One ``async for`` with its buffer. The subscription ends when this iterator is garbage collected."""

    __slots__ = ("_buffer", "_context", "_subscription")

    def __init__(self, source: AsyncObservable[T]) -> None:
        context = self._context = source._context
        buffer = self._buffer = Buffer[T](context.loop, context.reporter)
        context.consumed(buffer)
        # The subscription refers only to the buffer, so it does not keep this iterator alive.
        self._subscription = source.subscribe(buffer.put, buffer.close, buffer.close)

    async def __anext__(self) -> T:
        return await self._buffer.get()

    async def aclose(self) -> None:
        """End the subscription and discard the waiting items. Cancelling is safe: it never waits.

        Raises:
            RuntimeError: outside the loop's thread.
        """
        self._context.check()
        _end(self._subscription, self._buffer)

    def __del__(self) -> None:
        # The attribute is absent if subscribing raised.
        if hasattr(self, "_subscription"):
            # Close the buffer now, so that it takes no more items before the callback runs.
            self._buffer.close()
            self._context.call_from_finalizer(_end, self._subscription, self._buffer)


def _end(subscription: abc.DisposableBase, buffer: Buffer[Any]) -> None:
    subscription.dispose()
    buffer.close()
    # Free the items now, because operators may refer to the buffer until they are garbage collected.
    buffer.clear()


class AsyncConnectableObservable(AsyncObservable[T], ConnectableObservable[T]):
    """An AsyncObservable that starts with ``connect``: the result of ``publish`` and ``replay``."""

    __await__ = FluentOperators.__await__

    def __init__(self, context: LoopContext, source: ConnectableObservable[T]) -> None:
        AsyncObservable.__init__(self, context)
        self.subject = source.subject
        self.source = source.source
        self.has_subscription = source.has_subscription
        self.subscription = source.subscription
        if isinstance(self.subject, ReplaySubject) and isinstance(self.subject.scheduler, CurrentThreadScheduler):
            # The subject was made without a scheduler, and would measure its window with the wall clock.
            self.subject.scheduler = context.scheduler

    def connect(self, scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase | None:
        """Subscribe to the source for all observers, and return a Disposable that ends this subscription."""
        self._context.check()
        return super().connect(scheduler or self._context.scheduler)

    def auto_connect(self, subscriber_count: int = 1) -> AsyncObservable[T]:
        """Return an Observable that connects when it has ``subscriber_count`` subscribers (0: immediately)."""
        self._context.check()
        return _bind(super().auto_connect(subscriber_count), self._context)


class AsyncGroupedObservable(AsyncObservable[T], GroupedObservable[Any, T]):
    """An AsyncObservable of the items with the same key. ``group_by`` emits these."""

    def __init__(self, context: LoopContext, source: GroupedObservable[Any, T]) -> None:
        AsyncObservable.__init__(self, context, source)
        self.key = source.key
        self.underlying_observable = source.underlying_observable


def _check_limits(count: Any, seconds: Any) -> None:
    kinds = {"count": (count, int, "an int"), "seconds": (seconds, int | float, "a number of seconds")}
    for name, (given, kind, wanted) in kinds.items():
        if given is not None and (isinstance(given, bool) or not isinstance(given, kind)):
            raise TypeError(f"{name} must be {wanted}, or None for no limit, not {given!r}")
    # Do not write "given < 0", which is False for NaN.
    if not all(given is None or given >= 0 for given in (count, seconds)):
        raise ValueError(f"count and seconds must not be negative: {count!r}, {seconds!r}")


def _check_plain(function: object) -> None:
    if is_coroutine_function(function) or is_generator_function(function):
        raise TypeError(
            f"subscribe takes plain functions, but {name_of(function)} is a coroutine or generator function: "
            "pass a coroutine function to add_handler, or iterate with 'async for'"
        )


def _ignore(*_: object) -> None:
    """Used for each function that the caller did not give."""


def _bind(result: Observable[T], context: LoopContext) -> AsyncObservable[T]:
    if isinstance(result, AsyncObservable):
        return result
    if isinstance(result, ConnectableObservable):
        return AsyncConnectableObservable(context, result)
    if isinstance(result, GroupedObservable):
        return AsyncGroupedObservable(context, result)
    return AsyncObservable(context, result)


def on_loop(observable: Observable[T]) -> AsyncObservable[T]:
    """Make an AsyncObservable from any Observable, on the running event loop.

    Args:
        observable: the result of ``rx.merge(...)``, ``rx.timer(...)``, or an operator.

    Returns:
        An AsyncObservable with the same items, whose timed operators run on the loop's clock. An AsyncObservable is
        returned unchanged.

    Raises:
        TypeError: ``observable`` is not an Observable.
        RuntimeError: outside a running event loop.

    Example::

        async for trade in rxws.on_loop(rx.merge(spot.messages, futures.messages)):
            ...
    """
    if not isinstance(observable, Observable):
        raise TypeError(f"expected a reactivex Observable, such as ws.messages or a stream, not {observable!r}")
    loop = asyncio._get_running_loop()
    if loop is None:
        raise RuntimeError("on_loop must be called inside a running event loop: from a coroutine or a callback")
    return _bind(observable, LoopContext(loop, Reporter(loop, "on_loop")))
