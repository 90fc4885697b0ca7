"""The reporter of a feed, which counts, logs and emits events."""

from __future__ import annotations

import asyncio
import copy
import functools
import logging
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, fields
from threading import get_ident
from typing import Any, Final, TypeVar

from ..callables import name_of
from .cancellation import EXITS, FAILURES, is_being_cancelled
from .events import CallbackFailed, Event, LoopBlocked
from .log_limit import EACH_SECOND, LESS_AND_LESS, LogLimit
from .loop_watch import watch_loop
from .redaction import redact

__all__ = ["Counters", "Reporter"]

E = TypeVar("E", bound=Event)

#: Seconds by which a loop's clock may differ from the monotonic clock although it is that clock. (The clock of uvloop
#: has a resolution of milliseconds.)
CLOCK_RESOLUTION: Final = 0.002


@dataclass(slots=True)
class Counters:
    """The counters of :class:`~rxws.reporting.state.Statistics`. Only the loop's thread writes them.

    Attributes:
        message_size: the size of the message that is being delivered, in bytes; 0 while no message is delivered. It is
            the size of its frame, in equal parts if the frame contains several messages. It is not a statistic.
    """

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
    message_size: int = 0

    def read(self) -> dict[str, Any]:
        """Return all counters by name. Works in any thread."""
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "message_size"}
        # The copy of a dict is atomic, so the loop's thread cannot change it meanwhile.
        return values | {"reconnects": dict(self.reconnects)}


def _publish_nothing(event: Event) -> None:
    """Used if there are no subscribers of events."""


def _do_nothing() -> None:
    """Used if the loop is not watched."""


def _pass(error: BaseException) -> None:
    raise error


def _virtual_ns(loop: asyncio.AbstractEventLoop, epoch: float) -> int:
    return round((epoch + loop.time()) * 1e9)


def _is_virtual(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether a loop's clock differs from the machine's monotonic clock."""
    if getattr(loop.time, "__func__", None) is asyncio.BaseEventLoop.time:
        return False
    before, now, after = time.monotonic(), loop.time(), time.monotonic()
    if not before - CLOCK_RESOLUTION <= now <= after + CLOCK_RESOLUTION:
        return True
    # Both show almost the same time, perhaps by chance. But a virtual clock does not advance while a function runs.
    time.sleep(2 * CLOCK_RESOLUTION)
    return loop.time() == now


class Reporter:
    """Counts, logs and emits the events of one feed. Lines of one subject are logged at most once a second.

    Args:
        loop: the feed's event loop, whose clock it uses.
        name: the feed's name.

    Attributes:
        name: the feed's name.
        thread: the thread in which the reporter was made, which is the loop's.
        counters: the feed's counters.
        publish: passes an existing event to the subscribers of events.
        exited: called with the GeneratorExit of a function that gets messages; the feed fails with it.
        time_ns: returns the nanoseconds since the epoch, by the same clock as :meth:`now`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self.name = name
        self.counters = Counters()
        self.publish: Callable[[Event], None] = _publish_nothing
        self.exited: Callable[[BaseException], None] = _pass
        self.thread = get_ident()
        self._loop = loop
        self._is_virtual = _is_virtual(loop)
        self._epoch = time.time() - loop.time()
        # A partial and not a method, because it must not refer to the reporter, and frames need the bare function.
        self.time_ns: Callable[[], int] = time.time_ns
        if self._is_virtual:
            self.time_ns = functools.partial(_virtual_ns, loop, self._epoch)
        self._log = LogLimit(loop, name)
        self._unwatch: Callable[[], None] = _do_nothing

    def without_events(self) -> Reporter:
        """Return a reporter with the same counters and log that emits no events."""
        reporter = copy.copy(self)
        reporter.publish = _publish_nothing
        return reporter

    def now(self) -> float:
        """Return the seconds since the epoch: of the wall clock, or of the loop's clock if that is virtual."""
        if self._is_virtual:
            return self._epoch + self._loop.time()
        # Do not compute it from the loop's clock, because a monotonic clock stops while the machine sleeps.
        return time.time()

    def emit(self, kind: type[E], **values: Any) -> E:
        """Make an event with the feed's name, the present time and ``values``; publish it and return it."""
        event = kind(name=self.name, time=self.now(), **values)
        self.publish(event)
        return event

    def log(
        self,
        level: int,
        line: str | Event,
        *values: object,
        about: Hashable = None,
        error: BaseException | None = None,
        times: tuple[float, ...] = EACH_SECOND,
    ) -> None:
        """Log the sentence of an event, or ``line % values`` without secrets, unless the same was logged just now.

        Lines with the same format or type of event, level and ``about`` have one subject; see
        :class:`~rxws.reporting.log_limit.LogLimit`.

        Args:
            level: as in :mod:`logging`.
            line: an event, or a format.
            values: the values of the format.
            about: the subject of the line, if a line about one subject must not suppress a line about another.
            error: an exception to log with its traceback.
            times: seconds after the first line of a subject at which the next may follow.
        """
        if isinstance(line, Event):
            self._log.write(level, (type(line), about), line.__str__, error, times)
        else:
            self._log.write(level, (line, about), lambda: redact(line % values), error, times)

    def failed(self, handler: object, message: Any, error: BaseException, then: str = "") -> None:
        """Report that a user's function raised.

        Args:
            handler: the function, or its name.
            message: the message that the function was called with.
            error: the exception.
            then: what happens next, for the end of the log line: ``"; next try in 0.5 s"``.
        """
        self.counters.failures += 1
        name = name_of(handler)
        event = self.emit(CallbackFailed, handler=name, message=message, error=error)
        # All lambdas have the same name, so use their code too.
        about = name, getattr(handler, "__code__", None)
        self.log(logging.ERROR, "%s%s", event, then, about=about, error=error, times=LESS_AND_LESS)

    def raised(self, function: object, item: Any, error: BaseException) -> None:
        """Report an exception of a plain function that gets messages or events: one of ``RAISED``."""
        self.failed(function, item, error)
        if isinstance(error, GeneratorExit):
            self.exited(error)

    def watch_loop(self) -> None:
        """Report when the loop is blocked, from now on until :meth:`close`. Do nothing if its clock is virtual."""
        if not self._is_virtual:
            self._unwatch = watch_loop(self._blocked)

    def _blocked(self, seconds: float, handlers: tuple[str, ...]) -> None:
        self.log(logging.WARNING, self.emit(LoopBlocked, seconds=seconds, handlers=handlers), about=handlers)

    def close(self) -> None:
        """Log the suppressed lines, and stop their timer and the watch. Called when the feed has ended."""
        self._unwatch()
        self._log.close()

    def guard(self, handler: object, message: Any = None, *, awaits: bool = False) -> _Guard:
        """Return a context manager that reports an exception of a user's function and suppresses it.

        It costs half a microsecond, so code that runs for every message has its own ``try``.

        Args:
            handler: the function, or its name.
            message: the message that the function was called with.
            awaits: whether the block awaits the function. Then a cancellation of the running task propagates, and so do
                exceptions that end the program. Any other exception is reported, even if it is not an Exception, so
                that it cannot end the feed's task. Without ``awaits``, a CancelledError is a failure of the function,
                which used the result of a cancelled future.
        """
        return _Guard(self, handler, message, awaits)


@dataclass(slots=True)
class _Guard:
    """The context manager of :meth:`Reporter.guard`. A generator would take three times as long as this class."""

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
