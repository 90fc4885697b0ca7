"""Finds out why a connection ended or could not be opened, and whether a retry makes sense. No I/O.

The exceptions of websockets and of picows have no common base class. They are recognized by the names of their classes
and by their attributes, as are the exceptions of HTTP clients, which a hook may use.
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

from ..reporting.event import Reason
from ..reporting.quoting import quoted
from ..reporting.redaction import MASK, redact_url

__all__ = ["CREDENTIALS_REFUSED", "TOO_MANY_REQUESTS", "Failure", "diagnose", "is_fatal"]

#: The longest ``Retry-After`` that is obeyed, in seconds. It is a day.
LONGEST_RETRY_AFTER: Final = 86400.0

#: After this many 401 or 403 in a row there is no further retry, even after an earlier success, because the credentials
#: have become invalid.
MOST_REFUSALS: Final = 3

#: The number of characters of a cause that are kept.
LONGEST_CAUSE: Final = 300

#: The HTTP statuses that a retry with the same credentials does not change.
CREDENTIALS_REFUSED: Final = frozenset({401, 403})

#: The HTTP status of a server that limits how often clients connect.
TOO_MANY_REQUESTS: Final = 429

_RETRIED_STATUS: Final = frozenset({408, 425, TOO_MANY_REQUESTS})

# 3000 and 3003 are registered with IANA as Unauthorized and Forbidden; 4401 and 4403 are common, after HTTP.
_AUTH_CODES: Final = frozenset({3000, 3003, 4401, 4403})
# The websocket libraries send these codes by themselves when the server breaks a rule: protocol error, unsupported
# data, invalid data, message too big, missing extension. They send other codes only on demand.
_OBJECTION_CODES: Final = frozenset({1002, 1003, 1007, 1009, 1010})

_INVALID_URI: Final = frozenset({"InvalidURI", "WSInvalidURL", "InvalidURL"})
# OpenSSL's reasons if it gets plain text instead of TLS. They depend on OpenSSL's version and on the text.
_PLAIN_TEXT: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL"}
)
_BROKEN_TLS: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
# aiohttp's ServerDisconnectedError is not an OSError.
_BROKEN: Final = frozenset({"OSError", "EOFError", "ClientConnectionError"})
# A retry does not repair a bug. ImportError is missing on purpose, because a file that is being replaced may be
# complete one second later.
_BUGS: Final = (TypeError, AttributeError, NameError, NotImplementedError)
# The modules of rxws that call the websocket library. An exception of the library passes through them.
_PASSED: Final = frozenset(
    {
        *("rxws.connections.connection", "rxws.connections.transport"),
        *("rxws.messages.reader", "rxws.messages.frames", "rxws.messages.pushed"),
    }
)
# rxws.testing, rxws.nats and rxws.picows have their own connections, which break like any other.
_OURS: Final = re.compile(r"rxws\.(?!(?:testing|nats|picows)\b)")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a connection ended, or could not be opened.

    Attributes:
        reason: the kind of failure.
        cause: what happened, in one line of text without secrets.
        status: the HTTP status of the answer to the handshake, or None.
        code: the close code of RFC 6455 §7.4 (1005: a close frame without a code), or None without a close frame.
        retry_after: the seconds that the server asked clients to wait, or None.
        error: the exception, or None without one.
    """

    reason: Reason
    cause: str
    status: int | None = None
    code: int | None = None
    retry_after: float | None = None
    error: BaseException | None = None


