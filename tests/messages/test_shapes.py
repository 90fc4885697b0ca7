"""Reading values from messages of every shape."""

from __future__ import annotations

import dataclasses
from collections import UserDict
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import attrs
import msgspec
import pytest

from rxws.messages.shapes import ABSENT, look_up, reader_for


class Trade(msgspec.Struct):
    """A Struct with every kind of member that a Struct may have."""

    price: float
    kind: ClassVar[str] = "trade"
    _hidden: int = 3

    @property
    def doubled(self) -> float:
        return self.price * 2

    def method(self) -> None: ...


class Tagged(msgspec.Struct, tag_field="e", tag="trade"):
    """A Struct whose messages contain the name of the type."""

    symbol: str = msgspec.field(name="s")


@dataclasses.dataclass
class Filled:
    """A dataclass with a field that is filled later, and one whose default is a function."""

    price: float
    convert: Any = print
    late: int = dataclasses.field(init=False)


@attrs.define(slots=False)
class Quote:
    """An attrs class."""

    price: float


class Level(NamedTuple):
    """A tuple with names."""

    price: float
    size: float


class Bare:
    """A class that lists no fields."""

    price = 1.0


class Proxy:
    """An object that looks like a dict, but is of another type."""

    __class__ = dict  # type: ignore[assignment]

    def get(self, key: str, default: Any = None) -> Any:
        return {"price": 1.0}.get(key, default)


CASES: list[tuple[Any, Any, Any]] = [
    (Trade(1.0), "price", 1.0),
    (Trade(1.0), "kind", "trade"),
    (Trade(1.0), "doubled", 2.0),
    (Trade(1.0), "method", ABSENT),
    (Trade(1.0), "_hidden", ABSENT),
    (Trade(1.0), "__struct_fields__", ABSENT),
    (Trade(1.0), "other", ABSENT),
    (Trade(1.0), 0, ABSENT),
    (Trade(1.0), "price.real", ABSENT),
    (Tagged("BTCUSDT"), "e", "trade"),
    (Tagged("BTCUSDT"), "symbol", "BTCUSDT"),
    (Tagged("BTCUSDT"), "s", ABSENT),
    ([Tagged("BTCUSDT")], (0, "e"), "trade"),
    (Filled(1.0), "price", 1.0),
    (Filled(1.0), "convert", print),
    (Filled(1.0), "late", ABSENT),
    (Quote(1.0), "price", 1.0),
    (Level(1.0, 2.0), "size", 2.0),
    (Level(1.0, 2.0), -1, 2.0),
    (Level(1.0, 2.0), "count", ABSENT),
    (Bare(), "price", ABSENT),
    (Proxy(), "price", 1.0),
    ([7, 8], 1, 8),
    ([7, 8], True, 8),
    ([7, 8], 2, ABSENT),
    ([7, 8], -3, ABSENT),
    ([7, 8], "append", ABSENT),
    ((7, 8), (-1,), 8),
    ([[7, [8]]], (0, 1, 0), 8),
    ([{"s": Trade(1.0)}], (0, "s", "price"), 1.0),
    ({"data": Level(1.0, 2.0)}, ("data", "size"), 2.0),
    (UserDict({0: 7}), 0, 7),
    (MappingProxyType({"a": 7}), "a", 7),
    ("text", 0, ABSENT),
    (b"text", 0, ABSENT),
    (range(3), 0, ABSENT),
    ({7}, 7, ABSENT),
    (None, "a", ABSENT),
]


@pytest.mark.parametrize(("message", "key", "expected"), CASES)
def test_look_up_reads_every_shape(message: Any, key: Any, expected: Any) -> None:
    """Keys of mappings, positions in lists and tuples, and fields and properties of objects that list their fields."""
    assert look_up(message, key) is expected or look_up(message, key) == expected


@pytest.mark.parametrize(("message", "key", "expected"), CASES)
def test_reader_reads_what_look_up_reads(message: Any, key: Any, expected: Any) -> None:
    """The readers of the index find what ``look_up`` finds. A type whose messages lack the key has no reader."""
    read = reader_for(type(message), (key,))
    found = ABSENT if read is None else read(message)
    assert found is expected or found == expected


def test_reader_of_several_keys_returns_a_tuple() -> None:
    """A reader of several keys returns a tuple; if a key is missing, its value or the whole result is ABSENT."""
    both = reader_for(list, (0, (-1,)))
    assert both is not None
    assert both([7, 8, 9]) == (7, 9)
    assert both([]) is ABSENT
    fields = reader_for(Trade, ("price", "kind"))
    assert fields is not None
    assert fields(Trade(1.0)) == (1.0, "trade")
    tagged = reader_for(Tagged, ("e", "symbol"))
    assert tagged is not None
    assert tagged(Tagged("BTCUSDT")) == ("trade", "BTCUSDT")
    mixed = reader_for(list, (0, (1, "s")))
    assert mixed is not None
    assert mixed([7, {"s": 8}]) == (7, 8)
    assert mixed([7]) == (7, ABSENT)
    assert reader_for(list, (0, "s")) is None
    assert reader_for(Level, (0, "size"))((1.0, 2.0)) == (1.0, ABSENT)  # type: ignore[misc]
