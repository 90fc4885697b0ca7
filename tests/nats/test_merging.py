"""Merging: items of several consumers are returned in the order of the stream."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rxws.nats.merging import Merge


@given(st.lists(st.integers(0, 3), max_size=40), st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=200))
def test_items_are_returned_in_order_and_none_is_lost(owners, schedule) -> None:
    """In any order of arrival, items are returned in the order of their numbers, once all consumers passed them."""
    merge: Merge[str] = Merge(4, 1)
    lines = [[number for number, owner in enumerate(owners, 1) if owner == line] for line in range(4)]
    taken: list[int] = []

    def take() -> None:
        while (found := merge.take()) is not None:
            assert found[1] == f"item {found[0]}"
            taken.append(found[0])

    def bring(line: int) -> None:
        number = lines[line].pop(0)
        merge.add(line, number, f"item {number}")

    for line, is_probe in schedule:
        if lines[line]:
            bring(line)
        elif is_probe:
            merge.passed(line, merge.newest)
        take()
        assert taken == sorted(taken)
    for line in range(4):
        while lines[line]:
            bring(line)
    for line in merge.waits_for:
        merge.passed(line, len(owners))
    for line in range(4):
        merge.passed(line, len(owners))
    take()
    assert taken == list(range(1, len(owners) + 1))
    assert merge.late == 0
    assert len(merge) == 0


def test_item_waits_for_a_consumer_that_may_have_a_smaller_number() -> None:
    """An item is held until every other consumer has passed its number."""
    merge: Merge[str] = Merge(2, 1)
    merge.add(0, 5, "five")
    assert merge.take() is None
    assert merge.waits_for == [1]
    assert (merge.held(0), merge.newest) == (1, 5)
    merge.passed(1, 4)
    assert merge.take() is None
    merge.passed(1, 5)
    assert merge.take() == (5, "five")
    assert merge.waits_for == []
    assert merge.take() is None


def test_late_item_is_returned_at_once() -> None:
    """An item that arrives after a greater number is returned, and counted as late."""
    merge: Merge[str] = Merge(2, 1)
    merge.add(0, 5, "five")
    merge.passed(1, 5)
    assert merge.take() == (5, "five")
    merge.add(1, 3, "three")
    assert merge.take() == (3, "three")
    assert (merge.late, merge.last) == (1, 5)
