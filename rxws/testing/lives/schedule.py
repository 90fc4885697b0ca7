"""What happens in a life, as plain data: a seed's settings and acts. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["Act", "Plan", "Schedule", "Settings", "simpler"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What does not change in a life. The defaults are those of the simplest life. All times are in seconds.

    Attributes:
        seconds: how long acts and messages go on; a calm follows.
        channels: how many channels the server has.
        rate: messages a second on each of them.
        pushed: whether the server sends all channels on every connection, without being asked.
        lag: the greatest lag from the server; each connection has its own, up to that.
        up: the greatest lag to the server, likewise.
        skew: the greatest lag of one channel behind the others of its connection.
        jitter: the greatest lag of one message behind the others of its channel.
        keepalive: seconds until the websocket library finds out that nothing answers.
        close_lag: seconds that the server takes to answer a close.
        heartbeat: seconds between two equal messages of the server; 0: there are none.
        snapshots: whether the server sends a snapshot with each subscription: ``""``, ``"declared"`` (the feed is given
            a filter for them) or ``"plain"``.
        first_snapshot: whether a channel that is subscribed is to begin with its snapshot, whenever that is.
        book: whether a book of one channel is kept.
        watched: whether the book's state is looked at with every change, too, and not only in between.
        settle: the feed's ``handover_settle``.
        handover_timeout: the feed's, 0 for break before make.
        idle_timeout: the feed's, 0 for None.
        rotate_every: the feed's, 0 for None.
        send_limit: messages that may be sent in one second; 0: any number.
        retry_delay: seconds between two attempts to connect.
        combine: whether subscriptions are combined.
        consumer: how channels are consumed: ``"callback"``, ``"iterator"``, ``"slow"``, ``"raising"``, ``"blocking"``.
        overlaps: whether subscriptions are made during rotations, too.
        silence: whether a ``Gap`` is to begin with the last message, and not when the loss was found out; whether it is
            to be told, too, what a connection was silent about that a rotation ends.
    """

    seconds: float = 8.0
    channels: int = 2
    rate: float = 8.0
    pushed: bool = False
    lag: float = 0.0
    up: float = 0.0
    skew: float = 0.0
    jitter: float = 0.0
    keepalive: float = 2.0
    close_lag: float = 0.0
    heartbeat: float = 0.0
    snapshots: str = ""
    first_snapshot: bool = False
    book: bool = False
    watched: bool = False
    settle: float = 0.5
    handover_timeout: float = 2.0
    idle_timeout: float = 0.0
    rotate_every: float = 0.0
    send_limit: int = 0
    retry_delay: float = 0.1
    combine: bool = False
    consumer: str = "callback"
    overlaps: bool = False
    silence: bool = False

    @property
    def reach(self) -> float:
        """The greatest lag of a message."""
        return self.lag + self.skew + self.jitter

    def __str__(self) -> str:
        changed = (each.name for each in fields(self) if getattr(self, each.name) != each.default)
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in changed) or "the simplest"


@dataclass(frozen=True, slots=True, order=True)
class Act:
    """One thing that happens.

    Attributes:
        at: when, in seconds from the start.
        kind: what; see :mod:`rxws.testing.lives.ingredients` for all.
        word: a detail of it.
        value: a number that it needs.
    """

    at: float
    kind: str
    word: str = ""
    value: float = 0.0

    def __str__(self) -> str:
        return f"{self.at:7.3f}  {self.kind} {self.word}{f' {self.value:g}' if self.value else ''}".rstrip()


@dataclass(frozen=True, slots=True)
class Schedule:
    """A whole life: what a seed stands for.

    Attributes:
        seed: its number; what is decided by chance during the life follows from it.
        settings: what does not change.
        acts: what happens, in the order of time.
        ingredients: the names of what it was made of.
    """

    seed: int
    settings: Settings = field(default_factory=Settings)
    acts: tuple[Act, ...] = ()
    ingredients: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {', '.join(self.ingredients) or 'nothing happens'}", f"settings: {self.settings}"]
        return "\n".join([*lines, *map(str, self.acts)])

    def to_dict(self) -> dict[str, Any]:
        """Return the same in terms of JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Schedule:
        """Return the schedule that :meth:`to_dict` gave."""
        acts = tuple(Act(**act) for act in data["acts"])
        return cls(data["seed"], Settings(**data["settings"]), acts, tuple(data["ingredients"]))


class Plan:
    """A schedule in the making."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.acts: list[Act] = []

    @property
    def seconds(self) -> float:
        """How long the life is."""
        return float(self.settings.get("seconds", Settings().seconds))

    def set(self, **settings: Any) -> None:
        """Change settings."""
        self.settings |= settings

    def need_channels(self, count: int) -> None:
        """Have so many channels at least."""
        self.set(channels=max(count, self.settings.get("channels", Settings().channels)))

    def act(self, at: float, kind: str, word: str = "", value: float = 0.0) -> None:
        """Add an act; times are rounded to milliseconds, and so are numbers."""
        self.acts.append(Act(round(at, 3), kind, word, round(value, 3)))


def simpler(schedule: Schedule) -> Iterator[Schedule]:
    """Give schedules that are simpler than this one by one step, the greatest steps first.

    A step leaves out acts (half of them, a quarter … one), sets one setting to its default, or ends the life earlier.
    """
    acts, settings = schedule.acts, schedule.settings
    size = len(acts)
    while size:
        for start in range(0, len(acts), size):
            yield dataclasses.replace(schedule, acts=acts[:start] + acts[start + size :])
        size //= 2
    for each in fields(settings):
        if each.name != "seconds" and getattr(settings, each.name) != each.default:
            changes: dict[str, Any] = {each.name: each.default}
            yield dataclasses.replace(schedule, settings=dataclasses.replace(settings, **changes))
    last = acts[-1].at if acts else 1.0
    for seconds in (last + 0.5, last + 2.0, settings.seconds - 1.0):
        if 0 < seconds < settings.seconds:
            yield dataclasses.replace(schedule, settings=dataclasses.replace(settings, seconds=round(seconds, 3)))
