"""The lines of a feed that has several: their combined state, rotations and statistics."""

from __future__ import annotations

import asyncio
import logging
import statistics
from collections.abc import Callable
from typing import Any, Final

from ..connections.arbitration import Arbitration
from ..connections.connection import Connection
from ..connections.joined_line import JoinedLine
from ..connections.opener import Opener, RotationHost
from ..messages.frames import Websocket
from ..observables.loop_context import LoopContext
from ..reporting.state import LineStatistics, State

__all__ = ["LineHost", "Lines"]

#: The feed has the first of these states that any of its lines has.
_ORDER: Final = (State.ROTATING, State.CONNECTED, State.CONNECTING, State.WAITING)


class LineHost:
    """What one line sees of the feed.

    Args:
        feed: the feed.
        lines: the lines of the feed.
        line: 1 for the first line.

    Attributes:
        line: 1 for the first line.
        state: the state of the line.
        failed_with: the error with which the line has failed; None: it has not failed.
    """

    def __init__(self, feed: RotationHost, lines: Lines, line: int) -> None:
        self.line = line
        self.state = State.CONNECTING
        self.failed_with: BaseException | None = None
        self._feed = feed
        self._lines = lines

    @property
    def opening(self) -> str:
        """The name of the user's opening hook, or the address."""
        return self._feed.opening

    async def wait_for_handshake(self) -> None:
        """Wait until the feed allows a handshake."""
        await self._feed.wait_for_handshake()

    async def create(self, address: int) -> Websocket:
        """Run the opening hook."""
        return await self._feed.create(address)

    async def wait_rotation_due(self) -> None:
        """Run the rotation hook."""
        await self._feed.wait_rotation_due()

    def enter(self, state: State) -> None:
        """Set the state of the line."""
        self.state = state
        self._lines.enter()

    def failed(self, error: BaseException) -> None:
        """End the line, and the feed too if no other line is left."""
        self.failed_with = error
        self._lines.failed(self)


class Lines:
    """Several lines as one source of frames.

    Args:
        context: the feed's event loop, scheduler and reporter.
        feed: the feed.
        arbitration: merges the lines.
        make_opener: makes the opener of a line.
        count: the number of lines.
    """

    def __init__(
        self,
        context: LoopContext,
        feed: RotationHost,
        arbitration: Arbitration,
        make_opener: Callable[[LineHost], Opener],
        count: int,
    ) -> None:
        self._loop = context.loop
        self._reporter = context.reporter
        self._feed = feed
        self._arbitration = arbitration
        self._hosts = [LineHost(feed, self, number) for number in range(1, count + 1)]
        self._lines = [JoinedLine(context, each, make_opener(each), arbitration, each.line) for each in self._hosts]
        self._rotating: asyncio.Task[bool] | None = None

    @property
    def connections(self) -> list[Connection]:
        """All open connections."""
        return [connection for line in self._lines for connection in line.connections]

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks that must end after :meth:`stop`, besides those of the connections."""
        own = (*self._arbitration.tasks, self._rotating)
        return [*(task for line in self._lines for task in line.tasks), *(task for task in own if task is not None)]

    @property
    def last_received_at(self) -> float | None:
        """When the last message arrived, on the loop's clock; None before the first. May be read from any thread."""
        return max((at for line in self._lines if (at := line.last_received_at) is not None), default=None)

    @property
    def last_delivery_time(self) -> float | None:
        """When the last message was delivered, in seconds since the epoch; None before the first."""
        return max((at for line in self._lines if (at := line.last_delivery_time) is not None), default=None)

    def start(self) -> None:
        """Start all lines."""
        for line in self._lines:
            line.start()

    def stop(self) -> None:
        """Stop all lines. Idempotent."""
        for line in self._lines:
            line.stop()
        self._arbitration.stop()
        if self._rotating is not None:
            self._rotating.cancel()

    def rotate(self) -> asyncio.Future[bool]:
        """Rotate all lines, one after the other, unless they rotate already."""
        if self._rotating is None or self._rotating.done():
            self._rotating = self._loop.create_task(self._rotate(), name="rxws rotate lines")
        return asyncio.shield(self._rotating)

    async def _rotate(self) -> bool:
        # Wait for one line after the other. A generator in `all` would leave the others out after the first failure.
        pairs = zip(self._hosts, self._lines, strict=True)
        return all([await line.rotate() for host, line in pairs if host.failed_with is None])

    def enter(self) -> None:
        """Set the state of the feed: it is live while one line is."""
        states = {host.state for host in self._hosts if host.failed_with is None}
        self._feed.enter(next(state for state in _ORDER if state in states))

    def failed(self, host: LineHost) -> None:
        """Continue with the other lines, unless there is none, or the whole feed is being torn down."""
        error = host.failed_with
        left = [each.line for each in self._hosts if each.failed_with is None]
        if left and isinstance(error, Exception):
            self._lines[host.line - 1].stop()
            line = "line %d has failed, and the feed goes on with the others: %s"
            self._reporter.log(logging.ERROR, line, host.line, error)
            self.enter()
        elif error is not None:
            self._feed.failed(error)

    def statistics(self) -> tuple[LineStatistics, ...]:
        """Return a snapshot for each line. May be called from any thread."""
        return tuple(self._statistics_of(*each) for each in zip(self._hosts, self._lines, strict=True))

    def _statistics_of(self, host: LineHost, line: JoinedLine) -> LineStatistics:
        connection = line.current
        lags = [] if connection is None else self._arbitration.lag(connection)
        return LineStatistics(
            state=State.FAILED if host.failed_with is not None else host.state,
            is_joined=connection is not None and self._arbitration.is_joined(connection),
            firsts=self._arbitration.firsts.get(host.line, 0),
            lag=statistics.median(lags) if lags else None,
        )
