"""The server's log of a life, for the judge: its actions and their times, as data that can be written as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["LineRecord", "Repeat", "Sent", "VenueRecord"]


@dataclass(slots=True)
class Sent:
    """A numbered message that the server sent on one connection. Times are in seconds of the loop's clock.

    Attributes:
        channel: its channel.
        n: its number on the channel; for a snapshot, the number of the last change that it contains.
        at: when the server sent it.
        due: when it should reach the client.
        came_at: when it reached the client, or None if it did not.
        is_snapshot: whether it is a snapshot.
    """

    channel: str
    n: int
    at: float
    due: float
    came_at: float | None = None
    is_snapshot: bool = False


@dataclass(slots=True)
class LineRecord:
    """The log of one connection.

    Attributes:
        number: the number of the connection, 1 for the server's first one.
        opened_at: when the server accepted the connection.
        ended_at: when the server noticed the end of the connection, or None if it has not ended.
        damages: the faults of the connection: (time, fault).
        is_resumed: whether the connection began where the client's messages had ended.
        holdups: the intervals in which the delivery of frames was held up.
        deferrals: the intervals between a subscription and its late effect.
        sent: the messages, in the order of sending.
        replayed: for each channel with a cursor, whether the server repeated all missed messages. The key ``""``
            means all channels.
        last_said: when the last frame without a number is due, or None if there was none.
        left_at: when the end of the connection by the server reaches the client, or None.
        answers: the answers to subscriptions: (when it should reach the client, channel).
        cut_at: when the client cut the connection during the closing handshake, or None if it did not.
        subscribed: the channels that are subscribed now.
        unsubscribed: the channels that were unsubscribed: (time, channel).
        refused: the channels whose last subscription was refused.
        subscribed_in_the_end: the channels that were subscribed shortly before the end of the life, or None if the
            connection had ended before.
    """

    number: int
    opened_at: float
    ended_at: float | None = None
    left_at: float | None = None
    damages: list[tuple[float, str]] = field(default_factory=list)
    is_resumed: bool = False
    holdups: list[tuple[float, float]] = field(default_factory=list)
    deferrals: list[tuple[float, float]] = field(default_factory=list)
    answers: list[tuple[float, str]] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    last_said: float | None = None
    cut_at: float | None = None
    replayed: dict[str, bool] = field(default_factory=dict)
    subscribed: list[str] = field(default_factory=list)
    unsubscribed: list[tuple[float, str]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    subscribed_in_the_end: list[str] | None = None

    @property
    def is_sound(self) -> bool:
        """Whether the connection is open and has no fault."""
        return self.ended_at is None and not self.damages


@dataclass(slots=True)
class Repeat:
    """A subscription that was sent again on the same connection after the server had answered it.

    Attributes:
        at: when the subscription arrived again.
        channel: the subscribed channel.
        answered_at: when the client should have had the answer.
    """

    at: float
    channel: str
    answered_at: float


@dataclass(slots=True)
class VenueRecord:
    """The log of the whole server.

    Attributes:
        published: the publication times of each channel: the time of number n is at index n - 1.
        lines: its connections.
        effects: the subscriptions and refusals: (time, channel, whether it was refused).
        outages: the intervals in which the server left all messages out; it told its clients about them.
        refusals: the faults of handshakes, with their times.
        repeats: the subscriptions that were sent again after their answer.
        omitted: the numbers of the book's changes that the server has left out.
        problems: errors of clients.
    """

    published: dict[str, list[float]] = field(default_factory=dict)
    lines: list[LineRecord] = field(default_factory=list)
    effects: list[tuple[float, str, bool]] = field(default_factory=list)
    outages: list[tuple[float, float]] = field(default_factory=list)
    refusals: list[tuple[float, str]] = field(default_factory=list)
    repeats: list[Repeat] = field(default_factory=list)
    omitted: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    @property
    def holdups(self) -> list[tuple[float, float]]:
        """The intervals in which delivery was held up on any connection."""
        return [each for line in self.lines for each in line.holdups]
