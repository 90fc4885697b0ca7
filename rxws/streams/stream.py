"""Stream: the messages that pass a filter, kept until somebody takes them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable
from typing import Any, Final, Generic, Self, TypeVar

from reactivex import abc

from ..display.snapshot import RECENT, RateMeter, mimebundle
from ..messages.filters import Filter
from ..messages.router import Router
from ..observables.hot import HotObservable
from ..observables.observable import AsyncObservable, BufferIterator, Scheduler
from .availability import ALWAYS_AVAILABLE, Availability
from .resync import ChangeSource, Resynced
from .stream_options import StreamOptions
from .stream_receiver import StreamReceiver

__all__ = ["Stream"]

T = TypeVar("T")
S = TypeVar("S")


class Stream(AsyncObservable[T], BufferIterator[T], Generic[T]):
    """The messages that pass a filter, from the call of ``stream_filter`` on: an Observable with a buffer.

    What it holds goes to the first consumer, be it ``async for`` or ``subscribe``; ``pipe`` alone changes nothing. Once
    it is consumed by ``subscribe`` nothing is kept. It is its own iterator: of two concurrent ``anext`` the second
    raises RuntimeError, and a cancelled ``anext`` loses nothing. The iteration ends after ``close()`` and after the
    feed's ``exit()``, when all that was held is delivered; it raises the feed's fatal error, or
    :exc:`~rxws.StreamOverflow`.

    A subscription keeps its stream alive until it is disposed. A stream with neither subscriber nor iterator nor
    reference is collected, and unregisters itself within a turn of the loop.

    Example::

        async with ws.stream_filter([{"e": "trade"}]) as trades:
            async for trade in trades:
                ...
    """

    def __init__(
        self, router: Router, filters: Filter, options: StreamOptions, availability: Availability = ALWAYS_AVAILABLE
    ) -> None:
        super().__init__(router.context)
        self._buffer = self._receiver = StreamReceiver[T](router, filters, options)
        self._iterated = False
        self._rate: Final = RateMeter(self._context.loop.time())
        self._router: Final = router
        self._availability: Final = availability
        router.add(self._receiver, filters)

    @property
    def pending(self) -> int:
        """How many messages wait to be taken."""
        return len(self._receiver)

    @property
    def dropped(self) -> int:
        """How many messages were dropped because the stream was full."""
        return self._receiver.dropped

    @property
    def matched(self) -> int:
        """How many messages passed the filter."""
        return self._receiver.matched

    @property
    def is_unmatched(self) -> bool:
        """Whether it takes messages, and none has passed its filter yet."""
        return not (self._receiver.closed or self._receiver.matched)

    def take_in(self, message: T) -> None:
        """Hold a message that came past the router. On the loop's thread."""
        self._receiver.on_message(message)

    def clear(self) -> None:
        """Forget what is held.

        Raises:
            RuntimeError: outside the loop's thread.
        """
        self._context.check()
        self._receiver.clear()

    async def close(self) -> None:
        """Take nothing more in. What is held is still delivered, then the iterator ends; subscribers are completed.

        Idempotent. It never waits for the consumer, so cancelling is safe.
        """
        self.close_nowait()

    aclose = close

    def close_nowait(self) -> None:
        """The same, where nothing can be awaited.

        Raises:
            RuntimeError: outside the loop's thread.
        """
        self._context.check()
        self._receiver.on_end(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        self._context.check()
        self._iterated = True
        self._receiver.keeps = True
        self._context.consumed(self._receiver)
        return self

    def __anext__(self) -> Coroutine[Any, Any, T]:
        if not self._iterated:
            aiter(self)
        return self._receiver.get(self)

    def when_ended(self, on_removed: Callable[[], None]) -> None:
        """Call ``on_removed`` once the stream takes nothing more in: it was closed, or collected, or has overflowed."""
        self._router.when_removed(self._receiver, on_removed)

    def batches(self) -> AsyncIterator[list[T]]:
        """Iterate over lists of all that waits: one wake-up for many messages.

        Ends and raises as the stream's own iteration does; each list holds at least one message.

        Example::

            async for trades in stream.batches():
                database.insert(trades)
        """
        return _Batches(self)

    def resync(
        self,
        snapshot: Callable[[], Awaitable[S]],
        *,
        sequence: tuple[Hashable, Hashable] | Callable[[Any], tuple[int, int]],
        snapshot_sequence: Hashable | Callable[[Any], int],
    ) -> Resynced[T, S]:
        """Return the changes of this stream together with the snapshots that they belong to.

        Each subscriber, and each ``async for``, gets a :class:`~rxws.Snapshot`, then only the changes after it: those
        whose last number is not after the snapshot's are dropped, and each that follows begins at most one after the
        end of the one before. At every ``Gap`` of the feed, every hole in the numbers, and when these go back (the
        server counts anew), another snapshot is fetched and delivered, for this subscriber alone; meanwhile changes
        are held, at most 100,000, and ``in_sync`` of what is returned is False. (That changes are missing is known with
        the next one that comes.) So it is, and nothing is fetched, while the feed has no connection, and while that
        has not subscribed a stream of ``multiplex``, or the server has refused it.

        A snapshot that is older than what is held is fetched again, which is reported from the second one in a row on;
        a failure to fetch one within 10 s is reported and retried. The delays grow, and start over with a ``Gap`` and
        after 10 s in sync. A message whose numbers cannot be read may be a change that is missing then: it is reported,
        and another snapshot is fetched. Whoever disposes of the subscription, or leaves the ``async for``, cancels the
        fetching; the sequence ends as the stream does.

        Args:
            snapshot: a coroutine function that fetches a snapshot.
            sequence: the keys, or paths, of a change's first and last number, ``("U", "u")``, which are ints; or a
                function of a change that returns both (which may make ints of strings).
            snapshot_sequence: the key, or path, of the last number in a snapshot, ``"lastUpdateId"``; or a function.

        Raises:
            TypeError: an argument is of the wrong kind.

        Example::

            changes = ws.stream_filter([{"e": "depthUpdate", "s": "BTCUSDT"}])
            async for item in changes.resync(fetch, sequence=("U", "u"), snapshot_sequence="lastUpdateId"):
                if isinstance(item, rxws.Snapshot):
                    book = Book(item.data)
                else:
                    book.apply(item)
        """
        source = ChangeSource(self, self._router.gaps, self._availability, self._receiver.describe())
        return Resynced(self._context, source, snapshot, sequence, snapshot_sequence)

    def _attach(self, on_next: Any, on_error: Any, on_completed: Any, scheduler: Scheduler) -> abc.DisposableBase:
        receiver = self._receiver
        is_first = receiver.keeps and not self._iterated
        fan_out = receiver.fan_out
        if fan_out is None:
            fan_out = receiver.fan_out = HotObservable(self._context)
            if receiver.closed and not is_first:
                fan_out.end(receiver.error)
        subscription = fan_out._attach(on_next, on_error, on_completed, scheduler)
        if subscription in fan_out.subscriptions:
            # It keeps the stream alive.
            fan_out.subscriptions[subscription] = self
        if is_first:
            receiver.keeps = False
            # Not before all that is being subscribed here is: what an operator does not want, it can refuse then.
            self._context.scheduler.schedule(lambda *_: receiver.hand_over(subscription))
        return subscription

    def __repr__(self) -> str:
        end = " closed" if self._receiver.closed else ""
        numbers = f"{self.matched} matched, {self.pending} pending, {self.dropped} dropped"
        return f"<{self._receiver.describe()}{end}: {numbers}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Show the stream in a notebook's cell: numbers, rate since the last look, the last few messages that wait."""
        facts = {
            "feed": self._context.reporter.name,
            "state": "closed" if self._receiver.closed else "open",
            "rate": self._rate.look(self.matched, self._context.loop.time()),
            "matched": self.matched,
            "pending": self.pending,
            "dropped": self.dropped,
        }
        return mimebundle(repr(self), facts, self._receiver.latest(RECENT))

    def __del__(self) -> None:
        # Absent when the constructor raised.
        receiver: StreamReceiver[T] | None = getattr(self, "_receiver", None)
        if receiver is not None and not receiver.closed:
            receiver.abandon()
            self._context.call_from_finalizer(self._router.remove, receiver)


class _Batches(AsyncIterator[list[T]]):
    """``stream.batches()``; it refers to the stream, which lives as long as it is iterated over."""

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream[T]) -> None:
        self._stream = aiter(stream)

    async def __anext__(self) -> list[T]:
        return await self._stream._receiver.get_batch()
