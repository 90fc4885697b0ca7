"""Counts lost and repeated messages by their numbers. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["LossCounter"]


class LossCounter:
    """Counts holes and repetitions in the consecutive numbers of each channel.

    A hole counts as lost. The first hole after a time without a connection counts as missed instead. A number that is
    not greater than the last one counts as doubled.

    Attributes:
        received: number of received messages.
        lost: number of messages that did not arrive although there was a connection.
        doubled: number of messages that arrived again or too late.
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
        self._last: dict[str, int] = {}
        self._interrupted: set[str] = set()

    def take(self, channel: str, number: int) -> None:
        """Count a message. The first message of a channel defines where its numbers begin."""
        self.received += 1
        hole = number - self._last.get(channel, number - 1) - 1
        if hole < 0:
            self.doubled += 1
            return
        if channel in self._interrupted:
            self.missed += hole
        else:
            self.lost += hole
        self._interrupted.discard(channel)
        self._last[channel] = number

    def interrupt(self) -> None:
        """Record a time without a connection: the next hole of each channel counts as missed."""
        self._interrupted = set(self._last)

    def outstanding(self, numbers: Mapping[str, int]) -> int:
        """Return the number of messages that have not arrived yet. ``numbers`` are the last sent numbers by channel."""
        return sum(max(0, numbers.get(channel, 0) - last) for channel, last in self._last.items())
