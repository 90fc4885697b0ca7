"""A worker that stores what it has processed, with its position, in one transaction; a test kills it."""

from __future__ import annotations

import asyncio
import sqlite3
import sys

import rxws


async def work(url: str, path: str) -> None:
    """Process messages until the process is killed."""
    table = sqlite3.connect(path)
    table.execute("PRAGMA journal_mode = WAL")
    table.execute("PRAGMA synchronous = NORMAL")
    table.execute("CREATE TABLE IF NOT EXISTS results (position INTEGER PRIMARY KEY, number INTEGER)")
    [last] = table.execute("SELECT max(position) FROM results").fetchone()
    async with rxws.nats.NatsFeed(url, start="all" if last is None else last + 1) as ws:
        async for message in ws.stream_filter([{"e": "trade"}], maxsize=None):
            with table:
                # A position that is in the table already would raise IntegrityError.
                table.execute("INSERT INTO results VALUES (?, ?)", (ws.position_of(message), message["n"]))


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2]))
