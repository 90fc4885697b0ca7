"""Kills relays and the broker at random, and counts missing messages: ``python -m tests.nats.campaign --kills 200``.

Two relays capture one source, with lags that differ for each message. In each round the broker or a relay is killed
with SIGKILL, and started again after 0.05 to 1.2 s. The next round begins when both relays have stated that they are
complete, so that one of them always runs. With ``--both`` the next round does not wait, so that both may be dead; then
a Gap must be reported in the place of the missing messages.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nats
import nats.js.errors
import psutil

from .rig import KEYS, ROOT, Rig

__all__ = ["attack", "kill_worker", "main", "until_back"]

SETTLE = 1.0
"""Seconds for which a relay runs before the next kill."""


async def until_back(rig: Rig, since: float) -> None:
    """Wait until both relays have stated, after ``since``, that all their messages are stored."""
    client = await nats.connect(rig.server.url)
    said: dict[str, Any] = {}

    async def are_back() -> bool:
        for relay in ("a", "b"):
            with contextlib.suppress(nats.js.errors.NotFoundError):
                last = await client.jetstream().get_last_msg("rxws", f"_rx.{relay}")
                said[relay] = json.loads(last.data or b"{}")
        return len(said) == 2 and all(
            each["event"] == "Alive" and each["time"] > since + SETTLE for each in said.values()
        )

    try:
        deadline = time.monotonic() + 30
        while not await are_back():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not both relays are back after {since}, which said {said}: {rig.diagnosis()}")
            await asyncio.sleep(0.1)
    finally:
        await client.close()


async def attack(rig: Rig, kills: int, *, both: bool = False, victims: str = "broker a b") -> dict[str, int]:
    """Kill repeatedly, while a feed reads. Return the number of kills of each victim.

    Args:
        rig: a running rig, without relays.
        kills: the number of kills.
        both: whether the next kill does not wait until all victims run again.
        victims: the names of the processes that are killed.
    """
    relays = {name: rig.relay(name) for name in ("a", "b")}
    counts = dict.fromkeys(victims.split(), 0)
    async with rig.feed(name="far") as ws:
        collecting = asyncio.create_task(rig.collect(ws))
        await rig.flowing()
        await until_back(rig, time.time())
        for _ in range(kills):
            victim = rig.chances.choice([*counts])
            counts[victim] += 1
            killed = rig.server if victim == "broker" else relays[victim]
            killed.kill()
            await asyncio.sleep(rig.chances.uniform(0.05, 1.2))
            killed.start()
            if both:
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
        async with Rig.running(Path(folder), rate=arguments.rate, seed=arguments.seed) as rig:
            counts = await attack(rig, arguments.kills, both=arguments.both)
            memory = [psutil.Process(relay.pid).memory_info().rss / 2**20 for relay in rig.relays if relay.is_running]
            report = rig.report()
    print(f"seed {arguments.seed}, {time.monotonic() - began:.0f} s, kills {counts}")
    print(report)
    print("relays, resident memory:", ", ".join(f"{size:.0f} MiB" for size in memory))
    for gap in report.gaps:
        print(f"Gap of {gap.end - gap.start:.2f} s ({gap.reason})")
    is_right = not report.untold and not report.doubled
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
    parser.add_argument("--both", action="store_true", help="do not wait until all are back")
    logging.basicConfig(level=logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    raise SystemExit(main())
