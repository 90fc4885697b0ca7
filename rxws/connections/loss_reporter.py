"""Reports the loss between a lost connection and its replacement, before the first message of the replacement."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from ..messages.backlog import Backlog
from ..messages.dispatcher import FrameDispatcher
from ..messages.frames import Frame
from ..messages.hooks import Many
from ..reporting.event import Reason
from ..reporting.events import Gap
from .connection import Connection
from .connection_reporter import ConnectionReporter
from .overlap import HELD_MAX

__all__ = ["LossReporter"]


class LossReporter:
    """Holds the messages of a replacement of a lost connection until all channels are subscribed. Reports the loss.

    Attributes:
        delivered_until: when a connection that has ended delivered the last message, in seconds since the epoch; None
            if none did.

    Args:
        dispatcher: delivers the messages.
        channel_of: returns the channel of a message of a connection; None for messages of no channel.
        connection_reporter: reports gaps.
    """

    def __init__(
        self,
        dispatcher: FrameDispatcher,
        channel_of: Callable[[Any, Connection], Hashable],
        connection_reporter: ConnectionReporter,
    ) -> None:
        self._dispatcher = dispatcher
        self._channel_of = channel_of
        self._report = connection_reporter
        self._now = connection_reporter.reporter.now
        self._backlog: Backlog[Frame, Any, int, Sequence[Sequence[Hashable]]] = Backlog(lambda *_: None)
        # For each channel, when its first message arrived on the connection that is being subscribed, in seconds since
        # the epoch. A Gap that the hook returned belongs to no channel: its key is the class Gap.
        self._firsts: dict[Hashable, float] = {}
        # Whether messages were dropped since the last delivery, so that a connection cannot begin after them.
        self._has_dropped = False
        self.delivered_until: float | None = None
        # Until the loss is reported: the new connection, the reason of the loss, the time of the last message before
        # it, and the time when all channels were subscribed again.
        self._undecided: tuple[Connection, Reason, float, float] | None = None

    def hold(self, opened: Connection) -> None:
        """Hold the frames of a connection that is being subscribed while no other connection delivers."""
        # Messages of a connection that ended before it took over are never delivered.
        self._has_dropped = self._has_dropped or bool(self._backlog and self._firsts)
        backlog = self._backlog = Backlog(self._dispatcher.direct_sink(opened.inbound), HELD_MAX)
        firsts = self._firsts = {}

        def hold(frame: Frame, message: Any, received: int) -> None:
            for item in message if type(message) is Many else (message,):
                firsts.setdefault(Gap if type(item) is Gap else self._channel_of(item, opened), self._now())
            backlog.hold(frame, message, received, opened.inbound.names.look_up(message))

        opened.inbound.hold(hold)

    def replaced(self, opened: Connection, lost: Connection) -> None:
        """Note that all channels are subscribed on ``opened``, which replaces ``lost``. Report the loss if it is known.

        The loss is not known yet if ``opened.websocket.is_resumed`` is False. The first message may then set it.
        """
        self._undecided = opened, lost.failure.reason, self.last_delivery(lost), self._now()
        if self._firsts or getattr(opened.websocket, "is_resumed", True):
            self.decide()

    async def deliver(self, opened: Connection) -> None:
        """Deliver the held messages of a connection, and from now on each message that arrives."""
        # Report dropped frames only now, because frames may be dropped until the connection takes over.
        if self._backlog.dropped:
            self._report.flooded(opened.number, self._backlog.dropped)
        if self._firsts:
            # The first message arrived after `replaced` was called.
            self.decide()
        await self._backlog.drain()
        if self._undecided is None:
            self._dispatcher.deliver_from(opened.inbound)
            return

        def deliver_first(frame: Frame, message: Any, received: int) -> None:
            if type(message) is not Many or message:
                self._dispatcher.deliver_from(opened.inbound)
                self.decide()
                self._dispatcher.direct_sink(opened.inbound)(frame, message, received)

        opened.inbound.deliver(deliver_first)

    def decide(self) -> None:
        """Report the last loss, unless it was already reported."""
        if self._undecided is None:
            return
        (opened, reason, since, now), self._undecided = self._undecided, None
        has_dropped, self._has_dropped = self._has_dropped or self._backlog.dropped > 0, False
        if getattr(opened.websocket, "is_resumed", False) and not has_dropped:
            self._report.resumed(opened.number)
            return
        # A channel is complete from its first message on, even if that arrived before the answer to its subscription.
        firsts = {} if self._backlog.dropped else self._firsts
        until = max((firsts.get(channel, now) for channel in opened.channels), default=now)
        self._report.gap(min(since, until), reason, until)

    def last_delivery(self, ended: Connection) -> float:
        """Return when the last message was delivered, on ``ended`` or before, in seconds since the epoch."""
        times = [time for time in (self.delivered_until, ended.inbound.last_received_time) if time is not None]
        self.delivered_until = max(times, default=None)
        return ended.opened_time if self.delivered_until is None else self.delivered_until
