"""What lives are made of: each ingredient adds faults of one kind to a plan, by chance alone. Pure.

Kinds of acts. At the server: ``cut``, ``mute``, ``half-open``, ``protocol``, ``hiccup`` (of connections: ``value`` says
of which), ``refuse``, ``handshake`` (of the next ones), ``answer`` (to the next subscription), ``ban``
(a channel), ``snapshot`` (the next
one over HTTP), ``hole``, ``signal``. At the client: ``rotate``, ``subscribe``, ``unsubscribe``, ``swap``, ``stand
still``, ``slow down``, ``exit``, ``rotate at once``, ``generator exit``, ``cancel``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from random import Random
from typing import Final

from .schedule import Plan, Schedule, Settings

__all__ = ["INGREDIENTS", "KNOWN", "compose"]

Ingredient = Callable[[Random, Plan], None]

NEWEST, OLDEST, ALL = 0, 1, 2
"""Which connections an act is about."""


def _some(rng: Random, plan: Plan, most: int) -> list[float]:
    """Return up to so many moments of ten seconds of life, at least one, none of them within its first second."""
    most = max(1, round(most * plan.seconds / 10))
    return sorted(rng.uniform(1.0, plan.seconds) for _ in range(rng.randint(1, most)))


def _which(rng: Random) -> int:
    return rng.choice((NEWEST, NEWEST, OLDEST, ALL))


def _cuts(rng: Random, plan: Plan) -> None:
    """Connections end without a close frame, or with one."""
    for at in _some(rng, plan, 3):
        plan.act(at, "cut", rng.choice(("fin", "fin", "1000", "1001", "1011", "4000")), _which(rng))


def _resets(rng: Random, plan: Plan) -> None:
    """Connections are reset: what is on its way is lost."""
    for at in _some(rng, plan, 3):
        plan.act(at, "cut", "rst", _which(rng))


def _restarts(rng: Random, plan: Plan) -> None:
    """The server restarts: it ends all connections with 1012, and refuses handshakes for a moment."""
    at = rng.uniform(1.0, plan.seconds)
    plan.act(at, "cut", "1012", ALL)
    plan.act(at, "refuse", "503", rng.randint(1, 3))


def _half_open(rng: Random, plan: Plan) -> None:
    """Connections stay open and dead: nothing comes on them, and nothing that is sent arrives."""
    plan.set(keepalive=round(rng.uniform(0.5, 2.5), 3))
    plan.act(rng.uniform(1.0, plan.seconds), "half-open", "", _which(rng))


def _mutes(rng: Random, plan: Plan) -> None:
    """Connections stay alive, and no message comes on them any more."""
    plan.set(idle_timeout=round(rng.uniform(1.0, 2.5), 3))
    plan.act(rng.uniform(1.0, plan.seconds), "mute", "", _which(rng))


def _protocol_errors(rng: Random, plan: Plan) -> None:
    """The server breaks the protocol, and then answers the close."""
    for at in _some(rng, plan, 2):
        plan.act(at, "protocol", rng.choice(("utf8", "size")), _which(rng))


def _deaf_errors(rng: Random, plan: Plan) -> None:
    """The server breaks the protocol, and does not answer the close."""
    plan.act(rng.uniform(1.0, plan.seconds), "protocol", "unanswered", NEWEST)


def _hiccups(rng: Random, plan: Plan) -> None:
    """What is on its way on a connection comes late, all of it."""
    for at in _some(rng, plan, 3):
        plan.act(at, "hiccup", rng.choice(("newest", "oldest")), rng.uniform(0.05, 0.4))


def _refusals(rng: Random, plan: Plan) -> None:
    """Handshakes are refused with an HTTP status, after a connection was lost."""
    at = rng.uniform(1.0, plan.seconds)
    plan.act(at, "refuse", rng.choice(("500", "502", "503", "429 after 1", "503 after 2")), rng.randint(1, 2))
    plan.act(at + 0.01, "cut", rng.choice(("fin", "1000")), ALL)


def _slow_handshakes(rng: Random, plan: Plan) -> None:
    """Handshakes take long, are never answered, or are reset."""
    for at in _some(rng, plan, 2):
        plan.act(at, "handshake", rng.choice(("slow", "slow", "mute", "reset", "late")), rng.uniform(0.1, 1.5))
        plan.act(at + 0.01, rng.choice(("cut", "rotate")), "fin", ALL)


def _lags(rng: Random, plan: Plan) -> None:
    """Each connection has a lag of its own, in each direction."""
    plan.set(lag=round(rng.uniform(0.01, 0.2), 3), up=round(rng.uniform(0.0, 0.2), 3))


def _skews(rng: Random, plan: Plan) -> None:
    """Channels interleave differently on each connection."""
    plan.set(skew=round(rng.uniform(0.01, 0.12), 3), jitter=round(rng.uniform(0.0, 0.05), 3))


def _long_lags(rng: Random, plan: Plan) -> None:
    """Connections lag by more than the overlap settles in, up to seconds."""
    plan.set(lag=round(rng.uniform(0.6, 4.0), 3), handover_timeout=rng.choice((1.0, 2.0)))
    for at in _some(rng, plan, 3):
        plan.act(at, "rotate")


def _slow_closes(rng: Random, plan: Plan) -> None:
    """The server takes its time to answer a close."""
    plan.set(close_lag=round(rng.uniform(0.1, 3.0), 3))


def _rotations(rng: Random, plan: Plan) -> None:
    """``rotate()`` is called, twice in a moment sometimes."""
    for at in _some(rng, plan, 3):
        for _ in range(rng.choice((1, 1, 2))):
            plan.act(at, "rotate")


def _rotations_by_time(rng: Random, plan: Plan) -> None:
    """The feed rotates every so many seconds."""
    plan.set(rotate_every=round(rng.uniform(1.5, 5.0), 3))


def _signals(rng: Random, plan: Plan) -> None:
    """The server says that it is time for a new connection: the rotation hook ends."""
    for at in _some(rng, plan, 2):
        plan.act(at, "signal")


def _one_connection(rng: Random, plan: Plan) -> None:
    """The server allows one connection: the old one is closed first."""
    plan.set(handover_timeout=0.0)


def _pushed(rng: Random, plan: Plan) -> None:
    """The server sends all channels on every connection, without being asked."""
    plan.set(pushed=True)
    plan.need_channels(rng.randint(1, 4))


def _goings(rng: Random, plan: Plan) -> None:
    """Channels go, and some come again."""
    channels = rng.randint(2, 5)
    plan.need_channels(channels)
    for number in range(channels):
        at = rng.uniform(0.0, 6.0)
        while at < plan.seconds and rng.random() < 0.7:
            plan.act(at, "unsubscribe", f"c{number}")
            if rng.random() < 0.3:
                break
            at += rng.uniform(2.5, 4.0)
            plan.act(at, "subscribe", f"c{number}")
            at += rng.uniform(0.0, 6.0)


def _overlapped_goings(rng: Random, plan: Plan) -> None:
    """Channels come while the feed rotates, and take effect at different times on either connection."""
    plan.need_channels(4)
    plan.set(overlaps=True, up=round(rng.uniform(0.05, 0.4), 3))
    at = rng.uniform(3.0, plan.seconds)
    plan.act(at - 2.9, "unsubscribe", "c3")
    plan.act(at, "rotate")
    plan.act(at + rng.uniform(0.0, 1.0), "subscribe", "c3")


def _swaps(rng: Random, plan: Plan) -> None:
    """A channel is wanted again while it is just being unsubscribed."""
    plan.set(up=round(rng.uniform(0.05, 0.3), 3), lag=round(rng.uniform(0.05, 0.2), 3))
    for at in _some(rng, plan, 3):
        plan.act(at, "swap", "c0", rng.uniform(0.0, 0.3))


def _combined(rng: Random, plan: Plan) -> None:
    """Subscriptions are combined."""
    plan.set(combine=True)
    plan.need_channels(rng.randint(2, 6))


def _late_answers(rng: Random, plan: Plan) -> None:
    """A subscription is answered late, or not at all."""
    for at in [0.0, *_some(rng, plan, 2)]:
        plan.act(at, "answer", rng.choice(("late", "none")), rng.uniform(0.1, 1.2))


def _late_effects(rng: Random, plan: Plan) -> None:
    """A subscription takes effect long after it was sent, and is answered then."""
    at = rng.uniform(1.0, plan.seconds)
    for _ in range(2):
        plan.act(at, "answer", "deferred", rng.uniform(1.6, 4.0))
    plan.act(at + 0.01, rng.choice(("cut", "rotate")), "fin", ALL)


def _refused_channels(rng: Random, plan: Plan) -> None:
    """A channel is refused from some moment on, on every connection."""
    plan.act(rng.choice((0.0, rng.uniform(0.0, plan.seconds))), "ban", f"c{rng.randint(0, 2)}")


def _passing_refusals(rng: Random, plan: Plan) -> None:
    """A subscription is refused on one connection, and not on the next, which answers late."""
    at = rng.uniform(1.0, plan.seconds)
    plan.act(at, "answer", "refused")
    plan.act(at, "rotate")
    plan.act(at + 4.0, "answer", "none")
    plan.act(at + 4.0, "rotate")


def _send_limit(rng: Random, plan: Plan) -> None:
    """Few messages may be sent in a second."""
    plan.set(send_limit=rng.randint(2, 5))


def _declared_snapshots(rng: Random, plan: Plan) -> None:
    """The server sends a snapshot with each subscription, which the feed knows to be for one connection."""
    plan.set(snapshots="declared")


def _plain_snapshots(rng: Random, plan: Plan) -> None:
    """The server sends a snapshot with each subscription, and the feed was told nothing of it."""
    plan.set(snapshots="plain")
    plan.act(rng.uniform(2.0, plan.seconds), "rotate")


def _heartbeats(rng: Random, plan: Plan) -> None:
    """The server sends equal messages that repeat."""
    plan.set(heartbeat=round(rng.uniform(0.1, 1.0), 3))


def _slow_consumers(rng: Random, plan: Plan) -> None:
    """Consumers take longer over a message than there is between two."""
    plan.set(consumer=rng.choice(("iterator", "slow")))


def _raising_consumers(rng: Random, plan: Plan) -> None:
    """Consumers raise."""
    plan.set(consumer="raising")


def _blocking_consumers(rng: Random, plan: Plan) -> None:
    """Consumers block the loop for a while."""
    plan.set(consumer="blocking")


def _slow_handlers(rng: Random, plan: Plan) -> None:
    """A handler takes longer over a message than there is between two, while the feed rotates."""
    at = rng.uniform(2.0, plan.seconds)
    plan.set(handover_timeout=1.0, rate=30.0)
    plan.need_channels(3)
    plan.act(at, "slow down", "", rng.uniform(7.0, 9.0))
    plan.act(at + rng.uniform(2.5, 4.0), "rotate")


def _standstills(rng: Random, plan: Plan) -> None:
    """The loop stands still for a moment, and nothing is heard meanwhile."""
    for at in _some(rng, plan, 2):
        plan.act(at, "stand still", "", rng.uniform(0.05, 0.3))


def _long_standstills(rng: Random, plan: Plan) -> None:
    """The loop stands still for longer than an overlap settles in, or than silence is allowed to last."""
    at = rng.uniform(1.0, plan.seconds)
    if rng.random() < 0.5:
        plan.set(idle_timeout=1.0)
        plan.act(at, "stand still", "", rng.uniform(1.1, 4.0))
    else:
        plan.set(lag=0.3)
        plan.act(at, "rotate")
        plan.act(at + rng.uniform(0.4, 1.5), "stand still", "", rng.uniform(0.5, 1.5))


def _exits(rng: Random, plan: Plan) -> None:
    """``exit()`` comes before the life's time."""
    plan.act(rng.uniform(0.0, plan.seconds), "exit")


