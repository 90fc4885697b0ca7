"""What the messages of a line prove: whether it agrees, lags, or leads. Pure; changes nothing.

Only a message that is unique among those that are remembered proves anything.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from typing import Final, Generic, TypeVar

from .memory import Delivery, Memory
from .outcomes import Limits
from .seats import Channel, Seat, SeatState

__all__ = ["Evidence"]

T = TypeVar("T")


class Evidence(Generic[T]):
    """Answers questions about a line in a channel.

    Args:
        limits: the limits.
        memory: the deliveries that are remembered.
    """

    def __init__(self, limits: Limits, memory: Memory) -> None:
        self._limits: Final = limits
        self._memory: Final = memory

    def copied(self, seat: Seat[T], channel: Channel[T], key: Hashable, now: float) -> Delivery | None:
        """Return the delivery of which a message is a copy, or None.

        A message is a copy of a unique delivery if its line owes that delivery; if its line is not joined, because then
        another line delivers in doubt; or shortly after its line took over or brought its last such copy. A message is
        a copy of one of several equal deliveries only on a joined line that owes that delivery.
        """
        same = self._memory.find(channel.name, key)
        if len(same) == 1:
            (only,) = same
            is_copy = only.number in seat.owed or not seat.is_joined or now <= seat.replay_until
            return only if is_copy and seat.line not in only.lines else None
        return next((each for each in same if each.number in seat.owed), None) if seat.is_joined else None

    def is_repeated(self, channel: Channel[T], key: Hashable) -> bool:
        """Return whether several remembered deliveries have this identity."""
        return len(self._memory.find(channel.name, key)) > 1

    def first_copy(self, seat: Seat[T]) -> int:
        """Return the place of the first copy among the arrivals: of one that is evidence, if there is one; -1: none."""
        return next((place for place, each in seat.first_copies if self._memory.is_unique(each)), seat.early_copy)

    def unique_owed(self, seat: Seat[T]) -> Iterator[Delivery]:
        """Return the unique deliveries that a line owes, the oldest first."""
        return (each for each in seat.owed.values() if self._memory.is_unique(each))

    def has_agreed(self, seat: Seat[T], now: float) -> bool:
        """Return whether a line has agreed for ``settle`` seconds."""
        if seat.state is not SeatState.HELD:
            return seat.is_joined
        if seat.newest_copy is not None:
            is_plausible = seat.newest_copy.time > seat.complete_since
        else:
            is_silent = seat.ahead_since == math.inf and seat.held.last_time < now - self._limits.settle
            is_plausible = is_silent and not seat.could_agree
        return is_plausible and self._owes_since(seat, now) - seat.complete_since >= self._limits.settle

    def ahead_since(self, channel: Channel[T], seat: Seat[T]) -> float:
        """Return since when a line without copies holds messages that it alone has brought; infinity: it holds none.

        In an ordered channel, one message may have come with the subscription. Messages of no channel that came soon
        after the subscriptions may be the answers to them.
        """
        if seat.newest_copy is not None:
            return math.inf
        soon = seat.since + self._limits.settle
        new = (
            each.time
            for place, (_, each) in enumerate(seat.held.items())
            if (place > 0 if channel.is_ordered else each.time > soon)
        )
        return next(new, math.inf)

    def may_follow(self, seat: Seat[T], ended: float) -> bool:
        """Return whether a line was subscribed when the other line ended, and owes it nothing old."""
        if seat.state is not SeatState.HELD or seat.since > ended:
            return False
        return seat.newest_copy is not None or self._owes_since(seat, ended) > ended - self._limits.settle

    def leads(self, channel: Channel[T], seat: Seat[T], since: float) -> bool:
        """Return whether a line has held something new since before ``since``, while the joined lines are silent."""
        if seat.is_joined or not seat.held or channel.last_new > since or not channel.joined():
            return False
        first = self.first_copy(seat)
        new = (
            each.time
            for arrival, each in seat.held.items()
            if arrival > first and seat.held.count(each.key) == 1 and not self._memory.find(channel.name, each.key)
        )
        return channel.last_new < next(new, channel.last_new) < since

    def is_over(self, seat: Seat[T], share: float = 1.0) -> bool:
        """Return whether a line holds more than this share of the limit."""
        return len(seat.held) > share * self._limits.messages or seat.held.size > share * self._limits.bytes

    def _owes_since(self, seat: Seat[T], now: float) -> float:
        return next((each.time for each in self.unique_owed(seat)), now)
