"""How long to wait before the next attempt, and when to give up."""

from __future__ import annotations

import email.utils
import fractions
import itertools
import random
import time
import types

import picows.websockets
import pytest
import websockets
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.frames import Close
from websockets.http11 import Response

from rxws.connections.backoff import Address, Backoff
from rxws.connections.failures import Failure, diagnose
from rxws.delays import default_delays

NOW = 1_700_000_000.0
LIBRARIES = {"websockets": websockets.connect, "picows": picows.websockets.connect}

both_libraries = pytest.mark.parametrize("connect", LIBRARIES.values(), ids=LIBRARIES)


def refusal(status: int, **headers: str) -> InvalidStatus:
    """Return the error of a handshake that was refused with ``status``."""
    return InvalidStatus(Response(status, "", Headers({name.replace("_", "-"): v for name, v in headers.items()})))


# How long to wait


def test_the_default_delays_start_at_once_and_grow_to_a_minute(monkeypatch):
    """The first retry follows at once; then the longest delay doubles from 0.5 s to a minute and stays there."""
    ceilings = []
    monkeypatch.setattr(random, "uniform", lambda low, high: ceilings.append((low, high)) or high)
    delays = list(itertools.islice(default_delays(), 3000))
    assert delays[:9] == [0, 0.5, 1, 2, 4, 8, 16, 32, 60]
    assert set(delays[9:]) == {60}
    assert {low for low, _ in ceilings} == {0}


def test_the_default_delays_are_fully_jittered():
    """Delays spread over the whole range, so that clients that lost the same server return at different times."""
    fifth = [next(itertools.islice(default_delays(), 5, None)) for _ in range(500)]
    assert min(fifth) < 1
    assert max(fifth) > 7
    assert max(fifth) <= 8


RETRIED = Failure("network", "gone")


def make_backoff(delays=default_delays, should_retry=lambda error: None) -> Backoff:
    """Return a backoff with default options where none are given."""
    return Backoff(delays, should_retry)


def backoff_that_is_open(*delays: object, **options) -> Backoff:
    """Return the backoff of a feed whose connection was opened at time 0."""
    backoff = make_backoff(lambda: delays, **options) if delays else make_backoff(**options)
    backoff.attempt_started()
    backoff.opened()
    return backoff


SHORT = [(129.9, None, None), (119.9, 100, 102.9), (119.9, 110, 110), (160, None, None)]
"""Connections that were not healthy: all opened at 100; the end, the first and the last message of each."""

HEALTHY = [(103.1, 100, 103), (120, 100, 100), (120, 119, 119), (1000, 100, 900)]
"""Connections that were healthy, with the same fields."""


@pytest.mark.parametrize(("now", "first", "last"), SHORT)
def test_the_delays_continue_when_a_connection_was_not_healthy(now, first, last):
    """The delays keep growing if a server accepts and cuts at once, greets and cuts, or accepts and stays silent."""
    backoff = backoff_that_is_open(0, 1, 2, 3)
    delays = []
    for _ in range(4):
        backoff.closed(backoff.address, 100, now, first, last)
        delays.append(backoff.next_delay(RETRIED))
        backoff.attempt_started()
        backoff.opened()
    assert delays == [0, 1, 2, 3]


@pytest.mark.parametrize(("now", "first", "last"), HEALTHY)
def test_the_delays_start_over_when_a_connection_was_healthy(now, first, last):
    """After a connection that delivered for 3 s, or lived for 20 s and delivered, the next retry follows at once."""
    backoff = backoff_that_is_open(0, 1, 2)
    assert [backoff.next_delay(RETRIED), backoff.next_delay(RETRIED)] == [0, 1]
    backoff.closed(backoff.address, 100, now, first, last)
    assert backoff.next_delay(RETRIED) == 0


def test_the_old_connections_age_counts_when_it_ends_after_the_new_one_opened():
    """In a rotation the age of the connection that has ended decides, not the age of the newer connection."""
    backoff = backoff_that_is_open(0, 1)
    assert backoff.next_delay(RETRIED) == 0
    backoff.opened()
    backoff.closed(backoff.address, 0, 1001, 0, 0)
    assert backoff.next_delay(RETRIED) == 0


