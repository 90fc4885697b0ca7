"""The rules that join lines into one ordered sequence per channel. No I/O.

A *line* is one connection. A *channel* is a sequence of messages whose order is the same on every line. A message that
has the same identity as a delivered message of another line is a *copy*. It is dropped, so a message that arrives on
several lines is delivered once, from the line on which it arrives first. A line *owes* a message that another line has
delivered, until the copy arrives. Lines that are seen to agree in a channel are *joined*: they all deliver.

Evidence
    Only messages whose identity is unique among the remembered deliveries are evidence. The messages of a channel that
    arrive on a line before the channel is acknowledged there are not evidence.

Joining
    A line that is not joined in a channel holds its messages of that channel. It joins after ``settle`` seconds in
    which copies of all delivered messages arrived, or in which no message was delivered and none arrived on the line.
    Messages that it held before its first copy are older than the delivered ones, and are dropped.

Staying joined
    A joined line that has owed a unique message for ``reach`` seconds is no longer joined. Repeated equal messages
    (heartbeats) are not evidence. They are only counted: each delivery leaves one credit on every other joined line,
    and an equal message on that line uses up one credit.

The end of a line
    A joined line that still owes messages of the ended line holds its own messages until those arrive. If they have not
    arrived after ``reach`` seconds, it reports a gap and delivers the held messages. If no joined line is left, another
    line reports a gap and takes over.

A rotation is the failover to a line that begins before the other line ends. Resuming is the failover to a line that
begins after the last joined line has ended, if the server sends the missed messages again. The line holds its messages
until there is a proof that it begins where the other line stopped (see ``Proof``). Without a proof within ``settle``
seconds of the acknowledgement, or of the last copy, it reports a gap and delivers the held messages.

The rules are those of A/B line arbitration in market data feeds, with identities in place of sequence numbers.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from typing import TypeVar

from .bypass import Bypass
from .outcomes import INCOMPARABLE
from .replacement import Replacement
from .replay import Replay
from .seats import Channel, HeldMessage, Seat, SeatState

__all__ = ["Matcher"]

T = TypeVar("T")


class Matcher(Replacement[T], Bypass[T]):
    """Joins lines channel by channel.

    All times are seconds on one monotonic clock. Each method appends its results to ``out``, in order: items to be
    delivered, and outcomes. The caller takes them from there.

    Attributes:
        out: the results: ``(item,)`` for an item to be delivered, or an outcome.
        older: the number of held messages that were dropped because they were older than the delivered ones.
        uncopied: the number of held messages of unordered channels that were delivered although a copy followed them.
        copies: the number of copies.
        dropped: the number of messages that were dropped because a line held too many, although no other line has them.
        lags: the seconds by which the newest copies on each line lagged behind the line on which they arrived first.

    Args:
        limits: the limits.
        proof: the proof that a line resumes; None if the server does not send missed messages again.
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

    def agrees(self, line: int, now: float) -> bool:
        """Return whether a reserved line has copies in any channel, and agrees in every channel."""
        has_copies = any(seat.newest_copy is not None or seat.is_joined for _, seat in self._seats_of(line))
        return has_copies and all(self._agrees_in(each, line, now) for each in self._channels.values())

    def is_joined(self, line: int) -> bool:
        """Return whether a line is joined in all channels. May be called from any thread."""
        seats = [each.seats.get(line) for each in list(self._channels.values()) if each.seats]
        return all(seat is not None and seat.is_joined for seat in seats)

    def is_full(self, line: int) -> bool:
        """Return whether a line has nearly reached the limit of held messages."""
        return any(self._evidence.is_over(seat, 0.9) for _, seat in self._seats_of(line))

    def owner(self, name: Hashable) -> int | None:
        """Return the line that delivered a channel's first message, or the first after its last gap; None if none."""
        channel = self._channels.get(name)
        return None if channel is None else channel.owner

    def first_joined(self, name: Hashable) -> int | None:
        """Return the line that is joined in a channel and was acknowledged there first; None if none is joined."""
        channel = self._channels.get(name)
        return None if channel is None else next((each.line for each in channel.joined()), None)

    @property
    def remembered(self) -> int:
        """The number of identities that are remembered."""
        return len(self._memory)

    def channel_by_identity(self) -> dict[Hashable, Hashable]:
        """Return the channels of all remembered and held messages, by their identities."""
        held = {each.key: name for name, channel in self._channels.items() for each in channel.held()}
        return held | {each.key: each.channel for each in self._memory}

    @property
    def is_holding(self) -> bool:
        """Whether any line holds messages. May be read in any thread."""
        return any(seat.held for channel in [*self._channels.values()] for seat in [*channel.seats.values()])

    def is_resuming(self, line: int) -> bool:
        """Return whether a line that is subscribed has no proof yet in a channel."""
        return bool(self._unproven(line))

    def has_evidence(self, name: Hashable) -> bool:
        """Return whether unique messages of a channel were delivered."""
        return any(each.channel == name and self._memory.is_unique(each) for each in self._memory)

    def was_delivered(self, name: Hashable, key: Hashable) -> bool:
        """Return whether a message with this identity is among the remembered deliveries of a channel."""
        return bool(self._memory.find(name, key))

    def withdraw(self, line: int, name: Hashable, key: Hashable) -> bool:
        """Drop the first message with this identity that a line holds. Return whether there was one."""
        channel = self._channels.get(name)
        seat = None if channel is None else channel.seats.get(line)
        return seat is not None and seat.held.take(key) is not None

    def is_settled(self, now: float) -> bool:
        """Return whether no later message can be a copy or be held.

        For this, every line must be joined and owe nothing, and a channel without any line must have had no message for
        ``reach`` seconds.
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

    # Events of the lines

    def begin(self, line: int, channels: Iterable[Hashable], now: float, last_new: float = -math.inf) -> None:
        """Join a line that already delivers in these channels, without a gap.

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
            seat.was_joined = seat.is_acknowledged = True
            channel.owner = line
            channel.has_delivered, channel.complete_until = True, max(last_new, 0.0)
            if self._proof is not None:
                channel.last_new = max(channel.last_new, last_new)

    def remember(self, line: int, name: Hashable, key: Hashable, size: int, now: float) -> None:
        """Remember a message that this line has delivered before :meth:`begin`. Call it in the order of delivery."""
        if key is not INCOMPARABLE:
            self._memory.add(line, name, key, size, now)

    def reserve(self, line: int) -> None:
        """Hold the messages of this line until it replaces the ended line: see :meth:`replace`.

        Until then this line delivers only the channels that no other line has.
        """
        self._reserved.add(line)

    def acknowledged(self, line: int, name: Hashable, now: float) -> None:
        """Note that the subscription of a channel is in effect on a line.

        The line delivers if no line is joined. In a rotation, a new channel is delivered from the line on which its
        first message arrives.
        """
        channel = self._channel(name)
        seat = self._seat(line, channel, now)
        self._replays.setdefault(line, Replay()).progress = now
        is_first, seat.is_acknowledged = not seat.is_acknowledged, True
        if is_first and seat.is_joined and self._is_behind(channel, seat):
            # It delivered messages of an earlier subscription, and has none from before this one.
            del channel.seats[line]
            self.acknowledged(line, name, now)
        elif seat.state is SeatState.EARLY:
            self._note_subscribed(channel, seat, now)

    def _is_behind(self, channel: Channel[T], seat: Seat[T]) -> bool:
        """Return whether another line delivers, and has delivered messages that this line owes."""
        has_others = any(other is not seat and other.delivers for other in channel.joined())
        return has_others and any(True for _ in self._evidence.unique_owed(seat))

    def _note_subscribed(self, channel: Channel[T], seat: Seat[T], now: float) -> None:
        seat.enter(SeatState.HELD)
        seat.since = seat.complete_since = now
        seat.replay_until = now + self.reach
        seat.early_arrivals = seat.arrivals
        seat.is_overlapped = bool(channel.joined()) or channel.orphaned_at is not None
        is_due = channel.has_delivered or not self._reserved
        if is_due and not (seat.is_overlapped or self._resumes(channel)):
            self._take_over(channel, seat, now, is_last=seat.line in self._reserved)

    def stated(self, line: int, now: float, *, is_resumed: bool, name: Hashable = ...) -> None:
        """Note whether a line resumes where the ended line stopped, as the server states.

        Args:
            line: the line.
            now: the time.
            is_resumed: whether no message is missing.
            name: the channel; by default all channels.
        """
        channels = [each for each, _ in self._seats_of(line) if self._resumes(each) and name in (..., each.name)]
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
            # The user has unsubscribed: missing messages are not a loss, and held messages are old.
            channel.is_wanted = channel.has_delivered = False
            for seat in channel.seats.values():
                self._drop_held(seat)

    def arrived(self, line: int, name: Hashable, key: Hashable, item: T, size: int, now: float) -> None:
        """Take a message: drop it if it is a copy, deliver it if its line is joined, otherwise hold it.

        Args:
            line: the line on which the message arrived.
            name: its channel.
            key: its identity, or INCOMPARABLE.
            item: the item to deliver.
            size: its bytes.
            now: the time.
        """
        if self.copied(line, name, key, now):
            return
        channel = self._channel(name)
        seat = self._seat(line, channel, now)
        self._count_arrival(seat, now)
        if seat.delivers:
            self._deliver(channel, seat, key, item, size, now)
        elif seat.state is not SeatState.REJECTED:
            self._hold(channel, seat, HeldMessage(key, item, size, now), now)

    def copied(self, line: int, name: Hashable, key: Hashable, now: float) -> bool:
        """Take a message if it is a copy; otherwise return False and change nothing."""
        channel = self._channels.get(name)
        seat = None if channel is None else channel.seats.get(line)
        if channel is None or seat is None:
            channel = self._channel(name)
            seat = self._seat(line, channel, now)
        delivery = self._evidence.copied(seat, channel, key, now)
        if delivery is None:
            return False
        self._count_arrival(seat, now)
        self._came(channel, seat, delivery, seat.arrivals, now)
        if seat.state is SeatState.EARLY and channel.is_ordered:
            # A copy shows that the line is subscribed. The acknowledgement may never arrive.
            self._replays.setdefault(line, Replay()).progress = now
            self._note_subscribed(channel, seat, now)
        return True

    def ended(self, line: int, now: float) -> None:
        """Note the end of a line. Its held messages are dropped: another line delivers them, or a gap is reported."""
        last_new = self._last_new.pop(line, -math.inf)
        self._replays.pop(line, None)
        self._reserved.discard(line)
        self.lags.pop(line, None)
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
        """Note that a line lost messages, so it must agree again where another line delivers.

        Return whether it is joined in any channel, which has no other line.
        """
        seats = list(self._seats_of(line))
        for channel, seat in seats:
            if seat.is_joined and any(other is not seat and other.delivers for other in channel.joined()):
                self._lose(channel, seat, "behind")
            if seat.state is SeatState.HELD:
                del channel.seats[line]
                self.acknowledged(line, channel.name, now)
                channel.seats[line].since = seat.since
        return any(seat.is_joined for _, seat in seats)

    def finish(self, now: float) -> None:
        """Report a gap for the channels that were delivered and have no joined line. Call this before the end."""
        for channel in list(self._channels.values()):
            if channel.has_delivered and not channel.joined():
                self._gap(channel, now)

    def was_blocked(self, now: float) -> None:
        """Note that the silence until now is not evidence, for example because the event loop was blocked."""
        for seat in self._seats():
            seat.complete_since = max(seat.complete_since, now)
        for replay in self._replays.values():
            if replay.progress < now:
                replay.progress = now

    # Agreement

    def _agrees_in(self, channel: Channel[T], line: int, now: float) -> bool:
        if not channel.joined():
            return True
        seat = channel.seats.get(line)
        if seat is None:
            return False
        return seat.is_ready or self._is_aside(channel, seat) or self._evidence.has_agreed(channel, seat, now)
