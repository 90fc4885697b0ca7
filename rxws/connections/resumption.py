"""Resuming: a new connection replaces a lost one, and the server sends the missed messages again."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Hashable
from itertools import islice
from typing import Any, Final, NamedTuple

from ..messages.backlog import Backlog
from ..messages.dispatcher import FrameDispatcher
from ..messages.fields import field_reader, range_reader
from ..messages.filters import Filter
from ..messages.hooks import Many
from ..messages.recent import RecentMessages
from ..observables.loop_context import LoopContext
from ..options import Options
from .connection import Connection
from .matching import INCOMPARABLE, GapFound, Limits, Matcher, Proof, Resumed
from .merger import Unit
from .opener import ConnectionSender
from .overlap import FARTHEST, RECALLED, Overlap

__all__ = ["Resumption"]

#: Seconds between two checks of whether the matcher has decided that a connection resumes, or that it does not.
POLL_INTERVAL: Final = 0.02


RangeReader = Callable[[Any], tuple[int, int]]


class _NoNumber(Exception):
    """A function for ``sequence`` returned None: the message has no number."""


def _absent_where_none(sequence: Any) -> Any:
    if not callable(sequence):
        return sequence

    def read(message: Any) -> Any:
        found = sequence(message)
        if found is None:
            raise _NoNumber
        return found

    return functools.wraps(sequence)(read) if hasattr(sequence, "__name__") else read


class _Name(NamedTuple):
    """A sequence of numbers: those of one key in one channel."""

    channel: Hashable
    key: Hashable


class _Counted(NamedTuple):
    """The first and the last number of a message, and the sequence that they belong to."""

    name: _Name
    first: int
    last: int


class Resumption(Overlap):
    """Decides whether the connection after a loss begins with the missed messages.

    It is an overlap whose first connection has ended. The messages that this connection delivered are remembered. The
    next connection delivers as soon as there is a proof that it begins where the lost one ended: copies, the server's
    statement, or numbers. Without a proof in time, a gap is reported before its messages.

    Attributes:
        is_broken: whether a gap was reported.
        is_proven: whether there was a proof for any channel.
    """

    def __init__(
        self,
        context: LoopContext,
        dispatcher: FrameDispatcher,
        old: Connection,
        sender: ConnectionSender,
        options: Options,
        announce: Callable[[float], object],
    ) -> None:
        self.is_broken = self.is_proven = False
        self._statement, self._range_of, self._key_of = self.check(options)
        self._absent = (_NoNumber,) if callable(options.sequence) else (KeyError,)
        # The last number of each sequence in channels without a proof.
        self._last: dict[_Name, int] = {}
        self._unproven: set[_Name] = set()
        # The sequences whose numbers on the next connection are not greater than the last number.
        self._restarted: set[Hashable] = set()
        #: Called with the number of copies when it is proven that no message is missing.
        self.on_resumed: Callable[[int], object] | None = None
        # The channels that are delivered without a proof, because their messages have no numbers.
        self._unnumbered: set[Hashable] = set()
        # The channels in which the lost connection delivered messages without a number.
        self._uncounted: set[Hashable] = set()
        self._has_numbers = False
        # Whether a proof is needed both for messages of channels and for messages without a channel.
        self._is_mixed = False
        self._next: Connection | None = None
        self._subscribed_at = 0.0
        super().__init__(context, dispatcher, old, sender, options, announce)

    @staticmethod
    def check(options: Options) -> tuple[Filter | None, RangeReader | None, Callable[[Any], Any]]:
        """Return the filter of the server's statement, the function that reads numbers, and the one that reads keys.

        Raises:
            TypeError: ``resume``, ``sequence`` or ``key`` has the wrong type.
            ValueError: a path is empty.
        """
        return (
            None if options.resume is True else Filter.parse(options.resume, "resume"),
            None if options.sequence is None else range_reader(_absent_where_none(options.sequence), "sequence"),
            (lambda _message: None) if options.key is None else field_reader(options.key, "key"),
        )

    def _make_matcher(self, limits: Limits) -> Matcher[Unit]:
        if self._range_of is not None:
            self._proof = Proof.NUMBERS
        elif self._old.channels or self._statement is not None:
            # Copies prove nothing in a channel, because a server may first send the last values of the channel again.
            self._proof = Proof.STATEMENT
        else:
            self._proof = Proof.COPIES
        return Matcher(limits, lambda channel: channel is not None, self._proof)

    async def recall_all(self, recent: RecentMessages) -> None:
        """Remember all delivered messages that are kept."""
        delivered = recent.delivered()
        while some := [*islice(delivered, RECALLED)]:
            self.recall(some)
            await asyncio.sleep(0)
        self._note_end()

    @property
    def has_begun(self) -> bool:
        """Whether a next connection was opened. If that one ends before it delivers, another resumption is needed."""
        return self._next is not None

    # The next connection

    def _begin(self, new: Connection) -> None:
        self._next = new
        self._unproven, self._has_numbers = {*self._last}, bool(self._last)
        # Hold all messages until the connection takes over.
        self._backlog = Backlog(self._deliver)
        self._acknowledge(new, None)
        self._is_mixed = bool(self._old.channels) and self._matcher.has_evidence(None)
        if self._old.channels and not self._is_mixed:
            # All unique messages belonged to channels, so no message without a channel can be missing.
            self._let_follow(new, None)

    def _let_follow(self, new: Connection, channel: Hashable) -> None:
        """Deliver the messages of a channel without a proof, because they cannot provide one."""
        self._unnumbered.add(channel)
        self._matcher.stated(new.number, self._now(), is_resumed=True, name=channel)

    def _acknowledge(self, new: Connection, channel: Hashable) -> None:
        """Note that a channel is subscribed, and the sequences of numbers in it."""
        self._matcher.acknowledged(new.number, channel, self._now())
        if self._range_of is not None:
            counted = [each for each in self._last if each.channel == channel]
            if counted or (self._has_numbers and (channel is None or channel not in self._uncounted)):
                # The numbers of other messages are the proof for those without a number.
                self._let_follow(new, channel)
            for each in counted:
                self._matcher.acknowledged(new.number, each, self._now())

    async def is_decided(self, new: Connection) -> bool:
        """Wait until the matcher has decided whether a connection resumes. Return False if it ends before."""
        self._subscribed_at = self._now()
        self._matcher.acknowledged(new.number, None, self._subscribed_at)
        while True:
            self._matcher.tick(self._now())
            self._flush()
            # Check this first. A connection may end just after the decision, and its messages must still be delivered.
            if not self._matcher.is_resuming(new.number) or self._is_quiet():
                return True
            if new.reader.done():
                # Deliver the messages of the channels that are already decided, if there are any.
                return bool(self._backlog)
            await asyncio.wait({new.reader}, timeout=POLL_INTERVAL)

    def _is_quiet(self) -> bool:
        """Return whether a proof can come only from the numbers of messages that have not arrived yet."""
        return self._proof is Proof.NUMBERS and self._now() - self._subscribed_at >= self._settle

    def doubts(self, recent: RecentMessages) -> list[str]:
        """Return in words the possible reasons why there was no proof that the connection resumes."""
        doubts = []
        if not recent.was_asked:
            doubts.append(
                "nothing asks for the cursor: url, connect_options, on_open or subscribe must be a function with a "
                "parameter for it, or _create_ws must use self.cursor"
            )
        elif recent.names_no_key:
            doubts.append(f"no message has a cursor: cursor={recent.field!r} matches no field")
        if self._proof is Proof.NUMBERS and not self._has_numbers:
            doubts.append("no message has a number and a key: sequence= or key= matches no field, or raises")
        if self._proof is Proof.STATEMENT and self._statement is None:
            doubts.append(
                "copies prove nothing in a channel: resume= must be a filter for the server's statement, or sequence= "
                "must be set"
            )
        elif self._proof is Proof.STATEMENT and self._is_mixed:
            doubts.append(
                "the server's statements do not cover messages without a channel: declare those that are never sent "
                "again with per_connection="
            )
        elif self._proof is Proof.COPIES and not self._matcher.copies:
            doubts.append(
                "the server sent no message again: if the cursor excludes its own message, set sequence=, or set "
                "resume= to a filter for the server's statement"
            )
        return doubts

    async def deliver_held(self) -> None:
        """Deliver the held messages, and from now on each message at once."""
        self.is_released = True
        assert self._backlog is not None
        assert self._next is not None
        # Otherwise each connection would keep the one before it alive, with all that is remembered of it.
        self._next.inbound.take_over()
        self._report()
        await self._backlog.drain()
        self._backlog = None

    def is_over(self) -> bool:
        """Whether no later message can be a copy or be held. (First numbers are awaited later; see :meth:`forget`.)"""
        is_late = self._is_quiet() and self._now() - self._subscribed_at > FARTHEST
        return super().is_over() or (is_late and not self.is_holding)

    def forget(self, new: Connection) -> None:
        """Let the connection deliver without looking for copies. Only check the first number of each open sequence."""
        super().forget(new)
        recent = self._dispatcher.recent
        if self._unproven and recent is not None and not new.inbound.has_ended():
            # Do not watch this connection only, because a rotation may replace it before the numbers arrive.
            recent.watch = self._await_numbers

    def _await_numbers(self, message: Any) -> None:
        """Look at a message before its delivery. The first number of an open sequence shows whether there is a gap."""
        for item in message if type(message) is Many else (message,):
            counted = self._number_of(self._sender.channel_of(item), item)
            if counted is None or counted.name not in self._unproven:
                continue
            self._unproven.discard(counted.name)
            last = self._last[counted.name]
            if counted.first <= last + 1 and counted.last > last:
                self.is_proven = True
            elif not self.is_broken:
                self.is_broken = True
                self._announce(self._old.inbound.last_received_time or self._old.opened_time)
        self._report()
        if not self._unproven:
            assert self._dispatcher.recent is not None
            self._dispatcher.recent.watch = None

    # Its messages

    def _is_superfluous(self, number: int, channel: Hashable) -> bool:
        # Such messages are delivered after each reconnect. Only in a rotation are those of the new connection dropped.
        return False

    def _match(self, number: int, channel: Hashable, key: Hashable, unit: Unit, size: int) -> None:
        counted = None if self._range_of is None else self._number_of(channel, self._item(unit))
        if counted is not None:
            channel = counted.name
            if self._is_behind(number, counted):
                self._counters.duplicates += 1
                return
        elif number == self._old.number and key is not INCOMPARABLE:
            self._uncounted.add(channel)
        super()._match(number, channel, key, unit, size)
        if number != self._old.number and self._statement is not None and not self._old.channels:
            assert self._next is not None
            if self._next.inbound.passes(self._statement, self._item(unit)):
                self._matcher.stated(number, self._now(), is_resumed=True)

    def _number_of(self, channel: Hashable, message: Any) -> _Counted | None:
        """Return the number of a message with its sequence; None if the message has no number."""
        assert self._range_of is not None
        # Do not report a message that lacks the field, but report a function that fails.
        with self._reporter.guard("sequence or key", message), contextlib.suppress(*self._absent):
            first, last = self._range_of(message)
            name = _Name(channel, self._key_of(message))
            # The key must be hashable, because each sequence is found by it.
            hash(name)
            return _Counted(name, first, last)
        return None

    def _is_behind(self, number: int, counted: _Counted) -> bool:
        """Note the number of a message. Return whether it was delivered before, on a line that needs no more proof."""
        name, last, now = counted.name, self._last.get(counted.name), self._now()
        if last is None:
            # There was no number of this sequence before.
            if number == self._old.number:
                self._matcher.begin(number, [name], now, self._last_new)
            else:
                self._matcher.acknowledged(number, name, now)
        elif number != self._old.number:
            if counted.last <= last:
                if name not in self._unproven:
                    return True
                # Until a greater number arrives, the server may have restarted its count.
                self._restarted.add(name)
            elif name in self._unproven:
                self._unproven.discard(name)
                self._restarted.discard(name)
                self._matcher.stated(number, now, is_resumed=counted.first <= last + 1, name=name, are_older=True)
        self._last[name] = counted.last if last is None else max(last, counted.last)
        return False

    def _channel_changed(self, number: int, channel: Hashable, is_subscribed: bool, answer: Any = None) -> None:
        if is_subscribed and self._next is not None:
            self._acknowledge(self._next, channel)
            if self._statement is not None and answer is not None:
                is_resumed = self._next.inbound.passes(self._statement, answer)
                self._matcher.stated(number, self._now(), is_resumed=is_resumed, name=channel)
        super()._channel_changed(number, channel, is_subscribed, answer)

    def _flush(self) -> None:
        for outcome in self._matcher.out:
            if isinstance(outcome, GapFound):
                self.is_broken = True
                for channel in outcome.channels:
                    if channel in self._restarted and isinstance(channel, _Name):
                        self._unproven.discard(channel)
                        self._last.pop(channel, None)
            elif isinstance(outcome, Resumed):
                self.is_proven = self.is_proven or not self._unnumbered.issuperset(outcome.channels)
        super()._flush()
        if self.is_released:
            self._report()

    def _report(self) -> None:
        """When it is proven that no message is missing, report it once."""
        if self.is_proven and not self.is_broken and self.on_resumed is not None:
            self.on_resumed(self._matcher.copies)
            self.on_resumed = None
