"""The cost of what a feed offers beside streams: latency, tables of latest messages, batches, recordings in parts."""

from __future__ import annotations

import gc
import tempfile
import time
from pathlib import Path
from typing import Any

import rxws
from rxws import recording

from .contenders import Connect, Countdown, Feed, Measure, Run, ready_made
from .frames import order

BATCH = 500
"""The number of messages in a batch."""

PART = 4 << 20
"""The size of each file of a recording, in bytes."""


class TimedFeed(Feed):
    """The feed of the other rows, whose messages have a time."""

    def __init__(self, connect: Connect, url: str) -> None:
        super().__init__(connect, url, sent_at=self._sent_at, unit="s", max_latency=60.0)

    def _sent_at(self, message: Any) -> float:
        # The time in the message is always the same, so read it, and return a plausible one.
        return time.time() if message["T"] else 0.0


def table(connect: Connect, count: int) -> Measure:
    """Make a contender: a ``LatestTable`` of all symbols, whose keys expire."""

    async def measure(run: Run) -> float:
        countdown = Countdown()
        async with Feed(connect, run.url) as feed:
            latest = rxws.LatestTable(feed.messages, "s", expire=60.0)
            feed.messages.subscribe(countdown.take)
            cost = await countdown.microseconds_each(feed.send, run.scaled(count))
            latest.dispose()
            return cost

    return measure


def dict_of_latest(connect: Connect, count: int) -> Measure:
    """Make a contender: the dict that programmers fill by hand."""

    async def measure(run: Run) -> float:
        countdown = Countdown()
        latest: dict[str, Any] = {}

        def take(message: Any) -> None:
            latest[message["s"]] = message

        async with Feed(connect, run.url) as feed:
            feed.messages.subscribe(take)
            feed.messages.subscribe(countdown.take)
            return await countdown.microseconds_each(feed.send, run.scaled(count))

    return measure


def batched(connect: Connect, count: int) -> Measure:
    """Make a contender: ``ReactiveWebSocket`` with one loop over batches of all messages."""

    async def measure(run: Run) -> float:
        async with ready_made(connect, run.url) as feed:
            batches = feed.stream_filter().batches(BATCH, 1.0)
            total = run.scaled(count)
            started = 0.0
            for number in (total // 5, total):
                left = number
                gc.collect()
                started = time.process_time()
                await feed.send(order(number))
                while left:
                    left -= len(await anext(batches))
            return (time.process_time() - started) / total * 1e6

    return measure


def recorded(connect: Connect, count: int, *, roll: int | None) -> Measure:
    """Make a contender: a feed that is recorded, in one file or (``roll``) in files of so many bytes."""

    async def measure(run: Run) -> float:
        countdown = Countdown()
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) if roll else Path(folder) / "feed.jsonl.gz"
            async with Feed(connect, run.url) as feed:
                with recording.record(feed, place, roll=roll):
                    feed.messages.subscribe(countdown.take)
                    return await countdown.microseconds_each(feed.send, run.scaled(count))

    return measure
