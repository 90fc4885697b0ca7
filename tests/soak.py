"""A soak: real reconnections and real rotations at full rate, for any length of time.

``python tests/soak.py --minutes 10`` prints its measurements. It fails if a message was lost or doubled, or if memory,
tasks or descriptors grew. The server runs in its own process.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # pragma: no cover
    sys.path.insert(0, str(Path(__file__).parent.parent))

import msgspec

import rxws
from rxws.testing import serve_in_process
from tests.support.life import Ledger

SETTLE = 0.1
HANDOVER = 20.0
MEBIBYTE = 2**20
ALLOWED_GROWTH = 8.0
"""Allowed growth of resident memory in mebibytes, for memory that the allocator keeps."""


class Numbered(msgspec.Struct, gc=False):
    """A message of the broadcast."""

    channel: str
    n: int


@dataclass(frozen=True, slots=True)
class Footprint:
    """The resources of the process."""

    memory: float
    tasks: int
    descriptors: int


def footprint() -> Footprint:
    """Measure resident memory in mebibytes (0 if the system does not provide it), tasks and descriptors."""
    gc.collect()
    memory = 0.0
    if os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm") as statm:
            memory = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MEBIBYTE
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    return Footprint(memory, len(asyncio.all_tasks()), descriptors)


@dataclass
class Report:
    """The measurements of a soak."""

    rate: float
    ledger: Ledger
    seconds: float = 0.0
    reconnects: int = 0
    rotations: int = 0
    proven: int = 0
    longest_pause: float = 0.0
    slowest_reconnect: float = 0.0
    footprints: list[Footprint] = field(default_factory=list)

    def __str__(self) -> str:
        first, last = self.footprints[0], self.footprints[-1]
        return "\n".join(
            (
                f"{self.seconds:.0f} s at {self.rate:.0f} messages a second: {self.ledger.count:,} messages",
                f"{self.rotations} rotations, {self.proven} of them proven, longest pause {self.longest_pause:.3f} s",
                f"{self.reconnects} reconnections, the slowest {self.slowest_reconnect:.3f} s, "
                f"{self.ledger.gaps} gaps reported with {self.ledger.missed:,} messages in them",
                f"{len(self.ledger.lost)} lost outside a gap, {len(self.ledger.doubled)} doubled",
                f"memory {first.memory:.1f} -> {last.memory:.1f} MiB, tasks {first.tasks} -> {last.tasks}, "
                f"descriptors {first.descriptors} -> {last.descriptors}",
            )
        )

    def check(self) -> None:
        """Assert that nothing was lost or doubled, that every rotation was proven, and that nothing grew."""
        self.ledger.check()
        assert self.proven == self.rotations
        assert self.longest_pause <= 1.1
        first, last = self.footprints[0], self.footprints[-1]
        assert last.tasks <= first.tasks, f"tasks: {first.tasks} -> {last.tasks}"
        assert last.descriptors <= first.descriptors, f"descriptors: {first.descriptors} -> {last.descriptors}"
        assert last.memory <= first.memory + ALLOWED_GROWTH, f"memory: {first.memory:.1f} -> {last.memory:.1f} MiB"


class Soak:
    """A feed that is reconnected and rotated repeatedly, and its measurements."""

    def __init__(self, feed: rxws.ReactiveWebSocket[Numbered], rate: float) -> None:
        self.report = Report(rate, Ledger())
        self._feed = feed
        self._messages = asyncio.Event()
        feed.stream_filter(gaps=True).subscribe(self._take)
        feed.events.subscribe(self._note)

    def _take(self, item: Numbered | rxws.Gap) -> None:
        self.report.ledger.take(item if isinstance(item, rxws.Gap) else item.n)
        self._messages.set()

    def _note(self, event: rxws.Event) -> None:
        if isinstance(event, rxws.Rotated):
            self.report.rotations += 1
            self.report.proven += event.proven
            self.report.longest_pause = max(self.report.longest_pause, event.paused)

    async def message(self) -> None:
        """Wait for the next message."""
        self._messages.clear()
        async with asyncio.timeout(60):
            await self._messages.wait()

    async def reconnect(self) -> None:
        """Cut the connection, and wait until messages arrive again."""
        await self.message()
        started = time.monotonic()
        gaps = self.report.ledger.gaps
        self._feed.present_ws.transport.abort()
        while self.report.ledger.gaps == gaps:
            await self.message()
        self.report.reconnects += 1
        self.report.slowest_reconnect = max(self.report.slowest_reconnect, time.monotonic() - started)

    async def rotate(self) -> None:
        """Rotate, and wait until the rotation is complete and messages arrive again."""
        rotations = self.report.rotations
        while self.report.rotations == rotations:
            await self._feed.rotate()
        await self.message()

    async def measure(self) -> None:
        """Measure the footprint after a pause, when there is one connection and no task is ending."""
        await asyncio.sleep(2 * SETTLE + 0.5)
        self.report.footprints.append(footprint())


async def soak(
    *,
    reconnects: int = 300,
    rotations: int = 200,
    rate: float = 5_000.0,
    minutes: float = 0.0,
    report_line: Callable[[str], Any] = lambda line: None,
) -> Report:
    """Reconnect and rotate the given numbers of times, and continue with both until the minutes have passed.

    Returns:
        The measurements. The first footprint is measured after a tenth of the rounds.
    """
    started = time.monotonic()
    arguments = ("--script", "broadcast", "--rate", str(rate))
    async with (
        serve_in_process(*arguments, lifetime=60 * minutes + 3600) as server,
        rxws.ReactiveWebSocket(
            server.url,
            decode=msgspec.json.Decoder(Numbered).decode,
            connect_options={"compression": None, "proxy": None},
            # No delays, because the soak tests connections and not the waits between them.
            reconnect_delays=lambda: iter(lambda: 0.0, None),
            handover_settle=SETTLE,
            handover_timeout=HANDOVER,
        ) as feed,
    ):
        soaking = Soak(feed, rate)
        report = soaking.report
        await feed.wait_connected()
        rounds = max(reconnects, rotations)
        number = 0
        while number < rounds or time.monotonic() - started < 60 * minutes:
            number += 1
            # Spread evenly, so that reconnections and rotations occur from beginning to end.
            if number * reconnects // rounds > (number - 1) * reconnects // rounds or number > rounds:
                await soaking.reconnect()
            if number * rotations // rounds > (number - 1) * rotations // rounds or number > rounds:
                await soaking.rotate()
            if number == max(1, rounds // 10):
                await soaking.measure()
            if number % 50 == 0:
                report_line(
                    f"{report.reconnects} reconnections, {report.rotations} rotations, {report.ledger.count:,} messages"
                )
        await soaking.measure()
        report.seconds = time.monotonic() - started
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and soak; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=0.0, help="run for at least this many minutes")
    parser.add_argument("--reconnects", type=int, default=300, help="how many reconnections (default: 300)")
    parser.add_argument("--rotations", type=int, default=200, help="how many rotations (default: 200)")
    parser.add_argument("--rate", type=float, default=5_000.0, help="messages a second (default: 5000)")
    options = parser.parse_args(arguments)
    report = asyncio.run(
        soak(
            reconnects=options.reconnects,
            rotations=options.rotations,
            rate=options.rate,
            minutes=options.minutes,
            report_line=lambda line: print(line, file=sys.stderr, flush=True),
        )
    )
    print(report)
    report.check()
    return 0


if __name__ == "__main__":  # pragma: no cover
    sys.exit(main())
