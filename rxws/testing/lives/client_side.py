"""Ingredients of lives: acts and settings of the client's side. No I/O."""

from __future__ import annotations

from random import Random

from .chances import ALL, some
from .schedule import Plan

__all__ = [
    "blocking_consumers",
    "cancellations",
    "combined",
    "exits",
    "generator_exits",
    "goings",
    "long_standstills",
    "one_connection",
    "overlapped_goings",
    "raising_consumers",
    "rotations",
    "rotations_at_once",
    "rotations_by_time",
    "send_limit",
    "shards",
    "slow_consumers",
    "slow_handlers",
    "standstills",
    "swaps",
]


def rotations(rng: Random, plan: Plan) -> None:
    """``rotate()`` is called, sometimes twice at once."""
    for at in some(rng, plan, 3):
        for _ in range(rng.choice((1, 1, 2))):
            plan.act(at, "rotate")


def rotations_by_time(rng: Random, plan: Plan) -> None:
    """The feed rotates at fixed intervals (``rotate_every``)."""
    plan.set(rotate_every=round(rng.uniform(1.5, 5.0), 3))


def one_connection(rng: Random, plan: Plan) -> None:
    """The server allows only one connection, so a rotation closes the old one first."""
    plan.set(handover_timeout=0.0)


def goings(rng: Random, plan: Plan) -> None:
    """Channels are unsubscribed, and some are subscribed again."""
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


def overlapped_goings(rng: Random, plan: Plan) -> None:
    """Channels are subscribed during a rotation, and take effect at different times on the two connections."""
    plan.need_channels(4)
    plan.set(overlaps=True, up=round(rng.uniform(0.05, 0.4), 3))
    at = rng.uniform(3.0, plan.seconds)
    plan.act(at - 2.9, "unsubscribe", "c3")
    plan.act(at, "rotate")
    plan.act(at + rng.uniform(0.0, 1.0), "subscribe", "c3")


def swaps(rng: Random, plan: Plan) -> None:
    """A channel is subscribed again while it is being unsubscribed."""
    plan.set(up=round(rng.uniform(0.05, 0.3), 3), lag=round(rng.uniform(0.05, 0.2), 3))
    for at in some(rng, plan, 3):
        plan.act(at, "swap", "c0", rng.uniform(0.0, 0.3))


def combined(rng: Random, plan: Plan) -> None:
    """Subscriptions are combined."""
    plan.set(combine=True)
    plan.need_channels(rng.randint(2, 6))


def send_limit(rng: Random, plan: Plan) -> None:
    """The feed's ``send_limit`` allows only a few messages per second."""
    plan.set(send_limit=rng.randint(2, 5))


def shards(rng: Random, plan: Plan) -> None:
    """The channels are divided among several connections; in long lives some become empty, and are closed."""
    limit = rng.randint(1, 3)
    channels = rng.randint(limit + 1, 7)
    plan.need_channels(channels)
    plan.set(shard=limit)
    if rng.random() < 0.3:
        plan.set(seconds=72.0, rate=3.0)
        for number in range(1, channels):
            at = rng.uniform(2.0, 8.0)
            plan.act(at, "unsubscribe", f"c{number}")
            if rng.random() < 0.7:
                plan.act(rng.choice((at + rng.uniform(3.0, 50.0), 69.0)), "subscribe", f"c{number}")


def slow_consumers(rng: Random, plan: Plan) -> None:
    """Consumers are slower than the messages of their channel."""
    plan.set(consumer=rng.choice(("iterator", "slow")))


def raising_consumers(rng: Random, plan: Plan) -> None:
    """Consumers raise."""
    plan.set(consumer="raising")


def blocking_consumers(rng: Random, plan: Plan) -> None:
    """Consumers block the loop for a while."""
    plan.set(consumer="blocking")


def slow_handlers(rng: Random, plan: Plan) -> None:
    """A handler is slower than its messages, while the feed rotates."""
    at = rng.uniform(2.0, plan.seconds)
    plan.set(handover_timeout=1.0, rate=30.0, consumer="callback")
    plan.need_channels(3)
    plan.act(at, "slow down", "", rng.uniform(7.0, 9.0))
    plan.act(at + rng.uniform(2.5, 4.0), "rotate")


def standstills(rng: Random, plan: Plan) -> None:
    """The loop is blocked for a short time and receives nothing meanwhile."""
    for at in some(rng, plan, 2):
        plan.act(at, "stand still", "", rng.uniform(0.05, 0.3))


def long_standstills(rng: Random, plan: Plan) -> None:
    """The loop is blocked for longer than ``handover_settle`` or ``idle_timeout``."""
    at = rng.uniform(1.0, plan.seconds)
    if rng.random() < 0.5:
        plan.set(idle_timeout=1.0)
        plan.act(at, "stand still", "", rng.uniform(1.1, 4.0))
    else:
        plan.set(lag=0.3)
        plan.act(at, "rotate")
        plan.act(at + rng.uniform(0.4, 1.5), "stand still", "", rng.uniform(0.5, 1.5))


def exits(rng: Random, plan: Plan) -> None:
    """``exit()`` is called before the end of the life."""
    plan.act(rng.uniform(0.0, plan.seconds), "exit")


def rotations_at_once(rng: Random, plan: Plan) -> None:
    """``rotate()`` is called as soon as messages arrive after a loss."""
    at = rng.uniform(1.0, plan.seconds)
    plan.act(at, "rotate at once")
    plan.act(at, "answer", "late", rng.uniform(0.2, 1.0))
    plan.act(at + 0.01, "cut", "fin", ALL)


def generator_exits(rng: Random, plan: Plan) -> None:
    """A handler raises GeneratorExit."""
    plan.act(rng.uniform(1.0, plan.seconds), "generator exit")


def cancellations(rng: Random, plan: Plan) -> None:
    """Other code cancels the feed's tasks."""
    plan.act(rng.uniform(1.0, plan.seconds), "cancel")
