"""The options of the constructor: defaults, checks and error texts."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import math
from fractions import Fraction
from itertools import islice
from typing import get_type_hints

import pytest

from rxws import codec
from rxws.delays import default_delays
from rxws.options import FeedOptions, Options, check_seconds

TIMES = [
    "open_timeout",
    "send_timeout",
    "close_timeout",
    "handover_timeout",
    "handover_settle",
    "reach",
    "idle_timeout",
    "max_latency",
]


async def asynchronous_delays():
    """An asynchronous generator, which is not allowed for delays."""
    yield 1.0


def test_defaults_are_those_of_the_contract():
    """The defaults are those of the contract; by default an idle connection is not replaced."""
    assert dataclasses.asdict(Options()) == {
        "name": None,
        "open_timeout": 10,
        "send_timeout": 10,
        "close_timeout": 5,
        "handover_timeout": 5,
        "handover_settle": 0.5,
        "reach": 2.0,
        "idle_timeout": None,
        "reconnect_delays": default_delays,
        "should_retry": None,
        "encode": codec.encode,
        "heartbeat": None,
        "send_limit": None,
        "resume": None,
        "cursor": None,
        "sequence": None,
        "key": None,
        "lines": 1,
        "connect_limit": None,
        "channels_per_connection": None,
        "sent_at": None,
        "unit": "ms",
        "max_latency": None,
    }


def test_default_delays_begin_at_once_then_are_jittered_and_capped():
    """By default the retries follow at once, then after up to 0.5 s, 1 s, 2 s and so on, and at most 60 s."""
    many = [list(islice(Options().reconnect_delays(), 12)) for _ in range(200)]
    ceilings = [0, 0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]
    for place, ceiling in enumerate(ceilings):
        drawn = [delays[place] for delays in many]
        assert all(0 <= delay <= ceiling for delay in drawn)
        assert max(drawn) >= ceiling * 0.9


def test_typed_keywords_are_the_fields():
    """FeedOptions, which type checkers use, has the fields and types of Options."""
    assert get_type_hints(FeedOptions) == get_type_hints(Options)


def test_options_are_keyword_only_and_frozen():
    """Options are keyword-only and frozen."""
    kinds = {parameter.kind for parameter in inspect.signature(Options).parameters.values()}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}
    with pytest.raises(dataclasses.FrozenInstanceError):
        Options().name = "other"


@pytest.mark.parametrize("option", TIMES)
@pytest.mark.parametrize("seconds", ["1", b"1", [], True, Fraction(1, 2), 1j])
def test_time_of_the_wrong_kind_is_refused_by_name(option, seconds):
    """A time that is not an int or float raises TypeError with the option's name and the expected value."""
    with pytest.raises(TypeError, match=f"^{option} must be a .*number of seconds.*, not "):
        Options(**{option: seconds})


@pytest.mark.parametrize("option", TIMES)
@pytest.mark.parametrize("seconds", [-1, -0.001, math.inf, -math.inf, math.nan])
def test_time_out_of_range_is_refused_by_name(option, seconds):
    """A time that is negative, infinite or NaN raises ValueError with the option's name."""
    with pytest.raises(ValueError, match=f"^{option} must be .* seconds.*, not {seconds}"):
        Options(**{option: seconds})


@pytest.mark.parametrize("option", ["open_timeout", "send_timeout", "close_timeout", "idle_timeout"])
def test_zero_is_refused_where_an_action_needs_time(option):
    """An option that limits the time of an action cannot be 0."""
    with pytest.raises(ValueError, match=f"{option} must be a positive number of seconds, not 0"):
        Options(**{option: 0})


@pytest.mark.parametrize("option", ["handover_timeout", "handover_settle"])
def test_zero_is_allowed_where_it_has_a_meaning(option):
    """``handover_timeout=0`` (break before make) and ``handover_settle=0`` are allowed."""
    assert getattr(Options(**{option: 0}), option) == 0


