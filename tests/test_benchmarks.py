"""The benchmarks: their ratios, their comparison of two checkouts, and their commands."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("picows")

from .benchmarks import __main__ as command
from .benchmarks import compare, frames
from .benchmarks.compare import Comparison, distinct
from .benchmarks.contenders import Run
from .benchmarks.rows import ROWS, Row

ROOT = Path(__file__).resolve().parents[1]


def costing(*costs: float) -> Callable[[Run], Coroutine[Any, Any, float]]:
    """Return a contender that has these costs one after the other."""
    left = iter(costs)

    async def measure(_run: Run) -> float:
        return next(left)

    return measure


def row(target: float | None = None, *, at_most: bool = False, is_steady: bool = True, is_ratio: bool = True) -> Row:
    contenders = costing(2.0, 4.0, 5.0), costing(4.0, 4.0, 20.0)
    ours, theirs = contenders if is_ratio else (contenders[0], None)
    return Row("name", "what", "against", target, ours, theirs, at_most=at_most, is_steady=is_steady)


async def test_row_when_more_is_better() -> None:
    """The value is the median of the other contender's cost divided by ours, so above 1 rxws costs less."""
    result = await row(2.0).measure(Run("ws://unused"), pairs=3)
    assert (result.value, result.spread, result.ours, result.theirs) == (2.0, (1.0, 4.0), 4.0, 4.0)
    assert row(2.0).is_reached(2.0)
    assert not row(2.0).is_reached(1.99)


async def test_row_when_less_is_better() -> None:
    """The value is our cost divided by the other contender's, or our cost alone."""
    assert (await row(at_most=True).measure(Run("ws://unused"), pairs=3)).value == 0.5
    assert (await row(at_most=True, is_ratio=False).measure(Run("ws://unused"), pairs=3)).value == 4.0
    assert row(0.5, at_most=True).is_reached(0.5)
    assert not row(0.5, at_most=True).is_reached(0.51)


def test_comparison_when_a_row_costs_more() -> None:
    """A row is worse if the median of its ratios shows that its cost grew by more than 3 %."""
    assert not Comparison(row(), [100.0] * 3, [50.0, 102.9, 120.0]).is_worse
    worse = Comparison(row(), [100.0] * 3, [50.0, 103.1, 120.0])
    assert worse.is_worse
    assert "WORSE" in str(worse)
    assert worse.note == "wide spread: measure it again"


def test_comparison_when_the_spread_is_narrow() -> None:
    """A narrow spread has no note."""
    assert Comparison(row(), [100.0] * 4, [104.0, 104.0, 105.0, 104.0]).note == ""


def test_comparison_when_the_row_is_not_steady() -> None:
    """An unsteady row is worse only if just the new checkout misses its target; an unsteady ratio is never worse."""
    figure = row(25.0, at_most=True, is_steady=False, is_ratio=False)
    assert not Comparison(figure, [5.0], [24.0]).is_worse
    assert Comparison(figure, [5.0], [26.0]).is_worse
    assert not Comparison(figure, [26.0], [27.0]).is_worse
    assert not Comparison(row(2.0, is_steady=False), [5.0], [500.0]).is_worse


def test_comparison_when_nothing_is_used() -> None:
    """Two costs of zero are equal, and zero is better than a cost."""
    assert Comparison(row(), [0.0, 1.0], [0.0, 0.0]).ratios == [1.0, float("inf")]


async def test_comparison_when_a_row_seems_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that seems worse is measured up to three times as often, in pairs of alternating order."""
    asked: list[bool] = []

    async def cost_of(checkout: Path, name: str, run: Run) -> float:
        asked.append(checkout == ROOT)
        return 2.0 if checkout == ROOT and len(asked) <= 4 else 1.0

    monkeypatch.setattr(compare, "cost_of", cost_of)
    comparison = await compare.compare(Path("/old"), row(), Run("ws://unused"), pairs=2)
    assert not comparison.is_worse
    assert comparison.ratios == [0.5, 0.5, 1.0, 1.0, 1.0, 1.0]
    assert asked == [True, False, False, True] * 3


def test_rows_when_rxws_does_the_same_in_two() -> None:
    """A comparison measures rows with the same work of rxws only once, and its rows have unique names."""
    first = row()
    assert distinct([first, dataclasses.replace(first, name="other"), row()])[0] is first
    assert len(distinct([first, dataclasses.replace(first, name="other"), row()])) == 2
    assert len({each.name for each in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("make", "size"), [(frames.trade, 150), (frames.array, 150), (frames.depth, 2_000)])
def test_message_when_made(make: Callable[[int], str], size: int) -> None:
    """Every message has the expected size, and one of 1,000 symbols."""
    for number in (0, 7, 999):
        assert len(make(number).encode()) == size
        assert json.loads(make(number))[1 if make is frames.array else "s"] == frames.symbol(number)


@pytest.mark.slow
def test_command_when_run_briefly(capsys: pytest.CaptureFixture[str]) -> None:
    """The command measures the requested rows."""
    names = ("websockets", "picows", "iterated", "loop", "few-depth", "disjoint", "fan-out", "memory", "churn")
    chosen = [word for name in names for word in ("--only", name)]
    command.main([*chosen, "--json", "--scale", "0.01", "--pairs", "1"])
    measured = json.loads(capsys.readouterr().out)
    assert tuple(measured) == names
    assert all(result["ours"] > 0 for result in measured.values())


@pytest.mark.slow
def test_command_when_it_compares(capsys: pytest.CaptureFixture[str]) -> None:
    """The command compares a checkout with itself, in separate processes."""
    arguments = ["--compare", str(ROOT), "--only", "memory", "--only", "transports", "--scale", "0.01", "--pairs", "1"]
    command.main([*arguments, "--json"])
    compared = json.loads(capsys.readouterr().out)
    assert compared["memory"]["ratio"] == pytest.approx(1, abs=0.03)
    assert compared["transports"]["old"][0] > 0


def test_command_when_there_is_no_checkout(tmp_path: Path) -> None:
    """A folder without rxws raises an error with its name before the first measurement."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--compare", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert f"{tmp_path}: expected a folder with the package rxws in it" in done.stderr
