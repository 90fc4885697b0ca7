"""Lets messages bypass a matcher while no rule but "drop the copies" concerns them. No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Final, TypeVar

from .deliveries import Deliveries
from .memory import Delivery
from .seats import Seat

__all__ = ["Bypass"]

T = TypeVar("T")

#: The number of deliveries of equal messages that are remembered at once.
MOST_REPEATS: Final = 16


class Bypass(Deliveries[T]):
    """While all lines are joined and none holds a message, the caller may drop copies and deliver the rest by itself.

    Before anything else happens, it reports what it has delivered.
    """

    def may_bypass(self, lines: Collection[int], now: float) -> bool:
        """Return whether a message that is no copy is delivered at once, on whichever of these lines it arrives."""
        if self._reserved or not self._channels:
            return False
        for channel in self._channels.values():
            if channel.seats.keys() != set(lines) or channel.orphaned_at is not None:
                return False
            if not all(self._keeps_step(seat, now) for seat in channel.seats.values()):
                return False
        return True

    def _keeps_step(self, seat: Seat[T], now: float) -> bool:
        if not seat.delivers or seat.held or seat.replay_until >= now:
            return False
        return all(each.time > now - self.patience for each in seat.owed.values())

    def remembered_deliveries(self) -> list[tuple[Delivery, frozenset[int]]]:
        """Return the remembered deliveries, the oldest first, each with the lines that owe it."""
        owing: defaultdict[int, set[int]] = defaultdict(set)
        for seat in self._seats():
            for number in seat.owed:
                owing[number].add(seat.line)
        ordered = sorted(self._memory, key=lambda each: each.number)
        return [(each, frozenset(owing.get(each.number, ()))) for each in ordered]

    def settle_owed(self, has_arrived: Callable[[Delivery, int], bool]) -> None:
        """Note which owed deliveries have arrived meanwhile: ``has_arrived`` is called with each and its line."""
        for seat in self._seats():
            for number, delivery in list(seat.owed.items()):
                if has_arrived(delivery, seat.line):
                    del seat.owed[number]
                    delivery.lines.add(seat.line)

    def bypassed(self, name: Hashable, key: Hashable, size: int, lines: Collection[int], time: float) -> None:
        """Note that a message was delivered at this time, and has arrived on these lines."""
        channel = self._channel(name)
        channel.last_new, channel.has_delivered = time, channel.is_wanted
        delivery, forgotten = self._memory.add(next(iter(lines)), name, key, size, time)
        delivery.lines.update(lines)
        for seat in channel.seats.values():
            seat.arrivals += seat.line in lines
            if seat.line not in lines:
                seat.owed[delivery.number] = delivery
            elif len(lines) > 1 and self._memory.is_unique(delivery):
                # It is not known on which of these lines it arrived first. On each, what it owes from before is late.
                seat.newest_copy, seat.newest_arrival = delivery, seat.arrivals
        for old in forgotten:
            self._forget(old, time)

    def repeated_meanwhile(
        self, name: Hashable, key: Hashable, size: int, delivered: int, had: Mapping[int, int], time: float
    ) -> None:
        """Note how often equal messages were delivered, and how many of them each line has had."""
        known = len(self._memory.find(name, key))
        for _ in range(min(delivered - known, MOST_REPEATS)):
            self.bypassed(name, key, size, had.keys(), time)
        same = self._memory.find(name, key)
        for seat in self._channel(name).seats.values():
            lacking = max(0, delivered - had.get(seat.line, 0))
            for place, delivery in enumerate(reversed(same)):
                if place < lacking:
                    seat.owed[delivery.number] = delivery
                else:
                    seat.owed.pop(delivery.number, None)

    def note_lag(self, line: int, lag: float) -> None:
        """Note the seconds by which a copy on this line lagged."""
        self._lag = max(self._lag, lag)
        self.lags[line].append(lag)

    def note_last_new(self, line: int, time: float) -> None:
        """Note when a line last delivered a message."""
        self._last_new[line] = max(self._last_new[line], time)

    @property
    def patience(self) -> float:
        """The seconds after which a message that has not arrived on a line needs the other rules."""
        return max(self._limits.settle, 2 * self._lag)
