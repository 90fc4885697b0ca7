"""detect_gaps: holes in sequence numbers."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

from reactivex import Observable, abc

from ..reporting import FAILURES
from .reading import Field, key_reader, number_of, reader
from .sources import Reports

__all__ = ["SequenceGap", "detect_gaps"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SequenceGap:
    """The numbers do not go on where they should: stands before the message that showed it.

    Attributes:
        expected: the number that was due.
        received: the number that came: greater where numbers are missing, less where they start over.
        key: the key that these numbers count, or None.
    """

    expected: int
    received: int
    key: Hashable

    @property
    def missing(self) -> int | None:
        """How many numbers are missing, or None where they start over: then it is not known."""
        return self.received - self.expected if self.received > self.expected else None


def detect_gaps(
    sequence: Field, key: Field | None = None, *, reordering: int = 1_000
) -> Callable[[Observable[T]], Observable[T | SequenceGap]]:
    """Pass all messages on, and put a :class:`SequenceGap` before each at which sequence numbers are missing.

    Each key counts for itself, beginning with its first message's number; from then on every number is expected to be
    one more than the greatest so far. A greater one shows a hole. A lesser one is a repetition, or comes late: it is
    passed on, and changes nothing (the hole that it fills was reported when it was seen; ``ops.distinct`` drops
    repetitions). But one that is lesser by more than ``reordering`` means that the server counts anew: a
    ``SequenceGap`` says so, and from there on the count is followed. A server that starts over before it has counted
    that far is taken to repeat itself until it has caught up.

    No message is left out. One that has no number, or no key, is passed on unexamined, and reported as
    :class:`~rxws.CallbackFailed`.

    Args:
        sequence: where the number stands: a key, a path, or a function of the message. An int, or a string of one.
        key: what is counted separately: a key, a path, or a function of the message; None for one count of all.
        reordering: how many numbers a message may come too late.

    Raises:
        TypeError: a field is a coroutine function or cannot be hashed, or ``reordering`` is no int.
        ValueError: a field is an empty path, or ``reordering`` is negative.

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
    read_number, read_key = reader(sequence, "sequence"), key_reader(key)
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
                    counted, number = read_key(message), _whole(read_number(message))
                except FAILURES as error:
                    reports.failed(message, error)
                else:
                    expected = next_numbers.get(counted, number)
                    starts_over = number < expected - reordering
                    if number >= expected or starts_over:
                        next_numbers[counted] = number + 1
                    if number > expected or starts_over:
                        observer.on_next(SequenceGap(expected, number, counted))
                observer.on_next(message)

            return source.subscribe(on_next, observer.on_error, observer.on_completed, scheduler=scheduler)

        return Observable(subscribe)

    return operator


def _whole(value: Any) -> int:
    number = number_of(value)
    if isinstance(number, float):
        raise TypeError(f"{number!r} is no sequence number")
    return int(number)
