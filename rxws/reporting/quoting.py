"""Quotes texts and messages: one line, cut and without secrets. No I/O."""

from __future__ import annotations

from typing import Final

from .redaction import redact

__all__ = ["quoted", "quoted_body", "quoted_repr"]

#: The largest number of characters that are quoted.
LONGEST: Final = 200

#: The largest number of characters or bytes that are searched for secrets, so that a long text does not take long. It
#: is much larger than ``LONGEST``, because a secret that was cut in two may be too short to be recognized.
_MOST_REDACTED: Final = 100 * LONGEST


def quoted(text: str | bytes, longest: int = LONGEST) -> str:
    """Return the first ``longest`` characters of a text as one line without secrets, with a mark if it was cut."""
    start = text[:_MOST_REDACTED]
    words = redact((start if isinstance(start, str) else start.decode(errors="replace")).strip())
    return f"{words[:longest]}…" if len(words) > longest or len(text) > _MOST_REDACTED else words


def quoted_repr(value: object) -> str:
    """Return the quoted repr of any value. Never raises."""
    if isinstance(value, str | bytes):
        # Do not make the repr of the whole message, which may have megabytes.
        return quoted(repr(value[:_MOST_REDACTED]))
    try:
        return quoted(repr(value))
    except Exception as error:
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


def quoted_body(error: BaseException) -> str:
    """Return the quoted body of an exception's HTTP response; "" if there is none, or its own text contains the body.

    The body is ``error.body`` (:exc:`rxws.testing.HttpError`), ``error.response.text`` (httpx, requests) or
    ``error.response.body`` (websockets).
    """
    response = getattr(error, "response", None)
    for holder, name in ((error, "body"), (response, "text"), (response, "body")):
        try:
            body = getattr(holder, name, None)
            words = quoted(body) if isinstance(body, str | bytes) else ""
            if words:
                return words if words not in str(error) else ""
        except Exception:
            # Nothing can be quoted: the body was not read yet (httpx), or reading the exception's text raises.
            continue
    return ""
