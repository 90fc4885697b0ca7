"""Lockstep: copies are dropped by their frames alone, and the matcher gets to know what was delivered."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from rxws.connections.lockstep import Lockstep
from rxws.connections.matching import Limits, Lost, Matcher
from rxws.reporting.reporter import Counters


class Table:
    """A matcher with joined lines, and a lockstep beside it."""

    def __init__(self, lines=2, limits=None):
        self.now = 0.0
        self.limits = limits or Limits()
        self.matcher = Matcher(self.limits)
        self.counters = Counters()
        self.firsts = dict.fromkeys(range(1, lines + 1), 0)
        self.lockstep = Lockstep(self.matcher, self.limits, self.counters, self.firsts, lambda: self.now)
        self.expected, self.watching = {}, []
        self.compare = {
            line: self.lockstep.comparer(line, line, lambda _frame: None, self.expected, self.watching)
            for line in self.firsts
        }
        for line in self.firsts:
            self.matcher.begin(line, [None], self.now)

    def come(self, line, *frames):
        """Let frames arrive on a line; return whether each is a copy, None where the matcher is asked."""
        return [self.compare[line](frame) for frame in frames]

    def arrive(self, line, *frames):
        """Let frames arrive by the rules of the matcher; return those that are delivered."""
        for frame in frames:
            self.matcher.arrived(line, None, frame, frame, len(frame), self.now)
        found, self.matcher.out = [each[0] for each in self.matcher.out if isinstance(each, tuple)], []
        return found


def test_first_arrival_is_no_copy_and_later_ones_are():
    """A frame is no copy on the line on which it arrives first, and a copy on every other line."""
    table = Table(3)
    table.lockstep.begin()
    assert table.come(2, "a", "b") == [False, False]
    assert table.come(1, "a", "c") == [True, False]
    assert table.come(3, "a", "b", "c") == [True, True, True]
    assert table.firsts == {1: 1, 2: 2, 3: 0}
    assert table.counters.duplicates == 4


def test_matcher_is_asked_before_the_begin_and_when_a_frame_must_be_parsed():
    """The matcher decides while the lockstep is off, and where a reply is awaited or frames have a subscriber."""
    table = Table()
    assert table.come(1, "a") == [None]
    table.lockstep.begin()
    assert table.come(1, bytearray(b"a")) == [None]
    table.expected[1] = "reply"
    assert table.come(1, "a") == [None]
    table.expected.clear()
    table.watching.append("subscriber")
    assert table.come(1, "a") == [None]


def test_each_delivery_of_an_equal_frame_leaves_one_credit_on_the_other_lines():
    """An equal frame is delivered as often as it arrives on one line, and is a copy as often on the others."""
    table = Table()
    table.lockstep.begin()
    assert table.come(1, "beat", "beat") == [False, False]
    assert table.come(2, "beat", "beat", "beat") == [True, True, False]
    assert table.come(1, "beat", "beat") == [True, False]
    assert table.come(2, "beat") == [True]


def test_credit_is_lost_after_reach():
    """An equal frame that does not arrive on a line for ``reach`` seconds is not awaited any longer."""
    table = Table()
    table.lockstep.begin()
    table.come(1, "beat")
    table.come(2, "beat")
    table.come(1, "beat")
    for table.now in (0.1, 1.0, 2.2):
        assert table.lockstep.look(table.now)
    assert table.come(2, "beat") == [False]


def test_line_that_lacks_a_message_ends_the_lockstep():
    """If a message has not arrived on a line for ``settle`` seconds, the rules of the matcher are needed."""
    table = Table()
    table.lockstep.begin()
    table.come(1, "a", "b")
    table.come(2, "b")
    for table.now in (0.1, 0.5):
        assert table.lockstep.look(table.now)
    table.now = 0.7
    assert not table.lockstep.look(table.now)
    table.lockstep.end()
    table.matcher.tick(table.now)
    table.now = 1.3
    table.matcher.tick(table.now)
    assert [each for each in table.matcher.out if isinstance(each, Lost)] == [Lost(2, None, "behind")]


def test_lag_is_measured_once_between_two_looks():
    """The lag of a copy is measured for the first message after each look."""
    table = Table()
    table.lockstep.begin()
    table.lockstep.look(table.now)
    table.come(1, "a", "b")
    table.now = 0.03
    table.come(2, "a", "b")
    assert [*table.matcher.lags[2]] == [0.03]


def test_memory_is_bounded():
    """The older half of the frames is forgotten, by number and by bytes, but never a frame that a line lacks."""
    for limits, frames in ((Limits(messages=100), 60), (Limits(bytes=1000), 60)):
        table = Table(limits=limits)
        table.lockstep.begin()
        table.come(1, "late")
        for number in range(20 * frames):
            for line in (1, 2):
                table.come(line, f"frame {number:06}")
            if number % 10 == 0:
                table.now += 0.001
                assert table.lockstep.look(table.now)
        assert table.come(1, "frame 000000", f"frame {20 * frames - 1:06}") == [False, False]
        assert table.come(2, "late", "frame 000000") == [True, True]
        table.lockstep.end()
        assert table.matcher.remembered <= 120


def test_matcher_knows_what_was_delivered_after_the_end():
    """After the end a message that a line lacks is still a copy there, and those that all have are remembered."""
    table = Table()
    assert table.arrive(1, "owed") == ["owed"]
    table.lockstep.begin()
    table.come(1, "a", "b")
    table.come(2, "a")
    table.lockstep.end()
    assert table.arrive(2, "owed", "b", "c") == ["c"]
    assert table.arrive(1, "c", "d") == ["d"]
    assert table.matcher.was_delivered(None, "a")


def test_owed_message_that_arrives_in_lockstep_is_settled():
    """A message that a line owed at the begin, and that has arrived meanwhile, is not awaited after the end."""
    table = Table()
    table.arrive(1, "owed")
    table.lockstep.begin()
    assert table.come(2, "owed") == [True]
    table.lockstep.end()
    table.now = 10.0
    table.matcher.tick(table.now)
    assert table.matcher.out == []


def test_credits_survive_the_begin_and_the_end():
    """Equal messages are counted across the begin and the end."""
    table = Table()
    assert table.arrive(1, "beat", "beat") == ["beat", "beat"]
    table.lockstep.begin()
    assert table.come(2, "beat") == [True]
    assert table.come(1, "beat") == [False]
    table.lockstep.end()
    assert table.arrive(2, "beat", "beat", "beat") == ["beat"]


def test_frame_with_several_messages_is_remembered_message_by_message():
    """The messages of a frame with several are known to the matcher, each in its channel."""
    table = Table()
    for channel in "xy":
        for line in (1, 2):
            table.matcher.begin(line, [channel], table.now)
    table.lockstep.begin()
    table.come(1, "[x,y]")
    table.lockstep.channels["[x,y]"] = ["x", "y"]
    table.lockstep.end()
    assert table.matcher.was_delivered("x", ("[x,y]", 0))
    assert table.matcher.was_delivered("y", ("[x,y]", 1))
    table.lockstep.begin()
    assert table.come(2, "[x,y]") == [True]


def test_frame_that_is_withdrawn_is_no_copy_on_the_next_line():
    """If the message of a frame was not delivered, its copy is, unless that was dropped already."""
    table = Table()
    table.lockstep.begin()
    table.come(1, "a", "b")
    assert not table.lockstep.withdraw("a", 1)
    assert table.come(2, "a", "b") == [False, True]
    assert table.lockstep.withdraw("b", 1)


@pytest.mark.parametrize("seed", range(60))
def test_random_arrivals(seed):
    """With any order, repeats, and changes between lockstep and matcher, each message is delivered as often as sent.

    The oracle knows what was sent. All lines have the same messages in the same order, with lags of their own.
    """
    choose, table = random.Random(seed), Table(seed % 2 + 2, Limits(messages=choose_limit(seed)))
    sent = [choose.choice(["beat", f"m{number}", f"n{number}"]) for number in range(400)]
    places = dict.fromkeys(table.firsts, 0)
    delivered = []
    while min(places.values()) < len(sent):
        table.now += 0.002
        # No line is ahead of another by more than twenty messages.
        slowest = min(places.values())
        line = choose.choice([each for each, at in places.items() if at < min(len(sent), slowest + 20)])
        frame = sent[places[line]]
        places[line] += 1
        if table.lockstep.is_on:
            (is_copy,) = table.come(line, frame)
            delivered += [] if is_copy else [frame]
        else:
            delivered += table.arrive(line, frame)
        if choose.random() < 0.05 and table.lockstep.is_on:
            assert table.lockstep.look(table.now)
        if choose.random() < 0.03:
            if table.lockstep.is_on:
                table.lockstep.end()
            elif table.matcher.may_bypass(table.firsts.keys(), table.now + 100) or choose.random() < 0.5:
                table.lockstep.begin()
    assert Counter(delivered) == Counter(sent)
    assert [each for each in delivered if each != "beat"] == [each for each in sent if each != "beat"]


def choose_limit(seed):
    """Return a small or a large number of remembered messages."""
    return 10_000 if seed % 3 else 200
