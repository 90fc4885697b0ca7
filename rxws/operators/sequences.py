"""detect_gaps: finds gaps in sequence numbers."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeVar

from reactivex import Observable, abc

from ..messages import Field, range_reader
from ..reporting import FAILURES
from .reading import key_reader
from .sources import Reports

__all__ = ["SequenceGap", "detect_gaps"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SequenceGap:
    """A gap in the sequence numbers. It is emitted directly before the message whose number shows it.

    Attributes:
        expected: the expected number.
        received: the number of the message, or the first of its range. It is greater if numbers are missing, and less
            if the count starts over.
        key: the key of the message, or None.
    """

    expected: int
    received: int
    key: Hashable

    @property
    def missing(self) -> int | None:
        """The number of missing messages, or None if the count starts over, because then it is unknown."""
        return self.received - self.expected if self.received > self.expected else None


def detect_gaps(
    sequence: Field | list[Field], key: Field | None = None, *, reordering: int = 1_000
) -> Callable[[Observable[T]], Observable[T | SequenceGap]]:
    """Pass all messages on, and emit a :class:`SequenceGap` before each message that shows a gap in the numbers.

    Each key has its own count, which starts with the number of its first message. Each later number should be one more
    than the greatest number so far. A greater number shows a gap. A smaller number belongs to a repeated or a late
    message, which is passed on without other effect. (The gap of a late message was already reported. ``ops.distinct``
    drops repetitions.) A number that is smaller by more than ``reordering`` means that the server has restarted its
    count: a ``SequenceGap`` reports this, and the next numbers are compared with the new count. If the server restarts
    before it has counted to ``reordering``, its messages count as repetitions until the numbers exceed the old ones.

    A message may have a range of numbers, as changes of an order book have. Its first number should be at most one more
    than the greatest number so far; its last number then becomes the greatest.

    No message is left out. A message without a number or a key is passed on unchecked, and reported as
    :class:`~rxws.CallbackFailed`.

    Args:
        sequence: the sequence number, as a key or a path; a list of two of these, ``["U", "u"]``, for the first and the
            last number of a message; or a function of the message that returns a number or the pair. Each number is an
            int, or an int as a str.
        key: a key, a path, or a function of the message: each of its values has its own count. None (the default) for
            one count of all messages.
        reordering: by how many numbers a message may be late; 1,000 by default.

    Raises:
        TypeError: ``sequence`` or ``key`` is a coroutine function or cannot be hashed, ``sequence`` is a list that does
            not have two items, or ``reordering`` is not an int.
        ValueError: ``sequence`` or ``key`` is an empty path, or ``reordering`` is negative.

    Example::

        >>> import reactivex as rx
        >>> from rxws import operators as rxops
        >>> _ = rx.of({"u": 7}, {"u": 8}, {"u": 11}).pipe(rxops.detect_gaps("u")).subscribe(print)
        {'u': 7}
        {'u': 8}
        SequenceGap(expected=9, received=11, key=None)
        {'u': 11}

    On a feed::

        async for item in ws.stream_filter([{"e": "depth"}]).pipe(rxops.detect_gaps("u", key="s")):
            if isinstance(item, rxops.SequenceGap):
                await fetch_again(item.key)
    """
    read_range, read_key = range_reader(sequence, "sequence"), key_reader(key)
    if isinstance(reordering, bool) or not isinstance(reordering, int):
        raise TypeError(f"reordering must be an int, not {reordering!r}")
    if reordering < 0:
        raise ValueError(f"reordering must not be negative, but is {reordering}")

    def operator(source: Observable[T]) -> Observable[T | SequenceGap]:
        reports = Reports(source, "detect_gaps")

        def subscribe(
            observer: abc.ObserverBase[T | SequenceGap], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            next_numbers: dict[Hashable, int] = {}

            def on_next(message: T) -> None:
                try:
                    counted, (first, last) = read_key(message), read_range(message)
                except FAILURES as error:
                    reports.failed(message, error)
                else:
                    expected = next_numbers.get(counted, first)
                    starts_over = last < expected - reordering
                    if last >= expected or starts_over:
                        next_numbers[counted] = last + 1
                    if first > expected or starts_over:
                        observer.on_next(SequenceGap(expected, first, counted))
                observer.on_next(message)

            return source.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)

        return Observable(subscribe)

    return operator
