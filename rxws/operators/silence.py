"""stale_after: reports keys that are silent while others are not."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from reactivex import Observable, abc
from reactivex.disposable import CompositeDisposable, SerialDisposable

from ..messages import Field
from ..reporting import FAILURES
from .reading import key_reader, parse_seconds
from .sources import Reports, scheduler_of

__all__ = ["Recovered", "Stale", "stale_after"]

LATE = timedelta(seconds=0.05)
"""A timer that fires later than this shows that the loop was blocked."""

GRACE = timedelta(seconds=1.0)
"""The longest wait for a message after the loop was blocked."""

TURNS = 8
"""Iterations of the loop between a late timer and the check, in which waiting messages are delivered."""


@dataclass(frozen=True, slots=True)
class Stale:
    """A key has been silent for too long.

    Attributes:
        key: the key, or None if the whole Observable is watched.
        seconds: the seconds since the last message, or since the subscription.
        last: the last message, or None if none has arrived yet.
    """

    key: Hashable
    seconds: float
    last: Any


@dataclass(frozen=True, slots=True)
class Recovered:
    """A key that was stale has sent a message again.

    Attributes:
        key: the key, or None if the whole Observable is watched.
        seconds: the length of the whole silence, in seconds.
        message: the message that ended it.
    """

    key: Hashable
    seconds: float
    message: Any


def stale_after(
    seconds: float, key: Field | None = None, *, expected: Iterable[Hashable] = ()
) -> Callable[[Observable[Any]], Observable[Stale | Recovered]]:
    """Emit :class:`Stale` when a key has been silent for ``seconds``, and :class:`Recovered` at its next message.

    The messages themselves are not passed on: subscribe to them separately. There is one ``Stale`` per silence. A key
    is watched from its first message on, a key in ``expected`` from the subscription on. Without a key, the whole
    Observable is watched. There is one timer for all keys, and the last message of each key is held. A message without
    the key is reported as rejected, and does not end a silence.

    Time during which the loop was blocked, by a function or because the process was stopped, does not count as silence:
    if the timer fires late, it checks again after 1 s, or after ``seconds`` if that is less.

    Args:
        seconds: the seconds of silence, on the clock of the scheduler.
        key: a key, a path, or a function of the message; None (the default) watches the whole Observable.
        expected: keys that become stale even if no message has them.

    Raises:
        TypeError: ``seconds`` is not a number, ``key`` is a coroutine function or cannot be hashed, or ``expected`` is
            a str or is given without ``key``.
        ValueError: ``seconds`` is less than 0.001 or more than a billion, or ``key`` is an empty path.

    Example::

        >>> import reactivex as rx
        >>> from reactivex.scheduler import VirtualTimeScheduler
        >>> from rxws import operators as rxops
        >>> clock = VirtualTimeScheduler()
        >>> quotes = rx.concat(rx.of({"s": "BTC"}), rx.timer(8.0).pipe(rx.operators.map(lambda _: {"s": "BTC"})))
        >>> _ = quotes.pipe(rxops.stale_after(5.0, "s")).subscribe(print, scheduler=clock)
        >>> clock.start()
        Stale(key='BTC', seconds=5.0, last={'s': 'BTC'})
        Recovered(key='BTC', seconds=8.0, message={'s': 'BTC'})

    On a feed::

        async for news in ws.stream_filter([{"e": "trade"}]).pipe(rxops.stale_after(30, "s", expected=SYMBOLS)):
            await alert(news)
    """
    silence = timedelta(seconds=parse_seconds(seconds, "seconds", 0.001))
    read = key_reader(key)
    if isinstance(expected, str | bytes):
        raise TypeError(f"expected must be a collection of keys, not {expected!r}")
    watched = dict.fromkeys(expected)
    if watched and key is None:
        raise TypeError("expected lists keys, so key must be given, too")
    if key is None:
        watched = {None: None}

    def operator(source: Observable[Any]) -> Observable[Stale | Recovered]:
        reports = Reports(source, "stale_after")

        def subscribe(
            observer: abc.ObserverBase[Stale | Recovered], scheduler: abc.SchedulerBase | None = None
        ) -> abc.DisposableBase:
            clock = scheduler_of(source, scheduler)
            listening = _Listening(silence, read, dict.fromkeys(watched, (clock.now, None)), observer, reports, clock)
            subscription = source.subscribe(
                listening.on_next, observer.on_error, observer.on_completed, scheduler=scheduler
            )
            return CompositeDisposable(subscription, listening.timer)

        return Observable(subscribe)

    return operator


class _Listening:
    """For one subscriber: the time of each key's last message, and the timer for all keys."""

    def __init__(
        self,
        silence: timedelta,
        read: Callable[[Any], Hashable],
        heard: dict[Hashable, tuple[datetime, Any]],
        observer: abc.ObserverBase[Stale | Recovered],
        reports: Reports,
        clock: abc.SchedulerBase,
    ) -> None:
        self._silence = silence
        self._read = read
        # The time and content of the last message of each key. The key with the longest silence is first, so one timer
        # is enough.
        self._heard = heard
        self._stale: dict[Hashable, datetime] = {}
        self._observer = observer
        self._reports = reports
        self._clock = clock
        self._is_timed = False
        self.timer = SerialDisposable()
        self._watch()

    def on_next(self, message: Any) -> None:
        """Record the time of a message, and emit Recovered if its key was stale."""
        try:
            name = self._read(message)
        except FAILURES as error:
            self._reports.rejected(message, error)
            return
        now = self._clock.now
        since = self._stale.pop(name, None)
        self._heard.pop(name, None)
        self._heard[name] = now, message
        self._watch()
        if since is not None:
            self._observer.on_next(Recovered(name, (now - since).total_seconds(), message))

    def _watch(self) -> None:
        if self._heard and not self._is_timed:
            self._is_timed = True
            since, _ = next(iter(self._heard.values()))
            due = since + self._silence
            self.timer.disposable = self._clock.schedule_absolute(due, self._fire, due)

    def _fire(self, _clock: abc.SchedulerBase, due: datetime | None = None) -> None:
        assert due is not None
        late = self._clock.now - due
        if late > LATE:
            # Do this only once, even if the second timer is late. Otherwise a loop that is always late would hide every
            # silence.
            self.timer.disposable = self._clock.schedule_relative(min(self._silence, GRACE), self._look_in, TURNS)
        else:
            self._look_in(self._clock, TURNS if late > timedelta() else 0)

    def _look_in(self, _clock: abc.SchedulerBase, turns: int | None = None) -> None:
        if turns:
            self.timer.disposable = self._clock.schedule_relative(0.0, self._look_in, turns - 1)
        else:
            self._look()

    def _look(self) -> None:
        self._is_timed = False
        now = self._clock.now
        silent = []
        for name, (since, last) in self._heard.items():
            if now - since < self._silence:
                break
            silent.append((name, since, last))
        for name, since, _last in silent:
            del self._heard[name]
            self._stale[name] = since
        self._watch()
        for name, since, last in silent:
            self._observer.on_next(Stale(name, (now - since).total_seconds(), last))
