"""The index: which entries it finds, exceptions of predicates and values, and reentrant calls."""

from __future__ import annotations

import enum
import gc
from asyncio import CancelledError
from collections import Counter
from collections.abc import Mapping
from contextlib import contextmanager

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

import rxws
from rxws.messages.filters import Filter
from rxws.messages.index import Index
from tests.support.messages import FILTERS, MESSAGES, naively_passes, passes

parse = Filter.parse


class AskedKeys(Mapping):
    """A message that records the keys that are read."""

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


@Mapping.register
class Struct:
    """A mapping without ``get`` that creates each key that is read, like the Struct of protobuf."""

    def __init__(self, items):
        self.items_ = items

    def __contains__(self, key):
        return key in self.items_

    def __getitem__(self, key):
        return self.items_.setdefault(key, None)

    def __iter__(self):
        return iter(self.items_)

    def __len__(self):
        return len(self.items_)


class Liar:
    """A message whose ``__class__`` raises."""

    def __init__(self, error):
        self.error = error

    @property
    def __class__(self):
        raise self.error


@Mapping.register
class Broken:
    """A mapping whose ``get`` raises."""

    def __init__(self, error):
        self.error = error

    def get(self, key, default=None):
        raise self.error


@Mapping.register
class Keyless:
    """A class that is registered as a Mapping, but has none of its methods."""


class Hostile:
    """A value, equal to others of the same number, that calls a function whenever it is compared."""

    def __init__(self, number, on_compare=lambda: None):
        self.number = number
        self.on_compare = on_compare

    def __eq__(self, other):
        self.on_compare()
        return isinstance(other, Hostile) and self.number == other.number

    def __hash__(self):
        return 0


class HostileHash(Hostile):
    """A value that calls a function whenever it is hashed."""

    def __hash__(self):
        self.on_compare()
        return 0

    __eq__ = Hostile.__eq__


def unexpected(filter_, message, error):
    """Fail the test: no error is expected."""
    raise error


def make_index():
    """Return an index that fails the test when it reports an error."""
    return Index(on_error=unexpected)


# Matching


def test_match_returns_each_entry_once_when_several_of_its_dicts_match():
    """An entry is returned once, even if a message passes several dicts of its filter."""
    index = make_index()
    index.add("several", parse([{"e": "trade"}, {"s": "BTCUSDT"}, {"e": "trade", "s": "BTCUSDT"}, {}]))
    index.add("one", parse([{"s": "BTCUSDT"}]))
    index.add("all", parse(None))
    index.add("function", parse(bool))
    assert sorted(index.match({"e": "trade", "s": "BTCUSDT"})) == ["all", "function", "one", "several"]


def test_match_returns_an_entry_once_when_its_filter_repeats_a_dict():
    """Equal dicts of one filter count as one, both when the entry is added and when it is removed."""
    index = make_index()
    registration = index.add("entry", parse([{"a": 1}, {"a": True}]))
    assert list(index.match({"a": 1.0})) == ["entry"]
    index.remove(registration)
    assert not index.match({"a": 1})


def test_match_returns_an_entry_twice_when_it_was_added_twice():
    """An entry that was added twice is returned twice, and once after one removal."""
    index = make_index()
    index.add("entry", parse([{"a": 1}, {"b": 1}]))
    again = index.add("entry", parse([{"a": 1}]))
    assert list(index.match({"a": 1, "b": 1})) == ["entry", "entry"]
    index.remove(again)
    assert list(index.match({"a": 1, "b": 1})) == ["entry"]


def test_match_keeps_the_order_of_adding_when_filters_are_equal():
    """Entries with equal conditions are returned in the order of adding, even after removals."""
    index = make_index()
    registrations = [index.add(number, parse([{"a": 1}])) for number in range(5)]
    index.remove(registrations[1])
    index.add(5, parse([{"a": 1}]))
    assert list(index.match({"a": 1})) == [0, 2, 3, 4, 5]


def test_match_returns_a_snapshot_when_entries_change_later():
    """Adding and removing do not change an earlier result of match."""
    index = make_index()
    first = index.add(1, parse([{"a": 1}]))
    matched = index.match({"a": 1})
    index.add(2, parse([{"a": 1}]))
    index.remove(first)
    assert list(matched) == [1]
    assert list(index.match({"a": 1})) == [2]


