"""Times that users give."""

from __future__ import annotations

import math

import pytest

from rxws.checks import check_seconds


@pytest.mark.parametrize("seconds", [1, 0.001, 1e9])
@pytest.mark.parametrize("zero", [True, False])
def test_check_when_it_can_be_a_time(seconds, zero):
    """Positive numbers are times, and zero where there may be no time at all."""
    check_seconds("timeout", seconds, zero=zero)
    check_seconds("timeout", 0, zero=True)


@pytest.mark.parametrize("seconds", ["1", None, True, 1j])
def test_check_when_it_is_no_number(seconds):
    """What is no number is of the wrong kind, and the argument is named."""
    with pytest.raises(TypeError, match="timeout must be a positive number of seconds, not"):
        check_seconds("timeout", seconds, zero=False)


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
def test_check_when_it_is_no_time(seconds):
    """No time is negative or endless, and where zero makes no sense it is none."""
    with pytest.raises(ValueError, match="timeout must be a positive number of seconds, not"):
        check_seconds("timeout", seconds, zero=False)


def test_check_says_whether_zero_is_allowed():
    """The message names what was expected."""
    with pytest.raises(ValueError, match="timeout must be a number of seconds of at least 0, not -1"):
        check_seconds("timeout", -1, zero=True)
