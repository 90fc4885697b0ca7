"""Resuming: a new connection replaces a lost one, and the server sends the missed messages again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from itertools import islice
from typing import Any, Final

from ..messages.backlog import Backlog
from ..messages.dispatcher import FrameDispatcher
from ..messages.filters import Filter
from ..messages.numbers import Counted, Loss, Name
from ..messages.recent import RecentMessages
from ..observables.loop_context import LoopContext
from ..options import Options
from .connection import Connection
from .matching import INCOMPARABLE, GapFound, Limits, Matcher, Proof, Resumed
from .merger import Unit
from .opener import ConnectionSender
from .overlap import RECALLED, Overlap

__all__ = ["Resumption"]

#: Seconds between two checks of whether the matcher has decided that a connection resumes, or that it does not.
POLL_INTERVAL: Final = 0.02

#: The largest number of held messages whose numbers are not greater than the last delivered ones.
LESSER_MAX: Final = 10_000


class Resumption(Overlap):
    """Decides whether the connection after a loss begins with the missed messages.

    It is an overlap whose first connection has ended. The messages that this connection delivered are remembered. The
    next connection delivers as soon as there is a proof that it begins where the lost one ended: copies, or the
    server's statement. Without a proof in time, a gap is reported before its messages.

    Messages with numbers need no such proof. They are delivered at once, except those whose numbers are not greater
    than the last delivered ones, and ``Numbers`` reports the gaps between them.

    Attributes:
        loss: what is known about missing messages. It outlives the resumption, because a number may arrive much later.
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
        self._statement = self.statement_of(options)
        # The channels that are delivered without a proof, because their messages have no numbers.
        self._unnumbered: set[Hashable] = set()
        # The channels in which the lost connection delivered messages without a number.
        self._uncounted: set[Hashable] = set()
        # The last number of each sequence on the next connection, from the first one that is greater than those before.
        self._heard: dict[Name, int] = {}
        # The messages before such a number, which may be older than the delivered ones, or the first ones of a server
        # that has restarted its count.
        self._lesser: dict[Name, list[tuple[Unit, int]]] = {}
        # When the next connection was subscribed, or a repeated number last arrived.
        self._progress_at = 0.0
        # Whether a proof is needed both for messages of channels and for messages without a channel.
        self._is_mixed = False
        self._next: Connection | None = None
        super().__init__(context, dispatcher, old, sender, options, announce)
        channels: set[Hashable] = {None, *old.channels}
        lose = Loss if self._numbers is None else self._numbers.lose
        self.loss: Final = lose(announce, channels)
        self._announce = self.loss.broken

    @staticmethod
    def statement_of(options: Options) -> Filter | None:
        """Return the filter of the server's statement that it has sent all missed messages; None if it states nothing.

        Raises:
            TypeError: ``resume`` has the wrong type.
        """
        return None if options.resume is True else Filter.parse(options.resume, "resume")

    def _make_matcher(self, limits: Limits) -> Matcher[Unit]:
        # Copies prove nothing in a channel, because a server may first send the last values of the channel again.
        needs_statement = self._numbers is not None or self._old.channels or self._statement is not None
        self._proof = Proof.STATEMENT if needs_statement else Proof.COPIES
        return Matcher(limits, lambda channel: channel is not None, self._proof)

    async def recall_all(self, recent: RecentMessages) -> None:
        """Remember all delivered messages that are kept."""
        delivered = recent.delivered()
        while some := [*islice(delivered, RECALLED)]:
            self.recall(some)
            await asyncio.sleep(0)
        self._note_end()

    def _remember(self, channel: Hashable, key: Hashable, item: Any, size: int) -> None:
        is_known = key is INCOMPARABLE or channel in self._uncounted
        if self._numbers is not None and not is_known and self._numbers.read(channel, item) is None:
            self._uncounted.add(channel)
        super()._remember(channel, key, item, size)

    @property
    def has_begun(self) -> bool:
        """Whether a next connection was opened. If that one ends before it delivers, another resumption is needed."""
        return self._next is not None

    # The next connection

    def _begin(self, new: Connection) -> None:
        self._next = new
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
        """Note that a channel is subscribed."""
        self._matcher.acknowledged(new.number, channel, self._now())
        counted = {name.channel for name in self.loss.pending}
        if channel in counted or (counted and (channel is None or channel not in self._uncounted)):
            # The numbers of other messages are the proof for those without a number.
            self._let_follow(new, channel)

    async def is_decided(self, new: Connection) -> bool:
        """Wait until the matcher has decided whether a connection resumes. Return False if it ends before."""
        self._progress_at = self._looked_at = self._now()
        self._matcher.acknowledged(new.number, None, self._progress_at)
        while True:
            self._look(self._now(), POLL_INTERVAL)
            self._flush()
            # Check this first. A connection may end just after the decision, and its messages must still be delivered.
            if not self._matcher.is_resuming(new.number):
                return True
            if new.reader.done():
                # Deliver the messages of the channels that are already decided, if there are any.
                return bool(self._backlog)
            await asyncio.wait({new.reader}, timeout=POLL_INTERVAL)

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
        if self._numbers is not None:
            if not self._numbers.names:
                doubts.append("no message has a number and a key: sequence= or key= matches no field, or raises")
        elif self._proof is Proof.STATEMENT and self._statement is None:
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

    async def deliver_held(self, on_resumed: Callable[[int], object], on_broken: Callable[[], object]) -> None:
        """Deliver the held messages, and from now on each message at once.

        Args:
            on_resumed: called with the number of repeated messages when it is proven that no message is missing.
            on_broken: called when a gap was reported.
        """
        self.is_released = True
        assert self._backlog is not None
        assert self._next is not None
        # Otherwise each connection would keep the one before it alive, with all that is remembered of it.
        self._next.inbound.take_over()
        matcher = self._matcher
        self.loss.on_resumed, self.loss.on_broken = lambda: on_resumed(matcher.copies), on_broken
        if self._numbers is not None:
            self._numbers.loss = self.loss
        self.loss.conclude()
        await self._backlog.drain()
        self._backlog = None

    def is_over(self) -> bool:
        """Whether no later message can be a copy or be held. (``Numbers`` compares numbers that arrive later.)"""
        self._judge_lesser()
        is_quiet = self._now() - self._progress_at > self._matcher.reach
        return super().is_over() and is_quiet and not self._lesser

    # Its messages

    def _is_superfluous(self, number: int, channel: Hashable) -> bool:
        # Such messages are delivered after each reconnect. Only in a rotation are those of the new connection dropped.
        return False

    def _match(self, number: int, channel: Hashable, key: Hashable, unit: Unit, size: int) -> None:
        counted = None if self._numbers is None else self._numbers.read(channel, self._item(unit))
        if counted is not None:
            self._take_counted(counted, key, unit)
            return
        self._matcher.arrived(number, channel, key, unit, size, self._now())
        if self._statement is not None and not self._old.channels:
            assert self._next is not None
            if self._next.inbound.passes(self._statement, self._item(unit)):
                self._matcher.stated(number, self._now(), is_resumed=True)

    def _take_counted(self, counted: Counted, key: Hashable, unit: Unit) -> None:
        """Deliver a message with a new number. Drop it if it is a copy, and hold it if it may be either."""
        name, is_heard = counted.name, counted.name in self._heard
        last = self._heard[name] if is_heard or self._numbers is None else self._numbers.last(name)
        if last is None or counted.last > last:
            self._heard[name] = counted.last
            self._discard(len(self._lesser.pop(name, ())))
            self._matcher.out.append((unit,))
        elif is_heard or self._matcher.was_delivered(name.channel, key):
            self._progress_at = self._now()
            self._matcher.copies += 1
        else:
            self._lesser.setdefault(name, []).append((unit, counted.last))

    def _judge_lesser(self) -> None:
        """Report a gap before messages that no greater number has followed in time: the server began its count anew."""
        now = self._now()
        is_due = now - self._progress_at >= self._settle
        for name, held in list(self._lesser.items()):
            if is_due or len(held) > LESSER_MAX:
                del self._lesser[name]
                self._heard[name] = held[-1][1]
                self._matcher.out += [GapFound(self._last_new, now, (name,)), *((unit,) for unit, _ in held)]

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
                self.loss.is_broken = True
            elif isinstance(outcome, Resumed):
                self.loss.is_proven = self.loss.is_proven or not self._unnumbered.issuperset(outcome.channels)
        super()._flush()
        self.loss.conclude()
