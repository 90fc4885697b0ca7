"""Computes the delay before the next attempt to connect. No I/O."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from websockets.frames import CloseCode

from .failures import CREDENTIALS_REFUSED, TOO_MANY_REQUESTS, Failure, is_fatal

__all__ = ["Backoff"]

#: A connection is healthy if its first and last message are at least this many seconds apart. Then the delays start
#: over.
HEALTHY_SPAN: Final = 3.0

#: A connection with a message is also healthy if it was open for this many seconds. Without this minimum, a server
#: that accepts connections and soon closes them would seem healthy.
HEALTHY_AFTER: Final = 20.0

#: The shortest delay, in seconds, after HTTP 429 (too many requests) without ``Retry-After``.
THROTTLE_DELAY: Final = 2.0

#: The shortest delay, in seconds, after the close codes 1012 (service restart) and 1013 (try again later).
RESTART_DELAY: Final = 2.0

_RESTART_CODES: Final = frozenset({CloseCode.SERVICE_RESTART, CloseCode.TRY_AGAIN_LATER})


class Backoff:
    """Computes the delay before each attempt to connect, from the start of a feed to its end.

    Args:
        delays: returns an iterable of the seconds to wait before each retry; when it is exhausted, no retry follows.
        should_retry: called with the exception of a failure: True retries, False gives up, None leaves the decision to
            :func:`is_fatal`.

    Attributes:
        attempts: the number of attempts since the last connection ended, or since the feed started. The attempt that is
            being made, or that opened the current connection, is counted.
        opened_at: when the last connection was opened, or None before the first success.
    """

    def __init__(
        self, delays: Callable[[], Iterable[float]], should_retry: Callable[[BaseException], bool | None]
    ) -> None:
        self.attempts = 0
        self.opened_at: float | None = None
        self._make_delays: Final = delays
        self._should_retry: Final = should_retry
        self._delays: Iterator[float] | None = None
        self._refusals = 0
        self._is_open = False

    def attempt_started(self) -> None:
        """Note that an attempt to open a connection begins."""
        self.attempts = 1 if self._is_open else self.attempts + 1
        self._is_open = False

    def opened(self, now: float) -> None:
        """Note that the attempt succeeded at ``now``, in seconds on any clock. This does not reset the delays."""
        self.opened_at = now
        self._is_open = True
        self._refusals = 0

    def closed(self, opened_at: float, now: float, first: float | None, last: float | None) -> None:
        """Note the end of a connection. If it was healthy, the delays start over.

        It was healthy if its first and last message are at least 3 s apart, or if a message arrived and it was open for
        at least 20 s.

        Args:
            opened_at: when it was opened, in seconds on the clock of :meth:`opened`.
            now: when it ended.
            first: when its first message arrived; None if none arrived.
            last: when its last message arrived; None if none arrived.
        """
        # Do not use the attribute `opened_at`: in a rotation the next connection opens before this one ends.
        if first is None or last is None:
            return
        if last - first >= HEALTHY_SPAN or now - opened_at >= HEALTHY_AFTER:
            self._delays = None

    def next_delay(self, failure: Failure) -> float | None:
        """Return the seconds to wait after ``failure``, or None to give up.

        The delay is at least the ``Retry-After`` of the server. It is at least 2 s after the close codes 1012 and 1013,
        and after HTTP 429 without ``Retry-After``.

        Raises:
            TypeError: ``reconnect_delays`` did not return an iterable of numbers, or ``should_retry`` returned
                something other than True, False or None.
            ValueError: a delay is negative, infinite or NaN.
            BaseException: the exception of ``reconnect_delays`` or ``should_retry``.
        """
        self._refusals = self._refusals + 1 if failure.status in CREDENTIALS_REFUSED else 0
        delay = self._draw() if self._is_worth_a_retry(failure) else None
        if delay is None:
            return None
        return max(delay, _shortest_delay(failure))

    def _is_worth_a_retry(self, failure: Failure) -> bool:
        verdict = None if failure.error is None else self._should_retry(failure.error)
        if verdict is None:
            return not is_fatal(failure, succeeded=self.opened_at is not None, refusals=self._refusals)
        if not isinstance(verdict, bool):
            # The coroutine of an async function, for example, would always be true.
            raise TypeError(f"should_retry must return True, False or None, not {type(verdict).__name__}")
        return verdict

    def _draw(self) -> float | None:
        if self._delays is None:
            delays = self._make_delays()
            if not isinstance(delays, Iterable):
                raise TypeError(f"reconnect_delays must return an iterable of seconds, not {delays!r}")
            self._delays = iter(delays)
        try:
            delay = next(self._delays)
        except StopIteration:
            return None
        if not isinstance(delay, numbers.Real):
            raise TypeError(f"reconnect_delays must give numbers of seconds, not {delay!r}")
        if not 0 <= delay < math.inf:
            raise ValueError(f"reconnect_delays must give finite seconds that are not negative, not {delay!r}")
        return float(delay)


def _shortest_delay(failure: Failure) -> float:
    if failure.retry_after is not None:
        return failure.retry_after
    if failure.status == TOO_MANY_REQUESTS:
        return THROTTLE_DELAY
    return RESTART_DELAY if failure.code in _RESTART_CODES else 0.0
