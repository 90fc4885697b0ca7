"""Tests of :mod:`rxws.filters`."""

from __future__ import annotations

import functools
import gc
import math
import threading
from asyncio import CancelledError
from collections import Counter, UserDict, defaultdict
from collections.abc import Mapping
from contextlib import contextmanager
from unittest.mock import ANY

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from rxws.filters import ABSENT, Filter, Index, look_up

parse = Filter.parse


async def coroutine_function(message):
    """Be refused as a predicate."""
    raise AssertionError


async def async_generator_function(message):
    """Be refused as a predicate."""
    yield


def generator_function(message):
    """Be refused as a predicate."""
    yield


class CallableWithCoroutine:
    async def __call__(self, message):
        raise AssertionError


class AskedKeys(Mapping):
    """A message that notes which keys it was asked for."""

    def __init__(self, items):
        self.items_ = items
        self.asked = []

    def __getitem__(self, key):
        self.asked.append(key)
        return self.items_[key]

    def __iter__(self):
        return iter(self.items_)

    def __len__(self):
        return len(self.items_)


class Hostile:
    """A value, equal to others of its number, that runs a function whenever it is compared."""

    def __init__(self, number, on_compare=lambda: None):
        self.number = number
        self.on_compare = on_compare

    def __eq__(self, other):
        self.on_compare()
        return isinstance(other, Hostile) and self.number == other.number

    def __hash__(self):
        return 0


class HostileHash(Hostile):
    """A value that runs a function whenever it is hashed."""

    def __hash__(self):
        self.on_compare()
        return 0

    __eq__ = Hostile.__eq__


def unexpected(filter_, message, error):
    """Fail the test: nothing is to be reported."""
    raise error


def make_index():
    """Return an index in which nothing may raise."""
    return Index(on_error=unexpected)


# What a filter means


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
        ([{0: "BTCUSDT"}], ["BTCUSDT"], False),
        ([{(0,): "BTCUSDT"}], ["BTCUSDT"], False),
        ([{"s": 1}], "s", False),
        ([{}], {"any": 1}, True),
        ([{}], {}, True),
        ([{}], None, False),
        ([{}], ["no mapping"], False),
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
    """A message passes if, for any of the dicts, every key is in it with an equal value; the index agrees."""
    assert parse(filters)(message) is passes
    index = make_index()
    index.add("entry", parse(filters))
    assert list(index.match(message)) == ["entry"] * passes


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ({"e": "trade"}, "filters must be a list of dicts, not a dict: put it in a list"),
        ("trade", "filters must be a list of dicts, or a callable, not str"),
        (b"trade", "not bytes"),
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
    """Anything but a list of dicts or a plain function raises a TypeError that names the argument and what it takes."""
    with pytest.raises(TypeError, match=words) as raised:
        parse(filters, "filters")
    assert str(raised.value).startswith("filters must be")


def test_parse_names_the_argument_filters_when_no_name_is_given():
    """Without another name the argument is called _filters."""
    with pytest.raises(TypeError, match=r"^_filters must be"):
        parse(3)


def test_parse_raises_value_error_when_a_path_is_empty():
    """A path without a step is refused, and the dict that has it is named."""
    with pytest.raises(ValueError, match=r"^_filters\[1\] has an empty tuple"):
        parse([{"a": 1}, {(): 1}])


def test_parse_returns_a_filter_when_given_one():
    """A Filter is taken as it is."""
    assert parse(parse([{"a": 1}])) == parse([{"a": 1}])


def test_filter_stays_the_same_when_its_source_is_changed():
    """Filters are copied at the call, values included: changing them later changes nothing."""
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
    """A value that can be hashed is not copied: a plain object still passes."""
    value = object()
    assert parse([{"a": value}])({"a": value})


def test_filter_cannot_be_changed_once_made():
    """A Filter is immutable."""
    with pytest.raises(AttributeError):
        parse([]).cases = ()


def test_filter_raises_when_its_predicate_raises():
    """Called by itself a filter hides nothing: what the predicate raises comes out."""
    with pytest.raises(ZeroDivisionError):
        parse(lambda message: 1 / message)(0)


@pytest.mark.parametrize(
    ("filters", "everything", "keys"),
    [
        (None, True, ()),
        ([], True, ()),
        ([{}], False, ()),
        (bool, False, ()),
        ([{"b": 1, "a": 2}, {"a": 3, ("d", 0.0): 4}], False, ("b", "a", ("d", 0))),
    ],
)
def test_filter_tells_what_it_looks_at(filters, everything, keys):
    """A filter tells whether it passes everything, and which keys it looks at, each once."""
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
    """Filters with the same dicts in any order, or the same function, are equal and have one hash."""
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
    ],
)
def test_filters_are_unequal_when_they_mean_different_things(one, other):
    """Filters with other dicts or functions are not equal."""
    assert parse(one) != parse(other)


