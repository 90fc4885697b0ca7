"""Reports what happens to the connections of a feed, in the log, the counters and the events."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ..reporting.event import GapReason, Reason
from ..reporting.events import Connected, Disconnected, Overflowed, Quiet, Resumed, Rotated
from ..reporting.log_limit import ONCE
from ..reporting.reporter import Reporter
from .failures import Failure

__all__ = ["ConnectionReporter"]

#: The log level of a connection's end, by reason. Other reasons are warnings. Errors are logged with their traceback.
_LEVELS: Final[dict[Reason, int]] = {"rotation": logging.INFO, "user": logging.INFO, "internal": logging.ERROR}


@dataclass(frozen=True, slots=True)
class ConnectionReporter:
    """Logs, counts and emits what happens to connections.

    Attributes:
        reporter: logs, counts and emits.
        report_gap: counts, emits and announces a gap.
    """

    reporter: Reporter
    report_gap: Callable[[float, float, GapReason], None]

    def connected(self, number: int, attempt: int) -> None:
        """Report that a connection takes over. It was opened by the attempt with the number ``attempt``."""
        self.reporter.log(logging.INFO, self.reporter.emit(Connected, number=number, attempt=attempt))

    def reconnected(self, reason: Reason) -> None:
        """Count an unplanned reconnection, by the reason for which the previous connection was lost."""
        if reason != "rotation":
            reconnects = self.reporter.counters.reconnects
            reconnects[reason] = reconnects.get(reason, 0) + 1

    def gap(self, since: float, reason: Reason, until: float | None = None) -> None:
        """Report that messages from ``since`` to ``until`` may be missing, in seconds since the epoch; None: now."""
        self.report_gap(since, self.reporter.now() if until is None else until, reason)

    def resumed(self, number: int, replayed: int = 0) -> None:
        """Report that a connection begins where the lost one ended. ``replayed`` is the number of repeated messages."""
        self.reporter.log(logging.INFO, self.reporter.emit(Resumed, number=number, replayed=replayed))

    def not_resumed(self, doubts: list[str]) -> None:
        """Warn once of each possible reason why no connection resumes."""
        for doubt in doubts:
            self.reporter.log(logging.WARNING, "the feed did not resume: %s", doubt, about=doubt, times=ONCE)

    def ended(self, number: int, failure: Failure) -> None:
        """Report that a connection has ended."""
        level = _LEVELS.get(failure.reason, logging.WARNING)
        self._disconnected(level, number, failure, None)

    def refused(self, failure: Failure, delay: float | None) -> None:
        """Report that no connection could be opened. The next attempt follows in ``delay`` seconds (None: never)."""
        self._disconnected(logging.WARNING, None, failure, delay)

    def _disconnected(self, level: int, number: int | None, failure: Failure, delay: float | None) -> None:
        event = self.reporter.emit(
            Disconnected, number=number, reason=failure.reason, cause=failure.cause, code=failure.code, delay=delay
        )
        # Repeated lines are suppressed per subject, which is the kind of failure (attempt or loss) and its reason.
        about = number is None, failure.reason
        self.reporter.log(level, event, about=about, error=failure.error if level == logging.ERROR else None)

    def rotated(self, number: int, **overlap: Any) -> None:
        """Report that a planned rotation is complete. Warn if the overlap had messages and was not proven.

        Args:
            number: the number of the new connection.
            overlap: the other fields of :class:`Rotated`, if there was an overlap.
        """
        self.reporter.counters.rotations += 1
        event = self.reporter.emit(Rotated, number=number, **overlap)
        self.reporter.log(logging.INFO if event.proven or not event.held else logging.WARNING, event)

    def rotated_too_soon(self, delay: float) -> None:
        """Report that a rotation is delayed, because its rotation hook returned too soon."""
        line = (
            "_when2create_new_ws returned too soon, so the rotation is delayed by %.1f s; "
            "to never rotate, let the hook wait forever: 'await asyncio.Future()'"
        )
        self.reporter.log(logging.WARNING, line, delay)

    def quiet(self, seconds: float) -> None:
        """Report that no message has arrived for this many seconds, which may be normal for the feed."""
        self.reporter.log(logging.WARNING, self.reporter.emit(Quiet, seconds=seconds))

    def flooded(self, number: int, dropped: int) -> None:
        """Report that frames were dropped, because too many arrived before all channels were subscribed."""
        reporter = self.reporter
        reporter.counters.dropped += dropped
        consumer = f"connection {number}"
        event = reporter.emit(Overflowed, consumer=consumer, overflow="drop_oldest", dropped=dropped)
        reporter.log(logging.WARNING, event, about=consumer)
