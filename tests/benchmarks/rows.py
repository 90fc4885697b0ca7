"""What is compared with what, and what is to be reached."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reactivex import operators as ops
from reactivex.subject import Subject

from rxws.observables.hot import HotObservable
from rxws.observables.loop_context import LoopContext
from rxws.reporting.reporter import Reporter

from . import contenders
from .contenders import Contender, Feed

PAIRS = 5
"""How often each pair of contenders runs, one after the other; the median of the ratios counts."""


@dataclass(frozen=True)
class Result:
    """What a row measured.

    Attributes:
        value: the ratio, or the figure, that is to be reached.
        spread: the lowest and the highest.
        rates: what the ratio was made of, for the reader's orientation.
    """

    value: float
    spread: tuple[float, float]
    rates: str = ""


@dataclass(frozen=True)
class Row:
    """One row of the table. ``at_most``: whether less is better; a ``target`` of None: it is there for orientation."""

    name: str
    what: str
    against: str
    target: float | None
    measure: Callable[[str], Awaitable[Result]]
    at_most: bool = False
    unit: str = ""

    def is_reached(self, result: Result) -> bool:
        if self.target is None:
            return True
        return result.value <= self.target if self.at_most else result.value >= self.target


async def compare(url: str, ours: Contender, theirs: Contender, count: int, their_count: int | None = None) -> Result:
    """Return the ratio of two rates, medians over alternating pairs."""
    our_rates, their_rates = [], []
    for _ in range(PAIRS):
        their_rates.append(await theirs(url, their_count or count))
        our_rates.append(await ours(url, count))
    ratios = [our / their for our, their in zip(our_rates, their_rates, strict=True)]
    rates = f"{statistics.median(our_rates):,.0f} : {statistics.median(their_rates):,.0f} messages/s"
    return Result(statistics.median(ratios), (min(ratios), max(ratios)), rates)


def throughput(ours: Contender, theirs: Contender, count: int, their_count: int | None = None) -> Any:
    async def measure(url: str) -> Result:
        return await compare(url, ours, theirs, count, their_count)

    return measure


async def fan_out(_url: str) -> Result:
    """One message to 1,000 subscribers, through rxws and through reactivex.Subject."""
    loop = asyncio.get_running_loop()
    hot: HotObservable[int] = HotObservable(LoopContext.of(loop, Reporter(loop, "fan-out")))
    subject: Subject[int] = Subject()
    for _ in range(1_000):
        hot.subscribe(lambda _item: None)
        subject.subscribe(lambda _item: None)

    def seconds(emit: Callable[[int], None]) -> float:
        started = time.perf_counter()
        for number in range(300):
            emit(number)
        return time.perf_counter() - started

    ratios = []
    for _ in range(2 * PAIRS + 1):
        theirs = seconds(subject.on_next)
        ratios.append(theirs / seconds(hot.on_next))
    return Result(statistics.median(ratios), (min(ratios), max(ratios)))


async def stream_memory(url: str) -> Result:
    """Bytes per idle filtered stream."""
    count = 2_000
    async with Feed(contenders.on_websockets, f"{url}?count=0") as feed:
        figures = []
        for _ in range(3):
            gc.collect()
            tracemalloc.start()
            before, _ = tracemalloc.get_traced_memory()
            streams = [feed.stream_filter([{"s": f"S{number}"}]) for number in range(count)]
            gc.collect()
            after, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            figures.append((after - before) / count)
            del streams
            await asyncio.sleep(0)  # in which they are unregistered
    return Result(statistics.median(figures), (min(figures), max(figures)))


def resident_memory() -> int:
    """Return the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def memory_growth(connect: Any) -> Any:
    """Resident mebibytes after 5,000,000 messages less those after the first 500,000."""

    async def measure(url: str) -> Result:
        first, total = 500_000, 5_000_000
        async with Feed(connect, f"{url}?count={total}") as feed:
            for number in range(contenders.SYMBOLS):
                feed.stream_filter([{"s": f"S{number:04}USDT"}]).subscribe(lambda _message: None)
            await contenders.until_received(feed, first)
            gc.collect()
            before = resident_memory()
            await contenders.until_received(feed, total)
            gc.collect()
            growth = (resident_memory() - before) / 2**20
        return Result(growth, (growth, growth))

    return measure


