"""Cuts a feed of the demo exchange many times, fills the holes from its history, and counts lost and doubled trades.

::

    python -m tests.backfilling --cuts 200 [--seed 0] [--rate 1000] [--way number]

The exchange is cut at random moments, for random times, in virtual time. What it published is compared with what
``backfill`` delivered; the comparison knows only the numbers of the exchange's messages.
"""

from __future__ import annotations

import asyncio
import functools
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import rxws
from rxws import Gap, demo

from .support.cuts import parse_cuts, timed

__all__ = ["WAYS", "Result", "play"]

WAYS = ("number", "time", "lacking")
"""How the history is asked: by number, by time, and by number if the history lacks single trades."""


@dataclass
class Result:
    """The result of the cuts.

    Attributes:
        cuts: the number of times that the exchange cut all connections.
        losses: gaps of the feed.
        lost: trades that did not arrive and that no gap in their place reports.
        behind_gaps: trades that did not arrive and that a gap in their place reports.
        twice: trades that arrived twice.
        disordered: trades that arrived after a later one of their symbol.
        gaps: gaps among the messages.
        needless: gaps at which nothing is missing.
        messages: trades that arrived.
        requests: requests to the history.
    """

    cuts: int = 0
    losses: int = 0
    lost: int = 0
    behind_gaps: int = 0
    twice: int = 0
    disordered: int = 0
    gaps: int = 0
    needless: int = 0
    messages: int = 0
    requests: int = 0
    seen: Counter[str] = field(default_factory=Counter, repr=False)
    has_gap: bool = field(default=False, repr=False)

    def take(self, item: Any) -> None:
        """Judge an item."""
        if isinstance(item, Gap):
            self.gaps += 1
            self.needless += self.has_gap
            self.has_gap = True
            return
        symbol, number = item["s"], item["n"]
        self.messages += 1
        last, self.seen[symbol] = self.seen[symbol], max(number, self.seen[symbol])
        missing = number - last - 1
        if missing < 0:
            self.twice += number == last
            self.disordered += number < last
        elif self.has_gap:
            self.behind_gaps += missing
            self.needless += not missing
        else:
            self.lost += missing
        self.has_gap = False

    @property
    def is_sound(self) -> bool:
        """Whether no trade was lost without a gap, arrived twice, or was out of order, and no gap was needless."""
        return not (self.lost or self.twice or self.disordered or self.needless)


async def play(way: str, cuts: int, *, seed: int = 0, rate: float = 1_000) -> Result:
    """Let the exchange cut its connections repeatedly, and judge what ``backfill`` delivers.

    Args:
        way: one of ``WAYS``.
        cuts: the number of cuts.
        seed: the same seed gives the same cuts.
        rate: messages a second, of which half are trades.
    """
    rng, result = random.Random(f"{way} {seed}"), Result()
    async with demo.serve(symbols=demo.SYMBOLS[:3], rate=rate, start=0, seed=seed) as exchange:
        by = "time" if way == "time" else "number"

        async def history(symbol: str, after: int | None, before: int | None) -> AsyncIterator[list[Any]]:
            cursor = after or 0
            bound = "" if before is None else f"&before={before}"
            while True:
                result.requests += 1
                path = f"/trades?symbol={symbol}&by={by}&after={cursor}{bound}&limit=500"
                page = await exchange.get_json(path)
                yield page
                if len(page) < min(500, exchange.trades.page):
                    return
                cursor = page[-1]["T" if by == "time" else "n"]

        async with rxws.ReactiveWebSocket[Any](exchange, reconnect_delays=lambda: iter([0.0] * 10**6)) as ws:
            ws.events.subscribe(lambda event: setattr(result, "losses", result.losses + isinstance(event, Gap)))
            trades = ws.stream_filter([{"e": "trade"}])
            sequence = "T" if by == "time" else "n"
            backfilled = trades.backfill(history, sequence=sequence, key="s", contiguous=by == "number")
            backfilled.subscribe(result.take)
            await ws.wait_connected()
            for _ in range(cuts):
                await ws.wait_connected()
                await asyncio.sleep(rng.uniform(0.05, 2.0))
                _disturb(exchange, rng)
                before = exchange.numbers
                await exchange.cut()
                result.cuts += 1
                if rng.random() < 0.3:
                    exchange.refuse(503, times=rng.randrange(1, 3))
                exchange.slow(rng.uniform(0.0, 1.0))
                if way == "lacking":
                    await _lack(exchange, rng, before)
            exchange.trades.behind = 0
            async with asyncio.timeout(60):
                while not backfilled.in_sync:
                    await asyncio.sleep(0.1)
    return result


def _disturb(exchange: demo.DemoExchange, rng: random.Random) -> None:
    """Change the faults of the history."""
    trades = exchange.trades
    trades.delay = rng.choice([0.0, 0.01, 0.2])
    trades.behind = rng.choice([0, 0, 3, 20])
    trades.page = rng.choice([20, 100, 1_000])
    trades.takes_before = rng.random() < 0.7
    if rng.random() < 0.1:
        trades.fail(rng.randrange(1, 4), status=rng.choice([429, 503]))


async def _lack(exchange: demo.DemoExchange, rng: random.Random, before: dict[str, int]) -> None:
    """Leave one trade that the feed misses out of the history, and wait until the hole is given up."""
    symbol = rng.choice(exchange.market.symbols)
    exchange.slow(0.5)
    exchange.trades.omit(symbol, before[f"{symbol.lower()}@trade"] + rng.randrange(3, 10))
    await asyncio.sleep(40)


def main() -> int:
    """Play, and print the results. Return 1 if one is not sound."""
    options, is_sound = parse_cuts("tests.backfilling", WAYS, cuts=200, rate=1_000), True
    for way in options.ways:
        cuts = max(1, options.cuts // 10) if way == "lacking" else options.cuts
        result, took = timed(functools.partial(play, way, cuts, seed=options.seed, rate=options.rate))
        is_right = result.is_sound and (result.gaps == cuts if way == "lacking" else not result.gaps)
        is_sound = is_sound and is_right
        print(f"{way}: {result} {took}{'' if is_right else ' - WRONG'}", flush=True)
    return not is_sound


if __name__ == "__main__":
    sys.exit(main())