@pytest.mark.parametrize("option", [option for option in TIMES if option not in ("idle_timeout", "max_latency")])
def test_none_is_refused_where_a_wait_must_end(option):
    """Only ``idle_timeout`` and ``max_latency`` may be None, because all waits must be limited."""
    with pytest.raises(TypeError, match=option):
        Options(**{option: None})


@pytest.mark.parametrize("seconds", [1, 0.25, 1e9])
def test_any_positive_time_is_allowed(seconds):
    """A time may be any positive int or float."""
    options = Options(sent_at="T", **dict.fromkeys(TIMES, seconds))
    assert [getattr(options, option) for option in TIMES] == [seconds] * len(TIMES)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("name", 3, "name must be a str, or None for a name made from the class, not 3"),
        (
            "reconnect_delays",
            [1, 2],
            r"reconnect_delays must be a plain function that returns seconds to wait, not \[1, 2\]",
        ),
        ("reconnect_delays", None, "reconnect_delays must be a plain function"),
        ("should_retry", True, "should_retry must be a plain function of an exception, or None, not True"),
        ("encode", "json", "encode must be a plain function of a message, not 'json'"),
        ("should_retry", asyncio.sleep, "should_retry must be a plain function"),
        ("encode", asyncio.sleep, "encode must be a plain function"),
        ("reconnect_delays", asyncio.sleep, "reconnect_delays must be a plain function"),
        ("reconnect_delays", asynchronous_delays, "reconnect_delays must be a plain function"),
        ("heartbeat", "ping", r"heartbeat must be a pair \(message, seconds\), an rxws.Heartbeat, or None, not"),
        ("heartbeat", ("ping",), "heartbeat must be a pair"),
        ("heartbeat", ["ping", 1], "heartbeat must be a pair"),
        ("heartbeat", ("ping", "1"), "the seconds of heartbeat must be a positive number of seconds, not '1'"),
    ],
)
def test_option_of_the_wrong_kind_is_refused_by_name(option, value, expected):
    """An option of the wrong type raises TypeError with its name and the expected value."""
    with pytest.raises(TypeError, match=expected):
        Options(**{option: value})


def test_heartbeat_without_an_interval_is_refused():
    """A heartbeat with an interval of 0 seconds raises ValueError."""
    with pytest.raises(ValueError, match="the seconds of heartbeat must be a positive number of seconds, not 0"):
        Options(heartbeat=("ping", 0))


def test_valid_options_are_stored_unchanged():
    """Valid options are stored unchanged."""
    given = {
        "name": "trades",
        "reconnect_delays": lambda: [1.0],
        "should_retry": lambda error: None,
        "encode": repr,
        "heartbeat": ("ping", 20),
    }
    options = Options(**given)
    assert {name: getattr(options, name) for name in given} == given


def test_check_seconds_says_whether_zero_is_allowed():
    """The error text states whether zero is allowed."""
    with pytest.raises(ValueError, match="pause must be a number of seconds of at least 0, not -1"):
        check_seconds("pause", -1, zero=True)
    with pytest.raises(ValueError, match="pause must be a positive number of seconds, not 0"):
        check_seconds("pause", 0, zero=False)
    check_seconds("pause", 0, zero=True)


@pytest.mark.parametrize(
    ("send_limit", "error", "words"),
    [
        (5, TypeError, "send_limit must be a pair"),
        ((5,), TypeError, "send_limit must be a pair"),
        ((0, 1.0), ValueError, "messages of send_limit must be an int of at least 1"),
        ((True, 1.0), TypeError, "messages of send_limit"),
        ((5.0, 1), TypeError, "messages of send_limit"),
        ((5, 0), ValueError, "seconds of send_limit"),
    ],
)
def test_invalid_send_limit_is_refused(send_limit, error, words):
    """``send_limit`` and ``connect_limit`` need an int of at least 1 and a positive number of seconds."""
    with pytest.raises(error, match=words):
        Options(send_limit=send_limit)
    with pytest.raises(error, match=words.replace("send", "connect").replace("messages", "handshakes")):
        Options(connect_limit=send_limit)
