"""Cuts of a resuming feed: each message arrives once, and a gap is reported only if the server forgot messages."""

from __future__ import annotations

import pytest

from rxws.connections.matching.matcher import Matcher

from .resuming import WAYS, play

pytestmark = pytest.mark.usefixtures("virtual_time")


@pytest.mark.parametrize("way", WAYS)
async def test_cuts_lose_nothing(way):
    """Despite random cuts and refused handshakes every message arrives once, in order, and without a gap."""
    result = await play(way, 15, rate=1_000)
    assert result.is_sound
    assert (result.gaps, result.behind_gaps) == (0, 0)
    assert result.resumed > 8
    assert result.messages > 3_000


@pytest.mark.parametrize("way", WAYS)
async def test_each_cut_is_one_gap_where_the_server_forgot(way):
    """If the exchange forgets its messages, each cut causes one gap, in place of the missing messages."""
    result = await play(way, 4, rate=1_000, forgets=True)
    assert result.is_sound
    assert (result.gaps, result.resumed) == (4, 0)
    assert result.behind_gaps > 0


async def test_judge_finds_a_broken_rule(monkeypatch):
    """Without the rule that reports a gap if there is no proof, the judge finds lost messages."""
    monkeypatch.setattr(Matcher, "_gap", lambda *_: None)
    result = await play("url", 4, rate=1_000, forgets=True)
    assert result.lost > 0
