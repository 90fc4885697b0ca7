"""A life as plain data: its settings and acts. No I/O."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["Act", "Plan", "Schedule", "Settings", "simpler"]


@dataclass(frozen=True, slots=True)
class Settings:
    """The constants of a life. The defaults are those of the simplest life. All times are in seconds.

    Attributes:
        seconds: how long acts and messages continue; a time without faults follows.
        channels: how many channels the server has.
        rate: messages a second on each channel.
        pushed: whether the server sends all channels on every connection without a subscription.
        lag: the longest lag from the server to the client; each connection has its own lag, up to this.
        up: the longest lag from the client to the server; each connection has its own lag, up to this.
        skew: the longest additional lag of a channel; each channel of each connection has its own, up to this.
        jitter: the longest additional lag of a message; each message has its own, up to this.
        keepalive: seconds until the websocket library notices that the server does not answer.
        close_lag: seconds until the server answers a close frame.
        heartbeat: seconds between two equal messages of the server; 0: there are none.
        snapshots: whether the server sends a snapshot with each subscription: ``""`` (no), ``"declared"`` (the feed has
            a filter for them), ``"plain"`` (it has none), or ``"last"`` (the snapshot is the last change once more,
            which also precedes a replay that is not proven by a statement).
        first_snapshot: whether a channel must begin with its snapshot, no matter when it is subscribed.
        tells: whether the server reports the messages that it has left out. The feed's parse hook turns such a report
            into a ``Gap``.
        is_resumed: whether a connection resumes where the last one ended, and when its ``is_resumed`` says so: ``""``
            (it does not resume), ``"at once"``, or ``"late"`` (with its first frame). Not together with ``replays``.
        book: whether one channel is an order book, which the client keeps.
        sent_book: how the server sends the book's snapshots in the feed, with each subscription: ``""`` (it does not:
            the client fetches them), ``"numbers"``, or ``"checksums"`` (the client does not read the numbers; it checks
            each change, and restarts). See :attr:`sends_book`.
        past: how the history behaves from which the client fetches missed messages of one more channel: ``""`` (there
            is no such channel), ``"whole"``, ``"failing"`` (it raises), ``"loose"`` (its pages overlap, have messages
            with other numbers, and lack the newest), or ``"lacking"`` (it lacks single messages).
        watched: whether the book is also checked at every change, and not only at intervals.
        settle: the feed's ``handover_settle``.
        handover_timeout: the feed's ``handover_timeout``; 0 closes the old connection first.
        idle_timeout: the feed's ``idle_timeout``; 0 means None.
        rotate_every: the feed's ``rotate_every``; 0 means None.
        send_limit: how many messages the feed may send in one second; 0: any number.
        retry_delay: seconds between two attempts to connect.
        combine: whether subscriptions are combined.
        consumer: how channels are consumed: ``"callback"``, ``"iterator"``, ``"slow"``, ``"raising"``, ``"blocking"``.
        overlaps: whether channels may also be subscribed during rotations.
        replays: how the server repeats missed messages to a client that gives a cursor; only if ``pushed`` or with
            ``channel_cursors``: ``""`` (it does not), ``"copies"`` (from the cursor's own message on), ``"statement"``
            (from the next message on, with a statement whether all were repeated) or ``"numbers"`` (from the next
            message on; the feed compares numbers).
        channel_cursors: whether each subscription has its own cursor. Then the statement is part of its answer.
        early: how many messages before the cursor's a replay begins; with ``channel_cursors`` not before the first
            message of the subscription, because only numbers show that such a message is older than the delivered ones.
        given_ids: whether the server gives each subscription an id, which differs on each connection and is used again.
            The client recognizes messages by it. See :attr:`gives_ids`.
        ends: whether the server ends subscriptions, which the client recognizes. See :attr:`ends_channels`.
        greets: whether each connection begins with its own greeting: ``""`` (no), ``"declared"`` (the feed has a
            filter for it) or ``"plain"`` (it has none).
        padding: how many spaces follow each frame of JSON, so that a ready-made feed decodes it lazily. Then the life
            itself takes the messages with filters.
        shard: the feed's ``channels_per_connection``; 0 means None. See :attr:`channels_per_connection`.
        silence: whether a ``Gap`` must begin at the last message instead of at the time when the loss was noticed, and
            whether there must be a ``Gap`` for messages that a silent connection did not send before a rotation ended
            it.
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
    tells: bool = False
    is_resumed: str = ""
    book: bool = False
    sent_book: str = ""
    watched: bool = False
    past: str = ""
    settle: float = 0.5
    handover_timeout: float = 2.0
    idle_timeout: float = 0.0
    rotate_every: float = 0.0
    send_limit: int = 0
    retry_delay: float = 0.1
    combine: bool = False
    consumer: str = "callback"
    overlaps: bool = False
    replays: str = ""
    channel_cursors: bool = False
    early: int = 0
    greets: str = ""
    padding: int = 0
    given_ids: bool = False
    ends: bool = False
    silence: bool = False
    shard: int = 0

    @property
    def resumes(self) -> bool:
        """Whether the feed resumes after a loss."""
        return bool(self.replays) and (self.pushed or self.channel_cursors)

    @property
    def channels_per_connection(self) -> int:
        """The largest number of channels on a connection; 0: any number. Feeds with shards do not resume."""
        return 0 if self.pushed or self.resumes or self.is_resumed else self.shard

    @property
    def sends_book(self) -> bool:
        """Whether the book's snapshots come in the feed. Only then is the book a subscribed channel."""
        # During an outage the server may send nothing, not even a snapshot.
        return bool(self.sent_book) and not (self.pushed or self.tells or self.resumes)

    @property
    def gives_ids(self) -> bool:
        """Whether the server gives each subscription an id."""
        return self.given_ids and not (self.pushed or self.resumes or self.past)

    @property
    def ends_channels(self) -> bool:
        """Whether the server ends subscriptions."""
        return self.ends and not (self.pushed or self.resumes or self.tells)

    @property
    def reach(self) -> float:
        """The longest lag of a message."""
        return self.lag + self.skew + self.jitter

    def __str__(self) -> str:
        changed = (each.name for each in fields(self) if getattr(self, each.name) != each.default)
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in changed) or "the defaults"


