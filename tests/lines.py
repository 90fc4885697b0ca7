"""Kills the lines of a feed many times, and counts what is lost, what comes twice, and the gaps.

::

    python -m tests.lines --kills 200 [--seed 0] [--rate 2000] [--lines 2] [--alone] [--calm 1]

Each line is killed at a random moment while another line is joined; with ``--alone``, when it is the only joined line.
The connections lag by 0 to 60 ms, in virtual time. What the source published is compared with what the feed delivered.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import rxws
from rxws import Gap
from rxws.pytest_plugin import virtual_loop
from tests.support.life import ScriptedWebsocket
from tests.support.tally import Tally

__all__ = ["CHANNELS", "Result", "Source", "play"]

CHANNELS = "ABC"
STEP = 0.005
"""Seconds between two publications."""


@dataclass
class Result(Tally):
    """The result of the kills.

    Attributes:
        kills: the number of killed connections.
    """

    kills: int = 0
    seen: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set), repr=False)
    newest: dict[str, int] = field(default_factory=lambda: defaultdict(int), repr=False)
    excused: set[str] = field(default_factory=lambda: set(CHANNELS), repr=False)

    def take(self, item: Any) -> None:
        """Judge an item of the stream."""
        if isinstance(item, Gap):
            self.gaps += 1
            self.excused = set(CHANNELS)
            return
        channel, number = item["c"], item["n"]
        self.messages += 1
        self.twice += number in self.seen[channel]
        self.disordered += number < self.newest[channel]
        if channel not in self.excused:
            self.lost += max(0, number - self.newest[channel] - 1)
        self.excused.discard(channel)
        self.seen[channel].add(number)
        self.newest[channel] = max(number, self.newest[channel])


class Source(rxws.AsyncWebsocketStreamInterface[Any]):
    """A feed whose connections all bring the same numbered messages, each connection with its own lag."""

    def __init__(self, seed: int, rate: float, **options: Any) -> None:
        self.random = random.Random(seed)
        self.rate = rate
        self.numbers: dict[str, int] = defaultdict(int)
        self.opened: dict[ScriptedWebsocket, float] = {}
        super().__init__(reconnect_delays=lambda: iter([0.0] * 10**6), **options)

    async def _create_ws(self) -> ScriptedWebsocket:
        await asyncio.sleep(self.random.uniform(0, 0.1))
        websocket = ScriptedWebsocket()
        self.opened[websocket] = self.random.uniform(0, 0.06)
        return websocket

    async def _when2create_new_ws(self) -> None:
        await asyncio.get_running_loop().create_future()

    def _parse_raw_data(self, raw_data: str) -> Any:
        channel, number = raw_data.split()
        return {"c": channel, "n": int(number)}

    @property
    def live(self) -> list[ScriptedWebsocket]:
        """The connections that have not ended, the oldest first."""
        return [each for each in self.opened if each.is_open]

    async def publish(self) -> None:
        """Publish for ever."""
        loop, arrived = asyncio.get_running_loop(), defaultdict(float)
        while True:
            await asyncio.sleep(STEP)
            frames = []
            for _ in range(round(self.rate * STEP)):
                channel = self.random.choice(CHANNELS)
                self.numbers[channel] += 1
                frames.append(f"{channel} {self.numbers[channel]}")
            for websocket in self.live:
                lag = self.opened[websocket] + self.random.uniform(0, 0.004)
                arrived[websocket] = max(arrived[websocket], loop.time() + lag)
                loop.call_at(arrived[websocket], websocket.come, *frames)


async def until(condition: Any, timeout: float = 60.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


async def play(
    kills: int, *, seed: int = 0, rate: float = 2000, lines: int = 2, alone: bool = False, calm: float = 1
) -> Result:
    """Kill lines of a feed, and return what became of its messages.

    Args:
        kills: how many kills.
        seed: of all randomness.
        rate: messages a second.
        lines: the number of lines.
        alone: whether the only joined line is killed, instead of one of several.
        calm: the longest time between the joining of all lines and the next kill, in seconds. After about three seconds
            copies are dropped by their frames alone.
    """
    result = Result()
    async with Source(seed, rate, lines=lines) as ws:
        ws.stream_filter(gaps=True).subscribe(result.take)
        publishing = asyncio.create_task(ws.publish())
        for _ in range(kills):
            await until(lambda: all(each.is_joined for each in ws.statistics().lines) and len(ws.live) == lines)
            await asyncio.sleep(ws.random.uniform(0, calm))
            victims = ws.random.sample(ws.live, lines if alone else 1)
            for victim in victims:
                victim.end()
                await asyncio.sleep(ws.random.uniform(0, 0.01))
            result.kills += 1
        await until(lambda: all(each.is_joined for each in ws.statistics().lines) and len(ws.live) == lines)
        publishing.cancel()
        await asyncio.sleep(3)
        assert result.newest == ws.numbers
    return result


def main() -> bool:
    """Play, print the result, and return whether it is bad."""
    parser = argparse.ArgumentParser(prog="python -m tests.lines", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=2000)
    parser.add_argument("--lines", type=int, default=2)
    parser.add_argument("--calm", type=float, default=1, help="the longest time between two kills, in seconds")
    parser.add_argument("--alone", action="store_true", help="kill the only joined line")
    options = parser.parse_args()
    began = time.perf_counter()
    with asyncio.Runner(loop_factory=virtual_loop) as runner:
        result = runner.run(play(**vars(options)))
    print(f"{result} in {time.perf_counter() - began:.0f} s")
    return not result.is_sound or result.gaps != (options.kills if options.alone else 0)


if __name__ == "__main__":
    sys.exit(main())
