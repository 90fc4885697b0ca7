"""Lives by seed: new ones, those that once failed, and lives of rxws with deliberate bugs."""

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
import time
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import rxws
from rxws.messages.lazy import Lazy
from rxws.observables.deferred import Deferred
from rxws.testing import Dialect, LifeFailed
from rxws.testing.lives import (
    INGREDIENTS,
    KNOWN,
    Act,
    Numbered,
    Report,
    Schedule,
    Settings,
    compose,
    course,
    play,
    shorter,
)
from rxws.testing.lives.clock import note_lateness
from rxws.testing.lives.life import OF_READY_MADE
from rxws.testing.lives.report import Problem
from rxws.testing.lives.schedule import simpler

from . import __main__ as command
from . import work
from .breaks import BREAKS, broken
from .work import play_one

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

DRAWN = "drawn"
"""Stands in seeds.txt before the ingredients that the seed itself draws. ``--only`` makes another life of them."""


@pytest.fixture(autouse=True)
def quiet() -> Any:
    """Disable logging, because lives contain many faults that are logged."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def well(report: Report) -> None:
    """Assert that a report has no problems; otherwise show the shortest life that fails."""
    if report.problems:
        raise LifeFailed(shorter(report, play_one))


# Lives


@pytest.mark.parametrize("tens", range(5))
def test_lives_of_the_suite(tens: int) -> None:
    """In each of ten lives every number arrives once and in order, or a Gap covers it."""
    for seed in range(10 * tens, 10 * tens + 10):
        well(play_one(compose(seed, KNOWN)))


@pytest.mark.parametrize("tens", range(3))
def test_lives_whose_frames_are_decoded_lazily(tens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same holds when the frames are so large that most of them are decoded lazily."""
    counts: Counter[bool] = Counter()

    def parse(lazy: Lazy, frame: Any, original: Any = Lazy.parse) -> Any:
        message = original(lazy, frame)
        counts[type(message) is Deferred] += 1
        return message

    monkeypatch.setattr(Lazy, "parse", parse)
    for seed in range(10 * tens, 10 * tens + 10):
        schedule = compose(seed, KNOWN)
        settings = dataclasses.replace(schedule.settings, padding=600)
        well(play_one(dataclasses.replace(schedule, settings=settings)))
    assert counts[True] > counts[False]


@pytest.mark.parametrize("name", [name for name in INGREDIENTS if name not in KNOWN])
def test_lives_of_one_ingredient(name: str) -> None:
    """rxws survives each ingredient alone."""
    for seed in range(3):
        well(play_one(compose(seed, KNOWN, [name])))


def once_failed() -> list[Any]:
    """Return the rows of seeds.txt."""
    lines = (ROOT / "tests/lives/seeds.txt").read_text().splitlines()
    rows = [line.split(" | ") for line in lines if line and not line.startswith("#")]
    return [pytest.param(int(seed), names.split(", "), kind, id=fault) for seed, names, kind, fault in rows]


@pytest.mark.parametrize(("seed", "names", "kind"), once_failed())
def test_seed_that_once_failed(seed: int, names: list[str], kind: str) -> None:
    """The life passes now; while one of its ingredients is in KNOWN, it still fails in the same way."""
    if DRAWN in names:
        # Ingredients that were added since are left out.
        report = play_one(compose(seed, INGREDIENTS.keys() - {*names, "dated silence"}))
        assert report.schedule.ingredients == tuple(each for each in names if each != DRAWN)
    else:
        report = play_one(compose(seed, only=names))
    if KNOWN.keys() & names:
        assert kind in report.kinds, report
    else:
        assert not report.problems, report


@pytest.mark.parametrize(
    ("seed", "names"),
    [
        (5, ["long lags", "ended subscriptions"]),
        (40, ["combined", "late answers", "ended subscriptions"]),
        (45, ["rotations", "combined", "late answers", "ended subscriptions"]),
        (46, ["rotations", "combined", "late answers", "ended subscriptions"]),
        (51, ["rotations", "combined", "late answers", "ended subscriptions"]),
    ],
)
def test_ends_before_an_answer_or_a_takeover(seed: int, names: list[str]) -> None:
    """A Gap covers the loss if a subscription ends on a new connection of a rotation, or before it is decided."""
    well(play_one(compose(seed, only=names)))