@dataclass(frozen=True, slots=True, order=True)
class Act:
    """One action in a life: a fault, or a call by the client.

    Attributes:
        at: the time of the act, in seconds from the start of the life.
        kind: the kind of the act; :mod:`rxws.testing.lives.ingredients` lists all kinds.
        word: a detail of the act, such as a close code or a channel, or "".
        value: a number that the act needs, such as a duration, or 0.
    """

    at: float
    kind: str
    word: str = ""
    value: float = 0.0

    def __str__(self) -> str:
        return f"{self.at:7.3f}  {self.kind} {self.word}{f' {self.value:g}' if self.value else ''}".rstrip()


@dataclass(frozen=True, slots=True)
class Schedule:
    """A whole life.

    Attributes:
        seed: its seed, which decides all random choices during the life.
        settings: its constants.
        acts: its acts, in the order of time.
        ingredients: the names of its ingredients.
    """

    seed: int
    settings: Settings = field(default_factory=Settings)
    acts: tuple[Act, ...] = ()
    ingredients: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {', '.join(self.ingredients) or 'no ingredients'}", f"settings: {self.settings}"]
        return "\n".join([*lines, *map(str, self.acts)])

    def to_dict(self) -> dict[str, Any]:
        """Return the schedule as values that fit into JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Schedule:
        """Return the schedule for a dict of :meth:`to_dict`."""
        acts = tuple(Act(**act) for act in data["acts"])
        return cls(data["seed"], Settings(**data["settings"]), acts, tuple(data["ingredients"]))


class Plan:
    """A schedule that ingredients add to."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.acts: list[Act] = []

    @property
    def seconds(self) -> float:
        """The length of the life, in seconds."""
        return float(self.settings.get("seconds", Settings().seconds))

    def set(self, **settings: Any) -> None:
        """Change settings."""
        self.settings |= settings

    def need_channels(self, count: int) -> None:
        """Set the number of channels to at least this many."""
        self.set(channels=max(count, self.settings.get("channels", Settings().channels)))

    def act(self, at: float, kind: str, word: str = "", value: float = 0.0) -> None:
        """Add an act; time and value are rounded to three decimals."""
        self.acts.append(Act(round(at, 3), kind, word, round(value, 3)))


def simpler(schedule: Schedule) -> Iterator[Schedule]:
    """Yield schedules that are one step simpler than this one, large steps first.

    A step removes acts (all, half of them, a quarter … one), sets one setting to its default, or ends the life earlier.
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
