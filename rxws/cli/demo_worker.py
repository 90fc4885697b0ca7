"""One worker of ``rxws demo --nats``, in its own process: it counts the messages of its share of the channels.

``python -m rxws.cli.demo_worker SERVER K N`` prints its counts as one JSON object per line, until it is killed.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Final

import msgspec

from .. import Gap
from ..nats import NatsFeed
from .demo_feed import channel_of_message
from .loss_counter import LossCounter

__all__ = ["Counts", "main"]

INTERVAL: Final = 0.25
"""Seconds between two lines."""


class Counts(msgspec.Struct):
    """What a worker has received.

    Attributes:
        received: number of messages.
        lost: number of messages that are missing without a gap.
        missed: number of messages that are missing in a gap.
        doubled: number of messages that came again.
        disordered: number of messages that came after a later one of their channel.
        gaps: number of gaps.
        last: the last number of each channel.
    """

    received: int = 0
    lost: int = 0
    missed: int = 0
    doubled: int = 0
    disordered: int = 0
    gaps: int = 0
    last: dict[str, int] = msgspec.field(default_factory=dict)


class _Worker:
    def __init__(self) -> None:
        self._counter = LossCounter()
        self._gaps = 0

    async def count(self, items: Any) -> None:
        async for item in items:
            if isinstance(item, Gap):
                self._gaps += 1
                self._counter.interrupt()
            else:
                self._counter.take(channel_of_message(item), item["n"])

    async def report(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            print(msgspec.json.encode(self.counts).decode(), flush=True)

    @property
    def counts(self) -> Counts:
        counter = self._counter
        return Counts(
            *(counter.received, counter.lost, counter.missed, counter.doubled, counter.disordered),
            self._gaps,
            counter.last,
        )


async def _run(server: str, worker: int, workers: int) -> None:
    work = _Worker()
    feed = NatsFeed[Any](server, start="all", share=(worker, workers), name=f"worker {worker}")
    async with feed, asyncio.TaskGroup() as tasks:
        tasks.create_task(work.count(feed.stream_filter(gaps=True, maxsize=None)))
        tasks.create_task(work.report())


def main(arguments: list[str]) -> None:
    """Run a worker: the server's address, its number from 0, and the number of workers."""
    server, worker, workers = arguments
    asyncio.run(_run(server, int(worker), int(workers)))


if __name__ == "__main__":
    main(sys.argv[1:])
