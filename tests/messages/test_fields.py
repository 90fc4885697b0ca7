"""Fields: reading the value, the number or the range of numbers that an argument names in a message."""

from __future__ import annotations

import re
from typing import Any

import pytest

from rxws.messages.fields import field_reader, number_reader, range_reader


async def answer(_message: Any) -> int:
    return 1


def ranges(sequence: Any, *messages: Any, **options: Any) -> list[tuple[int, int]]:
    """Return the ranges of messages."""
    return [*map(range_reader(sequence, "sequence", **options), messages)]


def test_range_when_given_a_key_a_path_a_list_or_a_function() -> None:
    """One field gives both ends of a range; two fields give one end each; a function returns a number or both ends."""
    assert ranges("u", {"u": 3}) == [(3, 3)]
    assert ranges(("data", "u"), {"data": {"u": 3}}) == [(3, 3)]
    assert ranges(["U", ("data", "u")], {"U": 1, "data": {"u": 3}}) == [(1, 3)]
    assert ranges([lambda message: message["U"] + 1, "u"], {"U": 0, "u": 3}) == [(1, 3)]
    assert ranges(lambda message: message["n"], {"n": 3}, {"n": (1, 3)}, {"n": [1, 3]}) == [(3, 3), (1, 3), (1, 3)]


def test_range_when_tuples_are_pairs() -> None:
    """A tuple of two is a pair of keys only if ``pairs`` contains tuple; otherwise it is a path."""
    assert ranges(("U", "u"), {"U": 1, "u": 3}, pairs=(list, tuple)) == [(1, 3)]
    assert ranges(("data", 0, "u"), {"data": [{"u": 3}]}, pairs=(list, tuple)) == [(3, 3)]
    with pytest.raises(KeyError, match="there is no 'u' in an object of type int"):
        ranges(("U", "u"), {"U": 1, "u": 3})


def test_number_when_it_is_a_string() -> None:
    """A str of a whole number counts as that number, alone and in a range."""
    assert number_reader("n", "sequence")({"n": "12345678901234567890"}) == 12345678901234567890
    assert ranges(["U", "u"], {"U": "-1", "u": "3"}) == [(-1, 3)]
    assert ranges(lambda message: message, "7", ("7", 8)) == [(7, 7), (7, 8)]


@pytest.mark.parametrize("value", [None, True, 5.0, "5.0", "five", "", b"5", [1], (1, 2, 3), {}])
def test_number_when_it_is_none(value: Any) -> None:
    """A value that is not a whole number raises an error that names the argument and shows the value."""
    for read in (number_reader("n", "sequence"), range_reader("n", "sequence"), range_reader(["n", "n"], "sequence")):
        with pytest.raises((TypeError, ValueError), match=rf"^sequence must be an int .*{re.escape(repr(value))}$"):
            read({"n": value})


@pytest.mark.parametrize("sequence", [None, [], ["U"], ["U", "u", "x"]])
def test_range_reader_when_it_is_not_a_sequence(sequence: Any) -> None:
    """An argument that is neither a field nor a list of two raises TypeError."""
    with pytest.raises(TypeError, match=r"^sequence must be a key or a path, a list of the keys"):
        range_reader(sequence, "sequence")


@pytest.mark.parametrize(
    ("field", "error"),
    [
        (answer, r"^time must be a plain function, but answer is a coroutine function"),
        ({"T"}, r"^time must be a key, a tuple of keys or a function, not a set"),
        ((), r"^time is an empty tuple"),
    ],
)
def test_reader_when_the_field_is_none(field: Any, error: str) -> None:
    """A coroutine function, an unhashable value and an empty path raise an error that names the argument."""
    for make in (field_reader, number_reader):
        with pytest.raises((TypeError, ValueError), match=error):
            make(field, "time")
    with pytest.raises((TypeError, ValueError), match=error):
        range_reader(["u", field], "time")


def test_missing_field_names_the_keys_that_are_there() -> None:
    """The error names the argument, the first step of the path that is missing, and the keys beside it."""
    with pytest.raises(KeyError, match=r"last 'lastUpdateId': there is no 'lastUpdateId' in the keys 'id', 'bids'"):
        number_reader("lastUpdateId", "last")({"id": 7, "bids": []})
    with pytest.raises(KeyError, match=r"last \('data', 0, 'u'\): there is no 'u' in the keys 'U'"):
        number_reader(("data", 0, "u"), "last")({"data": [{"U": 1}]})
    with pytest.raises(KeyError, match=r"last 'u': there is no 'u' in an object of type list"):
        number_reader("u", "last")([1, 2])


def test_missing_field_when_a_message_has_many_keys() -> None:
    """The error stays short, however many and long the keys are."""
    with pytest.raises(KeyError) as caught:
        field_reader("time", "time")({f"key {number} {'x' * 30}": number for number in range(100_000)})
    assert len(str(caught.value)) < 300
