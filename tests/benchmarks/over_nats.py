"""Figures of the relay and the feed over NATS JetStream, with their own server."""

from __future__ import annotations

import asyncio
import gc
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil

import rxws

from ..nats.server import NatsServer
from .contenders import Connect, Countdown, Measure, Run, on_websockets, ready_made
from .frames import order
from .profiling import window

RATE = 15_000
"""Messages a second. With a higher rate they would wait in the relay, or in the server."""

HELD = 100_000
"""The messages that a relay holds while its broker is dead."""

LATENCY_RATE = 1_000
LATENCY_SECONDS = 10


@asynccontextmanager
async def server() -> AsyncIterator[NatsServer]:
    """A running server."""
    with tempfile.TemporaryDirectory() as folder:
        running = NatsServer(Path(folder))
        running.start()
        try:
            yield running
        finally:
            running.kill()


def relayed(connect: Connect, count: int) -> Measure:
    """Make a contender: a feed and its relay; a message counts when the broker has acknowledged it."""

    async def measure(run: Run) -> float:
        total = run.scaled(count)
        async with (
            server() as nats,
            ready_made(connect, run.url) as ws,
            rxws.nats.relay(ws, nats.url, maxsize=10**6) as relay,
        ):
            await _relay(ws, relay, total // 5)
            gc.collect()
            started = time.process_time()
            with window():
                await _relay(ws, relay, total)
            assert not relay.dropped
            return (time.process_time() - started) / total * 1e6

    return measure


async def _relay(ws: Any, relay: rxws.nats.Relay, count: int) -> None:
    """Order messages, and wait until the broker has acknowledged them."""
    published = relay.published + count
    await ws.send(order(count, rate=RATE))
    while relay.published < published:
        await asyncio.sleep(0.05)


def read(count: int, *, headers: bool = True, filters: Any = None) -> Measure:
    """Make a contender: a NatsFeed with one handler that catches up with a stream.

    Args:
        count: the number of messages.
        headers: whether they have the headers of a relay, or only an id.
        filters: the filter of the handler.
    """

    async def measure(run: Run) -> float:
        total = run.scaled(count)
        async with server() as nats:
            await _publish(nats.url, total, headers)
            countdown = Countdown()
            countdown.left = total
            async with rxws.nats.NatsFeed(nats.url, start="all") as ws:
                warm = asyncio.get_running_loop().create_future()

                def take(message: Any) -> None:
                    countdown.take(message)
                    if countdown.left == total * 4 // 5:
                        warm.set_result(time.process_time())

                ws.add_handler(take, filters)
                began = await warm
                with window():
                    ended = await countdown.finished
                return (ended - began) / (total * 4 / 5) * 1e6

    return measure


async def _publish(url: str, count: int, headers: bool) -> None:
    """Fill a stream with messages like those of a relay."""
    import nats

    from .frames import trade

    client = await nats.connect(url)
    try:
        await client.jetstream().add_stream(name="rxws", subjects=["rx.>", "_rx.>"])
        answers = 0
        room = asyncio.Event()

        async def answered(_message: Any) -> None:
            nonlocal answers
            answers += 1
            room.set()

        inbox = client.new_inbox()
        await client.subscribe(f"{inbox}.*", cb=answered, pending_msgs_limit=0, pending_bytes_limit=0)
        payloads = [trade(number % 1000).encode() for number in range(1000)]
        for number in range(count):
            while number - answers >= 1000:
                room.clear()
                await room.wait()
            head = {"Nats-Msg-Id": f"bench.{number}"}
            if headers:
                head["Rxws-From"] = f"bench 1 {time.time_ns()}"
            subject = f"rx.trade.T{number % 1000:04}USDT"
            await client.publish(subject, payloads[number % 1000], reply=f"{inbox}.{number}", headers=head)
        while answers < count:
            await asyncio.sleep(0.01)
    finally:
        await client.close()


def added_latency(share: float) -> Measure:
    """Measure the time from a handler of the captured feed to one of a NatsFeed, at 1,000 messages a second.

    Args:
        share: the share of messages that are at most as late as the result, which is in milliseconds.
    """

    async def measure(run: Run) -> float:
        count = LATENCY_RATE * LATENCY_SECONDS
        here: list[float] = []
        there: list[float] = []
        async with server() as nats, ready_made(on_websockets, run.url) as ws, rxws.nats.relay(ws, nats.url) as relay:
            while not relay.is_connected:
                await asyncio.sleep(0.05)
            async with rxws.nats.NatsFeed(nats.url, start="all") as far:
                ws.add_handler(lambda _: here.append(time.perf_counter()))
                far.add_handler(lambda _: there.append(time.perf_counter()))
                await far.wait_connected()
                await asyncio.sleep(1)
                await ws.send(order(count, rate=LATENCY_RATE))
                async with asyncio.timeout(60):
                    while len(there) < count:
                        await asyncio.sleep(0.05)
        # The first second warms up.
        waits = [far - near for near, far in zip(here, there, strict=True)][LATENCY_RATE:]
        return statistics.quantiles(waits, n=1000)[round(share * 1000) - 1] * 1e3

    return measure


async def held_memory(run: Run) -> float:
    """Measure the resident memory, in MiB, that a relay needs for 100,000 held messages."""
    process = psutil.Process()
    async with server() as nats, ready_made(on_websockets, run.url) as ws, rxws.nats.relay(ws, nats.url) as relay:
        await ws.send(order(20_000, rate=RATE))
        while relay.published < 20_000:
            await asyncio.sleep(0.05)
        nats.kill()
        gc.collect()
        before = process.memory_info().rss
        await ws.send(order(HELD, rate=RATE))
        while relay.pending < HELD:
            await asyncio.sleep(0.05)
        gc.collect()
        grown = process.memory_info().rss - before
        nats.start()
    return grown / 2**20
