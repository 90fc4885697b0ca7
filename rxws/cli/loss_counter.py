"""Counts lost and repeated messages by their numbers. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["LossCounter"]


class LossCounter:
    """Counts holes and repetitions in the consecutive numbers of each channel.

    A hole counts as lost. The first hole after a time without a connection counts as missed instead. A number of a hole
    that arrives later counts as out of order, and no longer as lost or missed. Another number that is not greater than
    the last one counts as doubled.

    Attributes:
        received: number of received messages.
        lost: number of messages that did not arrive although there was a connection.
        doubled: number of messages that arrived again.
        disordered: number of messages that arrived after a later one of their channel.
        missed: number of messages that did not arrive while there was no connection.

    Example::

        counter = LossCounter()
        counter.take("btcusdt@trade", 7)
        counter.take("btcusdt@trade", 9)
        assert counter.lost == 1
    """

    def __init__(self) -> None:
        self.received = 0
        self.lost = 0
        self.doubled = 0
        self.missed = 0
        self.disordered = 0
        self._last: dict[str, int] = {}
        self._interrupted: set[str] = set()
        # The numbers of each channel that have not arrived, and whether they count as missed.
        self._holes: dict[str, dict[int, bool]] = {}

    def take(self, channel: str, number: int) -> None:
        """Count a message. The first message of a channel defines where its numbers begin."""
        self.received += 1
        last = self._last.get(channel, number - 1)
        if number <= last:
            self._take_late(channel, number)
            return
        if number > last + 1:
            is_missed = channel in self._interrupted
            self._holes.setdefault(channel, {}).update(dict.fromkeys(range(last + 1, number), is_missed))
            self._count_hole(number - last - 1, is_missed)
        self._interrupted.discard(channel)
        self._last[channel] = number

    def _take_late(self, channel: str, number: int) -> None:
        is_missed = self._holes.get(channel, {}).pop(number, None)
        if is_missed is None:
            self.doubled += 1
        else:
            self.disordered += 1
            self._count_hole(-1, is_missed)

    def _count_hole(self, messages: int, is_missed: bool) -> None:
        if is_missed:
            self.missed += messages
        else:
            self.lost += messages

    @property
    def faults(self) -> int:
        """The number of messages that are lost, doubled or out of order."""
        return self.lost + self.doubled + self.disordered

    @property
    def last(self) -> dict[str, int]:
        """The greatest number of each channel."""
        return dict(self._last)

    def interrupt(self) -> None:
        """Record a time without a connection: the next hole of each channel counts as missed."""
        self._interrupted = set(self._last)

    def outstanding(self, numbers: Mapping[str, int]) -> int:
        """Return the number of messages that have not arrived yet. ``numbers`` are the last sent numbers by channel."""
        return sum(max(0, numbers.get(channel, 0) - last) for channel, last in self._last.items())
