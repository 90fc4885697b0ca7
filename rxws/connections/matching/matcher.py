"""The rules that join lines into one ordered sequence per channel. Pure.

A *line* is one connection. A *channel* is a sequence whose order is the same on every line. Two lines are joined in a
channel when they are seen to agree: a message of one is identified as a message of the other. A message that both
bring is delivered once, from the line that brings it first.

Evidence
    Only a message that is unique among those that are remembered proves anything. Messages that a line brings in a
    channel before it has acknowledged the channel prove nothing.

Joining
    A line that is not joined in a channel holds its messages of that channel. It joins when for ``settle`` seconds
    everything that was delivered has come on it too, or when for ``settle`` seconds nothing was delivered and the line
    has brought nothing. Messages that it held before its first copy are older than what was delivered, and are dropped.

Staying joined
    A joined line owes the messages that the other lines deliver, for ``reach`` seconds. If a unique message has not
    come by then, the line is no longer joined. Equal messages that repeat (heartbeats) prove nothing: each delivery
    leaves one credit on every other joined line, and an equal message on such a line uses up one credit.

The end of a line
    A joined line that still owes messages of the ended line holds its own messages until those have come, or until
    ``reach`` seconds have passed: then a gap stands before the held messages. If no joined line is left, another line
    takes over behind a gap.

A rotation is the failover to a line that begins before the other line ends. Resuming is the failover to a line that
begins after the end of the last joined line, where the server sends again what was missed: the line holds its messages
until a proof shows that it begins where the other line stopped (see ``Proof``). If none does within ``settle`` seconds
of the acknowledgement, or of the last copy, a gap stands before the held messages.

The rules are those of A/B line arbitration in market data feeds, with identities in place of sequence numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Final, Generic, TypeVar

from .evidence import Evidence
from .memory import Delivery, Memory
from .outcomes import INCOMPARABLE, GapFound, Joined, Limits, Lost, Outcome, Reopen, Resumed
from .replay import Proof, Replay
from .seats import Channel, HeldMessage, Holding, Seat, SeatState

__all__ = ["Matcher"]

T = TypeVar("T")

_DEFAULTS: Final = Limits()
#: How many first copies are kept as evidence: an equal message may follow the first of them.
_MOST_FIRST_COPIES: Final = 8


class Matcher(Generic[T]):
    """Joins lines channel by channel.

    All times are seconds on one monotonic clock. Each method appends its results to ``out``, in order: items to be
    delivered, and outcomes. The caller takes them from there.

    Attributes:
        out: the results: ``(item,)`` for an item to be delivered, or an outcome.
        older: how many held messages were dropped because they were older than what was delivered.
        uncopied: how many held messages of unordered channels were delivered although they stood before the first copy.
        copies: how many messages were copies.
        held: how many messages were held.
        dropped: how many messages were dropped that no other line brings, because too many were held.

    Args:
        limits: the limits.
        proof: what proves that a line resumes; None: the server does not send again what was missed.
        is_ordered: returns whether a channel has one order on every line, so that messages before the first copy are
            older. In an unordered channel such messages are delivered, and counted.

    Example::

        matcher = Matcher[str]()
        matcher.begin(1, ["trades"], now=0.0)
        matcher.acknowledged(2, "trades", now=0.1)
        matcher.arrived(1, "trades", "a", "message a", 9, now=0.2)
        matcher.arrived(2, "trades", "a", "message a", 9, now=0.3)
        assert matcher.out == [("message a",)]
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
        self.held = 0
        self.dropped = 0
        self._limits: Final = limits
        self._is_ordered: Final = is_ordered
        self._proof: Final = proof
        self._replays: dict[int, Replay] = {}
        self._lag = 0.0
        self._least_reach = limits.reach
        # The lines that hold, until the line that they replace has ended, what it delivers.
        self._reserved: set[int] = set()
        self._channels: dict[Hashable, Channel[T]] = {}
        # When each line last brought something new.
        self._last_new: dict[int, float] = {}
        self._memory: Final = Memory(limits.messages, limits.bytes, limits.tail)
        self._evidence: Final[Evidence[T]] = Evidence(limits, self._memory)

    @property
    def reach(self) -> float:
        """Seconds that a joined line may be behind: four times the largest lag of a copy, within two limits."""
        return min(max(self._least_reach, 4 * self._lag), self._limits.farthest)

    def agrees(self, line: int, now: float) -> bool:
        """Return whether a reserved line has brought what the others did, and differs from them in no channel."""
        return self._has_copies(line) and all(self._agrees_in(each, line, now) for each in self._channels.values())

    def is_joined(self, line: int) -> bool:
        """Return whether a line is joined in all channels."""
        return all(line in each.seats and each.seats[line].is_joined for each in self._channels.values() if each.seats)

    def is_full(self, line: int) -> bool:
        """Return whether a line holds nearly as much as it may."""
        return any(self._evidence.is_over(seat, 0.9) for _, seat in self._seats_of(line))

    def owner(self, name: Hashable) -> int | None:
        """Return the line from which a channel was delivered first, or behind the last gap; None: from no line yet."""
        channel = self._channels.get(name)
        return None if channel is None else channel.owner

    @property
    def is_holding(self) -> bool:
        """Whether any line holds messages."""
        return any(seat.held for seat in self._seats())

    def is_settled(self, now: float) -> bool:
        """Return whether no later message can be a copy or be held: every line is joined and owes nothing.

        A channel without any line keeps the matcher unsettled for ``reach`` seconds after its last message.
        """
        seats = list(self._seats())
        if not all(seat.is_joined and not seat.owed and not seat.held for seat in seats):
            return False
        if not all(each.seats or each.last_new < now - self.reach for each in self._channels.values()):
            return False
        lines = {seat.line for seat in seats}
        return all(seat.replay_until < now for seat in seats) or not any(
            lines - each.lines and self._memory.is_unique(each) for each in self._memory
        )

    # What happens to the lines

    def begin(self, line: int, channels: Iterable[Hashable], now: float, last_new: float = -math.inf) -> None:
        """Join a line that delivers already in these channels, without a gap.

        Args:
            line: the line.
            channels: its channels.
            now: the time.
            last_new: when the line last delivered a message.
        """
        self._last_new.setdefault(line, last_new)
        for name in channels:
            channel = self._channel(name)
            seat = self._seat(line, channel, now)
            seat.enter(SeatState.JOINED)
            seat.was_joined, channel.owner = True, line
            channel.has_delivered, channel.complete_until = True, max(last_new, 0.0)

    def reserve(self, line: int) -> None:
        """Hold the messages of this line until the line that it is to replace has ended: see :meth:`replace`.

        It delivers only the channels that no other line has.
        """
        self._reserved.add(line)

    def acknowledged(self, line: int, name: Hashable, now: float) -> None:
        """Note that the subscription of a channel is in effect on a line.

        The line delivers if no line is joined. In a rotation, the line that brings a new channel's first message does.
        """
        channel = self._channel(name)
        seat = self._seat(line, channel, now)
        self._replays.setdefault(line, Replay()).progress = now
        if seat.state is not SeatState.EARLY:
            return
        seat.enter(SeatState.HELD)
        seat.since = seat.complete_since = now
        seat.replay_until = now + self.reach
        seat.early_arrivals = seat.arrivals
        seat.is_overlapped = bool(channel.joined())
        is_due = channel.has_delivered or seat.held or not self._reserved
        if is_due and not (seat.is_overlapped or channel.orphaned_at is not None or self._resumes(channel)):
            self._take_over(channel, seat, now, is_last=line in self._reserved)

    def stated(self, line: int, now: float, *, is_resumed: bool, name: Hashable = ..., are_older: bool = False) -> None:
        """Note that the server states, or that a number shows, whether a line resumes where the last line stopped.

        Args:
            line: the line.
            now: the time.
            is_resumed: whether nothing is missing.
            name: the channel; by default all channels.
            are_older: whether the held messages of these channels are older than what was delivered.
        """
        channels = [each for each, _ in self._seats_of(line) if self._resumes(each) and name in (..., each.name)]
        for channel in channels if are_older else ():
            self._drop_held(channel.seats[line])
        if is_resumed:
            self._resume(channels, line, now)
        else:
            self._give_up(channels, line, now)

    def unsubscribed(self, line: int, name: Hashable) -> None:
        """Note that a channel is no longer subscribed on a line."""
        channel = self._channels.get(name)
        if channel is not None:
            channel.seats.pop(line, None)
            if not channel.seats:
                del self._channels[name]
            # Its end is wanted, so what is missing afterwards is no loss.
            channel.is_wanted = channel.has_delivered = False

    def arrived(self, line: int, name: Hashable, key: Hashable, item: T, size: int, now: float) -> None:
        """Take a message: a copy is dropped; a joined line delivers what is new; any other line holds it.

        Args:
            line: the line that brought the message.
            name: its channel.
            key: its identity, or INCOMPARABLE.
            item: the item to deliver.
            size: its bytes.
            now: the time.
        """
        channel = self._channel(name)
        seat = self._seat(line, channel, now)
        seat.arrivals += 1
        if (delivery := self._evidence.copied(seat, channel, key, now)) is not None:
            self._came(channel, seat, delivery, seat.arrivals, now)
            if seat.state is SeatState.EARLY and channel.is_ordered:
                # Its acknowledgement may never come.
                self.acknowledged(line, name, now)
        elif seat.delivers:
            self._deliver(channel, seat, key, item, size, now)
        elif seat.state is not SeatState.REJECTED:
            self._hold(channel, seat, HeldMessage(key, item, size, now), now)

    def ended(self, line: int, now: float) -> None:
        """Note the end of a line. Its held messages are dropped, because a gap or another line covers them."""
        last_new = self._last_new.pop(line, -math.inf)
        self._replays.pop(line, None)
        self._reserved.discard(line)
        broken = []
        for channel in self._channels.values():
            seat = channel.seats.pop(line, None)
            if seat is None or not seat.is_joined:
                continue
            channel.complete_until = max(channel.complete_until, last_new)
            joined = channel.joined()
            for other in joined:
                self._await_owed(other)
            if not joined:
                broken.append(channel)
        for channel in broken:
            if self._reserved:
                channel.orphaned_at = now
                continue
            if self._resumes(channel):
                continue
            heirs = [seat for seat in channel.seats.values() if seat.held.last_time > now - self._limits.settle]
            if heirs:
                self._take_over(channel, max(heirs, key=lambda seat: (bool(seat.first_copies), -seat.since)), now)

    def interrupted(self, line: int, now: float) -> bool:
        """Note that messages are missing on a line: it must agree again. Return whether it delivers in any channel."""
        seats = list(self._seats_of(line))
        for channel, seat in seats:
            if seat.state is SeatState.HELD:
                del channel.seats[line]
                self.acknowledged(line, channel.name, now)
        return any(seat.is_joined for _, seat in seats)

    def finish(self, now: float) -> None:
        """Report a gap for the channels that were delivered and that no line has: call this before the end."""
        for channel in list(self._channels.values()):
            if channel.has_delivered and not channel.joined():
                self._gap(channel, now)

    def replace(self, line: int, now: float, *, is_complete: bool) -> None:
        """Let the reserved line replace the line that has ended, in all channels.

        The reserved line follows without a gap in the channels where it agrees.

        Args:
            line: the reserved line.
            now: the time.
            is_complete: the ended line was read to its own end. Then the reserved line also follows if something has
                agreed, or if nothing had to agree; messages that it still owes are waited for.
        """
        # The rules that depend on time were last applied when it was decided to close the line that has ended.
        self.tick(now)
        self._reserved.discard(line)
        seats = list(self._seats_of(line))
        if self._was_mute(line, now):
            is_complete = False
        broken = [each for each in seats if not self._follows(*each, is_complete=is_complete)]
        if not broken:
            # The lag of the line is known, so owed messages need not be waited for longer than that.
            self._least_reach = self._limits.settle
        for channel, seat in broken:
            self._take_over(channel, seat, now, is_last=True)
        for each in self._channels.values():
            each.orphaned_at = None
        for channel, seat in seats:
            if (channel, seat) not in broken and not seat.is_joined:
                self._await_owed(seat)
                self._join(channel, seat, now)

    def stood_still(self, now: float) -> None:
        """Note that the loop stood still until now: the silence before proves nothing."""
        for seat in self._seats():
            if seat.newest_copy is None:
                seat.complete_since = max(seat.complete_since, now)

    def tick(self, now: float) -> None:
        """Apply the rules that depend on time. Call this every few hundredths of a second."""
        for channel in list(self._channels.values()):
            self._expire(channel, now)
        for line, replay in list(self._replays.items()):
            if now - replay.progress >= self._limits.settle:
                self._give_up(self._unproven(line), line, now)

    # Resuming

    def _resumes(self, channel: Channel[T]) -> bool:
        """Return whether a line must show in a channel that it begins where the last joined line stopped."""
        return self._proof is not None and channel.last_new > -math.inf and not channel.joined()

    def _unproven(self, line: int) -> list[Channel[T]]:
        """Return the channels in which a line holds messages without a proof. A number may prove at any time."""
        return [
            channel
            for channel, seat in self._seats_of(line)
            if seat.state is SeatState.HELD
            and self._resumes(channel)
            and (seat.held or self._proof is not Proof.NUMBERS)
        ]

    def _resume(self, channels: list[Channel[T]], line: int, now: float) -> None:
        """Let a line follow without a gap. It owes what was delivered after its newest copy: only equal messages."""
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
        """Note that a line without a proof has brought a unique message again."""
        replay = self._replays.setdefault(line, Replay())
        replay.progress = now
        is_complete = replay.came(line, copy, self._memory)
        if replay.begins_with(self._memory.oldest):
            for _, seat in self._seats_of(line):
                self._drop_held(seat)
        if is_complete and self._proof is Proof.COPIES:
            self._resume([each for each, _ in self._seats_of(line) if self._resumes(each)], line, now)

    def _drop_held(self, seat: Seat[T]) -> None:
        """Drop held messages that are older than what was delivered."""
        self.older += len(seat.held)
        seat.held = Holding()

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

    # Agreement

    def _has_copies(self, line: int) -> bool:
        return any(seat.newest_copy is not None for _, seat in self._seats_of(line))

    def _was_mute(self, line: int, now: float) -> bool:
        """Return whether nothing was delivered while a line held messages that it alone had brought."""
        seats = [seat for _, seat in self._seats_of(line)]
        has_delivered = any(seat.newest_copy is not None or seat.owed for seat in seats)
        return not has_delivered and any(seat.ahead_since < now - self._limits.settle for seat in seats)

    def _agrees_in(self, channel: Channel[T], line: int, now: float) -> bool:
        if not channel.joined():
            return True
        seat = channel.seats.get(line)
        if seat is None:
            return False
        return seat.is_ready or self._is_aside(channel, seat) or self._evidence.has_agreed(seat, now)

    def _is_aside(self, channel: Channel[T], seat: Seat[T]) -> bool:
        """Return whether a line shows in a channel what it brings, so that its messages of no channel prove nothing.

        They are mostly answers: those to one line do not come on another.
        """
        if channel.is_ordered:
            return False
        return any(other.newest_copy is not None for each, other in self._seats_of(seat.line) if each.is_ordered)

    def _follows(self, channel: Channel[T], seat: Seat[T], *, is_complete: bool) -> bool:
        """Return whether the reserved line replaces the ended line without a gap."""
        ended = channel.orphaned_at
        if self._is_aside(channel, seat):
            if seat.newest_copy is None:
                seat.owed.clear()
            return True
        if ended is None or seat.is_ready or self._evidence.has_agreed(seat, ended):
            return True
        return is_complete and self._evidence.may_follow(seat, ended)

    def _await_owed(self, seat: Seat[T]) -> None:
        """Hold messages until everything unique that is owed has come."""
        seat.awaited.update(each.number for each in self._evidence.unique_owed(seat))

    def _came(self, channel: Channel[T], seat: Seat[T], delivery: Delivery, arrival: int, now: float) -> None:
        """Note that a delivered message has come on this line too."""
        self.copies += 1
        delivery.lines.add(seat.line)
        was_owed = seat.owed.pop(delivery.number, None) is not None
        is_unique = self._memory.is_unique(delivery)
        if is_unique and (was_owed or seat.line in self._reserved):
            self._lag = max(self._lag, now - delivery.time)
        if not was_owed:
            seat.replay_until = max(seat.replay_until, now + self.reach)
        if is_unique and channel.is_ordered and not seat.has_copies:
            self._begin_with(seat, delivery)
        if is_unique and (seat.state is SeatState.EARLY or arrival <= seat.early_arrivals):
            seat.early_copy = arrival if seat.early_copy < 0 else min(arrival, seat.early_copy)
        elif is_unique:
            if len(seat.first_copies) < _MOST_FIRST_COPIES:
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
        """Owe nothing that was delivered before the first copy: it came before the line had the channel."""
        for delivery in list(self._evidence.unique_owed(seat)):
            if delivery.number < first.number:
                del seat.owed[delivery.number]
                seat.complete_since = max(seat.complete_since, delivery.time)

    # Time

    def _expire(self, channel: Channel[T], now: float) -> None:
        for seat in list(channel.seats.values()):
            self._expire_owed(channel, seat, now)
            if seat.delivers and seat.held:
                self._release(channel, seat, now)
            if channel.joined():
                seat.ahead_since = self._evidence.ahead_since(channel, seat)
            if seat.line in self._reserved:
                was_ready = seat.is_ready and seat.newest_copy is not None
                seat.is_ready = was_ready or self._evidence.has_agreed(seat, now)
            elif seat.state is SeatState.HELD and any(each.delivers for each in channel.joined()):
                self._judge(channel, seat, now)
        for seat in list(channel.seats.values()):
            if seat.line not in self._reserved and self._evidence.leads(channel, seat, now - self.reach):
                since = now - self.reach / 2
                silent = [each for each, other in self._seats_of(seat.line) if self._evidence.leads(each, other, since)]
                self._give_up(silent, seat.line, now)

    def _expire_owed(self, channel: Channel[T], seat: Seat[T], now: float) -> None:
        """Give up owed messages that are late, or that a copy has overtaken by more than ``settle``."""
        delivers = any(other is not seat and other.delivers for other in channel.joined())
        if seat.awaited and not seat.held and not delivers:
            # Until the line brings something, nothing shows whether the awaited messages are late or missing.
            return
        is_late = is_stuck = False
        overtaken = seat.newest_copy.time - self._limits.settle if seat.newest_copy is not None else -math.inf
        for number, delivery in list(seat.owed.items()):
            if delivery.time >= max(now - self.reach, overtaken):
                break
            del seat.owed[number]
            seat.awaited.discard(number)
            if self._memory.is_unique(delivery):
                seat.complete_since, is_late, seat.is_ready = delivery.time, True, False
                is_stuck = is_stuck or delivery.time >= overtaken
        if is_late and seat.is_joined and not self._is_aside(channel, seat):
            if delivers:
                self._lose(channel, seat, "behind")
            elif is_stuck and seat.held:
                self._give_up(self._stuck_with(channel, seat.line), seat.line, now)

    def _judge(self, channel: Channel[T], seat: Seat[T], now: float) -> None:
        """Join a line that has agreed; reject a line that never agrees."""
        if self._evidence.has_agreed(seat, now):
            self._join(channel, seat, now)
        elif seat.newest_copy is None and seat.could_agree and now - seat.since > self._limits.farthest:
            self._reject(channel, seat)

    # Who delivers

    def _join(self, channel: Channel[T], seat: Seat[T], now: float) -> None:
        """Deliver from now on the messages that come first on this line."""
        seat.enter(SeatState.JOINED)
        seat.replay_until = now + self.reach
        # Equal messages that were delivered before its newest copy leave no credit.
        edge = seat.newest_copy.number if seat.newest_copy is not None else -1
        for number, delivery in list(seat.owed.items()):
            if number < edge and not self._memory.is_unique(delivery):
                del seat.owed[number]
        self.out.append(Joined(seat.line, channel.name))
        self._release(channel, seat, now)

    def _lose(self, channel: Channel[T], seat: Seat[T], reason: str) -> None:
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
        """Deliver behind a gap. A line that could have agreed and never did is rejected, except if it is the last."""
        never_agreed = seat.could_agree and not seat.was_joined and seat.newest_copy is None
        if never_agreed and not is_last and seat.held.first_time < now - self._limits.settle:
            self._reject(channel, seat)
            return
        self._gap(channel, now)
        channel.owner = seat.line
        seat.enter(SeatState.JOINED)
        seat.replay_until = now + self.reach
        seat.owed.clear()
        seat.awaited.clear()
        # The lines that are not joined must agree with this line from the beginning.
        for other in channel.seats.values():
            if not other.is_joined:
                other.is_overlapped, other.complete_since = True, now
                other.first_copies, other.early_copy = [], -1
        self._release(channel, seat, now)

    def _give_up(self, channels: Iterable[Channel[T]], line: int, now: float) -> None:
        """Give up the lines that are joined in these channels: ``line`` delivers behind one gap for all channels."""
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
        """Report one gap for all channels without a joined line; a channel is named once until it delivers again."""
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
        self.held += 1
        seat.held.add(seat.arrivals, message)
        if not seat.is_joined and self._memory.find(channel.name, message.key):
            # This equal message followed the copy, so the copy was no evidence.
            seat.first_copies = [each for each in seat.first_copies if each[1].key != message.key]
        is_reserved = seat.line in self._reserved
        if is_reserved and (channel.joined() or channel.orphaned_at is not None or seat.state is SeatState.EARLY):
            self._shed(channel, seat, now)
        elif self._resumes(channel):
            if self._evidence.is_over(seat):
                self._give_up(self._unproven(seat.line) or [channel], seat.line, now)
        elif not channel.joined():
            # A reserved line, too, delivers a channel that no other line has.
            self._take_over(channel, seat, now, is_last=is_reserved)
        elif self._evidence.is_over(seat):
            if seat.awaited:
                self._give_up(self._stuck_with(channel, seat.line), seat.line, now)
            else:
                seat.held.drop_oldest()

    def _shed(self, channel: Channel[T], seat: Seat[T], now: float) -> None:
        """Drop messages that came long before the acknowledgement, which is late where sending is limited."""
        is_alone = not channel.joined()
        oldest = -math.inf if is_alone else now - 2 * self._limits.settle
        while seat.state is SeatState.EARLY and (seat.held.first_time < oldest or self._evidence.is_over(seat)):
            seat.held.drop_oldest()
            self.dropped += is_alone

    def _release(self, channel: Channel[T], seat: Seat[T], now: float) -> None:
        """Deliver held messages, except copies, older messages, and equal messages before the newest copy."""
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
            other.owed[delivery.number] = delivery
            other.could_agree = other.could_agree or (is_unique and other.state is not SeatState.EARLY)
            if (is_unique or other.is_joined) and (arrival := other.held.take(key)) is not None:
                self._came(channel, other, delivery, arrival, now)
        for old in forgotten:
            self._forget(old, now)

    def _forget(self, old: Delivery, now: float) -> None:
        """Reject a line that owes a forgotten delivery, or let it follow behind a gap if no other line is joined."""
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
                # Whether the line brings it cannot be seen any more.
                self._give_up(self._stuck_with(channel, seat.line), seat.line, now)
