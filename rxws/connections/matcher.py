"""One ordered sequence per channel from several lines: when they agree, what is a copy, where a gap is. Pure.

A *line* is one connection. A *channel* is a sequence whose order is the same on every line. Two lines are joined in a
channel where they are seen to agree: a message of the one is identified as one of the other. What both bring is
delivered once, from the line that brings it first.

Evidence
    Only a message that is unique among those that are remembered proves anything. What a line brings in a channel
    before it has acknowledged the channel proves nothing.

Joining
    A line that is not joined in a channel holds what it brings there. It joins when for ``settle`` seconds everything
    that was delivered has come on it too, or when for ``settle`` seconds nothing was delivered and it has brought
    nothing. What it held before its first copy is older than what was delivered, and is not delivered.

Being joined
    A joined line owes what the others deliver, for ``reach`` seconds. A unique message that has not come by then ends
    its being joined. Equal messages that repeat (heartbeats) prove nothing: each delivery leaves one credit per other
    joined line, and an equal message on such a line uses a credit up.

The end of a line
    A joined line that still owes what the ended line delivered holds what it brings until that has come, or
    ``reach`` seconds have passed: then a gap stands before what it holds. Where no joined line is left, another line
    takes over behind a gap.

Rotation is the failover to a line that begins before the other's end. The rules are those of A/B line arbitration as
market data feeds practise it, with identities in place of sequence numbers.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from .memory import Delivery, Memory

__all__ = ["INCOMPARABLE", "GapFound", "Joined", "Limits", "Lost", "Matcher", "Reopen", "SeatState"]

T = TypeVar("T")

INCOMPARABLE: Final = object()
"""The identity of a message that cannot be compared: it is no copy, has none, and proves nothing."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a matcher, in seconds, messages and bytes.

    Attributes:
        settle: for so many seconds lines must agree to be joined.
        reach: for so many seconds a joined line may be behind, if no larger lag was seen.
        farthest: a joined line may never be further behind; a line without agreement for so long is opened anew.
        messages: how many deliveries are remembered, and how many messages a line holds in a channel.
        bytes: the same in bytes.
        tail: how many deliveries of each channel are remembered in any case.
    """

    settle: float = 0.5
    reach: float = 2.0
    farthest: float = 10.0
    messages: int = 10_000
    bytes: int = 64 << 20
    tail: int = 8


@dataclass(frozen=True, slots=True)
class GapFound:
    """Messages may be missing in these channels.

    Attributes:
        start: when the last message before the gap was delivered.
        end: when the gap was found.
        channels: the channels that it concerns.
    """

    start: float
    end: float
    channels: tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class Joined:
    """A line joined in a channel."""

    line: int
    channel: Hashable


@dataclass(frozen=True, slots=True)
class Lost:
    """A line is joined in a channel no longer: it is ``"behind"``, or ``"mute"``."""

    line: int
    channel: Hashable
    reason: str


@dataclass(frozen=True, slots=True)
class Reopen:
    """A line cannot be compared: it is to be closed and opened anew."""

    line: int


Outcome = GapFound | Joined | Lost | Reopen


class SeatState(enum.Enum):
    """Where a line is in a channel."""

    EARLY = "early"
    """The channel is not acknowledged: what comes is held, and proves nothing."""
    HELD = "held"
    """What comes is held until the line agrees."""
    JOINED = "joined"
    """What comes first on this line is delivered."""
    REJECTED = "rejected"
    """The line cannot be compared; what comes is not delivered."""


TRANSITIONS: Mapping[SeatState, frozenset[SeatState]] = {
    SeatState.EARLY: frozenset({SeatState.HELD, SeatState.JOINED}),
    SeatState.HELD: frozenset({SeatState.JOINED, SeatState.REJECTED}),
    SeatState.JOINED: frozenset({SeatState.HELD}),
    SeatState.REJECTED: frozenset({SeatState.JOINED}),
}
"""Which states may follow each state."""


@dataclass(slots=True)
class _HeldMessage(Generic[T]):
    key: Hashable
    item: T
    size: int
    time: float


class _Holding(Generic[T]):
    """The messages that a line holds in a channel, by the order in which they came."""

    __slots__ = ("_by_key", "_messages", "size")

    def __init__(self) -> None:
        self._messages: dict[int, _HeldMessage[T]] = {}
        self._by_key: dict[Hashable, list[int]] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self._messages)

    def items(self) -> Iterable[tuple[int, _HeldMessage[T]]]:
        return self._messages.items()

    def add(self, arrival: int, message: _HeldMessage[T]) -> None:
        self._messages[arrival] = message
        self._by_key.setdefault(message.key, []).append(arrival)
        self.size += message.size

    def count(self, key: Hashable) -> int:
        return len(self._by_key.get(key, ()))

    def take(self, key: Hashable) -> int | None:
        """Remove the first message with this identity, and return when it came; None: there is none."""
        arrivals = self._by_key.get(key)
        return None if not arrivals else self._remove(arrivals[0])

    def drop_oldest(self) -> None:
        self._remove(next(iter(self._messages)))

    def _remove(self, arrival: int) -> int:
        message = self._messages.pop(arrival)
        self.size -= message.size
        arrivals = self._by_key[message.key]
        arrivals.remove(arrival)
        if not arrivals:
            del self._by_key[message.key]
        return arrival

    @property
    def first_time(self) -> float:
        return next(iter(self._messages.values())).time if self._messages else math.inf

    @property
    def last_time(self) -> float:
        return self._messages[next(reversed(self._messages))].time if self._messages else -math.inf


_MOST_FIRSTS: Final = 8
"""So many first copies are kept as evidence: the first of them may turn out to be no evidence."""


class _Seat(Generic[T]):
    """What is known of one line in one channel."""

    __slots__ = (
        *("line", "state", "since", "replay_until", "clean", "is_overlapped", "is_asked", "is_trusted", "is_ready"),
        *("owed", "waiting", "held", "arrivals", "first_evident", "firsts", "newest", "newest_arrival"),
    )

    def __init__(self, line: int, now: float) -> None:
        self.line = line
        self.state = SeatState.EARLY
        self.since = now
        # Until then a unique message that came before on another line is a copy, though it is not owed.
        self.replay_until = -math.inf
        # Everything that was delivered after this has come, but for what is owed.
        self.clean = now
        # Another line delivers: what stands before the first copy is older.
        self.is_overlapped = False
        # Something unique was delivered since the acknowledgement.
        self.is_asked = False
        # It was joined before.
        self.is_trusted = False
        # It would be joined, if its line were not reserved.
        self.is_ready = False
        self.owed: dict[int, tuple[Delivery, float]] = {}
        # What it owes of a line that has ended: until that has come, what comes is held.
        self.waiting: set[int] = set()
        self.held: _Holding[T] = _Holding()
        self.arrivals = 0
        # What came before this proves nothing.
        self.first_evident = 0
        self.firsts: list[tuple[int, Delivery]] = []
        self.newest: Delivery | None = None
        self.newest_arrival = -1

    def enter(self, state: SeatState) -> None:
        if state is not self.state:
            if state not in TRANSITIONS[self.state]:
                raise AssertionError(f"no transition from {self.state} to {state}")
            self.state = state

    @property
    def is_joined(self) -> bool:
        return self.state is SeatState.JOINED

    @property
    def delivers(self) -> bool:
        return self.state is SeatState.JOINED and not self.waiting


@dataclass(eq=False, slots=True)
class _Channel(Generic[T]):
    name: Hashable
    is_ordered: bool
    seats: dict[int, _Seat[T]] = field(default_factory=dict)
    # Up to here a line that was joined has brought everything.
    intact: float = 0.0
    last_new: float = -math.inf
    # Something was delivered since the last gap that concerned it.
    is_untold: bool = False
    # When a gap was told before this channel was acknowledged again.
    told_early: float = math.inf
    # When its last joined line ended, while the line that is to replace it does not deliver.
    orphaned_at: float | None = None

    def joined(self) -> list[_Seat[T]]:
        return [seat for seat in self.seats.values() if seat.is_joined]


class Matcher(Generic[T]):
    """Joins lines channel by channel.

    All times are seconds on one monotonic clock. Each method appends to ``out`` what follows from it, in order: items
    that are to be delivered, and outcomes. The caller takes them from there.

    Attributes:
        out: what is to be done: ``(item,)`` for an item to be delivered, or an outcome.
        older: how many held messages were dropped because they were older than what was delivered.
        uncopied: how many held messages of unordered channels were delivered although they stood before the first copy.
        copies: how many messages were copies.
        held: how many messages were held.
        dropped: how many messages were dropped that no other line brings, because too many were held.

    Args:
        limits: the limits.
        is_ordered: whether a channel has one order on every line, so that what stands before its first copy is older.
            In an unordered channel such messages are delivered, and counted.

    Example::

        matcher = Matcher[str]()
        matcher.begin(1, ["trades"], now=0.0)
        matcher.acknowledged(2, "trades", now=0.1)
        matcher.arrived(1, "trades", "a", "message a", 9, now=0.2)
        matcher.arrived(2, "trades", "a", "message a", 9, now=0.3)
        assert matcher.out == [("message a",)]
    """

    def __init__(
        self, limits: Limits = Limits(), is_ordered: Callable[[Hashable], bool] = lambda _channel: True
    ) -> None:
        self.out: list[tuple[T] | Outcome] = []
        self.older = 0
        self.uncopied = 0
        self.copies = 0
        self.held = 0
        self.dropped = 0
        self._limits: Final = limits
        self._is_ordered: Final = is_ordered
        self._lag = 0.0
        self._least_reach = limits.reach
        # The lines that deliver nothing before the line that they replace has ended.
        self._reserved: set[int] = set()
        self._channels: dict[Hashable, _Channel[T]] = {}
        # When each line brought something new for the last time.
        self._last_new: dict[int, float] = {}
        self._memory: Final = Memory(limits.messages, limits.bytes, limits.tail)

    @property
    def reach(self) -> float:
        """Seconds that a joined line may be behind: four times the largest lag of a copy, within two limits."""
        return min(max(self._least_reach, 4 * self._lag), self._limits.farthest)

    def agrees(self, line: int, now: float) -> bool:
        """Whether a reserved line has brought what the others did, and differs from them in no channel."""
        has_brought = self._has_evidence(line)
        for channel in self._channels.values():
            seat = channel.seats.get(line)
            if not channel.joined() or (seat is not None and self._is_beside(channel, seat)):
                continue
            if seat is None or not (seat.is_ready or self._has_agreed(seat, now)):
                return False
        return has_brought

    def is_joined(self, line: int) -> bool:
        """Whether a line is joined in all channels."""
        return all(line in each.seats and each.seats[line].is_joined for each in self._channels.values() if each.seats)

    def is_full(self, line: int) -> bool:
        """Whether a line holds as much as it may."""
        return any(self._is_over(seat, 0.9) for _, seat in self._seats_of(line))

    def own_since(self, line: int) -> float | None:
        """Return since when a line has held messages of channels that no other line has; None: it holds none."""
        times = [seat.held.first_time for channel, seat in self._seats_of(line) if seat.held and not channel.joined()]
        return min(times, default=None)

    @property
    def is_holding(self) -> bool:
        """Whether any line holds messages."""
        return any(seat.held for channel in self._channels.values() for seat in channel.seats.values())

    def is_settled(self, now: float) -> bool:
        """Whether nothing that comes can be a copy, or be held: one line is left, and it owes nothing."""
        seats = [seat for channel in self._channels.values() for seat in channel.seats.values()]
        if not all(seat.is_joined and not seat.owed and not seat.held for seat in seats):
            return False
        lines = {seat.line for seat in seats}
        return all(seat.replay_until < now for seat in seats) or not any(
            lines - each.lines and self._memory.is_unique(each) for each in self._memory
        )

    # What happens to the lines

    def begin(self, line: int, channels: Iterable[Hashable], now: float, last_new: float = -math.inf) -> None:
        """Join a line that delivers already in these channels, without a gap; it delivered last at ``last_new``."""
        self._last_new.setdefault(line, last_new)
        for name in channels:
            seat = self._seat(line, self._channel(name), now)
            seat.enter(SeatState.JOINED)
            seat.is_trusted = True
            seat_channel = self._channels[name]
            seat_channel.is_untold, seat_channel.intact = True, max(last_new, 0.0)

    def reserve(self, line: int) -> None:
        """Hold what this line brings until the line that it is to replace has ended: see :meth:`replace`."""
        self._reserved.add(line)

    def acknowledged(self, line: int, name: Hashable, now: float) -> None:
        """The subscription of a channel is in effect on a line. Where no line is joined, this one delivers."""
        channel = self._channel(name)
        seat = self._seat(line, channel, now)
        if seat.state is not SeatState.EARLY:
            return
        seat.enter(SeatState.HELD)
        seat.since = seat.clean = now
        seat.replay_until = now + self.reach
        seat.first_evident = seat.arrivals
        seat.is_overlapped = bool(channel.joined())
        if not channel.joined() and line not in self._reserved:
            self._take_over(channel, seat, now)

    def unsubscribed(self, line: int, name: Hashable) -> None:
        """A channel is no longer subscribed on a line."""
        channel = self._channels.get(name)
        if channel is not None:
            channel.seats.pop(line, None)
            if not channel.seats:
                del self._channels[name]

    def arrived(self, line: int, name: Hashable, key: Hashable, item: T, size: int, now: float) -> None:
        """A message came: a copy is dropped; a joined line delivers what is new; any other line holds it."""
        channel = self._channel(name)
        seat = self._seat(line, channel, now)
        seat.arrivals += 1
        if (delivery := self._copied(seat, channel, key, now)) is not None:
            self.copies += 1
            self._came(channel, seat, delivery, seat.arrivals, now)
            if seat.state is SeatState.EARLY and channel.is_ordered:
                # Its acknowledgement may never come.
                self.acknowledged(line, name, now)
        elif seat.delivers:
            self._deliver(channel, seat, key, item, size, now)
        elif seat.state is not SeatState.REJECTED:
            self.held += 1
            seat.held.add(seat.arrivals, _HeldMessage(key, item, size, now))
            if line in self._reserved:
                self._let_go(channel, seat, now)
            elif not channel.joined():
                self._take_over(channel, seat, now)
            elif self._is_over(seat, 1.0):
                if seat.waiting:
                    self._give_up(self._stuck_with(channel, line), line, now)
                else:
                    seat.held.drop_oldest()

    def _let_go(self, channel: _Channel[T], seat: _Seat[T], now: float) -> None:
        """Drop what came long before the acknowledgement, which may take long where sending is limited."""
        is_alone = not channel.joined()
        oldest = -math.inf if is_alone else now - 2 * self._limits.settle
        while seat.state is SeatState.EARLY and (seat.held.first_time < oldest or self._is_over(seat, 1.0)):
            seat.held.drop_oldest()
            self.dropped += is_alone

    def ended(self, line: int, now: float) -> None:
        """A line has ended. What it held goes with it, since a gap or another line covers it."""
        last_new = self._last_new.pop(line, -math.inf)
        broken = []
        for channel in self._channels.values():
            seat = channel.seats.pop(line, None)
            if seat is None or not seat.is_joined:
                continue
            channel.intact = max(channel.intact, last_new)
            joined = channel.joined()
            for other in joined:
                other.waiting.update(number for number, (each, _) in other.owed.items() if self._memory.is_unique(each))
            if not joined:
                broken.append(channel)
        for channel in broken:
            if self._reserved:
                channel.orphaned_at = now
                continue
            heirs = [seat for seat in channel.seats.values() if seat.held.last_time > now - self._limits.settle]
            if heirs:
                self._take_over(channel, max(heirs, key=lambda seat: (bool(seat.firsts), -seat.since)), now)

    def replace(self, line: int, now: float, *, is_complete: bool) -> None:
        """The reserved line replaces the line that has ended, in all channels.

        It follows without a gap where it agrees. Where ``is_complete``, the old line was read to its own end: then it
        follows also if something has agreed, or nothing had to; what it still owes is waited for.
        """
        self._reserved.discard(line)
        if self._is_mute(line, now):
            is_complete = False
        followed: list[tuple[_Channel[T], _Seat[T]]] = []
        broken: list[tuple[_Channel[T], _Seat[T]]] = []
        for channel, seat in self._seats_of(line):
            ended, channel.orphaned_at = channel.orphaned_at, None
            if is_complete and self._is_beside(channel, seat):
                # It waits for nothing.
                seat.owed.clear()
            has_agreed = seat.is_ready or self._has_agreed(seat, math.inf if ended is None else ended)
            follows = ended is None or has_agreed or (is_complete and self._may_follow(seat, ended))
            (followed if follows else broken).append((channel, seat))
        if not broken:
            # Its lag is known, so that what it owes is not waited for longer than that.
            self._least_reach = self._limits.settle
        for channel, seat in broken:
            self._take_over(channel, seat, now, is_last=True)
        for channel, seat in followed:
            if not seat.is_joined:
                unique = (number for number, (each, _) in seat.owed.items() if self._memory.is_unique(each))
                seat.waiting.update(unique)
                self._join(channel, seat, now)

    def tick(self, now: float) -> None:
        """Look at everything that depends on time. To be called every few hundredths of a second."""
        for channel in list(self._channels.values()):
            self._expire(channel, now)

    # What is remembered of lines and channels

    def _channel(self, name: Hashable) -> _Channel[T]:
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = _Channel(name, self._is_ordered(name))
        return channel

    def _seat(self, line: int, channel: _Channel[T], now: float) -> _Seat[T]:
        seat = channel.seats.get(line)
        if seat is None:
            self._last_new.setdefault(line, -math.inf)
            seat = channel.seats[line] = _Seat(line, now)
        return seat

    def _seats_of(self, line: int) -> Iterator[tuple[_Channel[T], _Seat[T]]]:
        return ((each, each.seats[line]) for each in self._channels.values() if line in each.seats)

    def _is_over(self, seat: _Seat[T], share: float) -> bool:
        return len(seat.held) > share * self._limits.messages or seat.held.size > share * self._limits.bytes

    # Copies and evidence

    def _copied(self, seat: _Seat[T], channel: _Channel[T], key: Hashable, now: float) -> Delivery | None:
        """Return the delivery that a message is a copy of; None: it is none.

        A unique one is, if the line owes it; or if the line is not joined, where another line brings it in doubt; or
        shortly after the line took over or last brought such a copy. Of equal messages that repeat only those are, on
        a joined line, that the line owes.
        """
        same = self._memory.find(channel.name, key)
        if not same or key is INCOMPARABLE:
            return None
        if len(same) == 1:
            (only,) = same
            if seat.line in only.lines:
                return None
            is_copy = only.number in seat.owed or not seat.is_joined or now <= seat.replay_until
            return only if is_copy else None
        if not seat.is_joined:
            # It was no evidence, since an equal message followed.
            seat.firsts = [first for first in seat.firsts if first[1].key != key]
            return None
        return next((each for each in same if each.number in seat.owed), None)

    def _came(self, channel: _Channel[T], seat: _Seat[T], delivery: Delivery, arrival: int, now: float) -> None:
        """A delivered message has come on this line too."""
        delivery.lines.add(seat.line)
        _, since = seat.owed.pop(delivery.number, (None, None))
        is_unique = self._memory.is_unique(delivery)
        if since is None:
            seat.replay_until = max(seat.replay_until, now + self.reach)
        elif is_unique:
            self._lag = max(self._lag, now - since)
        if is_unique and seat.state is not SeatState.EARLY and arrival > seat.first_evident:
            if len(seat.firsts) < _MOST_FIRSTS:
                seat.firsts.append((arrival, delivery))
            if seat.newest is None or delivery.number > seat.newest.number:
                seat.newest, seat.newest_arrival = delivery, arrival
        if delivery.number in seat.waiting:
            seat.waiting.discard(delivery.number)
            if not seat.waiting:
                self._release(channel, seat, now)

    def _first(self, seat: _Seat[T]) -> int:
        """Return when the first copy came that is evidence; -1: there is none."""
        return next((arrival for arrival, each in seat.firsts if self._memory.is_unique(each)), -1)

    # What depends on time

    def _expire(self, channel: _Channel[T], now: float) -> None:
        for seat in list(channel.seats.values()):
            self._expire_owed(channel, seat, now)
            if seat.delivers and seat.held:
                self._release(channel, seat, now)
            if seat.line in self._reserved:
                seat.is_ready = seat.is_ready or self._has_agreed(seat, now)
                continue
            if seat.state is SeatState.HELD and any(each.delivers for each in channel.joined()):
                self._judge(channel, seat, now)
        for seat in list(channel.seats.values()):
            if seat.line not in self._reserved and self._leads(channel, seat, now - self.reach):
                since = now - self.reach / 2
                mute = [each for each, other in self._seats_of(seat.line) if self._leads(each, other, since)]
                self._give_up(mute, seat.line, now)

    def _expire_owed(self, channel: _Channel[T], seat: _Seat[T], now: float) -> None:
        """What is owed for too long, or was passed by more than ``settle``, does not come any more."""
        is_late = is_stuck = False
        passed = seat.newest.time - self._limits.settle if seat.newest is not None else -math.inf
        for number, (delivery, since) in list(seat.owed.items()):
            if since >= now - self.reach and delivery.time >= passed:
                break
            del seat.owed[number]
            seat.waiting.discard(number)
            if self._memory.is_unique(delivery):
                seat.clean, is_late, seat.is_ready = delivery.time, True, False
                is_stuck = is_stuck or delivery.time >= passed
        if is_late and seat.is_joined:
            if any(other is not seat and other.delivers for other in channel.joined()):
                self._lose(channel, seat, "behind")
            elif is_stuck and seat.held:
                self._give_up(self._stuck_with(channel, seat.line), seat.line, now)

    def _judge(self, channel: _Channel[T], seat: _Seat[T], now: float) -> None:
        """Join a line that has agreed for ``settle`` seconds."""
        if self._has_agreed(seat, now):
            self._join(channel, seat, now)
        elif seat.newest is None and seat.is_asked and now - seat.since > self._limits.farthest:
            self._reject(channel, seat)

    def _has_agreed(self, seat: _Seat[T], now: float) -> bool:
        settle = self._limits.settle
        if seat.state is not SeatState.HELD:
            return seat.is_joined
        if seat.newest is not None:
            is_plausible = seat.newest.time > seat.clean
        else:
            is_plausible = not seat.is_asked and seat.held.last_time < now - settle
        debts = (since for delivery, since in seat.owed.values() if self._memory.is_unique(delivery))
        return is_plausible and next(debts, now) - seat.clean >= settle

    def _may_follow(self, seat: _Seat[T], ended: float) -> bool:
        """Whether a line was subscribed when the other ended, and owes it nothing old."""
        if seat.state is not SeatState.HELD or seat.since > ended:
            return False
        debts = (since for delivery, since in seat.owed.values() if self._memory.is_unique(delivery))
        return seat.newest is not None or next(debts, ended) > ended - self._limits.settle

    def _has_evidence(self, line: int) -> bool:
        return any(seat.newest is not None for _, seat in self._seats_of(line))

    def _is_beside(self, channel: _Channel[T], seat: _Seat[T]) -> bool:
        """Whether messages of no channel have no copies while those of channels have: they are answers, mostly."""
        return not channel.is_ordered and seat.newest is None and self._has_evidence(seat.line)

    def _is_mute(self, line: int, now: float) -> bool:
        """Whether the line that has ended delivered nothing, while the reserved line has long held messages."""
        seats = [seat for _, seat in self._seats_of(line)]
        has_delivered = any(seat.newest is not None or seat.owed for seat in seats)
        return not has_delivered and any(seat.held.first_time < now - self._limits.settle for seat in seats)

    def _leads(self, channel: _Channel[T], seat: _Seat[T], since: float) -> bool:
        """Whether a line holds something new since ``since``, and no joined line has brought anything new after it."""
        if seat.is_joined or not seat.held or channel.last_new > since or not channel.joined():
            return False
        first = self._first(seat)
        new = (
            each.time
            for arrival, each in seat.held.items()
            if arrival > first and seat.held.count(each.key) == 1 and not self._memory.find(channel.name, each.key)
        )
        return channel.last_new < next(new, channel.last_new) < since

    # Who delivers

    def _join(self, channel: _Channel[T], seat: _Seat[T], now: float) -> None:
        """From here on what comes first on this line is delivered."""
        seat.enter(SeatState.JOINED)
        seat.replay_until = now + self.reach
        # Equal messages that were delivered before its newest copy leave no credit.
        edge = seat.newest.number if seat.newest is not None else -1
        for number, (delivery, _) in list(seat.owed.items()):
            if number < edge and not self._memory.is_unique(delivery):
                del seat.owed[number]
        self.out.append(Joined(seat.line, channel.name))
        self._release(channel, seat, now)

    def _lose(self, channel: _Channel[T], seat: _Seat[T], reason: str) -> None:
        seat.enter(SeatState.HELD)
        seat.is_overlapped = seat.is_asked = True
        seat.firsts = []
        seat.waiting.clear()
        self.out.append(Lost(seat.line, channel.name, reason))

    def _reject(self, channel: _Channel[T], seat: _Seat[T]) -> None:
        if seat.is_joined:
            self._lose(channel, seat, "behind")
        if seat.state is SeatState.HELD:
            seat.enter(SeatState.REJECTED)
            seat.held = _Holding()
            self.out.append(Reopen(seat.line))

    def _release(self, channel: _Channel[T], seat: _Seat[T], now: float) -> None:
        """Deliver what was held, but for copies, what is older, and equal messages before the newest copy."""
        held, seat.held = seat.held, _Holding()
        first = self._first(seat) if seat.is_overlapped else -1
        for arrival, message in held.items():
            is_repeated = held.count(message.key) > 1 or len(self._memory.find(channel.name, message.key)) > 1
            if is_repeated and arrival < seat.newest_arrival:
                self.copies += 1
            elif (delivery := self._copied(seat, channel, message.key, now)) is not None:
                self.copies += 1
                self._came(channel, seat, delivery, arrival, now)
            elif arrival < first and channel.is_ordered:
                self.older += 1
            else:
                self.uncopied += arrival < first
                self._deliver(channel, seat, message.key, message.item, message.size, now)
        seat.is_overlapped, seat.firsts, seat.is_trusted = False, [], True

    def _take_over(self, channel: _Channel[T], seat: _Seat[T], now: float, *, is_last: bool = False) -> None:
        """Deliver behind a gap. A line of which nothing has agreed, though there was something, is opened anew."""
        is_strange = seat.is_asked and not seat.is_trusted and seat.newest is None
        if is_strange and not is_last and seat.held.first_time < now - self._limits.settle:
            self._reject(channel, seat)
            return
        self._gap(channel, now)
        seat.enter(SeatState.JOINED)
        seat.replay_until = now + self.reach
        seat.owed.clear()
        seat.waiting.clear()
        # The lines that are not joined must agree with this one from the beginning.
        for other in channel.seats.values():
            if not other.is_joined:
                other.is_overlapped, other.clean, other.firsts = True, now, []
        self._release(channel, seat, now)

    def _give_up(self, channels: Iterable[_Channel[T]], line: int, now: float) -> None:
        """Give up the lines that are joined in these channels: behind one gap for all ``line`` delivers."""
        channels = list(channels)
        for channel in channels:
            for other in channel.joined():
                channel.intact = max(channel.intact, channel.last_new)
                if other.line != line:
                    self._lose(channel, other, "mute")
                else:
                    other.enter(SeatState.HELD)
        for channel in channels:
            self._take_over(channel, channel.seats[line], now)

    def _stuck_with(self, channel: _Channel[T], line: int) -> list[_Channel[T]]:
        return [each for each, seat in self._seats_of(line) if each is channel or seat.waiting or not each.joined()]

    def _gap(self, channel: _Channel[T], now: float) -> None:
        """Report one gap for all channels without a joined line. A channel is reported once until it delivers again."""
        if channel.is_untold or now - channel.told_early > self._limits.settle:
            others = (each for each in self._channels.values() if each.is_untold and not each.joined())
            told = {id(each): each for each in (channel, *others)}.values()
            start = min(each.intact for each in told)
            self.out.append(GapFound(start, now, tuple(each.name for each in told)))
            for each in told:
                each.is_untold, each.told_early = False, math.inf if each.seats else now
        channel.told_early = math.inf

    def _deliver(self, channel: _Channel[T], seat: _Seat[T], key: Hashable, item: T, size: int, now: float) -> None:
        if key is INCOMPARABLE:
            channel.last_new = self._last_new[seat.line] = now
            channel.is_untold = True
            self.out.append((item,))
            return
        delivery, forgotten = self._memory.add(seat.line, channel.name, key, size, now)
        channel.last_new = self._last_new[seat.line] = now
        channel.is_untold = True
        self.out.append((item,))
        is_unique = self._memory.is_unique(delivery)
        for other in channel.seats.values():
            if other is seat:
                continue
            other.owed[delivery.number] = delivery, now
            other.is_asked = other.is_asked or (is_unique and other.state is not SeatState.EARLY)
            if (is_unique or other.is_joined) and (arrival := other.held.take(key)) is not None:
                self.copies += 1
                self._came(channel, other, delivery, arrival, now)
        for old in forgotten:
            self._forget(old)

    def _forget(self, old: Delivery) -> None:
        """A line that owes what is forgotten cannot be compared any more."""
        channel = self._channels.get(old.channel)
        was_unique = not self._memory.find(old.channel, old.key)
        for seat in list(channel.seats.values()) if channel is not None else ():
            is_owed = seat.owed.pop(old.number, None) is not None
            if channel is not None and is_owed and was_unique and any(other is not seat for other in channel.joined()):
                self._reject(channel, seat)
