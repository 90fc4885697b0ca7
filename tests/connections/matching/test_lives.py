"""Random simulations of lines and rotations: the matcher reports a gap for every loss, and no gap without a loss."""

from __future__ import annotations

import pytest

from rxws.connections.matching.evidence import Evidence
from rxws.connections.matching.matcher import Matcher
from rxws.connections.matching.replay import Replay
from tests.connections.matching.simulation import KINDS, total_of

LIVES = 8
"""The number of lives of each kind here. ``python -m tests.connections.matching.simulation`` runs more."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_message_is_delivered_once_in_order_or_after_a_gap(kind):
    """Each message is delivered once and in order, or a gap covers it; there is no gap while a joined line is open."""
    total, faulty = total_of(kind, range(LIVES))
    assert faulty == {}
    assert total["# messages"] > 300 * LIVES
    # Repeated messages are equal, so the matcher cannot always tell a copy from a repetition: allow 1 % of errors.
    assert total["# repeats wrong"] <= 0.01 * total["# repeats"]


def never_a_copy(self, seat, channel, key, now):
    """Replace the rule that finds copies by one that finds none."""


def always_agrees(self, channel, seat, now):
    """Replace the rule that lines need evidence to agree with one that always lets them agree."""
    return True


def never_waits(self, seat):
    """Replace the rule that a line waits for missing copies when another line ends by one that never waits."""


def no_gap(self, channel, now):
    """Replace the rule that reports gaps with one that reports none."""


def never_leads(self, channel, seat, since):
    """Replace the rule that gives up a silent line by one that never does."""
    return False


def nothing_is_older(self, seat):
    """Replace the rule that finds the first copy by one that finds none, so no held message counts as older."""
    return -1


def never_gives_up(self, line):
    """Wait for a proof for ever."""
    return []


def knows_no_beginning(self, oldest):
    """Treat the first copy as the first message of a replay, although other messages may precede it."""
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
        (Evidence, "has_agreed", always_agrees, "rotations, repeats"),
        (Evidence, "copied", never_a_copy, "rotations"),
        (Evidence, "copied", never_a_copy, "resumes, rewound"),
        (Matcher, "_unproven", never_gives_up, "resumes, forgotten"),
        (Replay, "begins_with", knows_no_beginning, "resumes, before memory"),
    ],
)
def test_simulation_finds_a_broken_rule(monkeypatch, owner, rule, broken, kind):
    """When one rule of the matcher is broken, the simulation finds a fault within a few lives."""
    monkeypatch.setattr(owner, rule, broken)
    assert any(total_of(kind, [seed])[1] for seed in range(40))