def diagnose(error: BaseException | None, connection: object | None = None, *, now: float) -> Failure:
    """Return the failure that an exception reports.

    Args:
        error: the exception that opening or reading raised. None if reading ended without one, as it does when the
            server closes normally; the failure's ``error`` is then a
            :exc:`~websockets.exceptions.ConnectionClosedOK`.
        connection: the connection that ended, or None if no connection could be opened.
        now: the time, in seconds since the epoch; a ``Retry-After`` with a date is converted with it.

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
        # If there is a status, the exception's cause adds no information.
        cause=_shorten(_describe(error), error.__cause__ if status is None else None),
        status=status,
        retry_after=_retry_after(headers, now),
        error=error,
    )


def is_fatal(failure: Failure, *, succeeded: bool, refusals: int) -> bool:
    """Return whether a retry makes no sense.

    Before the first success these are fatal: an invalid URI; a failed TLS verification; plain text instead of TLS; an
    HTTP status 4xx without ``Retry-After``, except 408, 425 and 429; :exc:`TypeError`, :exc:`AttributeError`,
    :exc:`NameError` and :exc:`NotImplementedError`. After the first success only three refusals of the credentials in a
    row are fatal.

    Args:
        failure: the failure of the last attempt.
        succeeded: whether a connection was ever open.
        refusals: the number of attempts in a row, including this one, that were answered with HTTP 401 or 403.
    """
    if refusals >= MOST_REFUSALS:
        return True
    if succeeded:
        return False
    if failure.status is not None:
        # A server that names a time accepts a later attempt. If the feed failed instead, the program's supervisor might
        # restart it at once, and prolong the ban (418).
        is_refused = 400 <= failure.status < 500 and failure.status not in _RETRIED_STATUS
        return is_refused and failure.retry_after is None
    error = failure.error
    return error is not None and (isinstance(error, _BUGS) or _is_invalid_uri(error) or _is_misconfigured_tls(error))


# The end of a connection


def _silent_close(connection: object | None) -> BaseException:
    code = getattr(connection, "close_code", None)
    reason = getattr(connection, "close_reason", None)
    # picows has 0 if the close frame had no code.
    return ConnectionClosedOK(Close(int(code or CloseCode.NO_STATUS_RCVD), reason or ""), None)


def _diagnose_close(error: BaseException) -> Failure:
    received, sent = getattr(error, "rcvd", None), getattr(error, "sent", None)
    we_began = sent is not None and (received is None or getattr(error, "rcvd_then_sent", None) is False)
    frame = sent if we_began else received
    if frame is None:
        # Without a close frame: the network broke, or a bug in this program ended the reading.
        kind: Reason = "internal" if _is_internal(error.__cause__) else "network"
        return Failure(kind, _shorten(_text(error), error.__cause__), error=error)
    code, reason = int(frame.code or CloseCode.NO_STATUS_RCVD), frame.reason or ""
    # websockets has names for the codes. Use them for connections of picows, too.
    words = f"{'this side' if we_began else 'the server'} closed with {Close(code, '')}{reason and ': ' + reason}"
    cause = error.__cause__ if we_began else None
    if we_began and code == CloseCode.MESSAGE_TOO_BIG and not re.search("fragment|frames", f"{reason} {cause}"):
        # Put the hint first, because a long cause is cut at its end.
        words = f'{words} (raise the limit with connect_options={{"max_size": ...}})'
    return Failure(_close_reason(code, we_began), _shorten(words, cause), code=code, error=error)


def _close_reason(code: int, we_began: bool) -> Reason:
    if not we_began:
        return "auth" if code in _AUTH_CODES else "server"
    if code == CloseCode.INTERNAL_ERROR:
        # Keepalive closes with this code if no pong arrives.
        return "network"
    return "server" if code in _OBJECTION_CODES else "user"


# An opening that failed, or a connection that broke


def _reason(error: BaseException, status: int | None, connection: object | None) -> Reason:
    if status is not None:
        return "auth" if status in CREDENTIALS_REFUSED or status == 407 else "handshake"
    if isinstance(error, ssl.SSLError) and not isinstance(error, _BROKEN_TLS):
        return "tls"
    if connection is not None and _is_internal(error):
        return "internal"
    if _is_a(error, _BROKEN) or connection is not None:
        return "network"
    return "handshake"


def _is_internal(error: BaseException | None) -> bool:
    """Return whether the type of an exception shows a bug, or code of rxws raised it, except ``rxws.testing``."""
    if error is None:
        return False
    places = (frame.f_globals.get("__name__") or "" for frame, _ in traceback.walk_tb(error.__traceback__))
    return isinstance(error, _BUGS) or any(_OURS.match(place) and place not in _PASSED for place in places)


def _is_a(error: BaseException, names: Iterable[str]) -> bool:
    return not {kind.__name__ for kind in type(error).__mro__}.isdisjoint(names)


def _is_invalid_uri(error: BaseException) -> bool:
    if _is_a(error, _INVALID_URI):
        return True
    # For an impossible port or host, the standard library raises a ValueError, which neither websocket library catches.
    # It differs from other ValueErrors only in the module that raised it.
    if isinstance(error, UnicodeError):
        return "idna" in _text(error)
    return isinstance(error, ValueError) and any(
        frame.f_globals.get("__name__") == "urllib.parse" for frame, _ in traceback.walk_tb(error.__traceback__)
    )


def _is_misconfigured_tls(error: BaseException) -> bool:
    # An SSLError that OpenSSL itself did not raise has no ``reason``.
    return isinstance(error, ssl.SSLCertVerificationError) or (
        isinstance(error, ssl.SSLError) and getattr(error, "reason", None) in _PLAIN_TEXT
    )


# The HTTP response


def _response(error: BaseException) -> tuple[int | None, Any]:
    """Return the status and headers of ``error.response``, or of ``error`` itself (as with aiohttp)."""
    for response in (getattr(error, "response", None), error):
        for name in ("status_code", "status"):
            status = getattr(response, name, None)
            if isinstance(status, int) and 100 <= status <= 599:
                return int(status), getattr(response, "headers", None)
    return None, None


def _retry_after(headers: Any, now: float) -> float | None:
    """Return ``Retry-After`` (RFC 9110 §10.2.3) in seconds from ``now``; None if it is missing or malformed."""
    try:
        value = headers.get("Retry-After")
    except (AttributeError, LookupError):
        # There are no headers, or the header exists twice, for which websockets raises an exception.
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
        # The exceptions of the standard library's parser for malformed dates are not documented.
        return None


# Text


def _describe(error: BaseException) -> str:
    text = _invalid_uri_text(error) if _is_invalid_uri(error) else _text(error)
    if not text and isinstance(error, TimeoutError):
        text = "timed out"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _invalid_uri_text(error: BaseException) -> str:
    text = _text(error)
    address = getattr(error, "uri", getattr(error, "url", None))
    if address is None:
        # If the password contains a slash, "Port could not be cast to integer value as '…'" quotes it.
        return re.sub(r"(['\"]).*\1", MASK, text, flags=re.DOTALL)
    # An invalid URI may contain any character, even spaces, so take it from the attribute instead of searching its end.
    return text.replace(str(address), redact_url(str(address)))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"its text could not be read ({type(broken).__name__})"


def _shorten(words: str, cause: BaseException | None = None) -> str:
    """Return ``words``, and the text of ``cause`` if it adds information, redacted and shortened for a log line."""
    text = "" if cause is None else _text(cause)
    return quoted(words if text in words else f"{words}: {text}", LONGEST_CAUSE - 1)
