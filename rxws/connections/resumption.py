"""A connection in place of a lost one, on a server that sends again what was missed."""

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
from ..messages.frames import Frame
from ..messages.hooks import Many
from ..messages.recent import RecentMessages
from ..observables.loop_context import LoopContext
from ..options import Options
from .connection import Connection
from .matching import GapFound, Limits, Matcher, Proof, Resumed
from .opener import ConnectionSender
from .overlap import FARTHEST, RECALLED, Overlap, Unit

__all__ = ["Resumption"]

#: Seconds between two checks of whether it is decided if a connection resumes.
POLL_INTERVAL: Final = 0.02


RangeReader = Callable[[Any], tuple[int, int]]


class _Name(NamedTuple):
    """What is counted separately: a key of a channel."""

    channel: Hashable
    key: Hashable


class _Counted(NamedTuple):
    """The first and the last number of a message, and what they count."""

    name: _Name
    first: int
    last: int


class Resumption(Overlap):
    """What was delivered before a loss, and the messages of the next connection, which may begin with what was missed.

    It is an overlap whose first connection has ended: what that connection delivered is remembered from before. The
    next connection delivers as soon as copies, the server's statement or numbers prove that it begins where the lost
    one ended. If nothing proves it in time, a gap stands before its messages.

    Attributes:
        is_broken: whether a gap was reported.
        is_proven: whether a channel has been proven to be resumed.
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
        self._absent = () if callable(options.sequence) else (KeyError,)
        # The last number of each counted channel that is not proven yet.
        self._last: dict[_Name, int] = {}
        self._unproven: set[_Name] = set()
        #: Called with the number of copies when it is proven that nothing is missing.
        self.on_resumed: Callable[[int], object] | None = None
        # The channels whose messages prove nothing.
        self._unnumbered: set[Hashable] = set()
        self._next: Connection | None = None
        self._subscribed_at = 0.0
        super().__init__(context, dispatcher, old, sender, options, announce)

    @staticmethod
    def check(options: Options) -> tuple[Filter | None, RangeReader | None, Callable[[Any], Any]]:
        """Return the filter of the statement, and what reads numbers and their keys.

        Raises:
            TypeError: ``resume``, ``sequence`` or ``key`` has the wrong type.
            ValueError: a path is empty.
        """
        return (
            None if options.resume is True else Filter.parse(options.resume, "resume"),
            None if options.sequence is None else range_reader(options.sequence, "sequence"),
            (lambda _message: None) if options.key is None else field_reader(options.key, "key"),
        )

    def _make_matcher(self, limits: Limits) -> Matcher[Unit]:
        if self._range_of is not None:
            self._proof = Proof.NUMBERS
        elif self._old.channels or self._statement is not None:
            # Copies of a channel may be the last values that a server sends first.
            self._proof = Proof.STATEMENT
        else:
            self._proof = Proof.COPIES
        return Matcher(limits, lambda channel: channel is not None, self._proof)

    async def recall_all(self, recent: RecentMessages) -> None:
        """Remember everything that was delivered and is kept."""
        delivered = recent.delivered()
        while some := [*islice(delivered, RECALLED)]:
            self.recall(some)
            await asyncio.sleep(0)
        self._note_end()

    @property
    def replayed(self) -> int:
        """How many messages were copies of delivered ones."""
        return self._matcher.copies

    # The next connection

    def _begin(self, new: Connection) -> None:
        self._next = new
        self._unproven = {*self._last}
        # Nothing is delivered before the connection is entered.
        self._backlog = Backlog(self._deliver)
        self._acknowledge(new, None)
        if self._old.channels and not self._matcher.has_evidence(None):
            # Beside channels there were no messages of no channel, or only equal ones: nothing can be missing.
            self._let_follow(new, None)

    def _let_follow(self, new: Connection, channel: Hashable) -> None:
        """Let messages of a channel follow that can prove nothing."""
        self._unnumbered.add(channel)
        self._matcher.stated(new.number, self._now(), is_resumed=True, name=channel)

    def _acknowledge(self, new: Connection, channel: Hashable) -> None:
        """Note that a channel is subscribed, and what is counted separately in it."""
        self._matcher.acknowledged(new.number, channel, self._now())
        if self._range_of is not None:
            # Messages without a number.
            self._let_follow(new, channel)
            for counted in self._last:
                if counted.channel == channel:
                    self._matcher.acknowledged(new.number, counted, self._now())

    async def is_decided(self, new: Connection) -> bool:
        """Wait until it is decided whether a connection resumes; return False if it ends before."""
        self._subscribed_at = self._now()
        self._matcher.acknowledged(new.number, None, self._subscribed_at)
        while True:
            self._matcher.tick(self._now())
            self._flush()
            # First, because a connection may end just after it was decided: what it has brought is to be delivered.
            if not self._matcher.is_resuming(new.number) or self._is_quiet():
                return True
            if new.reader.done():
                return False
            await asyncio.wait({new.reader}, timeout=POLL_INTERVAL)

    def _is_quiet(self) -> bool:
        """Return whether only numbers of messages that have not come yet can prove anything."""
        return self._proof is Proof.NUMBERS and self._now() - self._subscribed_at >= self._settle

    def dismiss(self, new: Connection) -> None:
        """Forget a connection that has ended undecided: the next one begins with the same cursor."""
        self._matcher.ended(new.number, self._now())
        self._backlog = None

    def doubts(self, recent: RecentMessages) -> list[str]:
        """Return what may be why the connection was not proven to resume, in words."""
        doubts = []
        if not recent.was_asked:
            doubts.append(
                "nothing asks for the cursor: url, connect_options, on_open or subscribe must be a function with a "
                "parameter for it, or _create_ws must use self.cursor"
            )
        elif recent.names_no_key:
            doubts.append(f"no message has a cursor: cursor={recent.field!r} names nothing in them")
        if self._proof is Proof.STATEMENT and self._statement is None:
            doubts.append(
                "of channels copies prove nothing: resume needs a filter for the server's statement, or sequence="
            )
        elif self._proof is Proof.COPIES and not self._matcher.copies:
            doubts.append(
                "no message came again: a cursor that excludes its own message proves nothing without sequence=, or a "
                "filter for the server's statement as resume="
            )
        return doubts

    async def deliver_held(self) -> None:
        """Deliver what the connection held, and from now on at once what it resumes with."""
        self.is_released = True
        assert self._backlog is not None
        self._report()
        await self._backlog.drain()
        self._backlog = None

    def is_over(self) -> bool:
        """Whether nothing that comes can be a copy, or is held. Numbers that may come at any time are awaited later."""
        is_late = self._is_quiet() and self._now() - self._subscribed_at > FARTHEST
        return super().is_over() or (is_late and not self.is_holding)

    def forget(self, new: Connection) -> None:
        """Let the connection deliver without looking for copies, but look at each first number that is awaited."""
        super().forget(new)
        if self._unproven and not new.inbound.has_ended():
            new.inbound.deliver(functools.partial(self._await_numbers, new))

    def _await_numbers(self, new: Connection, frame: Frame, message: Any, received: int) -> None:
        """Deliver a message behind a gap if its number is the first of its kind, and does not follow the last one."""
        for item in message if type(message) is Many else (message,):
            counted = self._number_of(self._sender.channel_of(item), item)
            if counted is not None and counted.name in self._unproven:
                self._unproven.discard(counted.name)
                if counted.first > self._last[counted.name] + 1 and not self.is_broken:
                    self.is_broken = True
                    self._announce(self._old.inbound.last_received_time or self._old.opened_time)
        if not self._unproven:
            self._dispatcher.deliver_from(new.inbound)
        self._sinks[new.number](frame, message, received)

    # Its messages

    def _match(self, number: int, channel: Hashable, key: Hashable, unit: Unit, size: int) -> None:
        counted = None if self._range_of is None else self._number_of(channel, self._item(unit))
        if counted is not None:
            channel = counted.name
            if self._is_behind(number, counted):
                self._counters.duplicates += 1
                return
        super()._match(number, channel, key, unit, size)
        if number != self._old.number and self._statement is not None and not self._old.channels:
            assert self._next is not None
            if self._next.inbound.passes(self._statement, self._item(unit)):
                self._matcher.stated(number, self._now(), is_resumed=True)

    def _number_of(self, channel: Hashable, message: Any) -> _Counted | None:
        """Return the number of a message, and what it counts; None: it has none."""
        assert self._range_of is not None
        # A message without the field is reported only if it is a function that fails.
        with self._reporter.guard("sequence", message), contextlib.suppress(*self._absent):
            first, last = self._range_of(message)
            return _Counted(_Name(channel, self._key_of(message)), first, last)
        return None

    def _is_behind(self, number: int, counted: _Counted) -> bool:
        """Note the number of a message. Return whether it is not greater than the last one, of a line that follows."""
        name, last, now = counted.name, self._last.get(counted.name), self._now()
        if last is None:
            # Nothing was counted under this name before.
            if number == self._old.number:
                self._matcher.begin(number, [name], now, self._last_new)
            else:
                self._matcher.acknowledged(number, name, now)
        elif number != self._old.number:
            if counted.last <= last:
                # Before the first greater number it may be that the server counts anew.
                return name not in self._unproven
            if name in self._unproven:
                self._unproven.discard(name)
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
                    if isinstance(channel, _Name):
                        self._unproven.discard(channel)
                        self._last.pop(channel, None)
            elif isinstance(outcome, Resumed):
                self.is_proven = self.is_proven or not self._unnumbered.issuperset(outcome.channels)
        super()._flush()
        if self.is_released:
            self._report()

    def _report(self) -> None:
        """Report once that nothing is missing, when that is proven."""
        if self.is_proven and not self.is_broken and self.on_resumed is not None:
            self.on_resumed(self._matcher.copies)
            self.on_resumed = None
