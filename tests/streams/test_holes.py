"""HoleTracker: which live messages and which of the history can be delivered, and where some are missing."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxws.messages.fields import range_reader
from rxws.reporting.events import Gap
from rxws.streams import holes
from rxws.streams.holes import Delivered, HoleTracker, Lost

GAP = Gap(1.0, 2.0)


def m(number, name=""):
    """Return a message with this number."""
    return {"n": number, "x": name}


def make(*, contiguous=True, identity=None, after=None):
    """Make a tracker; with ``after`` it has delivered the message with this number."""
    tracker = HoleTracker(range_reader("n", "sequence"), contiguous, "key", Delivered(identity))
    if after is not None:
        tracker.apply(m(after))
        assert fill(tracker) == [after]
    return tracker


def short(items):
    """Return the numbers of the items, and "lost" in place of missing ones."""
    return ["lost" if isinstance(each, Lost) else each["n"] for each in items]


def fill(tracker, *messages):
    """Make one attempt with these messages of the history, and return the delivered items in short."""
    tracker.begin()
    items = [item for message in messages for item in tracker.fill(message)]
    return short(items + tracker.settle())


def apply(tracker, *messages):
    """Take live messages, and return the delivered items in short."""
    return short([item for message in messages for item in tracker.apply(message)])


def test_first_message_when_the_history_is_empty():
    """The history is asked for messages before the first one, and may have nothing."""
    tracker = make()
    assert apply(tracker, m(5), m(6)) == []
    assert tracker.bounds == (None, 5)
    assert fill(tracker) == [5, 6]
    assert (tracker.in_sync, tracker.is_suspect) == (True, False)


def test_first_message_when_the_history_has_earlier_ones():
    """A warm start delivers the history's messages first, from any number on."""
    tracker = make()
    assert apply(tracker, m(5)) == []
    assert fill(tracker, m(3)) == [3]
    assert tracker.bounds == (3, 5)
    assert fill(tracker, m(4), m(5), m(6)) == [4, 5]


@pytest.mark.parametrize("contiguous", [True, False])
def test_message_when_it_follows(contiguous):
    """Without a Gap and a missing number, messages are delivered when they arrive."""
    tracker = make(contiguous=contiguous, after=1)
    assert apply(tracker, m(2), m(3)) == [2, 3]


def test_message_when_numbers_are_missing():
    """Messages after a hole are held until the history has filled it."""
    tracker = make(after=1)
    assert apply(tracker, m(4), m(5)) == []
    assert not tracker.in_sync
    assert fill(tracker, m(2)) == [2]
    assert apply(tracker, m(6)) == []
    assert fill(tracker, m(1), m(2), m(3), m(4), m(7)) == [3, 4, 5, 6]
    assert tracker.in_sync


def test_history_when_it_lacks_a_message_at_first():
    """Messages after a missing one are kept, and delivered when a later attempt has it."""
    tracker = make(after=1)
    apply(tracker, m(6))
    assert fill(tracker, m(2), m(4)) == [2]
    assert fill(tracker, m(5)) == []
    assert fill(tracker, m(3), m(4)) == [3, 4, 5, 6]


def test_give_up_when_messages_are_missing():
    """Each place where messages are missing is marked, and what is there is delivered."""
    tracker = make(after=1)
    tracker.lose(GAP)
    apply(tracker, m(8))
    fill(tracker, m(2), m(4), m(6))
    items = tracker.give_up()
    assert short(items) == ["lost", 4, "lost", 6, "lost", 8]
    assert items[0].gap is GAP
    assert tracker.in_sync


def test_give_up_when_no_message_is_held():
    """Without a live message after the hole nothing is known to be missing; the next message shows it."""
    tracker = make(after=1)
    tracker.lose(GAP)
    tracker.open()
    assert short(tracker.give_up()) == []
    assert (tracker.in_sync, tracker.is_suspect, tracker.is_due) == (True, True, False)
    assert apply(tracker, m(2)) == [2]
    assert not tracker.is_suspect


def test_gap_when_nothing_is_missing():
    """After a Gap without a missing number the history is not needed."""
    tracker = make(after=1)
    tracker.lose(GAP)
    assert tracker.is_suspect
    assert apply(tracker, m(2)) == [2]
    assert (tracker.in_sync, tracker.is_suspect) == (True, False)


