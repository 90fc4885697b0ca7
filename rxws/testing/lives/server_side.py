"""Ingredients of lives: acts and settings of the server and the network. No I/O."""

from __future__ import annotations

from random import Random

from .chances import ALL, NEWEST, some, which
from .schedule import Plan

__all__ = [
    "book",
    "channel_cursors",
    "cuts",
    "dated_silence",
    "deaf_errors",
    "declared_snapshots",
    "ended_subscriptions",
    "first_snapshots",
    "given_ids",
    "half_open",
    "heartbeats",
    "hiccups",
    "histories",
    "lags",
    "late_answers",
    "late_effects",
    "long_lags",
    "mutes",
    "outages",
    "passing_refusals",
    "plain_snapshots",
    "protocol_errors",
    "pushed",
    "refusals",
    "refused_channels",
    "resets",
    "restarts",
    "resumed_connections",
    "sent_books",
    "signals",
    "single_answers",
    "skewed_replays",
    "skews",
    "slow_closes",
    "slow_handshakes",
    "stale_snapshots",
    "watched_book",
]


def cuts(rng: Random, plan: Plan) -> None:
    """Connections end without a close frame, or with one."""
    for at in some(rng, plan, 3):
        plan.act(at, "cut", rng.choice(("fin", "fin", "1000", "1001", "1011", "4000")), which(rng))


def resets(rng: Random, plan: Plan) -> None:
    """Connections are reset: messages that are being delivered are lost."""
    for at in some(rng, plan, 3):
        plan.act(at, "cut", "rst", which(rng))


def restarts(rng: Random, plan: Plan) -> None:
    """The server restarts: it closes all connections with 1012, and refuses a few handshakes."""
    at = rng.uniform(1.0, plan.seconds)
    plan.act(at, "cut", "1012", ALL)
    plan.act(at, "refuse", "503", rng.randint(1, 3))


def half_open(rng: Random, plan: Plan) -> None:
    """Connections are half-open: they stay open, but deliver nothing in either direction."""
    plan.set(keepalive=round(rng.uniform(0.5, 2.5), 3))
    plan.act(rng.uniform(1.0, plan.seconds), "half-open", "", which(rng))


def mutes(rng: Random, plan: Plan) -> None:
    """Connections stay alive, but the server sends no more messages on them."""
    plan.set(idle_timeout=round(rng.uniform(1.0, 2.5), 3))
    plan.act(rng.uniform(1.0, plan.seconds), "mute", "", which(rng))


def protocol_errors(rng: Random, plan: Plan) -> None:
    """The server breaks the protocol, and then answers the close."""
    for at in some(rng, plan, 2):
        plan.act(at, "protocol", rng.choice(("utf8", "size")), which(rng))


def deaf_errors(rng: Random, plan: Plan) -> None:
    """The server breaks the protocol, and does not answer the close."""
    plan.act(rng.uniform(1.0, plan.seconds), "protocol", "unanswered", NEWEST)


def hiccups(rng: Random, plan: Plan) -> None:
    """All messages that are being delivered on a connection arrive late."""
    for at in some(rng, plan, 3):
        plan.act(at, "hiccup", rng.choice(("newest", "oldest")), rng.uniform(0.05, 0.4))


def refusals(rng: Random, plan: Plan) -> None:
    """Handshakes are refused with an HTTP status after a connection was lost."""
    at = rng.uniform(1.0, plan.seconds)
    plan.act(at, "refuse", rng.choice(("500", "502", "503", "429 after 1", "503 after 2")), rng.randint(1, 2))
    plan.act(at + 0.01, "cut", rng.choice(("fin", "1000")), ALL)


def slow_handshakes(rng: Random, plan: Plan) -> None:
    """Handshakes take long, are never answered, or are reset."""
    for at in some(rng, plan, 2):
        plan.act(at, "handshake", rng.choice(("slow", "slow", "mute", "reset", "late")), rng.uniform(0.1, 1.5))
        plan.act(at + 0.01, rng.choice(("cut", "rotate")), "fin", ALL)


def lags(rng: Random, plan: Plan) -> None:
    """Each connection has its own lag in each direction."""
    plan.set(lag=round(rng.uniform(0.01, 0.2), 3), up=round(rng.uniform(0.0, 0.2), 3))


def skews(rng: Random, plan: Plan) -> None:
    """Channels interleave differently on each connection."""
    plan.set(skew=round(rng.uniform(0.01, 0.12), 3), jitter=round(rng.uniform(0.0, 0.05), 3))


def long_lags(rng: Random, plan: Plan) -> None:
    """Connections lag by more than ``handover_settle``, up to a few seconds."""
    plan.set(lag=round(rng.uniform(0.6, 4.0), 3), handover_timeout=rng.choice((1.0, 2.0)))
    for at in some(rng, plan, 3):
        plan.act(at, "rotate")


def slow_closes(rng: Random, plan: Plan) -> None:
    """The server answers close frames late."""
    plan.set(close_lag=round(rng.uniform(0.1, 3.0), 3))


