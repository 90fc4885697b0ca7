"""Checks of times in seconds and of counts."""

from __future__ import annotations

import math

import pytest

from rxws.checks import check_count, check_seconds


@pytest.mark.parametrize("seconds", [1, 0.001, 1e9])
@pytest.mark.parametrize("zero", [True, False])
def test_check_when_valid(seconds, zero):
    """Positive numbers pass, and zero passes where zero is allowed."""
    check_seconds("timeout", seconds, zero=zero)
    check_seconds("timeout", 0, zero=True)


@pytest.mark.parametrize("seconds", ["1", None, True, 1j])
def test_check_when_not_a_number(seconds):
    """A value that is not a number raises TypeError with the argument's name."""
    with pytest.raises(TypeError, match="timeout must be a positive number of seconds, not"):
        check_seconds("timeout", seconds, zero=False)


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
def test_check_when_out_of_range(seconds):
    """A negative or infinite number, NaN, and zero where it is not allowed raise ValueError."""
    with pytest.raises(ValueError, match="timeout must be a positive number of seconds, not"):
        check_seconds("timeout", seconds, zero=False)


def test_check_says_whether_zero_is_allowed():
    """The error text states the allowed values."""
    with pytest.raises(ValueError, match="timeout must be a number of seconds of at least 0, not -1"):
        check_seconds("timeout", -1, zero=True)


def test_count_when_valid():
    """Ints from 1 on pass."""
    check_count("count", 1)
    check_count("count", 10**9)


@pytest.mark.parametrize("count", ["1", None, True, 1.0])
def test_count_when_not_an_int(count):
    """A count that is not an int raises TypeError with the argument's name."""
    with pytest.raises(TypeError, match="count must be an int of at least 1, not"):
        check_count("count", count)


@pytest.mark.parametrize("count", [0, -1])
def test_count_when_out_of_range(count):
    """A count below 1 raises ValueError."""
    with pytest.raises(ValueError, match="count must be an int of at least 1, not"):
        check_count("count", count)