@pytest.mark.parametrize("contiguous", [True, False])
def test_gap_when_messages_are_held(contiguous):
    """A second Gap meanwhile is a second hole after the first one."""
    tracker = make(contiguous=contiguous, after=1)
    tracker.lose(GAP)
    apply(tracker, m(4))
    tracker.lose(GAP)
    apply(tracker, m(8))
    assert tracker.holes == 2
    assert fill(tracker, *map(m, range(1, 6)))[-1] == 4
    assert (tracker.holes, tracker.bounds) == (3, (4, 8))
    assert fill(tracker, *map(m, range(4, 9)))[-1] == 8
    assert tracker.in_sync


@pytest.mark.parametrize("contiguous", [True, False])
def test_message_when_the_server_has_restarted(contiguous):
    """After a Gap, a number that is neither greater nor a copy restarts the count, after a mark."""
    tracker = make(contiguous=contiguous, after=100)
    tracker.lose(GAP)
    items = tracker.apply(m(1, "new"))
    assert short(items) == ["lost", 1]
    assert items[0].gap is GAP
    assert apply(tracker, m(2)) == [2]


def test_message_when_numbers_restart_without_a_gap():
    """Numbers that grow by one show a restart even without a Gap."""
    tracker = make(after=100)
    assert apply(tracker, m(1), m(2)) == ["lost", 1, 2]


@pytest.mark.parametrize("contiguous", [True, False])
@pytest.mark.parametrize("identity", [None, lambda message: message["n"]])
def test_message_when_it_is_a_copy(contiguous, identity):
    """After a Gap, the server may send messages again, which are dropped."""
    tracker = make(contiguous=contiguous, identity=identity, after=1)
    apply(tracker, m(2), m(3))
    tracker.lose(GAP)
    copies = [m(2, "again"), m(3, "again")] if identity else [m(2), m(3)]
    assert apply(tracker, *copies) == []
    assert (tracker.copies, tracker.in_sync, tracker.is_suspect) == (2, True, True)


def test_message_when_the_history_had_it_in_another_form():
    """A live message that arrives after the history has supplied its number is a copy."""
    tracker = make(after=1)
    assert apply(tracker, m(3)) == []
    assert fill(tracker, m(2, "history")) == [2, 3]
    assert apply(tracker, m(2, "late"), m(4)) == [4]
    assert tracker.copies == 1


def test_copy_when_it_is_too_old(monkeypatch):
    """Copies are recognized among a limited number of messages."""
    monkeypatch.setattr(holes, "REMEMBERED", 3)
    tracker = make(after=1)
    apply(tracker, *map(m, range(2, 9)))
    assert apply(tracker, m(6)) == []
    assert apply(tracker, m(1)) == ["lost", 1]


def test_times_when_they_go_back_a_little():
    """Without a Gap nothing is missing, so messages whose times do not grow are delivered when they arrive."""
    tracker = make(contiguous=False, after=10)
    assert apply(tracker, m(10), m(9), m(10, "other"), m(12)) == [10, 9, 10, 12]


def test_times_when_the_history_proves_both_ends():
    """The history must have the last delivered message and the first held one; equal times are distinguished."""
    tracker = make(contiguous=False, after=10)
    apply(tracker, m(10, "b"))
    tracker.lose(GAP)
    assert apply(tracker, m(12, "b"), m(12, "d")) == []
    assert tracker.bounds == (10, 12)
    assert fill(tracker, m(10, "b"), m(10, "c")) == [10]
    assert fill(tracker, m(11)) == []
    history = [m(10), m(10, "c"), m(11), m(12, "a"), m(12, "b"), m(12, "d"), m(13)]
    assert fill(tracker, *history) == [11, 12, 12, 12]
    assert tracker.in_sync


@pytest.mark.parametrize(
    ("history", "items"),
    [
        ([m(11), m(12)], ["lost", 11, 12]),
        ([m(10), m(11)], ["lost", 12]),
        ([m(11)], ["lost", 11, "lost", 12]),
        ([], ["lost", 12]),
    ],
)
def test_times_when_the_history_does_not_prove_an_end(history, items):
    """If the history begins too late or does not reach far enough, messages may be missing."""
    tracker = make(contiguous=False, after=10)
    tracker.lose(GAP)
    apply(tracker, m(12))
    fill(tracker, *history)
    assert not tracker.in_sync
    assert short(tracker.give_up()) == items


def test_times_when_no_message_came_after_the_gap():
    """The history up to now is delivered, and the next message is checked, too."""
    tracker = make(contiguous=False, after=10)
    tracker.lose(GAP)
    tracker.open()
    assert tracker.bounds == (10, None)
    assert fill(tracker, m(10), m(11)) == [11]
    assert (tracker.in_sync, tracker.is_suspect) == (True, True)
    assert apply(tracker, m(13)) == []
    assert fill(tracker, m(11), m(12), m(13)) == [12, 13]


