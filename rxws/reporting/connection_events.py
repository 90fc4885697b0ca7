"""The events of a feed's connections and lines."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from .event import Event, GapReason, Reason, next_attempt

__all__ = ["Connected", "Disconnected", "Gap", "LineJoined", "LineLost", "Quiet", "Resumed", "Rotated"]


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
            return f"cannot connect ({self.reason}): {self.cause}; {next_attempt(self.delay)}"
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
