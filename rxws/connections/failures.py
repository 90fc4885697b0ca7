"""Why a connection ended, or could not be opened; and whether a retry is of use. Pure.

The exceptions of websockets and of picows share no root, so they are known by the names of their classes and by their
attributes; and so are those of HTTP clients, which a hook may use.
"""

from __future__ import annotations

import email.utils
import re
import ssl
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from websockets.exceptions import ConnectionClosedOK
from websockets.frames import Close, CloseCode

from ..reporting.events import Reason
from ..reporting.redaction import MASK, redact, redact_url

__all__ = ["CREDENTIALS_REFUSED", "Failure", "diagnose", "is_fatal"]

LONGEST_RETRY_AFTER: Final = 86400.0
"""The longest ``Retry-After``, in seconds, that is believed: a day."""

MOST_REFUSALS: Final = 3
"""How many 401 or 403 in a row are final, even after a success: credentials do not mend by themselves."""

LONGEST_CAUSE: Final = 300
"""Characters of a cause that are kept."""

_LONGEST_TEXT: Final = 4 * LONGEST_CAUSE

CREDENTIALS_REFUSED: Final = frozenset({401, 403})
"""The HTTP statuses that no other attempt with the same credentials gets past."""

_RETRIED_STATUS: Final = frozenset({408, 425, 429})

# 3000 and 3003 are registered with IANA as Unauthorized and Forbidden; 4401 and 4403 are a custom modelled on HTTP.
_AUTH_CODES: Final = frozenset({3000, 3003, 4401, 4403})
# A library sends these by itself when the server breaks a rule: protocol error, unsupported data, invalid data, message
# too big, missing extension. It sends other codes on demand only.
_OBJECTION_CODES: Final = frozenset({1002, 1003, 1007, 1009, 1010})

