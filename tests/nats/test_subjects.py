"""Subjects: patterns pass at least what their filter passes, and do not overlap."""

from __future__ import annotations

import enum
import math
import re
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rxws
from rxws.messages import Filter
from rxws.nats.subjects import LONGEST_TOKEN, MOST_PATTERNS, Template, covers, merged, overlap, token_of


class Side(enum.StrEnum):
    """A text with a name."""

    BUY = "buy"


def matches(pattern: str, subject: str) -> bool:
    """Return whether a pattern matches a subject, by a regular expression."""
    tokens = [".+" if each == ">" else r"[^.]+" if each == "*" else re.escape(each) for each in pattern.split(".")]
    return re.fullmatch(r"\.".join(tokens), subject) is not None


VALUES = st.one_of(
    st.sampled_from(["", "_", "%", "a.b", "a b", "*", ">", "BTC/USD", "é", "\udc80", Side.BUY, "buy", "1"]),
    st.sampled_from([0, 1, True, False, 1.0, -0.0, 1.5, math.nan, math.inf, 10**300, 1e300, 2**70]),
    st.sampled_from([Decimal(1), Decimal("1.0"), Decimal("1.5"), Fraction(1), 1 + 0j, Decimal("nan"), None]),
    st.sampled_from([(1,), [1], {"s": 1}, b"buy", "x" * 1000]),
    st.text(max_size=3),
)
MESSAGES = st.one_of(
    st.dictionaries(st.sampled_from(["e", "s", "data"]), VALUES),
    st.builds(lambda data, e: {"data": data, "e": e}, st.dictionaries(st.sampled_from(["s", "e"]), VALUES), VALUES),
    st.lists(VALUES, max_size=2),
    VALUES,
)
CONDITIONS = st.sampled_from([rxws.one_of("buy", 1), rxws.starts_with("b"), rxws.between(0, 2), rxws.present])
KEYS = st.sampled_from(["e", "s", ("e",), ("data", "s"), ("data", 0), "data", "other"])
FILTERS = st.one_of(
    st.none(),
    st.lists(st.dictionaries(KEYS, st.one_of(VALUES, CONDITIONS), max_size=3), max_size=4),
    st.just(lambda message: True),
)
TEMPLATES = st.sampled_from(["rx.{e}.{s}", "rx.{data.s}", "rx.{data.0}.x.{e}", "rx.all"])
PATTERNS = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=3).map(
    lambda tokens: ".".join(["rx", *tokens])
)
SUBJECTS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map(
    lambda tokens: ".".join(["rx", *tokens])
)


@given(TEMPLATES, FILTERS, MESSAGES)
def test_patterns_match_each_message_that_passes_the_filter(template, filters, message) -> None:
    """The patterns of a filter match the subject of every message that passes it."""
    made = Template(template)
    wanted = Filter.parse(filters)
    subject = made.render(message)
    assert matches(made.everything, subject)
    assert made.accepts()(subject)
    if wanted(message):
        assert any(matches(pattern, subject) for pattern in made.patterns(wanted))


@given(st.lists(PATTERNS, max_size=20), st.lists(SUBJECTS, max_size=20))
def test_merged_patterns_do_not_overlap_and_cover_all(patterns, subjects) -> None:
    """Merged patterns match all subjects of the given ones, and no two of them match the same subject."""
    found = merged(patterns)
    assert found is not None
    for subject in subjects:
        hits = sum(matches(pattern, subject) for pattern in found)
        assert hits <= 1
        assert hits or not any(matches(pattern, subject) for pattern in patterns)
    assert all(covers(one, one) for one in found)


@given(PATTERNS, PATTERNS, st.lists(SUBJECTS, max_size=30))
def test_overlap_and_covers_agree_with_matching(one, other, subjects) -> None:
    """Two patterns overlap if both match a subject; a pattern that covers another matches all its subjects."""
    for subject in subjects:
        if matches(one, subject) and matches(other, subject):
            assert overlap(one, other)
            assert overlap(other, one)
        if covers(one, other) and matches(other, subject):
            assert matches(one, subject)


@given(VALUES)
def test_token_is_one_token_of_a_subject(value) -> None:
    """A token is not empty and has neither dots nor blanks nor wildcards, and is short."""
    token = token_of(value)
    assert re.fullmatch(r"[A-Za-z0-9_%\-:@/+=]+", token)
    assert len(token) <= LONGEST_TOKEN


@pytest.mark.parametrize(
    ("value", "token"),
    [
        *(("BTC/USD", "BTC/USD"), ("a.b", "a%2Eb"), ("a b", "a%20b"), ("*", "%2A"), (">", "%3E"), ("é", "%C3%A9")),
        *(("", "%"), ("_", "%5F"), ("%", "%25"), (1, "1"), (True, "1"), (1.0, "1"), (-0.0, "0"), (Decimal("2.0"), "2")),
        *((1.5, "_"), (None, "_"), ([], "_"), (math.inf, "_"), ("x" * 500, "_"), (-7, "-7")),
    ],
)
def test_token_of_a_value(value, token) -> None:
    """Texts are escaped, whole numbers become their digits, and other values become ``_``."""
    assert token_of(value) == token


@pytest.mark.parametrize(
    "text", ["", "rx..a", "{e}.a", "rx.{}", "rx.a{e}", "rx.{e", "rx.*", "rx.>", "rx.a b", ".rx", "rx."]
)
def test_template_is_refused_when_it_is_malformed(text) -> None:
    """A template that is not a list of words and fields raises ValueError and names what was expected."""
    with pytest.raises(ValueError, match=r"must be words and \{fields\}"):
        Template(text)


def test_template_refuses_other_types() -> None:
    """A template that is not a str raises TypeError."""
    with pytest.raises(TypeError, match="subject must be a str"):
        Template(7)  # type: ignore[arg-type]


def test_wildcards_are_accepted_when_they_are_allowed() -> None:
    """A template for reading may have wildcards, but ``>`` only at its end."""
    assert Template("rx.*.>", wildcards=True).everything == "rx.*.>"
    accepts = Template("rx.*.>", wildcards=True).accepts()
    assert accepts("rx.a.b.c")
    assert not accepts("rx.a")
    with pytest.raises(ValueError, match="must be words"):
        Template("rx.>.a", wildcards=True)


def test_everything_is_asked_for_when_patterns_are_many() -> None:
    """If there are too many patterns, the result is None, unless one of them covers the others."""
    many = [f"rx.trade.{number}" for number in range(1000)]
    assert merged(many) is None
    assert merged([*many, "rx.trade.*"]) == ("rx.trade.*",)
    assert merged(many[:MOST_PATTERNS]) == tuple(sorted(many[:MOST_PATTERNS]))
    assert set(Template("rx.{s}").patterns(Filter.parse([{"s": rxws.one_of("A", "B")}]))) == {"rx.A", "rx.B"}
    assert merged(["rx.a.*", "rx.*.b"]) == ("rx.*.*",)
    assert merged(["rx.a.*", "rx.*.b", "rx.c.d", "rx.>"]) == ("rx.>",)
