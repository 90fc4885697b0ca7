"""Cuts of a feed with a history: each trade comes once, and a gap is reported only where the history lacks trades."""

from __future__ import annotations

import pytest

from rxws.streams.holes import HoleTracker

from .backfilling import play

pytestmark = pytest.mark.usefixtures("virtual_time")


@pytest.mark.parametrize("way", ["number", "time"])
async def test_cuts_lose_nothing_when_the_history_has_all(way):
    """Despite random cuts, and a history that is late, slow, short and failing, every trade comes once and in order."""
    result = await play(way, 10, rate=400)
    assert result.is_sound
    assert (result.gaps, result.behind_gaps) == (0, 0)
    assert result.losses > 6
    assert result.messages > 1_000


async def test_gap_takes_the_place_of_a_trade_that_the_history_lacks():
    """If the history lacks a trade, exactly one gap takes its place."""
    result = await play("lacking", 2, rate=200)
    assert result.is_sound
    assert (result.gaps, result.behind_gaps) == (2, 2)


async def test_judge_finds_a_broken_rule(monkeypatch):
    """If holes count as filled although the history is behind, the judge finds lost trades."""
    monkeypatch.setattr(HoleTracker, "is_filled", True)
    result = await play("number", 6, rate=400)
    assert result.lost > 0
