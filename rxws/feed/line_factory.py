"""Makes the source of a feed's frames: one line, several lines with equal messages, or shards."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from ..connections.arbitration import Arbitration
from ..connections.connection_reporter import ConnectionReporter
from ..connections.ledger import Ledger, ShardLedger
from ..connections.opener import Opener, RotationHost
from ..connections.rotation import Rotation
from ..messages.dispatcher import FrameDispatcher
from ..observables.loop_context import LoopContext
from ..options import Options
from ..sending.channel_group import ChannelGroup
from ..sending.channel_groups import ChannelGroups
from .lines import Lines
from .opening import Opening
from .shards import Shards
from .source import FrameSource

__all__ = ["LineFactory"]


@dataclass(frozen=True, slots=True)
class LineFactory:
    """Makes the lines of a feed.

    Attributes:
        context: the feed's event loop, scheduler and reporter.
        feed: the feed.
        dispatcher: takes the frames of all connections.
        opening: opens the websockets of all lines.
        options: the options of the feed.
        ledger: tracks the continuity of the feed.
    """

    context: LoopContext
    feed: RotationHost
    dispatcher: FrameDispatcher
    opening: Opening
    options: Options
    ledger: Ledger

    def make_source(self, channels: ChannelGroup | ChannelGroups) -> FrameSource:
        """Make the lines that subscribe these channels: a shard for each of several groups."""
        if isinstance(channels, ChannelGroups) and isinstance(self.ledger, ShardLedger):
            router = self.dispatcher.router
            return Shards(self.context, self.feed, router, channels, self._make_opener, self.ledger)
        assert isinstance(channels, ChannelGroup)
        if self.options.lines == 1:
            return Rotation(self.context, self.feed, self._make_opener(self.feed, channels))
        report = ConnectionReporter(self.context.reporter, self.feed.report_gap)
        arbitration = Arbitration(self.context, self.dispatcher, channels, self.options, report)
        make_opener = functools.partial(self._make_opener, channels=channels)
        return Lines(self.context, self.feed, self.dispatcher.router, arbitration, make_opener, self.options.lines)

    def _make_opener(self, host: RotationHost, channels: ChannelGroup) -> Opener:
        # Each of several lines begins with an address of its own, while each shard begins with the first address.
        line = host.line if self.options.lines > 1 else 1
        backoff = self.opening.backoff if host.line == 1 else self.opening.make_backoff(line)
        return Opener(host, channels, self.dispatcher, backoff, self.options)
