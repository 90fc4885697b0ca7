"""Filters and messages of every kind, and a naive matcher, for tests of filtering and routing."""

from __future__ import annotations

import dataclasses
import math
from collections import UserDict
from collections.abc import Mapping
from typing import Any, NamedTuple
from unittest.mock import ANY

import attrs
import msgspec
from hypothesis import strategies as st

import rxws


class Struct(msgspec.Struct):
    """A message as msgspec decodes it."""

    a: Any = msgspec.UNSET
    b: Any = None
    d: Any = None


class FrozenStruct(msgspec.Struct, frozen=True, array_like=True):
    """A hashable message with fewer fields."""

    a: Any
    e: Any = None


@dataclasses.dataclass
class Dataclass:
    """A message with a dict, and a field without a class attribute."""

    a: Any
    b: Any
    d: Any = None


@dataclasses.dataclass(slots=True)
class SlottedDataclass:
    """A message with slots."""

    a: Any
    e: Any


@attrs.define
class Attrs:
    """A message with slots."""

    a: Any
    d: Any = None


@attrs.define(slots=False)
class AttrsWithDict:
    """A message with a dict."""

    a: Any
    e: Any


class Named(NamedTuple):
    """A message with positions and names."""

    a: Any
    b: Any


class Plain:
    """An object that lists no fields."""

    def __init__(self) -> None:
        self.a = 1


NAN = math.nan

CONDITIONS = {
    rxws.present: lambda found: found is not msgspec.UNSET,
    rxws.one_of(1, "a"): lambda found: found in (1, "a"),
    rxws.one_of(None, 0, (1,)): lambda found: found in (None, 0, (1,)),
    rxws.one_of(NAN, frozenset({1})): lambda found: found == frozenset({1}),
    rxws.starts_with("a"): lambda found: isinstance(found, str) and found[:1] == "a",
    rxws.between(0, 0.5): lambda found: not isinstance(found, bool) and str(found) in ("0", "0.5"),
    rxws.between(None, "1"): lambda found: not isinstance(found, bool) and str(found) in ("0", "0.5", "1", "1.0"),
}
"""Conditions, each with a function that says which of :data:`VALUES` it accepts."""

CONDITION = st.sampled_from([*CONDITIONS])
PLAIN = st.sampled_from(
    [None, True, 1, 1.0, 0, "a", "ab", "0.5", NAN, (1,), (NAN,), [1], {"a": 1}, {1}, frozenset({1}), ANY]
)
VALUES = PLAIN | CONDITION
KEYS = st.sampled_from(
    [
        *("a", "b", 1, 0, 0.0, -1, ("a",), ("d", "a"), ("d", 0), ("d", 0.0), ("d", "e", -1), (("a",),)),
        *((0,), (-1,), (0, "a"), (1, -1), (0.0, "d", "a"), ("e", "a")),
    ]
)
FILTERS = st.one_of(
    st.none(),
    st.lists(st.dictionaries(KEYS, VALUES, max_size=3), max_size=3),
    st.sampled_from([bool, callable, lambda message: "a" in message]),
)
FEW_FILTERS = st.lists(
    st.dictionaries(st.just("a"), st.sampled_from([True, 1, [1], NAN]) | CONDITION, max_size=1), max_size=2
)


def _records(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return objects of every kind that has fields."""
    two = [FrozenStruct, SlottedDataclass, Attrs, AttrsWithDict, Named]
    return st.one_of(
        *(st.builds(kind, inner, inner, inner) for kind in (Struct, Dataclass)),
        *(st.builds(kind, inner, inner) for kind in two),
        st.builds(Struct),
        st.builds(Plain),
    )


NESTED = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.tuples(inner, inner)
        | st.dictionaries(st.sampled_from(["a", "e", 0]), inner, max_size=3)
        | _records(inner)
    ),
    max_leaves=6,
)
MESSAGES = st.one_of(
    st.dictionaries(st.sampled_from(["a", "b", "d", 1, ("a",)]), NESTED),
    st.dictionaries(st.sampled_from(["a", "b", "d"]), NESTED).map(UserDict),
    _records(NESTED),
    st.lists(NESTED, max_size=3),
    NESTED,
)


def passes(filter_, message):
    """Return whether a message passes a filter. A filter that raises rejects it."""
    try:
        return filter_(message)
    except TypeError:  # `"a" in message` raises it for a number
        return False


MISSING = object()


def _step(message, step):
    if isinstance(message, Mapping):
        return dict(message).get(step, MISSING)
    if isinstance(message, list | tuple) and isinstance(step, int | float):
        return message[int(step)] if step in range(-len(message), len(message)) else MISSING
    fields = ()
    if isinstance(message, msgspec.Struct):
        fields = message.__struct_fields__
    elif dataclasses.is_dataclass(message):
        fields = [field.name for field in dataclasses.fields(message)]
    elif attrs.has(type(message)):
        fields = [field.name for field in attrs.fields(type(message))]
    elif isinstance(message, Named):
        fields = message._fields
    return getattr(message, step) if step in fields else MISSING


def _accepts(wanted, key, message):
    for step in key if isinstance(key, tuple) else (key,):
        message = _step(message, step)
    if message is MISSING:
        return False
    for condition, accepts in CONDITIONS.items():
        if wanted is condition:
            return accepts(message)
    return bool(wanted == message)


def naively_passes(filters, message):
    """Return whether a message passes the filters of a user. The code is simple, to be compared with rxws's own."""
    if callable(filters):
        return bool(passes(filters, message))
    return not filters or any(all(_accepts(wanted, key, message) for key, wanted in each.items()) for each in filters)
