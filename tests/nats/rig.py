"""A source of numbered messages, relays in their own processes, a server, and the messages that a NatsFeed gets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import rxws
import rxws.nats
from rxws.testing import FeedServer
from rxws.testing.broadcast import DelayedDelivery

from .cluster import Cluster
from .server import NatsServer

__all__ = ["RelayProcess", "Report", "Rig"]

ROOT = Path(__file__).resolve().parents[2]

KEYS = 50
"""How many keys the messages have."""


@dataclass
class Report:
    """The counts of arrived and missing messages.

    Attributes:
        sent: the number of messages that were sent after the first one that arrived.
        untold: the numbers of messages that are missing without a Gap in their place.
        told: the number of messages that are missing with a Gap in their place.
        doubled: the number of messages that arrived twice.
        disordered: the number of messages that arrived after a later one of their key.
        gaps: the Gaps.
    """

    sent: int = 0
    untold: list[int] = field(default_factory=list)
    told: int = 0
    doubled: int = 0
    disordered: int = 0
    gaps: list[rxws.Gap] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether no message is missing without a Gap, arrived twice or out of order."""
        return not (self.untold or self.doubled or self.disordered)

    def __str__(self) -> str:
        return (
            f"{self.sent} sent, {len(self.untold)} lost untold {self.untold[:5]}, {self.told} in a Gap, "
            f"{self.doubled} doubled, {self.disordered} out of order, {len(self.gaps)} Gaps"
        )


def judge(sent: dict[int, str], entries: list[Any], settled: int) -> Report:
    """Compare the messages of a feed with those that were sent.

    Args:
        sent: the key of each number, in the order of sending.
        entries: the entries that arrived: pairs of number and key, and Gaps.
        settled: the number before which no more messages can arrive. A later one is missing only if a still later one
            of its key has arrived.
    """
    report = Report(gaps=[entry for entry in entries if isinstance(entry, rxws.Gap)])
    places: dict[int, int] = {}
    newest: dict[str, int] = {}
    gap_places = []
    for place, entry in enumerate(entries):
        if isinstance(entry, rxws.Gap):
            gap_places.append(place)
            continue
        number, key = entry
        if number in places:
            report.doubled += 1
            continue
        places[number] = place
        report.disordered += number < newest.get(key, -1)
        newest[key] = max(number, newest.get(key, -1))
    if not places:
        return report
    first, last = min(places), max(places)
    before: dict[str, int] = {}
    missing: dict[str, list[int]] = {}
    for number, key in sent.items():
        if not first <= number <= last:
            continue
        report.sent += 1
        if number not in places:
            missing.setdefault(key, []).append(number)
            continue
        lost = missing.pop(key, [])
        start, end = before.get(key, -1), places[number]
        if lost and any(start <= place <= end for place in gap_places):
            report.told += len(lost)
        else:
            report.untold += lost
        before[key] = end
    for key, lost in missing.items():
        if any(place >= before.get(key, -1) for place in gap_places):
            report.told += len(lost)
        else:
            report.untold += [number for number in lost if number < settled]
    return report


#: The numbers of the system calls epoll_wait and epoll_pwait, on x86-64 and on ARM64.
WAITING = frozenset({"232", "281", "22"})


