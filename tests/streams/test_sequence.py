"""Which changes follow which snapshot."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxws.streams.sequence import SequenceTracker, Snapshot, number_reader, range_reader


def make(held_max=100):
    """Make changes whose numbers are U, u and last."""
    return SequenceTracker(range_reader(("U", "u")), number_reader("last"), held_max)


def c(first, last=None):
    """A change."""
    return {"U": first, "u": last or first}


def s(last):
    """A snapshot."""
    return {"last": last}


# Reading numbers


def test_readers_take_keys_paths_and_functions():
    """Numbers are under keys or paths, or what a function makes of a message."""
    assert range_reader(("U", "u"))(c(1, 2)) == (1, 2)
    assert range_reader([("data", "U"), ("data", "u")])({"data": c(3, 4)}) == (3, 4)
    assert range_reader(lambda message: (message, message))(5) == (5, 5)
    assert number_reader("last")(s(6)) == 6
    assert number_reader(("data", "last"))({"data": s(7)}) == 7
    assert number_reader(len)("eight...") == 8


@pytest.mark.parametrize("sequence", ["Uu", ("U",), ("U", "u", "x"), None, {"U": "u"}])
def test_range_reader_when_it_is_no_pair(sequence):
    """Anything but a pair of keys or a function is refused."""
    with pytest.raises(TypeError, match="sequence must be the pair of keys"):
        range_reader(sequence)


@pytest.mark.parametrize(
    ("message", "error"), [({}, KeyError), ({"last": "1"}, TypeError), ({"last": True}, TypeError)]
)
def test_number_that_is_none_raises(message, error):
    """A number that is missing, or is no int, is an error and not a 0."""
    with pytest.raises(error, match="last"):
        number_reader("last")(message)


# In order


def test_changes_are_held_until_the_snapshot():
    """The snapshot comes first; what is not after it is dropped, and what is follows."""
    changes = make()
    assert [changes.apply(c(n)) for n in (1, 2, 3, 4)] == [[], [], [], []]
    assert not changes.in_sync
    assert changes.snapshot(s(2)) == [Snapshot(s(2), "start"), c(3), c(4)]
    assert changes.in_sync
    assert changes.apply(c(5)) == [c(5)]


def test_change_that_straddles_the_snapshot_is_delivered():
    """A change that begins before the end of the one before, and ends after it, is needed."""
    changes = make()
    changes.snapshot(s(5))
    assert changes.apply(c(4, 7)) == [c(4, 7)]
    assert changes.apply(c(6, 7)) == []
    assert changes.apply(c(8, 9)) == [c(8, 9)]


def test_hole_ends_the_sync():
    """A number that is missing makes all that follows be held until the next snapshot, which says why it came."""
    changes = make()
    changes.snapshot(s(1))
    assert changes.apply(c(3)) == []
    assert (changes.in_sync, changes.reason) == (False, "hole")
    assert changes.apply(c(4)) == []
    assert changes.snapshot(s(3)) == [Snapshot(s(3), "hole"), c(4)]


def test_snapshot_that_is_older_than_what_is_held_is_refused():
    """A snapshot that does not reach what is held is of no use, and changes nothing."""
    changes = make()
    changes.apply(c(5))
    assert changes.snapshot(s(3)) is None
    assert not changes.in_sync
    assert changes.snapshot(s(4)) == [Snapshot(s(4), "start"), c(5)]


def test_snapshot_that_is_ahead_of_the_changes():
    """What a snapshot knows already is dropped when it comes."""
    changes = make()
    changes.snapshot(s(10))
    assert [changes.apply(c(n)) for n in (8, 9, 10)] == [[], [], []]
    assert changes.apply(c(11)) == [c(11)]


def test_hole_in_what_is_held():
    """What is held with a hole in it is delivered as far as the hole; the rest waits for another snapshot."""
    changes = make()
    for n in (2, 3, 3, 6, 7):
        changes.apply(c(n))
    assert changes.snapshot(s(1)) == [Snapshot(s(1), "start"), c(2), c(3)]
    assert (changes.in_sync, changes.reason) == (False, "hole")
    assert changes.snapshot(s(6)) == [Snapshot(s(6), "hole"), c(7)]


def test_too_much_to_be_held_needs_a_newer_snapshot():
    """Beyond the bound the oldest are dropped, so that only a newer snapshot will do, and that says why."""
    changes = make(held_max=2)
    for n in (1, 2, 3):
        changes.apply(c(n))
    assert changes.snapshot(s(0)) is None
    assert changes.snapshot(s(1)) == [Snapshot(s(1), "overflow"), c(2), c(3)]


@pytest.mark.parametrize("is_in_sync", [True, False])
def test_numbers_that_go_back_need_a_new_snapshot(is_in_sync):
    """A server that counts anew is not taken for one that repeats itself, whether a snapshot had come or not."""
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


@pytest.mark.parametrize("number", [None, "5", True, 5.0])
def test_functions_must_give_ints(number):
    """What a function gives instead of a number is refused before anything is changed, and its argument is named."""
    with pytest.raises(TypeError, match="the number of snapshot_sequence must be an int"):
        number_reader(lambda data: number)({})
    with pytest.raises(TypeError, match="the last number of sequence must be an int"):
        range_reader(lambda message: (1, number))({})


def test_loss_forgets_all():
    """After a gap nothing that came before it counts."""
    changes = make()
    changes.apply(c(1))
    changes.reset("network")
    assert changes.snapshot(s(0)) == [Snapshot(s(0), "network")]


def test_numbers_that_cannot_be_read_change_nothing():
    """A change or a snapshot without its numbers raises, and all is as it was."""
    changes = make()
    changes.apply(c(1))
    with pytest.raises(KeyError):
        changes.apply({})
    with pytest.raises(KeyError):
        changes.snapshot({})
    assert changes.snapshot(s(0)) == [Snapshot(s(0), "start"), c(1)]


@given(st.data())
def test_what_is_delivered_is_whole_or_not_in_sync(data):
    """Whatever is dropped, doubled, late or early: who applies what comes knows all numbers, or is not in sync."""
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
