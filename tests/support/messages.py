"""Filters and messages of every kind, for tests of filtering and routing."""

from __future__ import annotations

import math
from collections import UserDict
from unittest.mock import ANY

from hypothesis import strategies as st

NAN = math.nan
VALUES = st.sampled_from([None, True, 1, 1.0, 0, "a", NAN, (1,), (NAN,), [1], {"a": 1}, {1}, frozenset({1}), ANY])
KEYS = st.sampled_from(["a", "b", 1, ("a",), ("d", "a"), ("d", 0), ("d", 0.0), ("d", "e", -1), (("a",),)])
FILTERS = st.one_of(
    st.none(),
    st.lists(st.dictionaries(KEYS, VALUES, max_size=3), max_size=3),
    st.sampled_from([bool, callable, lambda message: "a" in message]),
)
FEW_FILTERS = st.lists(st.dictionaries(st.just("a"), st.sampled_from([True, 1, [1], NAN]), max_size=1), max_size=2)
NESTED = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "e", 0]), inner, max_size=3),
    max_leaves=6,
)
MESSAGES = st.one_of(
    st.dictionaries(st.sampled_from(["a", "b", "d", 1, ("a",)]), NESTED),
    st.dictionaries(st.sampled_from(["a", "b", "d"]), NESTED).map(UserDict),
    NESTED,
)


def passes(filter_, message):
    """Return whether a message passes a filter. A filter that raises rejects it."""
    try:
        return filter_(message)
    except TypeError:  # `"a" in message` raises it for a number
        return False