def test_there_is_no_retry_when_the_delays_end():
    """A finite ``reconnect_delays`` limits the attempts."""
    backoff = backoff_that_is_open(1)
    assert [backoff.next_delay(RETRIED), backoff.next_delay(RETRIED), backoff.next_delay(RETRIED)] == [1, None, None]


@pytest.mark.parametrize(("code", "least"), [(1012, 2), (1013, 2), (1011, 0), (None, 0)])
def test_delay_is_at_least_two_seconds_when_the_server_restarts(code, least):
    """After the close codes 1012 and 1013 the delay is at least 2 s, or the longer delay of the backoff."""
    backoff = backoff_that_is_open(0, 5)
    failure = Failure("server", "closed", code=code)
    assert [backoff.next_delay(failure), backoff.next_delay(failure)] == [least, 5]


def test_retry_after_is_the_least_delay():
    """The feed waits for the backoff's delay or for the server's Retry-After, whichever is longer."""
    backoff = backoff_that_is_open(0, 50)
    failure = diagnose(refusal(503, Retry_After="7"), now=NOW)
    assert [backoff.next_delay(failure), backoff.next_delay(failure)] == [7, 50]


def test_too_many_requests_without_a_time_wait_for_two_seconds():
    """After HTTP 429 without Retry-After the delay is at least 2 s; a Retry-After is obeyed, even a shorter one."""
    backoff = backoff_that_is_open(0, 0, 5)
    limited, timed = diagnose(refusal(429), now=NOW), diagnose(refusal(429, Retry_After="1"), now=NOW)
    assert [backoff.next_delay(each) for each in (limited, timed, limited)] == [2, 1, 5]


@pytest.mark.parametrize("status", [400, 403, 418, 451])
def test_a_refusal_with_a_time_is_retried_before_the_first_success(status):
    """A status 4xx with Retry-After is retried after that time; without it the feed fails."""
    backoff = make_backoff()
    assert backoff.next_delay(diagnose(refusal(status, Retry_After="120"), now=NOW)) == 120
    assert backoff.next_delay(diagnose(refusal(status), now=NOW)) is None


def test_a_fatal_failure_ends_the_feed_only_before_the_first_success():
    """A failure that is fatal before the first open connection is retried after it."""
    failure = diagnose(refusal(404), now=NOW)
    assert make_backoff().next_delay(failure) is None
    assert backoff_that_is_open().next_delay(failure) == 0


def test_refusals_are_counted_in_a_row():
    """Another failure or a success in between starts the count of 401 and 403 again."""
    refused, forbidden = diagnose(refusal(401), now=NOW), diagnose(refusal(403), now=NOW)
    backoff = backoff_that_is_open()
    assert backoff.next_delay(refused) is not None
    assert backoff.next_delay(forbidden) is not None
    assert backoff.next_delay(RETRIED) is not None
    assert backoff.next_delay(refused) is not None
    assert backoff.next_delay(refused) is not None
    backoff.opened()
    assert backoff.next_delay(refused) is not None
    assert backoff.next_delay(forbidden) is not None
    assert backoff.next_delay(refused) is None


def test_should_retry_overrides_what_is_fatal():
    """True retries a fatal failure, False gives up after any failure, None leaves the decision to the default rule."""
    fatal, retried = diagnose(TypeError(), now=NOW), diagnose(OSError(), now=NOW)
    for verdict, expected in ((True, [False, False]), (False, [True, True]), (None, [True, False])):
        asked = []
        backoff = make_backoff(should_retry=lambda error, verdict=verdict, asked=asked: asked.append(error) or verdict)
        assert [backoff.next_delay(failure) is None for failure in (fatal, retried)] == expected
        assert asked == [fatal.error, retried.error]


def test_should_retry_overrides_three_refusals():
    """If ``should_retry`` returns True, a feed retries although its credentials were refused three times."""
    backoff = make_backoff(should_retry=lambda error: True)
    failure = diagnose(refusal(401), now=NOW)
    assert None not in [backoff.next_delay(failure) for _ in range(5)]


