"""Filters: parsing, matching, equality, and paths into messages."""

from __future__ import annotations

import functools
import math
from collections import UserDict, defaultdict
from decimal import Decimal
from unittest.mock import ANY

import pytest
from hypothesis import HealthCheck, given, settings

from rxws.messages.filters import Filter
from rxws.messages.index import Index
from rxws.messages.shapes import ABSENT, look_up
from tests.support.messages import FEW_FILTERS, MESSAGES, passes

parse = Filter.parse


async def coroutine_function(message):
    """A predicate that must be refused."""
    raise AssertionError


async def async_generator_function(message):
    """A predicate that must be refused."""
    yield


def generator_function(message):
    """A predicate that must be refused."""
    yield


class CallableWithCoroutine:
    async def __call__(self, message):
        raise AssertionError


# Parsing and matching


@pytest.mark.parametrize(
    ("filters", "message", "passes"),
    [
        ([{"e": "trade"}], {"e": "trade", "s": "BTCUSDT"}, True),
        ([{"e": "trade"}], {"e": "depth"}, False),
        ([{"e": "trade"}], {"s": "BTCUSDT"}, False),
        (({"e": "trade"},), {"e": "trade"}, True),
        ([{"e": "trade", "s": "BTCUSDT"}], {"e": "trade", "s": "BTCUSDT"}, True),
        ([{"e": "trade", "s": "BTCUSDT"}], {"e": "trade", "s": "ETHUSDT"}, False),
        ([{"e": "trade", "s": "BTCUSDT"}], {"e": "trade"}, False),
        ([{"e": "trade"}, {"s": "BTCUSDT"}], {"e": "depth", "s": "BTCUSDT"}, True),
        ([{"e": "trade"}, {"s": "BTCUSDT"}], {"e": "depth", "s": "ETHUSDT"}, False),
        ([{"a": None}], {"a": None}, True),
        ([{"a": None}], {"b": None}, False),
        ([{"a": True}], {"a": 1}, True),
        ([{"a": 1.0}], {"a": True}, True),
        ([{"a": math.nan}], {"a": math.nan}, False),
        ([{"a": [1, {"b": 2}]}], {"a": [1, {"b": 2}]}, True),
        ([{"a": [1]}], {"a": [2]}, False),
        ([{"a": frozenset({1})}], {"a": {1}}, True),
        ([{"a": ANY}], {"a": 5}, True),
        ([{"a": ANY}], {"b": 5}, False),
        ([{1: "x"}], {1: "x"}, True),
        ([{None: "x", 0.5: 1}], {None: "x", 0.5: 1}, True),
        ([{math.inf: "x"}], {math.inf: "x"}, True),
        ([{Decimal(1): "x"}], [0, "x"], True),
        ([{("data", "s"): "BTCUSDT"}], {"data": {"s": "BTCUSDT"}}, True),
        ([{("data", "s"): "BTCUSDT"}], {"data": {"s": "ETHUSDT"}}, False),
        ([{("data", "s"): None}], {"data": {}}, False),
        ([{("data", "s"): "BTCUSDT"}], {"data": "BTCUSDT"}, False),
        ([{("data", "s"): "BTCUSDT"}], {"data": ["s", "BTCUSDT"]}, False),
        ([{("data", "s"): "BTCUSDT"}], {("data", "s"): "BTCUSDT"}, False),
        ([{(("data", "s"),): "BTCUSDT"}], {("data", "s"): "BTCUSDT"}, True),
        ([{("s",): "BTCUSDT"}], {"s": "BTCUSDT"}, True),
        ([{("data", 1, "s"): "BTCUSDT"}], {"data": [0, {"s": "BTCUSDT"}]}, True),
        ([{("data", -1): 3}], {"data": (1, 2, 3)}, True),
        ([{("data", 3): 3}], {"data": (1, 2, 3)}, False),
        ([{("data", -4): 1}], {"data": (1, 2, 3)}, False),
        ([{("data", 0.0): 1}], {"data": [1]}, True),
        ([{("data", 0.5): 1}], {"data": [1]}, False),
        ([{("data", 0.5): 1}], {"data": {0.5: 1}}, True),
        ([{("data", 0): 1}], {"data": {0: 1}}, True),
        ([{("data", "s"): 1}], {"data": UserDict({"s": 1})}, True),
        ([{"s": 1}], UserDict({"s": 1}), True),
        ([{"s": 1}], defaultdict(lambda: 1), False),
        ([{0: "BTCUSDT"}], ["BTCUSDT"], True),
        ([{(0,): "BTCUSDT"}], ["BTCUSDT"], True),
        ([{"s": 1}], "s", False),
        ([{}], {"any": 1}, True),
        ([{}], {}, True),
        ([{}], None, True),
        ([{}], ["no mapping"], True),
        ([{"s": 1}, {}], 7, True),
        (None, {"any": 1}, True),
        (None, None, True),
        ([], b"\x00", True),
        ((), 17, True),
        (lambda message: message > 3, 4, True),
        (lambda message: message > 3, 3, False),
        (lambda message: [message], {}, True),
        (str.isdigit, "12", True),
    ],
)
def test_filter_passes_when_every_key_of_any_dict_has_an_equal_value(filters, message, passes):
    """A message passes if it contains all key-value pairs of at least one dict; the index finds the same."""
    assert parse(filters)(message) is passes
    index = Index(on_error=lambda filter_, message, error: pytest.fail(repr(error)))
    index.add("entry", parse(filters))
    assert list(index.match(message)) == ["entry"] * passes


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"e": "trade"}, "filters must be a list of dicts, not a dict: put it in a list"),
        ("trade", "filters must be a list of dicts, or a callable, not str"),
        (b"trade", "not bytes"),
        (range(2), r"filters\[0\] is of type int"),
        (7, "not int"),
        ({"trade"}, "not set"),
        (iter([{"e": "trade"}]), "not list_iterator"),
        (["trade"], r"filters\[0\] is of type str"),
        ([{"e": "trade"}, None], r"filters\[1\] is of type NoneType"),
        ([[("e", "trade")]], r"filters\[0\] is of type list"),
        ([print], r"filters\[0\] is a callable \(give it without the list\)"),
        (coroutine_function, "always true"),
        (functools.partial(coroutine_function, 1), "always true"),
        (CallableWithCoroutine(), "always true"),
        (async_generator_function, "always true"),
        (generator_function, "always true"),
    ],
)
def test_parse_raises_type_error_when_the_filters_are_something_else(filters, words):
    """An argument other than a list of dicts or a plain function raises a TypeError that names the valid types."""
    with pytest.raises(TypeError, match=words) as raised:
        parse(filters, "filters")
    assert str(raised.value).startswith("filters must be")


