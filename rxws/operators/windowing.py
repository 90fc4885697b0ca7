"""windows: groups messages by the time in them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, Literal, TypeVar

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, Disposable, SerialDisposable

from ..messages import MICROSECONDS, PER_SECOND, Field, Unit, check_unit, field_reader, microseconds
from ..observables import AsyncObservable
from ..reporting import FAILURES
from .reading import key_reader, parse_seconds
from .sources import Reports, scheduler_of
from .unit_check import UnitCheck

__all__ = ["ClosedBy", "Unit", "Window", "windows"]

T = TypeVar("T")

ClosedBy = Literal["time", "timeout", "end"]


@dataclass(frozen=True, slots=True)
class Window(Generic[T]):
    """The messages of one key whose times are in one interval.

    Attributes:
        start: the start of the interval (inclusive), in seconds since the epoch. It is a multiple of the length.
        end: the end of the interval (exclusive), in seconds since the epoch.
        key: the key, or None if ``windows`` has no key.
        items: the messages, in the order of arrival. Never empty.
        late: the number of late messages of the key since its previous window. A message is late if its window was
            already closed.
        closed_by: ``"time"``: a message of the key had a time past the end. ``"timeout"``: no such message arrived in
            time. ``"end"``: the source ended, so this window may be incomplete. The first window of each key may be
            incomplete too.
    """

    start: float
    end: float
    key: Hashable
    items: tuple[T, ...]
    late: int
    closed_by: ClosedBy


def windows(
    seconds: float,
    *,
    time: Field,
    unit: Unit = "ms",
    key: Field | None = None,
    allowed_lateness: float = 0.0,
    timeout: float | None = None,
) -> Callable[[Observable[T]], Observable[Window[T]]]:
    """Group the messages of each key into windows that are aligned to the clock, by the time in the messages.

    A window is emitted when its key has a message whose time is at least ``allowed_lateness`` past the window's end.
    That message is not in the window. Each key has its own time, the greatest of its messages, so one symbol never
    closes the windows of another. An interval without messages has no window.

    A message is late if its window has been closed, even if the window was empty. A late message is left out, counted
    in ``late`` of the key's next window, and reported as rejected. A message without a time or a key is rejected, too.

    Args:
        seconds: the length of a window. Windows start at multiples of it since the epoch (UTC): 60 for minutes.
        time: the time of a message: a key, a path, or a function of the message. It is a number, a numeric str, an ISO
            8601 str or a datetime; the last two without an offset are in UTC.
        unit: the unit of a number, which counts from the epoch: ``"s"``, ``"ms"`` (the default), ``"us"`` or ``"ns"``.
            Times are kept to the microsecond. If the times of a feed pass a thousand times too slowly, for example
            because they are in seconds, this is reported as :class:`~rxws.CallbackFailed` when the first window should
            be over.
        key: a key, a path, or a function of the message; None (the default) for one window of all messages.
        allowed_lateness: the seconds, by the times in the messages, that a window stays open past its end, for messages
            that come out of order; 0 by default.
        timeout: None (the default) keeps the last window of a silent key open until the source ends. A number closes it
            this many seconds after its end on the scheduler's clock. That end is computed from the time in the key's
            latest message and the time since its arrival, so the clocks need not be set to the same time.

    Raises:
        TypeError: an argument in seconds is not a number, or ``time`` or ``key`` is a coroutine function or cannot be
            hashed.
        ValueError: an argument in seconds is negative or more than a billion, ``seconds`` is less than a microsecond,
            ``time`` or ``key`` is an empty path, or ``unit`` is unknown.

    Example::

        >>> import reactivex as rx
        >>> from rxws import operators as rxops
        >>> trades = rx.of({"T": 59_000, "p": 10.0}, {"T": 60_000, "p": 11.0}, {"T": 119_999, "p": 9.0})
        >>> for window in trades.pipe(rxops.windows(60, time="T"), rx.operators.to_list()).run():
        ...     prices = [trade["p"] for trade in window.items]
        ...     print(window.start, window.end, min(prices), max(prices), window.closed_by)
        0.0 60.0 10.0 10.0 time
        60.0 120.0 9.0 11.0 end

    On a feed::

        trades = ws.stream_filter([{"e": "trade"}])
        async for minute in trades.pipe(rxops.windows(60, time="T", key="s", timeout=2.0)):
            save_candle(minute.key, minute.start, minute.items)
    """
    check_unit(unit)
    rule = _Rule(
        width=round(parse_seconds(seconds, "seconds", 1 / MICROSECONDS) * MICROSECONDS),
        lateness=round(parse_seconds(allowed_lateness, "allowed_lateness") * MICROSECONDS),
        patience=None if timeout is None else timedelta(seconds=parse_seconds(timeout, "timeout")),
        read_time=field_reader(time, "time"),
        per_second=PER_SECOND[unit],
        read_key=key_reader(key),
    )

    def operator(source: Observable[T]) -> Observable[Window[T]]:
        reports = Reports(source, "windows")

        def subscribe(
            observer: abc.ObserverBase[Window[T]], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            clock = None if rule.patience is None else scheduler_of(source, scheduler)
            # Only a feed's clock is compared with the times: other sources may deliver them at any speed.
            feed_clock = source._context.scheduler if isinstance(source, AsyncObservable) else None
            gathering = _Gathering(rule, observer, reports, clock, feed_clock)
            subscription = source.subscribe(
                gathering.on_next, gathering.on_error, gathering.on_completed, scheduler=scheduler
            )
            return CompositeDisposable(subscription, Disposable(gathering.stop))

        return Observable(subscribe)

    return operator


@dataclass(frozen=True, slots=True)
class _Rule:
    """The arguments of ``windows``. All times but ``patience`` are in whole microseconds."""

    width: int
    lateness: int
    patience: timedelta | None
    read_time: Callable[[Any], Any]
    per_second: int
    read_key: Callable[[Any], Hashable]


class _Gathering(Generic[T]):
    """The windows of one subscriber: a :class:`_Track` for each key, and timers for silent keys."""

    def __init__(
        self,
        rule: _Rule,
        observer: abc.ObserverBase[Window[T]],
        reports: Reports,
        clock: abc.SchedulerBase | None,
        feed_clock: abc.SchedulerBase | None,
    ) -> None:
        self._rule = rule
        self._observer = observer
        self._reports = reports
        self._clock = clock
        self._feed_clock = feed_clock
        self._unit_check: UnitCheck | None = None
        self._tracks: dict[Hashable, _Track[T]] = {}

    def on_next(self, message: T) -> None:
        """Put a message into its window, and emit the windows that are complete."""
        rule = self._rule
        try:
            name, moment = rule.read_key(message), microseconds(rule.read_time(message), rule.per_second)
        except FAILURES as error:
            self._reports.rejected(message, error)
            return
        track = self._tracks.get(name)
        if track is None:
            track = self._tracks[name] = _Track(name, rule.width, rule.lateness, moment)
            if self._feed_clock is not None and self._unit_check is None:
                self._unit_check = UnitCheck(
                    self._feed_clock,
                    rule.width / MICROSECONDS,
                    rule.per_second,
                    lambda: max(each.time - each.began for each in self._tracks.values()),
                    functools.partial(self._reports.failed, message),
                )
        if not track.put(message, moment):
            behind = (track.time - moment) / MICROSECONDS
            self._reports.rejected(
                message, ValueError(f"its window is closed: its time is {behind:g} s before the latest")
            )
            return
        if self._clock is not None and moment == track.time:
            track.heard = self._clock.now
        self._emit(track, track.closable, "time")

    def _emit(self, track: _Track[T], until: int, closed_by: ClosedBy) -> None:
        ready = track.close(until, closed_by)
        self._watch(track)
        for window in ready:
            self._observer.on_next(window)

    def _watch(self, track: _Track[T]) -> None:
        clock, patience = self._clock, self._rule.patience
        if clock is None or patience is None or not track.open:
            return
        due = track.over + patience
        # Replace the timer only if it would fire too late. A timer that fires too early is set again.
        if track.due is None or due < track.due:
            track.due = due
            track.timer.disposable = clock.schedule_absolute(due, lambda *_: self._look(track, clock.now, patience))

    def _look(self, track: _Track[T], now: datetime, patience: timedelta) -> None:
        track.due = None
        if track.open and now >= track.over + patience:
            self._emit(track, track.first_end, "timeout")
        else:
            self._watch(track)

    def _flush(self) -> None:
        for track in list(self._tracks.values()):
            for window in track.close(None, "end"):
                self._observer.on_next(window)

    def on_error(self, error: Exception) -> None:
        """Emit all open windows, and then the error."""
        self._flush()
        self._observer.on_error(error)

    def on_completed(self) -> None:
        """Emit all open windows, and then the end."""
        self._flush()
        self._observer.on_completed()

    def stop(self) -> None:
        """Stop all timers, so that nothing more is emitted."""
        if self._unit_check is not None:
            self._unit_check.timer.dispose()
        for track in self._tracks.values():
            track.timer.dispose()


class _Track(Generic[T]):
    """The windows of one key. Times in whole microseconds since the epoch, except those of the scheduler's clock."""

    __slots__ = ("_closed", "_key", "_late", "_lateness", "_width", "began", "due", "heard", "open", "time", "timer")

    def __init__(self, key: Hashable, width: int, lateness: int, time: int) -> None:
        self._key = key
        self._width = width
        self._lateness = lateness
        self._late = 0
        # The greatest time in a message, and the time of the scheduler when that message arrived.
        self.began = self.time = time
        self.heard = datetime.min
        # The messages of the open windows, by the start of the window.
        self.open: dict[int, list[T]] = {}
        # All windows that start before this time are closed.
        self._closed = self.closable
        self.timer = SerialDisposable()
        # When the timer fires; None if it is not set.
        self.due: datetime | None = None

    @property
    def closable(self) -> int:
        """The start of the first window that must stay open."""
        return (self.time - self._lateness) // self._width * self._width

    @property
    def first_end(self) -> int:
        """The time in messages at which the first open window ends."""
        return min(self.open) + self._width

    @property
    def over(self) -> datetime:
        """The time of the scheduler at which the first open window ends, if the key sends no more messages."""
        return self.heard + timedelta(microseconds=self.first_end + self._lateness - self.time)

    def put(self, message: T, time: int) -> bool:
        """Put a message into its window, and return whether the window is still open."""
        start = time // self._width * self._width
        if start < self._closed:
            self._late += 1
            return False
        self.open.setdefault(start, []).append(message)
        self.time = max(self.time, time)
        return True

    def close(self, until: int | None, closed_by: ClosedBy) -> list[Window[T]]:
        """Close the windows that start before ``until``, or all if it is None; return those that have messages."""
        if until is not None and until <= self._closed:
            return []
        starts = sorted(start for start in self.open if until is None or start < until)
        self._closed = until if until is not None else self._closed
        ready = []
        for start in starts:
            items, late, self._late = tuple(self.open.pop(start)), self._late, 0
            end = start + self._width
            ready.append(Window(start / MICROSECONDS, end / MICROSECONDS, self._key, items, late, closed_by))
        return ready
