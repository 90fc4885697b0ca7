"""Stream: the messages that pass a filter, kept until somebody takes them."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from reactivex import abc

from ..display.snapshot import RECENT, Pace, mimebundle
from ..messages.filters import Filter
from ..messages.router import Router
from ..observables.buffer import Buffer, Overflow
from ..observables.hot import HotObservable, Subscription
from ..observables.observable import AsyncObservable, Home
from ..reporting.events import Gap
from ..reporting.redaction import redact
from .availability import STEADY, Flow
from .resync import Resynced

__all__ = ["Intake", "Stream"]

T = TypeVar("T")
S = TypeVar("S")


class Intake(Buffer[T]):
    """The part of a stream that the router holds: it must not refer to the stream, which would never be collected.

    Only while somebody is subscribed it does, by way of what hands on to subscribers.
    """

    __slots__ = ("_copies", "_filter", "_router", "_takes_gaps", "fan_out", "keeps", "matched")

    def __init__(
        self,
        home: Home,
        router: Router,
        filter: Filter,  # noqa: A002
        maxsize: int | None,
        overflow: Overflow,
        gaps: bool,
        copies: bool,
    ) -> None:
        super().__init__(home.loop, home.reporter, maxsize, overflow)
        self._router = router
        self._filter = filter
        self._takes_gaps = gaps
        self._copies = copies
        self.matched = 0
        self.keeps = True
        self.fan_out: _FanOut[T] | None = None

    def describe(self) -> str:
        """Name the stream by its filter."""
        return f"stream {redact(repr(self._filter))}"

    def push(self, message: T, /) -> None:
        """Take a message that passes the filter."""
        self.matched += 1
        if self._copies:
            message = copy.deepcopy(message)
        if self.keeps:
            self.put(message)
        if self.fan_out is not None:
            self.fan_out.emit(message)

    def announce(self, gap: Gap, /) -> None:
        """Take a gap, if gaps were asked for."""
        if self._takes_gaps:
            item: Any = gap
            if self.keeps:
                self.put(item)
            if self.fan_out is not None:
                self.fan_out.emit(item)

    def finish(self, error: Exception | None, /) -> None:
        """Take nothing more in."""
        self._router.remove(self)
        self.close(error)
        # What is held and not kept is on its way to the first subscriber, who is told of the end after that.
        if self.fan_out is not None and (self.keeps or not self):
            self.fan_out.end(self.error)

    def overflowed(self) -> None:
        """End the stream: it was full."""
        # Now, and not when the consumer gets to it: a stream that takes nothing in must cost nothing either.
        self._router.remove(self)
        if self.fan_out is not None:
            self.fan_out.end(self.error)

    def hand_over(self, subscription: Subscription[T]) -> None:
        """Hand what is held to the first subscriber, as far as it wants it; the rest is nobody's."""
        fan_out = self.fan_out
        assert fan_out is not None
        while self and subscription in fan_out.subscriptions:
            fan_out.hand(subscription, self.pop())
        if not self.keeps:
            self.clear()
        if self.closed:
            fan_out.end(self.error)


class _FanOut(HotObservable[T]):
    """The subscribers of a stream, which keep it alive."""

    def __init__(self, home: Home) -> None:
        super().__init__(home)
        self.stream: Stream[T] | None = None

    def remove(self, subscription: Subscription[T]) -> None:
        """Hand on to this subscriber no more."""
        super().remove(subscription)
        if not self.subscriptions:
            self.stream = None

    def end(self, error: Exception | None = None) -> None:
        """End the sequence."""
        super().end(error)
        self.stream = None