@pytest.mark.parametrize("contiguous", [True, False])
def test_history_when_it_goes_back(contiguous):
    """A number that goes back is an error, unless the history had it before."""
    tracker = make(contiguous=contiguous, after=1)
    tracker.lose(GAP)
    apply(tracker, m(9))
    tracker.begin()
    for each in (1, 2, 3, 6, 3, 2, 7):
        tracker.fill(m(each))
    with pytest.raises(ValueError, match="goes back from 7 to 5"):
        tracker.fill(m(5))


def test_history_when_too_many_messages_follow_a_missing_one():
    """The kept messages after a missing one are limited."""
    tracker = make(after=1)
    tracker.held_max = 3
    apply(tracker, m(9))
    tracker.begin()
    for each in (3, 4, 5):
        tracker.fill(m(each))
    with pytest.raises(OverflowError, match="more than 3 messages"):
        tracker.fill(m(6))


@pytest.mark.parametrize("contiguous", [True, False])
def test_held_messages_when_there_are_too_many(contiguous):
    """Dropped messages are a hole after the held ones."""
    tracker = make(contiguous=contiguous, after=1)
    tracker.held_max = 2
    tracker.lose(GAP)
    apply(tracker, *map(m, range(3, 9)))
    assert (tracker.bounds, tracker.dropped) == ((1, 3), 4)
    assert fill(tracker, *map(m, range(1, 4))) == [2, 3, 4]
    assert apply(tracker, m(10)) == []
    assert fill(tracker, *map(m, range(4, 11))) == [5, 6, 7, 8, 9, 10]


def test_numbers_when_they_cannot_be_read():
    """A message without a number changes nothing."""
    tracker = make(after=1)
    with pytest.raises(KeyError):
        tracker.apply({})
    assert apply(tracker, m(2)) == [2]


def test_ranges_when_they_overlap():
    """A message with a range of numbers follows if it begins at most one after the last number."""
    tracker = HoleTracker(range_reader(["U", "u"], "sequence"), True, None, Delivered(None))
    change = [{"U": first, "u": last} for first, last in ((1, 3), (4, 6), (5, 8), (12, 13))]
    tracker.apply(change[0])
    tracker.settle()
    assert tracker.apply(change[3]) == []
    tracker.begin()
    assert tracker.fill(change[2]) == []
    assert tracker.fill({"U": 9, "u": 11}) == []
    tracker.begin()
    items = tracker.fill(change[1])
    assert items + tracker.settle() == [*change[1:3], {"U": 9, "u": 11}, change[3]]


@given(st.integers(0, 2**32), st.booleans())
def test_messages_when_the_feed_loses_some_and_the_history_is_late(seed, contiguous):
    """Each message is delivered once, in order, or is missing after a mark; no mark is where nothing is missing."""
    rng = random.Random(seed)
    tracker, got, published, missing = make(contiguous=contiguous), [], 0, set()
    is_connected, replayed = True, False
    for _ in range(rng.randrange(5, 120)):
        act = rng.random()
        if act < 0.6:
            published += 1
            if contiguous and rng.random() < 0.03:
                missing.add(published)
            if is_connected:
                got += apply(tracker, m(published))
        elif act < 0.7:
            is_connected = False
        elif act < 0.85:
            if not is_connected:
                tracker.lose(GAP)
                if rng.random() < 0.3 and "lost" not in got and got[:1] <= [published - 2] and got:
                    # The server sends the newest messages again. One that was given up would begin a new count.
                    got += apply(tracker, *map(m, range(max(1, published - 2), published + 1)))
                    replayed = True
            is_connected = True
        elif not tracker.in_sync:
            after, before = tracker.bounds
            start = (after or 0) + (contiguous or after is None)
            end = published + 1 if before is None else before + rng.randrange(3)
            reach = max(start, end - rng.choice([0, 0, 0, 2, 5]))
            first = max(1, start - rng.randrange(3))
            numbers = range(first, min(reach, published + 1) + (not contiguous))
            got += fill(tracker, *(m(n) for n in numbers if n not in missing and n <= published))
        if not (tracker.in_sync or replayed) and rng.random() < 0.02:
            got += short(tracker.give_up())
    while not (tracker.in_sync or replayed):
        got += short(tracker.give_up())
    numbers = [each for each in got if each != "lost"]
    assert numbers == sorted(set(numbers))
    for before, after in itertools.pairwise(numbers):
        marks = got[got.index(before) : got.index(after)].count("lost")
        assert marks >= (after > before + 1)
        assert not (contiguous and marks and after == before + 1)