def test_every_known_fault_is_shown_by_a_seed() -> None:
    """Each name in KNOWN is an ingredient, and a row of seeds.txt shows its fault."""
    assert KNOWN.keys() <= INGREDIENTS.keys()
    assert KNOWN.keys() <= {name for each in once_failed() for name in each.values[1]}


@pytest.mark.parametrize("name", BREAKS)
def test_break_is_found(name: str) -> None:
    """For each deliberate bug in rxws, at least one of 200 lives fails."""
    with broken(name):
        assert any(play_one(compose(seed, KNOWN)).problems for seed in range(200))


# Schedules


def test_seed_is_the_same_life_on_every_machine() -> None:
    """The composed life depends only on the seed."""
    lives = json.dumps([compose(seed).to_dict() for seed in range(50)])
    code = "import json; from rxws.testing.lives import compose;"
    code += "print(json.dumps([compose(seed).to_dict() for seed in range(50)]), end='')"
    environment = os.environ | {"PYTHONHASHSEED": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60, env=environment
    )
    assert run.stdout == lives
    assert hashlib.sha256(lives.encode()).hexdigest()[:16] == "2b228b83c61543e7"


def test_same_life_goes_the_same_way_again() -> None:
    """A life that is played twice has the same report, and does not change the numbers of ``random`` afterwards."""
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
    """Leaving an ingredient out changes nothing else, because each ingredient has its own random generator."""
    whole = next(life for life in map(compose, range(100)) if {"cuts", "rotations"} <= set(life.ingredients))
    rest = compose(whole.seed, without=["cuts"])
    assert set(rest.ingredients) == set(whole.ingredients) - {"cuts"}
    assert [act for act in whole.acts if act.kind == "rotate"] == [act for act in rest.acts if act.kind == "rotate"]


def test_unknown_ingredient_is_rejected() -> None:
    """The error for an unknown ingredient lists all ingredients."""
    with pytest.raises(ValueError, match=r"no ingredients \['cutz'\]; there are .*'cuts'"):
        compose(1, only=["cutz"])


def test_schedule_is_plain_data() -> None:
    """A schedule survives a round trip through JSON, and its text shows settings and acts."""
    life = Schedule(7, Settings(lag=0.1), (Act(1.5, "cut", "rst", 2),), ("resets",))
    assert Schedule.from_dict(json.loads(json.dumps(life.to_dict()))) == life
    assert str(life) == "seed 7: resets\nsettings: lag=0.1\n  1.500  cut rst 2"


def test_simpler_schedules_are_simpler() -> None:
    """Simpler schedules have fewer acts, default settings, or an earlier end."""
    life = Schedule(7, Settings(seconds=9.0, lag=0.1), (Act(1.0, "rotate"), Act(2.0, "rotate"), Act(3.0, "rotate")))
    steps = list(simpler(life))
    assert [len(step.acts) for step in steps][:4] == [0, 2, 2, 2]
    assert any(step.settings == Settings(seconds=9.0) for step in steps)
    assert min(step.settings.seconds for step in steps) == 3.5


def test_failure_is_shrunk_to_what_it_needs() -> None:
    """Shrinking finds the shortest life that fails in the same way."""
    with broken("copies are delivered"):
        report = play_one(compose(0, only=["rotations", "lags", "goings", "heartbeats", "cuts", "slow consumers"]))
        shortest = shorter(report, play_one)
    assert "twice" in report.kinds & shortest.kinds
    assert len(shortest.schedule.acts) == 1 < len(report.schedule.acts)
    assert shortest.schedule.settings == dataclasses.replace(Settings(), seconds=shortest.schedule.settings.seconds)


# Classes of users


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
async def test_class_of_a_user_survives(life: Any, seed: int, assert_no_leaks: None) -> None:
    """The fixture ``life`` runs a user's class through the same faults, in virtual time."""
    report = await life(Theirs, seed)
    assert report.counts["messages"] > 0
    assert not report.problems


