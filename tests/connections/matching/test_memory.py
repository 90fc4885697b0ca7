"""The deliveries that the memory keeps, and the limits of their number and bytes."""

from __future__ import annotations

from rxws.connections.matching.memory import Memory


def test_memory_is_bounded_for_any_number_of_channels() -> None:
    """If channels come and go for weeks, only the newest deliveries of the newest channels are remembered."""
    memory, forgotten = Memory(messages=10, bytes=1_000, tail=3), set()
    for n in range(5_000):
        _, left = memory.add(1, f"channel {n // 5}", n, 10, float(n))
        assert forgotten.isdisjoint(each.number for each in left)
        forgotten |= {each.number for each in left}
        assert len(list(memory)) <= 10 + 3 * 10
    kept = {each.number for each in memory}
    assert kept.isdisjoint(forgotten)
    assert kept | forgotten == set(range(1, 5_001))
    assert max(forgotten) < 4_991
    # Eight channels that are older than the ring, with three deliveries each.
    assert len(kept) == 10 + 8 * 3


def test_memory_is_bounded_in_bytes() -> None:
    """Large deliveries of many channels are forgotten too, even if they are few; the newest one is always kept."""
    memory = Memory(messages=1_000, bytes=1_000, tail=3)
    for n in range(100):
        memory.add(1, f"channel {n}", n, 300, float(n))
    assert len(list(memory)) == 3
    memory.add(1, "large", 100, 5_000, 100.0)
    assert [each.key for each in memory] == [100]


def test_rare_channel_is_remembered_beyond_the_ring() -> None:
    """The last deliveries of a channel are kept while other channels fill the ring."""
    memory = Memory(messages=10, bytes=1_000, tail=3)
    for n in range(5):
        memory.add(1, "rare", f"r{n}", 1, 0.0)
    for n in range(100):
        memory.add(1, "busy", n, 1, 1.0)
    assert [each.key for each in memory if each.channel == "rare"] == ["r2", "r3", "r4"]
