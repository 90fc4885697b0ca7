"""The benchmarks: what a ratio means, and that the command works."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

pytest.importorskip("picows")

from .benchmarks import __main__ as command
from .benchmarks import frames
from .benchmarks.contenders import Run
from .benchmarks.rows import Row


def costing(*costs: float) -> Callable[[Run], Coroutine[Any, Any, float]]:
    """Return a contender with these costs, one after the other."""
    left = iter(costs)

    async def measure(_run: Run) -> float:
        return next(left)

    return measure


def row(target: float | None = None, *, at_most: bool = False, is_steady: bool = True, is_ratio: bool = True) -> Row:
    contenders = costing(2.0, 4.0, 5.0), costing(4.0, 4.0, 20.0)
    ours, theirs = contenders if is_ratio else (contenders[0], None)
    return Row("name", "what", "against", target, ours, theirs, at_most=at_most, is_steady=is_steady)


async def test_row_when_more_is_better() -> None:
    """The value is the other contender's cost by ours, the median over the pairs: above 1 rxws costs less."""
    result = await row(2.0).measure(Run("ws://unused"), pairs=3)
    assert (result.value, result.spread, result.ours, result.theirs) == (2.0, (1.0, 4.0), 4.0, 4.0)
    assert row(2.0).is_reached(2.0)
    assert not row(2.0).is_reached(1.99)


async def test_row_when_less_is_better() -> None:
    """The value is our cost by the other contender's, or our cost alone."""
    assert (await row(at_most=True).measure(Run("ws://unused"), pairs=3)).value == 0.5
    assert (await row(at_most=True, is_ratio=False).measure(Run("ws://unused"), pairs=3)).value == 4.0
    assert row(0.5, at_most=True).is_reached(0.5)
    assert not row(0.5, at_most=True).is_reached(0.51)


@pytest.mark.parametrize(("make", "size"), [(frames.trade, 150), (frames.depth, 2_000)])
def test_message_when_made(make: Callable[[int], str], size: int) -> None:
    """Every message has its size and one of 1,000 symbols."""
    for number in (0, 7, 999):
        assert len(make(number).encode()) == size
        assert json.loads(make(number))["s"] == frames.symbol(number)


@pytest.mark.slow
def test_command_when_run_briefly(capsys: pytest.CaptureFixture[str]) -> None:
    """The command measures the rows that it is asked for."""
    names = ("websockets", "picows", "iterated", "loop", "few-depth", "disjoint", "fan-out", "memory", "churn")
    chosen = [word for name in names for word in ("--only", name)]
    command.main([*chosen, "--json", "--scale", "0.01", "--pairs", "1"])
    measured = json.loads(capsys.readouterr().out)
    assert tuple(measured) == names
    assert all(result["ours"] > 0 for result in measured.values())