def signals(rng: Random, plan: Plan) -> None:
    """The server asks for a new connection: the rotation hook returns."""
    for at in some(rng, plan, 2):
        plan.act(at, "signal")


def pushed(rng: Random, plan: Plan) -> None:
    """The server sends all channels on every connection without a subscription."""
    plan.set(pushed=True)
    plan.need_channels(rng.randint(1, 4))


def replays(rng: Random, plan: Plan) -> None:
    """The server sends missed messages again, from a cursor on. Sometimes it has forgotten all messages."""
    # A cursor is a position in the sequence of all messages, so their order must be the same on each connection.
    how = rng.choice(("copies", "copies", "statement", "numbers"))
    plan.set(pushed=True, replays=how, greets="declared" if rng.random() < 0.5 else "", skew=0.0, jitter=0.0)
    for at in some(rng, plan, 3):
        plan.act(at, "cut", rng.choice(("fin", "rst", "1000", "1011")), ALL)
    if rng.random() < 0.3:
        plan.act(rng.uniform(1.0, plan.seconds), "forget")


def late_answers(rng: Random, plan: Plan) -> None:
    """The server answers a subscription late, or not at all."""
    for at in [0.0, *some(rng, plan, 2)]:
        plan.act(at, "answer", rng.choice(("late", "none")), rng.uniform(0.1, 1.2))


def single_answers(rng: Random, plan: Plan) -> None:
    """The server answers combined subscriptions one by one."""
    plan.set(combine=True)
    plan.need_channels(3)
    for at in [0.0, *some(rng, plan, 2)]:
        plan.act(at, "answer", "single")


def late_effects(rng: Random, plan: Plan) -> None:
    """A subscription takes effect, and is answered, long after it was sent."""
    at = rng.uniform(1.0, plan.seconds)
    for _ in range(2):
        plan.act(at, "answer", "deferred", rng.uniform(1.6, 4.0))
    plan.act(at + 0.01, rng.choice(("cut", "rotate")), "fin", ALL)


def refused_channels(rng: Random, plan: Plan) -> None:
    """The server refuses a channel on every connection, from some time on."""
    plan.act(rng.choice((0.0, rng.uniform(0.0, plan.seconds))), "ban", f"c{rng.randint(0, 2)}")


def passing_refusals(rng: Random, plan: Plan) -> None:
    """The server refuses a subscription on one connection. On the next one it accepts the subscription late."""
    at = rng.uniform(1.0, plan.seconds)
    plan.act(at, "answer", "refused")
    plan.act(at, "rotate")
    plan.act(at + 4.0, "answer", "none")
    plan.act(at + 4.0, "rotate")


def declared_snapshots(rng: Random, plan: Plan) -> None:
    """The server sends a snapshot with each subscription, and the feed's filter declares it as per-connection."""
    plan.set(snapshots="declared")


def first_snapshots(rng: Random, plan: Plan) -> None:
    """A channel is subscribed soon after a rotation, and must begin with its snapshot."""
    plan.set(snapshots="declared", first_snapshot=True, heartbeat=0.2, lag=0.2)
    at = rng.uniform(4.0, plan.seconds)
    plan.act(at - 3.0, "unsubscribe", "c0")
    plan.act(at, "rotate")
    plan.act(at + rng.uniform(0.4, 1.2), "subscribe", "c0")


def plain_snapshots(rng: Random, plan: Plan) -> None:
    """The server sends a snapshot with each subscription, and the feed does not know that it is per-connection."""
    plan.set(snapshots="plain")
    plan.act(rng.uniform(2.0, plan.seconds), "rotate")


def large_frames(rng: Random, plan: Plan) -> None:
    """Frames are so large that they are decoded lazily."""
    plan.set(padding=rng.choice((600, 5_000)))


def heartbeats(rng: Random, plan: Plan) -> None:
    """The server repeats a message that is always the same."""
    plan.set(heartbeat=round(rng.uniform(0.1, 1.0), 3))


def book(rng: Random, plan: Plan) -> None:
    """A book is kept from snapshots and changes; some changes are missing, some snapshots are late or fail."""
    plan.set(book=True)
    for at in [0.0, *some(rng, plan, 3)]:
        plan.act(at, "snapshot", rng.choice(("late", "fail", "hang")), rng.uniform(0.05, 1.0))
    for at in some(rng, plan, 2):
        plan.act(at, "hole", "", rng.randint(1, 3))


def stale_snapshots(rng: Random, plan: Plan) -> None:
    """Snapshots are older than the delivered changes."""
    plan.set(book=True)
    for at in some(rng, plan, 3):
        plan.act(at, "snapshot", "stale", rng.randint(1, 20))
        plan.act(at + 0.01, "cut", "fin", ALL)


def watched_book(rng: Random, plan: Plan) -> None:
    """The book is checked at every change."""
    plan.set(book=True, watched=True)
    plan.act(0.0, "snapshot", "late", rng.uniform(0.5, 1.0))


