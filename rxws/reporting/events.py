"""All events of a feed. Those of its connections and lines are defined in ``connection_events``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .connection_events import Connected, Disconnected, Gap, LineJoined, LineLost, Quiet, Resumed, Rotated
from .event import Event, Overflow, next_attempt
from .quoting import quoted_repr

__all__ = [
    "CallbackFailed",
    "Connected",
    "Disconnected",
    "Event",
    "Gap",
    "HandlerFailed",
    "Lagging",
    "LatencyExceeded",
    "LatencyRecovered",
    "LineJoined",
    "LineLost",
    "LoopBlocked",
    "MessageRejected",
    "NothingMatched",
    "Overflowed",
    "Quiet",
    "RecordingFailed",
    "RelayFailed",
    "Resumed",
    "Rotated",
    "SubscriptionEnded",
    "SubscriptionFailed",
    "Unacknowledged",
]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MessageRejected(Event):
    """A frame could not be parsed and was skipped.

    Attributes:
        raw: the frame.
        error: the exception of the parse hook.
        count: the number of frames rejected so far.
    """

    raw: str | bytes
    error: BaseException
    count: int

    @property
    def _sentence(self) -> str:
        return f"a frame could not be parsed ({self.count:,} so far): {quoted_repr(self.error)}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CallbackFailed(Event):
    """A user's function raised: a handler, a subscriber, a filter or a hook.

    Attributes:
        handler: the function's name.
        message: the message that it was called with, or None if it was called without one.
        error: the exception.
    """

    handler: str
    message: Any
    error: BaseException

    @property
    def _sentence(self) -> str:
        return f"{self.handler} raised {quoted_repr(self.error)}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LoopBlocked(Event):
    """A function kept the event loop from running anything else, for half a second or longer.

    Meanwhile no feed of the loop reads, answers pings or sends. A thread watches the loop, but not a loop with a
    virtual clock. The thread cannot distinguish a stopped process from C code that waits while it holds the GIL.

    Attributes:
        seconds: how long the loop was seen to be blocked, accurate to 0.4 s.
        handlers: the names of the functions that ran then: handlers, subscribers, filters and hooks of any feed of this
            loop, or other callbacks and coroutines of the program. Empty if none of them was found.
    """

    seconds: float
    handlers: tuple[str, ...]

    @property
    def _sentence(self) -> str:
        return f"the event loop was blocked for {self.seconds:.1f} s by {', '.join(self.handlers) or 'unknown code'}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Lagging(Event):
    """A consumer is too slow: its buffer has reached 10,000, 100,000 or 1,000,000 messages, or 128 MiB.

    Attributes:
        consumer: the consumer: a stream with its filter, or a handler with its function's name.
        pending: the number of messages in its buffer.
        pending_bytes: the size of their frames in bytes; None if it is not known.
    """

    consumer: str
    pending: int
    pending_bytes: int | None = None

    @property
    def _sentence(self) -> str:
        size = f" ({self.pending_bytes / 2**20:,.1f} MiB)" if self.pending_bytes else ""
        return f"{self.consumer} is behind: {self.pending:,} messages wait{size}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LatencyExceeded(Event):
    """A message arrived too long after it was sent. The next such event follows only after ``LatencyRecovered``.

    Attributes:
        latency: the seconds from its sending to its arrival.
        max_latency: the limit in seconds.
    """

    latency: float
    max_latency: float

    @property
    def _sentence(self) -> str:
        return f"a message arrived {self.latency:.3f} s after it was sent; max_latency is {self.max_latency:g} s"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LatencyRecovered(Event):
    """Messages arrive in time again: none was late for five seconds.

    Attributes:
        latency: the seconds from the sending of the last message to its arrival.
        max_latency: the limit in seconds.
        highest: the highest latency since ``LatencyExceeded``.
        seconds: the seconds since ``LatencyExceeded``.
    """

    latency: float
    max_latency: float
    highest: float
    seconds: float

    @property
    def _sentence(self) -> str:
        late = f"they were up to {self.highest:.3f} s late, for {self.seconds:.1f} s"
        return f"messages arrive within {self.max_latency:g} s again; {late}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Overflowed(Event):
    """A full buffer dropped messages, or (``overflow="error"``) ended its stream.

    Attributes:
        consumer: the owner of the buffer: a stream with its filter; a handler with its function's name; ``"resync"``,
            which waits for a snapshot; or ``"connection 3"``, on which too many messages arrived before all channels
            were subscribed.
        overflow: its policy: ``"error"``, ``"drop_oldest"`` or ``"drop_newest"``.
        dropped: the number of messages that it has dropped in total.
    """

    consumer: str
    overflow: Overflow
    dropped: int

    @property
    def _sentence(self) -> str:
        return f"{self.consumer} was full ({self.overflow}): {self.dropped:,} messages dropped in all"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RecordingFailed(Event):
    """A recording of the feed stopped because its file cannot be written (the disk is full, say). The feed continues.

    Attributes:
        path: the file.
        error: the system's exception.
        lost: the number of earlier frames, events and states that may be missing in the file.
    """

    path: str
    error: BaseException
    lost: int

    @property
    def _sentence(self) -> str:
        return f"the recording to {self.path} stopped: {quoted_repr(self.error)}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RelayFailed(Event):
    """A relay of the feed lost its broker, could not reach it, or could not relay a message. The feed continues.

    Attributes:
        relay: the relay's name.
        error: the exception.
        pending: the number of messages that the broker has not acknowledged.
        delay: seconds until the next attempt, or None if a message was refused and the relay continues with the next.
    """

    relay: str
    error: BaseException
    pending: int
    delay: float | None = None

    @property
    def _sentence(self) -> str:
        follows = "the message was dropped" if self.delay is None else next_attempt(self.delay)
        return f"relay {self.relay}: {quoted_repr(self.error)}; {follows}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SubscriptionFailed(Event):
    """The server refused a subscription, or did not answer it in time.

    A message without an answer is sent once more; after that the channel counts as subscribed. A refused channel is not
    sent again on this connection. A refused message that combines several channels is sent again in two halves, and so
    on, until the refused channel is found.

    Attributes:
        message: the beginning of the sent message, without secrets.
        attempt: 1 for the first sending, 2 for the second.
        refusal: the beginning of the repr of the server's answer that passed ``rejected``, without secrets. None if no
            answer arrived.
        combined: the number of channels in the message. If it is more than one, the refusal is not yet final for any of
            them.
    """

    message: str
    attempt: int
    refusal: str | None = None
    combined: int = 1

    @property
    def _sentence(self) -> str:
        how = "was not acknowledged" if self.refusal is None else f"was refused with {self.refusal}"
        return f"a subscription {how}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SubscriptionEnded(Event):
    """The server ended the subscription of a channel: its message passed ``ended`` of ``multiplex``.

    Attributes:
        message: the beginning of the repr of the message that subscribes the channel, without secrets, or the name of
            the function that returns it.
        ending: the beginning of the repr of the server's message, without secrets.
        delay: the seconds until the channel is subscribed again on this connection; None if it is not.
    """

    message: str
    ending: str
    delay: float | None

    @property
    def _sentence(self) -> str:
        follows = "its streams end" if self.delay is None else f"it is subscribed again in {self.delay:.1f} s"
        return f"the server ended a subscription with {self.ending}: {self.message}; {follows}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class NothingMatched(Event):
    """For ten seconds messages arrived, and none passed a stream's filter. Emitted once per filter.

    It is emitted for at most a hundred filters of one feed. It is not emitted for filters that are functions, nor for
    streams that are made in a rotation hook, because such a hook waits for rare messages.

    Attributes:
        filter: the filter as text, without secrets.
        messages: the number of messages that did not pass.
        values: the values of the filter's keys in a sample of these messages: at most five for each key, as text, then
            ``"…"`` if there are more. Empty for a key that no message had.
    """

    filter: str
    messages: int
    values: Mapping[str, tuple[str, ...]]

    @property
    def _sentence(self) -> str:
        seen = "; ".join(f"{key} was {', '.join(values) or 'absent'}" for key, values in self.values.items())
        return f"none of {self.messages:,} messages passed {self.filter}: {seen}"


#: The former name of :class:`CallbackFailed`. Recordings that contain it can be read.
HandlerFailed = CallbackFailed

#: The former name of :class:`SubscriptionFailed`. Recordings that contain it can be read.
Unacknowledged = SubscriptionFailed
