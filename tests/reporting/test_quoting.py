"""The quoted answer of a server is one short line without secrets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from rxws.reporting.quoting import LONGEST, quoted, quoted_body
from rxws.testing import HttpError

TOKEN = "pqia91ma19a5s61cv6a81va65sdf19v8a65a1"


class Failed(Exception):
    """An exception with attributes."""

    def __init__(self, text: str = "", **attributes: Any) -> None:
        super().__init__(text)
        self.__dict__.update(attributes)


class Unread:
    """A response whose body has not been read yet, such as a streamed response of httpx."""

    @property
    def text(self) -> str:
        raise RuntimeError("not read")


def test_quoted_when_a_text_is_long_or_has_secrets() -> None:
    """A quote is one line without secrets: at most 200 characters, and a mark if the text was cut."""
    assert quoted(' {"code": -1121}\n') == '{"code": -1121}'
    assert quoted(b"\xff bad\nrequest") == "\ufffd bad\\nrequest"
    assert TOKEN not in quoted(f"invalid key {TOKEN}")
    for text in ("word " * 1_000, "word " * 1_000_000, b"word " * 1_000_000):
        assert len(quoted(text)) == LONGEST + 1
    # Only the beginning of a long text is redacted. A token at the end of that beginning is not quoted.
    assert "pqia" not in quoted("word " * 3_998 + TOKEN * 9)


@pytest.mark.parametrize(
    "error",
    [
        Failed("HTTP 400", body=b'{"code": -1121}'),
        Failed("400", response=SimpleNamespace(text='{"code": -1121}', body=b"other")),
        InvalidStatus(Response(400, "Bad Request", Headers(), b'{"code": -1121}')),
    ],
)
def test_quoted_body_when_the_exception_has_an_answer(error: Exception) -> None:
    """The body is found where httpx, requests, websockets and rxws.testing keep it."""
    assert quoted_body(error) == '{"code": -1121}'


@pytest.mark.parametrize(
    "error",
    [
        OSError("down"),
        Failed(body=None, response=None),
        Failed(body=b" "),
        Failed(response=Unread()),
        Failed(response=SimpleNamespace(text=lambda: "a method", body=7)),
        HttpError(400, b'{"code": -1121}'),
    ],
)
def test_quoted_body_when_there_is_none(error: Exception) -> None:
    """Nothing is quoted of an exception without a readable body, or whose own text contains the body."""
    assert quoted_body(error) == ""