def _book(rng: Random, plan: Plan) -> None:
    """A book is kept of snapshots and changes; some changes are missing, some snapshots late or not to be had."""
    plan.set(book=True)
    for at in [0.0, *_some(rng, plan, 3)]:
        plan.act(at, "snapshot", rng.choice(("late", "fail", "hang")), rng.uniform(0.05, 1.0))
    for at in _some(rng, plan, 2):
        plan.act(at, "hole", "", rng.randint(1, 3))


def _stale_snapshots(rng: Random, plan: Plan) -> None:
    """Snapshots are older than what was delivered."""
    plan.set(book=True)
    for at in _some(rng, plan, 3):
        plan.act(at, "snapshot", "stale", rng.randint(1, 20))
        plan.act(at + 0.01, "cut", "fin", ALL)


def _watched_book(rng: Random, plan: Plan) -> None:
    """The book's state is looked at with every change."""
    plan.set(book=True, watched=True)
    plan.act(0.0, "snapshot", "late", rng.uniform(0.5, 1.0))


def _dated_silence(rng: Random, plan: Plan) -> None:
    """Silence ends a connection, and the Gap begins with the last message: in all lives, unless this is left out."""
    (_half_open if rng.random() < 0.5 else _mutes)(rng, plan)


def _rotations_at_once(rng: Random, plan: Plan) -> None:
    """``rotate()`` is called as soon as messages flow after a loss."""
    at = rng.uniform(1.0, plan.seconds)
    plan.act(at, "rotate at once")
    plan.act(at, "answer", "late", rng.uniform(0.2, 1.0))
    plan.act(at + 0.01, "cut", "fin", ALL)


