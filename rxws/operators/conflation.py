"""conflate: delivers the newest message of each key, for a consumer that is slower than the feed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Generic, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, SerialDisposable

from ..messages import Field
from ..observables import AsyncObservable, LoopContext
from ..reporting import FAILURES
from ..streams import Stream
from .iteration import to_async_iterator
from .reading import key_reader, parse_seconds
from .sources import Reports, home_of, scheduler_of

__all__ = ["Conflated", "conflate"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Conflated(Generic[T]):
    """The newest message of a key.

    Attributes:
        message: the message, unchanged.
        merged: the number of older messages of the same key that it replaced; 0 if none was skipped.
    """

    message: T
    merged: int


def conflate(key: Field | None = None, *, every: float = 0.0) -> Callable[[Observable[T]], Observable[Conflated[T]]]:
    """Deliver the newest message of each key when the consumer is ready, and count the messages that it replaced.

    ``async for`` over the result pulls messages. While its body waits, a new message replaces the waiting message of
    the same key. The next iteration gets the message of the key that has waited longest. For this conflate must be the
    last step of the pipe, because an operator after it is a subscriber.

    A subscriber (an operator or a handler) cannot show that it is slow. It gets each key at most once per iteration of
    the event loop, so the messages of a burst are merged, and single messages pass unmerged. With ``every`` it gets
    each key at most once in this number of seconds, which suits a display.

    conflate holds at most one message per key, however slow the consumer is, so the number of keys must be limited. A
    message without the key is left out and reported. When the source ends, held messages are still delivered.

    Args:
        key: a key, a path, or a function of the message; None (the default) conflates all messages into one.
        every: seconds between two deliveries to a subscriber; 0 (the default) delivers once per iteration of the loop.
            It does not apply to ``async for``.

    Raises:
        TypeError: ``key`` is a coroutine function or cannot be hashed, or ``every`` is not a number.
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
        """Hold a message, and call ``waits`` if no message of its key was waiting."""
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
        """Return the keys of the waiting messages."""
        return list(self._held)

    def take(self, key: Hashable) -> Conflated[T] | None:
        """Remove the message of a key, and return it."""
        return self._held.pop(key, None)


class _Rounds(Generic[T]):
    """Delivers messages to an observer in rounds. A round delivers the messages of all waiting keys."""

    def __init__(
        self, observer: abc.ObserverBase[Conflated[T]], held: _Newest[T], clock: abc.SchedulerBase, interval: timedelta
    ) -> None:
        self.timer = SerialDisposable()
        self._observer = observer
        self._held = held
        self._clock = clock
        self._interval = interval
        self._next_round = clock.now
        self._is_due = False

    def on_next(self, message: T) -> None:
        self._held.put(message, self._waits)

    def _waits(self, _key: Hashable) -> None:
        if not self._is_due:
            self._is_due = True
            delay = max(timedelta(), self._next_round - self._clock.now)
            self.timer.disposable = self._clock.schedule_relative(delay, self._play)

    def _play(self, *_: object) -> None:
        self._is_due = False
        self._next_round = self._clock.now + self._interval
        self._deliver()

    def _deliver(self) -> None:
        for key in self._held.keys():  # noqa: SIM118 (a copy: the observer may add keys, or end the source)
            conflated = self._held.take(key)
            if conflated is not None:
                self._observer.on_next(conflated)

    def on_error(self, error: Exception) -> None:
        self._deliver()
        self._observer.on_error(error)

    def on_completed(self) -> None:
        self._deliver()
        self._observer.on_completed()


def _pushed(source: Observable[T], newest: Callable[[], _Newest[T]], interval: timedelta) -> Observable[Conflated[T]]:
    """Return the Observable for subscribers."""

    def subscribe(
        observer: abc.ObserverBase[Conflated[T]], scheduler: abc.SchedulerBase | None = None
    ) -> abc.DisposableBase:
        rounds = _Rounds(observer, newest(), scheduler_of(source, scheduler), interval)
        subscription = source.subscribe(rounds.on_next, rounds.on_error, rounds.on_completed, scheduler=scheduler)
        return CompositeDisposable(subscription, rounds.timer)

    return Observable(subscribe)


class _Conflation(AsyncObservable[Conflated[T]]):
    """The result of ``conflate`` on an event loop. Its ``async for`` pulls messages."""

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
        """Subscribe now, and iterate over the newest messages, until the source ends or fails."""
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

        # Queue only the keys, and look up the newest message when a key is taken. The queue needs no limit, because it
        # contains each key at most once.
        keys = to_async_iterator(maxsize=None, maxbytes=None)(AsyncObservable(self._context, Observable(subscribe)))
        return _Pull(keys, newest)


class _Pull(AsyncIterator[Conflated[T]]):
    """One ``async for`` over conflated messages. The stream of keys unsubscribes when it is garbage-collected."""

    __slots__ = ("_keys", "_newest")

    def __init__(self, keys: Stream[Hashable], newest: _Newest[T]) -> None:
        self._keys = keys
        self._newest = newest

    async def __anext__(self) -> Conflated[T]:
        conflated = self._newest.take(await anext(self._keys))
        assert conflated is not None
        return conflated

    async def aclose(self) -> None:
        """End the subscription and drop the held messages. Cancelling is safe, because this never waits."""
        self._keys.clear()
        await self._keys.close()
