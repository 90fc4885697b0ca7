"""Rows: messages as aligned pairs, and as a table."""

from __future__ import annotations

import json

import pytest

from rxws.cli.filters import filter_case, keys
from rxws.cli.rows import MOST_CELLS, MOST_KINDS, Pairs, Table, chosen


def text(row):
    """Return a row as text."""
    return "".join(cell.text for cell in row).rstrip()


def test_flat_messages_are_aligned_with_those_of_the_same_keys():
    """The columns of each combination of keys become as wide as its longest value so far."""
    pairs = Pairs(ascii=False)
    messages = [{"e": "t", "p": 1000.5}, {"e": "trade", "p": 1}, {"s": "LONG", "n": 1}, {"e": "t", "p": None}]
    assert [text(pairs.row(message)) for message in messages] == [
        *("e=t  p=1000.5", "e=trade  p=1", "s=LONG  n=1", "e=t      p=null")
    ]


@pytest.mark.parametrize(
    "value",
    [
        "BTC",
        "64000.01",
        "",
        "a,b",
        'a"b',
        " a",
        "a\\b",
        "true",
        "null",
        "é",
        "\x1b[31m",
        "\u202e",
        5,
        0.5,
        True,
        None,
        "a=b",
    ],
)
def test_pair_is_what_a_filter_takes(value):
    """What a row shows of a value can be given to ``--filter``: numeric strings keep their quotes."""
    for is_ascii in (False, True):
        shown = text(Pairs(ascii=is_ascii).row({"k": value}))
        assert shown.isprintable()
        assert not is_ascii or shown.isascii()
        if shown.isprintable() and "\\u" not in shown:
            assert filter_case(shown) == {"k": value}


@pytest.mark.parametrize(
    "message",
    [
        [1],
        5,
        "x",
        {},
        {"a": [1]},
        {"a": {"b": 1}},
        {"a": "x" * 41},
        {"a" * 41: 1},
        {"a": 10**5000},
        dict.fromkeys(map(str, range(MOST_CELLS + 1))),
    ],
)
def test_message_is_no_row_when_it_is_not_flat_or_too_long(message):
    """A message that is no object, or has nested, many or long values, is printed as JSON."""
    assert Pairs(ascii=False).row(message) is None


def test_memory_is_bounded_when_each_message_has_other_keys():
    """Only a number of combinations of keys is aligned. Messages with further ones are printed as JSON."""
    pairs = Pairs(ascii=False)
    rows = [pairs.row({str(n): 1}) for n in range(MOST_KINDS + 5)]
    assert [row is None for row in rows] == [False] * MOST_KINDS + [True] * 5


def test_table_aligns_numbers_to_the_right():
    """A column with a number is aligned to the right, and a value that is missing is empty."""
    table = Table(keys("s, d.0.p"), ascii=False)
    rows = [text(table.row(message)) for message in ({"s": "A", "d": [{"p": 5}]}, {"s": "LONG"}, {"d": [{"p": 12345}]})]
    assert rows == ["A      5", "LONG", "      12345"]
    assert text(table.header()) == "s     d.0.p"


def test_chosen_fields_are_under_their_names():
    """A path is under its text, and absent fields are left out; null is a value."""
    assert json.dumps(chosen({"a": {"b": None}, "c": 1}, keys("a.b,x,c"))) == '{"a.b": null, "c": 1}'
