"""Redaction of URLs and texts. No I/O.

The result is for logs, events and reprs. It is one line without secrets and without control characters. A part that
might be a secret is masked, too.
"""

from __future__ import annotations

import re
from typing import Final

from .tokens import MASK, is_secret_name, is_token, mask_tokens

__all__ = ["MASK", "printable", "redact", "redact_url"]

_URL: Final = re.compile(r"([\w+.\-]*)://([^/?#]*)(.*)")
_AUTHORITY: Final = re.compile(r"(?:(?P<user>.*)@)?(?P<host>[\w.\-]*|\[[\w:.]*\])(?P<port>(?::[0-9]{0,5})?)")
# The characters of RFC 3986 §2, and all letters and digits of Unicode.
_WELL_FORMED: Final = re.compile(r"[\w\-.~:/?#\[\]@!$&'()*+,;=%]*")
_PARAMETER: Final = re.compile(r"[\w.\-\[\]]+")
_SEGMENT: Final = re.compile(r"[\w\-.~:@!$'()*+,]*")
_USER_IN_SEGMENT: Final = re.compile(r":.*@|@.*[.:]")

# Matches text that may be, or may begin, a secret. A URL ends only at a space, because a quote or a bracket may be part
# of a password. A colon without a port begins a password, which may contain spaces. The name of a field may follow an
# escaped line break, and ends with a colon, an equals sign, or (in a list of pairs) a comma. A query has its own rule.
# The characters in between are bounded, so that a text that consists of them does not take the square of its length.
# After a comma, the next string may be the name of another field, as in an answer to a login: {"event": "auth",
# "status": "ok"}. Only the arguments of a login are secrets.
_IN_TEXT: Final = re.compile(
    r"""(?P<key>-----BEGIN [A-Z0-9 ]*-----.*?(?:-----END [A-Z0-9 ]*-----|$))"""
    r"""|(?P<url>(?<![\w+.\-])[\w+.\-]*+://(?:[^ /@:\[]{1,100}:(?![0-9]{0,5}(?!\w))[^@/]{1,200}@)?[^ ]*)"""
    r"""|(?:\\(?:[abfnrtv]|x[0-9a-f]{2}|u[0-9a-f]{4})|(?<![?&\w.\-\[\]]))(?P<field>[\w.\-\[\]]++)"""
    r"""(?:(?:\\[nrt]|[\\"' ]){0,40}+(?:=>|[:=\uff1a])"""
    r"""|["'],(?: *["'](?:args|params)["']:|(?= *b?["'0-9\-])(?! *["']\w*["'] *:)))[ ]*"""
)
# The value of a field that ends before the text does: it is quoted, a number or a constant. Other values may contain
# spaces. A quote after a backslash does not end a value, because in the repr of JSON it may be part of the value.
_VALUE: Final = re.compile(
    r"""b?(?P<quote>["'])(?:\\.|(?!(?P=quote))[^\\])*+(?<!\\)(?P=quote)(?!\w)"""
    r"""|(?:-?[0-9][0-9.]*|true|false|null|True|False|None)(?=,[ "']|&[\w.\-]+=|[)\]}]+(?:[, "']|$)|["']?$)|.*"""
)
_CREDENTIALS: Final = re.compile(
    r"\b(bearer|basic) +(?!(?:token|auth|scheme|credential|is\b|was\b|and\b|or\b))[^ ]+", re.IGNORECASE
)
_USER_INFORMATION: Final = re.compile(
    r"(?<![^\s/:@'\"(])[^\s/:@'\"(]{1,100}:[^\s/@]{1,200}@"
    r"(?=(?:[\w\-]+\.)+(?:[A-Za-z0-9]{2,}|[0-9])|[\w\-]+:[0-9]{4,5}\b|localhost\b|\[)"
)
_QUERY_VALUE: Final = re.compile(r"([?&][\w.\-\[\]]+=)([^ &]*)")
_CLOSING: Final = "'\"`,.;:)}>"


def redact_url(url: str) -> str:
    """Return ``url`` without its secrets, for display.

    ``***`` replaces user information, the values of the query (the names stay), the fragment, and path segments that
    look like tokens: listen keys, JSON web tokens, UUIDs, hexadecimal and base64 of at least 20 characters. In a
    malformed URL it replaces everything after the host, or everything after the scheme if the host is not recognized.
    Control characters are escaped. A second redaction changes nothing. Never raises.

    Example::

        >>> redact_url("wss://me:pass@example.com/ws/btcusdt@trade?token=1234")
        'wss://***@example.com/ws/btcusdt@trade?token=***'
    """
    text = printable(url)
    parts = _URL.fullmatch(text)
    if parts is None:
        return _redact_without_scheme(text)
    scheme, authority, rest = parts.groups()
    shown = _redact_authority(authority)
    return f"{scheme}://{MASK}" if shown is None else f"{scheme}://{shown}{_redact_rest(rest)}"


