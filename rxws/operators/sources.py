"""What an operator can know of its source: where that is at home, whose clock counts, who is told what happened."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import Any, Final

import msgspec
from reactivex import Observable, abc

from ..observables import AsyncObservable, LoopContext, on_loop
from ..reporting import MessageRejected, redact

__all__ = ["Reports", "home_of", "scheduler_of"]

LOG_INTERVAL: Final = 1.0
"""Seconds between two log lines of one operator, where no feed's reporter sees to that."""


def home_of(source: Observable[Any]) -> LoopContext | None:
    """Return where a source is at home: for a plain Observable that is the running event loop, if there is one."""
    if isinstance(source, AsyncObservable):
        return source._context
    return None if asyncio._get_running_loop() is None else on_loop(source)._context


def scheduler_of(source: Observable[Any], given: abc.SchedulerBase | None) -> abc.SchedulerBase:
    """Return the scheduler that ``subscribe`` was given, else the loop's.

    reactivex's operators fall back on timer threads; ours belong to one thread.

    Raises:
        RuntimeError: there is neither.
    """
    if given is not None:
        return given
    context = home_of(source)
    if context is None:
        raise RuntimeError("this operator waits: subscribe in a running event loop, or give subscribe a scheduler")
    return context.scheduler


class Reports:
    """Tells what happened to single messages in an operator, which go on without them."""

    def __init__(self, source: Observable[Any], operator: str) -> None:
        self._operator = operator
        self._reporter = source._context.reporter if isinstance(source, AsyncObservable) else None
        self._logged_at = -math.inf
        self._suppressed = 0

    def rejected(self, message: Any, error: BaseException) -> None:
        """Report a message that is left out, and why."""
        reporter = self._reporter
        line = "%s left a message out: %s"
        if reporter is None:
            self._log(line, error)
            return
        reporter.counters.rejected += 1
        reporter.log(logging.WARNING, line, self._operator, redact(repr(error)), about=self._operator)
        reporter.emit(MessageRejected, raw=_as_text(message), error=error, count=reporter.counters.rejected)

    def failed(self, message: Any, error: BaseException) -> None:
        """Report a message that is passed on, but could not be looked at."""
        if self._reporter is None:
            self._log("%s could not look at a message: %s", error)
        else:
            self._reporter.failed(self._operator, message, error)

    def _log(self, line: str, error: BaseException) -> None:
        now = time.monotonic()
        if now - self._logged_at < LOG_INTERVAL:
            self._suppressed += 1
            return
        more = f" ({self._suppressed} more like this)" if self._suppressed else ""
        self._logged_at, self._suppressed = now, 0
        logging.getLogger("rxws").warning(line + "%s", self._operator, redact(repr(error)), more)


def _as_text(message: Any) -> str | bytes:
    """Return a message as the event carries frames: as JSON, with the repr of what JSON cannot hold."""
    if isinstance(message, str | bytes):
        return message
    try:
        return msgspec.json.encode(message, enc_hook=repr).decode()
    except Exception:
        # A dict with keys of its own, or one that holds itself; and repr manages those.
        return repr(message)