def test_filter_is_unequal_to_what_is_no_filter():
    """A Filter is not equal to the list that it was made of."""
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
    """A filter's repr shows the first of its dicts, or the function's name."""
    assert repr(parse(filters)) == shown


def test_look_up_tells_none_from_absent():
    """A key that is not there is ABSENT, which no value is."""
    assert look_up({"a": None}, "a") is None
    assert look_up({"a": None}, "b") is ABSENT
    assert look_up(None, "b") is ABSENT


# What the index finds


def test_match_returns_each_entry_once_when_several_of_its_dicts_match():
    """An entry is returned once, however many dicts of its filter a message passes, beside entries of other filters."""
    index = make_index()
    index.add("several", parse([{"e": "trade"}, {"s": "BTCUSDT"}, {"e": "trade", "s": "BTCUSDT"}, {}]))
    index.add("one", parse([{"s": "BTCUSDT"}]))
    index.add("all", parse(None))
    index.add("function", parse(bool))
    assert sorted(index.match({"e": "trade", "s": "BTCUSDT"})) == ["all", "function", "one", "several"]


def test_match_returns_an_entry_once_when_its_filter_repeats_a_dict():
    """Equal dicts of one filter count once, also when the entry is removed."""
    index = make_index()
    registration = index.add("entry", parse([{"a": 1}, {"a": True}]))
    assert list(index.match({"a": 1.0})) == ["entry"]
    index.remove(registration)
    assert not index.match({"a": 1})


def test_match_returns_an_entry_twice_when_it_was_added_twice():
    """Each registration counts: an entry added twice is returned twice, and once after one is removed."""
    index = make_index()
    index.add("entry", parse([{"a": 1}, {"b": 1}]))
    again = index.add("entry", parse([{"a": 1}]))
    assert list(index.match({"a": 1, "b": 1})) == ["entry", "entry"]
    index.remove(again)
    assert list(index.match({"a": 1, "b": 1})) == ["entry"]


def test_match_keeps_the_order_of_adding_among_equal_filters():
    """Entries with equal conditions are returned in order of adding, whatever was removed between."""
    index = make_index()
    registrations = [index.add(number, parse([{"a": 1}])) for number in range(5)]
    index.remove(registrations[1])
    index.add(5, parse([{"a": 1}]))
    assert list(index.match({"a": 1})) == [0, 2, 3, 4, 5]


def test_match_returns_a_snapshot_that_later_changes_leave_alone():
    """What match returned stays as it is when entries are added and removed afterwards."""
    index = make_index()
    first = index.add(1, parse([{"a": 1}]))
    matched = index.match({"a": 1})
    index.add(2, parse([{"a": 1}]))
    index.remove(first)
    assert list(matched) == [1]
    assert list(index.match({"a": 1})) == [2]


def test_match_copies_nothing_when_nothing_has_changed():
    """Messages that match the same entries get the same tuple."""
    index = make_index()
    for number in range(3):
        index.add(number, parse([{"e": "trade", "s": "BTCUSDT"}]))
    assert index.match({"e": "trade", "s": "BTCUSDT"}) is index.match({"e": "trade", "s": "BTCUSDT"})


def test_remove_does_nothing_when_done_before():
    """Removing again is harmless, and len counts what is registered."""
    index = make_index()
    registrations = [index.add(0, parse(filters)) for filters in (None, [{"a": 1}], [{"a": 1}, {"b": 2}], bool)]
    assert len(index) == 4
    for registration in registrations * 2:
        index.remove(registration)
    assert len(index) == 0
    assert not index.match({"a": 1, "b": 2})


def test_match_asks_only_for_keys_that_some_filter_looks_at():
    """The keys that are looked at are those of the filters registered now, each set of keys once."""
    index = make_index()
    for number in range(100):
        index.add(number, parse([{"s": number}]))
    registrations = [index.add(0, parse([{"e": "trade", "s": number}, {"x": number}])) for number in range(100)]
    message = AskedKeys({"s": 5})
    assert list(index.match(message)) == [5]
    assert sorted(message.asked) == ["e", "s", "s", "x"]
    for registration in registrations:
        index.remove(registration)
    message = AskedKeys({"s": 5})
    index.match(message)
    assert message.asked == ["s"]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("message", [{"e": 1, "s": 50}, {"e": 50, "s": 1}, {"e": 1, "s": 1}, {"e": 1}, {"s": 1000}])
