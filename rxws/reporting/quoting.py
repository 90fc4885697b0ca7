"""Quotes what a server answered: one line, cut and without secrets. Pure."""

from __future__ import annotations

from typing import Final

from .redaction import redact

__all__ = ["quoted", "quoted_body"]

#: Characters that are quoted.
LONGEST: Final = 200

#: Characters or bytes that are searched for secrets, so that a long text does not take long. These are many more than
#: are quoted, because a secret that was cut in two may be too short to be recognized.
_MOST_REDACTED: Final = 100 * LONGEST


def quoted(text: str | bytes, longest: int = LONGEST) -> str:
    """Return the first ``longest`` characters of a text as one line without secrets; a mark shows that more follow."""
    start = text[:_MOST_REDACTED]
    words = redact((start if isinstance(start, str) else start.decode(errors="replace")).strip())
    return f"{words[:longest]}…" if len(words) > longest or len(text) > _MOST_REDACTED else words


def quoted_body(error: BaseException) -> str:
    """Return the quoted body of the HTTP answer that an exception stands for; "" if it has none, or quotes it itself.

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
            # The body was not read yet (httpx), or the text of the exception cannot be read: nothing can be quoted.
            continue
    return ""
