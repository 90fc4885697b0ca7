"""Kills relays and the broker at random, and counts missing messages: ``python -m tests.nats.campaign --kills 200``.

Two relays capture one source, with lags that differ for each message. In each round the broker or a relay is killed
with SIGKILL, and started again after 0.05 to 1.2 s. The next round begins when both relays have stated that they are
complete, so that one of them always runs. With ``--both`` the next round does not wait, so that both may be dead; then
a Gap must be reported in place of the missing messages.

``--cluster`` runs three servers that each have a copy of the stream, and kills the one that leads it. ``--minutes 10``
kills the broker and relay b until this time is over, and compares the memory of relay a at the end with that after the
first minute.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import logging
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import nats.errors
import psutil

from .cluster import Cluster
from .rig import KEYS, ROOT, Rig

__all__ = ["Attack", "attack", "kill_worker", "main", "until_back"]

SETTLE = 1.0
"""Seconds for which a relay runs before the next kill."""

SAMPLING = 1.0
"""Seconds between two samples of memory."""

FLAT = 5.0
"""MiB by which the memory of a relay may vary."""


async def until_back(rig: Rig, since: float) -> None:
    """Wait until both relays have stated, after ``since``, that all their messages are stored."""
    client = await nats.connect(rig.server.url)
    said: dict[str, Any] = {}

    async def are_back() -> bool:
        for relay in ("a", "b"):
            with contextlib.suppress(nats.errors.Error):
                last = await client.jetstream().get_last_msg("rxws", f"_rx.{relay}")
                said[relay] = json.loads(last.data or b"{}")
        return len(said) == 2 and all(
            each["event"] == "Alive" and each["time"] > since + SETTLE for each in said.values()
        )

    try:
        deadline = time.monotonic() + 30
        while not await are_back():
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"one of the relays is not back after {since}; their statements: {said}; {rig.diagnosis()}"
                )
            await asyncio.sleep(0.1)
    finally:
        await client.close()


class Memory:
    """Samples the resident memory of a process.

    Attributes:
        sizes: the samples, in MiB.
    """

    def __init__(self, pid: int) -> None:
        self.sizes: list[float] = []
        self._process = psutil.Process(pid)
        self._task = asyncio.create_task(self._sample())

    async def _sample(self) -> None:
        while True:
            self.sizes.append(self._process.memory_info().rss / 2**20)
            await asyncio.sleep(SAMPLING)

    def stop(self) -> None:
        """End sampling."""
        self._task.cancel()

    @property
    def growth(self) -> float:
        """The median of the last minute minus that of the second one, in MiB."""
        minute = round(60 / SAMPLING)
        return statistics.median(self.sizes[-minute:]) - statistics.median(self.sizes[minute : 2 * minute])


@dataclass(frozen=True)
class Attack:
    """What is killed, and for how long.

    Attributes:
        kills: the number of kills.
        seconds: the time after which no more kills begin.
        both: whether the next kill does not wait until all victims run again.
        victims: the names of the processes that are killed.
    """

    kills: int = 10**9
    seconds: float = float("inf")
    both: bool = False
    victims: tuple[str, ...] = ("broker", "a", "b")

    def numbers(self) -> Iterator[int]:
        """Return the numbers of the kills, until there are enough or the time is over."""
        ends = time.monotonic() + self.seconds
        return itertools.takewhile(lambda _: time.monotonic() < ends, range(self.kills))


async def attack(rig: Rig, plan: Attack) -> dict[str, int]:
    """Kill repeatedly, while a feed reads. Return the number of kills of each victim, and of reconnects.

    Args:
        rig: a running rig, without relays.
        plan: what is killed.
    """
    options = {"create": {"num_replicas": 3}} if isinstance(rig.server, Cluster) else {}
    relays = {name: rig.relay(name, **options) for name in ("a", "b")}
    counts = dict.fromkeys(plan.victims, 0)
    async with rig.feed(name="far") as ws:
        collecting = asyncio.create_task(rig.collect(ws))
        await rig.flowing(timeout=60)
        await until_back(rig, time.time())
        for _ in plan.numbers():
            victim = rig.chances.choice([*counts])
            counts[victim] += 1
            killed = rig.server if victim == "broker" else relays[victim]
            if isinstance(killed, Cluster):
                await killed.kill_leader()
            else:
                killed.kill()
            await asyncio.sleep(rig.chances.uniform(0.05, 1.2))
            killed.start()
            if plan.both:
                await asyncio.sleep(0.1)
            else:
                await until_back(rig, time.time())
                await rig.flowing()
        await until_back(rig, time.time())
        await rig.flowing()
        collecting.cancel()
        counts["reconnects"] = sum(ws.statistics().reconnects.values())
    return counts


async def kill_worker(rig: Rig, path: Path, kills: int) -> list[int]:
    """Kill a worker repeatedly, and let it catch up. Return the numbers that it has stored, in the stream's order."""
    rig.relay("a")
    command = [sys.executable, "-m", "tests.nats.worker_process", rig.server.url, str(path)]
    for _ in range(kills):
        worker = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
        await asyncio.sleep(rig.chances.uniform(0.8, 1.6))
        worker.kill()
        await worker.wait()
    last = len(rig.sent)
    worker = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
    try:
        await rig.until(lambda: max(stored(path), default=-1) >= last + KEYS, timeout=60)
    finally:
        worker.kill()
        await worker.wait()
    # Messages overtake each other on their way, so some of the newest ones may not have arrived.
    return [number for number in stored(path) if number < last]


