"""LatestTable: the newest message of each key."""

from __future__ import annotations

import asyncio
import importlib
import math
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, Generic, Self, TypeVar

import msgspec

from ..checks import check_count, check_seconds
from ..display.snapshot import RECENT, mimebundle
from ..errors import FeedClosed
from ..messages.fields import Field, field_reader
from ..messages.filters import Filter, Filters
from ..observables.hot import HotObservable
from ..observables.observable import AsyncObservable
from ..reporting.cancellation import FAILURES
from ..reporting.events import Gap, Overflowed
from .sequence import Snapshot

__all__ = ["LatestTable"]

T = TypeVar("T")


class LatestTable(Mapping[Hashable, T], Generic[T]):
    """A live Mapping from each key to the newest message that has it.

    ``stream.latest(key)`` makes one. It takes the messages of any AsyncObservable, such as typed messages:
    ``rxws.LatestTable(ws.messages.pipe(rxops.as_type(Quote)), "symbol")``. ``Gap`` and ``Snapshot`` objects among them
    are left out. The table is in the order of the messages, the newest last. Its subscription lasts until
    :meth:`dispose`, the end of an ``async with``, or the end of the source; the table then takes no more messages.

    Args:
        source: the messages.
        key: a key, a path, or a function of the message.
        max_keys: the number of keys that the table has at most. A further key drops the one that has been without a
            message for longest; dropped keys are counted in ``dropped``, and an ``Overflowed`` event reports the first
            one. By default None: no limit.
        expire: the seconds without a message after which the loop removes a key. By default None: never.

    Attributes:
        changes: the Observable of the pairs of a key and its new message.
        dropped: number of keys that were dropped because of ``max_keys``.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: ``max_keys`` is less than 1, ``expire`` is not positive and finite, or ``key`` is an empty path.
        RuntimeError: outside the loop's thread.

    Example::

        async with ws.stream_filter([{"e": "bookTicker"}]).latest("s") as quotes:
            print(await quotes.wait_for("BTCUSDT", timeout=5))
            print(quotes["BTCUSDT"]["b"], len(quotes), quotes.find([{"b": rxws.between(100, None)}]))
    """

    def __init__(
        self, source: AsyncObservable[Any], key: Field, *, max_keys: int | None = None, expire: float | None = None
    ) -> None:
        if max_keys is not None:
            check_count("max_keys", max_keys)
        if expire is not None:
            check_seconds("expire", expire, zero=False)
        context = self._context = source._context
        self._key_of = field_reader(key, "key")
        self._max_keys: Final = max_keys or math.inf
        self._expire: Final = expire
        # The newest message of each key and its time, the newest last. A dict would need time to find its first key
        # behind the removed ones.
        self._rows: OrderedDict[Hashable, tuple[T, float]] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._has_failed = False
        self.dropped = 0
        self.changes: HotObservable[tuple[Hashable, T]] = HotObservable(context)
        self._subscription = source.subscribe(self._take, self.changes.end, self.changes.end)

    def _take(self, message: Any) -> None:
        if isinstance(message, Gap | Snapshot):
            return
        reporter = self._context.reporter
        try:
            key = self._key_of(message)
            self._rows[key] = message, 0.0 if self._expire is None else self._context.loop.time()
        except FAILURES as error:
            # A wrong key fails for every message, so report only the first one.
            if self._has_failed:
                reporter.counters.failures += 1
            else:
                reporter.failed("key of latest", message, error)
            self._has_failed = True
            return
        self._rows.move_to_end(key)
        if len(self._rows) > self._max_keys:
            self._rows.popitem(last=False)
            self.dropped += 1
            reporter.counters.dropped += 1
            if self.dropped == 1:
                reporter.emit(Overflowed, consumer="latest", overflow="drop_oldest", dropped=1)
        if self._expire is not None and self._timer is None:
            self._expire_later(self._expire)
        self.changes.on_next((key, message))

    def _expire_later(self, seconds: float) -> None:
        # A timer, and not each read, removes expired keys: no key disappears while the caller iterates over the table.
        due = self._rows[next(iter(self._rows))][1] + seconds
        # The reference is weak, because the timer of a table that is no longer used would keep its messages.
        self._timer = self._context.loop.call_at(due, _remove_expired, weakref.ref(self), seconds, due)

    def __getitem__(self, key: Hashable) -> T:
        return self._rows[key][0]

    def __iter__(self) -> Iterator[Hashable]:
        # A copy, because messages may arrive while the caller's loop waits.
        return iter([*self._rows])

    def __len__(self) -> int:
        return len(self._rows)

    def find(self, filters: Filters) -> list[T]:
        """Return the messages that pass a filter, as in ``stream_filter``.

        Raises:
            TypeError: the filter is neither a list of dicts nor a plain function.
        """
        return [*filter(Filter.parse(filters), self.values())]

    async def wait_for(self, key: Hashable, timeout: float | None = None) -> T:
        """Return the message of a key, and wait for it if there is none yet. Cancelling is safe.

        Args:
            key: the key.
            timeout: the seconds to wait at most; None (the default) sets no limit.

        Raises:
            TimeoutError: no message with the key arrived in time.
            FeedClosed: the source has ended. If it failed, its error is raised.
        """
        if timeout is not None:
            check_seconds("timeout", timeout, zero=True)
        self._context.check()
        if key in self:
            return self[key]
        arrival: asyncio.Future[T] = self._context.loop.create_future()

        def take(change: tuple[Hashable, T]) -> None:
            if change[0] == key and not arrival.done():
                arrival.set_result(change[1])

        def end(error: Exception | None = None) -> None:
            if not arrival.done():
                arrival.set_exception(error or FeedClosed(f"the messages ended before one had the key {key!r}"))

        subscription = self.changes.subscribe(take, end, end)
        try:
            async with asyncio.timeout(timeout) as limit:
                return await arrival
        except TimeoutError:
            if not limit.expired():
                raise
            raise TimeoutError(f"no message had the key {key!r} within {timeout:g} s") from None
        finally:
            subscription.dispose()

    def to_pandas(self) -> Any:
        """Return the table as a ``pandas.DataFrame``, with the keys as its index.

        Raises:
            ImportError: pandas is not installed.
        """
        messages = [*self.values()]
        rows = [msgspec.structs.asdict(each) if isinstance(each, msgspec.Struct) else each for each in messages]
        return importlib.import_module("pandas").DataFrame(rows, index=[*self])

    def dispose(self) -> None:
        """Take no more messages. Idempotent. May be called in any thread."""
        self._subscription.dispose()
        self._context.call(self.changes.end)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.dispose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._context.reporter.name}: {len(self)} keys>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Show the table in a notebook: the number of keys, and the newest messages."""
        newest = [message for message, _ in islice(reversed(self._rows.values()), RECENT)]
        return mimebundle(repr(self), {"keys": len(self), "dropped": self.dropped}, newest)


def _remove_expired(reference: weakref.ref[LatestTable[Any]], seconds: float, due: float) -> None:
    table = reference()
    if table is None:
        return
    rows, table._timer = table._rows, None
    # A loop may call a timer earlier by its clock's resolution.
    now = max(due, table._context.loop.time())
    while rows and rows[next(iter(rows))][1] + seconds <= now:
        rows.popitem(last=False)
    if rows:
        table._expire_later(seconds)
