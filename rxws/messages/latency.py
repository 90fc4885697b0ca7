"""Measures the latency of messages: the time from their sending, which they contain, to their arrival."""

from __future__ import annotations

import contextlib
import logging
import math
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from ..options import Options
from ..reporting.cancellation import FAILURES
from ..reporting.events import Gap, LatencyExceeded, LatencyRecovered
from ..reporting.reporter import Reporter
from ..reporting.state import Latency
from .fields import field_reader
from .hooks import Many, ParseHooks
from .times import MICROSECONDS, PER_SECOND, check_unit, microseconds

__all__ = ["LatencyMeter", "make_meter"]

#: The shortest time between two measurements, in seconds. It limits the memory and the time that they take.
INTERVAL: Final = 0.01

#: Seconds for which a measurement is kept.
WINDOW: Final = 60.0

#: Seconds without a latency above ``max_latency`` after which it counts as recovered.
CALM: Final = 5.0

#: Seconds without any message that has the field ``sent_at``, after which this is reported.
PATIENCE: Final = 10.0

#: A time that differs more from the present, in seconds, shows that the unit is wrong, not that a message is late.
FARTHEST: Final = 366 * 86_400.0

#: The smallest difference of the clocks that is logged, in seconds. Many servers send whole milliseconds.
SMALLEST_DIFFERENCE: Final = 0.001


def make_meter(hooks: ParseHooks, options: Options, reporter: Reporter) -> LatencyMeter | None:
    """Return the meter of a feed; None without the option ``sent_at``."""
    return None if options.sent_at is None else LatencyMeter(hooks, options, reporter)


class LatencyMeter:
    """Compares the times in messages with this machine's clock: of one message per iteration of the loop, at most.

    Args:
        hooks: the hooks of the feed. Messages that are per connection are not measured, because they may be older than
            their subscription.
        options: the options of the feed, of which ``sent_at`` is not None.
        reporter: has the clock, and reports.

    Raises:
        TypeError, ValueError: ``sent_at`` or ``unit`` is wrong.
    """

    def __init__(self, hooks: ParseHooks, options: Options, reporter: Reporter) -> None:
        check_unit(options.unit)
        self._value_of = field_reader(options.sent_at, "sent_at")
        self._per_second = PER_SECOND[options.unit]
        self._limit = math.inf if options.max_latency is None else options.max_latency
        self._reporter = reporter
        self._per_connection = hooks.per_connection
        # The time and the latency of each measurement.
        self._measured: deque[tuple[float, float]] = deque(maxlen=round(WINDOW / INTERVAL))
        self._looked_at = -math.inf
        self._lacking_since: float | None = None
        self._has_failed = False
        # The negative latency that was logged last.
        self._logged = -SMALLEST_DIFFERENCE / 2
        # When the latency began to exceed the limit, when it last did, and the highest latency since it began.
        self._exceeded_at: float | None = None
        self._late_at = -math.inf
        self._highest = 0.0

    def measure(self, message: Any, now: float) -> None:
        """Measure the latency of a message that has just arrived.

        Args:
            message: the message. Of several messages the first one is measured.
            now: the time of the reporter's clock.
        """
        # The clock may have been set back, so the last measurement may seem to be in the future.
        if 0 <= now - self._looked_at < INTERVAL:
            return
        self._looked_at = now
        if type(message) is Many:
            message = next((each for each in message if type(each) is not Gap), None)
        if message is None or self._is_own(message):
            return
        try:
            latency = self._latency_of(message, now)
        except KeyError as error:
            self._lacks(message, error, now)
        except FAILURES as error:
            # A wrong field fails for every message, so report only the first one.
            if self._has_failed:
                self._reporter.counters.failures += 1
            else:
                self._reporter.failed("sent_at", message, error)
            self._has_failed = True
        else:
            self._lacking_since = math.inf
            if latency is not None:
                self._measured.append((now, latency))
                self._compare(latency, now)

    def age(self, messages: Iterable[Any]) -> float | None:
        """Return the seconds since the first of the messages that has a time was sent; None if none has a time."""
        for message in messages:
            with contextlib.suppress(*FAILURES):
                if (age := self._latency_of(message, self._reporter.now())) is not None:
                    return age
        return None

    def read(self) -> Latency | None:
        """Return a snapshot; None if nothing was measured in the last minute. May be called from any thread."""
        # The copy of a deque is one call of C code, so the loop's thread cannot change the deque meanwhile.
        measured, since = list(self._measured), self._reporter.now() - WINDOW
        recent = [latency for at, latency in measured if at > since]
        if not recent:
            return None
        ordered = sorted(recent)
        p50, p99 = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.50, 0.99))
        return Latency(newest=recent[-1], lowest=ordered[0], p50=p50, p99=p99)

    def _is_own(self, message: Any) -> bool:
        """Return whether a message is per connection. If the hook raises, the message is not."""
        if self._per_connection is not None:
            with self._reporter.guard(self._per_connection, message):
                return self._per_connection(message)
        return False

    def _latency_of(self, message: Any, now: float) -> float | None:
        value = self._value_of(message)
        if value is None:
            return None
        latency = now - microseconds(value, self._per_second) / MICROSECONDS
        if abs(latency) > FARTHEST:
            days = f"{abs(latency) / 86_400:,.0f} days {'ago' if latency > 0 else 'from now'}"
            raise ValueError(f"the message was sent {days}, according to {value!r}: check the argument unit")
        return latency

    def _lacks(self, message: Any, error: KeyError, now: float) -> None:
        """Report once that no message has the field. If some have it, the others are of another kind."""
        if self._lacking_since is None:
            self._lacking_since = now
        elif now - self._lacking_since >= PATIENCE:
            self._lacking_since = math.inf
            self._reporter.failed("sent_at", message, error)

    def _compare(self, latency: float, now: float) -> None:
        if latency <= 2 * self._logged:
            self._logged = latency
            line = "a message arrived %.3f s before it was sent: this clock is behind the server's by at least as much"
            self._reporter.log(logging.WARNING, line, -latency)
        if latency > self._limit:
            self._late_at = now
            self._highest = max(self._highest, latency)
            if self._exceeded_at is None:
                self._exceeded_at, self._highest = now, latency
                event = self._reporter.emit(LatencyExceeded, latency=latency, max_latency=self._limit)
                self._reporter.log(logging.WARNING, event)
        elif self._exceeded_at is not None and not 0 <= now - self._late_at < CALM:
            seconds, self._exceeded_at = max(0.0, now - self._exceeded_at), None
            values = {"latency": latency, "max_latency": self._limit, "highest": self._highest, "seconds": seconds}
            self._reporter.log(logging.INFO, self._reporter.emit(LatencyRecovered, **values))