async def churn(url: str) -> Result:
    """Time to create and close a stream among 10,000, against among 10."""

    async def seconds(feed: Feed) -> float:
        started = time.perf_counter()
        for number in range(2_000):
            await feed.stream_filter([{"s": f"T{number}"}]).close()
        return time.perf_counter() - started

    async with (
        Feed(contenders.on_websockets, f"{url}?count=0") as few,
        Feed(contenders.on_websockets, f"{url}?count=0") as many,
    ):
        kept = [few.stream_filter([{"s": f"S{number}"}]) for number in range(10)]
        kept += [many.stream_filter([{"s": f"S{number}"}]) for number in range(10_000)]
        ratios = []
        for _ in range(2 * PAIRS + 1):
            among_few = await seconds(few)
            ratios.append(await seconds(many) / among_few)
    return Result(statistics.median(ratios), (min(ratios), max(ratios)))


def longest_wait(connect: Any) -> Any:
    """Milliseconds that another task waits at most in a burst of 1,000,000 messages, the first of them included."""

    async def measure(url: str) -> Result:
        figures = []
        for _ in range(3):
            longest = 0.0
            async with Feed(connect, f"{url}?count=1000000") as feed:
                for number in range(contenders.SYMBOLS):
                    feed.stream_filter([{"s": f"S{number:04}USDT"}]).subscribe(lambda _message: None)
                while feed.statistics().messages < 1_000_000:
                    started = time.perf_counter()
                    await asyncio.sleep(0)
                    longest = max(longest, time.perf_counter() - started)
            figures.append(longest * 1000)
        return Result(statistics.median(figures), (min(figures), max(figures)))

    return measure


def latency(rate: int) -> Any:
    """Microseconds from the arrival of the bytes to the handler, beside those to the body of the bare loop."""

    async def measure(url: str) -> Result:
        ours, theirs = [], []
        for _ in range(PAIRS):
            theirs.append(await contenders.bare_latencies(url, rate))
            ours.append(await contenders.handler_latencies(url, rate))
        (our_median, our_last), (their_median, their_last) = (
            tuple(statistics.median(figures) * 1e6 for figures in zip(*runs, strict=True)) for runs in (ours, theirs)
        )
        ratios = [our[0] / their[0] for our, their in zip(ours, theirs, strict=True)]
        return Result(
            statistics.median(ratios),
            (min(ratios), max(ratios)),
            f"median {our_median:.0f} : {their_median:.0f} µs, 99th percentile {our_last:.0f} : {their_last:.0f} µs",
        )

    return measure


def with_subject(connect: Any) -> Contender:
    """Make the Rx way by hand: a Subject, and ``ops.filter`` per stream."""

    async def receive(url: str, count: int) -> float:
        subject: Subject[Any] = Subject()
        for number in range(contenders.SYMBOLS):
            symbol = f"S{number:04}USDT"
            subject.pipe(ops.filter(lambda message, symbol=symbol: message["s"] == symbol)).subscribe(lambda _m: None)
        connection = await connect(f"{url}?count={count}", **contenders.OPTIONS)
        started = time.perf_counter()
        left = count
        async for frame in connection:
            subject.on_next(contenders.msgspec_decode(frame))
            left -= 1
            if not left:
                break
        rate = count / (time.perf_counter() - started)
        await connection.close()
        return rate

    return receive


async def against_the_replaced(url: str) -> Result:
    """What the user's program does today."""
    return await compare(url, contenders.subscribed(contenders.on_websockets), contenders.replaced(), 100_000, 500)


