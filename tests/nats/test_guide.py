"""The programs of the guide run unchanged, against their own server."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import rxws

from ..support.guide import ROOT, named
from .server import NatsServer


def run(name: str, server: NatsServer, folder: Path, *arguments: str) -> str:
    """Run a program of the guide, and return what it prints."""
    program = folder / name
    program.write_text(named(name).replace("nats://127.0.0.1:4222", server.url))
    command = [sys.executable, "-W", "error", str(program), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.slow
def test_programs_of_the_guide_run(nats_server: NatsServer, tmp_path: Path) -> None:
    """One program captures, one reads, and a third one, started twice, has each message once in its table."""
    assert "trades are stored" in run("nats_capture.py", nats_server, tmp_path)
    assert "is message" in run("nats_read.py", nats_server, tmp_path)
    path = tmp_path / "trades.db"
    for count in (20, 40):
        assert "20 more trades" in run("nats_once.py", nats_server, tmp_path, str(path))
        table = sqlite3.connect(path)
        assert table.execute("SELECT count(*), count(DISTINCT position) FROM trades").fetchone() == (count, count)
        table.close()


@pytest.mark.slow
def test_program_with_two_relays_runs(nats_server: NatsServer, tmp_path: Path) -> None:
    """Two relays of one feed publish each trade once."""
    assert "each once" in run("nats_two_relays.py", nats_server, tmp_path)


@pytest.mark.slow
async def test_worker_of_the_guide_stores_its_share(nats_server: NatsServer, tmp_path: Path) -> None:
    """Two workers divide the symbols and lose nothing when they are restarted; one worker continues from a position."""
    program = tmp_path / "worker.py"
    program.write_text(
        named("worker.py", ROOT / "rxws/nats/RUNNING.rst").replace("nats://127.0.0.1:4222", nats_server.url)
    )
    tables = [tmp_path / f"trades-{k}-of-2.db" for k in range(2)]
    transform = {"src": "rx.*.*", "dest": "rx.{{partition(8,2)}}.{{wildcard(1)}}.{{wildcard(2)}}"}

    async def run_until(counts: list[int], *position: int) -> None:
        workers = len(counts)
        tables = [tmp_path / f"trades-{k}-of-{workers}.db" for k in range(workers)]
        processes = [start_worker(program, tmp_path, k, workers, *position) for k in range(workers)]
        try:
            async with asyncio.timeout(30):
                while not all(len(rows_of(table)) > count for table, count in zip(tables, counts, strict=True)):
                    await asyncio.sleep(0.1)
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
        for process in processes:
            output, _ = await asyncio.to_thread(process.communicate, timeout=20)
            assert (process.returncode, output) == (0, "")

    async with (
        rxws.demo.serve(rate=200) as exchange,
        rxws.ReactiveWebSocket(exchange) as ws,
        rxws.nats.relay(ws, nats_server.url, subject="rx.{e}.{s}", create={"subject_transform": transform}),
    ):
        await run_until([20, 20])
        await run_until([len(rows_of(table)) + 20 for table in tables])
        following = min(max(rows_of(table))[0] for table in tables) + 1
        await run_until([10], following)
    first, second = (rows_of(table) for table in tables)
    alone = rows_of(tmp_path / "trades-0-of-1.db")
    assert min(alone)[0] >= following
    assert {row for row in first | second if following <= row[0] <= max(alone)[0]} <= alone
    assert not {symbol for _, symbol in first} & {symbol for _, symbol in second}
    async with rxws.nats.NatsFeed(nats_server.url, start="all") as feed:
        async with asyncio.timeout(20):
            stored = first | second
            async for trade in feed.stream_filter([{"e": "trade"}]):
                position = feed.position_of(trade)
                if position > min(max(first)[0], max(second)[0]):
                    break
                assert (position, trade["s"]) in stored


def start_worker(program: Path, folder: Path, *arguments: int) -> subprocess.Popen[str]:
    """Start a worker with these arguments, whose table is in a folder."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(program), *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "STATE_DIRECTORY": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def rows_of(path: Path) -> set[tuple[int, str]]:
    """Return the positions and symbols in a worker's table."""
    if not path.exists():
        return set()
    table = sqlite3.connect(path)
    try:
        return set(table.execute("SELECT position, symbol FROM trades"))
    except sqlite3.OperationalError:
        # The worker has not made its table yet.
        return set()
    finally:
        table.close()
