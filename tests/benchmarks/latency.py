"""The time from the arrival of a message's bytes to its consumer. Lower is better.

The bytes have arrived when the event loop returns from its wait for the socket: at this moment the program can read
them. The kernel says how many bytes have arrived until then, so each message has its own moment, although one read
brings many.
"""

from __future__ import annotations

import asyncio
import gc
import selectors
import socket
import statistics
import struct
import time
from collections import deque
from typing import Any, Final
from urllib.parse import urlsplit

from .contenders import OPTIONS, Connect, Measure, Run, msgspec_decode, ready_made
from .frames import SYMBOLS, frame, order, trade

SECONDS: Final = 2
"""The length of one measurement."""

SIZE: Final = len(frame(trade(0).encode()))
"""The bytes of one message on the wire."""

_BYTES_RECEIVED: Final = 128
"""The offset of ``tcpi_bytes_received`` in Linux' ``struct tcp_info``: a number of eight bytes."""


class Arrivals:
    """Notes how long after the arrival of its bytes each message reaches its consumer."""

    def __init__(self, url: str, count: int) -> None:
        address = urlsplit(url)
        self.socket = socket.create_connection((address.hostname, address.port))
        self.socket.setblocking(False)
        self.finished = asyncio.Event()
        self._left = count
        self._waits: list[float] = []
        self._marks: deque[tuple[int, float]] = deque()
        self._offset = 0
        self._selector: Any = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
        self._select = self._selector.select

    def _received(self) -> int:
        """Return how many bytes have arrived on the connection so far."""
        info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        return int(struct.unpack_from("Q", info, _BYTES_RECEIVED)[0])

    def begin(self) -> None:
        """Watch the socket. Call this before the first message is sent."""
        self._offset = self._received()
        number = self.socket.fileno()

        def select(timeout: float | None = None) -> Any:
            events = self._select(timeout)
            now = time.perf_counter()
            for key, mask in events:
                if key.fd == number and mask & selectors.EVENT_READ:
                    self._marks.append((self._received(), now))
            return events

        self._selector.select = select
        gc.collect()

    def note(self, _message: Any = None) -> None:
        """Note that a message has reached its consumer."""
        marks = self._marks
        self._offset += SIZE
        while len(marks) > 1 and marks[0][0] < self._offset:
            marks.popleft()
        self._waits.append(time.perf_counter() - marks[0][1])
        self._left -= 1
        if not self._left:
            self.finished.set()

    @property
    def is_over(self) -> bool:
        """Whether all messages have arrived."""
        return not self._left

    def quantile(self, part: float) -> float:
        """End the watch, and return the wait that ``part`` of the messages do not exceed, in microseconds."""
        del self._selector.select
        return statistics.quantiles(self._waits, n=1_000, method="inclusive")[round(part * 1_000) - 1] * 1e6


def of_bare_loop(connect: Connect, rate: int, part: float) -> Measure:
    """Measure the wait until the body of a bare loop with msgspec, in microseconds."""

    async def measure(run: Run) -> float:
        count = rate * SECONDS
        arrivals = Arrivals(run.url, count)
        connection = await connect(run.url, sock=arrivals.socket, **OPTIONS)
        arrivals.begin()
        await connection.send(order(count, rate=rate))
        async for raw in connection:
            msgspec_decode(raw)
            arrivals.note()
            if arrivals.is_over:
                break
        wait = arrivals.quantile(part)
        await connection.close()
        return wait

    return measure


def of_handler(connect: Connect, rate: int, part: float) -> Measure:
    """Measure the wait until a handler of ``ReactiveWebSocket``, beside 1,000 streams, in microseconds."""

    async def measure(run: Run) -> float:
        count = rate * SECONDS
        arrivals = Arrivals(run.url, count)
        async with ready_made(connect, run.url, sock=arrivals.socket) as feed:
            streams = [feed.stream_filter([{"s": f"T{number:04}USDT"}]) for number in range(SYMBOLS)]
            feed.add_handler(arrivals.note)
            await feed.wait_connected()
            arrivals.begin()
            await feed.send(order(count, rate=rate))
            await arrivals.finished.wait()
            wait = arrivals.quantile(part)
            del streams
        return wait

    return measure
