"""Whole lives by seed: those of the suite, those that once failed, and that they find what is broken."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import logging
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rxws
from rxws.testing import Dialect, LifeFailed
from rxws.testing.lives import INGREDIENTS, KNOWN, Act, Numbered, Report, Schedule, Settings, compose, play, shorter
from rxws.testing.lives.schedule import simpler

from .breaks import BREAKS, broken
from .work import play_one

ROOT = Path(__file__).resolve().parents[2]

NEW = random.SystemRandom().randrange(10**6, 10**9)
"""The first of the new seeds of this run."""


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """Log nothing: lives are full of what is worth a line."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def well(report: Report) -> None:
    """Assert that all went well; or show the shortest life that fails."""
    if report.problems:
        raise LifeFailed(shorter(report, play_one))


# Lives


@pytest.mark.parametrize("tens", range(5))
def test_lives_of_the_suite(tens: int) -> None:
    """Ten lives each: whatever happens, each number comes once and in order, or behind a Gap that covers it."""
    for seed in range(10 * tens, 10 * tens + 10):
        well(play_one(compose(seed, KNOWN)))


def test_new_lives(capsys: pytest.CaptureFixture[str]) -> None:
    """So do lives with new seeds; where one fails, its seed is shown."""
    with capsys.disabled():
        print(f" [new lives: python -m tests.lives --count 10 --seed {NEW}] ", end="", flush=True)
    for seed in range(NEW, NEW + 10):
        well(play_one(compose(seed, KNOWN)))


@pytest.mark.parametrize("name", [name for name in INGREDIENTS if name not in KNOWN])
def test_lives_of_one_ingredient(name: str) -> None:
    """What lives are made of is survived by itself."""
    for seed in range(3):
        well(play_one(compose(seed, KNOWN, [name])))


def once_failed() -> list[Any]:
    """Return the seeds of the list."""
    lines = (ROOT / "tests/lives/seeds.txt").read_text().splitlines()
    rows = [line.split(" | ") for line in lines if line and not line.startswith("#")]
    return [pytest.param(int(seed), names.split(", "), kind, id=fault) for seed, names, kind, fault in rows]


@pytest.mark.parametrize(("seed", "names", "kind"), once_failed())
def test_seed_that_once_failed(seed: int, names: list[str], kind: str) -> None:
    """It goes well now; or fails as it did, as long as what it is made of is known to fail."""
    report = play_one(compose(seed, only=names))
    assert (kind in report.kinds) is bool(KNOWN.keys() & names), report


def test_every_known_fault_is_shown_by_a_seed() -> None:
    """What is known to fail stands in the list of seeds, and is an ingredient."""
    assert KNOWN.keys() <= INGREDIENTS.keys()
    assert KNOWN.keys() <= {name for each in once_failed() for name in each.values[1]}


@pytest.mark.parametrize("name", BREAKS)
def test_break_is_found(name: str) -> None:
    """Whatever of rxws is broken: one of 200 lives shows it."""
    with broken(name):
        assert any(play_one(compose(seed, KNOWN)).problems for seed in range(200))


# What a seed stands for


def test_seed_is_the_same_life_on_every_machine() -> None:
    """What is composed depends on the seed, and on nothing else."""
    lives = json.dumps([compose(seed).to_dict() for seed in range(50)])
    code = "import json; from rxws.testing.lives import compose;"
    code += "print(json.dumps([compose(seed).to_dict() for seed in range(50)]), end='')"
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60, env=environment
    )
    assert run.stdout == lives
    assert hashlib.sha256(lives.encode()).hexdigest()[:16] == "bd4388bf001e880f"


def test_same_life_goes_the_same_way_again() -> None:
    """A life is played twice, and what comes of it is the same; the numbers of ``random`` go on as if nothing was."""
    random.seed(1)
    expected = random.random()
    random.seed(1)
    with broken("copies are delivered"):
        reports = [play_one(compose(seed, only=["long lags", "rotations", "lags", "skews"])) for seed in (3, 4) * 2]
    assert random.random() == expected
    assert str(reports[0]) == str(reports[2])
    assert str(reports[1]) == str(reports[3])
    assert reports[0].problems


def test_leaving_an_ingredient_out_changes_nothing_else() -> None:
    """Each ingredient has chances of its own."""
    whole = next(life for life in map(compose, range(100)) if {"cuts", "rotations"} <= set(life.ingredients))
    rest = compose(whole.seed, without=["cuts"])
    assert set(rest.ingredients) == set(whole.ingredients) - {"cuts"}
    assert [act for act in whole.acts if act.kind == "rotate"] == [act for act in rest.acts if act.kind == "rotate"]


def test_unknown_ingredient_is_refused() -> None:
    """A name that is none is an error that names those that are."""
    with pytest.raises(ValueError, match=r"no ingredients \['cutz'\]; there are .*'cuts'"):
        compose(1, only=["cutz"])


def test_schedule_is_plain_data() -> None:
    """A schedule comes back from JSON as it was, and shows what happens when."""
    life = Schedule(7, Settings(lag=0.1), (Act(1.5, "cut", "rst", 2),), ("resets",))
    assert Schedule.from_dict(json.loads(json.dumps(life.to_dict()))) == life
    assert str(life) == "seed 7: resets\nsettings: lag=0.1\n  1.500  cut rst 2"


