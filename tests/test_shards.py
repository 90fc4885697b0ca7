"""The command that subscribes many channels on many connections, and what it measures."""

from __future__ import annotations

import pytest

from tests.shards import SEND_LIMIT, memory_per_channel, most_in_window, play


@pytest.mark.usefixtures("virtual_time", "assert_no_leaks")
async def test_channels_are_opened_under_the_limits():
    """Many channels are subscribed once each, under both limits; losses and empty connections are handled."""
    result = await play(3, 120)
    assert (result.subscribed, result.connections, result.after) == (360, 3, 1)
    assert (result.lost, result.twice, result.untouched, result.crowded, result.doubled) == (0, 0, 0, 0, 0)
    assert (result.gaps, result.messages) == (3, SEND_LIMIT[0])


def test_window_counts_the_densest_times():
    """The largest number of times within a half-open window is found."""
    assert most_in_window([0.0, 0.5, 0.9, 1.0, 1.5], 1.0) == 3
    assert most_in_window([], 1.0) == 0


@pytest.mark.slow
def test_memory_per_channel():
    """A channel with its stream takes at most 4 KiB, its share of the connection included."""
    assert memory_per_channel(4, 200) <= 4096
