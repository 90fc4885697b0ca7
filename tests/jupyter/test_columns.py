"""Columns of a table that is displayed repeatedly."""

from __future__ import annotations

from rxws.display import mimebundle
from rxws.jupyter.columns import Columns


def header(*messages, columns):
    return mimebundle("", {}, messages, columns.look)["text/plain"].splitlines()[1].split()


def test_columns_stay_where_they_are():
    """With a Columns object, columns keep their places from one display to the next."""
    columns = Columns()
    header({"a": 1}, {"b": 2}, columns=columns)
    assert header({"c": 3, "b": 2}, columns=columns) == ["a", "b", "c"]


def test_column_that_stays_empty_is_removed():
    """A column without a value in 20 displays is removed."""
    columns = Columns()
    first = [f"a{n}" for n in range(9)]
    assert header(dict.fromkeys(first), columns=columns) == first
    for _ in range(19):
        assert header({"b": 1}, columns=columns) == [*first, "b"]
    assert header({"b": 1}, columns=columns) == ["b"]


def test_empty_column_is_replaced_when_another_needs_its_place():
    """If there are too many columns, those that are unused for longest are removed first."""
    columns = Columns()
    header(dict.fromkeys("abcdefghij"), columns=columns)
    header(dict.fromkeys("bcdefghij"), columns=columns)
    assert header(dict.fromkeys("cdefghijk"), columns=columns) == list("bcdefghijk")
    for n in range(100):
        keys = [f"{n}-{m}" for m in range(10)]
        assert header(dict.fromkeys(keys), columns=columns) == keys
