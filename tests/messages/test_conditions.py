"""Conditions: values of a filter that accept many values of a message."""

from __future__ import annotations

import copy
import math
import pickle
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rxws
from rxws.messages.conditions import Condition
from rxws.messages.filters import Filter


@pytest.mark.parametrize(
    ("condition", "accepted", "rejected"),
    [
        (rxws.one_of("A", "B"), ["A", "B"], ["C", None, 1, ["A"], "AB"]),
        (rxws.one_of(1, None), [1, 1.0, True, None], [0, "1", []]),
        (rxws.one_of(frozenset({1})), [{1}, frozenset({1})], [1, {2}]),
        (rxws.one_of(math.nan, 2), [2], [math.nan]),
        (rxws.starts_with("BTC"), ["BTC", "BTCUSDT"], ["btcusdt", "ABTC", "", None, 7, b"BTC", ["BTC"]]),
        (rxws.starts_with(""), ["", "x"], [None]),
        (rxws.between(1, 2), [1, 1.5, 2, "1", " 2.0", Decimal("1.1"), "1e0"], [0.99, "2.01", True, None, "x", [1]]),
        (rxws.between("0.1", None), ["0.1", Decimal("0.1"), 0.1, math.inf, 10**400], ["0.09", math.nan, "nan", "sNaN"]),
        (rxws.between(None, 0.3), [0.3, "0.29", -math.inf], ["0.3", 0.30000000000000004, Decimal("sNaN"), ""]),
        (rxws.present, [None, 0, "", [], math.nan], [msgspec.UNSET]),
    ],
)
def test_condition_accepts_values(condition: Any, accepted: list[Any], rejected: list[Any]) -> None:
    """A condition accepts the values that it describes, and rejects values of other types without an exception."""
    assert all(condition.accepts(value) for value in accepted)
    assert not any(condition.accepts(value) for value in rejected)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.decimals(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False), st.decimals(allow_nan=False))
def test_between_when_numbers_are_close(low: Decimal, high: float, value: Decimal) -> None:
    """Numbers of all types are compared exactly."""
    if low <= high:
        assert rxws.between(low, high).accepts(value) is (low <= value <= Decimal(high))
        assert rxws.between(low, high).accepts(str(value)) is (low <= value <= Decimal(high))


SAME = [
    (rxws.one_of("A", "B"), rxws.one_of("B", "A", "A")),
    (rxws.starts_with("A"), rxws.starts_with("A")),
    (rxws.between(1, None), rxws.between("1.0", None)),
    (rxws.present, type(rxws.present)()),
]
OTHERS = [rxws.one_of("A"), rxws.starts_with("B"), rxws.between(None, 1), rxws.between(1, 2)]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_conditions_are_equal_by_value(one: Condition, other: Condition) -> None:
    """Equal conditions have the same hash, survive copies and pickling, and make filters equal."""
    assert one == other
    assert hash(one) == hash(other)
    assert copy.deepcopy(one) == pickle.loads(pickle.dumps(one)) == one
    assert Filter.parse([{"a": one}]) == Filter.parse([{"a": other}])
    assert hash(Filter.parse([{"a": one}])) == hash(Filter.parse([{"a": other}]))
    for different in [*OTHERS, *(each for pair in SAME for each in pair if pair[0] is not one), "A", None]:
        assert one != different
    with pytest.raises((AttributeError, TypeError)):
        one.accepts = None  # type: ignore[method-assign, assignment]


def test_conditions_are_shown_as_they_are_written() -> None:
    """The repr of a condition is the call that makes it; a long list of values is cut."""
    many = rxws.one_of(*range(10, 30))
    shown = [
        repr(each) for each in (rxws.one_of("A"), rxws.starts_with("B"), rxws.between(1, None), rxws.present, many)
    ]
    assert shown[:4] == ["one_of('A')", "starts_with('B')", "between(1, None)", "present"]
    assert shown[4] == "one_of(10, 11, 12, 13, 14, ... 15 more)"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: rxws.one_of(["A", "B"]), TypeError, r"not a list: write one_of\(\*values\)"),
        (lambda: rxws.one_of(), ValueError, "needs at least one value"),
        (lambda: rxws.one_of("A", rxws.present), TypeError, "present is a condition"),
        (lambda: rxws.starts_with(7), TypeError, "starts_with takes a str, not 7"),
        (lambda: rxws.starts_with(None), TypeError, "starts_with takes a str, not None"),
        (lambda: rxws.starts_with(b"A"), TypeError, "starts_with takes a str, not b'A'"),
        (lambda: rxws.between("a", None), TypeError, "low must be a number, a numeric str or None, not 'a'"),
        (lambda: rxws.between(1, True), TypeError, "high must be a number, a numeric str or None, not True"),
        (lambda: rxws.between(math.nan, 1), ValueError, "low must not be NaN"),
        (lambda: rxws.between(None, "nan"), ValueError, "high must not be NaN"),
        (lambda: rxws.between(2, "1"), ValueError, "low must not be greater than high: 2, '1'"),
        (lambda: rxws.between(None, None), ValueError, "between needs a limit"),
    ],
)
def test_condition_when_an_argument_is_wrong(make: Any, error: type[Exception], words: str) -> None:
    """A wrong argument raises one error that says what is expected."""
    with pytest.raises(error, match=words):
        make()


def test_base_class_accepts_nothing() -> None:
    """A subclass of Condition decides which values it accepts."""
    with pytest.raises(NotImplementedError):
        Condition().accepts(1)