def sent_books(rng: Random, plan: Plan) -> None:
    """The book's snapshots come in the feed; some changes are missing, and the client requests other snapshots."""
    plan.set(book=True, sent_book=rng.choice(("numbers", "checksums")), watched=True)
    for at in some(rng, plan, 2):
        plan.act(at, "hole", "", rng.randint(1, 3))
    for at in some(rng, plan, 2):
        plan.act(at, "restart book")
        if rng.random() < 0.5:
            plan.act(max(0.0, at - rng.uniform(0.0, 1.0)), "rotate")


def given_ids(rng: Random, plan: Plan) -> None:
    """The server gives each subscription an id, which means another channel on another connection, or later."""
    plan.set(given_ids=True)
    plan.need_channels(rng.randint(2, 5))
    for at in some(rng, plan, 2):
        plan.act(at, "rotate")
        if rng.random() < 0.5:
            # The next subscription gets the id of the one that has ended.
            number = rng.randrange(plan.settings["channels"])
            plan.act(at + rng.uniform(-0.5, 0.5), "unsubscribe", f"c{number}")
            plan.act(at + rng.uniform(2.5, 4.0), "subscribe", f"c{number}")


def ended_subscriptions(rng: Random, plan: Plan) -> None:
    """The server ends subscriptions, on one connection or on all. The client subscribes again."""
    plan.set(ends=True)
    plan.need_channels(rng.randint(1, 3))
    # If the client leaves a channel when the server ends it, the next subscription begins at other times on each
    # connection, and the first messages on one of them may be older than the first on the other.
    plan.acts[:] = [act for act in plan.acts if act.kind != "swap"]
    for at in some(rng, plan, 3):
        plan.act(at, "end", f"c{rng.randrange(plan.settings['channels'])}", which(rng))
        if rng.random() < 0.4:
            plan.act(max(0.0, at - rng.uniform(0.0, 1.0)), "rotate")


def outages(rng: Random, plan: Plan) -> None:
    """The server leaves all messages out for a time, and then reports that time: the parse hook returns a ``Gap``."""
    # The report must arrive after all messages before the outage and before all messages after it, so these settings
    # keep one order on all channels, and give every message a number.
    plan.set(tells=True, skew=0.0, jitter=0.0, heartbeat=0.0, snapshots="")
    for at in some(rng, plan, 3):
        plan.act(at, "outage", "", rng.uniform(0.1, 1.5))


def resumed_connections(rng: Random, plan: Plan) -> None:
    """Connections resume where the last one ended, and say so; sometimes the server has forgotten the messages."""
    plan.set(pushed=True, is_resumed=rng.choice(("at once", "late")), snapshots="")
    for at in some(rng, plan, 4):
        plan.act(at, "cut", rng.choice(("fin", "1001", "rst")), which(rng))
        if rng.random() < 0.3:
            plan.act(at, "begin anew")


def skewed_replays(rng: Random, plan: Plan) -> None:
    """The server sends missed messages again, and channels interleave differently on each connection."""
    replays(rng, plan)
    skews(rng, plan)
    plan.need_channels(rng.randint(2, 4))
    _vary_replays(rng, plan)


def channel_cursors(rng: Random, plan: Plan) -> None:
    """Each subscription has its own cursor, and the server sends the missed messages of its channel again."""
    replays(rng, plan)
    plan.set(pushed=False, channel_cursors=True, replays=rng.choice(("statement", "numbers")))
    # A channel that was left has no cursor, and the server may begin before the messages of its new subscription.
    plan.acts[:] = [act for act in plan.acts if act.kind not in ("subscribe", "unsubscribe", "swap")]
    if rng.random() < 0.4:
        # From then on the server remembers nothing of one channel.
        plan.act(rng.uniform(1.0, plan.seconds), "forget", f"c{plan.settings['channels'] - 1}")
    if rng.random() < 0.5:
        skews(rng, plan)
    _vary_replays(rng, plan)
    if plan.settings["replays"] == "statement" and plan.settings["greets"] == "plain":
        # No statement covers messages without a channel, so they must be declared.
        plan.set(greets="declared")


def _vary_replays(rng: Random, plan: Plan) -> None:
    """Choose the greeting, the beginning of each replay, and the messages before it."""
    plan.set(greets=rng.choice(("", "declared", "plain")), early=rng.choice((0, 0, 1, 3)), snapshots="")
    # Copies cannot tell a server that resumes from one that has forgotten, and sends last values first.
    if rng.random() < 0.4 and plan.settings["replays"] != "copies":
        plan.set(snapshots="last")


def histories(rng: Random, plan: Plan) -> None:
    """The client fetches the missed messages of one channel; the history fails, is loose, or lacks some of them."""
    plan.set(past=rng.choice(("whole", "failing", "loose", "lacking")))
    for at in some(rng, plan, 3):
        plan.act(at, "cut", rng.choice(("fin", "1001", "rst")), which(rng))


def dated_silence(rng: Random, plan: Plan) -> None:
    """A silent connection is lost, and the Gap must begin at its last message."""
    (half_open if rng.random() < 0.5 else mutes)(rng, plan)
