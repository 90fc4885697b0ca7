"""Lives of lines and of rotations: nothing is lost without a gap, and no gap is false."""

from __future__ import annotations

import pytest

from rxws.connections.matching.evidence import Evidence
from rxws.connections.matching.matcher import Matcher
from rxws.connections.matching.replay import Replay
from tests.connections.matching.simulation import KINDS, total_of

LIVES = 15
"""How many lives of each kind are played; ``python -m tests.connections.matching.simulation`` plays more."""


@pytest.mark.parametrize("kind", KINDS)
def test_every_message_comes_once_in_order_or_behind_a_gap(kind):
    """Each number of each channel comes once and in order, or a gap stands in its place; no gap while a line lives."""
    total, faulty = total_of(kind, range(LIVES))
    assert faulty == {}
    assert total["# messages"] > 300 * LIVES
    # Equal messages carry no number, so that a few may err.
    assert total["# repeats wrong"] <= 0.01 * total["# repeats"]


def never_a_copy(self, seat, channel, key, now):
    """Find no copies."""


def always_agrees(self, seat, now):
    """Agree without evidence."""
    return True


def never_waits(self, seat):
    """Wait for nothing at the end of a line."""


def no_gap(self, channel, now):
    """Report no gap."""


def never_leads(self, channel, seat, since):
    """Never give up a silent line."""
    return False


def nothing_is_older(self, seat):
    """Know no first copy."""
    return -1


def never_gives_up(self, line):
    """Wait for a proof for ever."""
    return []


def knows_no_beginning(self, oldest):
    """Take the first copy for the first message, although more may precede it."""
    return False


@pytest.mark.parametrize(
    ("owner", "rule", "broken", "kind"),
    [
        (Evidence, "copied", never_a_copy, "kills"),
        (Evidence, "has_agreed", always_agrees, "kills, stalls"),
        (Matcher, "_await_owed", never_waits, "kills, stalls"),
        (Matcher, "_gap", no_gap, "kills of all"),
        (Evidence, "leads", never_leads, "mute line"),
        (Evidence, "first_copy", nothing_is_older, "kills, late channel"),
        (Evidence, "has_agreed", always_agrees, "rotations, kills"),
        (Evidence, "copied", never_a_copy, "rotations"),
        (Evidence, "copied", never_a_copy, "resumes, rewound"),
        (Matcher, "_unproven", never_gives_up, "resumes, forgotten"),
        (Replay, "begins_with", knows_no_beginning, "resumes, before memory"),
    ],
)
def test_simulation_finds_a_broken_rule(monkeypatch, owner, rule, broken, kind):
    """Without a rule the simulation finds a fault within a few lives."""
    monkeypatch.setattr(owner, rule, broken)
    assert any(total_of(kind, [seed])[1] for seed in range(40))