def test_match_copies_nothing_when_nothing_has_changed():
    """Without changes, messages that match the same entries get the same tuple."""
    index = make_index()
    for number in range(3):
        index.add(number, parse([{"e": "trade", "s": "BTCUSDT"}]))
    assert index.match({"e": "trade", "s": "BTCUSDT"}) is index.match({"e": "trade", "s": "BTCUSDT"})


def test_remove_does_nothing_when_done_before():
    """Removing an entry again does nothing; ``len`` is the number of registrations."""
    index = make_index()
    registrations = [index.add(0, parse(filters)) for filters in (None, [{"a": 1}], [{"a": 1}, {"b": 2}], bool)]
    assert len(index) == 4
    for registration in registrations * 2:
        index.remove(registration)
    assert len(index) == 0
    assert not index.match({"a": 1, "b": 2})


def test_match_reads_only_keys_when_a_filter_needs_them():
    """match reads the keys of the registered filters only, each set of keys once."""
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
    """Filters that share a pair are distinguished by their other pairs, in any order of adding."""
    compared = []

    class Counted:
        def __init__(self, number):
            self.number = number

        def __eq__(self, other):
            compared.append(other)
            return self.number == other.number

        def __hash__(self):
            return self.number

    alternatives = [{"e": 1, "s": number} for number in range(200)] + [{"e": number, "s": 1} for number in range(200)]
    index = make_index()
    for alternative in reversed(alternatives) if reverse else alternatives:
        index.add(alternative, parse([{key: Counted(value) for key, value in alternative.items()}]))
    message = {key: Counted(value) for key, value in message.items()}
    compared.clear()
    assert len(index.match(message)) == sum(
        all(key in message and value == message[key].number for key, value in alternative.items())
        for alternative in alternatives
    )
    assert len(compared) <= 4


def test_match_does_not_fail_when_a_value_cannot_be_hashed():
    """An unhashable value of a message is compared with each wanted value, and matches an equal one."""
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
    """Entries that are added or removed between two messages with an unhashable value take effect."""
    index = make_index()
    index.add(1, parse([{"a": frozenset({1})}]))
    assert list(index.match({"a": {2}})) == []
    registration = index.add(2, parse([{"a": frozenset({2})}]))
    assert list(index.match({"a": {2}})) == [2]
    index.remove(registration)
    index.add(3, parse([{"a": frozenset({2})}]))
    assert list(index.match({"a": {2}})) == [3]


def test_match_skips_plain_values_when_the_message_has_a_container(monkeypatch):
    """The cost of looking up a container does not depend on the number of plain values that entries want there."""
    index = make_index()
    kinds = enum.StrEnum("Kind", "TRADE"), enum.Enum("Side", "BUY")
    for number in range(100):
        index.add(number, parse([{"e": "trade", "a": number}, {"a": f"{number}"}]))
        index.add(number, parse([{"e": kinds[0].TRADE, "a": -number}, {"e": kinds[1].BUY, "a": (number, None)}]))
    non_plain = index.add("odd", parse([{"e": "trade", "a": frozenset()}]))
    message = {"e": "trade", "a": set()}
    assert list(index.match(message)) == ["odd"]
    index.remove(non_plain)
    with monkeypatch.context() as patch:
        patch.setattr("rxws.messages.index.has", None)
        for a in ([], {}, set()):
            assert list(index.match(message | {"a": a})) == []
    index.add("odd again", parse([{"a": frozenset(), "e": "trade"}]))
    assert list(index.match(message)) == ["odd again"]


# Conditions


@pytest.fixture
def calls(monkeypatch):
    """The filters that are called, in order."""
    called = []
    call = Filter.__call__
    monkeypatch.setattr(Filter, "__call__", lambda self, message: called.append(self) or call(self, message))
    return called


