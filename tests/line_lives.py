"""Takes feeds with several lines through random lives, and judges what they deliver by what was published.

::

    python -m tests.line_lives --count 200 [--seed 0] [--kind KIND]

Each life has a source, which publishes numbered messages in three channels, and connections that deliver them, each
with its own lag, in virtual time. The kinds of lives: kills of lines; rotations with kills; a mute line; a line that
leaves messages out; a line that lags by seconds; channels that are subscribed late on some connections; both lines lost
at almost the same time. The judge sees only what was published and what was delivered.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import random
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import rxws
from rxws import Gap
from rxws.pytest_plugin import virtual_loop
from tests.support.life import ScriptedWebsocket

__all__ = ["KINDS", "live"]

CHANNELS = "ABC"
END = 12.0
"""Seconds of a life in which messages are published. Calm lives last three times as long."""
CALM = 4.0
"""Seconds between two events of a calm life. Then copies are dropped by their frames alone."""
KINDS = ("kills", "rotations", "mute", "skip", "behind", "late", "both", "calm kills", "calm both", "calm skip")
READY = 2.0
"""Seconds after which a sound connection must have joined."""


@dataclass(eq=False)
class Way:
    """How one connection brings the messages: its lag, and what it leaves out."""

    websocket: ScriptedWebsocket
    opened: float
    lag: float
    late: dict[str, float]
    mute_from: float = float("inf")
    skip: tuple[float, float] = (float("inf"), float("inf"))
    subscribed: dict[str, float] = field(default_factory=dict)
    arrived: float = 0.0

    def is_sound(self, now: float) -> bool:
        """Whether the connection must have joined by now."""
        is_ready = len(self.subscribed) == len(CHANNELS) and all(now - at > READY for at in self.subscribed.values())
        has_skipped = self.skip[0] <= now < self.skip[1] + 5
        return self.websocket.is_open and is_ready and self.lag < 0.1 and now < self.mute_from and not has_skipped


class Life(rxws.AsyncWebsocketStreamInterface[Any]):
    """A feed with its source, in one random life."""

    def __init__(self, kind: str, seed: int) -> None:
        self.is_calm, self.kind = kind.startswith("calm"), kind.split()[-1]
        self.random = random.Random(f"{kind} {seed}")
        self.beats = 0
        self.ways: list[Way] = []
        self.unsafe: list[float] = []
        self.published: dict[str, list[float]] = defaultdict(list)
        self.delivered: list[tuple[float, Any]] = []
        self.has_channels = kind == "late" or self.random.random() < 0.5
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        super().__init__(lines=self.random.choice((2, 2, 3)), reconnect_delays=lambda: itertools.repeat(0.1))
        self.messages.subscribe(lambda message: self.delivered.append((self.now, message)))
        self.events.subscribe(lambda event: self.delivered.append((self.now, event)) if type(event) is Gap else None)
        for channel in CHANNELS if self.has_channels else ():
            self.multiplex({"sub": channel}, filters=[{"c": channel}], acknowledged=[{"ok": channel}]).subscribe(
                lambda _: None
            )

    @property
    def now(self) -> float:
        """The seconds of this life."""
        return self.loop.time() - self.began

    # The source

    async def _create_ws(self) -> ScriptedWebsocket:
        await asyncio.sleep(self.random.uniform(0, 0.1))
        late = {channel: self.random.uniform(0, 2) if self.kind == "late" else 0.01 for channel in CHANNELS}
        is_behind = self.kind == "behind" and len(self.ways) == 1
        lag = self.random.uniform(3, 7) if is_behind else self.random.uniform(0, 0.06)
        way = Way(ScriptedWebsocket(), self.now, lag, late)
        if not self.has_channels:
            way.subscribed = dict.fromkeys(CHANNELS, self.now)
        way.websocket.on_send = lambda message: self.subscribe(way, json.loads(message)["sub"])
        self.ways.append(way)
        return way.websocket

    def subscribe(self, way: Way, channel: str) -> None:
        """Acknowledge a subscription after a while, and bring the messages of the channel from then on."""

        def acknowledge() -> None:
            way.subscribed[channel] = self.now
            self.bring(way, json.dumps({"ok": channel}))

        self.loop.call_later(way.late[channel], acknowledge)

    async def _when2create_new_ws(self) -> None:
        await asyncio.get_running_loop().create_future()

    def _parse_raw_data(self, raw_data: str) -> Any:
        return json.loads(raw_data)

    def bring(self, way: Way, frame: str) -> None:
        """Let a frame arrive after the lag of the connection, in order."""
        way.arrived = max(way.arrived + 1e-6, self.loop.time() + way.lag + self.random.uniform(0, 0.004))
        self.loop.call_at(way.arrived, way.websocket.come, frame)

    async def publish(self) -> None:
        """Publish numbered messages until the end."""
        while self.now < self.end:
            await asyncio.sleep(self.random.expovariate(80))
            channel = self.random.choice(CHANNELS)
            self.published[channel].append(self.now)
            frame = json.dumps({"c": channel, "n": len(self.published[channel])})
            if self.is_calm and not self.has_channels and self.random.random() < 0.05:
                self.beats += 1
                for way in self.live:
                    self.bring(way, '{"beat": 1}')
            for way in self.ways:
                is_left_out = self.now >= way.mute_from or way.skip[0] <= self.now < way.skip[1]
                if way.websocket.is_open and channel in way.subscribed and not is_left_out:
                    self.bring(way, frame)

    # What happens

    def interrupt(self, way: Way) -> None:
        """Note the time if no other sound connection is left when this one is lost or leaves something out."""
        if not any(each.is_sound(self.now) for each in self.ways if each is not way):
            self.unsafe.append(self.now)

    @property
    def live(self) -> list[Way]:
        """The open connections, the oldest first."""
        return [way for way in self.ways if way.websocket.is_open]

    def kill(self, way: Way) -> None:
        """End a connection."""
        self.interrupt(way)
        way.websocket.end()

    @property
    def end(self) -> float:
        """The seconds of this life in which messages are published."""
        return 3 * END if self.is_calm else END

    async def act(self) -> None:
        """Let happen what this kind of life is about."""
        choose = self.random
        await asyncio.sleep(choose.uniform(2.6, 4))
        if self.kind in ("mute", "skip", "behind"):
            way = choose.choice(self.live)
            if self.kind == "mute":
                self.interrupt(way)
                way.mute_from = self.now
            elif self.kind == "skip":
                self.interrupt(way)
                way.skip = self.now, self.now + choose.uniform(0.05, 0.4)
            await asyncio.sleep(choose.uniform(0.5, 4))
            if self.kind != "skip":
                self.kill(choose.choice(self.live))
        while self.now < self.end - 2:
            if self.kind in ("kills", "late", "rotations"):
                self.kill(choose.choice(self.live))
            if self.kind == "rotations":
                self.rotate()
            if self.kind == "both":
                for way in self.live[: choose.randint(2, 3)]:
                    self.kill(way)
                    await asyncio.sleep(choose.uniform(0, 0.006))
            if self.kind == "skip" and self.is_calm:
                way = choose.choice(self.live)
                self.interrupt(way)
                way.skip = self.now, self.now + choose.uniform(0.05, 0.4)
            pause = choose.uniform(0.4, 2.5) if self.kind != "both" else 3
            await asyncio.sleep(CALM + pause if self.is_calm else pause)

    async def run(self) -> Counter[str]:
        """Live this life, and return what is wrong with it."""
        async with self:
            acting = asyncio.create_task(self.act())
            await self.publish()
            await acting
            await asyncio.sleep(12)
        return self.judge()

    # The judge

    def judge(self) -> Counter[str]:
        """Return how often each rule was broken, and a few figures in lower case with a leading dash."""
        result: Counter[str] = Counter()
        seen: dict[str, set[int]] = defaultdict(set)
        newest: dict[str, int] = defaultdict(int)
        told: dict[str, set[int]] = defaultdict(set)
        for time, item in self.delivered:
            if isinstance(item, Gap):
                result["-gaps"] += 1
                for channel in CHANNELS:
                    told[channel].add(newest[channel])
                if not any(at - 0.1 <= time <= at + 6 for at in self.unsafe):
                    result["gap without cause"] += 1
                continue
            if "n" not in item:
                result["-beats"] += "beat" in item
                continue
            channel, number = item["c"], item["n"]
            result["twice"] += number in seen[channel]
            result["stepped back"] += number < newest[channel] and self.kind != "skip"
            seen[channel].add(number)
            newest[channel] = max(number, newest[channel])
        for channel, numbers in seen.items():
            for one, other in itertools.pairwise(sorted(numbers)):
                if other > one + 1 and one not in told[channel]:
                    result["lost"] += other - one - 1
            result["end is missing"] += max(numbers) < len(self.published[channel])
        if self.is_calm and abs(result["-beats"] - self.beats) > 2 * len(self.ways):
            result["beats"] += 1
        result["-messages"] += sum(map(len, seen.values()))
        return result


def live(kind: str, seed: int) -> Counter[str]:
    """Live one life in virtual time, and return what is wrong with it."""

    async def run() -> Counter[str]:
        return await Life(kind, seed).run()

    with asyncio.Runner(loop_factory=virtual_loop) as runner:
        return runner.run(run())


def main() -> bool:
    """Live many lives, print the figures, and return whether a rule was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.line_lives", description=__doc__)
    parser.add_argument("--count", type=int, default=70)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    is_bad = False
    for kind in [options.kind] if options.kind else KINDS:
        total: Counter[str] = Counter()
        for seed in range(options.seed, options.seed + max(1, options.count // (1 if options.kind else len(KINDS)))):
            result = live(kind, seed)
            total.update(result)
            broken = {rule: count for rule, count in result.items() if count and not rule.startswith("-")}
            if broken:
                is_bad = True
                print(f"{kind} {seed}: {broken}", flush=True)
        print(kind, {name.strip("-"): count for name, count in total.items() if count}, flush=True)
    return is_bad


if __name__ == "__main__":
    sys.exit(main())
