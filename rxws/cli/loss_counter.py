"""Counts lost and repeated messages by their numbers. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["LossCounter"]


class LossCounter:
    """Counts holes and repetitions in the consecutive numbers of each channel.

    A hole counts as lost. The first hole after a time without a connection counts as missed instead. A number of a hole
    that arrives later counts as out of order, and no longer as lost or missed. Another number that is not greater than
    the last one counts as doubled.

    Args:
        first: the number of the first message of each channel. None: the first message that arrives defines it.

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

    def __init__(self, first: int | None = None) -> None:
        self.received = 0
        self.lost = 0
        self.doubled = 0
        self.missed = 0
        self.disordered = 0
        self._first = first
        self._last: dict[str, int] = {}
        # The number of interruptions, until now and before the last message of each channel.
        self._interruptions = 0
        self._heard: dict[str, int] = {}
        # The last number of each channel that may have been sent before the last interruption ended.
        self._sent: Mapping[str, int] = {}
        # The numbers of each channel that have not arrived, and whether they count as missed.
        self._holes: dict[str, dict[int, bool]] = {}

    def take(self, channel: str, number: int) -> None:
        """Count a message."""
        self.received += 1
        last = self._last.get(channel, (number if self._first is None else self._first) - 1)
        if number <= last:
            self._take_late(channel, number)
            return
        if number > last + 1:
            is_missed = self._is_interrupted(channel)
            self._holes.setdefault(channel, {}).update(dict.fromkeys(range(last + 1, number), is_missed))
            self._count_hole(number - last - 1, is_missed)
        self._heard[channel] = self._interruptions
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

    def _is_interrupted(self, channel: str) -> bool:
        return self._heard.get(channel, 0) < self._interruptions

    @property
    def faults(self) -> int:
        """The number of messages that are lost, doubled or out of order."""
        return self.lost + self.doubled + self.disordered

    @property
    def last(self) -> dict[str, int]:
        """The greatest number of each channel."""
        return dict(self._last)

    def interrupt(self, sent: Mapping[str, int] | None = None) -> None:
        """Record a time without a connection: the next hole of each channel counts as missed.

        Args:
            sent: the last number of each channel that was sent before the end of that time. If nothing more arrives on
                a channel, those up to this number count as missed. None: they count as lost.
        """
        self._interruptions += 1
        self._sent = dict(sent or {})

    def outstanding(self, numbers: Mapping[str, int]) -> int:
        """Return the number of messages that may still arrive. ``numbers`` are the last sent numbers by channel.

        Without ``first``, channels of which nothing has arrived do not count.
        """
        known = self._last if self._first is None else numbers
        return sum(max(0, numbers.get(channel, 0) - self._settled(channel)) for channel in known)

    def settle(self, numbers: Mapping[str, int]) -> None:
        """Count the messages that have not arrived at the end. ``numbers`` are the last sent numbers by channel."""
        self.lost += self.outstanding(numbers)
        self.missed += sum(self._settled(channel) - self._known(channel) for channel in numbers)

    def _known(self, channel: str) -> int:
        """Return the last number that has arrived."""
        return self._last.get(channel, 0 if self._first is None else self._first - 1)

    def _settled(self, channel: str) -> int:
        """Return the last number that has arrived, or that was sent while there was no connection."""
        known = self._known(channel)
        return max(known, self._sent.get(channel, 0)) if self._is_interrupted(channel) else known
