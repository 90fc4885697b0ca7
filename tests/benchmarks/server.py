"""Sends pre-built frames when a client requests them: ``python -m tests.benchmarks.server``."""

from __future__ import annotations

import argparse
import asyncio
import json

from rxws.testing import FeedConnection, FeedServer, serve_until_told

from .frames import SYMBOLS, array, depth, frame, trade

LARGEST_WRITE = 200_000
"""The maximum number of bytes in one write."""

MAKERS = {make.__name__: make for make in (trade, array, depth)}

FRAMES = {kind: [frame(make(number).encode()) for number in range(SYMBOLS)] for kind, make in MAKERS.items()}


async def send_frames(connection: FeedConnection) -> None:
    """Send the frames that each order of a client requests (see :func:`tests.benchmarks.frames.order`)."""
    async for message in connection:
        await _carry_out(connection, **json.loads(message))


async def _carry_out(connection: FeedConnection, count: int, kind: str, rate: float, first: int | None) -> None:
    frames = FRAMES[kind]
    begin = first
    largest = min(LARGEST_WRITE // len(frames[0]), SYMBOLS)
    loop = asyncio.get_running_loop()
    started = loop.time()
    sent = 0
    while sent < count:
        due = min(count, int((loop.time() - started) * rate)) if rate else count
        first = sent % SYMBOLS
        step = min(due - sent, largest, SYMBOLS - first)
        if step > 0:
            if begin is None:
                connection.send_raw(b"".join(frames[first : first + step]))
            else:
                numbers = range(begin + sent, begin + sent + step)
                connection.send_raw(b"".join(frame(MAKERS[kind](number).encode()) for number in numbers))
            sent += step
            await connection.websocket.drain()
        # This also lets the connection notice its end.
        await asyncio.sleep(0.001 if rate else 0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600)
    arguments = parser.parse_args()
    server = FeedServer(send_frames, write_limit=2**20)
    asyncio.run(serve_until_told(server, seconds=arguments.seconds))


if __name__ == "__main__":
    main()
