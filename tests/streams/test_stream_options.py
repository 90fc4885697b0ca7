"""StreamOptions: defaults and checks."""

from __future__ import annotations

import dataclasses

import pytest

from rxws.streams.stream_options import StreamOptions


def test_options_when_none_are_given():
    """By default a stream holds up to a million messages and 256 MiB, then ends with an error. Options are frozen."""
    options = StreamOptions()
    assert options == StreamOptions(1_000_000, "error", gaps=False, copy=False, maxbytes=268_435_456)
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.maxsize = 1


@pytest.mark.parametrize("maxsize", [1, 2, 10**9, None])
@pytest.mark.parametrize("overflow", ["error", "drop_oldest", "drop_newest"])
def test_bounds_when_right(maxsize, overflow):
    """maxsize is a positive int or None, and overflow is one of three words."""
    options = StreamOptions(maxsize, overflow)
    assert (options.maxsize, options.overflow, options.gaps, options.copy) == (maxsize, overflow, False, False)


@pytest.mark.parametrize("maxsize", [0, -1, -(10**9)])
def test_bounds_when_maxsize_is_too_small(maxsize):
    """A maxsize below 1 raises a ValueError that shows the smallest value and the given value."""
    with pytest.raises(ValueError, match=rf"maxsize must be at least 1, or None .* not {maxsize}"):
        StreamOptions(maxsize)


@pytest.mark.parametrize("maxsize", ["10", 1.5, True, False, [1]])
def test_bounds_when_maxsize_is_not_a_number(maxsize):
    """A maxsize that is not an int raises a TypeError that names the option."""
    with pytest.raises(TypeError, match="maxsize must be a positive int, or None"):
        StreamOptions(maxsize)


@pytest.mark.parametrize("maxbytes", [0, -1, "10", 1.5, True])
def test_bounds_when_maxbytes_is_wrong(maxbytes):
    """A maxbytes that is not a positive int raises an error that names the option."""
    with pytest.raises((TypeError, ValueError), match="maxbytes must be"):
        StreamOptions(maxbytes=maxbytes)


@pytest.mark.parametrize("overflow", ["drop", "", None, 1, "ERROR", ["error"]])
def test_bounds_when_overflow_is_unknown(overflow):
    """An unknown overflow raises a ValueError that names the option and the three allowed words."""
    with pytest.raises(ValueError, match="overflow must be 'error', 'drop_oldest' or 'drop_newest', not"):
        StreamOptions(overflow=overflow)
