"""Stream: the messages that pass a filter, kept until a consumer takes them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Generic, Protocol, Self, TypeVar, overload

from reactivex import abc

from ..display.snapshot import RECENT, RateMeter, mimebundle
from ..errors import RxwsError
from ..messages.fields import Field
from ..messages.filters import Filter
from ..messages.router import Router
from ..observables.hot import HotObservable
from ..observables.observable import BufferIterator, Scheduler
from .availability import ALWAYS_AVAILABLE, Availability
from .batches import Batches
from .derived import DerivedObservables
from .resync import Resynced
from .resync_session import ChangeSource
from .stream_options import StreamOptions
from .stream_receiver import StreamReceiver

__all__ = ["Stream"]

T = TypeVar("T")
S = TypeVar("S")


class _Renewable(Protocol):
    """The membership of a stream in a channel."""

    def renew(self) -> None:
        """Unsubscribe the channel and subscribe it again."""

    async def wait_subscribed(self) -> None:
        """Wait until the channel is subscribed."""


class Stream(DerivedObservables[T], BufferIterator[T], Generic[T]):
    """An Observable with a buffer: the messages that pass a filter, from the call of ``stream_filter`` on.

    The first consumer, ``async for`` or ``subscribe``, gets the waiting messages; ``pipe`` alone consumes nothing.
    After ``subscribe`` a stream keeps no messages. A stream is its own iterator: the second of two concurrent calls of
    ``anext`` raises RuntimeError, and a cancelled ``anext`` loses no message. After ``close()`` and after the feed's
    ``exit()`` the iteration delivers the waiting messages and ends. It raises the feed's fatal error, or
    :exc:`~rxws.StreamOverflow`.

    A subscription keeps its stream alive until it is disposed. A stream without subscriber, iterator and reference is
    garbage collected, and unregisters itself within one iteration of the loop.

    Example::

        async with ws.stream_filter([{"e": "trade"}]) as trades:
            async for trade in trades:
                ...
    """

    # Class attributes, because only streams of ``multiplex`` have others.
    # The membership of a stream of ``multiplex`` in its channel; None for other streams.
    member: _Renewable | None = None
    #: Whether the channel was subscribed before the stream was made, so that the stream misses the snapshot.
    is_late = False

    def __init__(
        self, router: Router, filters: Filter, options: StreamOptions, availability: Availability = ALWAYS_AVAILABLE
    ) -> None:
        super().__init__(router.context)
        self._buffer = self._receiver = StreamReceiver(router, filters, options)
        self._iterated = False
        self._rate: Final = RateMeter(self._context.loop.time())
        self._availability = availability
        router.add(self._receiver, filters)

    @property
    def pending(self) -> int:
        """Number of messages that wait for a consumer."""
        return len(self._receiver)

    @property
    def dropped(self) -> int:
        """Number of messages that were dropped because the stream was full."""
        return self._receiver.dropped

    @property
    def matched(self) -> int:
        """Number of messages that passed the filter."""
        return self._receiver.matched

    @property
    def waiting(self) -> float | None:
        """Seconds since the message that has waited longest was sent, computed now.

        None if no message waits, if none of the first messages has a time, and without the option ``sent_at``.
        """
        meter = self._receiver.router.latency
        return None if meter is None else meter.age(self._receiver.oldest(RECENT))

    @property
    def is_unmatched(self) -> bool:
        """Whether the stream is open and no message has passed its filter yet."""
        return not (self._receiver.closed or self._receiver.matched)

    def hold_back(self) -> Callable[[], None]:
        """Discard messages until the returned function is called. If any were discarded, a ``Gap`` follows them."""
        return self._receiver.hold_back()

    @property
    def receiver(self) -> StreamReceiver[T]:
        """The part of the stream that takes messages. It does not keep the stream alive."""
        return self._receiver

    def clear(self) -> None:
        """Discard the waiting messages.

        Raises:
            RuntimeError: outside the loop's thread.
        """
        self._context.check()
        self._receiver.clear()

    async def close(self) -> None:
        """Take no more messages. The waiting messages are still delivered, then the sequence ends.

        Idempotent. It never waits for the consumer, so cancelling is safe.
        """
        self.close_nowait()

    aclose = close

    def close_nowait(self) -> None:
        """Do what :meth:`close` does, in code that cannot await.

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

    async def resubscribe(self) -> None:
        """Unsubscribe the channel of this stream and subscribe it again, for all streams that want it.

        It returns when the server has accepted the subscription; without ``acknowledged``, when it is sent. In a
        rotation, and with several lines, that is done on each connection. If the connection is lost meanwhile, the next
        connection subscribes the channel. The server's messages between the two subscriptions are missing: with
        ``gaps=True`` the streams get a ``Gap`` whose reason is ``"user"``. Cancelling stops only the wait.

        Raises:
            TypeError: this is not a stream of ``multiplex``.
            TimeoutError: the server has not answered, or the subscription took longer than ``send_timeout`` and two
                ``timeout`` of ``multiplex``. The channel is still subscribed as soon as possible.
            RxwsError: the server has refused the subscription, the stream or the feed is closed, or the feed is a
                replay.
            RuntimeError: outside the loop's thread.

        Example::

            book = ws.multiplex("+book", "-book", filters=[{"topic": "book"}])
            await book.resubscribe()
        """
        self._subscribe_again()
        assert self.member is not None
        await self.member.wait_subscribed()

    def _subscribe_again(self) -> None:
        self._context.check()
        name = self._receiver.describe()
        if self._receiver.closed:
            raise RxwsError(f"{name} cannot be subscribed again: it is closed")
        if self.member is None:
            raise TypeError(f"{name} cannot be subscribed again: only a stream of multiplex can")
        self.member.renew()

    def when_ended(self, on_removed: Callable[[], None]) -> None:
        """Call ``on_removed`` when the stream takes no more messages: closed, garbage-collected or overflowed."""
        self._receiver.router.when_removed(self._receiver, on_removed)

    def batches(self, count: int | None = None, seconds: float | None = None) -> AsyncIterator[list[T]]:
        """Iterate over lists of messages, for example to store many in one transaction.

        Without arguments each list contains all messages that wait. A list is never empty. Messages wait in the stream
        until their list is complete, so cancelling loses none, and ``maxsize`` limits them. The iteration ends and
        raises like the iteration of the stream. At the end of the stream the last list is delivered without waiting.

        Args:
            count: the number of messages that a list has at most. By default None: no limit. Without ``seconds`` a list
                does not wait to grow.
            seconds: how long a message waits at most for its list to reach ``count`` messages, including the time that
                the consumer needs for the previous list. By default None: a list is delivered as soon as a message
                waits.

        Raises:
            TypeError: ``count`` is not an int or None, or ``seconds`` is not a number or None.
            ValueError: ``count`` is less than 1, or ``seconds`` is not positive and finite.

        Example::

            async for trades in stream.batches(count=5000, seconds=1.0):
                database.insert(trades)
        """
        batches = Batches(self._receiver, self, count, seconds)
        aiter(self)
        return batches

    @overload
    def resync(
        self, snapshot: Callable[[], Awaitable[S]], *, sequence: Field | list[Field], snapshot_sequence: Field
    ) -> Resynced[T, S]: ...

    @overload
    def resync(
        self, snapshot: Sequence[Mapping[Any, Any]], *, sequence: Field | list[Field] | None
    ) -> Resynced[T, T]: ...

    def resync(
        self,
        snapshot: Callable[[], Awaitable[Any]] | Sequence[Mapping[Any, Any]],
        *,
        sequence: Field | list[Field] | None,
        snapshot_sequence: Field | None = None,
    ) -> Resynced[T, Any]:
        """Return an Observable of the snapshots and the changes that follow them.

        Each subscriber, and each ``async for``, gets a :class:`~rxws.Snapshot`, then only the changes after it. Changes
        whose last number is not after the snapshot's are dropped. The first number of each delivered change is at most
        one more than the last number of the previous one. Another snapshot is needed and delivered after each ``Gap``
        of the stream, when numbers are missing, and when they go back because the server restarted its count. Missing
        numbers are noticed with the next change. Until the snapshot arrives, changes are held, at most 100,000, and
        ``in_sync`` of the returned Observable is False. ``in_sync`` is also False, and no snapshot is requested, while
        the feed has no connection, and while the server has not accepted the subscription of a ``multiplex`` stream.

        If ``snapshot`` is a function, each subscriber fetches its own snapshots. If one is older than held or delivered
        changes, another one is fetched; the second in a row and each further one are reported.

        If ``snapshot`` is a filter, the server sends a snapshot in the feed after each subscription. At the start and
        after a lost connection, the stream waits for that snapshot. To get another one, the channel is subscribed
        again, which needs a stream of ``multiplex``; the snapshot is for all subscribers. In a planned rotation the
        changes continue, and the snapshot of the new connection is discarded.

        An attempt that fails or takes longer than 10 s is reported and repeated. The delays between attempts grow. They
        start over after a ``Gap`` and after 10 s in sync. A message whose numbers cannot be read may be a change, so
        another snapshot is needed. Only the first of several such messages in a row is reported. Disposing of the
        subscription, or leaving the ``async for``, cancels the attempt. The sequence ends with the stream.

        Args:
            snapshot: a coroutine function that fetches a snapshot; or a list of dicts, as in ``stream_filter``, that
                the snapshots pass, and no change, if the server sends them in the feed.
            sequence: the keys, or paths, of the first and the last number of a change, ``("U", "u")``; the key of one
                number; or a function of a change that returns a number, or both. Each is an int, or an int as a str. A
                snapshot in the feed has its last number in the same place. None, with a filter only: the changes have
                no numbers, so only a ``Gap`` and ``restart(reason)`` of the returned Observable say that some are
                missing.
            snapshot_sequence: the key, or path, of the last number in a fetched snapshot, ``"lastUpdateId"``; or a
                function of a snapshot that returns it. Required with a function, not allowed with a filter.

        Raises:
            TypeError: an argument has the wrong type, is missing, or is not allowed with this ``snapshot``.
            ValueError: the filter ``snapshot`` passes all messages of the stream.

        Example::

            changes = ws.stream_filter([{"e": "depthUpdate", "s": "BTCUSDT"}])
            async for item in changes.resync(fetch, sequence=("U", "u"), snapshot_sequence="lastUpdateId"):
                book.apply(item)

        Example with snapshots in the feed::

            changes = ws.multiplex({"op": "subscribe", "args": ["book.BTC"]}, ..., filters=[{"topic": "book.BTC"}])
            async for item in changes.resync([{"type": "snapshot"}], sequence="u"):
                book.apply(item)
        """
        receiver, filters = self._receiver, self._receiver.filters
        parsed = snapshot if callable(snapshot) else Filter.parse(snapshot, "snapshot")
        if isinstance(parsed, Filter) and (parsed.passes_everything or parsed == filters):
            raise ValueError(f"snapshot must be a filter that only snapshots pass, not {snapshot!r}")
        self._use_remedy("resync")
        source = ChangeSource(
            self,
            receiver.all_gaps(),
            self._availability,
            receiver.describe(),
            lambda: receiver.keeps and not self.is_late,
            self._subscribe_again,
        )
        resynced: Resynced[T, Any] = Resynced(self._context, source, parsed, sequence, snapshot_sequence)
        if isinstance(parsed, Filter):
            receiver.router.expect_snapshots(receiver, filters, parsed)
        return resynced

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
            # The subscription keeps the stream alive.
            fan_out.subscriptions[subscription] = self
        if is_first:
            receiver.keeps = False
            # Run this after the running subscribe calls, so that an operator can dispose of its subscription before it
            # gets messages.
            self._context.scheduler.schedule(lambda *_: receiver.hand_over(subscription))
        return subscription

    def __repr__(self) -> str:
        end = " closed" if self._receiver.closed else ""
        numbers = f"{self.matched} matched, {self.pending} pending, {self.dropped} dropped"
        return f"<{self._receiver.describe()}{end}: {numbers}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Show the stream in a notebook: its numbers, the rate since the last display, the newest waiting messages."""
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
        # The attribute is absent if the constructor raised.
        receiver: StreamReceiver[T] | None = getattr(self, "_receiver", None)
        if receiver is not None and not receiver.closed:
            receiver.abandon()
            self._context.call_from_finalizer(self._receiver.router.remove, receiver)
