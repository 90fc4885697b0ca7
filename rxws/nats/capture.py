"""The part of a relay that the feed calls: it puts the messages of the feed into an outbox, and never waits."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

from ..codec import to_payload
from ..feed import Feed
from ..messages import Filter, Frame, Receiver
from ..observables import DROP_REPORT_INTERVAL, LAG_MARKS
from ..reporting import FAILURES, Connected, Event, Gap, Lagging, Overflowed
from .outbox import Held, Hole, Outbox

__all__ = ["Capture"]


class Capture(Receiver):
    """A receiver that is registered with the router of a feed. It makes each message an entry of the outbox.

    Args:
        feed: the feed.
        outbox: takes the messages.
        label: the name of the relay in logs and events.
        subject_of: returns the subject of a message.
        identity_of: returns the id of a message, by which the broker recognizes and drops copies.
        wake: called when there is an entry to publish.

    Attributes:
        since: the time since which it has every message, in seconds since the epoch; None if the feed was never
            connected.
        has_ended: whether the feed has ended.
    """

    def __init__(
        self,
        feed: Feed,
        outbox: Outbox,
        label: str,
        subject_of: Callable[[Any], str],
        identity_of: Callable[[Any], str],
        wake: Callable[[], None],
    ) -> None:
        self.has_ended = False
        self._feed = feed
        self._reporter = feed.reporter
        self._outbox = outbox
        self._label = label
        self._subject_of = subject_of
        self._identity_of = identity_of
        self._wake = wake
        self._frame: tuple[Frame, int, int] = ("", time.time_ns(), 0)
        self._is_raw = False
        self._reported_at = -DROP_REPORT_INTERVAL
        self._dropped_before = 0
        self._lag_marks = list(LAG_MARKS)
        #: The numbers of connections whose frames may be older than the time at which they are read.
        self._stale: frozenset[int] = frozenset()
        self._is_stale = False
        self._stale_since = 0.0
        # Called if a message is received later than `notice_after`, in nanoseconds since the epoch.
        self.notice: Callable[[], object] = lambda: None
        self.notice_after = math.inf
        self.since = time.time() if feed.state.value.is_live else None
        if self.since is not None:
            outbox.add_hole(Hole(None, self.since, "start"))

    @property
    def is_complete(self) -> bool:
        """Whether the feed is connected now. Then it has delivered all messages so far."""
        return self.since is not None and not self._is_stale and self._feed.state.value.is_live

    def start(self, filters: Filter) -> list[Any]:
        """Begin. Return the Disposables to dispose at the end."""
        # The frame of a message is emitted before the message.
        frames = self._feed.dispatcher.frames.subscribe(self._on_frame, _ignore)
        events = self._feed.events.subscribe(self._on_event, _ignore)
        self._feed.router.add(self, filters)
        return [frames, events]

    def stop(self) -> None:
        """Take no more messages. Idempotent."""
        self._feed.router.remove(self)

    # Called by the feed

    def _on_frame(self, frame: tuple[Frame, int, int]) -> None:
        self._frame = frame
        self._is_raw = not self._feed.dispatcher.holds_many

    def _on_event(self, event: Event) -> None:
        if isinstance(event, Connected) and self.since is None:
            self.since = event.time
            self._outbox.add_hole(Hole(None, self.since, "start"))
            self._wake()

    def on_message(self, message: Any) -> None:
        """Take a message of the feed."""
        raw, received, number = self._frame
        is_raw, self._is_raw = self._is_raw, False
        if received > self.notice_after:
            self.notice()
        if self._stale:
            self._check_age(number, received)
        try:
            payload = raw if is_raw else to_payload(message, self._feed.options.encode)
            subject, identity = self._subject_of(message), self._identity_of(message)
        except FAILURES as error:
            self._reporter.failed(self._label, message, error)
            self._lose(received)
            return
        is_binary = not isinstance(payload, str)
        data = payload if is_binary else payload.encode()  # type: ignore[union-attr]
        dropped = self._outbox.add(Held(subject, data, identity, number, received, is_binary))  # type: ignore[arg-type]
        if dropped:
            self._report_drops(dropped)
        elif self._lag_marks and self._outbox.pending >= self._lag_marks[0]:
            self._report_lag()
        self._wake()

    def on_gap(self, gap: Gap) -> None:
        """Note that the feed itself lost messages."""
        self._is_stale = False
        self._outbox.add_hole(Hole(gap.start, gap.end, str(gap.reason)))
        self._wake()

    def on_end(self, _error: Exception | None) -> None:
        """Note the end of the feed."""
        self.has_ended = True
        self._wake()

    def __len__(self) -> int:
        return self._outbox.pending

    # Losses

    def _lose(self, received: int) -> None:
        """Note the loss of a message that no relay of this feed can publish."""
        self._outbox.dropped += 1
        seconds = received / 1e9
        self._outbox.add_hole(Hole(seconds, seconds, "refused", 1, is_ordered=True))

    def was_suspended(self, since: float) -> None:
        """Note that this process was suspended since ``since``, so the messages that wait in it may be old.

        Abort the connections, which hold such messages, because the broker may have forgotten the copies of these.
        """
        connections = [each for each in self._feed.source.connections if hasattr(each, "abort")]
        self._stale = frozenset(each.number for each in connections)
        self._stale_since = since
        self._is_stale = bool(connections)
        self._outbox.add_standstill(since)
        for connection in connections:
            connection.abort()

    def _check_age(self, number: int, received: int) -> None:
        is_stale = number in self._stale
        if not is_stale:
            self._stale = frozenset()
        if is_stale and not self._is_stale:
            self._outbox.add_hole(Hole(self._stale_since, None, "standstill", stale_since=self._stale_since))
        elif self._is_stale and not is_stale:
            # A feed that resumes has no gap before this message.
            self._outbox.add_hole(Hole(None, received / 1e9, "standstill"))
        self._is_stale = is_stale

    def _report_drops(self, dropped: int) -> None:
        reporter = self._reporter
        reporter.counters.dropped += dropped
        now = self._feed.loop.time()
        if now - self._reported_at >= DROP_REPORT_INTERVAL:
            self._reported_at = now
            total = self._outbox.dropped
            reporter.log(logging.WARNING, "%s is full: %d messages were dropped so far", self._label, total)
            reporter.emit(Overflowed, consumer=self._label, overflow="drop_oldest", dropped=total)

    def _report_lag(self) -> None:
        pending = self._outbox.pending
        del self._lag_marks[0]
        self._reporter.log(logging.WARNING, "%s: %d messages wait for the broker", self._label, pending)
        self._reporter.emit(Lagging, consumer=self._label, pending=pending)

    def caught_up(self) -> None:
        """Warn again at the next backlog, because the present one has been published."""
        self._lag_marks = list(LAG_MARKS)


def _ignore(_error: Exception) -> None:
    """Ignore the error of the feed, because the router reports the end of the feed."""
