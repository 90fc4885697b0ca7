"""The events of a feed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .event import Event, GapReason, Overflow, Reason
from .quoting import quoted_repr

__all__ = [
    "CallbackFailed",
    "Connected",
    "Disconnected",
    "Event",
    "Gap",
    "HandlerFailed",
    "Lagging",
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


def _next_attempt(delay: float | None) -> str:
    if delay is None:
        return "giving up"
    return f"retrying in {delay:.1f} s" if delay else "retrying at once"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Connected(Event):
    """A connection is open, and all channels are subscribed on it.

    Attributes:
        number: the connection's number: 1 for the feed's first.
        attempt: the number of attempts that were needed; 1 if the first succeeded.
    """

    number: int
    attempt: int

    @property
    def _sentence(self) -> str:
        after = f" after {self.attempt} attempts" if self.attempt > 1 else ""
        return f"connection {self.number} is open{after}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Disconnected(Event):
    """A connection ended, or could not be opened.

    Attributes:
        number: the number of the connection that ended, or None if it could not be opened.
        reason: one of ``"rotation"``, ``"server"``, ``"network"``, ``"idle"``, ``"handshake"``, ``"tls"``,
            ``"auth"``, ``"line"`` (the messages could not be compared with those of other lines), ``"user"``,
            ``"internal"`` (a bug in rxws or in the websocket library).
        cause: the cause in words, without secrets.
        code: the close code of RFC 6455 §7.4, or None without a close frame.
        delay: seconds until the next attempt, or None if no attempt follows or the delay is not yet known.
    """

    number: int | None
    reason: Reason
    cause: str
    code: int | None = None
    delay: float | None = None

    @property
    def _sentence(self) -> str:
        if self.number is None:
            return f"no connection ({self.reason}): {self.cause}; {_next_attempt(self.delay)}"
        code = "" if self.code is None else f", code {self.code}"
        return f"connection {self.number} ended ({self.reason}{code}): {self.cause}"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Rotated(Event):
    """A planned rotation is complete: the new connection delivers.

    Attributes:
        number: the number of the new connection.
        proven: whether the overlap was proven. For this, the old connection must have delivered messages during
            ``handover_settle`` seconds, and all of them must have arrived on the new connection, too.
        held: the number of messages of the new connection that were held back during the overlap.
        duplicates: the number of held messages that were dropped because the old connection had delivered them.
        discarded: the number of held messages that were dropped because they are per connection (acknowledgements,
            snapshots), or because they arrived before the first copy in their channel and so are older than the
            delivered messages.
        paused: the pause in delivery in seconds. It begins with the old connection's last message, or with the request
            to close that connection if that was later, and ends with the first held message.
        uncopied: the number of held messages without a channel that had no copy, although copies followed them. If the
            server sends such messages on every new connection, declare them with ``per_connection``.
        truncated: whether the overlap ended early because too many messages were held.

    With ``handover_timeout=0`` there is no overlap, and all but ``number`` have their defaults.
    """

    number: int
    proven: bool = False
    held: int = 0
    duplicates: int = 0
    discarded: int = 0
    paused: float = 0.0
    uncopied: int = 0
    truncated: bool = False

    @property
    def _sentence(self) -> str:
        return (
            f"connection {self.number} delivers: overlap {'' if self.proven else 'not '}proven, {self.held:,} held, "
            f"{self.duplicates:,} of them copies, paused {self.paused * 1000:.1f} ms{', cut short' * self.truncated}"
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Resumed(Event):
    """A connection that replaced a lost one begins where that one ended, so no message is missing.

    Attributes:
        number: the number of the new connection.
        replayed: the number of its messages that had been delivered before the loss.
    """

    number: int
    replayed: int = 0

    @property
    def _sentence(self) -> str:
        return f"connection {self.number} begins where the last one ended"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LineJoined(Event):
    """A line brings the same messages as the others. If another line is lost now, no message is missing.

    Attributes:
        line: the line: 1 for the first.
        number: the number of its connection.
    """

    line: int
    number: int

    @property
    def _sentence(self) -> str:
        return f"line {self.line} (connection {self.number}) brings the same messages as the others"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class LineLost(Event):
    """A line no longer brings the same messages as the others. Its messages are held until it does again.

    Attributes:
        line: the line: 1 for the first.
        number: the number of its connection.
        reason: ``"behind"``: messages of other lines are missing on it, or too late. ``"mute"``: it was the only line
            that delivered, and was silent while another had new messages. Then a ``Gap`` follows.
    """

    line: int
    number: int
    reason: Literal["behind", "mute"]

    @property
    def _sentence(self) -> str:
        return f"line {self.line} (connection {self.number}) no longer brings the messages of the others: {self.reason}"


@dataclass(frozen=True, slots=True, repr=False)
class Gap(Event):
    """Messages may be missing at this point: there was no connection for a time, or an overlap ended early.

    If a source reports missing messages, its parse hook returns ``Gap(start, end)``, alone or in a ``Many``. The feed
    announces it in that place and fills in the other fields.

    Attributes:
        start: the delivery of the last message before the gap, in seconds since the epoch.
        end: the time when all channels were subscribed again, or when the first message after the gap arrived if that
            was earlier; in seconds since the epoch.
        reason: as in :class:`Disconnected`, or one of the following. ``"recording"``: in a replay, nothing was recorded
            in between. ``"user"``: a stream of ``multiplex`` was made just after its channel had been unsubscribed,
            and messages before the new subscription were discarded. ``"subscription"``: for some time, no connection
            had the channel of a stream of ``multiplex`` subscribed, because the server had refused it, or had not
            answered when the connection was opened. Only the streams of that channel get a Gap with one of these two
            reasons. ``"source"``: the parse hook returned the Gap, and its times are those of the source.
            ``"history"``, in what ``stream.backfill`` returns: the history lacks the missing messages.
        last_message: the last message delivered before the gap, or None if there was none.

    Example::

        def parse(raw_data):
            message = json.loads(raw_data)
            if message["type"] == "missed":
                return rxws.Gap(message["from"], message["to"])
            return message
    """

    start: float
    end: float
    reason: GapReason = "source"
    last_message: Any = None
    name: str = field(default="", kw_only=True)
    time: float = field(default=0.0, kw_only=True)

    @property
    def _sentence(self) -> str:
        length = (self.end - self.start) * 1000
        if self.reason in ("rotation", "user", "recording", "source", "history"):
            return f"messages of {length:,.1f} ms may be missing ({self.reason})"
        return f"{length:,.1f} ms without a connection ({self.reason}): messages may be missing"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Quiet(Event):
    """The connection is open, but no message has arrived for a while (60 s, then 120 s, 240 s …).

    Attributes:
        seconds: the time without a message.
    """

    seconds: float

    @property
    def _sentence(self) -> str:
        return f"connected, but no message for {self.seconds:g} s"


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
    """A consumer is too slow: its buffer has reached 10,000, 100,000 or 1,000,000 messages.

    Attributes:
        consumer: the consumer: a stream with its filter, or a handler with its function's name.
        pending: the number of messages in its buffer.
    """

    consumer: str
    pending: int

    @property
    def _sentence(self) -> str:
        return f"{self.consumer} is behind: {self.pending:,} messages wait"


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
        follows = "the message was dropped" if self.delay is None else _next_attempt(self.delay)
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
