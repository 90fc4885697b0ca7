"""The source of an operator: its event loop, its scheduler, and the feed that gets the operator's reports."""

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
"""Seconds between two log lines of one operator whose source belongs to no feed."""


def home_of(source: Observable[Any]) -> LoopContext | None:
    """Return the context of a source. For a plain Observable, it is the running event loop, or None outside of one."""
    if isinstance(source, AsyncObservable):
        return source._context
    return None if asyncio._get_running_loop() is None else on_loop(source)._context


def scheduler_of(source: Observable[Any], given: abc.SchedulerBase | None) -> abc.SchedulerBase:
    """Return the scheduler that ``subscribe`` was given, or else the scheduler of the loop.

    The operators of reactivex use timer threads by default. The operators of rxws use only one thread.

    Raises:
        RuntimeError: no scheduler is given, and no event loop is running.
    """
    if given is not None:
        return given
    context = home_of(source)
    if context is None:
        raise RuntimeError(
            "this operator needs a clock: subscribe in a running event loop, or pass a scheduler to subscribe"
        )
    return context.scheduler


class Reports:
    """Reports messages that an operator cannot read."""

    def __init__(self, source: Observable[Any], operator: str) -> None:
        self._operator = operator
        self._reporter = source._context.reporter if isinstance(source, AsyncObservable) else None
        self._logged_at = -math.inf
        self._suppressed = 0

    def rejected(self, message: Any, error: BaseException) -> None:
        """Report that a message is left out because of an error."""
        reporter = self._reporter
        line = "%s left a message out: %s"
        if reporter is None:
            self._log(line, error)
            return
        reporter.counters.rejected += 1
        reporter.log(logging.WARNING, line, self._operator, repr(error), about=self._operator)
        reporter.emit(MessageRejected, raw=_as_text(message), error=error, count=reporter.counters.rejected)

    def failed(self, message: Any, error: BaseException) -> None:
        """Report a message that is passed on unchecked because of an error."""
        if self._reporter is None:
            self._log("%s could not check a message: %s", error)
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
    """Return a message as text for the event: JSON, with the repr of objects that JSON cannot hold."""
    if isinstance(message, str | bytes):
        return message
    try:
        return msgspec.json.encode(message, enc_hook=repr).decode()
    except Exception:
        # A dict with keys that JSON does not allow, or one that contains itself. repr can show both.
        return repr(message)