class Stream(AsyncObservable[T], AsyncIterator[T], Generic[T]):
    """The messages that pass a filter, from the call of ``stream_filter`` on: an Observable with a buffer.

    What it holds goes to the first consumer, be it ``async for`` or ``subscribe``; ``pipe`` alone changes nothing. Once
    it is consumed by ``subscribe`` nothing is kept. It is its own iterator: of two concurrent ``anext`` the second
    raises RuntimeError, and a cancelled ``anext`` loses nothing. The iteration ends after ``close()`` and after the
    feed's ``exit()``, when all that was held is delivered; it raises the feed's fatal error, or
    :exc:`~rxws.StreamOverflow`.

    A subscription keeps its stream alive until it is disposed. A stream with neither subscriber nor iterator nor
    reference is collected, and unregisters itself.

    Example::

        async with ws.stream_filter([{"e": "trade"}]) as trades:
            async for trade in trades:
                ...
    """

    def __init__(
        self,
        home: Home,
        router: Router,
        filter: Filter,  # noqa: A002
        *,
        maxsize: int | None,
        overflow: Overflow,
        gaps: bool,
        copy: bool,
        flow: Flow = STEADY,
    ) -> None:
        super().__init__(home)
        self._intake: Final[Intake[T]] = Intake(home, router, filter, maxsize, overflow, gaps, copy)
        self._iterated = False
        self._pace: Final = Pace(home.loop.time())
        self._router: Final = router
        self._flow: Final = flow
        router.add(self._intake, filter)

    @property
    def pending(self) -> int:
        """How many messages wait to be taken."""
        return len(self._intake)

    @property
    def dropped(self) -> int:
        """How many messages were dropped because the stream was full."""
        return self._intake.dropped

    @property
    def matched(self) -> int:
        """How many messages passed the filter."""
        return self._intake.matched

    @property
    def is_unmatched(self) -> bool:
        """Whether it takes messages, and none has passed its filter yet."""
        return not (self._intake.closed or self._intake.matched)

    def take_in(self, message: T) -> None:
        """Hold a message that came past the router. On the loop's thread."""
        self._intake.push(message)

    def clear(self) -> None:
        """Forget what is held.

        Raises:
            RuntimeError: outside the loop's thread.
        """
        self._home.check()
        self._intake.clear()

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
        self._home.check()
        self._intake.finish(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        self._home.check()
        self._iterated = True
        self._intake.keeps = True
        self._home.consumed(self._intake)
        return self

    def __anext__(self) -> Coroutine[Any, Any, T]:
        if not self._iterated:
            aiter(self)
        return self._intake.get(self)

    def when_ended(self, farewell: Callable[[], None]) -> None:
        """Call ``farewell`` once the stream takes nothing more in: it was closed, or collected, or has overflowed."""
        self._router.when_removed(self._intake, farewell)

    def batches(self) -> AsyncIterator[list[T]]:
        """Iterate over lists of all that waits: one wake-up for many messages.

        Ends and raises as the stream's own iteration does; each list holds at least one message.

        Example::

            async for trades in stream.batches():
                database.insert(trades)
        """
        return _Batches(self, self._intake)

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
        name = self._intake.describe()
        return Resynced(self._home, self, self._router.gaps, self._flow, name, snapshot, sequence, snapshot_sequence)

    def _attach(
        self, on_next: Any, on_error: Any, on_completed: Any, scheduler: abc.SchedulerBase | None
    ) -> abc.DisposableBase:
        intake = self._intake
        is_first = intake.keeps and not self._iterated
        fan_out = intake.fan_out
        if fan_out is None:
            fan_out = intake.fan_out = _FanOut(self._home)
            if intake.closed and not is_first:
                fan_out.end(intake.error)
        subscription = fan_out._attach(on_next, on_error, on_completed, scheduler)
        if fan_out.observed:
            fan_out.stream = self
        if is_first:
            intake.keeps = False
            # Not before all that is being subscribed here is: what an operator does not want, it can refuse then.
            self._home.scheduler.schedule(lambda *_: intake.hand_over(subscription))
        return subscription

    def __repr__(self) -> str:
        end = " closed" if self._intake.closed else ""
        numbers = f"{self.matched} matched, {self.pending} pending, {self.dropped} dropped"
        return f"<{self._intake.describe()}{end}: {numbers}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Show the stream in a notebook's cell: numbers, rate since the last look, the last few messages that wait."""
        facts = {
            "feed": self._home.reporter.name,
            "state": "closed" if self._intake.closed else "open",
            "rate": self._pace.look(self.matched, self._home.loop.time()),
            "matched": self.matched,
            "pending": self.pending,
            "dropped": self.dropped,
        }
        return mimebundle(repr(self), facts, self._intake.latest(RECENT))

    def _take(self, count: int | None) -> list[T]:
        return self._intake.take(count)

    def _put_back(self, items: list[T]) -> None:
        self._intake.put_back(items)

    def __del__(self) -> None:
        # Absent when the constructor raised.
        intake = getattr(self, "_intake", None)
        if intake is None or intake.closed:
            return
        # The collector runs in whichever thread happens to allocate.
        self._home.call(self._router.remove, intake)


class _Batches(AsyncIterator[list[T]]):
    """``stream.batches()``; it refers to the stream, which lives as long as it is iterated over."""

    __slots__ = ("_intake", "_stream")

    def __init__(self, stream: Stream[T], intake: Intake[T]) -> None:
        aiter(stream)
        self._stream = stream
        self._intake = intake

    async def __anext__(self) -> list[T]:
        return await self._intake.get_batch()