def stored(path: Path) -> list[int]:
    """Return the numbers of the messages that the worker has stored, in the order of the stream."""
    with contextlib.closing(sqlite3.connect(path)) as table, contextlib.suppress(sqlite3.OperationalError):
        return [number for (number,) in table.execute("SELECT number FROM results ORDER BY position")]
    return []


async def run(arguments: argparse.Namespace) -> int:
    """Run the campaign, and print its results."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.worker:
            async with Rig.running(Path(folder), rate=200, seed=arguments.seed) as rig:
                numbers = await kill_worker(rig, Path(folder) / "results.db", arguments.kills)
            missing = len(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
            doubled = len(numbers) - len(set(numbers))
            print(f"{arguments.kills} kills of a worker: {len(numbers)} rows, {missing} missing, {doubled} doubled")
            return int(missing + doubled > 0)
        victims = tuple(arguments.victims.split(",")) if arguments.victims else ("broker", "a", "b")
        if arguments.minutes:
            plan = Attack(seconds=60 * arguments.minutes, victims=("broker", "b"))
        else:
            plan = Attack(arguments.kills, both=arguments.both, victims=victims)
        options = {"rate": arguments.rate, "seed": arguments.seed, "is_cluster": arguments.cluster}
        async with Rig.running(Path(folder), **options) as rig:
            attacking = asyncio.create_task(attack(rig, plan))
            await asyncio.sleep(1)
            memory = Memory(rig.relays[0].pid) if arguments.minutes else None
            counts = await attacking
            report = rig.report()
    print(f"seed {arguments.seed}, {time.monotonic() - began:.0f} s, kills {counts}")
    print(report)
    if memory is not None:
        memory.stop()
        print(f"relay a, resident memory: {memory.sizes[-1]:.1f} MiB, {memory.growth:+.1f} MiB since the second minute")
    for gap in report.gaps:
        print(f"Gap of {gap.end - gap.start:.2f} s ({gap.reason})")
    is_right = not report.untold and not report.doubled
    if memory is not None:
        is_right = is_right and memory.growth < FLAT
    if not arguments.both:
        is_right = is_right and report.is_clean and not report.gaps
    return 0 if is_right else 1


def main() -> int:
    """Read the arguments, and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.nats.campaign", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--worker", action="store_true", help="kill a worker with a table instead")
    parser.add_argument("--victims", help="what is killed: some of broker,a,b")
    parser.add_argument("--cluster", action="store_true", help="three servers, of which the leader is killed")
    parser.add_argument("--minutes", type=float, help="kill for so long, and measure the memory of relay a")
    parser.add_argument("--both", action="store_true", help="do not wait until all are back")
    logging.basicConfig(level=logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    logging.getLogger("nats").setLevel(logging.CRITICAL)
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    raise SystemExit(main())