class RelayProcess:
    """A relay in its own process."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        command = [sys.executable, "-m", "tests.nats.relay_process", json.dumps(self._arguments)]
        with Path(self._arguments["log"]).open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )

    @property
    def pid(self) -> int:
        """The id of the process."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def suspend(self) -> None:
        """Suspend the process while it waits for events. A message that it is just sending then would be sent later."""
        for _ in range(1000):
            self.signal(signal.SIGSTOP)
            await asyncio.sleep(0.002)
            number, *arguments = Path(f"/proc/{self.pid}/syscall").read_text().split()
            # The fourth argument is the timeout. It is 0 if callbacks are ready, which may be about to send messages.
            if number in WAITING and int(arguments[3], 16):
                return
            self.signal(signal.SIGCONT)
            await asyncio.sleep(0.001)
        raise TimeoutError("the process never waits for events")

    def kill(self) -> None:
        """Kill it with SIGKILL. Idempotent."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
        if self._process is not None:
            self._process.wait(10)
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()

    def finish(self) -> dict[str, int]:
        """Let the process close its relay. Return its counts."""
        assert self._process is not None
        output, _ = self._process.communicate(timeout=20)
        return json.loads(output)  # type: ignore[no-any-return]


class Rig:
    """A source, relays, a server and a feed. Use :meth:`running`.

    Args:
        folder: for the server's files.
        rate: messages a second.
        seed: of lags and kills.
        lag: the longest lag of a message on a connection, in seconds.
        is_cluster: whether the server is a cluster of three.
        server: options of :class:`NatsServer`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rate: float = 1000,
        seed: int = 1,
        lag: float = 0.03,
        is_cluster: bool = False,
        **server: str,
    ) -> None:
        self.folder = folder
        self.chances = random.Random(seed)
        self.server: Any = Cluster(folder) if is_cluster else NatsServer(folder, **server)
        self.sent: dict[int, str] = {}
        self.entries: list[Any] = []
        self.upstream = FeedServer()
        self.relays: list[RelayProcess] = []
        # The greatest number that has arrived of each key, and the number before which all keys have arrived.
        self._newest: dict[str, int] = {}
        self._settled = 0
        self._rate = rate
        self._lag = lag
        self._delivery = DelayedDelivery()
        self._paused = False

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, folder: Path, **options: Any) -> AsyncIterator[Self]:
        """A rig whose server runs and whose source sends."""
        rig = cls(folder, **options)
        rig.server.start()
        sending: asyncio.Task[None] | None = None
        try:
            async with rig.upstream:
                sending = asyncio.create_task(rig._send())
                yield rig
        finally:
            if sending is not None:
                sending.cancel()
            for relay in rig.relays:
                relay.kill()
            rig.server.kill()

    async def _send(self) -> None:
        number, began = 0, time.monotonic()
        while True:
            await asyncio.sleep(0.002)
            while number < (time.monotonic() - began) * self._rate:
                key = f"K{number % KEYS}"
                self.sent[number] = key
                text = json.dumps({"e": "trade", "s": key, "n": number, "x": "." * 80})
                for connection in self.upstream.connections:
                    self._delivery.deliver(connection, key, text, self.chances.uniform(0, self._lag))
                number += 1

    def relay(
        self, name: str, *, clock: float = 0.0, identity: bool = True, nats: str | None = None, **options: Any
    ) -> RelayProcess:
        """Start a relay in a separate process."""
        arguments = {"upstream": self.upstream.url, "nats": nats or self.server.url, "name": name, "options": options}
        arguments |= {"clock": clock, "identity": identity, "log": str(self.folder / f"relay-{name}.log")}
        process = RelayProcess(arguments)
        process.start()
        self.relays.append(process)
        return process

    def feed(self, **options: Any) -> rxws.nats.NatsFeed[Any]:
        """Return a feed of the messages that the relays publish."""
        return rxws.nats.NatsFeed(self.server.url, **{"start": "all", "subject": "rx.{e}.{s}", **options})

    async def collect(self, ws: rxws.nats.NatsFeed[Any]) -> None:
        """Keep the messages of a feed until it ends."""
        async for entry in ws.stream_filter(gaps=True, maxsize=None):
            if isinstance(entry, rxws.Gap):
                self.entries.append(entry)
                continue
            number, key = entry["n"], entry["s"]
            self.entries.append((number, key))
            self._newest[key] = max(number, self._newest.get(key, -1))

    async def flowing(self, *, timeout: float = 20.0) -> None:
        """Wait until all messages that were sent before this call have arrived, or are lost.

        That is known when a later message of each key has arrived, because only messages of one key are in order.
        """
        wanted = len(self.sent)
        await self.until(lambda: self._oldest >= wanted, timeout=timeout)
        self._settled = wanted

    @property
    def _oldest(self) -> int:
        """The smallest of the greatest numbers of all keys."""
        return min(self._newest.values()) if len(self._newest) == KEYS else -1

    async def until(self, condition: Any, *, timeout: float = 20.0) -> None:
        """Wait until a condition is true."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {timeout} s: {self.diagnosis()}")
            await asyncio.sleep(0.02)

    def diagnosis(self) -> str:
        """Return what may have gone wrong: the numbers, the running relays, and the end of the relays' logs."""
        logs = [path.read_text()[-1500:] for path in sorted(self.folder.glob("relay-*.log"))]
        running = [relay.is_running for relay in self.relays], self.server.is_running
        connections = len(self.upstream.connections)
        return (
            f"{len(self.sent)} sent on {connections} connections, {self._delivery.pending} under way, all arrived "
            f"before {self._oldest}, running {running}, {self.report()}\n" + "\n".join(logs)
        )

    def report(self) -> Report:
        """Return the counts of the messages so far."""
        return judge(self.sent, self.entries, self._settled)
