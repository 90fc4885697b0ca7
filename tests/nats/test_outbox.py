"""The outbox is bounded and in order, and messages without an acknowledgement are published again."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from rxws.nats.outbox import Held, Hole, Mark, Outbox


def held(number: int, size: int = 10) -> Held:
    """Return a message."""
    return Held(f"rx.{number}", b"x" * size, str(number), 1, number * 10**9, False)


ACTS = st.lists(
    st.one_of(
        st.just("add"),
        st.just("take"),
        st.just("restore"),
        st.just("mark"),
        st.just("hole"),
        st.tuples(st.just("ack"), st.integers(0, 5)),
    ),
    max_size=80,
)


@given(ACTS, st.integers(1, 6), st.integers(1, 8), st.integers(10, 100))
@settings(max_examples=300)
def test_each_message_is_published_in_order_or_replaced_by_a_hole(acts, in_flight, maxsize, maxbytes) -> None:
    """After any sequence of calls, the stored messages are in order, with a hole for each drop.

    The broker stores the first copy of each id, and acknowledges any of those in flight.
    """
    outbox = Outbox(in_flight, maxsize, maxbytes)
    added, stored, numbers = 0, [], []

    def take() -> None:
        if outbox.head is None or not outbox.has_room:
            return
        head = outbox.head
        if isinstance(head, Mark):
            outbox.skip()
            return
        numbers.append(outbox.take())
        if isinstance(head, Hole):
            stored.append("hole")
        elif head.identity not in stored:
            stored.append(head.identity)

    for act in acts:
        if act == "add":
            outbox.add(held(added))
            added += 1
        elif act == "take":
            take()
        elif act == "restore":
            outbox.restore()
            numbers.clear()
        elif act == "mark":
            outbox.mark(float(added))
        elif act == "hole":
            outbox.add_hole(Hole(float(added), float(added), "cut"))
        elif numbers:
            outbox.acknowledged(numbers.pop(act[1] % len(numbers)))
        assert outbox.in_flight <= in_flight
        assert outbox.pending <= maxsize + 2 * in_flight
    outbox.restore()
    while outbox.head is not None:
        numbers.clear()
        take()
        for number in numbers:
            outbox.acknowledged(number)
    kept = [int(each) for each in stored if each != "hole"]
    assert kept == sorted(kept)
    # A message that was stored and not acknowledged may be dropped later.
    assert added <= len(kept) + outbox.dropped <= added + len(kept)
    before = -1
    for each in stored:
        if each == "hole":
            before = None
        else:
            assert before is None or int(each) == before + 1
            before = int(each)
    assert outbox.pending == 0
    assert outbox.bytes == 0


def test_oldest_are_dropped_when_the_outbox_is_full() -> None:
    """A full outbox drops the oldest waiting messages, and a hole replaces them. An earlier mark remains valid."""
    outbox = Outbox(10, 3, 1000)
    outbox.mark(0.5)
    assert [outbox.add(held(number)) for number in range(5)] == [0, 0, 0, 1, 1]
    assert outbox.dropped == 2
    assert isinstance(outbox.head, Mark)
    outbox.skip()
    hole = outbox.head
    assert isinstance(hole, Hole)
    assert (hole.until, hole.since, hole.dropped, hole.reason) == (0.0, None, 2, "overflow")
    assert outbox.next_held is not None
    assert outbox.next_held.identity == "2"


def test_bytes_are_bounded_too() -> None:
    """Frames of more bytes than allowed are dropped, but never the newest one."""
    outbox = Outbox(10, 100, 1000)
    outbox.add(held(0, 900))
    outbox.add(held(1, 900))
    assert (outbox.pending, outbox.bytes, outbox.dropped) == (1, 900, 1)
    outbox.add(held(2, 5000))
    assert (outbox.pending, outbox.bytes, outbox.dropped) == (1, 5000, 2)


def test_those_in_flight_are_not_dropped() -> None:
    """A published message may be stored, so it is kept until it is acknowledged, in addition to the waiting ones."""
    outbox = Outbox(10, 2, 1000)
    outbox.add(held(0))
    outbox.add(held(1))
    numbers = [outbox.take(), outbox.take()]
    assert [outbox.add(held(2)), outbox.add(held(3)), outbox.add(held(4))] == [0, 0, 1]
    assert outbox.pending == 4
    assert outbox.acknowledged(numbers[1]) is not None
    assert outbox.acknowledged(numbers[1]) is None
    outbox.restore()
    assert isinstance(outbox.head, Held)
    assert outbox.head.identity == "0"


def test_hole_in_flight_returns_to_its_place() -> None:
    """A hole whose statement was not acknowledged is published again in its place, and joins one that follows drops."""
    outbox = Outbox(10, 2, 1000)
    outbox.add(held(0))
    outbox.take()
    cut = Hole(0.0, 1.0, "cut", before=-5.0)
    outbox.add_hole(cut)
    outbox.take()
    outbox.add(held(2))
    assert outbox.restore() is cut
    assert isinstance(outbox.head, Held)
    outbox.add(held(3))
    outbox.add(held(4))
    hole = outbox.head
    assert isinstance(hole, Hole)
    # The hole of the dropped messages joins the later one, which ends the same interval.
    assert (hole.until, hole.before, hole.dropped) == (0.0, -5.0, 2)
    assert outbox.restore() is None


def test_refused_message_becomes_a_hole() -> None:
    """A message that the broker refuses is counted, and a hole precedes all waiting entries."""
    outbox = Outbox(10, 10, 1000)
    outbox.add(held(0))
    outbox.add(held(1))
    number = outbox.take()
    assert outbox.refused(number)
    assert not outbox.refused(number)
    assert isinstance(outbox.head, Hole)
    assert outbox.head.is_ordered
    assert outbox.dropped == 1


def test_hole_of_a_refused_message_is_not_ordered_when_it_joins_drops() -> None:
    """Another relay may store messages that this one dropped, even if the hole began with a refused message."""
    outbox = Outbox(10, 2, 1000)
    outbox.add(held(0))
    outbox.reject()
    for number in (1, 2, 3):
        outbox.add(held(number))
    hole = outbox.head
    assert isinstance(hole, Hole)
    assert (hole.until, hole.since, hole.dropped, hole.is_ordered) == (0.0, None, 2, False)
