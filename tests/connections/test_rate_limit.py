"""How fast may be sent."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxws.connections.rate_limit import MARGIN, SlidingWindow


def test_limit_lets_so_many_through_and_then_waits_for_the_oldest():
    """So many may be sent at once; the next when the oldest is out of the window, and a margin has passed."""
    limit = SlidingWindow(2, 1.0)
    for now in (0.0, 0.25):
        assert limit.delay(now) == 0
        limit.acquire()
        limit.record(now)
    assert limit.delay(0.25) == pytest.approx(0.75 + MARGIN)
    assert limit.delay(1.0 + MARGIN) == 0


def test_limit_counts_turns_that_are_taken_and_not_used():
    """A turn counts from when it is taken; when all are, nobody knows how long it will be; one given back is free."""
    limit = SlidingWindow(1, 1.0)
    limit.acquire()
    assert limit.delay(0.0) == math.inf
    limit.release()
    assert limit.delay(0.0) == 0


def test_limit_counts_what_is_sent_from_when_it_is_sent():
    """A turn that is used late keeps the others waiting from then on."""
    limit = SlidingWindow(1, 1.0)
    limit.acquire()
    limit.record(5.0)
    assert limit.delay(5.0) == pytest.approx(1.0 + MARGIN)


@given(st.integers(1, 6), st.floats(0.01, 10), st.lists(st.floats(0, 3), max_size=60))
def test_limit_is_a_strict_rolling_window(messages, seconds, pauses):
    """Whatever the pauses, no stretch of the window's length holds more messages than are allowed."""
    limit, now, sent = SlidingWindow(messages, seconds), 0.0, []
    for pause in pauses:
        now += pause
        while (delay := limit.delay(now)) > 0:
            now = max(math.nextafter(now, math.inf), now + delay)
        limit.acquire()
        limit.record(now)
        sent.append(now)
    assert all(later - earlier > seconds for earlier, later in zip(sent, sent[messages:], strict=False))
