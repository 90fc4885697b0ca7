"""What a stream's messages can be made into: a whole sequence with the help of a history, and a table."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from ..messages.fields import Field, field_reader, range_reader
from ..observables.observable import AsyncObservable
from .availability import Availability
from .backfill import Backfilled, Filling, Numbering
from .history import History
from .latest import LatestTable
from .session import Source
from .stream_receiver import StreamReceiver

__all__ = ["DerivedObservables"]

T = TypeVar("T")


class DerivedObservables(AsyncObservable[T], Generic[T]):
    """The methods of :class:`~rxws.Stream` that return another form of its messages."""

    _receiver: StreamReceiver[T]
    _availability: Availability
    # The method that supplies what a Gap has lost, backfill or resync.
    _remedy: str | None = None

    def backfill(
        self,
        history: History,
        *,
        sequence: Field | list[Field],
        key: Field | None = None,
        contiguous: bool = True,
        timeout: float = 30.0,
        concurrency: int = 4,
    ) -> Backfilled[T]:
        """Return an Observable of all messages, with those that the feed has missed, which a history supplies.

        Each subscriber, and each ``async for``, gets every message once and in the order of the numbers of its key.
        After each ``Gap`` of the stream, and when numbers are missing, the live messages of that key are held, and
        ``history`` is asked for the messages in between. The messages of the history come first, then the held ones.
        While the history raises, or does not reach the held messages, it is asked again after growing delays, until
        ``timeout``. If messages are still missing then, a ``Gap`` with the reason ``"history"`` takes their place, and
        ``ws.events`` gets a ``CallbackFailed`` that names the stream and the history. Only the messages of that key
        wait, and for at most ``timeout`` per hole.

        The history of a key is requested when its next message arrives, or one second after the ``Gap``. Before the
        first message of a key, the history is asked with ``after=None``: for a warm start, or for the messages since
        the last number that an earlier run of the program has stored. It returns ``[]`` if there are none.

        Held messages are limited to 100,000, and to about 64 MiB; older ones are fetched with the hole. A live message
        whose number is not greater than the last one is dropped if it is a copy of one of the last 10,000 delivered
        messages. Otherwise the server has restarted its count: a ``Gap`` is delivered, and the new count is followed. A
        message without a number is delivered when it arrives, and reported. At the end of the stream, held messages are
        delivered, with a ``Gap`` if some are missing. Disposing of the subscription cancels the requests.

        Args:
            history: ``history(after, before)``, or with ``key`` ``history(key, after, before)``: a coroutine function
                that returns a list of messages, or a function that returns an async iterator of such lists. They are in
                the form and the order of the live ones, with numbers greater than ``after`` and less than ``before``.
                With ``before=None`` they go up to now. Messages with other numbers, of other keys, or that do not pass
                the stream's filter, are ignored, and so are repeated ones. A page may take 10 s, and at most half of
                ``timeout``.
            sequence: the number of a message, as a key or a path; a list of two of these, for the first and the last
                number of a message; or a function of the message that returns a number or the pair. Each is an int, or
                an int as a str.
            key: a key, a path, or a function of the message: each of its values has its own numbers. None (the default)
                for one sequence of all messages.
            contiguous: whether the numbers grow by one, so that each missing one shows. False: they only grow, as times
                do. Then only a ``Gap`` makes a request, both ``after`` and ``before`` belong to the history, which
                proves that nothing is missing by containing the messages at both ends, and messages with equal numbers
                are distinguished by the feed's ``identity``, or by whether they are equal.
            timeout: seconds for which messages wait at most for one hole.
            concurrency: the number of keys for which a page of the history is fetched at the same time.

        Raises:
            TypeError: an argument has the wrong type, or ``resync`` was called on this stream.
            ValueError: ``timeout`` is not positive and finite, ``concurrency`` is less than 1, or a path is empty.
            RuntimeError: outside the loop's thread.

        Example::

            async def history(symbol, after, before):
                return [] if after is None else await client.trades(symbol, from_id=after + 1, to_id=before)

            trades = ws.stream_filter([{"e": "trade"}])
            async for trade in trades.backfill(history, sequence="n", key="s"):
                ...
        """
        self._context.check()
        self._use_remedy("backfill")
        receiver, key_of = self._receiver, None if key is None else field_reader(key, "key")
        numbering = Numbering(receiver.filters, range_reader(sequence, "sequence"), key_of, receiver.router.identity)
        source: Source[Any] = Source(self, receiver.all_gaps(), self._availability, receiver.describe())
        return Backfilled(self._context, source, numbering, Filling(history, contiguous, timeout, concurrency))

    def latest(self, key: Field, *, max_keys: int | None = None, expire: float | None = None) -> LatestTable[T]:
        """Return a live Mapping from each key to the newest message that has it; see :class:`~rxws.LatestTable`.

        Args:
            key: a key, a path, or a function of the message.
            max_keys: the number of keys that the table has at most. By default None: no limit.
            expire: the seconds without a message after which a key is removed. By default None: never.

        Raises:
            TypeError, ValueError, RuntimeError: as :class:`~rxws.LatestTable`.

        Example::

            quotes = ws.stream_filter([{"e": "bookTicker"}]).latest("s")
        """
        return LatestTable(self, key, max_keys=max_keys, expire=expire)

    def _use_remedy(self, remedy: str) -> None:
        if self._remedy not in (None, remedy):
            raise TypeError(f"{self._remedy} was called on this stream, so {remedy} needs another stream")
        self._remedy = remedy