def test_parse_names_the_argument_filters_when_no_name_is_given():
    """Without another name, error messages call the argument filters."""
    with pytest.raises(TypeError, match=r"^filters must be"):
        parse(3)


def test_parse_raises_value_error_when_a_path_is_empty():
    """An empty path raises a ValueError that names its dict."""
    with pytest.raises(ValueError, match=r"^filters\[1\] has an empty tuple"):
        parse([{"a": 1}, {(): 1}])


def test_parse_returns_a_filter_when_given_one():
    """Parsing a Filter returns the same Filter."""
    assert parse(parse([{"a": 1}])) == parse([{"a": 1}])


def test_filter_stays_the_same_when_its_source_is_changed():
    """A filter copies its dicts and their values: later changes to the argument do not affect it."""
    value = [1]
    filters = [{"a": value}, {"b": 2}]
    parsed = parse(filters)
    value.append(2)
    filters[1]["b"] = 3
    filters.append({})
    assert parsed({"a": [1]})
    assert parsed({"b": 2})
    assert not parsed({"a": [1, 2]})
    assert not parsed({"b": 3})


def test_filter_compares_by_identity_when_its_value_does():
    """A hashable value is not copied, so a plain object, which is equal only to itself, still passes."""
    value = object()
    assert parse([{"a": value}])({"a": value})


