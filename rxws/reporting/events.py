"""What a feed tells about itself: its state, its events, its statistics."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from .redaction import redact

__all__ = [
    "CallbackFailed",
    "Connected",
    "Disconnected",
    "Event",
    "Gap",
    "HandlerFailed",
    "Lagging",
    "MessageRejected",
    "NothingMatched",
    "Overflowed",
    "Quiet",
    "RecordingFailed",
    "Rotated",
    "State",
    "Statistics",
    "SubscriptionFailed",
    "Unacknowledged",
]


Reason: TypeAlias = Literal["rotation", "server", "network", "idle", "handshake", "tls", "auth", "user", "internal"]
"""Why a connection ended or could not be opened.

- ``"rotation"``: as planned.
- ``"server"``: the server closed it, or sent what the protocol or a limit forbids.
- ``"network"``: it broke, or nothing answered in time.
- ``"idle"``: no message came for ``idle_timeout``.
- ``"handshake"``: something answered, but not with a websocket; or the opening hook raised.
- ``"tls"``: the server's identity was not proven, or the encryption failed.
- ``"auth"``: the server refused the credentials.
- ``"user"``: this side closed it.
- ``"internal"``: the program that reads it raised a :exc:`TypeError`, :exc:`AttributeError`, :exc:`NameError` or
  :exc:`NotImplementedError`: an error of rxws, of the websocket library, or of a connection class of the user's.
"""

Overflow: TypeAlias = Literal["error", "drop_oldest", "drop_newest"]
"""What a full buffer does: it ends its stream after what it holds, drops the oldest item, or the newest."""


class State(enum.Enum):
    """Where a feed is in its life."""

    CONNECTING = "connecting"
    """No connection; one is being opened."""
    CONNECTED = "connected"
    """Messages flow from one connection."""
    ROTATING = "rotating"
    """Messages flow from one connection while the next is being opened or overlaps with it."""
    WAITING = "waiting"
    """No connection; a delay passes before the next attempt."""
    CLOSED = "closed"
    """``exit()`` was called. The end."""
    FAILED = "failed"
    """No connection can be had: a fatal error. The end."""

    @property
    def is_live(self) -> bool:
        """Whether a connection is open."""
        return self in _LIVE

    @property
    def is_final(self) -> bool:
        """Whether this is the end: no other state follows."""
        return not TRANSITIONS[self]


_LIVE = frozenset({State.CONNECTED, State.ROTATING})

TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.CONNECTING: frozenset({State.CONNECTED, State.WAITING, State.CLOSED, State.FAILED}),
    State.WAITING: frozenset({State.CONNECTING, State.CLOSED, State.FAILED}),
    State.CONNECTED: frozenset({State.ROTATING, State.CONNECTING, State.WAITING, State.CLOSED, State.FAILED}),
    State.ROTATING: frozenset({State.CONNECTED, State.CONNECTING, State.WAITING, State.CLOSED, State.FAILED}),
    State.CLOSED: frozenset(),
    State.FAILED: frozenset(),
}
"""Which states may follow each state; those that nothing follows are final."""


def _without_secrets(event: Event) -> str:
    """Return the repr of an event that holds an exception: whose text may hold an address with its secrets."""
    shown = []
    for field in fields(event):
        value = getattr(event, field.name)
        shown.append(f"{field.name}={redact(repr(value)) if isinstance(value, BaseException) else repr(value)}")
    return f"{type(event).__name__}({', '.join(shown)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The root of all events.

    Attributes:
        name: the feed's name.
        time: when it happened, in seconds since the epoch (in a loop with a virtual clock, on that clock).
    """

    name: str
    time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected(Event):
    """A connection is open and everything is subscribed on it.

    Attributes:
        number: the connection's number: 1 for the feed's first.
        attempt: how many attempts it took (1: the first succeeded).
    """

    number: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnected(Event):
    """A connection ended, or could not be opened.

    Attributes:
        number: the number of the connection that ended, or None when none could be opened.
        reason: one of ``"rotation"``, ``"server"``, ``"network"``, ``"idle"``, ``"handshake"``, ``"tls"``,
            ``"auth"``, ``"user"``, ``"internal"`` (an error of rxws or of the websocket library).
        cause: what happened in words, with no secret in it.
        code: the close code of RFC 6455 §7.4, or None where there was no close frame.
        delay: seconds until the next attempt, or None when none follows or it is not yet known.
    """

    number: int | None
    reason: Reason
    cause: str
    code: int | None = None
    delay: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotated(Event):
    """A planned rotation is complete: the new connection delivers.

    Attributes:
        number: the number of the new connection.
        proven: whether the overlap was proven: for a stretch of ``handover_settle`` seconds the old connection
            delivered something, and all of it came on the new one too.
        held: how many messages of the new connection were held during the overlap.
        duplicates: how many of those were dropped because the old connection had delivered them.
        discarded: how many were dropped because they are per connection (acknowledgements, snapshots).
        paused: for how long delivery paused, in seconds: from the old connection's last message or the request to
            close it, whichever was later, to the first held message.
        truncated: whether the overlap was cut short because too many messages were held.

    With ``handover_timeout=0`` there is no overlap, and all but ``number`` have their defaults.
    """

    number: int
    proven: bool = False
    held: int = 0
    duplicates: int = 0
    discarded: int = 0
    paused: float = 0.0
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Gap(Event):
    """Messages may be missing here: there was a time without a connection, or an overlap ended early.

    Attributes:
        start: when the last connection ended, in seconds since the epoch.
        end: when the next one was open, in seconds since the epoch.
        reason: as in :class:`Disconnected`; in a replay also ``"recording"``: nothing was recorded in between.
        last_message: the last message delivered before the gap, or None if there was none.
    """

    start: float
    end: float
    reason: Reason | Literal["recording"]
    last_message: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiet(Event):
    """The connection is open, but no message has come for a while (60 s, then 120 s, 240 s …).

    Attributes:
        seconds: for how long no message has come.
    """

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRejected(Event):
    """A frame could not be parsed and was skipped.

    Attributes:
        raw: the frame as it came.
        error: what the parse hook raised.
        count: how many frames have been rejected so far.
    """

    raw: str | bytes
    error: BaseException
    count: int

    __repr__ = _without_secrets


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackFailed(Event):
    """A function of the user's raised: a handler, a subscriber, a filter or a hook.

    Attributes:
        handler: the function's name.
        message: the message it was given, or None where there was none.
        error: what it raised.
    """

    handler: str
    message: Any
    error: BaseException

    __repr__ = _without_secrets