@pytest.mark.parametrize("shape", [dict, lambda pairs: Message(**dict(pairs))], ids=["dict", "struct"])
def test_match_tries_a_condition_only_where_the_other_values_match(calls, shape):
    """A condition or an unhashable value is tried only if the plain values of the same dict match."""
    index = make_index()
    index.add("plain", parse([{"e": "trade"}]))
    for number in range(100):
        index.add(number, parse([{"s": f"S{number}", "e": rxws.starts_with("tr")}]))
        index.add(-number, parse([{"s": f"S{number}", "a": [number]}]))
    assert sorted(index.match(shape([("e", "trade"), ("s", "S7"), ("a", [7])])), key=str) == [-7, 7, "plain"]
    assert len(calls) == 2
    assert list(index.match(shape([("e", "depth"), ("s", "S7"), ("a", [8])]))) == []
    assert len(calls) == 4
    assert list(index.match(shape([("e", "trade"), ("s", "other"), ("a", [8])]))) == ["plain"]
    assert len(calls) == 4


def test_match_looks_one_of_up(calls):
    """The index stores each value of a one_of, in any number of dicts and keys, so it calls no filter."""
    index = make_index()
    both = index.add("both", parse([{"s": rxws.one_of("A", "B"), "e": rxws.one_of(1, 2)}, {"x": rxws.one_of(1)}]))
    index.add("one", parse([{"s": rxws.one_of("B", "C")}]))
    index.add("none", parse([{"s": rxws.one_of(float("nan"))}]))
    assert list(index.match({"s": "A", "e": 2, "x": 1})) == ["both"]
    assert sorted(index.match({"s": "B", "e": 1})) == ["both", "one"]
    assert list(index.match({"s": "B", "e": 3})) == ["one"]
    index.remove(both)
    assert list(index.match({"s": "A", "e": 2, "x": 1})) == []
    assert calls == []


def test_match_does_not_combine_large_one_ofs(calls):
    """If several one_of have too many combinations, the index looks up one, and the filter checks the others."""
    index = make_index()
    index.add("many", parse([{key: rxws.one_of(*range(number)) for key, number in (("a", 200), ("b", 300), ("c", 2))}]))
    assert list(index.match({"a": 199, "b": 299, "c": 1})) == ["many"]
    assert list(index.match({"a": 200, "b": 299, "c": 1})) == []
    assert len(calls) == 2
    assert list(index.match({"a": 199, "b": 300, "c": 1})) == []
    assert len(calls) == 2


def test_match_finds_an_entry_once_when_several_dicts_have_conditions():
    """An entry whose dicts all match is returned once, and removed as a whole."""
    index = make_index()
    wanted = [{"a": 1, "s": rxws.present}, {"b": 1, "s": rxws.starts_with("B")}, {"c": 1}, {"s": rxws.present}]
    registration = index.add("entry", parse(wanted))
    assert list(index.match({"a": 1, "b": 1, "c": 1, "s": "B"})) == ["entry"]
    index.remove(registration)
    assert list(index.match({"a": 1, "b": 1, "c": 1, "s": "B"})) == []
    index.add("again", parse(wanted[:1]))
    assert list(index.match({"a": 1, "s": None})) == ["again"]


def test_add_leaves_nothing_behind_when_a_hash_raises_next_to_a_condition():
    """If ``add`` raises while it stores the plain values of a dict with a condition, it registers nothing."""
    index = make_index()
    value = HostileHash(1)
    wanted = parse([{"c": 1, "d": rxws.present}, {"a": value, "b": rxws.present}])

    def fail():
        raise ValueError("no")

    value.on_compare = fail
    with pytest.raises(ValueError, match="no"):
        index.add("entry", wanted)
    assert len(index) == 0
    assert list(index.match({"c": 1, "d": 1})) == []


# Shapes


class Message(msgspec.Struct):
    """A message with three fields."""

    e: str = ""
    s: str = ""
    a: object = None


def test_match_when_messages_have_several_types():
    """One index finds messages of all types, each by the keys that its type can have."""
    index = make_index()
    filters = {"s": [{"s": "A"}], 0: [{0: "A"}], "both": [{"s": "A", "e": "x"}], "deep": [{(1, "s"): "A"}]}
    for entry, each in filters.items():
        index.add(entry, parse(each))
    for _ in range(2):  # the second time the types are known
        assert list(index.match({"s": "A"})) == ["s"]
        assert list(index.match(Message(s="A", e="x"))) == ["s", "both"]
        assert list(index.match(["A", {"s": "A"}])) == [0, "deep"]
        assert list(index.match(("A", Message(s="A")))) == [0, "deep"]
        assert list(index.match([])) == []
        assert list(index.match("A")) == []


