"""conflate: the newest message of each key, for a consumer that is slower than the feed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, SerialDisposable

from ..observables import AsyncObservable, LoopContext
from ..reporting import FAILURES
from ..streams import Stream
from .iteration import to_async_iterator
from .reading import Field, key_reader, parse_seconds
from .sources import Reports, home_of, scheduler_of

__all__ = ["Conflated", "conflate"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Conflated(Generic[T]):
    """The newest message of a key.

    Attributes:
        message: the message, as it came.
        merged: how many older ones of the same key it stands for, that were not delivered (0: none was skipped).
    """

    message: T
    merged: int


def conflate(key: Field | None = None, *, every: float = 0.0) -> Callable[[Observable[T]], Observable[Conflated[T]]]:
    """Deliver the newest message of each key, when the consumer is ready for it, and count those it replaced.

    A source pushes and never waits; only who pulls can be slow. So ``async for`` over the result pulls: while its body
    waits, messages of one key replace each other, and the next one it gets is of the key that has waited longest. For
    that, conflate must be the last step: an operator behind it is a subscriber.

    A subscriber (an operator, a handler) cannot be seen to be slow, as it is called and has returned. It gets each key
    at most once per turn of the event loop: a burst is merged, and what comes one by one passes unmerged. With
    ``every``, it gets each key at most once in so many seconds: enough for a screen.

    Held is at most one message per key, however long the consumer takes: choose a key of which there are not endlessly
    many. A message without the key is left out and reported. What is held when the source ends is still delivered.

    Args:
        key: a key, a path, or a function of the message; None conflates all messages into one.
        every: seconds that pass between two rounds of a subscriber; 0 (the default) for one round per turn of the
            loop. An ``async for`` sets its own pace.

    Raises:
        TypeError: ``key`` is a coroutine function or cannot be hashed, or ``every`` is no number.
        ValueError: ``key`` is an empty path, or ``every`` is negative or more than a billion.

    Example::

        >>> import asyncio, rxws
        >>> from reactivex.subject import Subject
        >>> from rxws import operators as rxops
        >>> async def main():
        ...     quotes = Subject()
        ...     newest = aiter(rxws.on_loop(quotes).pipe(rxops.conflate("s")))
        ...     for symbol, price in ("BTC", 1), ("ETH", 2), ("BTC", 3):
        ...         quotes.on_next({"s": symbol, "p": price})
        ...     print(await anext(newest), await anext(newest), sep="\\n")
        >>> asyncio.run(main())
        Conflated(message={'s': 'BTC', 'p': 3}, merged=1)
        Conflated(message={'s': 'ETH', 'p': 2}, merged=0)

    On a feed::

        async for quote in ws.messages.pipe(ops.filter(is_quote), rxops.conflate("s")):
            await database.update(quote.message)
    """
    read = key_reader(key)
    interval = timedelta(seconds=parse_seconds(every, "every"))

    def operator(source: Observable[T]) -> Observable[Conflated[T]]:
        reports = Reports(source, "conflate")

        def newest() -> _Newest[T]:
            return _Newest(read, reports)

        pushed = _pushed(source, newest, interval)
        context = home_of(source)
        return pushed if context is None else _Conflation(context, pushed, source, newest)

    return operator


class _Newest(Generic[T]):
    """The newest message of each key, in the order in which the keys began to wait."""

    def __init__(self, read: Callable[[Any], Hashable], reports: Reports) -> None:
        self._read = read
        self._reports = reports
        self._held: dict[Hashable, Conflated[T]] = {}

    def put(self, message: T, waits: Callable[[Hashable], object]) -> None:
        """Take a message in, and call ``waits`` if its key did not wait yet."""
        try:
            key = self._read(message)
        except FAILURES as error:
            self._reports.rejected(message, error)
            return
        older = self._held.get(key)
        if older is None:
            self._held[key] = Conflated(message, 0)
            waits(key)
        else:
            self._held[key] = Conflated(message, older.merged + 1)

    def keys(self) -> list[Hashable]:
        """Return the keys that wait."""
        return list(self._held)

    def take(self, key: Hashable) -> Conflated[T] | None:
        """Return what waits for a key, and hold it no longer."""
        return self._held.pop(key, None)


def _pushed(source: Observable[T], newest: Callable[[], _Newest[T]], interval: timedelta) -> Observable[Conflated[T]]:
    """Return what subscribers get: a round of all keys that wait, as soon as it is time."""

    def subscribe(
        observer: abc.ObserverBase[Conflated[T]], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        clock = scheduler_of(source, scheduler)
        held = newest()
        timer = SerialDisposable()
        next_round = clock.now
        is_due = False

        def on_next(message: T) -> None:
            held.put(message, waits)

        def waits(_key: Hashable) -> None:
            nonlocal is_due
            if not is_due:
                is_due = True
                timer.disposable = clock.schedule_relative(max(timedelta(), next_round - clock.now), play_round)

        def play_round(*_: object) -> None:
            nonlocal is_due, next_round
            is_due = False
            next_round = clock.now + interval
            deliver()

        def deliver() -> None:
            for key in held.keys():  # noqa: SIM118 (a list: the observer may bring about messages, or the end)
                conflated = held.take(key)
                if conflated is not None:
                    observer.on_next(conflated)

        def on_error(error: Exception) -> None:
            deliver()
            observer.on_error(error)

        def on_completed() -> None:
            deliver()
            observer.on_completed()

        return CompositeDisposable(source.subscribe(on_next, on_error, on_completed, scheduler=scheduler), timer)

    return Observable(subscribe)


class _Conflation(AsyncObservable[Conflated[T]]):
    """The result on an event loop: who iterates over it pulls."""

    def __init__(
        self,
        context: LoopContext,
        pushed: Observable[Conflated[T]],
        messages: Observable[T],
        newest: Callable[[], _Newest[T]],
    ) -> None:
        super().__init__(context, pushed)
        self._messages = messages
        self._newest = newest

    def __aiter__(self) -> AsyncIterator[Conflated[T]]:
        """Subscribe now, and iterate over the newest; ends as the source does, or raises its error."""
        newest = self._newest()
        messages = self._messages

        def subscribe(
            observer: abc.ObserverBase[Hashable], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            return messages.subscribe(
                lambda message: newest.put(message, observer.on_next),
                observer.on_error,
                observer.on_completed,
                scheduler=scheduler,
            )

        # What waits is the key: its message is looked up when its turn has come. Bounded, as no key waits twice.
        keys = to_async_iterator(maxsize=None)(AsyncObservable(self._context, Observable(subscribe)))
        return _Pull(keys, newest)


class _Pull(AsyncIterator[Conflated[T]]):
    """One ``async for`` over what is conflated. The stream of keys unsubscribes when nobody refers to it any more."""

    __slots__ = ("_keys", "_newest")

    def __init__(self, keys: Stream[Hashable], newest: _Newest[T]) -> None:
        self._keys = keys
        self._newest = newest

    async def __anext__(self) -> Conflated[T]:
        conflated = self._newest.take(await anext(self._keys))
        assert conflated is not None
        return conflated

    async def aclose(self) -> None:
        """End the subscription; what is held is dropped. Cancelling is safe: it never waits."""
        self._keys.clear()
        await self._keys.close()