def test_filter_raises_when_an_attribute_is_set():
    """A Filter is immutable."""
    with pytest.raises(AttributeError):
        parse([]).alternatives = ()


def test_filter_raises_when_its_predicate_raises():
    """A filter that is called directly passes on the exceptions of its predicate."""
    with pytest.raises(ZeroDivisionError):
        parse(lambda message: 1 / message)(0)


@pytest.mark.parametrize(
    ("filters", "everything", "keys"),
    [
        (None, True, ()),
        ([], True, ()),
        ([{}], True, ()),
        ([{"a": 1}, {}], True, ("a",)),
        (bool, False, ()),
        ([{"b": 1, "a": 2}, {"a": 3, ("d", 0.0): 4}], False, ("b", "a", ("d", 0))),
    ],
)
def test_filter_lists_each_key_once_when_dicts_share_keys(filters, everything, keys):
    """A filter has attributes for whether every message passes, and for the keys that it reads, each once."""
    assert parse(filters).passes_everything is everything
    assert parse(filters).keys == keys


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (None, []),
        ([{"a": 1, "b": 2}], [{"b": 2, "a": 1}]),
        ([{"a": 1}, {"b": 2}], ({"b": 2}, {"a": 1}, {"a": True})),
        ([{"a": [1]}, {"b": 2}], [{"b": 2}, {"a": [1]}]),
        (bool, bool),
    ],
)
def test_filters_are_equal_when_they_mean_the_same(one, other):
    """Filters with the same dicts in any order, or with the same function, are equal and have the same hash."""
    assert parse(one) == parse(other)
    assert hash(parse(one)) == hash(parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (None, [{}]),
        (None, bool),
        (bool, None),
        (bool, callable),
        ([{"a": 1}], [{"a": 2}]),
        ([{"a": 1}], [{"a": 1}, {"b": 1}]),
        ([{"a": [1]}], [{"a": [2]}]),
        ([{"a": [1]}], [{"a": [1]}, {"b": 1}]),
        ([{"a": [1]}, {"b": 1}], [{"a": [1]}]),
        ([{"a": [1]}], [{"a": 1}]),
        ([{"a": [1]}], [{"a": [1]}, {"a": [2]}]),
        ([{("a", 1): []}], [{"a": 1}]),
        ([{"a": 1}], [{("a", 1): []}]),
    ],
)
def test_filters_are_unequal_when_they_mean_different_things(one, other):
    """Filters with different dicts or functions are not equal."""
    assert parse(one) != parse(other)


def test_filter_is_unequal_when_compared_with_its_list():
    """A Filter is not equal to the list that it was made from."""
    assert parse([{"a": 1}]) != [{"a": 1}]


@pytest.mark.parametrize(
    ("filters", "shown"),
    [
        (None, "Filter([])"),
        ([{"e": "trade"}], "Filter([{'e': 'trade'}])"),
        ([{"s": number} for number in range(9)], "Filter([{'s': 0}, {'s': 1}, {'s': 2}, ... 6 more])"),
        (str.isdigit, "Filter(str.isdigit)"),
        (functools.partial(bool), "Filter(functools.partial(<class 'bool'>))"),
    ],
)
def test_filter_shows_its_dicts_when_printed(filters, shown):
    """A filter's repr shows its first dicts, or the name of its function."""
    assert repr(parse(filters)) == shown


def test_look_up_returns_absent_when_the_key_is_missing():
    """A missing key is ABSENT; a key with the value None is None."""
    assert look_up({"a": None}, "a") is None
    assert look_up({"a": None}, "b") is ABSENT
    assert look_up(None, "b") is ABSENT


# Any filters and messages


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(FEW_FILTERS, FEW_FILTERS, MESSAGES)
def test_filters_pass_the_same_messages_when_they_are_equal(one, other, message):
    """Equal filters have the same hash and pass the same messages."""
    one, other = parse(one), parse(other)
    if one == other:
        assert hash(one) == hash(other)
        assert passes(one, message) == passes(other, message)