def _generator_exits(rng: Random, plan: Plan) -> None:
    """A handler raises GeneratorExit."""
    plan.act(rng.uniform(1.0, plan.seconds), "generator exit")


def _cancellations(rng: Random, plan: Plan) -> None:
    """Other code cancels the feed's tasks."""
    plan.act(rng.uniform(1.0, plan.seconds), "cancel")


INGREDIENTS: Final[Mapping[str, tuple[Ingredient, float]]] = {
    "cuts": (_cuts, 0.35),
    "resets": (_resets, 0.2),
    "restarts": (_restarts, 0.1),
    "half-open": (_half_open, 0.12),
    "mutes": (_mutes, 0.12),
    "protocol errors": (_protocol_errors, 0.1),
    "unanswered protocol errors": (_deaf_errors, 0.06),
    "hiccups": (_hiccups, 0.15),
    "refusals": (_refusals, 0.15),
    "slow handshakes": (_slow_handshakes, 0.15),
    "lags": (_lags, 0.5),
    "skews": (_skews, 0.4),
    "long lags": (_long_lags, 0.08),
    "slow closes": (_slow_closes, 0.12),
    "rotations": (_rotations, 0.5),
    "rotations by time": (_rotations_by_time, 0.12),
    "signals": (_signals, 0.15),
    "one connection": (_one_connection, 0.06),
    "pushed channels": (_pushed, 0.2),
    "goings": (_goings, 0.25),
    "goings in overlaps": (_overlapped_goings, 0.08),
    "swaps": (_swaps, 0.08),
    "combined": (_combined, 0.15),
    "late answers": (_late_answers, 0.15),
    "late effects": (_late_effects, 0.08),
    "refused channels": (_refused_channels, 0.1),
    "passing refusals": (_passing_refusals, 0.06),
    "send limit": (_send_limit, 0.12),
    "declared snapshots": (_declared_snapshots, 0.12),
    "plain snapshots": (_plain_snapshots, 0.08),
    "heartbeats": (_heartbeats, 0.25),
    "slow consumers": (_slow_consumers, 0.2),
    "raising consumers": (_raising_consumers, 0.1),
    "blocking consumers": (_blocking_consumers, 0.06),
    "slow handlers in rotations": (_slow_handlers, 0.06),
    "standstills": (_standstills, 0.1),
    "long standstills": (_long_standstills, 0.05),
    "exits": (_exits, 0.1),
    "books": (_book, 0.2),
    "stale snapshots": (_stale_snapshots, 0.08),
    "watched books": (_watched_book, 0.06),
    "dated silence": (_dated_silence, 0.08),
    "rotations at once": (_rotations_at_once, 0.06),
    "generator exits": (_generator_exits, 0.03),
    "cancellations": (_cancellations, 0.03),
}
"""All ingredients, in the order in which they are added, each with its share of lives."""

