"""The reporter of a feed: it counts, logs and emits events."""

from __future__ import annotations

import asyncio
import copy
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Final, TypeVar

from ..callables import name_of
from .cancellation import EXITS, FAILURES, is_being_cancelled
from .events import CallbackFailed, Event
from .tracebacks import redacted_traceback

__all__ = ["Counters", "Reporter"]

E = TypeVar("E", bound=Event)

#: Seconds between two log lines of one kind.
LOG_INTERVAL: Final = 1.0

#: Above this number of kinds of log lines, kinds older than the interval are forgotten.
MAX_KINDS: Final = 1_000

#: Seconds by which a loop's clock may differ from the monotonic clock if it is the same: uvloop's has milliseconds.
CLOCK_RESOLUTION: Final = 0.002


@dataclass(slots=True)
class Counters:
    """The numbers behind :class:`~rxws.reporting.events.Statistics`. Only the loop's thread writes them."""

    messages: int = 0
    bytes: int = 0
    opened: int = 0
    rotations: int = 0
    reconnects: dict[str, int] = field(default_factory=dict)
    gaps: int = 0
    rejected: int = 0
    duplicates: int = 0
    discarded: int = 0
    failures: int = 0
    unacknowledged: int = 0
    dropped: int = 0

    def read(self) -> dict[str, Any]:
        """Return all counters by name. Works in any thread."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        # The copy of a dict is atomic, so the loop's thread cannot change it meanwhile.
        return values | {"reconnects": dict(self.reconnects)}


def _publish_nothing(event: Event) -> None:
    """Stand in for the subscribers of events."""


def _pass(error: BaseException) -> None:
    raise error


def _is_virtual(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether a loop's clock is another one than the machine's monotonic clock."""
    if getattr(loop.time, "__func__", None) is asyncio.BaseEventLoop.time:
        return False
    before, now, after = time.monotonic(), loop.time(), time.monotonic()
    if not before - CLOCK_RESOLUTION <= now <= after + CLOCK_RESOLUTION:
        return True
    # It is the machine's, or near it by chance. A virtual clock stands while a function runs.
    time.sleep(2 * CLOCK_RESOLUTION)
    return loop.time() == now


class Reporter:
    """Counts, logs and emits the events of one feed. Equal log lines are written at most once a second.

    Args:
        loop: the feed's event loop, whose clock it uses.
        name: the feed's name.

    Attributes:
        name: the feed's name.
        counters: the feed's counters.
        publish: passes an existing event to the subscribers of events.
        exited: called with the GeneratorExit of a function that gets messages; the feed fails with it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self.name = name
        self.counters = Counters()
        self.publish: Callable[[Event], None] = _publish_nothing
        self.exited: Callable[[BaseException], None] = _pass
        self._loop = loop
        self._is_virtual = _is_virtual(loop)
        self._epoch = time.time() - loop.time()
        self._logger = logging.getLogger("rxws")
        # By kind of line: the time of the last logged line, and the number of lines suppressed since.
        self._logged: dict[tuple[str, object], tuple[float, int]] = {}
        self._most_kinds = MAX_KINDS

    def without_events(self) -> Reporter:
        """Return a reporter with the same counters and log that emits no events."""
        reporter = copy.copy(self)
        reporter.publish = _publish_nothing
        return reporter

    def now(self) -> float:
        """Return the seconds since the epoch: of the wall clock, or of the loop's clock if that is virtual."""
        if self._is_virtual:
            return self._epoch + self._loop.time()
        # Not computed from the loop's clock, because the monotonic clock stops while a machine sleeps.
        return time.time()

    def emit(self, kind: type[E], **values: Any) -> E:
        """Make an event with the feed's name, the present time and ``values``; publish it and return it."""
        event = kind(name=self.name, time=self.now(), **values)
        self.publish(event)
        return event

    def log(
        self,
        level: int,
        line: str,
        *values: object,
        about: object = None,
        error: BaseException | None = None,
        once: bool = False,
    ) -> None:
        """Log ``line % values``, at most once a second for each kind of line. Suppressed lines are counted.

        Lines with the same ``line`` and ``about`` are of one kind.

        Args:
            level: as in :mod:`logging`.
            line: the format, which is the same for all lines of a kind.
            values: the values of the format.
            about: the subject of the line, if a line about one subject must not suppress a line about another.
            error: an exception to log with its traceback.
            once: whether only one line of this kind is logged while the feed lives.
        """
        now = self._loop.time()
        kind = line, about
        last, suppressed = self._logged.get(kind, (-math.inf, 0))
        if now - last < LOG_INTERVAL:
            self._logged[kind] = (last, suppressed + 1)
            return
        if len(self._logged) >= self._most_kinds:
            for each in [each for each, (at, _) in self._logged.items() if now - at >= LOG_INTERVAL]:
                del self._logged[each]
            # The limit doubles with the number that is left, so that many new kinds in one second cost few scans.
            self._most_kinds = MAX_KINDS + 2 * len(self._logged)
        self._logged[kind] = (math.inf if once else now, 0)
        more = f" ({suppressed} more like this)" if suppressed else ""
        # Not with exc_info, because the text of an exception may contain secrets or control characters.
        trace = "" if error is None else "\n" + redacted_traceback(error)
        self._logger.log(level, "%s: " + line + "%s%s", self.name, *values, more, trace)

    def failed(self, handler: object, message: Any, error: BaseException, then: str = "") -> None:
        """Report that a user's function raised.

        Args:
            handler: the function, or its name.
            message: the message that the function was called with.
            error: the exception.
            then: what happens next, for the end of the log line: ``"; next try in 0.5 s"``.
        """
        self.counters.failures += 1
        handler_name = name_of(handler)
        self.log(logging.ERROR, "%s raised%s", handler_name, then, about=handler_name, error=error)
        self.emit(CallbackFailed, handler=handler_name, message=message, error=error)

    def raised(self, function: object, item: Any, error: BaseException) -> None:
        """Report one of the exceptions ``RAISED``, which a plain function raised that gets messages or events."""
        self.failed(function, item, error)
        if isinstance(error, GeneratorExit):
            self.exited(error)

    def guard(self, handler: object, message: Any = None, *, awaits: bool = False) -> _Guard:
        """Return a context manager that reports an exception of a user's function and suppresses it.

        It costs half a microsecond, so code that runs for every message has its own ``try``.

        Args:
            handler: the function, or its name.
            message: the message that the function was called with.
            awaits: whether the block awaits the function. Then a cancellation of the running task passes. Any other
                exception is reported, even if it is not an Exception, so that it cannot end the feed's task; only
                exceptions that end the program pass. Without ``awaits`` a CancelledError is a failure of the function:
                it used the result of a cancelled future.
        """
        return _Guard(self, handler, message, awaits)


@dataclass(slots=True)
class _Guard:
    """The context manager of :meth:`Reporter.guard`. As a generator it would take three times as long."""

    reporter: Reporter
    handler: object
    message: Any
    awaits: bool

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if error is None or isinstance(error, EXITS):
            return False
        if is_being_cancelled(error) if self.awaits else not isinstance(error, FAILURES):
            return False
        self.reporter.failed(self.handler, self.message, error)
        return True