async def test_class_of_a_user_fails_when_it_loses_messages(life: Any) -> None:
    """A class that loses messages fails; the error shows the seed and the shortest life that still fails."""

    class Lossy(Theirs):
        async def _parse_raw_data(self, raw_data: Any) -> Any:
            message = json.loads(raw_data)
            return rxws.Many() if message.get("n", 0) % 50 == 49 else message

    with pytest.raises(LifeFailed, match="seed 6 failed") as failed:
        await life(Lossy, 6)
    assert failed.value.seed == 6
    assert failed.value.report.schedule.acts == ()
    assert "lost without a word" in str(failed.value)
    with pytest.raises(LifeFailed) as unshrunk:
        await life(Lossy, 6, shrinks=False)
    assert unshrunk.value.report.schedule == compose(6, [*KNOWN, "declared snapshots", "sent books", *OF_READY_MADE])


async def test_failed_feed_is_reported_with_its_cause(life: Any) -> None:
    """The report quotes the fatal error and its cause."""

    class Mistaken(Theirs):
        async def _create_ws(self) -> Any:
            raise NameError("tpyo")

    with pytest.raises(LifeFailed, match=r"failed: the feed has failed: .*tpyo.*caused by NameError\('tpyo'\)"):
        await life(Mistaken, 1, only=["lags"], shrinks=False)


async def test_feed_that_never_connects_is_reported_with_the_last_cause(life: Any) -> None:
    """The report of a feed that never connects says so, and quotes why the last attempt failed."""

    class Refused(Theirs):
        async def _create_ws(self) -> Any:
            raise ConnectionError("nothing listens there")

    with pytest.raises(LifeFailed, match=r"never connected: the last attempt: .*nothing listens there") as failed:
        await life(Refused, 1, only=["lags"], shrinks=False)
    assert repr(failed.value).startswith("LifeFailed(seed 1: ")
    assert "never connected" in repr(failed.value)
    assert len(repr(failed.value)) < 200


async def test_rotations_by_time_are_refused_for_a_class_with_its_own_hook(life: Any) -> None:
    """For a class with its own rotation hook, lives leave out rotations by time; asking for them raises ValueError."""
    with pytest.raises(ValueError, match="'rotations by time' needs make_feed=None"):
        await life(Theirs, 1, only=["rotations by time"])
    seed = next(seed for seed in range(100) if "rotations by time" in compose(seed, KNOWN).ingredients)
    assert "rotations by time" not in (await life(Theirs, seed)).schedule.ingredients


async def test_report_says_when_the_life_began_on_the_clock_of_its_problems(virtual_time: Any) -> None:
    """The report says when the life began, because problems have times of the loop, and acts times of the life."""
    await asyncio.sleep(100.0)
    with broken("copies are delivered"):
        report = await play(compose(3, only=["long lags"]))
    assert report.problems
    assert "the life began at 100.000)" in str(report)


def test_shortened_report_says_which_ingredients_are_left() -> None:
    """A shortened report names the remaining ingredients, and keeps the whole list to play the seed again."""
    with broken("copies are delivered"):
        report = play_one(compose(0, only=["rotations", "lags", "goings", "heartbeats", "cuts", "slow consumers"]))
        shortest = shorter(report, play_one)
    assert "shortened" not in str(report)
    assert "cuts" in shortest.schedule.ingredients
    assert "(shortened: only acts and settings of these ingredients remain: rotations)" in str(shortest)


class Positions(Dialect):
    """A dialect whose messages are lists. The server sends all channels without a subscription, and no heartbeat."""

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
async def test_class_of_a_user_survives_with_its_own_dialect(life: Any, seed: int) -> None:
    """A user's class survives lives whose messages are those of its own dialect."""
    report = await life(Theirs, seed, dialect=Positions(), only=["cuts", "lags", "rotations", "books", "heartbeats"])
    assert report.counts["connections"] > 1


# Real sockets


@pytest.mark.parametrize("how", ["cut rst", "half-open", "cut 1012", "protocol utf8"])
def test_life_on_real_sockets(how: str) -> None:
    """Lives can be played on loopback sockets, with real resets and a frozen server."""
    kind, _, word = how.partition(" ")
    life = Schedule(1, Settings(seconds=3.0, keepalive=0.6), (Act(2.0, kind, word), Act(2.3, "rotate")))
    report = play_one(life, is_real=True)
    assert not report.problems, report
    assert report.counts["gaps"] == 1


