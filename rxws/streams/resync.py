"""Resynced: the changes of a stream, with a snapshot at the start and after each loss."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Final, Generic, TypeVar
from weakref import WeakSet

from ..messages.fields import number_reader, range_reader
from ..messages.filters import Filter
from ..observables.buffer import Buffer
from ..observables.loop_context import LoopContext
from ..observables.observable import BufferIterator
from .resync_session import ChangeSource, FeedSession, FetchingSession, SnapshotSession
from .sequence import Snapshot, SnapshotTracker
from .session import Synchronized

__all__ = ["Resynced"]

T = TypeVar("T")
S = TypeVar("S")


class Resynced(Synchronized[T | Snapshot[S]], Generic[T, S]):
    """The result of ``stream.resync``. Each subscriber gets a snapshot and the changes after it, again after each loss.

    Attributes:
        in_sync: whether all subscribers have got all changes; False without a subscriber, while the feed has no
            connection on which the changes are subscribed, and while it holds messages at the end of a rotation.
    """

    def __init__(
        self,
        context: LoopContext,
        source: ChangeSource,
        snapshot: Filter | Callable[[], Awaitable[S]],
        sequence: object,
        snapshot_sequence: object,
    ) -> None:
        tracker_of = _tracker_of_sent if isinstance(snapshot, Filter) else _tracker_of_fetched
        make_tracker = tracker_of(sequence, snapshot_sequence)

        def make_session() -> SnapshotSession:
            if isinstance(snapshot, Filter):
                return FeedSession(context, source, make_tracker(), snapshot)
            return FetchingSession(context, source, make_tracker(), snapshot)

        super().__init__(context, source, make_session)
        self._sessions: Final = source.sessions
        self._buffers: Final[WeakSet[Buffer[Any]]] = WeakSet()

    def restart(self, reason: str) -> None:
        """Begin again with another snapshot, because the consumer found an error, such as a wrong checksum.

        No subscriber gets a change before its next snapshot. Each ``async for`` discards its waiting items. If a
        subscriber waits for a snapshot already, that one is used.

        Args:
            reason: the ``reason`` of the next :class:`~rxws.Snapshot`, for example ``"checksum"``.

        Raises:
            TypeError: ``reason`` is not a str.
            RuntimeError: outside the loop's thread.

        Example::

            resynced = ws.stream_filter([{"e": "depthUpdate", "s": "BTCUSDT"}]).resync(
                fetch, sequence=("U", "u"), snapshot_sequence="lastUpdateId"
            )
            async for item in resynced:
                try:
                    book.apply(item)
                except rxws.books.ChecksumMismatch:
                    resynced.restart("checksum")
        """
        if not isinstance(reason, str):
            raise TypeError(f"reason must be a str, such as 'checksum', not {reason!r}")
        self._context.check()
        for buffer in self._buffers:
            buffer.clear()
        for session in [*self._sessions]:
            session.restart(reason)

    def __aiter__(self) -> AsyncIterator[T | Snapshot[S]]:
        iteration = super().__aiter__()
        assert isinstance(iteration, BufferIterator)
        self._buffers.add(iteration._buffer)
        return iteration


def _tracker_of_fetched(sequence: Any, snapshot_sequence: Any) -> Callable[[], SnapshotTracker[Any]]:
    """Return a function that makes the tracker of changes whose snapshots are fetched."""
    if sequence is None or snapshot_sequence is None:
        raise TypeError(
            "a function for snapshot needs sequence and snapshot_sequence: the numbers show which changes follow"
        )
    # Here a tuple is a pair of keys. For other arguments it is a path.
    range_of = range_reader(sequence, "sequence", pairs=(list, tuple))
    return partial(SnapshotTracker, range_of, number_reader(snapshot_sequence, "snapshot_sequence"))


def _tracker_of_sent(sequence: Any, snapshot_sequence: Any) -> Callable[[], SnapshotTracker[Any]]:
    """Return a function that makes the tracker of changes whose snapshots arrive in the feed."""
    if snapshot_sequence is not None:
        raise TypeError("snapshot_sequence needs a function for snapshot: sequence reads a snapshot in the feed")
    if sequence is None:
        return _tracker_of_arrivals
    range_of = range_reader(sequence, "sequence", pairs=(list, tuple))
    if isinstance(sequence, tuple | list) and len(sequence) == 2:
        # A snapshot may have no first number.
        return partial(SnapshotTracker, range_of, number_reader(sequence[1], "sequence"))
    return partial(SnapshotTracker, range_of, lambda snapshot: range_of(snapshot)[1])


def _tracker_of_arrivals() -> SnapshotTracker[Any]:
    """Return a tracker that counts messages without numbers. It holds none, because no snapshot arrives later."""
    arrivals = itertools.count(1)

    def range_of(_change: Any) -> tuple[int, int]:
        number = next(arrivals)
        return number, number

    return SnapshotTracker(range_of, lambda _snapshot: next(arrivals), held_max=0)
