"""Reports what happens to the connections of a feed: in the log, the counters and the events."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Final

from ..messages.router import Router
from ..reporting.events import Connected, Disconnected, Overflowed, Quiet, Reason, Resumed, Rotated
from ..reporting.reporter import Reporter
from .failures import Failure

__all__ = ["ConnectionReporter"]

#: The log levels of connection ends, by reason; other reasons are warnings. An error is logged with its traceback.
_LEVELS: Final[dict[Reason, int]] = {"rotation": logging.INFO, "user": logging.INFO, "internal": logging.ERROR}


@dataclass(frozen=True, slots=True)
class ConnectionReporter:
    """Logs, counts and emits what happens to connections, each thing once.

    Attributes:
        reporter: logs, counts and emits.
        router: announces gaps to its receivers, and has the last message.
    """

    reporter: Reporter
    router: Router

    def connected(self, number: int, attempt: int) -> None:
        """Report that a connection takes over; ``attempt`` is how many attempts it took."""
        reporter = self.reporter
        reporter.log(logging.INFO, "connection %d is open", number)
        reporter.emit(Connected, number=number, attempt=attempt)

    def reconnected(self, reason: Reason) -> None:
        """Count a reconnection that was not planned, by the reason that the connection before was lost."""
        if reason != "rotation":
            reconnects = self.reporter.counters.reconnects
            reconnects[reason] = reconnects.get(reason, 0) + 1

    def gap(self, since: float, reason: Reason, until: float | None = None) -> None:
        """Report that messages from ``since`` to ``until`` may be missing, in seconds since the epoch; None: now."""
        self.router.report_gap(since, self.reporter.now() if until is None else until, reason)

    def resumed(self, number: int) -> None:
        """Report that a connection says that it begins where the last one ended."""
        self.reporter.log(logging.INFO, "connection %d begins where the last one ended", number)
        self.reporter.emit(Resumed, number=number)

    def ended(self, number: int, failure: Failure) -> None:
        """Report that a connection has ended."""
        level = _LEVELS.get(failure.reason, logging.WARNING)
        error = failure.error if level == logging.ERROR else None
        self.reporter.log(level, "connection %d ended: %s (%s)", number, failure.cause, failure.reason, error=error)
        self._disconnected(number, failure, None)

    def refused(self, failure: Failure, delay: float | None) -> None:
        """Report that no connection could be opened; the next attempt follows in ``delay`` seconds (None: never)."""
        after = "giving up" if delay is None else f"next attempt in {delay:.1f} s"
        self.reporter.log(logging.WARNING, "no connection: %s (%s); %s", failure.cause, failure.reason, after)
        self._disconnected(None, failure, delay)

    def _disconnected(self, number: int | None, failure: Failure, delay: float | None) -> None:
        self.reporter.emit(
            Disconnected, number=number, reason=failure.reason, cause=failure.cause, code=failure.code, delay=delay
        )

    def rotated(self, number: int, **overlap: Any) -> None:
        """Report that a planned rotation is complete. An overlap with messages and without a proof is a warning.

        Args:
            number: the number of the new connection.
            overlap: the other fields of :class:`Rotated`, if there was an overlap.
        """
        self.reporter.counters.rotations += 1
        event = self.reporter.emit(Rotated, number=number, **overlap)
        self.reporter.log(
            logging.INFO if event.proven or not event.held else logging.WARNING,
            "rotated to connection %d: overlap %s, %d held, %d of them copies, paused %.3f s",
            event.number,
            "proven" if event.proven else "not proven",
            event.held,
            event.duplicates,
            event.paused,
        )

    def rotated_too_soon(self, delay: float) -> None:
        """Report that a rotation is delayed, because its rotation hook ended as soon as it had begun."""
        line = (
            "_when2create_new_ws ended as soon as it had begun: its rotation waits %.1f s; "
            "to never rotate, let the hook wait forever: 'await asyncio.Future()'"
        )
        self.reporter.log(logging.WARNING, line, delay)

    def quiet(self, number: int, seconds: float) -> None:
        """Report that no message has come for so many seconds, which may be normal for the feed."""
        reporter = self.reporter
        reporter.log(logging.WARNING, "no message for %g s on connection %d", seconds, number)
        reporter.emit(Quiet, seconds=seconds)

    def flooded(self, number: int, dropped: int) -> None:
        """Report that more frames came before everything was subscribed on a connection than can be held."""
        reporter = self.reporter
        reporter.counters.dropped += dropped
        line = "connection %d: too many frames came before everything was subscribed: the first %d were dropped"
        reporter.log(logging.WARNING, line, number, dropped)
        reporter.emit(Overflowed, consumer=f"connection {number}", overflow="drop_oldest", dropped=dropped)
