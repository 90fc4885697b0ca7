"""The life of a seed, for a class of yours."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Collection

from .dialect import Dialect
from .endpoint import MakeFeed
from .ingredients import KNOWN, compose
from .playing import play
from .report import LifeFailed, Report
from .shrinking import shrink

__all__ = ["life"]

SNAPSHOTS = ("declared snapshots", "plain snapshots")
"""Ingredients that are not for classes that know no snapshots."""


async def life(
    make_feed: MakeFeed | None,
    seed: int,
    *,
    dialect: Dialect | None = None,
    without: Collection[str] | None = None,
    only: Collection[str] = (),
    shrinks: bool = True,
) -> Report:
    """Let a feed live through what a seed stands for, and judge what its consumers have seen.

    A server with numbered channels cuts, resets, refuses and lags; channels come and go; the feed rotates; consumers
    are slow, raise and block; the loop stands still. Each number must come once and in order, or stand behind a ``Gap``
    that covers its time; in the end the right channels are subscribed, and nothing is left behind.

    It takes about 30 ms of a processor in virtual time, for some 20 s of life, and so long in real time. The same seed
    is the same life on every machine. Meanwhile :mod:`random` gives the seed's numbers. Cancelling is safe.

    Args:
        make_feed: a function of an :class:`Endpoint` that makes your feed, with the ``options`` of the endpoint; it is
            to connect with ``endpoint.connect(endpoint.url)`` and with nothing else. None: a ``ReactiveWebSocket``.
        seed: any integer.
        dialect: what server and client say to each other; None: JSON as :class:`Dialect` has it.
        without: names of ingredients that are left out; None: those that rxws does not survive (``KNOWN``), unless
            ``only`` names what there is.
        only: names of the ingredients that the life is made of; empty: the seed decides.
        shrinks: whether the shortest life that still fails is looked for, which plays up to 300 more.

    Returns:
        What became of it: counts of connections, messages, gaps.

    Raises:
        LifeFailed: something was lost without a word, came twice, was left behind …; shows the seed and the shortest
            schedule that still fails, and has them as attributes.
        ValueError: there is no such ingredient.

    Example::

        @pytest.mark.parametrize("seed", range(100))
        async def test_survives(life, seed):
            await life(lambda endpoint: MyFeed(endpoint.url, connect=endpoint.connect, **endpoint.options), seed)
    """
    dialect = dialect or Dialect()
    left_out = [*(without or ())] if only or without is not None else [*KNOWN]
    if make_feed is not None and not dialect.knows_snapshots:
        left_out += SNAPSHOTS
    schedule = compose(seed, left_out, only)
    if dialect.pushes:
        schedule = dataclasses.replace(schedule, settings=dataclasses.replace(schedule.settings, pushed=True))
    played = functools.partial(play, make_feed=make_feed, dialect=dialect)
    report = await played(schedule)
    if report.problems:
        raise LifeFailed(await shrink(report, played) if shrinks else report)
    return report
