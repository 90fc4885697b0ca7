"""Sends pre-built frames as fast as they are taken: ``python -m tests.benchmarks.server``."""

from __future__ import annotations

import argparse
import asyncio
import json
from urllib.parse import parse_qs, urlsplit

from rxws.testing import FeedConnection, FeedServer, serve_until_told

SYMBOLS = 1_000
PAYLOAD_SIZE = 150
LARGEST_WRITE = 1_000


def trade(number: int) -> str:
    """Return one of the trades: 150 bytes of JSON, one of 1,000 symbols."""
    symbol = f"S{number % SYMBOLS:04}USDT"
    message = {"e": "trade", "s": symbol, "t": number, "p": "27123.45", "q": "0.01830", "T": 1790000000000 + number}
    text = json.dumps(message, separators=(",", ":"))
    return text[:-1] + ',"x":"' + "-" * (PAYLOAD_SIZE - len(text) - len(',"x":""')) + '"}'


def frame(payload: bytes) -> bytes:
    """Return an unmasked text frame (RFC 6455 §5.2) of a payload of 126 to 65,535 bytes."""
    return b"\x81\x7e" + len(payload).to_bytes(2, "big") + payload


FRAMES = [frame(trade(number).encode()) for number in range(SYMBOLS)]


async def send_frames(connection: FeedConnection) -> None:
    """Send as many frames as the query asks for (``?count=N``), at its ``rate`` a second or as fast as they go."""
    query = parse_qs(urlsplit(connection.path).query)
    count = int(query["count"][0])
    rate = float(query.get("rate", ["0"])[0])
    loop = asyncio.get_running_loop()
    started = loop.time()
    sent = 0
    while sent < count:
        due = min(count, int((loop.time() - started) * rate)) if rate else count
        step = min(due - sent, LARGEST_WRITE)
        if step > 0:
            first = sent % SYMBOLS
            connection.send_raw(b"".join(FRAMES[first : first + step]))
            sent += min(step, SYMBOLS - first)
            await connection.websocket.drain()
        # Also lets the connection see its end.
        await asyncio.sleep(0.001 if rate else 0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600)
    arguments = parser.parse_args()
    server = FeedServer(send_frames, write_limit=2**20)
    asyncio.run(serve_until_told(server, seconds=arguments.seconds))


if __name__ == "__main__":
    main()