def test_match_compares_few_values_when_filters_share_pairs(reverse, message):
    """Filters that share a pair are told apart by their other pairs, in whatever order they were added."""
    compared = []

    class Counted:
        def __init__(self, number):
            self.number = number

        def __eq__(self, other):
            compared.append(other)
            return self.number == other.number

        def __hash__(self):
            return self.number

    cases = [{"e": 1, "s": number} for number in range(200)] + [{"e": number, "s": 1} for number in range(200)]
    index = make_index()
    for case in reversed(cases) if reverse else cases:
        index.add(case, parse([{key: Counted(value) for key, value in case.items()}]))
    message = {key: Counted(value) for key, value in message.items()}
    compared.clear()
    assert len(index.match(message)) == sum(
        all(key in message and value == message[key].number for key, value in case.items()) for case in cases
    )
    assert len(compared) <= 4


def test_match_does_not_fail_when_a_value_cannot_be_hashed():
    """A message's value that cannot be hashed is compared with each that is looked for: it matches what is equal."""
    index = make_index()
    index.add("frozen", parse([{"a": frozenset({1})}]))
    index.add("frozen, b", parse([{"b": 1, "a": frozenset({1})}]))
    index.add("b", parse([{"b": 1}]))
    index.add("none", parse([{"a": None}]))
    index.add("deep", parse([{("a", 0): 1}]))
    assert sorted(index.match({"a": {1}, "b": 1})) == ["b", "frozen", "frozen, b"]
    assert list(index.match({"a": [1]})) == ["deep"]
    assert list(index.match({"a": [[]]})) == []


def test_match_follows_changes_when_a_value_cannot_be_hashed():
    """Entries added and removed between two messages with such a value are found and not found."""
    index = make_index()
    index.add(1, parse([{"a": frozenset({1})}]))
    assert list(index.match({"a": {2}})) == []
    registration = index.add(2, parse([{"a": frozenset({2})}]))
    assert list(index.match({"a": {2}})) == [2]
    index.remove(registration)
    index.add(3, parse([{"a": frozenset({2})}]))
    assert list(index.match({"a": {2}})) == [3]


# When something raises


@pytest.mark.parametrize("error", [ValueError("no"), CancelledError()])
def test_match_rejects_and_reports_when_a_predicate_raises(error):
    """A predicate that raises rejects the message and is reported; the others are not affected."""

    def failing(message):
        raise error

    reports = []
    index = Index(on_error=lambda *report: reports.append(report))
    index.add(1, parse(failing))
    index.add(2, parse(bool))
    assert list(index.match({"a": 1})) == [2]
    assert reports == [(parse(failing), {"a": 1}, error)]


def test_match_rejects_and_reports_when_a_comparison_raises():
    """An __eq__ that raises rejects for each filter that it was compared for, and only for these."""
    error = ValueError("no")

    def fail():
        raise error

    reports = []
    index = Index(on_error=lambda *report: reports.append(report))
    values = [Hostile(number) for number in (2, 1, 3, 3)]
    filters = [parse([{"a": value}]) for value in values] + [parse([{"b": 1}])]
    for number, filter_ in enumerate(filters):
        index.add(number, filter_)
    values[0].on_compare = values[2].on_compare = fail
    message = {"a": Hostile(1, fail), "b": 1}  # the filter's own __eq__ decides, not the message's
    assert sorted(index.match(message)) == [1, 4]
    assert [(reported.cases[0]["a"], *rest) for reported, *rest in reports] == [
        (value, message, error) for value in (values[0], values[2], values[3])
    ]


