"""The ingredients of lives. Each ingredient adds random faults of one kind to a plan. No I/O.

Acts of the server: ``cut``, ``mute``, ``half-open`` and ``protocol`` affect the connections that ``value`` selects;
``hiccup`` delays the frames of one connection; ``refuse`` and ``handshake`` affect the next handshakes; ``answer``
affects the next subscription; ``ban`` refuses a channel; ``snapshot`` affects the next snapshot over HTTP; ``hole``
omits the next changes of the book; ``signal`` asks the client to rotate; ``forget`` makes the cursors of all channels
unknown, or of one; ``end`` ends the subscription of a channel; ``outage`` leaves all messages out for a time; ``begin
anew`` keeps the next connection from resuming. Acts of the client: ``rotate``, ``subscribe``, ``unsubscribe``,
``swap``, ``stand still``, ``slow down``, ``exit``, ``rotate at once``, ``generator exit``, ``cancel``, ``restart
book``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from random import Random
from typing import Final

from . import client_side, server_side
from .schedule import Plan, Schedule, Settings

__all__ = ["INGREDIENTS", "KNOWN", "compose", "needed"]

Ingredient = Callable[[Random, Plan], None]

INGREDIENTS: Final[Mapping[str, tuple[Ingredient, float]]] = {
    "cuts": (server_side.cuts, 0.35),
    "resets": (server_side.resets, 0.2),
    "restarts": (server_side.restarts, 0.1),
    "half-open": (server_side.half_open, 0.12),
    "mutes": (server_side.mutes, 0.12),
    "protocol errors": (server_side.protocol_errors, 0.1),
    "unanswered protocol errors": (server_side.deaf_errors, 0.06),
    "hiccups": (server_side.hiccups, 0.15),
    "refusals": (server_side.refusals, 0.15),
    "slow handshakes": (server_side.slow_handshakes, 0.15),
    "lags": (server_side.lags, 0.5),
    "skews": (server_side.skews, 0.4),
    "long lags": (server_side.long_lags, 0.08),
    "slow closes": (server_side.slow_closes, 0.12),
    "rotations": (client_side.rotations, 0.5),
    "rotations by time": (client_side.rotations_by_time, 0.12),
    "signals": (server_side.signals, 0.15),
    "one connection": (client_side.one_connection, 0.06),
    "pushed channels": (server_side.pushed, 0.2),
    "goings": (client_side.goings, 0.25),
    "goings in overlaps": (client_side.overlapped_goings, 0.08),
    "swaps": (client_side.swaps, 0.08),
    "combined": (client_side.combined, 0.15),
    "late answers": (server_side.late_answers, 0.15),
    "single answers": (server_side.single_answers, 0.08),
    "late effects": (server_side.late_effects, 0.08),
    "refused channels": (server_side.refused_channels, 0.1),
    "passing refusals": (server_side.passing_refusals, 0.06),
    "send limit": (client_side.send_limit, 0.12),
    "declared snapshots": (server_side.declared_snapshots, 0.12),
    "first snapshots": (server_side.first_snapshots, 0.06),
    "plain snapshots": (server_side.plain_snapshots, 0.08),
    "heartbeats": (server_side.heartbeats, 0.25),
    "slow consumers": (client_side.slow_consumers, 0.2),
    "raising consumers": (client_side.raising_consumers, 0.1),
    "blocking consumers": (client_side.blocking_consumers, 0.06),
    "slow handlers in rotations": (client_side.slow_handlers, 0.06),
    "standstills": (client_side.standstills, 0.1),
    "long standstills": (client_side.long_standstills, 0.05),
    "exits": (client_side.exits, 0.1),
    "books": (server_side.book, 0.2),
    "stale snapshots": (server_side.stale_snapshots, 0.08),
    "watched books": (server_side.watched_book, 0.06),
    "dated silence": (server_side.dated_silence, 0.08),
    "rotations at once": (client_side.rotations_at_once, 0.06),
    "generator exits": (client_side.generator_exits, 0.03),
    "cancellations": (client_side.cancellations, 0.03),
    "replays": (server_side.replays, 0.1),
    "outages": (server_side.outages, 0.1),
    "resumed connections": (server_side.resumed_connections, 0.1),
    "skewed replays": (server_side.skewed_replays, 0.1),
    "subscription cursors": (server_side.channel_cursors, 0.15),
    "sent books": (server_side.sent_books, 0.12),
    "histories": (server_side.histories, 0.15),
    "large frames": (server_side.large_frames, 0.1),
    "shards": (client_side.shards, 0.12),
    "given ids": (server_side.given_ids, 0.12),
    "ended subscriptions": (server_side.ended_subscriptions, 0.12),
}
"""All ingredients in the order in which they are added, each with the share of lives that have it."""

KNOWN: Final[Mapping[str, str]] = {
    "ended subscriptions": "messages are lost or out of order, if it ends while messages of its connection are held"
}
"""The ingredients that rxws does not survive yet, each with a description of the fault."""


def compose(seed: int, without: Collection[str] = (), only: Collection[str] = ()) -> Schedule:
    """Return the life of a seed, which is the same on every machine.

    Each ingredient has its own random generator, so leaving one out changes nothing else in the life.

    Args:
        seed: any integer.
        without: names of ingredients that are left out.
        only: names of the ingredients to use, and no others; empty: the seed decides.

    Raises:
        TypeError: a string was given instead of a list of names.
        ValueError: there is no such ingredient.

    Example::

        print(compose(17, without=["exits"]))
    """
    for names in (without, only):
        if isinstance(names, str):
            raise TypeError(f"ingredients must be a list of names, not the string {names!r}")
    unknown = sorted({*without, *only} - INGREDIENTS.keys())
    if unknown:
        raise ValueError(f"there are no ingredients {unknown}; there are {sorted(INGREDIENTS)}")
    plan, chosen = _plain(seed), []
    plan.set(silence="dated silence" not in without and (not only or "dated silence" in only))
    for name, (ingredient, share) in INGREDIENTS.items():
        rng = Random(f"{seed}/{name}")
        is_chosen = name in only if only else rng.random() < share
        if is_chosen and name not in without:
            chosen.append(name)
            ingredient(rng, plan)
    return Schedule(seed, Settings(**plan.settings), tuple(sorted(plan.acts)), tuple(chosen))


def _plain(seed: int) -> Plan:
    """Return the life of a seed without ingredients."""
    plan, rng = Plan(), Random(f"{seed}/life")
    plan.set(seconds=round(rng.uniform(5.0, 20.0), 3), channels=rng.randint(1, 3), rate=round(rng.uniform(4, 12), 3))
    return plan


def needed(schedule: Schedule) -> tuple[str, ...]:
    """Return the ingredients of which a shortened schedule still contains an act or a setting."""
    plain, found = _plain(schedule.seed).settings, []
    for name in schedule.ingredients:
        plan = _plain(schedule.seed)
        INGREDIENTS[name][0](Random(f"{schedule.seed}/{name}"), plan)
        kept = (key for key, value in plan.settings.items() if getattr(schedule.settings, key) == value)
        changed = (key for key in kept if plan.settings[key] not in (plain.get(key), getattr(Settings(), key)))
        if any(changed) or not set(plan.acts).isdisjoint(schedule.acts):
            found.append(name)
    return tuple(found)
