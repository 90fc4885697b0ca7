"""Decides from the messages of a line whether it agrees, lags, or leads. Does no I/O, and changes no state.

Only messages whose identity is unique among the remembered deliveries are evidence.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from typing import Final, Generic, TypeVar

from .memory import Delivery, Memory
from .outcomes import INCOMPARABLE, Limits
from .seats import Channel, HeldMessage, Seat, SeatState

__all__ = ["Evidence"]

T = TypeVar("T")


class Evidence(Generic[T]):
    """Answers questions about a line in a channel.

    Args:
        limits: the limits.
        memory: the remembered deliveries.
    """

    def __init__(self, limits: Limits, memory: Memory) -> None:
        self._limits: Final = limits
        self._memory: Final = memory

    def copied(self, seat: Seat[T], channel: Channel[T], key: Hashable, now: float) -> Delivery | None:
        """Return the delivery of which a message is a copy, or None.

        A message is a copy of a unique delivery in three cases: its line owes that delivery; its line is not joined; or
        its line was acknowledged, joined, or had its last such copy less than ``reach`` seconds ago. A message is a
        copy of one of several equal deliveries only if its line is joined and owes that delivery.
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
        """Return the arrival number of a line's first copy, preferably of one that is evidence; -1 without a copy."""
        return next((place for place, each in seat.first_copies if self._memory.is_unique(each)), seat.early_copy)

    def unique_owed(self, seat: Seat[T]) -> Iterator[Delivery]:
        """Return the unique deliveries that a line owes, the oldest first."""
        return (each for each in seat.owed.values() if self._memory.is_unique(each))

    def has_agreed(self, channel: Channel[T], seat: Seat[T], now: float) -> bool:
        """Return whether a line has agreed for ``settle`` seconds."""
        if seat.state is not SeatState.HELD:
            return seat.is_joined
        if seat.newest_copy is not None:
            is_plausible = seat.newest_copy.time > seat.complete_since
        else:
            is_silent = seat.ahead_since == math.inf and self.last_new(channel, seat) < now - self._limits.settle
            is_plausible = is_silent and not seat.could_agree
        return is_plausible and self._owes_since(seat, now) - seat.complete_since >= self._limits.settle

    def ahead_since(self, channel: Channel[T], seat: Seat[T]) -> float:
        """Return the arrival time of the first held message that no other line has; infinity if there is none.

        A line with copies has none. In an ordered channel the first message does not count, because it may be an
        initial value that the server sends on subscription. In an unordered channel the messages soon after the
        subscriptions do not count, because they may be the answers to them.
        """
        if seat.newest_copy is not None:
            return math.inf
        soon, first = seat.since + self._limits.settle, next(iter(seat.held.items()), (0,))[0]
        new = (
            each.time
            for arrival, each in seat.held.items()
            if (arrival > first if channel.is_ordered else each.time > soon) and self._is_new(channel, seat, each)
        )
        return next(new, math.inf)

    def last_new(self, channel: Channel[T], seat: Seat[T]) -> float:
        """Return the arrival time of the last held message that no other line has; minus infinity if there is none."""
        return next((each.time for each in reversed(seat.held) if self._is_new(channel, seat, each)), -math.inf)

    def may_follow(self, seat: Seat[T], ended: float) -> bool:
        """Return whether a line was subscribed when the other line ended, and then owed none of its old messages."""
        if seat.state is not SeatState.HELD or seat.since > ended:
            return False
        return seat.newest_copy is not None or self._owes_since(seat, ended) > ended - self._limits.settle

    def last_expected(self, channel: Channel[T], seat: Seat[T], now: float, lag: float) -> float:
        """Return when the newest message was delivered whose copy may arrive on a line behind held or new messages.

        Return minus infinity if there is none, or if the line has copies, or if the order does not matter.
        """
        if not channel.is_ordered or seat.has_copies or seat.state in (SeatState.JOINED, SeatState.REJECTED):
            return -math.inf
        newest = self._memory.newest_of(channel.name)
        last = max((each.time for each in newest if self._memory.is_unique(each)), default=-math.inf)
        return last if last > min(seat.held.first_time, now) - lag else -math.inf

    def leads(self, channel: Channel[T], seat: Seat[T], since: float) -> bool:
        """Return whether the joined lines are silent, and a line holds a new message from before ``since``."""
        if seat.is_joined or not seat.held or channel.last_new > since or not channel.joined():
            return False
        first = self.first_copy(seat)
        held = seat.held.items()
        new = (each.time for arrival, each in held if arrival > first and self._is_new(channel, seat, each))
        return channel.last_new < next(new, channel.last_new) < since

    def is_over(self, seat: Seat[T], share: float = 1.0) -> bool:
        """Return whether a line holds more than this share of the limit."""
        return len(seat.held) > share * self._limits.messages or seat.held.size > share * self._limits.bytes

    def _is_new(self, channel: Channel[T], seat: Seat[T], message: HeldMessage[T]) -> bool:
        """Return whether a held message can be compared, and has no equal, held or remembered."""
        is_sole = seat.held.count(message.key) == 1 and not self._memory.find(channel.name, message.key)
        return is_sole and message.key is not INCOMPARABLE

    def _owes_since(self, seat: Seat[T], now: float) -> float:
        return next((each.time for each in self.unique_owed(seat)), now)
