"""One side of an order book: its levels in order."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rxws.books import Side

PRICES = st.integers(1, 12).map(float)
LEVELS = st.lists(st.tuples(PRICES, st.sampled_from([0.0, 1.0, 2.5])), max_size=8)
ACTS = st.lists(
    st.tuples(st.just("apply"), LEVELS)
    | st.tuples(st.just("replace"), LEVELS)
    | st.tuples(st.just("truncate"), st.integers(1, 6)),
    max_size=12,
)


@pytest.mark.parametrize("is_bid", [True, False])
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(acts=ACTS, limit=PRICES, part=st.slices(8))
def test_side_when_compared_with_a_plain_dict(is_bid: bool, acts: Any, limit: float, part: slice) -> None:
    """After any changes a side has the levels of a plain dict, sorted, the best first."""
    side: Side[float] = Side(is_bid=is_bid)
    expected: dict[float, float] = {}

    def ordered() -> list[tuple[float, float]]:
        return sorted(expected.items(), reverse=is_bid)

    for act, given_ in acts:
        getattr(side, act)(given_)
        if act == "truncate":
            expected = dict(ordered()[:given_])
        else:
            levels = dict(given_) if act == "replace" else expected | dict(given_)
            expected = {price: size for price, size in levels.items() if size}
        assert [*side] == ordered()
        assert len(side) == len(expected)
    assert side.best == (ordered()[0][0] if expected else None)
    assert side[part] == ordered()[part]
    assert [side[n] for n in range(-len(side), len(side))] == ordered() * 2
    assert side.size_at(limit) == expected.get(limit)
    assert side.volume_to(limit) == sum(
        size for price, size in expected.items() if (price >= limit if is_bid else price <= limit)
    )


@pytest.mark.parametrize("is_bid", [True, False])
def test_side_when_empty(is_bid: bool) -> None:
    """A side without levels has no best price, no volume, and no level to index."""
    side: Side[Decimal] = Side(is_bid=is_bid)
    side.apply([(Decimal(1), Decimal(0))])
    assert (side.best, side.volume_to(Decimal(1)), [*side], side[:3]) == (None, 0, [], [])
    for index in (0, -1):
        with pytest.raises(IndexError):
            side[index]


def test_side_when_printed() -> None:
    """A side shows how many levels it has, and the best price."""
    side: Side[float] = Side(is_bid=True)
    side.replace([(9.5, 1.0), (9.8, 2.0)])
    assert repr(side) == "<2 bids, best 9.8>"
    assert repr(Side(is_bid=False)) == "<0 asks, best None>"