def test_should_retry_is_called_after_a_normal_close_but_not_without_an_exception():
    """``should_retry`` may end a feed after a close with code 1000. It is not called after ``idle_timeout``."""
    asked = []
    backoff = backoff_that_is_open(should_retry=lambda error: asked.append(error) or False)
    assert backoff.next_delay(Failure("idle", "no message for 60 s")) == 0
    assert asked == []
    closed = diagnose(None, types.SimpleNamespace(close_code=1000, close_reason="the end"), now=NOW)
    assert backoff.next_delay(closed) is None
    assert asked[0].rcvd == Close(1000, "the end")


def test_an_exception_of_should_retry_is_raised():
    """If ``should_retry`` raises, its exception is raised."""

    def fail(error):
        raise LookupError("no such error")

    with pytest.raises(LookupError, match="no such error"):
        make_backoff(should_retry=fail).next_delay(RETRIED_ERROR)


RETRIED_ERROR = diagnose(ConnectionClosedError(None, None), now=NOW)


@pytest.mark.parametrize("verdict", ["yes", 1, object()])
def test_should_retry_is_refused_when_it_returns_anything_else(verdict):
    """Only True, False and None are allowed, because a coroutine, for example, would always be true."""
    with pytest.raises(TypeError, match="should_retry must return True, False or None"):
        make_backoff(should_retry=lambda error: verdict).next_delay(RETRIED_ERROR)


@pytest.mark.parametrize(
    ("delay", "error"),
    [(-1, ValueError), (float("nan"), ValueError), (float("inf"), ValueError), ("1", TypeError), (None, TypeError)],
)
def test_a_delay_that_is_not_a_time_is_refused(delay, error):
    """A delay that is negative, not finite or not a number raises an error that names the option."""
    with pytest.raises(error, match="reconnect_delays"):
        make_backoff(lambda: [delay]).next_delay(RETRIED)


def test_delays_that_cannot_be_iterated_are_refused():
    """If ``reconnect_delays`` returns a number, the error names the option."""
    with pytest.raises(TypeError, match="reconnect_delays must return an iterable of seconds"):
        make_backoff(lambda: 5).next_delay(RETRIED)


def test_any_real_number_is_a_delay():
    """Delays may be real numbers of any type."""
    backoff = make_backoff(lambda: [1, fractions.Fraction(1, 2)])
    assert [backoff.next_delay(RETRIED), backoff.next_delay(RETRIED)] == [1.0, 0.5]


def test_attempts_are_counted_from_the_last_open_connection():
    """The number of attempts starts at 1 again after a connection was open."""
    backoff = make_backoff()
    numbers = [backoff.attempts]
    for is_opened in (False, False, True, False, True, True):
        backoff.attempt_started()
        numbers.append(backoff.attempts)
        if is_opened:
            backoff.opened()
            numbers.append(backoff.attempts)
    assert numbers == [0, 1, 2, 3, 3, 1, 2, 2, 1, 1]


def test_a_date_is_counted_from_now():
    """A Retry-After with a date is converted to seconds from the time that the caller passes."""
    now = time.time()
    error = refusal(429, Retry_After=email.utils.formatdate(now + 30, usegmt=True))
    assert diagnose(error, now=now).retry_after == pytest.approx(30, abs=1)


def test_lines_that_are_lost_in_one_outage_share_a_delay():
    """Connections that are lost together, and attempts that fail together, use one delay of their address."""
    addresses = [Address()]
    lines = [Backoff(lambda: iter([0.0, 1.0, 2.0]), lambda _: None, addresses) for _ in range(50)]
    for line in lines:
        line.attempt_started(0.0)
        line.opened()
    lost = Failure("network", "lost")
    assert [line.next_delay(lost, 10.0 + number / 100) for number, line in enumerate(lines)] == [0.0] * 50
    for line in lines:
        line.attempt_started(11.0)
    waits = [line.next_delay(lost, 12.0 + number / 100) for number, line in enumerate(lines)]
    assert waits == pytest.approx([1.0 - number / 100 for number in range(50)])
    lines[0].attempt_started(13.0)
    assert lines[0].next_delay(lost, 13.5) == 2.0


def test_line_whose_next_failure_follows_without_an_attempt_draws_a_delay():
    """Two failures of one line, such as a rotation's and then a loss, use two delays."""
    backoff = Backoff(lambda: iter([0.0, 1.0]), lambda _: None)
    backoff.attempt_started(0.0)
    assert [backoff.next_delay(Failure("network", "lost"), now) for now in (1.0, 2.0)] == [0.0, 1.0]
