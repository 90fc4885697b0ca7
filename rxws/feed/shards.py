"""The shards of a feed: lines with different channels, as many as the channels need."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import Any, Final

from ..connections.failures import Failure
from ..connections.ledger import ShardLedger
from ..connections.opener import Opener, RotationHost
from ..connections.rotation import Rotation
from ..messages.router import Router
from ..observables.loop_context import LoopContext
from ..reporting.event import GapReason
from ..reporting.state import ShardStatistics, State
from ..sending.channel_group import ChannelGroup
from ..sending.channel_groups import ChannelGroups
from .line_set import LineHost, LineSet

__all__ = ["Shards"]

#: Seconds after which a shard without channels is closed.
EMPTY_TIMEOUT: Final = 60.0

#: Seconds for the closing handshake of its connection, and for the end of its tasks.
CLOSE_TIMEOUT: Final = 5.0


class Shards(LineSet[Rotation]):
    """One line for each group of channels. A line is opened with a new group, and closed with an empty one.

    Args:
        context: the feed's event loop, scheduler and reporter.
        feed: the feed.
        router: announces gaps.
        channels: the groups of channels.
        make_opener: makes the opener of a line that subscribes a group.
        ledger: notes when all connections are open, and when one is missing.
    """

    # The feed is live while all shards are.
    order = (State.CONNECTING, State.WAITING, State.ROTATING, State.CONNECTED)

    def __init__(
        self,
        context: LoopContext,
        feed: RotationHost,
        router: Router,
        channels: ChannelGroups,
        make_opener: Callable[[RotationHost, ChannelGroup], Opener],
        ledger: ShardLedger,
    ) -> None:
        super().__init__(context, feed, router)
        self._channels = channels
        self._make_opener = make_opener
        self._ledger = ledger
        self._numbers = itertools.count(1)
        self._groups: dict[LineHost, ChannelGroup] = {}
        self._timers: dict[ChannelGroup, asyncio.TimerHandle] = {}
        # The lines that are being closed, with the tasks that close them.
        self._closing: dict[Rotation, asyncio.Task[None]] = {}
        self._state = State.CONNECTING
        self._is_started = self._is_stopped = False
        channels.on_added, channels.on_emptied = self._open, self._emptied
        for group in channels.groups:
            self._open(group)

    @property
    def all_lines(self) -> Iterable[Rotation]:
        """The lines, and those that are being closed."""
        return [*self._lines.values(), *self._closing]

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks that must end after :meth:`stop`, besides those of the connections."""
        return [*super().tasks, *self._closing.values()]

    def start(self) -> None:
        """Start all lines."""
        self._state = State.CONNECTING
        self._is_started = True
        super().start()

    def stop(self) -> None:
        """Stop all lines. Idempotent."""
        self._is_stopped = True
        for timer in self._timers.values():
            timer.cancel()
        super().stop()

    def _open(self, group: ChannelGroup) -> None:
        host = LineHost(self._feed, self, next(self._numbers))
        line = self._lines[host] = Rotation(self._context, host, self._make_opener(host, group))
        self._groups[host] = group
        if self._is_started and not self._is_stopped:
            line.start()
            self.enter()

    def _emptied(self, group: ChannelGroup) -> None:
        if group in self._timers:
            self._timers.pop(group).cancel()
        if group is not self._channels.groups[0] and not self._is_stopped:
            self._timers[group] = self._loop.call_later(EMPTY_TIMEOUT, self._close_if_empty, group)

    def _close_if_empty(self, group: ChannelGroup) -> None:
        del self._timers[group]
        if group.channels:
            return
        self._channels.remove(group)
        host = next(each for each, its in self._groups.items() if its is group)
        del self._groups[host]
        line = self._lines.pop(host)
        line.stop()
        group.use(None, host.line)
        self._closing[line] = self._loop.create_task(self._close(line), name="rxws close shard")
        self.enter()

    async def _close(self, line: Rotation) -> None:
        try:
            why = Failure("user", "its last channel was unsubscribed")
            await asyncio.gather(*(each.close(why, CLOSE_TIMEOUT) for each in list(line.connections)))
            if tasks := line.tasks:
                await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT)
        finally:
            del self._closing[line]

    def enter(self) -> None:
        """Set the state of the feed, by way of the states that lie between the last one and the new one."""
        last, self._state = self._state, self._combined_state()
        self._ledger.changed(self._state.is_live, self._reporter.now())
        if self._state.is_live and not last.is_live:
            # The shard that was waiting may have been closed, and another one may be rotating.
            self._feed.enter(State.CONNECTING)
            self._feed.enter(State.CONNECTED)
        self._feed.enter(self._state)

    def report_gap(self, host: LineHost, start: float, end: float, reason: GapReason) -> None:
        """Report a Gap of a shard to all streams but those of other shards' channels."""
        group = self._groups.get(host)
        others = self._channels.receivers_of_others(group) if group is not None else ()
        self._router.report_gap(start, end, reason, others)

    def failed(self, host: LineHost, error: BaseException) -> None:
        """End the feed, because no other shard has the channels of this one."""
        self._feed.failed(error)

    def statistics(self) -> dict[str, Any]:
        """Return a snapshot of each shard. May be called from any thread."""
        return {"shards": tuple(self._statistics_of(host, line) for host, line in list(self._lines.items()))}

    def _statistics_of(self, host: LineHost, line: Rotation) -> ShardStatistics:
        last, group = line.last_received_at, self._groups.get(host)
        return ShardStatistics(
            state=host.state,
            channels=0 if group is None else len(group.channels),
            last_message_age=None if last is None else max(0.0, self._loop.time() - last),
        )
