"""Counts by their numbers what was lost and what came twice. Pure."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["LossCounter"]


class LossCounter:
    """The numbers that came on each channel, where they run from one to the next without holes.

    A hole is a loss, unless there was no connection: then it is counted apart. A number that is not above the last one
    came twice.

    Attributes:
        received: messages that came.
        lost: numbers that never came, though there was a connection all the while.
        doubled: messages that came again, or too late.
        missed: numbers that fell into a time without a connection.

    Example::

        ledger = Ledger()
        ledger.take("btcusdt@trade", 7)
        ledger.take("btcusdt@trade", 9)
        assert ledger.lost == 1
    """

    def __init__(self) -> None:
        self.received = 0
        self.lost = 0
        self.doubled = 0
        self.missed = 0
        self._last: dict[str, int] = {}
        self._interrupted: set[str] = set()

    def take(self, channel: str, number: int) -> None:
        """Count a message. The first of a channel says where its numbers begin."""
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
        """There was a time without a connection: what is missing next on each channel fell into it."""
        self._interrupted = set(self._last)

    def outstanding(self, numbers: Mapping[str, int]) -> int:
        """Give how many messages have not come yet, where ``numbers`` are the last that were sent."""
        return sum(max(0, numbers.get(channel, 0) - last) for channel, last in self._last.items())
