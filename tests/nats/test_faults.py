"""Real processes are killed, frozen, filled and delayed. Numbers in the messages show each loss, copy and disorder."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest

import rxws

from .campaign import Attack, attack, kill_worker, until_back
from .rig import ROOT, Rig
from .wire import Wire


@contextlib.asynccontextmanager
async def reading(rig: Rig, **options: Any) -> AsyncIterator[rxws.nats.NatsFeed[Any]]:
    """A feed whose messages are collected."""
    async with rig.feed(**options) as ws:
        collecting = asyncio.create_task(rig.collect(ws))
        await rig.flowing()
        yield ws
        await rig.flowing()
        collecting.cancel()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
async def test_nothing_is_lost_while_one_of_two_relays_lives(tmp_path: Path, seed: int) -> None:
    """If relays and the broker are killed one after the other, no message is lost, doubled or out of order."""
    async with Rig.running(tmp_path, seed=seed) as rig:
        await attack(rig, Attack(3))
        report = rig.report()
    assert report.is_clean, str(report)
    assert not report.gaps
    assert report.sent > 4000


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
async def test_messages_that_are_lost_while_both_are_dead_are_in_a_gap(tmp_path: Path, seed: int) -> None:
    """If they are killed while others are down, a Gap covers the missing messages, and no message is doubled."""
    async with Rig.running(tmp_path, seed=seed) as rig:
        await attack(rig, Attack(6, both=True))
        report = rig.report()
    assert not report.untold, str(report)
    assert not report.doubled


@pytest.mark.slow
async def test_killed_single_relay_is_a_gap(tmp_path: Path) -> None:
    """If a single relay is killed, readers get a Gap in place of the messages that it missed."""
    async with Rig.running(tmp_path) as rig:
        relay = rig.relay("a")
        async with reading(rig):
            await asyncio.sleep(0.7)
            relay.kill()
            await asyncio.sleep(0.7)
            relay.start()
            await rig.flowing()
        report = rig.report()
    assert report.is_clean, str(report)
    assert report.told > 300
    assert len(report.gaps) == 1
    assert 0.5 < report.gaps[0].end - report.gaps[0].start < 5


@pytest.mark.slow
async def test_frozen_broker_loses_nothing(tmp_path: Path) -> None:
    """If the broker is frozen for a few seconds, relays and readers notice, connect again, and continue."""
    async with Rig.running(tmp_path) as rig:
        rig.relay("a", ack_timeout=2.0)
        async with reading(rig) as ws:
            rig.server.signal(signal.SIGSTOP)
            await rig.until(lambda: not ws.state.value.is_live)
            await asyncio.sleep(2)
            rig.server.signal(signal.SIGCONT)
            await rig.flowing()
        report = rig.report()
    assert report.is_clean, str(report)
    assert not report.gaps


@pytest.mark.slow
async def test_full_relay_reports_what_it_dropped(tmp_path: Path) -> None:
    """If the broker is dead for longer than the relay can hold messages, a Gap covers the dropped messages."""
    # The relay holds the messages of two seconds, so that a busy machine does not let it drop more of them later.
    async with Rig.running(tmp_path, rate=500) as rig:
        rig.relay("a", maxsize=1000)
        async with reading(rig):
            await asyncio.sleep(0.7)
            rig.server.kill()
            await asyncio.sleep(4)
            rig.server.start()
            await rig.flowing()
        report = rig.report()
    assert report.is_clean, str(report)
    assert report.told > 700
    assert len(report.gaps) == 1


@pytest.mark.slow
async def test_frozen_relay_doubles_nothing_beyond_the_duplicate_window(tmp_path: Path) -> None:
    """A relay that was suspended for longer than the duplicate window publishes nothing that is already stored."""
    window = {"create": {"duplicate_window": 4 * 10**9}}
    async with Rig.running(tmp_path) as rig:
        rig.relay("a", **window)
        frozen = rig.relay("b", **window)
        async with reading(rig):
            await asyncio.sleep(2)
            for _ in range(2):
                await frozen.suspend()
                await asyncio.sleep(6)
                frozen.signal(signal.SIGCONT)
                await asyncio.sleep(4)
            await rig.flowing()
        report = rig.report()
    assert report.is_clean, str(report)
    assert not report.gaps


@pytest.mark.slow
async def test_relay_that_was_cut_off_longer_than_the_window_doubles_nothing(tmp_path: Path) -> None:
    """A relay that could not reach the broker for longer than the window drops messages that the other has stored."""
    window = {"create": {"duplicate_window": 4 * 10**9}, "ack_timeout": 1.0}
    async with Rig.running(tmp_path) as rig, Wire(rig.server.port) as wire:
        rig.relay("a", **window)
        rig.relay("b", nats=wire.url, **window)
        async with reading(rig):
            await asyncio.sleep(2)
            wire.cut()
            await asyncio.sleep(7)
            wire.mend()
            await asyncio.sleep(5)
            await rig.flowing()
        report = rig.report()
    assert report.is_clean, str(report)
    assert not report.gaps


@pytest.mark.slow
async def test_clocks_of_relays_may_differ(tmp_path: Path) -> None:
    """Two relays whose clocks differ by 200 ms take over from each other without an error."""
    async with Rig.running(tmp_path, seed=5) as rig:
        relays = [rig.relay("a", clock=0.1), rig.relay("b", clock=-0.1)]
        async with reading(rig):
            await until_back(rig, time.time())
            for relay in relays:
                relay.kill()
                await asyncio.sleep(0.4)
                relay.start()
                # While it starts, only the other one publishes, so a kill of that one would be a Gap.
                await until_back(rig, time.time())
                await rig.flowing()
        report = rig.report()
    assert report.is_clean, str(report)
    assert not report.gaps


@pytest.mark.slow
async def test_relay_names_the_reason_when_the_disk_is_full(tmp_path: Path) -> None:
    """If the broker's disk is full, it refuses messages; the relay reports why, and continues when there is room."""
    async with Rig.running(tmp_path, jetstream="max_file_store: 2MB", lag=0.0) as rig:
        create = {"max_bytes": -1, "max_age": 0}
        async with rxws.ReactiveWebSocket(rig.upstream.url) as ws:
            relay = rxws.nats.relay(ws, rig.server.url, create=create, maxsize=5000)
            await rig.until(lambda: relay.error is not None)
            assert "resource" in str(relay.error) or "storage" in str(relay.error)
            client = await nats.connect(rig.server.url)
            await client.jetstream().purge_stream("rxws")
            await client.close()
            published = relay.published
            await rig.until(lambda: relay.published > published + 100)
            relay.dispose()


