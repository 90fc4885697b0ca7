"""What happened: to the log, to the counters, to whoever watches the events."""

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

LOG_INTERVAL: Final = 1.0
"""Seconds between two log lines of one kind."""

MAX_KINDS: Final = 1_000
"""How many kinds of log lines are remembered for longer than that."""

VIRTUAL_CLOCK_TOLERANCE: Final = 5.0
"""Seconds by which a loop's clock may differ from the monotonic clock before it is taken for a virtual one."""


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
        """Return all of them by name. May be called from any thread."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        # In one go, in which no other thread has its turn.
        return values | {"reconnects": dict(self.reconnects)}


def _publish_nothing(event: Event) -> None:
    """Stands for the subscribers of events where there are none."""


class Reporter:
    """Tells what happened in one feed: counts it, logs it (a line of one kind at most once a second), emits it.

    Attributes:
        name: the feed's name.
        counters: what is counted.
        publish: hands an event that was made elsewhere to the subscribers of events.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self.name = name
        self.counters = Counters()
        self.publish: Callable[[Event], None] = _publish_nothing
        self._loop = loop
        self._epoch = time.time() - loop.time()
        self._logger = logging.getLogger("rxws")
        # Of each kind of line: when it was logged last, and how many were not since.
        self._logged: dict[tuple[str, object], tuple[float, int]] = {}
        self._most_kinds = MAX_KINDS

    def without_events(self) -> Reporter:
        """Return one that counts and logs as this one, to the same places, and emits nothing."""
        reporter = copy.copy(self)
        reporter.publish = _publish_nothing
        return reporter

    def now(self) -> float:
        """Seconds since the epoch: the wall clock, or in a loop with a virtual clock that one."""
        if abs(self._loop.time() - time.monotonic()) < VIRTUAL_CLOCK_TOLERANCE:
            # Asked afresh, because the monotonic clock stands still while a machine sleeps.
            return time.time()
        return self._epoch + self._loop.time()

    def emit(self, kind: type[E], **values: Any) -> E:
        """Make an event of the feed's name, the time that it is now, and ``values``; publish it and return it."""
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
        """Log ``line % values``, unless one of the same kind was logged within the last second; those are counted.

        Args:
            level: as in :mod:`logging`.
            line: with what is of one kind.
            values: what is different in each.
            about: what or whom it is about, where one must not hide another: part of the kind.
            error: logged with its traceback.
            once: whether no other of its kind is logged as long as the feed lives.
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
            # Twice as many, so that each is looked at but a few times, however many come within the second.
            self._most_kinds = MAX_KINDS + 2 * len(self._logged)
        self._logged[kind] = (math.inf if once else now, 0)
        more = f" ({suppressed} more like this)" if suppressed else ""
        # Not by way of exc_info: what an exception says may hold a secret, or what a terminal would obey.
        trace = "" if error is None else "\n" + redacted_traceback(error)
        self._logger.log(level, "%s: " + line + "%s%s", self.name, *values, more, trace)

    def failed(self, handler: object, message: Any, error: BaseException) -> None:
        """Report that a function of the user's raised; ``handler`` is that function, or its name."""
        self.counters.failures += 1
        handler_name = name_of(handler)
        self.log(logging.ERROR, "%s raised", handler_name, about=handler_name, error=error)
        self.emit(CallbackFailed, handler=handler_name, message=message, error=error)

    def guard(self, handler: object, message: Any = None, *, awaits: bool = False) -> _Guard:
        """Return a context that reports what a function of the user's raises in it; the program goes on behind it.

        It costs half a microsecond: what runs for every message has a ``try`` of its own.

        Args:
            handler: the function, or its name.
            message: what it was given.
            awaits: whether the block awaits. Then the cancellation of the task that runs passes, while a plain function
                that raises CancelledError has asked a cancelled future; and what is no Exception is a failure, too,
                unless it ends the program: it must not end a task of the feed's.
        """
        return _Guard(self, handler, message, awaits)


@dataclass(slots=True)
class _Guard:
    """A class and no generator, which takes three times as long."""

    reporter: Reporter
    handler: object
    message: Any
    awaits: bool

    def __enter__(self) -> None:
        """Nothing is to be prepared."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if error is None or isinstance(error, EXITS):
            return False
        if is_being_cancelled(error) if self.awaits else not isinstance(error, FAILURES):
            return False
        self.reporter.failed(self.handler, self.message, error)
        return True
