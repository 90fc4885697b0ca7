"""to_async_iterator: iterates over any Observable, with its own buffer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from reactivex import Observable
from reactivex.disposable import SingleAssignmentDisposable

from ..messages import Filter, Receiver, Router
from ..observables import DEFAULT_MAXBYTES, DEFAULT_MAXSIZE, LoopContext, Overflow, on_loop
from ..streams import Stream, StreamOptions

__all__ = ["to_async_iterator"]

T = TypeVar("T")

EVERYTHING: Final = Filter.parse(None)


def to_async_iterator(
    maxsize: int | None = DEFAULT_MAXSIZE, overflow: Overflow = "error", *, maxbytes: int | None = DEFAULT_MAXBYTES
) -> Callable[[Observable[T]], Stream[T]]:
    """Make an async iterator of an Observable, as the last step of a pipe.

    Every AsyncObservable can be iterated over; use this operator to set the limit of the buffer. It returns a
    :class:`~rxws.Stream`, which subscribes at once, holds items until a consumer takes them, and has ``batches()``,
    ``pending``, ``dropped`` and ``close()``. The stream unsubscribes when it is closed, overflows or is
    garbage-collected. After the source's last item it ends, or raises the source's error. Cancelling an ``anext`` is
    safe.

    Args:
        maxsize: the number of items that it may hold; 1,000,000 by default, None for no limit.
        overflow: what to do when it is full. ``"error"`` (the default) ends it with :exc:`~rxws.StreamOverflow` after
            the items that it holds; ``"drop_oldest"`` and ``"drop_newest"`` drop an item, count it and report it.
        maxbytes: the number of bytes that it may hold; 256 MiB by default, None for no limit. An item counts the size
            of the frame that is being delivered when the item arrives. It counts 0 if it arrives at another time, as
            from a timed operator, and if the source is the result of ``rxws.on_loop``, which knows no frames.

    Raises:
        TypeError: ``maxsize`` or ``maxbytes`` is not an int.
        ValueError: ``maxsize`` or ``maxbytes`` is less than 1, or ``overflow`` is unknown.
        RuntimeError: it is applied outside an event loop, or outside the source's event loop.

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

    For a type checker, the result of a pipe is an AsyncObservable. Call the operator with the pipe to get the type
    Stream::

        large = rxops.to_async_iterator(maxsize=100)(ws.messages.pipe(ops.filter(is_large)))
    """
    options = StreamOptions(maxsize, overflow, maxbytes=maxbytes)

    # Return a Stream, which is also an Observable: mypy requires one at the end of a pipe (see fluent.pyi).
    def operator(source: Observable[T]) -> Stream[T]:
        bound = on_loop(source)
        way = _Way(bound._context, bound)
        return Stream(way, EVERYTHING, options)

    return operator


class _Way(Router):
    """Replaces a feed's router: it passes the items of one source to one stream."""

    def __init__(self, context: LoopContext, source: Observable[Any]) -> None:
        super().__init__(context)
        self._source = source
        self._subscription = SingleAssignmentDisposable()

    def add(self, receiver: Receiver, filter: Filter) -> None:  # noqa: A002
        """Subscribe. The subscription refers only to the receiver, so that the stream can be garbage-collected."""
        self._subscription.disposable = self._source.subscribe(
            receiver.on_message, receiver.on_end, lambda: receiver.on_end(None)
        )

    def remove(self, receiver: Receiver) -> None:
        """End the subscription, because the stream is closed, full or garbage-collected."""
        self._subscription.dispose()
