"""map_async: emits the results of a coroutine function, with a limit for calls and for waiting messages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import SingleAssignmentDisposable

from ..callables import name_of, reject_generator_function
from ..checks import check_count
from ..observables import Buffer, LoopContext, Overflow
from ..reporting import RAISED
from ..streams import StreamOptions
from .sources import home_of

__all__ = ["map_async"]

T = TypeVar("T")
S = TypeVar("S")


def map_async(
    function: Callable[[T], Awaitable[S]],
    *,
    concurrency: int = 1,
    ordered: bool = True,
    maxsize: int | None = 1000,
    overflow: Overflow = "error",
) -> Callable[[Observable[T]], Observable[S]]:
    """Call a coroutine function with each message, and emit the results.

    The calls of each subscriber are separate. Messages that arrive while ``concurrency`` calls run wait in a buffer.
    When the source ends or fails, the waiting messages are still processed. Disposing of the subscription, or leaving
    the ``async for``, cancels the running calls and discards the waiting messages.

    If the function raises, or is cancelled by other code, the message has no result: the failure is logged, counted and
    emitted as :class:`~rxws.CallbackFailed`, and the next message follows. Catch exceptions in the function to emit
    something in their place.

    Args:
        function: a coroutine function of a message, or any function that returns an awaitable.
        concurrency: how many calls may run at the same time; 1 by default.
        ordered: whether the results have the order of their messages (the default). Then a slow call delays the results
            of later calls, and a finished call counts as running until its result is emitted. With False each result is
            emitted as soon as it is known.
        maxsize: the number of messages that may wait; 1,000 by default, None for no limit.
        overflow: what to do when that many messages wait. ``"error"`` (the default) unsubscribes from the source, and
            ends with :exc:`~rxws.StreamOverflow` after the results of the waiting messages; ``"drop_oldest"`` and
            ``"drop_newest"`` drop a message, count it and report it.

    Raises:
        TypeError: ``function`` is not callable or is a generator function, or ``concurrency`` or ``maxsize`` is not an
            int.
        ValueError: ``concurrency`` or ``maxsize`` is less than 1, or ``overflow`` is unknown.

    Example::

        >>> import asyncio, reactivex as rx
        >>> from rxws import operators as rxops
        >>> async def double(number):
        ...     await asyncio.sleep(0.1 / number)
        ...     return 2 * number
        >>> async def main():
        ...     print(await rx.of(1, 2, 3).pipe(rxops.map_async(double, concurrency=3), rx.operators.to_list()))
        >>> asyncio.run(main())
        [2, 4, 6]

    On a feed::

        stored = ws.stream_filter([{"e": "trade"}]).pipe(rxops.map_async(database.insert, concurrency=10))
    """
    if not callable(function):
        raise TypeError(f"function must be a coroutine function of a message, not {function!r}")
    reject_generator_function(function, "the function of map_async")
    check_count("concurrency", concurrency)
    options = StreamOptions(maxsize, overflow)

    def operator(source: Observable[T]) -> Observable[S]:
        def subscribe(observer: abc.ObserverBase[S], scheduler: abc.SchedulerBase | None = None) -> abc.DisposableBase:
            context = home_of(source)
            if context is None:
                raise RuntimeError("map_async calls a coroutine function: subscribe in a running event loop")
            calls = _Calls(context, function, observer, concurrency, is_ordered=ordered, options=options)
            waiting = calls.waiting
            calls.source.disposable = source.subscribe(waiting.put, waiting.close, waiting.close, scheduler=scheduler)
            return context.disposable(calls.dispose)

        return Observable(subscribe)

    return operator


class _Waiting(Buffer[T]):
    """The messages that wait for a call."""

    __slots__ = ("_name", "on_overflow")

    def __init__(self, context: LoopContext, name: str, options: StreamOptions) -> None:
        super().__init__(context.loop, context.reporter, options.maxsize, options.overflow)
        self._name = name
        self.on_overflow: Callable[[], object]

    def describe(self) -> str:
        """Return the name of the consumer in the log and the events."""
        return self._name

    def overflowed(self) -> None:
        """Unsubscribe from the source, because the buffer was full."""
        self.on_overflow()


class _Calls:
    """The calls for one subscriber.

    Attributes:
        waiting: the messages that wait for a call.
        source: the subscription of the source.
    """

    def __init__(
        self,
        context: LoopContext,
        function: Callable[[Any], Awaitable[Any]],
        observer: abc.ObserverBase[Any],
        concurrency: int,
        *,
        is_ordered: bool,
        options: StreamOptions,
    ) -> None:
        self.source: Final = SingleAssignmentDisposable()
        self.waiting: Final[_Waiting[Any]] = _Waiting(context, f"map_async of {name_of(function)}", options)
        self.waiting.on_overflow = self.source.dispose
        self._context = context
        self._function = function
        self._observer = observer
        self._is_ordered = is_ordered
        self._slots = asyncio.Semaphore(concurrency)
        # The calls whose results are not emitted yet, in the order of their messages.
        self._calls: dict[asyncio.Task[Any], Any] = {}
        self._is_disposed = False
        # A replay waits for this consumer.
        context.consumed(self.waiting)
        self._running = context.loop.create_task(self._run(), name=f"rxws {self.waiting.describe()}")

    def dispose(self) -> None:
        """Unsubscribe, cancel the running calls, and discard the waiting messages. Idempotent."""
        self._is_disposed = True
        self.source.dispose()
        self.waiting.close()
        self.waiting.clear()
        for task in (self._running, *self._calls):
            task.cancel()

    async def _run(self) -> None:
        error: Exception | None = None
        try:
            while True:
                await self._slots.acquire()
                message = await self.waiting.get()
                task = self._context.loop.create_task(self._call(message), name=f"rxws {self.waiting.describe()}")
                self._calls[task] = message
                task.add_done_callback(self._done)
        except StopAsyncIteration:
            pass
        except Exception as ended:
            error = ended
        while self._calls:
            await asyncio.wait(self._calls)
        if error is None:
            self._observer.on_completed()
        else:
            self._observer.on_error(error)

    async def _call(self, message: Any) -> Any:
        return await self._function(message)

    def _done(self, task: asyncio.Task[Any]) -> None:
        if not self._is_ordered:
            self._emit(task)
            return
        while self._calls and (first := next(iter(self._calls))).done():
            self._emit(first)

    def _emit(self, task: asyncio.Task[Any]) -> None:
        message = self._calls.pop(task, None)
        self._slots.release()
        if self._is_disposed or self._running.cancelling():
            # The subscription has ended, or the loop is being torn down.
            return
        try:
            result = task.result()
        except RAISED as error:
            self._context.reporter.failed(self._function, message, error)
            return
        try:
            self._observer.on_next(result)
        except RAISED as error:
            self._context.reporter.raised(self._observer.on_next, result, error)
