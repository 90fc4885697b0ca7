"""The rules of a matcher that let one line replace another one in a rotation. No I/O."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from typing import TypeVar

from .deadlines import Deadlines
from .seats import Channel, Seat

__all__ = ["Replacement"]

T = TypeVar("T")


class Replacement(Deadlines[T]):
    """Lets a line continue in place of one that has ended.

    The arguments and the attributes are those of its subclass, ``Matcher``.
    """

    def is_alone(self, line: int, now: float) -> bool | None:
        """Return whether the other lines are mute: they delivered nothing, while new messages arrived on this line.

        None means that this is not known yet: the first messages of a line may be answers or initial values, and the
        other lines may lag by ``settle`` seconds.
        """
        since = now - self._limits.settle
        seats = list(self._seats_of(line))
        if any(seat.newest_copy is not None or seat.owed for _, seat in seats):
            return False
        if any(seat.ahead_since < since for _, seat in seats):
            return True
        return None if any(self._evidence.last_new(*each) >= since for each in seats) else False

    def replace(self, line: int, now: float, *, is_complete: bool, left_at: float = math.inf) -> None:
        """Let the reserved line replace the line that has ended, in all channels.

        There is no gap in the channels in which the reserved line agrees.

        Args:
            line: the reserved line.
            now: the time.
            is_complete: whether all messages of the ended line were read. If so, there is also no gap in a channel in
                which the reserved line has any copy or owed no old message; it waits for the messages that it still
                owes.
            left_at: when the client asked the server to close the ended line. If the server acknowledged a channel of
                the reserved line later, it may have subscribed it after it closed the ended line.
        """
        # The rules that depend on time were last applied before the ended line was closed.
        self.tick(now)
        self._reserved.discard(line)
        seats = list(self._seats_of(line))
        if self.is_alone(line, now):
            is_complete = False
        for channel, seat in seats:
            channel.is_continued = self._follows(channel, seat, is_complete=is_complete, left_at=left_at)
        if all(channel.is_continued for channel, _ in seats):
            # The lag of the line is known, so do not wait longer for owed messages.
            self._least_reach = self._limits.settle
        lag, settle = max(self._limits.settle, self._lag), self._limits.settle
        for each in self._channels.values():
            if line not in each.seats:
                each.orphaned_at = None
        for channel, seat in sorted(seats, key=lambda each: each[0].is_continued):
            # If it has copies, the line continues at once. Otherwise it waits for the first one.
            channel.continued_at = max(now, self._evidence.last_expected(channel, seat, now, lag) + lag + settle)
            if channel.continued_at <= now:
                self._continue(channel, seat, now)

    def await_copies(self, line: int, channels: Iterable[Hashable], now: float) -> None:
        """Let a line wait for a copy, to keep the order, in those of its channels that only an ended line delivered."""
        for channel in [self._channels[name] for name in channels if name in self._channels]:
            if channel.is_ordered and channel.has_delivered and not channel.joined():
                self._seat(line, channel, now)
                channel.orphaned_at, channel.is_continued = now, False
                channel.continued_at = channel.last_new + self.reach + self._limits.settle

    def release_all(self, line: int, now: float) -> None:
        """Await no further copies. Deliver what a line holds for them, after a gap where copies are missing."""
        for channel, seat in list(self._seats_of(line)):
            if channel.continued_at < math.inf:
                self._continue(channel, seat, now)
            if seat.held and seat.is_joined:
                self._take_over(channel, seat, now, is_last=True)

    def _follows(self, channel: Channel[T], seat: Seat[T], *, is_complete: bool, left_at: float) -> bool:
        """Return whether the reserved line can replace the ended line in this channel without a gap."""
        ended = channel.orphaned_at
        if self._is_aside(channel, seat):
            if seat.newest_copy is None:
                seat.owed.clear()
            return True
        if ended is not None and seat.newest_copy is None and seat.since > left_at:
            return False
        if ended is None or seat.is_ready or self._evidence.has_agreed(channel, seat, ended):
            return True
        return is_complete and self._evidence.may_follow(seat, ended)