@dataclass(frozen=True, slots=True, kw_only=True)
class Lagging(Event):
    """A consumer is behind: its buffer has reached 10,000, 100,000 or 1,000,000 messages.

    Attributes:
        consumer: which one: a stream with its filter, a handler with its function's name.
        pending: how many messages wait.
    """

    consumer: str
    pending: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overflowed(Event):
    """A full buffer dropped messages, or (``overflow="error"``) ended its stream.

    Attributes:
        consumer: which one: a stream with its filter, a handler with its function's name; ``"resync"``, whose snapshot
            does not come; ``"connection 3"``, on which too much came before all was subscribed.
        overflow: its policy: ``"error"``, ``"drop_oldest"`` or ``"drop_newest"``.
        dropped: how many messages it has dropped in all.
    """

    consumer: str
    overflow: Overflow
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingFailed(Event):
    """A recording of the feed has stopped, because its file takes no more (a full disk, say); the feed goes on.

    Attributes:
        path: the file.
        error: what the system said.
        lost: how many of the frames, events and states that came until then may not be in it.
    """

    path: str
    error: BaseException
    lost: int

    __repr__ = _without_secrets


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionFailed(Event):
    """The server refused a subscription, or did not answer it in time.

    What is not answered is sent once more, and then taken for subscribed. What is refused is not sent again before the
    next connection, unless several were combined: then either half of them is sent, and so on, until it is known which
    is refused.

    Attributes:
        message: the beginning of what was sent, with no secret in it.
        attempt: 1, and 2 after the second time.
        refusal: the beginning of the repr of the server's answer that passed ``rejected``, with no secret in it; None
            where none came.
        combined: how many subscriptions the message was for: a refusal of more than one is not the last word.
    """

    message: str
    attempt: int
    refusal: str | None = None
    combined: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NothingMatched(Event):
    """A stream has waited through ten seconds of traffic and nothing has passed its filter; told once per filter.

    Streams whose filter is a function are not told of, nor those made in a rotation hook, which wait for what is rare;
    nor more than a hundred filters of one feed.

    Attributes:
        filter: what it is, as text, with no secret in it.
        messages: how many messages went by.
        values: what a sample of them had under each of the filter's keys: at most five values as text, and ``"…"``
            where there are more; none where the key was absent.
    """

    filter: str
    messages: int
    values: Mapping[str, tuple[str, ...]]


HandlerFailed = CallbackFailed
"""The former name of :class:`CallbackFailed`; recordings that hold it are read."""

Unacknowledged = SubscriptionFailed
"""The former name of :class:`SubscriptionFailed`; recordings that hold it are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """A snapshot of a feed's counters, since the feed was made.

    Attributes:
        messages: messages delivered.
        bytes: bytes of the frames received (payload, decompressed).
        opened: connections opened.
        rotations: planned rotations completed.
        reconnects: unplanned reconnections, by the reason that the connection before was lost.
        gaps: gaps reported.
        rejected: frames that could not be parsed.
        duplicates: messages dropped in rotations because the old connection had delivered them.
        discarded: messages dropped in rotations because they are per connection.
        failures: exceptions raised by handlers, subscribers, filters and hooks.
        unacknowledged: times that a subscription was refused, or not answered in time.
        streams: streams open now.
        pending: messages that wait in streams and handlers now.
        dropped: messages dropped by full streams and handlers.
        last_message_age: seconds since the last message, or None if there was none yet; ``age`` is its former name.
    """

    messages: int
    bytes: int
    opened: int
    rotations: int
    reconnects: Mapping[str, int]
    gaps: int
    rejected: int
    duplicates: int
    discarded: int
    failures: int
    streams: int
    pending: int
    dropped: int
    last_message_age: float | None
    unacknowledged: int = 0

    @property
    def age(self) -> float | None:
        """The former name of ``last_message_age``."""
        return self.last_message_age
