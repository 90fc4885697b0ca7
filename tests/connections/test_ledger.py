"""The ledger: from the events of a feed to the intervals in which nothing is missing."""

from __future__ import annotations

import pytest

from rxws import Connected, Disconnected, Gap, Interval, Quiet, Resumed, Rotated
from rxws.connections.ledger import Ledger


def connected(number, time):
    """Return the event of a connection."""
    return Connected(name="feed", time=time, number=number, attempt=1)


def ended(number, time, reason="network"):
    """Return the event of a connection's end."""
    return Disconnected(name="feed", time=time, number=number, reason=reason, cause="a test")


def gap(start, end, reason="network"):
    """Return a gap."""
    return Gap(start, end, reason, None, name="feed", time=end)


def rotated(number, time):
    """Return the event of a rotation."""
    return Rotated(name="feed", time=time, number=number)


def resumed(number, time):
    """Return the event of a connection that resumes."""
    return Resumed(name="feed", time=time, number=number)


def kept(*events):
    """Return a ledger that has taken these events."""
    ledger = Ledger()
    for event in events:
        ledger.note(event)
    return ledger


def until(ledger, time):
    """Return the continuity when the last message arrived at this time."""
    ledger.heard(time)
    return ledger.continuity()


def test_ledger_is_empty_before_the_first_connection():
    """Before the first connection nothing is complete."""
    ledger = Ledger()
    assert ledger.complete_since is None
    ledger.heard(None)
    ledger.heard(5.0)
    assert ledger.continuity().intervals == ()


def test_interval_lasts_from_the_connection_to_the_last_message():
    """An interval begins with the connection, has no length before the first message, and ends at the last one."""
    ledger = kept(connected(1, 10.0))
    assert ledger.complete_since == 10.0
    assert ledger.continuity().intervals == (Interval(10.0, 10.0, "connection"),)
    assert until(ledger, 15.0).intervals == (Interval(10.0, 15.0, "connection"),)
    assert until(ledger, 17.0).intervals == (Interval(10.0, 17.0, "connection"),)


def test_loss_ends_the_interval_at_the_last_message():
    """A loss ends the interval where the gap begins, and the next one begins where the gap ends."""
    ledger = kept(connected(1, 10.0), ended(1, 20.0))
    assert ledger.complete_since is None
    for event in (connected(2, 25.0), gap(18.0, 25.0)):
        assert ledger.complete_since is None
        ledger.note(event)
    assert ledger.complete_since == 25.0
    continuity = until(ledger, 30.0)
    assert continuity.intervals == (Interval(10.0, 18.0, "connection"), Interval(25.0, 30.0, "connection"))
    assert continuity.gaps == (gap(18.0, 25.0),)


def test_interval_of_a_lost_connection_is_known_before_the_next_connection():
    """While there is no connection, the last interval ends at the last message."""
    ledger = kept(connected(1, 10.0), ended(1, 20.0))
    assert until(ledger, 18.0).intervals == (Interval(10.0, 18.0, "connection"),)


@pytest.mark.parametrize(("event", "proof"), [(rotated, "overlap"), (resumed, "resumed")])
def test_connection_that_follows_continues_the_chain(event, proof):
    """A rotation and a resumption begin an interval where the one before ends, and the chain continues."""
    ledger = kept(connected(1, 10.0), ended(1, 20.0, "rotation"), connected(2, 21.0))
    assert ledger.complete_since is None
    ledger.note(event(2, 22.0))
    assert ledger.complete_since == 10.0
    assert until(ledger, 30.0).intervals == (Interval(10.0, 20.0, "connection"), Interval(20.0, 30.0, proof))


def test_rotation_with_a_gap_begins_a_new_chain():
    """If an overlap finds a gap, the event ``Gap`` precedes ``Rotated``, and the next interval begins a new chain."""
    ledger = kept(connected(1, 10.0), ended(1, 20.0), connected(2, 21.0), gap(19.0, 21.5, "rotation"), rotated(2, 22.0))
    assert ledger.complete_since == 21.5
    assert until(ledger, 30.0).intervals == (Interval(10.0, 19.0, "connection"), Interval(21.5, 30.0, "connection"))


def test_gap_after_a_rotation_cuts_what_was_joined():
    """A gap that is found after the rotation cuts the chain that the rotation had joined."""
    ledger = kept(connected(1, 10.0), ended(1, 20.0, "rotation"), connected(2, 21.0), rotated(2, 22.0))
    ledger.note(gap(19.0, 24.0, "rotation"))
    assert ledger.complete_since == 24.0
    assert until(ledger, 30.0).intervals == (Interval(10.0, 19.0, "connection"), Interval(24.0, 30.0, "connection"))


def test_connection_that_ends_undecided_leaves_the_decision_to_the_next():
    """A connection that ends before its ``Gap``, ``Rotated`` or ``Resumed`` event adds no interval."""
    ledger = kept(connected(1, 10.0), ended(1, 20.0), connected(2, 21.0), ended(2, 22.0), connected(3, 23.0))
    assert ledger.complete_since is None
    ledger.note(gap(18.0, 23.0))
    assert until(ledger, 30.0).intervals == (Interval(10.0, 18.0, "connection"), Interval(23.0, 30.0, "connection"))


