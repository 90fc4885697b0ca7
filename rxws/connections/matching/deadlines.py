"""The rules of a matcher that depend on time: lines agree, lag too much, or are silent for too long. No I/O."""

from __future__ import annotations

import math
from typing import TypeVar

from .deliveries import Deliveries
from .seats import Channel, Seat, SeatState

__all__ = ["Deadlines"]

T = TypeVar("T")


class Deadlines(Deliveries[T]):
    """Joins lines that have agreed, and loses those that lag or are silent for too long.

    The arguments and the attributes are those of its subclass, ``Matcher``.
    """

    def tick(self, now: float) -> None:
        """Apply the rules that depend on time. Call this every few hundredths of a second."""
        for channel in list(self._channels.values()):
            self._expire(channel, now)
        for line, replay in list(self._replays.items()):
            if now - replay.progress >= self._limits.settle:
                self._give_up(self._unproven(line), line, now)

    def _expire(self, channel: Channel[T], now: float) -> None:
        if all(seat.is_joined and not seat.owed and not seat.held for seat in channel.seats.values()):
            return
        for seat in list(channel.seats.values()):
            if channel.continued_at < math.inf and (seat.has_copies or now >= channel.continued_at):
                channel.is_continued = channel.is_continued or seat.has_copies
                self._continue(channel, seat, now)
            self._expire_owed(channel, seat, now)
            if seat.delivers and seat.held:
                self._release(channel, seat, now)
            if channel.joined():
                seat.ahead_since = self._evidence.ahead_since(channel, seat)
            if seat.line in self._reserved:
                was_ready = seat.is_ready and seat.newest_copy is not None
                seat.is_ready = was_ready or self._evidence.has_agreed(channel, seat, now)
            elif seat.state is SeatState.HELD and any(each.delivers for each in channel.joined()):
                self._judge(channel, seat, now)
        for seat in list(channel.seats.values()):
            if seat.line not in self._reserved and self._evidence.leads(channel, seat, now - self.reach):
                since = now - self.reach / 2
                silent = [each for each, other in self._seats_of(seat.line) if self._evidence.leads(each, other, since)]
                self._give_up(silent, seat.line, now)

    def _continue(self, channel: Channel[T], seat: Seat[T], now: float) -> None:
        """Let the line that was reserved deliver in a channel in place of the ended line."""
        channel.continued_at, channel.orphaned_at = math.inf, None
        if seat.state is SeatState.EARLY and not seat.arrivals:
            # Nothing was held. The first message, or the acknowledgement, decides.
            del channel.seats[seat.line]
        elif not channel.is_continued:
            self._take_over(channel, seat, now, is_last=True)
        elif not seat.is_joined:
            self._await_owed(seat)
            self._join(channel, seat, now)

    def _expire_owed(self, channel: Channel[T], seat: Seat[T], now: float) -> None:
        """Stop waiting for owed messages that are late, or older than the newest copy by more than ``settle``."""
        delivers = any(other is not seat and other.delivers for other in channel.joined())
        if seat.awaited and not seat.held and not delivers:
            # Until another message arrives on the line, it is unknown whether the awaited messages are late or missing.
            return
        is_late = is_stuck = False
        overtaken = seat.newest_copy.time - self._limits.settle if seat.newest_copy is not None else -math.inf
        for number, delivery in list(seat.owed.items()):
            if delivery.time >= max(now - self.reach, overtaken):
                break
            del seat.owed[number]
            seat.awaited.discard(number)
            if self._memory.is_unique(delivery):
                seat.complete_since = max(seat.complete_since, delivery.time)
                is_late, seat.is_ready = True, False
                is_stuck = is_stuck or delivery.time >= overtaken
        if is_late and seat.is_joined and not self._is_aside(channel, seat):
            if delivers:
                self._lose(channel, seat, "behind")
            elif is_stuck and seat.held:
                self._give_up(self._stuck_with(channel, seat.line), seat.line, now)

    def _judge(self, channel: Channel[T], seat: Seat[T], now: float) -> None:
        """Join a line that has agreed, or need not; reject a line that has not agreed in time."""
        if self._evidence.has_agreed(channel, seat, now) or self._is_aside(channel, seat):
            self._join(channel, seat, now)
        elif seat.newest_copy is None and seat.could_agree and now - seat.since > self._limits.farthest:
            self._reject(channel, seat)

    def _is_aside(self, channel: Channel[T], seat: Seat[T]) -> bool:
        """Return whether a line need not agree in this unordered channel, because it has copies in an ordered one.

        The messages of an unordered channel are mostly answers, and the answers to one line arrive on no other.
        """
        if channel.is_ordered:
            return False
        others = (other for each, other in self._seats_of(seat.line) if each.is_ordered)
        return any(other.newest_copy is not None or other.is_joined for other in others)
