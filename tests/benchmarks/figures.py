"""Other costs: memory, waits, latency, fan-out. Lower is better."""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reactivex.subject import Subject

import rxws

from .contenders import Connect, Feed, Measure, Run, on_websockets, ready_made
from .frames import SYMBOLS, order, symbol

FANS = 1_000
"""The number of subscribers that receive each message."""


def _microseconds(emit: Callable[[Any], object], count: int = 300) -> float:
    emit(0)
    gc.collect()
    started = time.process_time()
    for number in range(count):
        emit(number)
    return (time.process_time() - started) / count * 1e6


async def fan_out(run: Run) -> float:
    """Return the processor time of one message to 1,000 subscribers of a hot Observable of rxws, in microseconds."""
    async with Feed(on_websockets, run.url) as feed:
        # Items are emitted by `messages` itself, without parsing and routing. No public name does that.
        messages: Any = feed.messages
        for _ in range(FANS):
            messages.subscribe(lambda _item: None)
        # Older checkouts, which --compare measures, call it `emit`.
        return _microseconds(messages.on_next if hasattr(type(messages), "on_next") else messages.emit)


async def fan_out_of_subject(_run: Run) -> float:
    """Return the processor time of one message to 1,000 subscribers of a ``reactivex.Subject``, in microseconds."""
    subject: Subject[int] = Subject()
    for _ in range(FANS):
        subject.subscribe(lambda _item: None)
    return _microseconds(subject.on_next)


async def stream_memory(run: Run) -> float:
    """Return the memory of one idle filtered stream, in bytes."""
    count = 2_000
    async with Feed(on_websockets, run.url) as feed:
        # The first streams create objects that all streams share.
        kept = [feed.stream_filter([{"s": symbol(number)}]) for number in range(10)]
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        kept += [feed.stream_filter([{"s": f"T{number}"}]) for number in range(count)]
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        del kept
    return (after - before) / count


def _resident_memory() -> int:
    """Return the resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _subscribe_all(feed: Feed) -> None:
    for number in range(SYMBOLS):
        feed.stream_filter([{"s": symbol(number)}]).subscribe(lambda _message: None)


def held_depth(count: int) -> Measure:
    """Measure the resident memory of depth messages that wait in one stream, in megabytes."""

    async def measure(run: Run) -> float:
        total = run.scaled(count)
        async with ready_made(on_websockets, run.url) as feed:
            stream = feed.stream_filter([{"e": "depthUpdate"}])
            gc.collect()
            before = _resident_memory()
            await feed.send(order(total, "depth"))
            while stream.pending < total:
                await asyncio.sleep(0.01)
            gc.collect()
            return (_resident_memory() - before) / 1e6

    return measure


def memory_growth(connect: Connect) -> Measure:
    """Measure the resident memory after 5,000,000 messages minus that after the first 500,000, in mebibytes."""

    async def measure(run: Run) -> float:
        figures = []
        received = 0
        async with Feed(connect, run.url) as feed:
            _subscribe_all(feed)
            for count in (run.scaled(500_000), run.scaled(4_500_000)):
                received += count
                await feed.send(order(count))
                while feed.statistics().messages < received:
                    await asyncio.sleep(0.01)
                gc.collect()
                figures.append(_resident_memory())
        return (figures[1] - figures[0]) / 2**20

    return measure


def churn(streams: int) -> Measure:
    """Measure the processor time to create and close a stream among ``streams`` others, in microseconds."""

    async def measure(run: Run) -> float:
        async with Feed(on_websockets, run.url) as feed:
            kept = [feed.stream_filter([{"s": symbol(number), "n": number}]) for number in range(streams)]
            figures = []
            for _ in range(5):
                gc.collect()
                started = time.process_time()
                for number in range(2_000):
                    await feed.stream_filter([{"s": "T", "n": number}]).close()
                figures.append((time.process_time() - started) / 2_000 * 1e6)
            del kept
        return statistics.median(figures)

    return measure


def longest_wait(connect: Connect) -> Measure:
    """Measure how long another task waits at most in a burst of 1,000,000 messages, in milliseconds.

    The time is processor time of this process: on a busy machine the real time mostly belongs to other processes. On an
    idle machine the two are equal, because nothing on the path of a message blocks.
    """

    async def measure(run: Run) -> float:
        longest = 0.0
        count = run.scaled(1_000_000)
        async with Feed(connect, run.url) as feed:
            _subscribe_all(feed)
            # Collect now, because the first full garbage collection of a process takes 15 ms and more: it visits all
            # objects of the imports. It must not happen in the burst.
            gc.collect()
            await feed.send(order(count))
            while feed.statistics().messages < count:
                started = time.process_time()
                await asyncio.sleep(0)
                longest = max(longest, time.process_time() - started)
        return longest * 1000

    return measure


LEVELS = 1_000
"""The levels of each side of the measured order book."""


def _changes(count: int) -> list[dict[str, list[list[str]]]]:
    """Return changes of five levels on each side; a sixth of them remove a level."""
    chance = random.Random(1)
    sizes = ["0", "0.5", "1.25", "2", "3.75", "10"]
    return [
        {
            name: [[f"{50_000 + sign * chance.randint(1, LEVELS) / 2:.1f}", chance.choice(sizes)] for _ in range(5)]
            for name, sign in (("b", -1), ("a", 1))
        }
        for _ in range(count)
    ]


def _microseconds_a_level(apply: Callable[[dict[str, list[list[str]]]], object]) -> float:
    changes = _changes(4_000)
    for change in changes:  # fills the book
        apply(change)
    gc.collect()
    started = time.process_time()
    for change in changes:
        apply(change)
    return (time.process_time() - started) / len(changes) / 10 * 1e6


async def order_book(_run: Run) -> float:
    """Return the processor time of one level of a change in an OrderBook of 1,000 levels, in microseconds."""
    return _microseconds_a_level(rxws.books.OrderBook({"bids": "b", "asks": "a"}, number=float).apply)


class DictBook:
    """The book that programmers write by hand: plain dicts, which have no order and check nothing."""

    def __init__(self) -> None:
        self.bids: dict[float, float] = {}
        self.asks: dict[float, float] = {}

    def apply(self, change: dict[str, list[list[str]]]) -> None:
        for side, levels in ((self.bids, change["b"]), (self.asks, change["a"])):
            for price, size in levels:
                number = float(size)
                if number:
                    side[float(price)] = number
                else:
                    side.pop(float(price), None)


async def dict_book(_run: Run) -> float:
    """Return the same for plain dicts."""
    return _microseconds_a_level(DictBook().apply)


async def best_of_order_book(_run: Run) -> float:
    """Return the same for an OrderBook whose best prices are read after each change."""
    book = rxws.books.OrderBook({"bids": "b", "asks": "a"}, number=float)

    def apply(change: dict[str, list[list[str]]]) -> None:
        book.apply(change)
        _best = book.best

    return _microseconds_a_level(apply)


async def best_of_dict_book(_run: Run) -> float:
    """Return the same for plain dicts, whose best prices ``max`` and ``min`` find."""
    book = DictBook()

    def apply(change: dict[str, list[list[str]]]) -> None:
        book.apply(change)
        _best = max(book.bids, default=None), min(book.asks, default=None)

    return _microseconds_a_level(apply)
