"""What a server did in a life, and when: all that the judge knows of it. Plain data that JSON can hold."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["LineRecord", "Sent", "VenueRecord"]


@dataclass(slots=True)
class Sent:
    """A numbered message, as one connection was sent it. All times are the loop's, in seconds.

    Attributes:
        channel: of which channel it is.
        n: its number there; of a snapshot the number of the last change that is in it.
        at: when the server sent it.
        due: when it was to come to the client.
        came_at: when it came; None: it did not.
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
    """One connection.

    Attributes:
        number: 1 for the server's first.
        opened_at: when the server accepted it.
        ended_at: when the server knew that it had ended; None: it has not.
        damages: what the server did to it, and when.
        holdups: from when to when nothing came on it that was on its way.
        sent: its messages, in the order in which they were sent.
        subscribed: what is subscribed on it, in the end.
        refused: what was refused on it last.
        subscribed_in_the_end: what was subscribed on it when the life was about to end; None: it had ended before.
    """

    number: int
    opened_at: float
    ended_at: float | None = None
    damages: list[tuple[float, str]] = field(default_factory=list)
    holdups: list[tuple[float, float]] = field(default_factory=list)
    sent: list[Sent] = field(default_factory=list)
    subscribed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    subscribed_in_the_end: list[str] | None = None

    @property
    def is_sound(self) -> bool:
        """Whether it is open, and nothing was done to it that ends it."""
        return self.ended_at is None and not self.damages


@dataclass(slots=True)
class VenueRecord:
    """The whole server.

    Attributes:
        published: when each number of each channel was published: number n is at place n - 1.
        lines: its connections.
        effects: when which channel was subscribed, and when it was refused: (when, channel, whether it was refused).
        refusals: when handshakes were refused, or not answered in time.
        problems: what clients did that no client should do.
    """

    published: dict[str, list[float]] = field(default_factory=dict)
    lines: list[LineRecord] = field(default_factory=list)
    effects: list[tuple[float, str, bool]] = field(default_factory=list)
    refusals: list[tuple[float, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