def test_match_remembers_a_bounded_number_of_types():
    """A program that makes types while it runs does not fill the memory."""
    index = make_index()
    index.add("entry", parse([{"s": "A"}]))
    for number in range(2_500):
        kind = msgspec.defstruct(f"Kind{number}", [("s", str)])
        assert list(index.match(kind("A"))) == ["entry"]
    (shape,) = index._shapes.members.values()
    assert len(shape.readers) <= 1_000


# Exceptions


WHOLE = [
    [{"a": 1}],
    [{"a": 1, "b": 2}],
    [{"a": 1, "b": 2, "c": 3}],
    [{("c", "d"): 4}],
    [{("c", "d"): 4, "a": 1}],
    [{"e": [5]}],
]
"""Filters for each of the ways in which a message is looked up."""


@pytest.mark.parametrize("filters", WHOLE)
@pytest.mark.parametrize("others", [[], [None]], ids=["alone", "not alone"])
def test_match_reads_a_mapping_that_has_no_get(filters, others):
    """A Mapping without ``get`` is looked up by its items, and no key is created in it."""
    index = Index(on_error=pytest.fail)
    index.add("entry", parse(filters))
    for other in others:
        index.add("other", parse(other))
    whole = Struct({"a": 1, "b": 2, "c": Struct({"d": 4}), "e": [5]})
    whole.items_["c"].items_["x"] = 1
    assert "entry" in index.match(whole) or filters == [{"a": 1, "b": 2, "c": 3}]
    empty = Struct({})
    assert "entry" not in index.match(empty)
    assert len(empty) == 0
    assert parse(filters)(whole) is ("entry" in index.match(whole))
    assert not parse(filters)(empty)


@pytest.mark.parametrize("filters", WHOLE)
@pytest.mark.parametrize("error", [AttributeError("get"), CancelledError(), RuntimeError()])
@pytest.mark.parametrize("kind", [Liar, Broken])
def test_match_rejects_messages_that_cannot_be_read(filters, error, kind):
    """A message that raises when it is read passes no dict, and later messages are not affected."""
    reported = []
    index = Index(on_error=lambda *report: reported.append(report[2]))
    index.add("dicts", parse(filters))
    index.add("all", parse(None))
    assert list(index.match(kind(error))) == ["all"]
    assert set(reported) == ({error} if kind is Broken else set())


def test_match_rejects_a_mapping_that_lacks_the_methods():
    """A registered Mapping without methods passes no dict, and this is reported."""
    reported = []
    index = Index(on_error=lambda *report: reported.append(report[2]))
    index.add("dicts", parse([{"a": 1}]))
    assert list(index.match(Keyless())) == []
    assert [type(error) for error in reported] == [TypeError]


@pytest.mark.parametrize("error", [CancelledError(), RuntimeError()])
@pytest.mark.parametrize("is_only", [True, False])
def test_match_rejects_and_reports_when_a_look_up_raises(error, is_only):
    """A value's exception in a look-up, even a CancelledError, is reported, and ``match`` does not raise it."""

    errors, reported = [], []

    def fail():
        for each in errors:
            raise each

    index = Index(on_error=lambda *report: reported.append(report[2]))
    index.add("dicts", parse([{"a": Hostile(1, fail)}]))
    if not is_only:
        index.add("all", parse(None))
    errors.append(error)
    assert "dicts" not in index.match({"a": Hostile(1)})
    assert reported == [error]


@pytest.mark.parametrize("error", [ValueError("no"), CancelledError()])
def test_match_rejects_and_reports_when_a_predicate_raises(error):
    """A predicate that raises rejects the message and is reported; other entries are not affected."""

    def failing(message):
        raise error

    reports = []
    index = Index(on_error=lambda *report: reports.append(report))
    index.add(1, parse(failing))
    index.add(2, parse(bool))
    assert list(index.match({"a": 1})) == [2]
    assert reports == [(parse(failing), {"a": 1}, error)]


def test_match_rejects_and_reports_when_a_comparison_raises():
    """An ``__eq__`` that raises rejects the message for the filters with that value, and only for these."""
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
    message = {"a": Hostile(1, fail), "b": 1}  # the __eq__ of the filter's value decides
    assert sorted(index.match(message)) == [1, 4]
    assert [(reported.alternatives[0]["a"], *rest) for reported, *rest in reports] == [
        (value, message, error) for value in (values[0], values[2], values[3])
    ]