def test_fault_on_real_sockets_is_found() -> None:
    """A fault that a life finds in virtual time is also found on loopback sockets."""
    life = Schedule(1, Settings(seconds=2.5), (Act(1.5, "rotate"),))
    with broken("copies are delivered"):
        assert "twice" in play_one(life, is_real=True).kinds


async def test_loop_that_is_late_is_noted() -> None:
    """An interval in which the machine did not run the loop is noted, because times in it prove nothing."""
    noted: list[tuple[float, float]] = []
    watching = asyncio.ensure_future(note_lateness(lambda *interval: noted.append(interval)))
    await asyncio.sleep(0.01)
    began = time.monotonic()
    time.sleep(0.3)  # noqa: ASYNC251
    await asyncio.sleep(0.05)
    watching.cancel()
    (since, until), *_ = noted
    assert since <= began + 0.03 < began + 0.3 <= until


@pytest.mark.parametrize(("lateness", "plays"), [(0.0, 1), (0.3, 3)])
def test_life_on_a_busy_machine_is_played_again(monkeypatch: pytest.MonkeyPatch, lateness: float, plays: int) -> None:
    """A life on sockets that fails is played again only if the machine was too busy for its times."""
    played = []

    async def fail(schedule: Schedule, *, is_real: bool) -> Report:
        played.append(schedule)
        return Report(schedule, [Problem("twice", "c0 7")], lateness=lateness)

    monkeypatch.setattr(work, "play", fail)
    report = play_one(Schedule(1), is_real=True)
    assert len(played) == plays
    assert ("the loop was up to 0.300 s late" in str(report)) is bool(lateness)


async def test_timeout_of_the_server_is_not_a_life_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timeout of the server raises, because the life has not begun."""

    @asynccontextmanager
    async def no_network(venue: Any) -> Any:
        raise TimeoutError("the relay printed no URL")
        yield

    monkeypatch.setattr(course, "real_network", no_network)
    with pytest.raises(TimeoutError, match="printed no URL"):
        await play(Schedule(1), is_real=True)


# The command


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-m", "tests.lives", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_command_plays_lives() -> None:
    """The command plays ``--count`` lives, and prints their seeds."""
    done = run("--count", "12", "--seed", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lives of the seeds from " in done.stdout
    assert "12 lives, 0 failed" in done.stdout


def test_command_shows_the_shortest_life_that_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """When a life fails, the command prints its seed and the shortest life that fails, and exits with 1."""
    with broken("a Gap is forgotten"):
        report = next(each for each in map(play_one, map(compose, range(200))) if each.problems)
        # Play in this process, because the processes of the pool do not have the bug.
        monkeypatch.setattr(command, "failures", lambda *_: iter([report]))
        monkeypatch.setattr(sys, "argv", ["lives", "--count", "1"])
        assert command.main() == 1
    shown = capsys.readouterr().out
    assert f"seed {report.schedule.seed}: " in shown
    assert report.problems[0].kind in shown


def test_command_lists_all_ingredients() -> None:
    """``--list`` prints every ingredient, with its known fault."""
    done = run("--list")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == len(INGREDIENTS)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--count", "0"], "--count must be at least 1"),
        (["--jobs", "-1"], "--jobs must be at least 1"),
        (["--only", "nonsense"], "there are no ingredients ['nonsense']"),
        (["--without", "nonsense"], "there are no ingredients ['nonsense']"),
    ],
)
def test_command_refuses_arguments_that_play_nothing(arguments: list[str], error: str) -> None:
    """If the arguments would run no life, the command says what it expected and exits with 2."""
    done = run(*arguments)
    assert done.returncode == 2
    assert error in done.stderr


async def test_life_names_the_mistake_when_it_is_given_nonsense(virtual_time: Any) -> None:
    """A function that returns no feed, and a string in place of a list of names, raise errors that say so."""
    with pytest.raises(TypeError, match="make_feed must return a feed, not NoneType"):
        await rxws.testing.life(lambda endpoint: None, 1)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="a list of names, not the string 'cuts'"):
        await rxws.testing.life(None, 1, only="cuts")


async def test_life_is_ended_when_it_takes_too_long(virtual_time: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A life that takes too long is ended, and the report says so."""
    monkeypatch.setattr(rxws.testing.lives.playing, "LONGEST", 3.0)
    assert "no end" in (await play(Schedule(1))).kinds
