"""Lanes: lives over time as rows of characters."""

from __future__ import annotations

import pytest

from rxws.cli import lanes
from rxws.cli.lanes import Lane, draw, ruler


@pytest.fixture
def clock(monkeypatch):
    """Let lanes read a clock that the test sets."""
    now = [0.0]
    monkeypatch.setattr(lanes.time, "monotonic", lambda: now[0])
    return now


def lived(clock, name, *events):
    """Return a lane with changes at these times, and with marks where the name of the state has a star."""
    lane = Lane(name)
    for clock[0], state in events:
        if state is not None and state.startswith("*"):
            lane.mark(state[1:])
        else:
            lane.change(state)
    return lane


def drawn(*shown, now=10.0, width=31, unicode=True):
    """Return the lives of lanes as text: ten seconds, where names take two columns and notes eight."""
    column, columns, lines = draw(shown, start=0.0, end=10.0, now=now, width=width, unicode=unicode)
    return [line.plain[column : column + columns] for line in lines]


def test_life_is_drawn_from_its_start_to_its_end(clock):
    """A character is half a second wide. A life that has ended has an end, and one that goes on has none."""
    ended = lived(clock, "a", (1, "starting"), (2, "running"), (6, None))
    growing = lived(clock, "b", (5, "running"))
    assert drawn(ended, growing) == ["  ╌╌━━━━━━━╸        ", "          ╺━━━━━━━━━"]


def test_mark_gets_a_character_however_short(clock):
    """A cut and a gap take no time, and each replaces one character."""
    cut = lived(clock, "a", (0, "running"), (5.001, "*cut"), (5.002, None))
    streams = lived(clock, "b", (0, "running"), (5.001, "*gap"))
    assert drawn(cut, streams) == ["━━━━━━━━━━✘         ", "━━━━━━━━━━╳━━━━━━━━━"]  # noqa: RUF001
    assert drawn(cut, streams, unicode=False) == ["==========x         ", "==========x========="]


def test_future_is_empty(clock):
    """Times after the present are empty."""
    assert drawn(lived(clock, "a", (0, "running")), now=4.9) == ["━━━━━━━━━━          "]


def test_life_keeps_a_width_when_the_terminal_is_narrow(clock):
    """On a very narrow terminal a life still has ten columns."""
    _, columns, _ = draw([lived(clock, "a", (0, "running"))], start=0, end=1, now=1, width=5, unicode=True)
    assert columns == 10


def test_ruler_names_times_where_they_are():
    """Each name begins at its time, and a name that has no room is cut."""
    names = [(0.0, "start"), (5.0, "rotation"), (6.0, "cut")]
    assert ruler(names, start=0, end=10, width=30, unicode=False) == "|start         |r |cut"
    assert len(ruler(names, start=0, end=10, width=10, unicode=True)) == 10
