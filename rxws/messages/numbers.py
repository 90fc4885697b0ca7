"""Compares the numbers of delivered messages, and reports a gap where numbers are missing."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from ..options import Options
from ..reporting.cancellation import FAILURES
from ..reporting.reporter import Reporter
from .fields import field_reader, range_reader

__all__ = ["Counted", "Loss", "Name", "Numbers"]

#: The largest number with which a sequence may begin, so that no earlier message is missing.
FIRST: Final = 1


class Name(NamedTuple):
    """A sequence of numbers: those of one key in one channel."""

    channel: Hashable
    key: Hashable


class Counted(NamedTuple):
    """The first and the last number of a message, and the sequence to which they belong."""

    name: Name
    first: int
    last: int


class _Newest(NamedTuple):
    """The last number of a sequence, the time of its message, and the number of gaps that were reported by then."""

    number: int
    time: float
    gaps: int


@dataclass(eq=False, slots=True)
class Loss:
    """A lost connection, for which it is not known yet whether messages are missing.

    Attributes:
        announce: called once, before the first message after a gap, with the latest time at which the gap may begin, in
            seconds since the epoch.
        channels: the channels that the lost connection had.
        pending: the sequences of these channels that had no number since the loss.
        overdue: those of them that had no number since an earlier loss either, so that they may miss older messages.
        is_broken: whether messages may be missing.
        is_announced: whether a gap was announced for it.
        is_proven: whether it is proven in any channel that no message is missing.
        on_resumed: called once, when no message is missing; None while no connection delivers.
        on_broken: called once, after the announcement of a gap.
    """

    announce: Callable[[float], object]
    channels: set[Hashable]
    pending: set[Name] = field(default_factory=set)
    overdue: set[Name] = field(default_factory=set)
    is_broken: bool = False
    is_announced: bool = field(default=False, init=False)
    is_proven: bool = False
    on_resumed: Callable[[], object] | None = None
    on_broken: Callable[[], object] = lambda: None

    def broken(self, start: float) -> None:
        """Announce a gap, unless one was announced for this loss."""
        self.is_broken = True
        if not self.is_announced:
            self.is_announced = True
            self.announce(start)
            self.on_broken()

    def conclude(self) -> None:
        """Report once that no message is missing, if that is proven and a connection delivers."""
        if self.is_proven and not self.is_broken and self.on_resumed is not None:
            self.on_resumed()
            self.on_resumed = None


class _NoNumber(Exception):
    """A function for ``sequence`` returned None: the message has no number."""


def _absent_where_none(sequence: Any) -> Any:
    if not callable(sequence):
        return sequence

    def read(message: Any) -> Any:
        found = sequence(message)
        if found is None:
            raise _NoNumber
        return found

    return functools.wraps(sequence)(read) if hasattr(sequence, "__name__") else read


class Numbers:
    """The last number of each sequence in the delivered messages.

    Args:
        options: ``sequence`` and ``key``.
        reporter: reports a function that raises, and counts gaps.
        channel_of: returns the channel of a message, or None if it has none.
        counts: returns whether a message may have a number; a message that is per connection may not.
        announce: called with the start and the end of a gap on a live connection, in seconds since the epoch.

    Attributes:
        loss: the last loss after which a connection delivers; None: there was none.

    Raises:
        TypeError: ``sequence`` or ``key`` has the wrong type.
        ValueError: a path is empty.
    """

    def __init__(
        self,
        options: Options,
        reporter: Reporter,
        channel_of: Callable[[Any], Hashable],
        counts: Callable[[Any], bool],
        announce: Callable[[float, float], object],
    ) -> None:
        self.loss: Loss | None = None
        self._range_of: Final = range_reader(_absent_where_none(options.sequence), "sequence")
        self._key_of: Final = (lambda _message: None) if options.key is None else field_reader(options.key, "key")
        self._absent: Final = _NoNumber if callable(options.sequence) else KeyError
        self._reporter = reporter
        self._counters = reporter.counters
        self._channel_of = channel_of
        self._counts = counts
        self._announce = announce
        self._loop = asyncio.get_running_loop()
        # The time of this iteration of the loop, if a message was delivered in it.
        self._now: float | None = None
        self._newest: dict[Name, _Newest] = {}

    @property
    def names(self) -> set[Name]:
        """The sequences of which a number was delivered."""
        return {*self._newest}

    def lose(self, announce: Callable[[float], object], channels: set[Hashable]) -> Loss:
        """Return the loss of a connection with these channels."""
        pending = {name for name in self._newest if name.channel in channels}
        last = self.loss
        overdue = set[Name]() if last is None or last.is_announced else pending & last.pending
        return Loss(announce, channels, pending, overdue)

    def last(self, name: Name) -> int | None:
        """Return the last number of a sequence; None if it had none."""
        newest = self._newest.get(name)
        return None if newest is None else newest.number

    def forget(self, channel: Hashable) -> None:
        """Forget the numbers of a channel that is unsubscribed, because the messages until its next one are missing."""
        for name in [name for name in self._newest if name.channel == channel]:
            del self._newest[name]
        if self.loss is not None:
            self.loss.channels.discard(channel)

    def read(self, channel: Hashable, message: Any) -> Counted | None:
        """Return the numbers of a message; None if it has none."""
        try:
            if not self._counts(message):
                return None
            first, last = self._range_of(message)
            name = Name(channel, self._key_of(message))
            # The key must be hashable, because each sequence is found by it.
            hash(name)
            return Counted(name, first, last)
        except self._absent:
            # A message without the field has no number. A function that fails is reported.
            return None
        except FAILURES as error:
            self._reporter.failed("sequence or key", message, error)
            return None

    def compare(self, message: Any, channel: Hashable = None) -> None:
        """Compare the number of a message that is delivered next. Report a gap if earlier messages are missing.

        Args:
            message: the message.
            channel: its channel, if the server has named it.
        """
        counted = self.read(self._channel_of(message) if channel is None else channel, message)
        if counted is not None:
            self._compare(counted)

    def _compare(self, counted: Counted) -> None:
        (name, first, last), loss = counted, self.loss
        newest, is_pending = self._newest.get(name), loss is not None and name in loss.pending
        if self._now is None:
            # Call the clock once per iteration of the loop.
            self._now = self._reporter.now()
            self._loop.call_soon(self._end_iteration)
        # A gap accounts for all numbers that are missing before it. But for those that are missing because of a loss,
        # only the gap of that loss does: another one begins later.
        is_accounted = loss.is_announced if loss is not None and is_pending else self._has_gap_since(newest)
        is_known = newest is not None and not is_accounted
        if newest is not None and is_known:
            if last <= newest.number and not is_pending:
                # The server repeats a message on the same connection.
                return
            # After a loss, a number that is not greater shows that the server has restarted its count.
            is_missing = first > newest.number + 1 or last <= newest.number
        else:
            # A sequence may continue with any number after a gap, and begin with any number unless a loss preceded.
            is_missing = newest is None and loss is not None and self._may_miss_first(name, first, loss)
        if loss is not None and (is_pending or newest is None):
            loss.pending.discard(name)
            if is_missing:
                loss.broken(newest.time if newest is not None and name in loss.overdue else self._now)
            elif is_known:
                loss.is_proven = True
                loss.conclude()
        elif is_missing and newest is not None:
            self._announce(newest.time, self._now)
        self._newest[name] = _Newest(last, self._now, self._counters.gaps)

    def _may_miss_first(self, name: Name, first: int, loss: Loss) -> bool:
        """Return whether messages before the first one of a sequence may be missing because of a loss."""
        return first > FIRST and name.channel in loss.channels and not loss.is_announced

    def _has_gap_since(self, newest: _Newest | None) -> bool:
        return newest is not None and newest.gaps != self._counters.gaps

    def _end_iteration(self) -> None:
        self._now = None
