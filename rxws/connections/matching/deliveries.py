"""Changes the lines and channels of a matcher: lines join and are lost; messages are held and delivered. No I/O.

The rules that decide when a line joins, is lost, or takes over are in ``deadlines``, ``replacement`` and ``matcher``.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Final, Generic, Literal, TypeVar

from .evidence import Evidence
from .memory import Delivery, Memory
from .outcomes import INCOMPARABLE, GapFound, Joined, Limits, Lost, Outcome, Reopen, Resumed
from .replay import Proof, Replay
from .seats import Channel, HeldMessage, Holding, Seat, SeatState

__all__ = ["Deliveries"]

T = TypeVar("T")

_DEFAULTS: Final = Limits()
#: The number of first copies that are kept as evidence. A copy stops being evidence if an equal message follows it.
_MOST_FIRST_COPIES: Final = 8
#: The number of newest lags that are kept for each line.
_MOST_LAGS: Final = 1_000


class Deliveries(Generic[T]):
    """The lines and channels of a matcher, with the methods that join and lose lines, and hold and deliver messages.

    The arguments and the attributes are those of its subclass, ``Matcher``.
    """

    def __init__(
        self,
        limits: Limits = _DEFAULTS,
        is_ordered: Callable[[Hashable], bool] = lambda _channel: True,
        proof: Proof | None = None,
    ) -> None:
        self.out: list[tuple[T] | Outcome] = []
        self.older = 0
        self.uncopied = 0
        self.copies = 0
        self.dropped = 0
        self.lags: defaultdict[int, deque[float]] = defaultdict(lambda: deque(maxlen=_MOST_LAGS))
        self._limits: Final = limits
        self._is_ordered: Final = is_ordered
        self._proof: Final = proof
        self._replays: dict[int, Replay] = {}
        self._lag = 0.0
        self._least_reach = limits.reach
        # The lines that hold their messages until the line that they replace has ended.
        self._reserved: set[int] = set()
        self._channels: dict[Hashable, Channel[T]] = {}
        # When each line last delivered a message.
        self._last_new: dict[int, float] = {}
        self._memory: Final = Memory(limits.messages, limits.bytes, limits.tail)
        self._evidence: Final[Evidence[T]] = Evidence(limits, self._memory)

    @property
    def reach(self) -> float:
        """The seconds by which a joined line may lag: four times the largest lag of a copy, within two limits."""
        return min(max(self._least_reach, 4 * self._lag), self._limits.farthest)

    # The lines and channels

    def _channel(self, name: Hashable) -> Channel[T]:
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel(name, self._is_ordered(name))
        return channel

    def _seat(self, line: int, channel: Channel[T], now: float) -> Seat[T]:
        seat = channel.seats.get(line)
        if seat is None:
            self._last_new.setdefault(line, -math.inf)
            seat = channel.seats[line] = Seat(line, now)
        return seat

    def _seats(self) -> Iterator[Seat[T]]:
        return (seat for channel in self._channels.values() for seat in channel.seats.values())

    def _seats_of(self, line: int) -> Iterator[tuple[Channel[T], Seat[T]]]:
        return ((each, each.seats[line]) for each in self._channels.values() if line in each.seats)

    # Resuming

    def _resumes(self, channel: Channel[T]) -> bool:
        """Return whether a channel is to be resumed: a line needs a proof that it begins where the last one stopped."""
        return self._proof is not None and channel.last_new > -math.inf and not channel.joined()

    def _unproven(self, line: int) -> list[Channel[T]]:
        """Return the channels in which a line still needs a proof."""
        seats = self._seats_of(line)
        return [channel for channel, seat in seats if seat.state is SeatState.HELD and self._resumes(channel)]

    def _resume(self, channels: list[Channel[T]], line: int, now: float) -> None:
        """Join a line without a gap. It owes the deliveries after its newest copy, which are all repeated messages."""
        if not channels:
            return
        self.out.append(Resumed(line, tuple(each.name for each in channels)))
        for channel in channels:
            seat = channel.seats[line]
            if seat.newest_copy is not None:
                later = self._memory.after(seat.newest_copy.number, channel.name)
                seat.owed = {each.number: each for each in later if line not in each.lines}
            self._join(channel, seat, now)

    def _replayed(self, line: int, copy: Delivery, now: float) -> None:
        """Note that a unique message has arrived again on a line without a proof."""
        replay = self._replays.setdefault(line, Replay())
        replay.progress = now
        if not replay.has_begun:
            for _, seat in self._seats_of(line):
                seat.before_replay = seat.arrivals
        is_complete = replay.came(line, copy, self._memory)
        # A single message that the server repeats on every connection, such as an answer, is not a replay. It may be
        # the oldest delivery as long as none was forgotten.
        if replay.begins_with(self._memory.oldest) and (is_complete or self._memory.oldest > 1):
            for _, seat in self._seats_of(line):
                self.older += seat.held.drop_older(seat.before_replay)
        if is_complete and self._proof is Proof.COPIES:
            self._resume([each for each, _ in self._seats_of(line) if self._resumes(each)], line, now)

    def _drop_held(self, seat: Seat[T]) -> None:
        """Drop held messages that are older than the delivered ones."""
        self.older += len(seat.held)
        seat.held = Holding()

    # Copies

    def _count_arrival(self, seat: Seat[T], now: float) -> None:
        seat.arrivals += 1
        if seat.arrivals == 1 and self._proof is not None:
            seat.replay_until = now + self.reach

    def _await_owed(self, seat: Seat[T]) -> None:
        """Hold messages until every unique owed message has arrived."""
        seat.awaited.update(each.number for each in self._evidence.unique_owed(seat))

    def _came(self, channel: Channel[T], seat: Seat[T], delivery: Delivery, arrival: int, now: float) -> None:
        """Note that the copy of a delivery has arrived on this line."""
        self.copies += 1
        delivery.lines.add(seat.line)
        was_owed = seat.owed.pop(delivery.number, None) is not None
        is_unique = self._memory.is_unique(delivery) and not seat.held.count(delivery.key)
        if is_unique and (was_owed or seat.line in self._reserved):
            lag = now - delivery.time
            self._lag = max(self._lag, lag)
            self.lags[seat.line].append(lag)
        if not was_owed:
            seat.replay_until = max(seat.replay_until, now + self.reach)
        if is_unique and channel.is_ordered and not (seat.has_copies or seat.is_joined):
            self._begin_with(seat, delivery)
        if is_unique and (seat.state is SeatState.EARLY or arrival <= seat.early_arrivals):
            seat.early_copy = arrival if seat.early_copy < 0 else min(arrival, seat.early_copy)
        elif is_unique:
            # A message from before the last gap does not show where the line is in what was delivered after it.
            if len(seat.first_copies) < _MOST_FIRST_COPIES and delivery.number > channel.number_at_gap:
                seat.first_copies.append((arrival, delivery))
            if seat.newest_copy is None or delivery.number > seat.newest_copy.number:
                seat.newest_copy, seat.newest_arrival = delivery, arrival
        if delivery.number in seat.awaited:
            seat.awaited.discard(delivery.number)
            if not seat.awaited:
                self._release(channel, seat, now)
        if is_unique and self._resumes(channel):
            self._replayed(seat.line, delivery, now)

    def _begin_with(self, seat: Seat[T], first: Delivery) -> None:
        """Clear what a line owes from before its first copy, because it had not subscribed the channel by then."""
        for delivery in list(self._evidence.unique_owed(seat)):
            if delivery.number < first.number:
                del seat.owed[delivery.number]
                seat.complete_since = max(seat.complete_since, delivery.time)

    # Who delivers

    def _join(self, channel: Channel[T], seat: Seat[T], now: float) -> None:
        """From now on, deliver the messages that arrive first on this line."""
        seat.enter(SeatState.JOINED)
        # A slow consumer may delay the beginning of the replay.
        is_silent = self._proof is not None and not seat.arrivals
        seat.replay_until = now + (self._limits.farthest if is_silent else self.reach)
        # Drop the credit for repeated equal messages that were delivered before the line's newest copy.
        edge = seat.newest_copy.number if seat.newest_copy is not None else -1
        for number, delivery in list(seat.owed.items()):
            if number < edge and not self._memory.is_unique(delivery):
                del seat.owed[number]
        self.out.append(Joined(seat.line, channel.name))
        self._release(channel, seat, now)

    def _lose(self, channel: Channel[T], seat: Seat[T], reason: Literal["behind", "mute"]) -> None:
        seat.enter(SeatState.HELD)
        seat.is_overlapped = seat.could_agree = True
        seat.first_copies, seat.early_copy = [], -1
        seat.awaited.clear()
        self.out.append(Lost(seat.line, channel.name, reason))

    def _reject(self, channel: Channel[T], seat: Seat[T]) -> None:
        if seat.is_joined:
            self._lose(channel, seat, "behind")
        if seat.state is SeatState.HELD:
            seat.enter(SeatState.REJECTED)
            seat.held = Holding()
            self.out.append(Reopen(seat.line))

    def _take_over(self, channel: Channel[T], seat: Seat[T], now: float, *, is_last: bool = False) -> None:
        """Report a gap, and let this line deliver.

        A line that could have agreed and never did is rejected instead, unless it is the last.
        """
        never_agreed = seat.could_agree and not seat.was_joined and seat.newest_copy is None
        if never_agreed and not is_last and seat.held.first_time < now - self._limits.settle:
            self._reject(channel, seat)
            return
        self._gap(channel, now)
        channel.owner, channel.number_at_gap = seat.line, self._memory.newest
        seat.enter(SeatState.JOINED)
        seat.replay_until = now + self.reach
        seat.owed.clear()
        seat.awaited.clear()
        # From now on the other lines must agree with this line, so discard their evidence.
        for other in channel.seats.values():
            if not other.is_joined:
                other.is_overlapped, other.complete_since = True, now
                other.first_copies, other.early_copy = [], -1
        self._release(channel, seat, now)

    def _give_up(self, channels: Iterable[Channel[T]], line: int, now: float) -> None:
        """Replace the joined lines of these channels by ``line``, which delivers after one gap for all channels."""
        channels = list(channels)
        for channel in channels:
            for other in channel.joined():
                channel.complete_until = max(channel.complete_until, channel.last_new)
                if other.line != line:
                    self._lose(channel, other, "mute")
                else:
                    other.enter(SeatState.HELD)
        for channel in channels:
            self._take_over(channel, channel.seats[line], now)

    def _stuck_with(self, channel: Channel[T], line: int) -> list[Channel[T]]:
        return [each for each, seat in self._seats_of(line) if each is channel or seat.awaited or not each.joined()]

    def _gap(self, channel: Channel[T], now: float) -> None:
        """Report one gap for all channels without a joined line that had messages since their last gap."""
        if channel.has_delivered or now - channel.early_gap_at > self._limits.settle:
            broken = [
                each
                for each in self._channels.values()
                if each is channel or (each.has_delivered and not each.joined())
            ]
            start = min(each.complete_until for each in broken)
            self.out.append(GapFound(start, now, tuple(each.name for each in broken)))
            for each in broken:
                each.has_delivered, each.early_gap_at = False, math.inf if each.seats else now
        channel.early_gap_at = math.inf

    # Held and delivered messages

    def _hold(self, channel: Channel[T], seat: Seat[T], message: HeldMessage[T], now: float) -> None:
        seat.held.add(seat.arrivals, message)
        if self._memory.find(channel.name, message.key):
            self._repeated(seat, message.key)
        is_reserved = seat.line in self._reserved
        if channel.orphaned_at is not None or (is_reserved and channel.joined()):
            self._shed(channel, seat, now)
        elif self._resumes(channel):
            if self._evidence.is_over(seat):
                self._give_up(self._unproven(seat.line) or [channel], seat.line, now)
        elif not channel.joined():
            # Even a reserved line delivers a channel that no other line has.
            self._take_over(channel, seat, now, is_last=is_reserved)
        elif self._evidence.is_over(seat):
            if seat.awaited:
                self._give_up(self._stuck_with(channel, seat.line), seat.line, now)
            else:
                seat.held.drop_oldest()

    def _shed(self, channel: Channel[T], seat: Seat[T], now: float) -> None:
        """Drop messages that arrived long before the acknowledgement, which a send limit may delay."""
        is_alone = not channel.joined()
        oldest = -math.inf if is_alone else now - 2 * self._limits.settle
        while seat.state is SeatState.EARLY and (seat.held.first_time < oldest or self._evidence.is_over(seat)):
            seat.held.drop_oldest()
            self.dropped += is_alone

    def _release(self, channel: Channel[T], seat: Seat[T], now: float) -> None:
        """Deliver the held messages, except copies, older messages, and repeated messages before the newest copy."""
        held, seat.held = seat.held, Holding()
        first = self._evidence.first_copy(seat) if seat.is_overlapped else -1
        for arrival, message in held.items():
            is_repeated = held.count(message.key) > 1 or self._evidence.is_repeated(channel, message.key)
            if is_repeated and arrival < seat.newest_arrival:
                self.copies += 1
            elif (delivery := self._evidence.copied(seat, channel, message.key, now)) is not None:
                self._came(channel, seat, delivery, arrival, now)
            elif arrival < first and channel.is_ordered:
                self.older += 1
            else:
                self.uncopied += arrival < first
                self._deliver(channel, seat, message.key, message.item, message.size, now)
        seat.is_overlapped, seat.first_copies, seat.was_joined = False, [], True

    def _deliver(self, channel: Channel[T], seat: Seat[T], key: Hashable, item: T, size: int, now: float) -> None:
        channel.last_new = self._last_new[seat.line] = now
        channel.has_delivered = channel.is_wanted
        self.out.append((item,))
        if key is INCOMPARABLE:
            return
        delivery, forgotten = self._memory.add(seat.line, channel.name, key, size, now)
        is_unique = self._memory.is_unique(delivery)
        for other in channel.seats.values():
            if other is seat:
                continue
            if not is_unique:
                self._repeated(other, key)
            other.owed[delivery.number] = delivery
            other.could_agree = other.could_agree or (is_unique and other.state is not SeatState.EARLY)
            if (is_unique or other.is_joined) and (arrival := other.held.take(key)) is not None:
                self._came(channel, other, delivery, arrival, now)
        for old in forgotten:
            self._forget(old, now)

    def _repeated(self, seat: Seat[T], key: Hashable) -> None:
        """Drop the evidence of a line that is not joined, if an equal message has followed it."""
        if seat.is_joined:
            return
        seat.first_copies = [each for each in seat.first_copies if each[1].key != key]
        if seat.newest_copy is not None and seat.newest_copy.key == key:
            seat.newest_arrival, seat.newest_copy = seat.first_copies[-1] if seat.first_copies else (-1, None)
        if seat.newest_copy is None:
            seat.could_agree = seat.was_joined or any(self._evidence.unique_owed(seat))

    def _forget(self, old: Delivery, now: float) -> None:
        """Reject a line that owes a forgotten delivery, or let it deliver after a gap if no other line is joined."""
        channel = self._channels.get(old.channel)
        if channel is None:
            return
        was_unique = not self._memory.find(old.channel, old.key)
        for seat in list(channel.seats.values()):
            is_owed = seat.owed.pop(old.number, None) is not None
            is_awaited = old.number in seat.awaited
            seat.awaited.discard(old.number)
            has_others = any(other is not seat for other in channel.joined())
            if is_owed and was_unique and has_others:
                self._reject(channel, seat)
            elif is_awaited and not has_others:
                # The copy can no longer be recognized.
                self._give_up(self._stuck_with(channel, seat.line), seat.line, now)
