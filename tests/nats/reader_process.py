"""A reader that a test freezes: it prints the number of each message, and -1 for each Gap, when its input ends."""

from __future__ import annotations

import asyncio
import sys

import rxws


async def read(url: str) -> None:
    """Collect numbers until the standard input ends; print one line when the first message has arrived."""
    found: list[int] = []

    async def collect(ws: rxws.nats.NatsFeed[dict[str, int]]) -> None:
        async for entry in ws.stream_filter(gaps=True, maxsize=None):
            if not found:
                print("first", flush=True)
            found.append(-1 if isinstance(entry, rxws.Gap) else entry["n"])

    async with rxws.nats.NatsFeed(url, start="all") as ws:
        collecting = asyncio.create_task(collect(ws))
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        collecting.cancel()
    print(*found)


if __name__ == "__main__":
    asyncio.run(read(sys.argv[1]))
