"""The server's end of one connection, with the frames that are being delivered, and its faults."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Collection
from random import Random
from typing import Any, Final, Protocol

from .dialect import Dialect, Request
from .record import LineRecord, Sent
from .schedule import Schedule, Settings

__all__ = ["Line", "Wire"]


class Wire(Protocol):
    """The path from the server to one client."""

    @property
    def has_unread(self) -> bool:
        """Whether a frame has arrived that the client has not read, if the transport can know this."""

    def come(self, frame: Any) -> None:
        """Deliver a frame."""

    def close_by_server(self, code: int) -> None:
        """Send a close frame, or answer the client's."""

    def drop(self) -> None:
        """End the connection without a close frame."""

    def reset(self) -> None:
        """End the connection with a reset."""

    def die(self) -> None:
        """Keep the connection open, but deliver nothing more in either direction."""

    def fail(self) -> None:
        """Break the protocol."""


class Owner(Protocol):
    """The methods of the server that its connections need."""

    schedule: Schedule
    settings: Settings
    dialect: Dialect

    def asked(self, line: Line, request: Request) -> None:
        """Handle a client's request."""

    def catch_up(self) -> None:
        """Publish all messages that are due."""


class Line:
    """The server's end of one connection.

    Attributes:
        record: the log of the frames that were sent on it, and of its faults.
        is_open: whether messages are still published on it.
        is_mute: whether the server sends no more messages on it, but still answers.
        is_dead: whether it is half-open: nothing is delivered in either direction.
        is_late: whether its handshake is answered too late, so that the client never reads from it.
        answers_close: whether the server answers the client's close frame.
        deferred: the channels whose subscription has arrived but has not taken effect yet.
        answered: for each channel, the time at which the client should have the answer to the subscription.
        ids: for each subscribed channel, the id of its subscription, if the server gives ids.
        ended: the channels whose subscription the server has ended.
        positions: for each channel, the number after which its messages begin, and whether the server remembers all
            later ones.
    """

    def __init__(self, venue: Owner, record: LineRecord, lag: float) -> None:
        self.record: Final = record
        self.is_open = True
        self._loop = asyncio.get_running_loop()
        self._venue = venue
        self._lag = lag
        self._rng = Random(f"{venue.schedule.seed}/connection {record.number}")
        self._skews: dict[str, float] = {}
        self._outs: dict[str, float] = {}
        # The frames that are being delivered, ordered by their due times.
        self._waiting: list[tuple[float, int, Sent | None, Any]] = []
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._not_before = 0.0
        self._wire: Wire | None = None
        self.is_mute = False
        self.is_dead = False
        self.is_late = False
        self.answers_close = True
        self.deferred: set[str] = set()
        self.answered: dict[str, float] = {}
        self.positions: dict[str, tuple[int, bool]] = {}
        self.ids: dict[str, int] = {}
        self.ended: set[str] = set()
        # There are more ids than channels, so the id of a subscription that has ended is not given again at once.
        self._free_ids = list(range(venue.settings.channels + 3))
        Random(f"{venue.schedule.seed}/ids {record.number}").shuffle(self._free_ids)

    def attach(self, wire: Wire) -> None:
        """Set the path to the client."""
        self._wire = wire

    @property
    def channels(self) -> list[str]:
        """The channels that are subscribed on the connection."""
        return self.record.subscribed

    @property
    def is_read(self) -> bool:
        """Whether the client has read all frames that have arrived."""
        return self._wire is not None and not self._wire.has_unread

    # Subscriptions

    def begin(self, channel: str) -> None:
        """Subscribe a channel, and give the subscription an id."""
        self.channels.append(channel)
        self.ended.discard(channel)
        self.ids[channel] = self._free_ids.pop(0)

    def leave(self, channel: str) -> None:
        """Unsubscribe a channel. The next subscription gets its id."""
        self.channels.remove(channel)
        self.record.unsubscribed.append((self._loop.time(), channel))
        self._free_ids.insert(0, self.ids.pop(channel))

    def end_channel(self, channel: str) -> None:
        """End the subscription of a channel, and say so after its last message."""
        if channel in self.channels and self.is_open and not (self.is_mute or self.is_dead):
            self.channels.remove(channel)
            self.answered.pop(channel, None)
            self.ended.add(channel)
            self._free_ids.append(self.ids.pop(channel))
            self.say(self._venue.dialect.ended(channel), [channel])

    # Sending

    def publish(self, channel: str, n: int, frame: Any, now: float, *, is_snapshot: bool = False) -> None:
        """Send a numbered message, with the lags of this connection."""
        if not self.is_open or self.is_mute:
            return
        settings = self._venue.settings
        if settings.gives_ids:
            frame = self._venue.dialect.with_id(frame, self.ids[channel])
        if channel not in self._skews:
            self._skews[channel] = self._rng.uniform(0.0, settings.skew) if settings.skew else 0.0
        lag = self._skews[channel] + (self._rng.uniform(0.0, settings.jitter) if settings.jitter else 0.0)
        out = self._outs[channel] = max(self._outs.get(channel, 0.0), now + lag)
        sent = Sent(channel, n, now, out + self._lag, is_snapshot=is_snapshot)
        self.record.sent.append(sent)
        if not self.is_dead:
            self._put(sent.due, sent, frame)

    def say(self, frame: Any, behind: Collection[str] = (), ahead: Collection[str] = ()) -> float | None:
        """Send a frame without a number.

        Args:
            frame: the frame.
            behind: the channels whose earlier messages arrive before it.
            ahead: the channels whose later messages arrive after it.

        Returns:
            When it is due at the client; None if it is not sent.
        """
        if not self.is_open or self.is_dead or frame is None:
            return None
        earliest = max(self._outs.get(channel, 0.0) for channel in ("", *behind))
        out = max(self._loop.time(), earliest)
        self._outs.update(dict.fromkeys(ahead, out))
        due = self.record.last_said = out + self._lag
        self._put(due, None, frame)
        return due

    def tell(self, frame: Any) -> None:
        """Send a frame that arrives after all messages sent so far, unless the connection is mute."""
        if self.is_open and not (self.is_dead or self.is_mute):
            self._put(self._last_due(), None, frame)

    def _put(self, due: float, sent: Sent | None, item: Any) -> None:
        if self._venue.settings.padding and isinstance(item, str | bytes):
            item = self._venue.dialect.padded(item, self._venue.settings.padding)
        self._count += 1
        heapq.heappush(self._waiting, (due, self._count, sent, item))
        if self._waiting[0][1] == self._count:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiting:
            due = max(self._waiting[0][0], self._not_before)
            self._timer = self._loop.call_at(due, self.bring)

    def bring(self) -> None:
        """Deliver the frames that are due."""
        now = self._loop.time() + 1e-6
        while self._waiting and now >= max(self._waiting[0][0], self._not_before):
            _, _, sent, item = heapq.heappop(self._waiting)
            assert self._wire is not None
            if sent is not None:
                sent.came_at = self._loop.time()
                self._wire.come(item)
            elif callable(item):
                item()
            else:
                self._wire.come(item)
        self._set_timer()

    # Frames of the client

    def received(self, frame: Any) -> None:
        """Handle a frame of the client."""
        if self.is_open and not self.is_dead:
            request = self._venue.dialect.request(frame)
            if request is not None:
                self._venue.asked(self, request)

    def closed_by_client(self) -> None:
        """Handle the client's close frame, and answer it after ``close_lag``."""
        if self.is_open and not self.is_dead and self.answers_close:
            self._loop.call_later(self._venue.settings.close_lag, self.end_with_code, 1000)

    def cut_by_client(self) -> None:
        """Record that the client cuts the connection during the closing handshake."""
        self.record.cut_at = self._loop.time()

    def gone(self) -> None:
        """Handle the end of the connection by the client."""
        self._over()
        self._forget()

    # Faults

    def damage(self, what: str) -> None:
        """Record a fault that the client will notice."""
        self.record.damages.append((self._loop.time(), what))

    def end_with_code(self, code: int) -> None:
        """Close with a close frame, after all frames that are being delivered."""
        self._end(lambda wire: wire.close_by_server(code))

    def end_silently(self) -> None:
        """End without a close frame, after all frames that are being delivered."""
        self._end(lambda wire: wire.drop())

    def reset(self) -> None:
        """End at once: frames that are being delivered are lost."""
        self._over()
        self._forget()
        if self._wire is not None and not self.is_dead:
            self._wire.reset()

    def mute(self) -> None:
        """Send no more messages, but answer requests."""
        self.is_mute = True

    def die(self) -> None:
        """Become half-open."""
        self.is_dead = True
        self._forget()
        if self._wire is not None:
            self._wire.die()

    def break_protocol(self, is_answered: bool) -> None:
        """Break the protocol, after all frames that are being delivered."""
        self.answers_close = is_answered
        self.is_mute = True
        wire = self._wire
        if wire is not None and not self.is_dead:
            self._put(self._last_due(), None, wire.fail)

    def postpone(self, seconds: float) -> None:
        """Deliver nothing for this many seconds, and then all frames that are due."""
        self._not_before = self._loop.time() + seconds
        self.record.holdups.append((self._loop.time(), self._not_before))
        self._set_timer()

    def _last_due(self) -> float:
        return max([self._loop.time() + self._lag, *(each[0] for each in self._waiting)])

    def _end(self, how: Callable[[Wire], None]) -> None:
        if self.is_open:
            self._over()
            wire = self._wire
            if wire is not None and not self.is_dead:
                self.record.left_at = self._last_due()
                self._put(self.record.left_at, None, lambda: how(wire))

    def _over(self) -> None:
        if self.is_open:
            self._venue.catch_up()
            self.is_open = False
            self.record.ended_at = self._loop.time()

    def _forget(self) -> None:
        self._waiting.clear()
        self._set_timer()
