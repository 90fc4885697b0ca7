"""The life of a seed, for your class."""

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

BY_TIME = "rotations by time"
"""The ingredient that is left out for your own class, because its hook decides when it rotates."""

SNAPSHOTS = ("declared snapshots", "plain snapshots", "sent books")
"""Ingredients that are left out for classes that do not know snapshots."""

OF_READY_MADE = (
    *("outages", "resumed connections", "skewed replays", "subscription cursors", "histories", "large frames"),
    *("given ids", "ended subscriptions"),
)
"""Ingredients that need JSON, a parse hook that returns gaps, a feed that resumes, unwrapped connections, or other
identities of messages and other arguments of ``multiplex``."""


async def life(
    make_feed: MakeFeed | None,
    seed: int,
    *,
    dialect: Dialect | None = None,
    without: Collection[str] | None = None,
    only: Collection[str] = (),
    shrinks: bool = True,
) -> Report:
    """Take a feed through the life of a seed, and judge the items that its consumers have received.

    The server has numbered channels; it cuts, resets and refuses connections, and it lags. Channels are subscribed and
    unsubscribed; the feed rotates; consumers are slow, raise and block; the loop is blocked. Each number must arrive
    once and in order, or a ``Gap`` must be in its place and cover its time. At the end the right channels must be
    subscribed, no task or timer may be left, and no object may refer to the feed.

    A life of about 20 s takes about 30 ms of processor time in virtual time, and 20 s in real time. The fixture
    ``life`` uses virtual time; outside of pytest, a life runs in the time of the running loop.

    The same seed gives the same life on every machine. During a life, the numbers of :mod:`random` come from the seed.
    Cancelling is safe.

    Args:
        make_feed: a function of an :class:`Endpoint` that makes your feed with the ``options`` of the endpoint. The
            feed must connect only with ``endpoint.connect(endpoint.url)``. None: a ``ReactiveWebSocket``.
        seed: any integer.
        dialect: the messages of server and client; None: the JSON messages of :class:`Dialect`.
        without: names of ingredients to leave out. None leaves out those that rxws does not survive (``KNOWN``), or
            none if ``only`` is given.
        only: names of the ingredients of the life; empty: the seed decides.
        shrinks: whether to search for the shortest life that still fails. The search plays up to 300 more lives.

    Returns:
        The report, with the numbers of connections, messages and gaps.

    Raises:
        LifeFailed: a message was lost without a Gap or delivered twice, a task was left behind …; the error's text
            shows the seed and the shortest schedule that still fails. The attributes are ``seed`` and ``report``; the
            schedule is ``report.schedule``.
        TypeError: ``make_feed`` did not return a feed.
        ValueError: an ingredient does not exist, or ``only`` has "rotations by time" and ``make_feed`` is given.

    Example::

        @pytest.mark.parametrize("seed", range(100))
        async def test_survives(life, seed):
            await life(lambda endpoint: MyFeed(endpoint.url, connect=endpoint.connect, **endpoint.options), seed)
    """
    dialect = dialect or Dialect()
    left_out = [*(without or ())] if only or without is not None else [*KNOWN]
    if make_feed is not None and not dialect.knows_snapshots:
        left_out += SNAPSHOTS
    if make_feed is not None:
        if BY_TIME in only:
            raise ValueError(f"{BY_TIME!r} needs make_feed=None, because your own class decides when it rotates")
        left_out.append(BY_TIME)
        left_out += OF_READY_MADE
    if type(dialect) is not Dialect:
        left_out.append("large frames")
    schedule = compose(seed, left_out, only)
    if dialect.pushes:
        schedule = dataclasses.replace(schedule, settings=dataclasses.replace(schedule.settings, pushed=True))
    played = functools.partial(play, make_feed=make_feed, dialect=dialect)
    report = await played(schedule)
    if report.problems:
        raise LifeFailed(await shrink(report, played) if shrinks else report)
    return report