def test_new_connection_that_ends_in_a_rotation_changes_nothing():
    """The end of a connection that never delivered does not change the interval of the other connection."""
    ledger = kept(connected(1, 10.0), ended(2, 20.0), ended(None, 21.0, "handshake"))
    assert ledger.complete_since == 10.0


@pytest.mark.parametrize("end", [25.0, 40.0])
def test_gap_of_the_source_now_is_followed_by_its_own_proof(end):
    """A gap of the source that reaches to the present, or beyond it, ends the chain; the next one begins at its end."""
    ledger = kept(connected(1, 10.0))
    until(ledger, 20.0)
    ledger.note(gap(15.0, end, "source"))
    assert ledger.complete_since == end
    assert until(ledger, 50.0).intervals == (Interval(10.0, 15.0, "connection"), Interval(end, 50.0, "source"))


def test_gap_of_the_source_in_the_past_cuts_the_interval():
    """A gap of the source in the past does not change the intervals before and after it."""
    ledger = kept(connected(1, 10.0))
    until(ledger, 20.0)
    ledger.note(gap(12.0, 13.0, "source"))
    assert ledger.complete_since == 13.0
    assert until(ledger, 30.0).intervals == (Interval(10.0, 12.0, "connection"), Interval(13.0, 30.0, "source"))


def test_gap_before_all_intervals_changes_none():
    """A gap that lies before the first connection is kept, and cuts nothing."""
    ledger = kept(connected(1, 10.0), gap(1.0, 2.0, "source"))
    continuity = until(ledger, 20.0)
    assert continuity.intervals == (Interval(10.0, 20.0, "connection"),)
    assert len(continuity.gaps) == 1


def test_clock_that_was_set_back_ends_no_feed():
    """A gap whose end is before its start, because the clock was set back, has no length."""
    ledger = kept(connected(1, 10.0), ended(1, 20.0), connected(2, 5.0), gap(18.0, 5.0))
    assert until(ledger, 30.0).intervals[-1].end == 30.0


def test_beginning_that_was_not_seen():
    """A recording may begin later than its connection; any end of a connection then ends the interval."""
    ledger = Ledger()
    ledger.began(10.0)
    ledger.began(11.0)
    assert ledger.complete_since == 10.0
    ledger.note(ended(7, 20.0))
    assert ledger.complete_since is None
    ledger.note(connected(8, 21.0))
    ledger.began(22.0)
    assert ledger.complete_since is None


def test_gap_of_a_recording_is_preceded_by_the_last_message_only():
    """The time between the last message of a session and the next session is not complete."""
    ledger = kept(connected(1, 10.0))
    ledger.heard(12.0)
    ledger.note(connected(1, 25.0))
    ledger.note(gap(15.0, 25.0, "recording"))
    assert until(ledger, 30.0).intervals == (Interval(10.0, 12.0, "connection"), Interval(25.0, 30.0, "connection"))


def test_gap_that_ends_before_the_connection_is_reported():
    """After one or two gaps the next interval begins where the last gap ends, not with the connection."""
    ledger = kept(connected(1, 10.0), ended(1, 20.0), gap(15.0, 20.0), connected(2, 25.0))
    assert ledger.complete_since is None
    ledger.note(gap(15.0, 24.0))
    assert ledger.complete_since == 24.0
    assert until(ledger, 30.0).intervals == (Interval(10.0, 15.0, "connection"), Interval(24.0, 30.0, "connection"))


def test_gap_at_the_start_of_the_interval_that_lasts():
    """A gap that ends where the interval begins does not change the interval, even before its first message."""
    ledger = kept(connected(1, 10.0), gap(5.0, 10.0))
    assert ledger.complete_since == 10.0
    assert until(ledger, 12.0).intervals == (Interval(10.0, 12.0, "connection"),)


def test_other_events_change_nothing():
    """Events that do not affect continuity are ignored. Every event is passed on after the ledger has handled it."""
    seen = []
    ledger = Ledger()
    publish = ledger.before(lambda event: seen.append((event, ledger.complete_since)))
    events = [connected(1, 10.0), Quiet(name="feed", time=70.0, seconds=60.0)]
    for event in events:
        publish(event)
    assert seen == [(event, 10.0) for event in events]


@pytest.mark.slow
def test_memory_is_bounded():
    """The newest 10,000 intervals and gaps are kept."""
    ledger = Ledger()
    for number in range(1, 10_051):
        ledger.note(connected(number, number * 10.0))
        if number > 1:
            ledger.note(gap(number * 10.0 - 5, number * 10.0))
        ledger.note(ended(number, number * 10.0 + 6))
    continuity = ledger.continuity()
    assert len(continuity.intervals) == len(continuity.gaps) == 10_000
    assert continuity.gaps[-1] == gap(100_495.0, 100_500.0)