def test_match_raises_when_on_error_raises():
    """An exception of on_error propagates out of match."""
    index = make_index()
    index.add(1, parse(lambda message: 1 / 0))
    with pytest.raises(ZeroDivisionError):
        index.match({})


def test_add_leaves_nothing_behind_when_a_hash_raises():
    """An add that raises registers nothing; a change that is requested meanwhile still takes effect."""
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
    """A remove that raises has removed its entry, and the index still works."""
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


# Reentrant calls


def test_remove_works_when_called_during_add():
    """If a value's ``__hash__`` or ``__eq__`` calls remove during an add, neither change is lost."""
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


def test_add_works_when_called_during_add():
    """An ``add`` that is called during another ``add`` takes effect after it, and before the outer call returns."""
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


def test_match_works_when_called_during_add():
    """A ``match`` during an ``add`` finds the earlier entries; later matches find the new entry, too."""
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


def test_changes_work_when_made_during_match():
    """Changes that a comparison or a predicate makes during a match do not break it and are not lost."""
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


def test_remove_works_when_a_finalizer_calls_it_during_a_change():
    """If the finalizer of a removed entry removes another entry during the change, no change is lost."""
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


@pytest.mark.slow
def test_remove_loses_nothing_when_finalizers_call_it_anywhere():
    """Finalizers that remove entries at any step of add, remove and match leave exactly the other entries."""
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


@pytest.mark.slow
@pytest.mark.parametrize("allocations", range(12))
def test_remove_is_not_lost_when_a_finalizer_calls_it_while_match_makes_its_tuple(allocations):
    """If a finalizer removes an entry while ``match`` makes its cached tuple, later results lack the entry."""
    index = make_index()
    for _ in range(30):  # Python reuses short tuples instead of allocating them
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


# Any filters and messages


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(FILTERS, max_size=8), MESSAGES)
def test_match_finds_what_a_naive_matcher_finds_when_messages_have_any_shape(filters, message):
    """The index, and a filter that is called, find exactly what a naive matcher finds, for messages of every shape."""
    index = Index(on_error=lambda filter_, message, error: None)
    parsed = [parse(each) for each in filters]
    for number, each in enumerate(parsed):
        index.add(number, each)
    expected = [number for number, each in enumerate(filters) if naively_passes(each, message)]
    assert sorted(index.match(message)) == expected
    assert [number for number, each in enumerate(parsed) if passes(each, message)] == expected


class IndexMachine(RuleBasedStateMachine):
    """Compares an index with a plain dict of filters, through any sequence of changes and messages."""

    registrations = Bundle("registrations")

    def __init__(self):
        super().__init__()
        self.index = Index(on_error=lambda filter_, message, error: None)
        self.filters = {}
        self.number = 0

    @rule(target=registrations, filters=FILTERS)
    def add(self, filters):
        self.number += 1
        self.filters[self.number] = filters
        return self.number, self.index.add(self.number, parse(filters))

    @rule(registered=consumes(registrations))
    def remove(self, registered):
        number, registration = registered
        self.index.remove(registration)
        self.index.remove(registration)
        del self.filters[number]

    @rule(message=MESSAGES)
    def match(self, message):
        expected = [number for number, filters in self.filters.items() if naively_passes(filters, message)]
        assert sorted(self.index.match(message)) == expected

    @invariant()
    def counts(self):
        assert len(self.index) == len(self.filters)


TestIndexMachine = IndexMachine.TestCase
TestIndexMachine.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_match_when_entries_with_conditions_come_and_go():
    """Entries that want everything are found before, while and after there are entries with conditions."""
    index = Index(on_error=pytest.fail)
    everything = index.add("all", Filter.parse(None))
    assert list(index.match({"a": 1})) == ["all"]
    for filters in ([{"a": 1}], lambda message: True):
        other = index.add("some", Filter.parse(filters))
        assert sorted(index.match({"a": 1})) == ["all", "some"]
        index.remove(other)
        assert list(index.match({"a": 1})) == list(index.match([1])) == ["all"]
    index.remove(everything)
    assert list(index.match({"a": 1})) == []
