"""Properties of the matcher that hold for every sequence of calls."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from rxws.connections.matching import GapFound, Limits, Matcher
from rxws.connections.matching.memory import Memory

LIMITS = Limits(settle=0.5, reach=2.0, messages=6, bytes=60, tail=2)
CALLS = st.lists(
    st.tuples(
        st.sampled_from(("acknowledged", "arrived", "arrived", "arrived", "tick", "ended", "unsubscribed", "replace")),
        st.integers(1, 3),
        st.sampled_from("xy"),
        st.sampled_from("abcdefgh"),
        st.sampled_from((0.0, 0.01, 0.3, 1.0, 3.0)),
    ),
    max_size=60,
)


def play(calls, reserved=None):
    """Make these calls; return the matcher, and its results with their times."""
    matcher: Matcher[int] = Matcher(LIMITS, lambda channel: channel == "x")
    matcher.begin(1, "xy", 0.0)
    if reserved is not None:
        matcher.reserve(reserved)
    now, out, arrived = 0.0, [], {}
    for number, (name, line, channel, key, wait) in enumerate(calls):
        now += wait
        if name == "acknowledged":
            matcher.acknowledged(line, channel, now)
        elif name == "arrived":
            arrived[number] = channel, key
            matcher.arrived(line, channel, key, number, 10, now)
        elif name == "tick":
            matcher.tick(now)
        elif name == "ended":
            matcher.ended(line, now)
        elif name == "unsubscribed":
            matcher.unsubscribed(line, channel)
        elif line == reserved:
            matcher.replace(line, now, is_complete=key < "d")
        out += [(now, each) for each in matcher.out]
        matcher.out.clear()
    return matcher, out, arrived, now


@given(CALLS, st.sampled_from((None, 2, 3)))
def test_no_schedule_delivers_an_item_twice_or_invents_one(calls, reserved):
    """Each delivered item has arrived before and is delivered at most once; no gap lies in the future."""
    _, out, arrived, _ = play(calls, reserved)
    items = Counter(each[0] for _, each in out if isinstance(each, tuple))
    assert all(count == 1 for count in items.values())
    assert items.keys() <= arrived.keys()
    for time, gap in out:
        if isinstance(gap, GapFound):
            assert gap.start <= gap.end == time
            assert len(set(gap.channels)) == len(gap.channels) > 0


@given(CALLS, st.sampled_from((None, 2, 3)))
def test_no_schedule_holds_more_than_the_limits(calls, reserved):
    """After its acknowledgement a line holds at most one message more than the limits allow."""
    matcher, _, _, _ = play(calls, reserved)
    for seat in matcher._seats():
        assert seat.held.size == 10 * len(seat.held)
        assert seat.awaited <= seat.owed.keys()
        if reserved is None:
            assert len(seat.held) <= LIMITS.messages + 1


@given(CALLS, st.sampled_from((None, 2, 3)), st.sampled_from((1, 2, 3)))
def test_no_schedule_holds_a_message_forever(calls, reserved, left):
    """When one line is left, it delivers its messages as soon as no copy is awaited any more."""
    matcher, _, _, now = play([each for each in calls if each[0] != "replace"], reserved)
    left = reserved or left
    for line in {1, 2, 3} - {left}:
        matcher.ended(line, now)
    if reserved is not None:
        matcher.replace(reserved, now, is_complete=True)
    for channel in "xy":
        matcher.acknowledged(left, channel, now)
        matcher.arrived(left, channel, "another", 0, 10, now)
    for _ in range(30):
        now += 1.0
        matcher.tick(now)
    assert not matcher.is_holding


@given(CALLS)
def test_one_line_delivers_everything_at_once(calls):
    """A single line delivers each message at once, even if messages are equal."""
    calls = [(name, 1, *rest) for name, _, *rest in calls if name in ("arrived", "tick")]
    _, out, arrived, _ = play(calls)
    assert [each[0] for _, each in out] == [*arrived]


@given(st.lists(st.tuples(st.sampled_from("xy"), st.sampled_from("abc"), st.integers(0, 40)), max_size=60))
def test_memory_keeps_the_ring_and_the_tails(deliveries):
    """The memory keeps the newest messages within its limits, and the newest two of each channel within 200 bytes."""
    memory = Memory(5, 200, 2)
    alive = {}
    for number, (channel, key, size) in enumerate(deliveries):
        new, forgotten = memory.add(1, channel, key, size, float(number))
        alive[new.number] = new
        for old in forgotten:
            del alive[old.number]
        assert len(alive) <= 5 + 4
    assert {each.number for each in memory} == alive.keys()
    for each in alive.values():
        same = [other for other in alive.values() if (other.channel, other.key) == (each.channel, each.key)]
        assert list(memory.find(each.channel, each.key)) == same
        assert memory.is_unique(each) == (len(same) == 1)
    for channel in "xy":
        sent = [number for number, (name, _, _) in enumerate(deliveries, 1) if name == channel]
        assert set(sent[-2:]) <= alive.keys()
        assert [each.number for each in memory.newest_of(channel)] == sent[-2:]
