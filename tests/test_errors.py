"""The exceptions of rxws."""

from __future__ import annotations

import copy
import pickle

import pytest

from rxws import errors
from rxws.errors import ConnectFailed, FeedClosed, RxwsError, SendFailed, SendTimeout, StreamOverflow

EXAMPLES = [
    ConnectFailed(404, "the server refused the handshake: 404 Not Found", 1),
    FeedClosed("feed is closed"),
    SendFailed("the connection was lost"),
    SendTimeout("there was no live connection for 10 s"),
    StreamOverflow(1_000_000),
]


def test_all_when_compared_with_the_examples():
    """Every exception class of rxws is exported, and this module has an example of it."""
    assert set(errors.__all__) == {"RxwsError", *(type(error).__name__ for error in EXAMPLES)}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_error_when_caught_by_the_root(error):
    """All exceptions of rxws derive from RxwsError."""
    assert isinstance(error, RxwsError)
    assert isinstance(error, Exception)


@pytest.mark.parametrize(
    ("error", "builtin"), [(ConnectFailed, ConnectionError), (SendFailed, ConnectionError), (SendTimeout, TimeoutError)]
)
def test_error_when_caught_by_the_builtin_one(error, builtin):
    """Exceptions with a built-in counterpart derive from it."""
    assert issubclass(error, builtin)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "transfer", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "pickle"]
)
def test_error_when_handed_to_another_process(error, transfer):
    """An exception survives copying and pickling unchanged."""
    other = transfer(error)
    assert type(other) is type(error)
    assert other.args == error.args
    assert vars(other) == vars(error)
    assert str(other) == str(error)


def test_connect_failed_when_shown():
    """ConnectFailed has status, reason and attempt, and its text contains them."""
    error = ConnectFailed(404, "the server said 404", 1)
    assert (error.status, error.reason, error.attempt) == (404, "the server said 404", 1)
    assert str(error) == "the server said 404 (gave up after 1 attempt)"
    assert str(ConnectFailed(None, "no route", 3)) == "no route (gave up after 3 attempts)"
    assert (error.errno, error.filename, error.args) == (None, None, (str(error),))


def test_stream_overflow_when_shown():
    """StreamOverflow has maxsize, and its text suggests remedies."""
    error = StreamOverflow(5)
    assert error.maxsize == 5
    assert "fell 5 messages behind" in str(error)
    assert "maxsize=" in str(error)
    assert "overflow=" in str(error)


def test_stream_overflow_when_bytes_made_it_full():
    """StreamOverflow has maxbytes if the size of the messages was the limit, and its text names that option."""
    error = StreamOverflow(None, 1_000)
    assert (error.maxsize, error.maxbytes) == (None, 1_000)
    assert "fell 1000 bytes behind" in str(error)
    assert "maxbytes=" in str(error)