KNOWN: Final[Mapping[str, str]] = {
    "cancellations": "other code cancels the feed's tasks: the feed ends as after a wanted close",
    "dated silence": "Gap.start is when the loss was found out, and not the last message",
    "generator exits": "a handler raises GeneratorExit: the feed ends as after a wanted close",
    "goings in overlaps": "a channel subscribed during an overlap comes out of order, or is lost",
    "late effects": "Gap.end is before the subscription is in effect",
    "long lags": "the new connection lags by more than handover_settle: twice; the old one by seconds: lost",
    "long standstills": "a loop that stood still is taken for silence; an overlap's memory ends meanwhile: twice",
    "passing refusals": "what a rotation's new connection alone has is dropped while its opening takes long",
    "plain snapshots": "the new connection's snapshot is delivered behind changes",
    "rotations at once": "rotate() while messages flow and the state is connecting gives True and rotates nothing",
    "slow handlers in rotations": "a handler is slower than the feed, and the drain is cut short: lost without a word",
    "stale snapshots": "a snapshot older than what was delivered is accepted: the book goes back, and in_sync is True",
    "swaps": "a multiplex made while its channel is being unsubscribed has a hole without a Gap",
    "unanswered protocol errors": "the feed stands still until the websocket library gives up to close",
    "watched books": "in_sync is True while held changes are still being delivered",
}
"""The ingredients that rxws does not survive yet, each with what happens."""