def test_simpler_schedules_are_simpler() -> None:
    """Steps to a shorter life leave out acts, set settings to what is simplest, or end it earlier."""
    life = Schedule(7, Settings(seconds=9.0, lag=0.1), (Act(1.0, "rotate"), Act(2.0, "rotate"), Act(3.0, "rotate")))
    steps = list(simpler(life))
    assert [len(step.acts) for step in steps][:4] == [0, 2, 2, 2]
    assert any(step.settings == Settings(seconds=9.0) for step in steps)
    assert min(step.settings.seconds for step in steps) == 3.5


def test_failure_is_shrunk_to_what_it_needs() -> None:
    """Of a life that fails the shortest is shown that fails in the same way."""
    with broken("copies are delivered"):
        report = play_one(compose(0, only=["rotations", "lags", "goings", "heartbeats", "cuts", "slow consumers"]))
        shortest = shorter(report, play_one)
    assert "twice" in report.kinds & shortest.kinds
    assert len(shortest.schedule.acts) == 1 < len(report.schedule.acts)
    assert shortest.schedule.settings == dataclasses.replace(Settings(), seconds=shortest.schedule.settings.seconds)


# For classes of other people


class Theirs(rxws.AsyncWebsocketStreamInterface[Any]):
    """A user's class."""

    def __init__(self, endpoint: Any) -> None:
        super().__init__(**endpoint.options)
        self.endpoint = endpoint

    async def _create_ws(self) -> Any:
        return await self.endpoint.connect(self.endpoint.url)

    async def _when2create_new_ws(self) -> None:
        await asyncio.sleep(7.0)

    async def _parse_raw_data(self, raw_data: Any) -> Any:
        return json.loads(raw_data)


@pytest.mark.parametrize("seed", range(10))
async def test_their_class_lives(life: Any, seed: int, assert_no_leaks: None) -> None:
    """A user's class lives through the same faults: the fixture gives the function, in virtual time."""
    report = await life(Theirs, seed)
    assert report.counts["messages"] > 0
    assert not report.problems


async def test_what_is_wrong_with_their_class_is_shown(life: Any) -> None:
    """A class that loses messages fails, with its seed and the shortest life that still does."""

    class Lossy(Theirs):
        async def _parse_raw_data(self, raw_data: Any) -> Any:
            message = json.loads(raw_data)
            return rxws.Many() if message.get("n", 0) % 50 == 49 else message

    with pytest.raises(LifeFailed, match="seed 3 failed") as failed:
        await life(Lossy, 3)
    assert failed.value.seed == 3
    assert failed.value.report.schedule.acts == ()
    assert "lost without a word" in str(failed.value)
    with pytest.raises(LifeFailed) as unshrunk:
        await life(Lossy, 3, shrinks=False)
    assert unshrunk.value.report.schedule == compose(3, [*KNOWN, "declared snapshots"])


class Positions(Dialect):
    """Messages are lists, all channels are sent unasked, and there is no heartbeat."""

    pushes = True

    def change(self, channel: str, n: int) -> bytes:
        return f'["{channel}", {n}]'.encode()

    def heartbeat(self) -> None:
        return None

    def read(self, message: Any) -> Numbered:
        return Numbered(*message)

    def belongs(self, channel: str) -> Any:
        return lambda message: message[0] == channel


@pytest.mark.parametrize("seed", range(5))
async def test_their_server_speaks_otherwise(life: Any, seed: int) -> None:
    """What server and client say is theirs to tell."""
    report = await life(Theirs, seed, dialect=Positions(), only=["cuts", "lags", "rotations", "books", "heartbeats"])
    assert report.counts["connections"] > 1


# Real sockets


@pytest.mark.parametrize("how", ["cut rst", "half-open", "cut 1012", "protocol utf8"])
def test_life_on_real_sockets(how: str) -> None:
    """The same lives are played on loopback: with real resets, and a server that is stopped."""
    kind, _, word = how.partition(" ")
    life = Schedule(1, Settings(seconds=3.0, keepalive=0.6), (Act(2.0, kind, word), Act(2.3, "rotate")))
    report = play_one(life, is_real=True)
    assert not report.problems, report
    assert report.counts["gaps"] == 1


def test_fault_on_real_sockets_is_found() -> None:
    """What a life finds in virtual time it finds on loopback, too."""
    life = Schedule(1, Settings(seconds=2.5), (Act(1.5, "rotate"),))
    with broken("copies are delivered"):
        assert "twice" in play_one(life, is_real=True).kinds


# The command


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-m", "tests.lives", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_command_plays_lives() -> None:
    """The command plays as many as are asked for, and says with which seeds."""
    done = run("--count", "12")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lives of the seeds from " in done.stdout
    assert "12 lives, 0 failed" in done.stdout


def test_command_shows_the_shortest_life_that_fails() -> None:
    """Where one fails, the command shows its seed and what is left of it, and exits with 1."""
    done = run("--count", "1", "--seed", "2", "--only", "stale snapshots", "cuts")
    assert done.returncode == 1
    assert "seed 2: cuts, stale snapshots" in done.stdout
    assert "the book went back from" in done.stdout


def test_command_names_what_lives_are_made_of() -> None:
    """``--list`` names every ingredient, and what is known of it."""
    done = run("--list")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == len(INGREDIENTS)


async def test_life_ends_that_does_not_end_by_itself(virtual_time: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A life ends after its longest time, and the report says so."""
    monkeypatch.setattr(rxws.testing.lives.playing, "LONGEST", 3.0)
    assert "no end" in (await play(Schedule(1))).kinds
