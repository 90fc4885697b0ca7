"""The strict rolling window of a rate limit."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxws.connections.rate_limit import MARGIN, SlidingWindow


def test_limit_allows_a_number_and_then_waits_for_the_oldest():
    """When a window is full, the next message waits until the oldest one has left the window and its margin."""
    limit = SlidingWindow(2, 1.0)
    for now in (0.0, 0.25):
        assert limit.delay(now) == 0
        limit.acquire()
        limit.record(now)
    assert limit.delay(0.25) == pytest.approx(0.75 + MARGIN)
    assert limit.delay(1.0 + MARGIN) == 0


def test_limit_counts_acquired_slots():
    """An acquired slot counts at once; if all slots are acquired, the delay is infinite; a released slot is free."""
    limit = SlidingWindow(1, 1.0)
    limit.acquire()
    assert limit.delay(0.0) == math.inf
    limit.release()
    assert limit.delay(0.0) == 0


def test_limit_counts_a_message_from_when_it_is_sent():
    """A message counts from the time when it is sent, even if its slot was acquired much earlier."""
    limit = SlidingWindow(1, 1.0)
    limit.acquire()
    limit.record(5.0)
    assert limit.delay(5.0) == pytest.approx(1.0 + MARGIN)


@given(st.integers(1, 6), st.floats(0.01, 10), st.lists(st.floats(0, 3), max_size=60))
def test_limit_is_a_strict_rolling_window(messages, seconds, pauses):
    """For any pauses, no interval of the window's length contains more messages than allowed."""
    limit, now, sent = SlidingWindow(messages, seconds), 0.0, []
    for pause in pauses:
        now += pause
        while (delay := limit.delay(now)) > 0:
            now = max(math.nextafter(now, math.inf), now + delay)
        limit.acquire()
        limit.record(now)
        sent.append(now)
    assert all(later - earlier > seconds for earlier, later in zip(sent, sent[messages:], strict=False))
