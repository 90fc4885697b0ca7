"""Sends pre-built frames as fast as they are taken: ``python -m tests.benchmarks.server``."""

from __future__ import annotations

import argparse
import asyncio
import json
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection, serve

from rxws.testing import serve_until_told

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


async def send_frames(connection: ServerConnection) -> None:
    """Send as many frames as the query asks for (``?count=N``), at its ``rate`` a second or as fast as they go."""
    assert connection.request is not None
    query = parse_qs(urlsplit(connection.request.path).query)
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
            connection.transport.write(b"".join(FRAMES[first : first + step]))
            sent += min(step, SYMBOLS - first)
            await connection.drain()
        # Also lets the connection see its end.
        await asyncio.sleep(0.001 if rate else 0)
    await connection.wait_closed()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=600)
    arguments = parser.parse_args()
    asyncio.run(serve_until_told(_Server(), seconds=arguments.seconds))


class _Server:
    async def __aenter__(self) -> str:
        self._server = await serve(
            send_frames, "127.0.0.1", 0, compression=None, ping_interval=None, max_size=2**20, write_limit=2**20
        )
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"

    async def __aexit__(self, *_: object) -> None:
        self._server.close(close_connections=True)
        await self._server.wait_closed()


if __name__ == "__main__":
    main()