def redact(text: str, names: frozenset[str] = frozenset()) -> str:
    """Return ``text`` as one line without secrets, for display.

    Every URL is redacted as by :func:`redact_url`. The values of headers and fields for secrets are masked, whatever
    their form (``Authorization: Bearer x``, ``'Cookie': 'x'``, ``"listenKey": "x"``, ``pin=1234``); a value without
    quotes is masked up to the end of the text. The names are those of :func:`~rxws.reporting.tokens.is_secret_name`.
    Other words that look like tokens are masked, including UUIDs. Control characters are escaped. A second redaction
    changes nothing. Never raises.

    Args:
        text: any text.
        names: names in a program that are not masked, although they may look like tokens.

    Example::

        >>> redact("ws://localhost/?key=1234 isn't a valid URI")
        "ws://localhost/?key=*** isn't a valid URI"
    """
    text = printable(text)
    shown: list[str] = []
    end = position = 0
    while match := _IN_TEXT.search(text, position):
        position = match.end()
        if match["url"]:
            secret, start = _redact_url_in_text(match["url"]), match.start()
        elif match["key"]:
            secret, start = MASK, match.start()
        elif is_secret_name(match["field"]):
            value = _VALUE.match(text, position)
            assert value is not None
            # Redact the name together with the words before it, because it may be the end of a token.
            secret, start, position = f"{value['quote'] or ''}{MASK}{value['quote'] or ''}", position, value.end()
        else:
            continue
        shown += _redact_words(text[end:start], names), secret
        end = position
    shown.append(_redact_words(text[end:], names))
    return "".join(shown)


def printable(text: str) -> str:
    """Return ``text`` as one line, in which characters that are not printable are escaped."""
    # Callers do this before they search for secrets, because a line break or a zero-width character could divide one.
    return (
        text
        if text.isprintable()
        else "".join(
            character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
            for character in text
        )
    )


def _redact_without_scheme(text: str) -> str:
    authority = re.split(r"[/?#]", text, maxsplit=1)[0]
    shown = _redact_authority(authority)
    if shown is None or is_token(authority):
        return MASK
    return shown if authority == text else f"{shown}/{MASK}"


def _redact_authority(authority: str) -> str | None:
    # None if the host is not recognized. A password with a slash, for example, ends the authority early.
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        return None
    user = "" if match["user"] is None else f"{MASK}@"
    return f"{user}{match['host']}{match['port']}"


def _redact_rest(rest: str) -> str:
    if not _WELL_FORMED.fullmatch(rest):
        return f"/{MASK}"
    rest, hash_sign, _ = rest.partition("#")
    path, question_mark, query = rest.partition("?")
    segments = "/".join(_redact_segment(segment) for segment in mask_tokens(path).split("/"))
    parameters = "&".join(_redact_parameter(parameter) for parameter in query.split("&"))
    return f"{segments}{question_mark}{parameters}{hash_sign and hash_sign + MASK}"


def _redact_segment(segment: str) -> str:
    is_plain = _SEGMENT.fullmatch(segment) and not _USER_IN_SEGMENT.search(segment)
    return segment if is_plain and not is_token(segment) else MASK


def _redact_parameter(parameter: str) -> str:
    if not parameter:
        return ""
    name, _, value = parameter.partition("=")
    if not value.strip("="):
        # A name without a value may be a secret itself, with the padding of base64.
        return MASK
    is_name = _PARAMETER.fullmatch(name) and not is_token(name)
    return f"{name if is_name else MASK}={MASK}"


def _redact_url_in_text(found: str) -> str:
    url = found.rstrip(_CLOSING)
    return redact_url(url) + found[len(url) :]


def _redact_words(text: str, names: frozenset[str]) -> str:
    text = _CREDENTIALS.sub(rf"\1 {MASK}", text)
    text = _USER_INFORMATION.sub(f"{MASK}@", text)
    text = _QUERY_VALUE.sub(_redact_query_value, text)
    return mask_tokens(text, names)


def _redact_query_value(match: re.Match[str]) -> str:
    name, value = match.groups()
    return f"{name}{MASK}{value[len(value.rstrip(_CLOSING)) :]}"
