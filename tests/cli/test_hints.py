"""Hints: why there is no connection, and which values there were."""

from __future__ import annotations

import pytest

import rxws
from rxws.cli.hints import MOST_VALUES, ConnectionHint, Unmatched

HERE = {"name": "feed", "time": 1.0}


def failed(cause, reason="network"):
    """Return the event of a failed attempt."""
    return rxws.Disconnected(number=None, reason=reason, cause=cause, delay=1.0, **HERE)


@pytest.mark.parametrize(
    ("url", "cause", "is_hinted"),
    [
        ("wss://x", "ConnectionResetError", True),
        ("wss://x", "SSLError: [SSL: WRONG_VERSION_NUMBER] wrong version number", True),
        ("wss://x", "ConnectionRefusedError: [Errno 111]", False),
        ("wss://x", "TimeoutError", False),
        ("ws://x", "InvalidMessage: did not receive a valid HTTP response", True),
        ("ws://x", "gaierror: Name or service not known", False),
        ("nats://x", "ConnectionResetError", False),
    ],
)
def test_hint_is_given_once_when_the_cause_may_be_tls(url, cause, is_hinted):
    """A cause that TLS on one side has is hinted at once; other causes are not."""
    hint = ConnectionHint(url)
    assert (hint.take(failed(cause)) is not None) is is_hinted
    assert hint.take(failed(cause)) is None


def test_no_hint_is_given_when_there_was_a_connection():
    """After a first connection the scheme is right, and a proof of the server's identity that fails needs TLS."""
    hint = ConnectionHint("wss://x")
    assert hint.take(failed("SSLError: certificate", "auth")) is None
    hint.take(rxws.Connected(number=1, attempt=1, **HERE))
    assert hint.take(failed("ConnectionResetError")) is None


def test_values_are_counted_within_bounds():
    """Endless values and keys take a bounded amount of memory, and secrets are masked."""
    unmatched = Unmatched([{"n": -1, "token": "x"}])
    for n in range(MOST_VALUES + 10):
        unmatched.take({"n": n, f"key {n}": 1, "token": "S3CRET"})
    said = unmatched.sentence()
    assert said.startswith("no message of 10,010 passed the filter; n was 0, 1, 2, 3, 4, 5, 6, 7 and 9,992 more; ")
    assert "S3CRET" not in said
    assert len(unmatched._keys) <= MOST_VALUES + 2


def test_sentence_says_when_there_was_nothing():
    """Without a message there are no values, and messages that are no objects have no keys."""
    unmatched = Unmatched([{("d", 0): 1}])
    assert unmatched.sentence() == "there was no message"
    unmatched.take(5)
    assert unmatched.sentence() == "no message of 1 passed the filter; no message has the key d.0"
