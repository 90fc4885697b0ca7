"""SnapshotTracker: the decision which changes follow which snapshot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxws.messages.fields import number_reader, range_reader
from rxws.streams.sequence import Snapshot, SnapshotTracker


def make(held_max=100):
    """Make a tracker of changes with the numbers ``U`` and ``u``, and of snapshots with the number ``last``."""
    range_of, number_of = range_reader(["U", "u"], "sequence"), number_reader("last", "snapshot_sequence")
    return SnapshotTracker(range_of, number_of, held_max=held_max)


def c(first, last=None):
    """Return a change with the numbers from ``first`` to ``last``."""
    return {"U": first, "u": last or first}


def s(last):
    """Return a snapshot that contains all changes up to ``last``."""
    return {"last": last}


# In order


def test_snapshot_when_changes_are_held():
    """The snapshot is delivered first, then the held changes after it; held changes before it are dropped."""
    changes = make()
    assert [changes.apply(c(n)) for n in (1, 2, 3, 4)] == [[], [], [], []]
    assert not changes.in_sync
    assert changes.snapshot(s(2)) == [Snapshot(s(2), "start"), c(3), c(4)]
    assert changes.in_sync
    assert changes.apply(c(5)) == [c(5)]


def test_change_when_it_overlaps_the_snapshot():
    """A change that begins before the last number and ends after it is delivered."""
    changes = make()
    changes.snapshot(s(5))
    assert changes.apply(c(4, 7)) == [c(4, 7)]
    assert changes.apply(c(6, 7)) == []
    assert changes.apply(c(8, 9)) == [c(8, 9)]


def test_change_when_a_number_is_missing():
    """After a missing number all changes are held until the next snapshot, which has the reason "hole"."""
    changes = make()
    changes.snapshot(s(1))
    assert changes.apply(c(3)) == []
    assert (changes.in_sync, changes.reason) == (False, "hole")
    assert changes.apply(c(4)) == []
    assert changes.snapshot(s(3)) == [Snapshot(s(3), "hole"), c(4)]


def test_snapshot_when_it_is_older_than_the_held_changes():
    """A snapshot that is older than the held changes is refused and changes nothing."""
    changes = make()
    changes.apply(c(5))
    assert changes.snapshot(s(3)) is None
    assert not changes.in_sync
    assert changes.snapshot(s(4)) == [Snapshot(s(4), "start"), c(5)]


def test_snapshot_when_it_is_ahead_of_the_changes():
    """Later changes that the snapshot contains are dropped."""
    changes = make()
    changes.snapshot(s(10))
    assert [changes.apply(c(n)) for n in (8, 9, 10)] == [[], [], []]
    assert changes.apply(c(11)) == [c(11)]


def test_snapshot_when_held_changes_have_a_hole():
    """Held changes are delivered up to a hole; the others wait for another snapshot."""
    changes = make()
    for n in (2, 3, 3, 6, 7):
        changes.apply(c(n))
    assert changes.snapshot(s(1)) == [Snapshot(s(1), "start"), c(2), c(3)]
    assert (changes.in_sync, changes.reason) == (False, "hole")
    assert changes.snapshot(s(6)) == [Snapshot(s(6), "hole"), c(7)]


def test_change_when_too_many_are_held():
    """Beyond the bound the oldest changes are dropped, and only a snapshot newer than these is accepted."""
    changes = make(held_max=2)
    for n in (1, 2, 3):
        changes.apply(c(n))
    assert changes.snapshot(s(0)) is None
    assert changes.snapshot(s(1)) == [Snapshot(s(1), "overflow"), c(2), c(3)]


@pytest.mark.parametrize("is_in_sync", [True, False])
def test_change_when_the_numbers_go_back(is_in_sync):
    """A smaller number than before means that the server has restarted its count, even before the first snapshot."""
    changes = make()
    changes.apply(c(101))
    if is_in_sync:
        changes.snapshot(s(100))
        assert changes.apply(c(101)) == []
        assert changes.in_sync
    assert changes.apply(c(1)) == []
    assert not changes.in_sync
    assert changes.apply(c(2)) == []
    assert changes.snapshot(s(1)) == [Snapshot(s(1), "restart"), c(2)]


def test_reset_when_changes_are_held():
    """After a gap all earlier changes are discarded."""
    changes = make()
    changes.apply(c(1))
    changes.reset("network")
    assert changes.snapshot(s(0)) == [Snapshot(s(0), "network")]


def test_numbers_when_they_cannot_be_read():
    """A change or a snapshot without readable numbers raises, and the tracker is unchanged."""
    changes = make()
    changes.apply(c(1))
    with pytest.raises(KeyError):
        changes.apply({})
    with pytest.raises(KeyError):
        changes.snapshot({})
    assert changes.snapshot(s(0)) == [Snapshot(s(0), "start"), c(1)]


@pytest.mark.parametrize("reason", ["network", "unreadable"])
def test_snapshot_that_is_older_than_what_was_delivered_is_refused(reason):
    """After a loss, a snapshot older than the delivered changes is refused, even if no change is held."""
    changes = make()
    changes.snapshot(s(7))
    assert changes.apply(c(8)) == [c(8)]
    changes.reset(reason)
    assert changes.snapshot(s(7)) is None
    assert not changes.in_sync
    assert changes.snapshot(s(8)) == [Snapshot(s(8), reason)]
    changes.reset(reason)
    assert changes.apply(c(9)) == []
    assert changes.snapshot(s(7)) is None
    assert changes.snapshot(s(8)) == [Snapshot(s(8), reason), c(9)]


def test_older_snapshot_is_accepted_when_a_change_proves_a_restart():
    """After a gap, a change with a smaller number than the previous one proves that the server restarted its count."""
    changes = make()
    changes.snapshot(s(100))
    changes.apply(c(101))
    changes.reset("network")
    assert changes.snapshot(s(2)) is None
    assert changes.apply(c(3)) == []
    assert changes.snapshot(s(2)) == [Snapshot(s(2), "restart"), c(3)]
    assert changes.in_sync


def test_change_older_than_a_snapshot_does_not_prove_a_restart():
    """A change older than the last snapshot does not prove a restart, because a snapshot may be ahead of the stream."""
    changes = make()
    changes.apply(c(5))
    changes.snapshot(s(10))
    changes.reset("network")
    assert changes.apply(c(8)) == []
    assert changes.snapshot(s(8)) is None
    assert changes.snapshot(s(11)) == [Snapshot(s(11), "network")]


def test_older_snapshot_is_accepted_when_the_numbers_are_forgotten():
    """When the server may have restarted its count, a snapshot with a lower number is accepted."""
    changes = make()
    changes.snapshot(s(100))
    assert changes.apply(c(101)) == [c(101)]
    changes.forget()
    changes.reset("network")
    assert changes.apply(c(3)) == []
    assert changes.snapshot(s(2)) == [Snapshot(s(2), "network"), c(3)]


def test_change_when_none_may_be_held():
    """Without room for held changes, those before the snapshot are not delivered, and are not a loss."""
    changes = make(0)
    assert changes.apply(c(1)) == changes.apply(c(2)) == []
    assert changes.snapshot(s(2)) == [Snapshot(s(2), "start")]
    assert changes.apply(c(3)) == [c(3)]
    assert changes.dropped == 0


@given(st.data())
def test_tracker_when_changes_are_dropped_doubled_late_or_early(data):
    """A consumer that applies the delivered items has all changes whenever in_sync is True."""
    changes, told, number = make(held_max=5), None, 0

    def apply(items):
        nonlocal told
        for item in items or []:
            if isinstance(item, Snapshot):
                told = item.data["last"]
            else:
                assert item["U"] <= told + 1 <= item["u"]
                told = item["u"]

    for what in data.draw(
        st.lists(st.sampled_from(["change"] * 4 + ["drop", "again", "snapshot", "lose"]), max_size=60)
    ):
        if what in ("change", "drop"):
            first, number = number + 1, number + data.draw(st.integers(1, 3))
            if what == "change":
                apply(changes.apply(c(first, number)))
                assert not changes.in_sync or told == number
        elif what == "again" and number:
            apply(changes.apply(c(number)))
        elif what == "snapshot" and not changes.in_sync:
            apply(changes.snapshot(s(max(0, number - data.draw(st.integers(0, 4))))))
        elif what == "lose":
            changes.reset("network")
            assert not changes.in_sync
