"""Notices filters that nothing matches, which mostly are misspelled."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, Final, NamedTuple

from ..display.snapshot import shown
from ..messages.filters import ABSENT, Filter, look_up
from ..messages.router import Router
from ..reporting.events import NothingMatched
from ..reporting.redaction import MASK, redact
from .stream import Stream

__all__ = ["UnmatchedFilters"]

PATIENCE: Final = 10.0
"""Seconds of traffic that a filter may let pass."""

POLL_INTERVAL: Final = 0.25
"""Seconds between two looks at what goes by, while there are streams that nothing has matched."""

LONGEST_INTERVAL: Final = 10.0
"""The same while nothing goes by; the interval doubles up to this."""

SAMPLES: Final = 40
"""How many messages are kept, to show what they have under the keys of a filter."""

VALUES: Final = 5
"""How many of those values are told."""

MOST_TOLD: Final = 100
"""How many filters are told of: whoever has more of them knows by then."""

SHOWN: Final = 200
"""How much of a filter is shown."""


class _Watched(NamedTuple):
    """A stream, its filter, and how many messages had gone by when it was made."""

    stream: weakref.ref[Stream[Any]]
    filter: Filter
    before: int

    @property
    def is_unmatched(self) -> bool:
        stream = self.stream()
        return stream is not None and stream.is_unmatched


class UnmatchedFilters:
    """Tells of each filter once that nothing matched in ten seconds of traffic.

    A message costs nothing: while there are fresh streams that nothing has matched, a timer looks at what was the last
    message. Each stream is looked at once, however many there are.

    Args:
        router: what the messages go through.
        is_settled: whether all that is to be subscribed is: until then nobody can tell what will match.
    """

    def __init__(self, router: Router, is_settled: Callable[[], bool]) -> None:
        self._router = router
        self._loop = router.context.loop
        self._reporter = router.context.reporter
        self._is_settled = is_settled
        # Streams that have seen no traffic yet; then those that have, with the time since when.
        self._fresh: list[_Watched] = []
        self._waiting: deque[tuple[float, _Watched]] = deque()
        self._samples: deque[Any] = deque(maxlen=SAMPLES)
        self._told: set[Filter] = set()
        self._messages = 0
        self._interval = POLL_INTERVAL
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, stream: Stream[Any], filter: Filter) -> None:  # noqa: A002
        """Tell if nothing passes the filter of a new stream. Functions are not told of: they have no keys."""
        if not filter.alternatives:
            return
        self._fresh.append(_Watched(weakref.ref(stream), filter, self._reporter.counters.messages))
        if self._timer is None:
            self._messages = self._reporter.counters.messages
            self._schedule(POLL_INTERVAL)

    def wake(self) -> None:
        """Learn that messages may come from now on."""
        if self._timer is not None:
            self._timer.cancel()
            self._schedule(POLL_INTERVAL)

    def stop(self) -> None:
        """Look no more."""
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
            # Those that have ended meanwhile are not kept: this may last.
            self._fresh = [each for each in self._fresh if each.is_unmatched]
            interval = POLL_INTERVAL if self._waiting else min(2 * self._interval, LONGEST_INTERVAL)
        while self._waiting and now - self._waiting[0][0] >= PATIENCE:
            _, watched = self._waiting.popleft()
            if watched.is_unmatched and watched.filter not in self._told and len(self._told) < MOST_TOLD:
                self._told.add(watched.filter)
                self._tell(watched.filter, messages - watched.before)
        if self._waiting:
            # Not later than it is due, and not in steps that the clock cannot tell apart.
            interval = min(interval, max(0.001, self._waiting[0][0] + PATIENCE - now))
        if self._fresh or self._waiting:
            self._schedule(interval)
        else:
            self._timer = None
            self._samples.clear()

    def _tell(self, filter: Filter, messages: int) -> None:  # noqa: A002
        reporter = self._reporter
        values = {shown(key) if isinstance(key, tuple) else repr(key)[:SHOWN]: self._values(key) for key in filter.keys}
        seen = "; ".join(f"{key} was {', '.join(those) or 'absent'}" for key, those in values.items())
        text = redact(repr(filter))[:SHOWN]
        reporter.log(logging.WARNING, "nothing of %d messages in %g s passed %s: %s", messages, PATIENCE, text, seen)
        reporter.emit(NothingMatched, filter=text, messages=messages, values=values)

    def _values(self, key: Hashable) -> tuple[str, ...]:
        """Return what the messages have under a key: a few, each once, with no secret in them."""
        values: dict[str, None] = {}
        for message in self._samples:
            with self._reporter.guard("a filter's key", message):
                value = look_up(message, key)
                if value is not ABSENT:
                    values[_harmless(key, value)] = None
            if len(values) > VALUES:
                return (*list(values)[:VALUES], "…")
        return tuple(values)


def _harmless(key: Hashable, value: object) -> str:
    # Together, because what the value is called may be what tells that it is a secret.
    name = f"{key[-1] if isinstance(key, tuple) else key}="
    text = redact(name + shown(value))
    return text.removeprefix(name) if text.startswith(name) else MASK
