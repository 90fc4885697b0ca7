"""What ``rxws demo`` has measured, as a table and in words. No I/O."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from .. import Continuity, Gap, Rotated
from .demo_ending import Ending, Verdict
from .demo_feed import EVENTS, LAG, RATE
from .loss_counter import LossCounter

__all__ = ["Result"]


@dataclass
class Result:
    """The measured values, as far as they are known.

    Attributes:
        counter: counts the messages.
        streams: number of filtered streams.
        sent: number of messages that the exchange has sent.
        in_streams: number of messages that the streams have delivered.
        kinds: number of messages that the handler has got, by kind.
        rotated: the event of the rotation.
        was_cut: whether the connection was cut.
        gap: the gap of the cut.
        is_complete: whether rotation and cut happened, and all messages were waited for.
        seconds: duration.
        opened: number of connections.
        continuity: what the feed's own ledger says, which does not know the numbers in the messages.
    """

    counter: LossCounter
    streams: int
    sent: int = 0
    in_streams: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    rotated: Rotated | None = None
    was_cut: bool = False
    gap: Gap | None = None
    is_complete: bool = False
    seconds: float = 0.0
    opened: int = 0
    continuity: Continuity = field(default_factory=lambda: Continuity((), ()))
    _before_gap: tuple[int, int] | None = None

    def take_gap(self, gap: Gap) -> None:
        """Note the gap of the cut. What is lost before it was lost in the rotation."""
        self.gap = gap
        self._before_gap = self.counter.lost, self.counter.doubled

    @property
    def is_flawless(self) -> bool:
        """Whether rotation and cut happened, and every message arrived exactly once, but for those in the gap."""
        return self.is_complete and not self.counter.faults

    def ending(self) -> Ending:
        """Return what to print at the end."""
        counter, kinds = self.counter, self.kinds
        rate = counter.received / self.seconds if self.seconds else 0.0
        measured = [
            ("received", f"{counter.received:,} of {self.sent:,} messages in {self.seconds:.1f} s, {rate:,.0f}/s"),
            ("streams", f"{self.in_streams:,} messages in {self.streams:,} filtered streams"),
            ("handler", ", ".join(f"{kinds[event]:,} {event}" for event in EVENTS)),
            ("rotation", self._rotation()),
            ("cut", self._cut()),
            ("connections", f"{self.opened}; {self._ledger()}"),
        ]
        return Ending(measured, self._verdict())

    def _verdict(self) -> Verdict:
        counter = self.counter
        faults = [
            f"{_messages(number)} {what}"
            for number, what in ((counter.lost, "lost"), (counter.doubled, "doubled"), (counter.disordered, "late"))
            if number
        ]
        if faults:
            return Verdict(f"Not as promised: {', '.join(faults)}.", False)
        if self.is_flawless and self.gap is not None:
            return Verdict(self._praise(self.gap), True)
        if self.was_cut:
            return Verdict("Not as promised: the feed did not rotate, or did not come back after the cut.", False)
        return Verdict("Stopped early. Nothing was lost until then.", None)

    def _praise(self, gap: Gap) -> str:
        missed = self.counter.missed
        if not missed:
            return "Nothing was lost in the rotation, nor in the cut; a Gap says that messages could be missing."
        praise = f"Nothing was lost in the rotation; the cut cost {_messages(missed)}, and a Gap says so."
        seconds = gap.end - gap.start
        if missed <= RATE * seconds:
            return praise
        if missed > RATE * (seconds + LAG):
            return f"{praise} (This machine was busy: what waited to be read was lost with the connection, too.)"
        return (
            f"{praise} (Why {missed:,} in {seconds * 1000:.0f} ms? A message takes up to {LAG * 1000:.0f} ms to arrive "
            "here, and those on their way were lost with the connection.)"
        )

    def _rotation(self) -> str:
        lost, doubled = self._before_gap or (self.counter.lost, self.counter.doubled)
        rotated = self.rotated
        if rotated is None:
            return f"has not happened; {lost:,} lost, {doubled:,} doubled so far"
        return (
            f"{lost:,} lost, {doubled:,} doubled; overlap {'proven' if rotated.proven else 'not proven'}, "
            f"paused {rotated.paused * 1000:,.1f} ms"
        )

    def _cut(self) -> str:
        if self.gap is None or self._before_gap is None:
            return "has not happened" if not self.was_cut else "was not detected"
        milliseconds = (self.gap.end - self.gap.start) * 1000
        lost, doubled = self.counter.lost - self._before_gap[0], self.counter.doubled - self._before_gap[1]
        return (
            f"gap of {milliseconds:,.1f} ms, {self.counter.missed:,} messages in it; "
            f"{lost:,} lost, {doubled:,} doubled since"
        )

    def _ledger(self) -> str:
        intervals, gaps = self.continuity.intervals, self.continuity.gaps
        proven: defaultdict[str, float] = defaultdict(float)
        for interval in intervals:
            proven[interval.proof] += interval.end - interval.start
        by_proof = ", ".join(f"{seconds:.1f} s by {proof}" for proof, seconds in proven.items())
        missing = sum(gap.end - gap.start for gap in gaps)
        return (
            f"complete for {sum(proven.values()):.1f} s ({by_proof or 'no proof'}); "
            f"{len(gaps)} {'gap' if len(gaps) == 1 else 'gaps'}, {missing * 1000:,.1f} ms"
        )


def _messages(number: int) -> str:
    return f"{number:,} message" if number == 1 else f"{number:,} messages"
