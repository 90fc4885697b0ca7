"""to_async_iterator: any Observable with a buffer of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from reactivex import Observable
from reactivex.disposable import SingleAssignmentDisposable

from ..messages import Filter, Receiver, Router
from ..observables import DEFAULT_MAXSIZE, LoopContext, Overflow, on_loop
from ..streams import Stream, StreamOptions

__all__ = ["to_async_iterator"]

T = TypeVar("T")

EVERYTHING: Final = Filter.parse(None)


def to_async_iterator(
    maxsize: int | None = DEFAULT_MAXSIZE, overflow: Overflow = "error"
) -> Callable[[Observable[T]], Stream[T]]:
    """Make an async iterator of an Observable: the last step of a pipe.

    Every AsyncObservable can be iterated over; this is for a bound of one's own. What it returns is a
    :class:`~rxws.Stream`: it subscribes at once, keeps what comes until it is taken, and also has ``batches()``,
    ``pending``, ``dropped`` and ``close()``. It ends its subscription when it is closed, when it overflows, and when
    nobody refers to it any more; after the source's last item it ends, or raises the source's error. Cancelling an
    ``anext`` is safe.

    Args:
        maxsize: how many items it may hold; 1,000,000 by default, None for no bound.
        overflow: when full: ``"error"`` (the default) ends it with :exc:`~rxws.StreamOverflow` after what it holds;
            ``"drop_oldest"`` and ``"drop_newest"`` drop, count and report.

    Raises:
        TypeError: ``maxsize`` is no int.
        ValueError: ``maxsize`` is less than 1, or ``overflow`` unknown.
        RuntimeError: when applied outside the (or any) event loop.

    Example::

        >>> import asyncio, reactivex as rx
        >>> from rxws import operators as rxops
        >>> async def main():
        ...     numbers = rx.of(1, 2, 3, 4).pipe(rxops.to_async_iterator(maxsize=2, overflow="drop_oldest"))
        ...     async for number in numbers:
        ...         print(number, numbers.dropped)
        >>> asyncio.run(main())
        3 2
        4 2

    On a feed::

        async for trade in ws.messages.pipe(ops.filter(is_large), rxops.to_async_iterator(maxsize=100)):
            ...

    To a type checker a pipe ends in an AsyncObservable. Applied to the pipe, it gives the Stream that it is::

        large = rxops.to_async_iterator(maxsize=100)(ws.messages.pipe(ops.filter(is_large)))
    """
    options = StreamOptions(maxsize, overflow)

    # A Stream, because it is an Observable too: mypy wants one at the end of a pipe (see fluent.pyi).
    def operator(source: Observable[T]) -> Stream[T]:
        bound = on_loop(source)
        way = _Way(bound._context, bound)
        return Stream(way, EVERYTHING, options)

    return operator


class _Way(Router):
    """Stands where a feed's router does: a source's way to the one stream that it is subscribed for."""

    def __init__(self, context: LoopContext, source: Observable[Any]) -> None:
        super().__init__(context)
        self._source = source
        self._subscription = SingleAssignmentDisposable()

    def add(self, receiver: Receiver, filter: Filter) -> None:  # noqa: A002
        """Subscribe. The subscription refers to the receiver alone, so that the stream can be collected meanwhile."""
        self._subscription.disposable = self._source.subscribe(
            receiver.on_message, receiver.on_end, lambda: receiver.on_end(None)
        )

    def remove(self, receiver: Receiver) -> None:
        """End the subscription: the stream is closed, full or gone."""
        self._subscription.dispose()