_INVALID_URI: Final = frozenset({"InvalidURI", "WSInvalidURL", "InvalidURL"})
# OpenSSL's names for plain text where TLS was expected; which one depends on its version and on the text.
_PLAIN_TEXT: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL"}
)
_BROKEN_TLS: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
# aiohttp's ServerDisconnectedError is no OSError.
_BROKEN: Final = frozenset({"OSError", "EOFError", "ClientConnectionError"})
# No retry mends a program. ImportError is not among them: a file that is being replaced may be whole a second later.
_BUGS: Final = (TypeError, AttributeError, NameError, NotImplementedError)


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known of the end of a connection, or of one that could not be opened.

    Attributes:
        reason: which kind it is.
        cause: what happened in words, one line with no secret in it.
        status: HTTP status that the handshake was answered with, or None.
        code: the close code of RFC 6455 §7.4 (1005: none was given), or None where there was no close frame.
        retry_after: for how many seconds the server asked to stay away, or None.
        error: the exception, or None where there was none.
    """

    reason: Reason
    cause: str
    status: int | None = None
    code: int | None = None
    retry_after: float | None = None
    error: BaseException | None = None


def diagnose(error: BaseException | None, connection: object | None = None, *, now: float) -> Failure:
    """Return what is known of a failure.

    Args:
        error: what opening or reading raised, or None if reading ended silently, as it does when the server closes
            normally; the failure's ``error`` is then a :exc:`~websockets.exceptions.ConnectionClosedOK`.
        connection: the connection that ended, or None if it could not be opened.
        now: seconds since the epoch, which a ``Retry-After`` with a date is counted from.

    Example::

        failure = diagnose(ConnectionRefusedError("refused"), now=time.time())
        assert failure.reason == "network"
    """
    if error is None:
        error = _silent_close(connection)
    if _is_a(error, {"ConnectionClosed"}):
        return _diagnose_close(error)
    status, headers = _response(error)
    return Failure(
        reason=_reason(error, status, connection),
        # With a status there is nothing that the exception below could add.
        cause=_shorten(_describe(error), error.__cause__ if status is None else None),
        status=status,
        retry_after=_retry_after(headers, now),
        error=error,
    )


def is_fatal(failure: Failure, *, succeeded: bool, refusals: int) -> bool:
    """Return whether a retry is of no use.

    Before the first success that is a closed list: an invalid URI, TLS whose verification failed or that met plain
    text, an HTTP status 4xx except 408, 425 and 429, :exc:`TypeError`, :exc:`AttributeError`, :exc:`NameError` and
    :exc:`NotImplementedError`. After it nothing is, except three refused credentials in a row.

    Args:
        failure: what happened.
        succeeded: whether there ever was an open connection.
        refusals: how many attempts in a row, this one included, were answered with HTTP 401 or 403.
    """
    if refusals >= MOST_REFUSALS:
        return True
    if succeeded:
        return False
    if failure.status is not None:
        return 400 <= failure.status < 500 and failure.status not in _RETRIED_STATUS
    error = failure.error
    return error is not None and (isinstance(error, _BUGS) or _is_invalid_uri(error) or _is_misconfigured_tls(error))


# The end of a connection


def _silent_close(connection: object | None) -> BaseException:
    code = getattr(connection, "close_code", None)
    reason = getattr(connection, "close_reason", None)
    # picows gives 0 where no code was given.
    return ConnectionClosedOK(Close(int(code or CloseCode.NO_STATUS_RCVD), reason or ""), None)


def _diagnose_close(error: BaseException) -> Failure:
    received, sent = getattr(error, "rcvd", None), getattr(error, "sent", None)
    we_began = sent is not None and (received is None or getattr(error, "rcvd_then_sent", None) is False)
    frame = sent if we_began else received
    if frame is None:
        # What the program raises for what was received ends the connection as a broken network does.
        kind: Reason = "internal" if isinstance(error.__cause__, _BUGS) else "network"
        return Failure(kind, _shorten(_text(error), error.__cause__), error=error)
    code, reason = int(frame.code or CloseCode.NO_STATUS_RCVD), frame.reason or ""
    # websockets names the code, for either library.
    words = f"{'this side' if we_began else 'the server'} closed with {Close(code, '')}{reason and ': ' + reason}"
    cause = error.__cause__ if we_began else None
    if we_began and code == CloseCode.MESSAGE_TOO_BIG and cause is None and not re.search("[0-9]", reason):
        words += " (the limit is the connection's max_size)"
    return Failure(_close_reason(code, we_began), _shorten(words, cause), code=code, error=error)


def _close_reason(code: int, we_began: bool) -> Reason:
    if not we_began:
        return "auth" if code in _AUTH_CODES else "server"
    if code == CloseCode.INTERNAL_ERROR:
        # Above all what keepalive closes with when no pong comes.
        return "network"
    return "server" if code in _OBJECTION_CODES else "user"


# What could not be opened, or broke


def _reason(error: BaseException, status: int | None, connection: object | None) -> Reason:
    if status is not None:
        return "auth" if status in CREDENTIALS_REFUSED or status == 407 else "handshake"
    if isinstance(error, ssl.SSLError) and not isinstance(error, _BROKEN_TLS):
        return "tls"
    if isinstance(error, _BUGS) and connection is not None:
        return "internal"
    if _is_a(error, _BROKEN) or connection is not None:
        return "network"
    return "handshake"


def _is_a(error: BaseException, names: Iterable[str]) -> bool:
    return not {kind.__name__ for kind in type(error).__mro__}.isdisjoint(names)


def _is_invalid_uri(error: BaseException) -> bool:
    if _is_a(error, _INVALID_URI):
        return True
    # Neither library catches what the standard library raises for a port or a host that cannot be: a ValueError like
    # any other, but for where it comes from.
    if isinstance(error, UnicodeError):
        return "idna" in _text(error)
    return isinstance(error, ValueError) and any(
        frame.f_globals.get("__name__") == "urllib.parse" for frame, _ in traceback.walk_tb(error.__traceback__)
    )


def _is_misconfigured_tls(error: BaseException) -> bool:
    # An SSLError that OpenSSL itself did not raise has no reason.
    return isinstance(error, ssl.SSLCertVerificationError) or (
        isinstance(error, ssl.SSLError) and getattr(error, "reason", None) in _PLAIN_TEXT
    )


# The HTTP response


def _response(error: BaseException) -> tuple[int | None, Any]:
    """The status and headers of the response that ``error`` carries, or that it is (aiohttp's do not carry one)."""
    for response in (getattr(error, "response", None), error):
        for name in ("status_code", "status"):
            status = getattr(response, name, None)
            if isinstance(status, int) and 100 <= status <= 599:
                return int(status), getattr(response, "headers", None)
    return None, None


def _retry_after(headers: Any, now: float) -> float | None:
    """``Retry-After`` (RFC 9110 §10.2.3) in seconds from ``now``; None if there is none, or nonsense."""
    try:
        value = headers.get("Retry-After")
    except (AttributeError, LookupError):
        # There are no headers; or websockets raises for a header that comes twice, of which either may be meant.
        return None
    seconds = _seconds(value.strip(), now) if isinstance(value, str) else None
    return None if seconds is None else min(max(0.0, seconds), LONGEST_RETRY_AFTER)


def _seconds(value: str, now: float) -> float | None:
    if re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", value):
        return float(value)
    try:
        date = email.utils.parsedate_tz(value)
        return None if date is None else email.utils.mktime_tz(date) - now
    except (ValueError, OverflowError, LookupError, TypeError):
        # What the standard library's parser raises for nonsense is not defined.
        return None


# Words


def _describe(error: BaseException) -> str:
    text = _invalid_uri_text(error) if _is_invalid_uri(error) else _text(error)
    if not text and isinstance(error, TimeoutError):
        text = "timed out"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _invalid_uri_text(error: BaseException) -> str:
    text = _text(error)
    address = getattr(error, "uri", getattr(error, "url", None))
    if address is None:
        # "Port could not be cast to integer value as '…'" quotes a password that has a slash in it.
        return re.sub(r"(['\"]).*\1", MASK, text, flags=re.DOTALL)
    # An invalid URI may hold anything, spaces too: only here it is known where it ends.
    return text.replace(str(address), redact_url(str(address)))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"its text cannot be had ({type(broken).__name__})"


def _shorten(words: str, cause: BaseException | None = None) -> str:
    """``words``, and the text of ``cause`` if that says more, redacted and not longer than a log line should be."""
    text = "" if cause is None else _text(cause)
    if text not in words:
        words = f"{words}: {text}"
    if len(words) > _LONGEST_TEXT:
        # Without its last word, which is cut in two and could pass for harmless.
        words = f"{words[:_LONGEST_TEXT].rpartition(' ')[0]} …"
    shown = redact(words)
    return shown if len(shown) <= LONGEST_CAUSE else f"{shown[: LONGEST_CAUSE - 1]}…"
