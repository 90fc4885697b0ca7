"""The lines of a feed that have the same messages: their state, failures and statistics."""

from __future__ import annotations

import asyncio
import logging
import statistics
from collections.abc import Callable
from typing import Any

from ..connections.arbitration import Arbitration
from ..connections.joined_line import JoinedLine
from ..connections.opener import Opener, RotationHost
from ..messages.router import Router
from ..observables.loop_context import LoopContext
from ..reporting.state import LineStatistics, State
from .line_set import LineHost, LineSet

__all__ = ["Lines"]


class Lines(LineSet[JoinedLine]):
    """Several lines that have the same messages.

    Args:
        context: the feed's event loop, scheduler and reporter.
        feed: the feed.
        router: announces gaps.
        arbitration: merges the lines.
        make_opener: makes the opener of a line.
        count: the number of lines.
    """

    # The feed is live while one line is.
    order = (State.ROTATING, State.CONNECTED, State.CONNECTING, State.WAITING)

    def __init__(
        self,
        context: LoopContext,
        feed: RotationHost,
        router: Router,
        arbitration: Arbitration,
        make_opener: Callable[[LineHost], Opener],
        count: int,
    ) -> None:
        super().__init__(context, feed, router)
        self._arbitration = arbitration
        for number in range(1, count + 1):
            host = LineHost(feed, self, number)
            self._lines[host] = JoinedLine(context, host, make_opener(host), arbitration, number)

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks that must end after :meth:`stop`, besides those of the connections."""
        return [*super().tasks, *self._arbitration.tasks]

    def stop(self) -> None:
        """Stop all lines. Idempotent."""
        super().stop()
        self._arbitration.stop()

    def failed(self, host: LineHost, error: BaseException) -> None:
        """Continue with the other lines, unless there is none, or the whole feed is being torn down."""
        is_last = all(each.failed_with is not None for each in self._lines)
        if is_last or not isinstance(error, Exception):
            self._feed.failed(error)
            return
        self._lines[host].stop()
        line = "line %d has failed, and the feed goes on with the others: %s"
        self._reporter.log(logging.ERROR, line, host.line, error)
        self.enter()

    def statistics(self) -> dict[str, Any]:
        """Return a snapshot of each line. May be called from any thread."""
        return {"lines": tuple(self._statistics_of(*each) for each in self._lines.items())}

    def _statistics_of(self, host: LineHost, line: JoinedLine) -> LineStatistics:
        connection = line.current
        lags = [] if connection is None else self._arbitration.lag(connection)
        return LineStatistics(
            state=State.FAILED if host.failed_with is not None else host.state,
            is_joined=connection is not None and self._arbitration.is_joined(connection),
            firsts=self._arbitration.firsts.get(host.line, 0),
            lag=statistics.median(lags) if lags else None,
        )