ROWS = [
    Row(
        "websockets",
        "messages/s through parse, index and one matching subscriber of 1,000 streams, on websockets",
        "bare ``async for`` + ``json.loads`` on websockets",
        1.0,
        throughput(
            contenders.subscribed(contenders.on_websockets),
            contenders.bare(contenders.on_websockets, contenders.json_loads),
            150_000,
        ),
    ),
    Row(
        "websockets-msgspec",
        "the same",
        "the same bare loop with msgspec",
        0.85,
        throughput(
            contenders.subscribed(contenders.on_websockets),
            contenders.bare(contenders.on_websockets, contenders.msgspec_decode),
            150_000,
        ),
    ),
    Row(
        "picows",
        "the same on picows",
        "bare ``async for`` on picows with msgspec",
        0.5,
        throughput(
            contenders.subscribed(contenders.on_picows),
            contenders.bare(contenders.on_picows, contenders.msgspec_decode),
            500_000,
            1_000_000,
        ),
    ),
    Row(
        "iterated",
        "consumed by 1,000 ``async for`` tasks, on picows",
        "the same",
        0.25,
        throughput(
            contenders.iterated(contenders.on_picows),
            contenders.bare(contenders.on_picows, contenders.msgspec_decode),
            300_000,
            1_000_000,
        ),
    ),
    Row(
        "disjoint",
        "messages/s with 10,000 disjoint streams",
        "with 1 stream",
        0.9,
        throughput(
            contenders.routed(contenders.on_picows, 10_000), contenders.routed(contenders.on_picows, 1), 500_000
        ),
    ),
    Row(
        "disjoint-100000",
        "messages/s with 100,000 disjoint streams",
        "with 1 stream",
        0.9,
        throughput(
            contenders.routed(contenders.on_picows, 100_000), contenders.routed(contenders.on_picows, 1), 500_000
        ),
    ),
    Row(
        "shared-pair",
        'messages/s with 1,000 streams of ``{"e": "trade", "s": …}``',
        'of ``{"s": …}``',
        None,
        throughput(
            contenders.subscribed(contenders.on_picows, shared={"e": "trade"}),
            contenders.subscribed(contenders.on_picows),
            500_000,
        ),
    ),
    Row(
        "transports",
        "messages/s through 1,000 streams on picows",
        "the same feed on websockets",
        None,
        throughput(
            contenders.subscribed(contenders.on_picows),
            contenders.subscribed(contenders.on_websockets),
            500_000,
            150_000,
        ),
    ),
    Row("fan-out", "fan-out of one message to 1,000 subscribers", "``reactivex.Subject``", 1.5, fan_out),
    Row("memory", "memory per idle filtered stream", "", 2048, stream_memory, at_most=True, unit=" bytes"),
    Row(
        "growth",
        "resident memory after 5,000,000 messages",
        "after the first 500,000",
        5.0,
        memory_growth(contenders.on_websockets),
        at_most=True,
        unit=" MiB",
    ),
    Row(
        "growth-picows",
        "the same on picows, with a receive buffer of 256 KiB",
        "the same",
        5.0,
        memory_growth(contenders.on_picows_bounded),
        at_most=True,
        unit=" MiB",
    ),
    Row("churn", "creating and closing a stream among 10,000", "among 10", 2.0, churn, at_most=True),
    Row(
        "fairness",
        "longest time that another task waits in a burst of 1,000,000 messages, on websockets",
        "",
        25.0,
        longest_wait(contenders.on_websockets),
        at_most=True,
        unit=" ms",
    ),
    Row(
        "fairness-picows", "the same on picows", "", 25.0, longest_wait(contenders.on_picows), at_most=True, unit=" ms"
    ),
    Row(
        "latency-1000",
        "from the arrival of the bytes to a handler at 1,000 messages/s, median",
        "to the body of the bare loop",
        None,
        latency(1_000),
        at_most=True,
    ),
    Row("latency-50000", "the same at 50,000 messages/s", "the same", None, latency(50_000), at_most=True),
    Row(
        "subject",
        "1,000 streams on websockets",
        "a ``Subject`` with ``ops.filter`` per stream",
        1.0,
        throughput(
            contenders.subscribed(contenders.on_websockets), with_subject(contenders.on_websockets), 100_000, 3_000
        ),
    ),
    Row(
        "replaced",
        "1,000 streams on websockets",
        "AsyncWebsocketStreamInterface 1.0.5 (its code on today's websockets)",
        1.0,
        against_the_replaced,
    ),
]
