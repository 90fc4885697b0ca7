"""Computes the delay before the next attempt to connect. No I/O."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from websockets.frames import CloseCode

from .failures import CREDENTIALS_REFUSED, TOO_MANY_REQUESTS, Failure, is_fatal

__all__ = ["Address", "Backoff"]

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


@dataclass(eq=False, slots=True)
class Address:
    """The delays of one address. All lines that connect to it share them.

    Attributes:
        delays: the next delays; None: they start over.
        refusals: the number of attempts in a row that were answered with HTTP 401 or 403.
        has_opened: whether a connection was ever open.
        is_given_up: whether a retry makes no sense.
        free_at: the time before which no line with another address connects to it.
        drawn_at: when the last delay was drawn.
    """

    delays: Iterator[float] | None = None
    refusals: int = 0
    has_opened: bool = False
    is_given_up: bool = False
    free_at: float = -math.inf
    drawn_at: float = -math.inf


class Backoff:
    """Computes the delay before each attempt of one line to connect, and chooses the address of the attempt.

    After a failure the next attempt uses another address, if there is one. Otherwise it uses the first whose delay is
    over, beginning with ``first``.

    Connections and attempts of several lines that began before the last delay was drawn failed in the same outage. They
    wait for the rest of that delay, so that fifty lines do not use up fifty delays at once.

    Args:
        delays: returns an iterable of the seconds to wait before each retry; when it is exhausted, no retry follows.
        should_retry: called with the exception of a failure: True retries, False gives up, None leaves the decision to
            :func:`is_fatal`.
        addresses: the addresses; all lines of a feed share the list. None: there is one.
        first: the index of the address with which this line begins.

    Attributes:
        attempts: the number of attempts since the last connection ended, or since the feed started. The attempt that is
            being made, or that opened the current connection, is counted.
        index: the index of the address of the last attempt.
    """

    def __init__(
        self,
        delays: Callable[[], Iterable[float]],
        should_retry: Callable[[BaseException], bool | None],
        addresses: list[Address] | None = None,
        first: int = 0,
    ) -> None:
        self.attempts = 0
        self.index = 0
        self._make_delays: Final = delays
        self._should_retry: Final = should_retry
        self._addresses: Final = [Address()] if addresses is None else addresses
        self._first: Final = first
        # The address of the last failure, until a connection is open.
        self._failed: Address | None = None
        self._is_open = False
        # When the last attempt began, or when the last delay was drawn for this line.
        self._began_at = math.inf

    @property
    def address(self) -> Address:
        """The address of the last attempt."""
        return self._addresses[self.index]

    def attempt_started(self, now: float = 0.0) -> None:
        """Note that an attempt to open a connection begins at ``now``, in seconds on any clock."""
        self.attempts = 1 if self._is_open else self.attempts + 1
        self._is_open, self._began_at = False, now
        count = len(self._addresses)
        order = [(self._first + step) % count for step in range(count)]
        usable = [each for each in order if not self._addresses[each].is_given_up] or order
        free = (
            each
            for each in usable
            if self._addresses[each].free_at <= now and self._addresses[each] is not self._failed
        )
        self.index = next(free, min(usable, key=lambda each: self._addresses[each].free_at))

    def opened(self) -> None:
        """Note that the attempt succeeded. This does not reset the delays."""
        self.address.has_opened = self._is_open = True
        self.address.refusals, self.address.is_given_up = 0, False
        self._failed = None

    @staticmethod
    def closed(address: Address, opened_at: float, now: float, first: float | None, last: float | None) -> None:
        """Note the end of a connection. If it was healthy, the delays of its address start over.

        It was healthy if its first and last message are at least 3 s apart, or if a message arrived and it was open for
        at least 20 s.

        Args:
            address: its address. In a rotation, the next connection may have another one.
            opened_at: when it was opened.
            now: when it ended.
            first: when its first message arrived; None if none arrived.
            last: when its last message arrived; None if none arrived.
        """
        if first is None or last is None:
            return
        if last - first >= HEALTHY_SPAN or now - opened_at >= HEALTHY_AFTER:
            address.delays = None

    def next_delay(self, failure: Failure, now: float = 0.0) -> float | None:
        """Return the seconds to wait after ``failure``, or None to give up.

        The delay is at least the ``Retry-After`` of the server. It is at least 2 s after the close codes 1012 and 1013,
        and after HTTP 429 without ``Retry-After``.

        Raises:
            TypeError: ``reconnect_delays`` did not return an iterable of numbers, or ``should_retry`` returned
                something other than True, False or None.
            ValueError: a delay is negative, infinite or NaN.
            BaseException: the exception of ``reconnect_delays`` or ``should_retry``.
        """
        failed = self._failed = self.address
        failed.refusals = failed.refusals + 1 if failure.status in CREDENTIALS_REFUSED else 0
        waits = [each.free_at - now for each in self._addresses if not (each is failed or each.is_given_up)]
        if self._is_worth_a_retry(failure):
            is_known = self._began_at < failed.drawn_at
            delay = failed.free_at - now if is_known else self._draw()
            if delay is None:
                return None
            if not is_known:
                failed.drawn_at = now
            self._began_at = math.inf
            waits.append(max(delay, _shortest_delay(failure)))
            failed.free_at = now + waits[-1]
        else:
            failed.is_given_up = True
        return max(0.0, min(waits)) if waits else None

    def _is_worth_a_retry(self, failure: Failure) -> bool:
        verdict = None if failure.error is None else self._should_retry(failure.error)
        if verdict is None:
            succeeded = any(each.has_opened for each in self._addresses)
            return not is_fatal(failure, succeeded=succeeded, refusals=self.address.refusals)
        if not isinstance(verdict, bool):
            # The coroutine of an async function, for example, would always be true.
            raise TypeError(f"should_retry must return True, False or None, not {type(verdict).__name__}")
        return verdict

    def _draw(self) -> float | None:
        if self.address.delays is None:
            delays = self._make_delays()
            if not isinstance(delays, Iterable):
                raise TypeError(f"reconnect_delays must return an iterable of seconds, not {delays!r}")
            self.address.delays = iter(delays)
        try:
            delay = next(self.address.delays)
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