def compose(seed: int, without: Collection[str] = (), only: Collection[str] = ()) -> Schedule:
    """Return the life of a seed; the same on every machine.

    Each ingredient has chances of its own: leaving one out changes nothing else in the life.

    Args:
        seed: any integer.
        without: names of ingredients that are left out.
        only: names of the ingredients that it has, whatever chance says; empty: chance decides.

    Raises:
        ValueError: there is no such ingredient.

    Example::

        print(compose(17, without=["exits"]))
    """
    unknown = sorted({*without, *only} - INGREDIENTS.keys())
    if unknown:
        raise ValueError(f"there are no ingredients {unknown}; there are {sorted(INGREDIENTS)}")
    plan, chosen = Plan(), []
    rng = Random(f"{seed}/life")
    plan.set(seconds=round(rng.uniform(5.0, 20.0), 3), channels=rng.randint(1, 3), rate=round(rng.uniform(4, 12), 3))
    plan.set(silence="dated silence" not in without and (not only or "dated silence" in only))
    for name, (ingredient, share) in INGREDIENTS.items():
        rng = Random(f"{seed}/{name}")
        is_chosen = name in only if only else rng.random() < share
        if is_chosen and name not in without:
            chosen.append(name)
            ingredient(rng, plan)
    return Schedule(seed, Settings(**plan.settings), tuple(sorted(plan.acts)), tuple(chosen))
