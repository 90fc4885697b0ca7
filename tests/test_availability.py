"""The share of the time that a feed is live although its server cuts repeatedly."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from rxws.connections import backoff

from . import availability
from .availability import ROWS, Result, Row, measure


@pytest.mark.slow
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"cut after {row.service:g} s")
def test_what_is_required_is_reached(row):
    """A cut after healthy service costs little time, and a server that cuts at once gets few attempts."""
    assert measure(row).reaches(row)


@pytest.mark.slow
def test_the_command_prints_each_row_and_fails_if_one_is_missed(capsys):
    """The exit code is 1 if any row misses its requirements."""
    assert availability.main([Row(5.0, least_live=0.8)]) == 0
    with patch.object(backoff, "HEALTHY_SPAN", 30.0), patch.object(backoff, "HEALTHY_AFTER", 30.0):
        assert availability.main([Row(5.0, least_live=0.8)]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("reached")
    assert "NOT REACHED" in second


def test_both_numbers_of_a_row_are_required():
    """A row needs both: the feed is live for long enough, and attempts are rare enough."""
    row = Row(1.0, 0.5, 10.0)
    assert Result(0.5, 10.0).reaches(row)
    assert not Result(0.4, 10.0).reaches(row)
    assert not Result(0.5, 9.0).reaches(row)
