"""Cuts a resuming feed of the demo exchange many times, and counts what is lost, what is delivered twice, and the gaps.

::

    python -m tests.resuming --cuts 500 [--seed 0] [--rate 5000] [--way url]

The exchange is cut at random moments, for random times, in virtual time. What it published is compared with what the
feed delivered; the comparison knows only the numbers of the exchange's messages.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import random
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import rxws
from rxws import Gap, Resumed, demo

from .support.cuts import parse_cuts, timed
from .support.tally import Tally

__all__ = ["WAYS", "Result", "play"]


@dataclass
class Result(Tally):
    """The result of the cuts.

    Attributes:
        cuts: the number of times that the exchange cut all connections.
        behind_gaps: published messages that did not arrive and that a gap in their place reports.
        resumed: losses after which the feed resumed.
    """

    cuts: int = 0
    behind_gaps: int = 0
    resumed: int = 0
    seen: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int), repr=False)
    told: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int), repr=False)
    in_place: int = field(default=0, repr=False)

    def take(self, item: Any) -> None:
        """Judge an item of the stream."""
        if isinstance(item, Gap):
            self.in_place += 1
            return
        if "n" not in item:
            return
        channel, number = (item["e"], item["s"]), item["n"]
        self.messages += 1
        last = self.seen[channel]
        if number <= last:
            self.twice += number == last
            self.disordered += number < last
            return
        missing = number - last - 1
        if self.told[channel] < self.in_place:
            self.told[channel] = self.in_place
            self.behind_gaps += missing
        else:
            self.lost += missing
        self.seen[channel] = number


def key_of(message: Any) -> tuple[str, str]:
    """Return the key of a message. The exchange numbers the messages of each key separately."""
    return message["e"], message["s"]


Connect = Callable[[demo.DemoExchange], rxws.ReactiveWebSocket[Any]]


def by_url(exchange: demo.DemoExchange) -> rxws.ReactiveWebSocket[Any]:
    """Resume with a cursor in the URL. The replay begins with the cursor's own message."""

    def url(cursor: int | None) -> str:
        return f"{exchange}?cursor={'' if cursor is None else cursor}"

    return rxws.ReactiveWebSocket(url, resume=True, cursor="c", reconnect_delays=lambda: iter([0.0] * 10**6))


def by_subscription(exchange: demo.DemoExchange) -> rxws.ReactiveWebSocket[Any]:
    """Resume with a cursor in each subscription, and with numbers. The replay begins after the cursor's message."""
    exchange.replays_cursor = False
    ws = rxws.ReactiveWebSocket[Any](
        f"{exchange.stream_url}?cursor=",
        resume=True,
        cursor="c",
        sequence="n",
        key=key_of,
        reconnect_delays=lambda: iter([0.0] * 10**6),
    )
    for channel in exchange.channels:
        symbol, kind = channel.split("@")
        event = {"depth": "depthUpdate"}.get(kind, kind)

        def subscribe(cursor: int | None, channel: str = channel) -> dict[str, Any]:
            return {"method": "SUBSCRIBE", "params": [channel], "id": channel, "cursor": cursor}

        ws.multiplex(
            subscribe, filters=[{"e": event, "s": symbol.upper()}], acknowledged=[{"id": channel, "result": None}]
        ).subscribe(lambda _: None)
    return ws


def by_session(exchange: demo.DemoExchange) -> rxws.ReactiveWebSocket[Any]:
    """Resume a session. The exchange states that it has sent all missed messages again."""
    session = ""

    def note(message: Any) -> None:
        nonlocal session
        session = message["session"]

    def url(cursor: int | None) -> str:
        base = exchange.url.removesuffix("/ws") + "/session"
        return base if cursor is None else f"{base}?id={session}&cursor={cursor}"

    ws = rxws.ReactiveWebSocket[Any](
        url,
        resume=[{"op": "resumed"}],
        cursor="c",
        per_connection=[{"op": "hello"}],
        reconnect_delays=lambda: iter([0.0] * 10**6),
    )
    ws.stream_filter([{"op": "hello"}]).subscribe(note)
    return ws


WAYS: dict[str, Connect] = {"url": by_url, "subscription": by_subscription, "session": by_session}
"""The ways to resume, each with the function that makes a feed."""


async def play(way: str, cuts: int, *, seed: int = 0, rate: float = 5_000, forgets: bool = False) -> Result:
    """Let the exchange cut its connections repeatedly, and judge the messages that the feed delivers.

    Args:
        way: how the feed resumes.
        cuts: the number of cuts.
        seed: the same seed gives the same cuts.
        rate: messages a second.
        forgets: whether the exchange forgets all messages at each cut.
    """
    rng, result = random.Random(f"{way} {seed}"), Result()
    async with living(way, rate, result) as exchange:
        for _ in range(cuts):
            await asyncio.sleep(rng.uniform(0.05, 0.5))
            if forgets:
                exchange.forget()
                # Delay the next connection, so that messages are missed.
                exchange.slow(rng.uniform(0.1, 0.4))
            await exchange.cut()
            result.cuts += 1
            if forgets:
                await asyncio.sleep(2)
                continue
            if rng.random() < 0.3:
                exchange.refuse(503, times=rng.randrange(1, 3))
            if rng.random() < 0.2:
                exchange.slow(rng.uniform(0.05, 0.5))
        await asyncio.sleep(3)
    return result


@asynccontextmanager
async def living(way: str, rate: float, result: Result) -> AsyncIterator[demo.DemoExchange]:
    """Connect a feed to an exchange, and judge the messages that it delivers."""
    async with demo.serve(symbols=demo.SYMBOLS[:3], rate=rate, start=0) as exchange, WAYS[way](exchange) as ws:

        def count(event: Any) -> None:
            result.gaps += isinstance(event, Gap)
            result.resumed += isinstance(event, Resumed)

        ws.events.subscribe(count)
        ws.stream_filter(gaps=True).subscribe(result.take)
        await ws.wait_connected()
        yield exchange


def main() -> int:
    """Play, and print the results. Return 1 if a message was lost without a gap, arrived twice, or was out of order."""
    options, is_sound = parse_cuts("tests.resuming", WAYS, cuts=500, rate=5_000), True
    for way, forgets in itertools.product(options.ways, (False, True)):
        cuts = options.cuts if not forgets else max(1, options.cuts // 10)
        result, took = timed(functools.partial(play, way, cuts, seed=options.seed, rate=options.rate, forgets=forgets))
        expected = result.cuts if forgets else 0
        is_right = result.is_sound and result.gaps == expected
        is_sound = is_sound and is_right
        wrong = "" if is_right else f" - WRONG, expected {expected} gaps"
        print(f"{way}{', forgets' if forgets else ''}: {result} {took}{wrong}", flush=True)
    return not is_sound


if __name__ == "__main__":
    sys.exit(main())