def test_match_passes_on_what_the_error_function_raises():
    """An exception of on_error is not swallowed."""
    index = make_index()
    index.add(1, parse(lambda message: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        index.match({})


def test_add_leaves_nothing_behind_when_a_hash_raises():
    """An add that raises registers nothing, and what was asked for in its midst is done all the same."""
    index = make_index()
    other = index.add("other", parse([{"b": 1}]))
    value = HostileHash(1)
    wanted = parse([{"c": 1}, {"a": value}])

    def fail():
        index.remove(other)
        raise ValueError("no")

    value.on_compare = fail
    with pytest.raises(ValueError, match="no"):
        index.add("entry", wanted)
    assert len(index) == 0
    message = AskedKeys({"a": 1, "b": 1, "c": 1})
    assert not index.match(message)
    assert message.asked == []


def test_remove_takes_the_entry_out_when_a_hash_raises():
    """A remove that raises has removed its entry, and the index goes on."""
    index = make_index()
    value = HostileHash(1)
    registration = index.add("entry", parse([{"a": value}]))

    def fail():
        raise ValueError("no")

    value.on_compare = fail
    with pytest.raises(ValueError, match="no"):
        index.remove(registration)
    value.on_compare = lambda: None
    assert len(index) == 0
    assert not index.match({"a": value})
    index.add("again", parse([{"a": value}]))
    assert list(index.match({"a": value})) == ["again"]


# When it is called in its own midst


def test_remove_works_in_the_midst_of_add():
    """A remove that a value's __hash__ or __eq__ calls while another entry is added loses neither change."""
    index = make_index()
    registrations = []

    def remove_one():
        if registrations:
            index.remove(registrations.pop())

    survivors = []
    for number in range(50):
        for value in (HostileHash(1, remove_one), Hostile(number % 5, remove_one)):
            registrations.append(index.add("removed", parse([{"a": value}, {"a": value, "b": 1}])))
            index.add(number, parse([{"a": value}, {"b": number}]))
            survivors.append(number)
    while registrations:
        index.remove(registrations.pop())
    assert len(index) == len(survivors)
    assert sorted(entry for number in range(50) for entry in index.match({"b": number})) == sorted(survivors)


def test_add_works_in_the_midst_of_add():
    """An add within an add is done when the outer one is, and is complete when that returns."""
    index = make_index()
    additions = [1, 2, 3]

    def add_one():
        if additions:
            index.add(additions.pop(), parse([{"a": Hostile(1)}, {"b": 1}]))

    value = Hostile(1)
    index.add(0, parse([{"a": value}]))
    value.on_compare = add_one
    index.add(4, parse([{"a": Hostile(1)}]))
    assert list(index.match({"a": Hostile(1)})) == [0, 4, 3, 2, 1]
    assert sorted(index.match({"b": 1})) == [1, 2, 3]


def test_match_works_in_the_midst_of_add_and_keeps_nothing_of_it():
    """A match within an add finds what is registered before, and later ones find what is registered after."""
    index = make_index()
    matched = []
    message = {"a": Hostile(1), "b": 1}
    index.add(0, parse([{"a": Hostile(1)}, {"b": 1}]))
    wanted = parse([{"b": 1}, {"a": Hostile(1, lambda: matched.append(list(index.match(message))))}])
    registration = index.add(1, wanted)
    assert matched
    assert all(entries == [0] for entries in matched)
    assert list(index.match(message)) == [0, 1]
    index.remove(registration)
    assert list(index.match(message)) == [0]


def test_remove_and_add_work_in_the_midst_of_match():
    """Changes that a comparison or a predicate makes while a message is matched neither break it nor are lost."""
    index = make_index()
    registrations = [index.add(number, parse([{"a": Hostile(number)}])) for number in range(10)]
    added = []

    def change():
        if registrations:
            index.remove(registrations.pop())
            added.append(index.add("added", parse([{"a": Hostile(0), "b": 1}])))

    def changing(message):
        change()
        return True

    index.add("predicate", parse(changing))
    while registrations:
        assert "predicate" in index.match({"a": Hostile(0, change), "b": 1})
        assert "predicate" in index.match({"a": [Hostile(0, change)], "b": 1})
    assert len(index) == 11
    assert list(index.match({"a": Hostile(0), "b": 1})) == ["added"] * 10 + ["predicate"]


def test_remove_works_when_a_replaced_tuple_drops_the_last_reference_to_an_entry():
    """An entry whose end removes another entry, in the midst of the change that ended it, loses nothing."""
    index = make_index()

    class Chained:
        def __init__(self, registration):
            self.registration = registration

        def __del__(self):
            index.remove(self.registration)

    last = index.add("first", parse([{"a": 1}]))
    for _ in range(20):
        last = index.add(Chained(last), parse([{"a": 1}]))
    assert len(index.match({"a": 1})) == 21
    index.remove(last)
    del last
    assert len(index) == 0
    assert not index.match({"a": 1})


@contextmanager
def collecting_often():
    """Collect garbage at nearly every allocation."""
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)


def test_remove_loses_nothing_when_collections_call_it_anywhere():
    """Collections that remove entries at any step of add, remove and match leave exactly the others."""
    index = make_index()

    class Abandoned:
        def __init__(self, filters):
            self.cycle = self
            self.registration = index.add("abandoned", parse(filters))

        def __del__(self):
            index.remove(self.registration)

    kept = Counter()
    with collecting_often():
        for number in range(300):
            for filters in ([{"a": number % 3}], [{"a": 1}, {"b": 1}], [{"a": [1]}], None, [{"b": 1, "c": number % 2}]):
                Abandoned(filters)
                index.add((number, repr(filters)), parse(filters))
                kept[number, repr(filters)] += 1
                index.remove(index.add("removed", parse(filters)))
                index.match({"a": 1, "b": 1, "c": 1})
                index.match({"a": [1]})
    gc.collect()
    assert len(index) == sum(kept.values())
    found = [entry for a in ([1], 0, 1, 2) for c in (0, 1) for entry in index.match({"a": a, "b": 1, "c": c})]
    assert set(found) == set(kept)


@pytest.mark.parametrize("allocations", range(12))
def test_remove_is_not_lost_when_a_collection_calls_it_while_match_makes_its_tuple(allocations):
    """A collection at any allocation of the first match after a change leaves no removed entry in what is kept."""
    index = make_index()
    for _ in range(30):  # short tuples are not allocated but used again
        index.add("kept", parse([{"a": 1}]))

    class Abandoned:
        def __init__(self):
            self.cycle = self
            self.registration = index.add("abandoned", parse([{"a": 1}]))

        def __del__(self):
            index.remove(self.registration)

    threshold = gc.get_threshold()
    gc.collect()
    gc.disable()
    try:
        Abandoned()
        gc.set_threshold(gc.get_count()[0] + allocations, 10, 10)
        gc.enable()
        index.match({"a": 1})
    finally:
        gc.set_threshold(*threshold)
        gc.enable()
    gc.collect()
    assert list(index.match({"a": 1})) == ["kept"] * 30


def test_remove_works_from_another_thread():
    """Entries removed by another thread while messages are matched are gone when it is done, and no others."""
    index = make_index()
    registrations = [index.add("removed", parse([{"a": number % 7}])) for number in range(5000)]
    index.add("kept", parse([{"a": 1}]))
    thread = threading.Thread(target=lambda: [index.remove(registration) for registration in registrations])
    thread.start()
    while thread.is_alive():
        assert "kept" in index.match({"a": 1})
    thread.join()
    assert list(index.match({"a": 1})) == ["kept"]
    assert len(index) == 1


# Whatever the filters and messages are

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
    """Return what a filter says, where one that raises rejects."""
    try:
        return filter_(message)
    except TypeError:  # what `"a" in message` raises for a number
        return False


@settings(max_examples=300, deadline=None)
@given(st.lists(FILTERS, max_size=8), MESSAGES)
def test_match_agrees_with_the_filters_called_one_by_one(filters, message):
    """The index finds exactly the entries whose filter the message passes, each once."""
    index = Index(on_error=lambda filter_, message, error: None)
    parsed = [parse(each) for each in filters]
    for number, each in enumerate(parsed):
        index.add(number, each)
    assert sorted(index.match(message)) == [number for number, each in enumerate(parsed) if passes(each, message)]


@settings(max_examples=300, deadline=None)
@given(FEW_FILTERS, FEW_FILTERS, MESSAGES)
def test_equal_filters_pass_the_same_messages(one, other, message):
    """Filters that are equal have one hash and pass the same messages."""
    one, other = parse(one), parse(other)
    if one == other:
        assert hash(one) == hash(other)
        assert passes(one, message) == passes(other, message)


class IndexMachine(RuleBasedStateMachine):
    """An index beside a plain dict of filters, through any sequence of changes and messages."""

    registrations = Bundle("registrations")

    def __init__(self):
        super().__init__()
        self.index = Index(on_error=lambda filter_, message, error: None)
        self.filters = {}
        self.number = 0

    @rule(target=registrations, filters=FILTERS)
    def add(self, filters):
        self.number += 1
        self.filters[self.number] = parse(filters)
        return self.number, self.index.add(self.number, self.filters[self.number])

    @rule(registered=consumes(registrations))
    def remove(self, registered):
        number, registration = registered
        self.index.remove(registration)
        self.index.remove(registration)
        del self.filters[number]

    @rule(message=MESSAGES)
    def match(self, message):
        expected = [number for number, filter_ in self.filters.items() if passes(filter_, message)]
        assert sorted(self.index.match(message)) == expected

    @invariant()
    def counts(self):
        assert len(self.index) == len(self.filters)


TestIndexMachine = IndexMachine.TestCase
TestIndexMachine.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
