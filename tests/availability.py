"""``python -m tests.availability``: the share of the time that a feed is live although its server cuts repeatedly.

Each row takes two hours of virtual time. The exit code is 0 if all rows reach their requirements, otherwise 1.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from rxws import State
from rxws.pytest_plugin import virtual_loop

from .support.life import ScriptedFeed, ScriptedWebsocket

__all__ = ["LONGEST_HANDSHAKE", "ROWS", "Result", "Row", "measure"]

SECONDS: Final = 2 * 3600.0
"""The length of each row, in seconds of virtual time."""

LONGEST_HANDSHAKE: Final = 0.5
"""The longest handshake, in seconds; each handshake takes a random time up to this."""

INTERVAL: Final = 0.5
"""Seconds between two messages of the server. The seconds of service are a multiple of this."""


@dataclass(frozen=True, slots=True)
class Row:
    """The behaviour of a server, and the requirements for a feed.

    Attributes:
        service: seconds for which the server sends on each connection before it cuts the connection.
        least_live: the smallest share of the time that the feed must be live.
        least_pause: the smallest average number of seconds from one attempt to the next.
    """

    service: float
    least_live: float = 0.0
    least_pause: float = 0.0


ROWS: Final = (Row(5.0, 0.80), Row(20.0, 0.95), Row(29.0, 0.96), Row(0.0, least_pause=20.0))


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a row.

    Attributes:
        live: the share of the time that the feed was live.
        pause: seconds from one attempt to the next, on average.
    """

    live: float
    pause: float

    def reaches(self, row: Row) -> bool:
        """Return whether the result meets the requirements of the row."""
        return self.live >= row.least_live and self.pause >= row.least_pause


class _CutFeed(ScriptedFeed):
    """A feed whose server sends a message at once and then regularly, until it cuts the connection."""

    def __init__(self, service: float) -> None:
        super().__init__(recorded=False)
        self._service = service
        self._chance = random.Random(7)
        self._serving: set[asyncio.Task[None]] = set()

    async def _create_ws(self) -> ScriptedWebsocket:
        await asyncio.sleep(self._chance.uniform(0.0, LONGEST_HANDSHAKE))
        websocket: ScriptedWebsocket = await super()._create_ws()
        self.websockets.clear()
        task = asyncio.create_task(self._serve(websocket))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        return websocket

    async def _serve(self, websocket: ScriptedWebsocket) -> None:
        for _ in range(round(self._service / INTERVAL)):
            websocket.come("1")
            await asyncio.sleep(INTERVAL)
        websocket.end()

    async def stop_serving(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)


async def _live(row: Row) -> Result:
    loop, live, since = asyncio.get_running_loop(), 0.0, None

    def take(state: State) -> None:
        nonlocal live, since
        if since is not None:
            live += loop.time() - since
        since = loop.time() if state.is_live else None

    async with _CutFeed(row.service) as feed:
        feed.state.subscribe(take)
        await asyncio.sleep(SECONDS)
        attempts = feed.attempts
    await feed.stop_serving()
    return Result(live / SECONDS, SECONDS / attempts)


def measure(row: Row) -> Result:
    """Run a feed with the server of a row for two hours of virtual time. The result is the same each time."""
    state = random.getstate()
    random.seed(7)
    try:
        with asyncio.Runner(loop_factory=virtual_loop) as runner:
            return runner.run(_live(row))
    finally:
        random.setstate(state)


def _measure_all(rows: Iterable[Row]) -> int:
    are_reached = True
    for row in rows:
        result = measure(row)
        is_reached = result.reaches(row)
        are_reached = are_reached and is_reached
        required = f"live ≥ {row.least_live:.0%}" if row.least_live else f"an attempt in ≥ {row.least_pause:g} s"
        print(
            f"cut after {row.service:4g} s: live {result.live:6.1%} of the time, an attempt in {result.pause:5.1f} s"
            f"   {required:22} {'reached' if is_reached else 'NOT REACHED'}",
            flush=True,
        )
    return int(not are_reached)


def main(rows: Iterable[Row] = ROWS) -> int:
    """Measure all rows and print them; return the exit code."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        return _measure_all(rows)
    finally:
        logging.disable(level)


if __name__ == "__main__":
    sys.exit(main())
