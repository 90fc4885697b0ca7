"""Measures how many messages a second can be recorded: ``python -m tests.benchmarks.recording``.

A server in its own process sends 150-byte JSON trades. First it sends 50,000 a second: the benchmark checks that the
file contains all of them, and measures how long another task had to wait. Then it sends as fast as possible, with and
without a recording. Finally the benchmark measures how fast the recording is replayed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import picows.websockets

import rxws
from rxws import recording
from rxws.testing import serve_in_process

from .frames import order

RATE = 50_000
ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst")


class Watch:
    """A task that wakes up every millisecond; ``longest`` is its longest delay, in seconds."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def run(self) -> None:
        while True:
            due = time.perf_counter() + 0.001
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.perf_counter() - due)


async def receive(url: str, count: int, path: Path | None, rate: float = 0) -> dict[str, float]:
    """Receive ``count`` messages, ``rate`` a second or (0) as fast as possible.

    Return messages per second, processor time, and the longest wait of another task.
    """
    watch = Watch()
    async with rxws.ReactiveWebSocket(
        url, connect=picows.websockets.connect, connect_options={"compression": None, "ping_interval": None}
    ) as ws:
        received = asyncio.get_running_loop().create_future()
        left = count

        def take(_message: Any) -> None:
            nonlocal left
            left -= 1
            if not left:
                received.set_result(time.perf_counter())

        ws.messages.subscribe(take)
        with contextlib.ExitStack() as stack:
            if path is not None:
                stack.enter_context(recording.record(ws, path))
            await ws.wait_connected()
            started, busy = time.perf_counter(), time.process_time()
            watching = asyncio.create_task(watch.run())
            await ws.send(order(count, rate=rate))
            rate = count / (await received - started)
            watching.cancel()
        busy = time.process_time() - busy
    return {"rate": rate, "busy": busy / count, "wait": watch.longest}


def recorded(path: Path) -> int:
    """Return the number of frames in a file."""
    reading = recording.read(path)
    frames = sum(isinstance(entry, recording.FrameEntry) for entry in reading)
    assert not reading.bad_lines
    return frames


async def replayed(path: Path) -> float:
    """Replay as fast as possible; return messages per second."""
    started = time.perf_counter()
    async with recording.replay(path, math.inf) as ws:
        ws.messages.subscribe(lambda _: None)
        await ws.wait_closed()
    return ws.statistics().messages / (time.perf_counter() - started)


async def measure(url: str, folder: Path, seconds: float) -> dict[str, dict[str, str]]:
    """Return all figures by name, for each format and without a recording."""
    count = int(RATE * seconds)
    figures = {}
    for ending in (None, *ENDINGS):
        paced, unpaced = (folder / f"{pace}{ending}" if ending else None for pace in ("paced", "unpaced"))
        at_pace = await receive(url, count, paced, RATE)
        at_will = await receive(url, count, unpaced)
        row = {
            "at 50,000/s": f"{at_pace['rate']:,.0f}/s",
            "another task waits": f"{at_pace['wait'] * 1e3:.1f} ms",
            "unpaced": f"{at_will['rate']:,.0f}/s",
            "processor": f"{at_will['busy'] * 1e6:.1f} µs each",
        }
        if paced is not None and unpaced is not None:
            row["lost"] = str(2 * count - recorded(paced) - recorded(unpaced))
            row["size"] = f"{unpaced.stat().st_size / count:.0f} bytes each"
            row["replayed"] = f"{await replayed(unpaced):,.0f}/s"
        figures[ending or "no recording"] = row
    return figures


async def run(seconds: float) -> None:
    """Measure, and print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        async with serve_in_process(module="tests.benchmarks.server") as server:
            for name, row in (await measure(server.url, Path(folder), seconds)).items():
                print(f"{name:13}", ", ".join(f"{label} {value}" for label, value in row.items()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.recording", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of messages in each run (default: 5)")
    asyncio.run(run(parser.parse_args(arguments).seconds))


if __name__ == "__main__":
    main()