@pytest.mark.slow
async def test_reader_that_slept_beyond_the_streams_memory_gets_a_gap(tmp_path: Path) -> None:
    """A reader that reads nothing for longer than the stream keeps messages gets a Gap in place of the deleted ones."""
    async with Rig.running(tmp_path, lag=0.0) as rig:
        rig.relay("a", create={"max_age": 2 * 10**9, "duplicate_window": 10**9, "max_bytes": -1}, identity=False)
        command = [sys.executable, "-m", "tests.nats.reader_process", rig.server.url]
        pipe = asyncio.subprocess.PIPE
        reader = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=pipe, stdin=pipe, limit=2**24)
        assert reader.stdout is not None
        await asyncio.wait_for(reader.stdout.readline(), 20)
        reader.send_signal(signal.SIGSTOP)
        await asyncio.sleep(6)
        reader.send_signal(signal.SIGCONT)
        await asyncio.sleep(3)
        output, _ = await asyncio.wait_for(reader.communicate(b""), 20)
        entries: list[Any] = []
        for line in output.decode().split():
            number = int(line)
            entries.append(rxws.Gap(0, 1) if number < 0 else (number, rig.sent[number]))
        rig.entries = entries
        report = rig.report()
    assert report.is_clean, str(report)
    assert report.told > 1000
    assert report.gaps


@pytest.mark.slow
async def test_cut_feed_is_one_gap(tmp_path: Path) -> None:
    """If the captured feed is cut, readers get one Gap for each cut, which covers all missing messages."""
    async with Rig.running(tmp_path) as rig:
        rig.relay("a")
        async with reading(rig):
            for _ in range(2):
                await asyncio.sleep(1)
                for connection in rig.upstream.connections:
                    connection.reset()
                await rig.flowing()
        report = rig.report()
    assert report.is_clean, str(report)
    assert len(report.gaps) == 2


@pytest.mark.slow
async def test_worker_that_is_killed_processes_each_message_once(tmp_path: Path) -> None:
    """A worker that stores position and result in one transaction has each message once, despite many kills."""
    async with Rig.running(tmp_path, rate=200) as rig:
        numbers = await kill_worker(rig, tmp_path / "results.db", 5)
    assert len(numbers) > 200
    assert sorted(numbers) == list(range(min(numbers), max(numbers) + 1))


@pytest.mark.slow
async def test_relays_are_upgraded_one_by_one_without_a_gap(tmp_path: Path) -> None:
    """If each of two relays is closed and started again, one after the other, readers get no Gap."""
    async with Rig.running(tmp_path) as rig:
        relays = [rig.relay("a"), rig.relay("b")]
        async with reading(rig) as ws:
            await until_back(rig, time.time())
            for relay in relays:
                counts = await asyncio.to_thread(relay.finish)
                assert counts["pending"] == counts["dropped"] == 0
                relay.start()
                await until_back(rig, time.time())
                await rig.flowing()
            gaps = ws.continuity().gaps
        report = rig.report()
    assert report.is_clean, str(report)
    assert not report.gaps
    assert not gaps
