"""Reports filters that no message has passed. Most of them are misspelled."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Final, NamedTuple

from ..display.snapshot import shown
from ..messages.filters import Filter, has
from ..messages.router import Router
from ..messages.shapes import ABSENT, look_up
from ..reporting.events import NothingMatched
from ..reporting.quoting import quoted_repr
from .stream import Stream

__all__ = ["UnmatchedFilters"]

#: Seconds of traffic without a match after which a filter is reported.
PATIENCE: Final = 10.0

#: Seconds between two checks of the traffic, while there are unmatched streams.
POLL_INTERVAL: Final = 0.25

#: The longest interval between two checks, in seconds. While there is no traffic, the interval doubles up to this
#: value.
LONGEST_INTERVAL: Final = 10.0

#: Number of messages that are kept to show their values under the keys of a filter.
SAMPLES: Final = 40

#: Number of values of a key in a report.
VALUES: Final = 5

#: The largest number of filters that are reported. More reports would not help the user.
MOST_REPORTED: Final = 100


class _Watched(NamedTuple):
    """A stream, its filter, and the number of messages that the feed had delivered before the stream was made."""

    stream: weakref.ref[Stream[Any]]
    filter: Filter
    before: int

    @property
    def is_unmatched(self) -> bool:
        stream = self.stream()
        return stream is not None and stream.is_unmatched


class UnmatchedFilters:
    """Reports each filter that no message has passed in ten seconds of traffic, once.

    It costs no time per message: while there are new unmatched streams, a timer samples the router's last message. Each
    stream is checked once.

    Args:
        router: the router of the feed's messages.
        is_settled: returns whether all channels are subscribed. Until then it is unknown which filters will match.
    """

    def __init__(self, router: Router, is_settled: Callable[[], bool]) -> None:
        self._router = router
        self._loop = router.context.loop
        self._reporter = router.context.reporter
        self._is_settled = is_settled
        # `_fresh` contains the streams for which no traffic was seen yet. `_waiting` contains the others, each with the
        # time when traffic was first seen.
        self._fresh: list[_Watched] = []
        self._waiting: deque[tuple[float, _Watched]] = deque()
        self._samples: deque[Any] = deque(maxlen=SAMPLES)
        self._reported: set[Filter] = set()
        self._messages = 0
        self._interval = POLL_INTERVAL
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, stream: Stream[Any], filter: Filter) -> None:  # noqa: A002
        """Watch a new stream, and report its filter if no message passes it. A filter that is a function is ignored."""
        if not filter.alternatives:
            return
        self._fresh.append(_Watched(weakref.ref(stream), filter, self._reporter.counters.messages))
        if self._timer is None:
            self._messages = self._reporter.counters.messages
            self._schedule(POLL_INTERVAL)

    def wake(self) -> None:
        """Check at the shortest interval again. Called when messages may arrive."""
        if self._timer is not None:
            self._timer.cancel()
            self._schedule(POLL_INTERVAL)

    def stop(self) -> None:
        """Stop the checks."""
        if self._timer is not None:
            self._timer.cancel()
        self._fresh.clear()
        self._waiting.clear()
        self._samples.clear()

    def _schedule(self, interval: float) -> None:
        self._interval = interval
        self._timer = self._loop.call_later(interval, self._look)

    def _look(self) -> None:
        now, messages = self._loop.time(), self._reporter.counters.messages
        has_traffic = messages > self._messages
        interval, self._messages = POLL_INTERVAL, messages
        if has_traffic:
            self._samples.append(self._router.last_message)
        if has_traffic and self._is_settled():
            self._waiting.extend((now, each) for each in self._fresh)
            self._fresh.clear()
        else:
            # Drop the streams that have ended. Without traffic nothing else drops them, perhaps for a long time.
            self._fresh = [each for each in self._fresh if each.is_unmatched]
            interval = POLL_INTERVAL if self._waiting else min(2 * self._interval, LONGEST_INTERVAL)
        while self._waiting and now - self._waiting[0][0] >= PATIENCE:
            _, watched = self._waiting.popleft()
            if watched.is_unmatched and watched.filter not in self._reported and len(self._reported) < MOST_REPORTED:
                self._reported.add(watched.filter)
                self._report(watched.filter, messages - watched.before)
        if self._waiting:
            # Check when the next report is due, but wait at least 1 ms, because a shorter wait may be below the
            # resolution of the clock.
            interval = min(interval, max(0.001, self._waiting[0][0] + PATIENCE - now))
        if self._fresh or self._waiting:
            self._schedule(interval)
        else:
            self._timer = None
            self._samples.clear()

    def _report(self, filter: Filter, messages: int) -> None:  # noqa: A002
        reporter = self._reporter
        values = {
            shown(key) if isinstance(key, tuple) else quoted_repr(key): self._values(filter, key) for key in filter.keys
        }
        text = quoted_repr(filter)
        event = reporter.emit(NothingMatched, filter=text, messages=messages, values=values)
        reporter.log(logging.WARNING, event, about=text)

    def _values(self, filter: Filter, key: Hashable) -> tuple[str, ...]:  # noqa: A002
        """Return a few distinct values of the messages under a key, with secrets redacted.

        If there are messages that fail a dict of the filter only because of this key, only their values are returned.
        """
        dicts = [each for each in filter.alternatives if key in each]
        others = [[pair for pair in each.items() if pair[0] != key] for each in dicts]
        nearest: dict[str, None] = {}
        values: dict[str, None] = {}
        for message in self._samples:
            with self._reporter.guard("a filter's key", message):
                value = look_up(message, key)
                if value is not ABSENT:
                    text = shown(value, key[-1] if isinstance(key, tuple) else key)
                    values[text] = None
                    if any(has(message, pairs) for pairs in others):
                        nearest[text] = None
        found = [*(nearest or values)]
        return (*found[:VALUES], "…") if len(found) > VALUES else tuple(found)
