"""Redaction of URLs and texts. Pure.

The result is meant for logs, events and reprs: one line without secrets and without control characters. In doubt a
harmless part is masked, too.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MASK", "printable", "redact", "redact_url"]

#: Replaces a secret. It is ASCII, so that any terminal shows it, and differs from the sign of shortened texts.
MASK: Final = "***"

_SHORTEST_TOKEN: Final = 20
_LONGEST_WORD: Final = 16
_URL: Final = re.compile(r"([\w+.\-]*)://([^/?#]*)(.*)")
_AUTHORITY: Final = re.compile(r"(?:(?P<user>.*)@)?(?P<host>[\w.\-]*|\[[\w:.]*\])(?P<port>(?::[0-9]{0,5})?)")
# The characters of RFC 3986 §2, and all letters and digits of Unicode.
_WELL_FORMED: Final = re.compile(r"[\w\-.~:/?#\[\]@!$&'()*+,;=%]*")
_PARAMETER: Final = re.compile(r"[\w.\-\[\]]+")
_SEGMENT: Final = re.compile(r"[\w\-.~:@!$'()*+,]*")
_USER_IN_SEGMENT: Final = re.compile(r":.*@|@.*[.:]")

# A URL in a text ends only at a space, because a quote or a bracket may be part of a password.
_IN_TEXT: Final = re.compile(
    r"""(?P<url>(?<![\w+.\-])[\w+.\-]*://[^ ]*)"""
    r"""|(?P<field>(?<![?&])(?:authorization|cookie|api[-_]?key|access[-_]?(?:key|sign)|listen[-_]?key|private[-_]?key"""
    r"""|token|secret|credentials?|signature|(?<![a-z])(?<![\w\-]{16})sig|passphrase|password)(?:[-_]?(?:key|id|value|token))*"""
    r"""(?:[\\"' ]*[:=]|["'],)[ ]*)(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|.+)""",
    re.IGNORECASE,
)
_CREDENTIALS: Final = re.compile(r"\b(bearer|basic) +[^ ]+", re.IGNORECASE)
_QUERY_VALUE: Final = re.compile(r"([?&][\w.\-\[\]]+=)([^ &]*)")
_LONG_WORD: Final = re.compile(rf"[\w.~%+\-]{{{_SHORTEST_TOKEN},}}=*")
_NAME: Final = re.compile(r"\w+")
_CLOSING: Final = "'\"`,.;:)}>"

_HEXADECIMAL: Final = re.compile(r"[0-9A-Fa-f\-]+")
# A word, possibly with a number at its end, or a date.
_WORD: Final = re.compile(r"[A-Za-z]*[0-9]{0,4}|[0-9]{5,8}")
# A version or a duration (v3, 24h).
_LABEL: Final = re.compile(r"[a-z][0-9]{1,2}|[0-9]{1,2}[a-z]")
_HUMP: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


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

    Every URL is redacted as by :func:`redact_url`. The values of headers and fields for secrets are masked
    (``Authorization: Bearer x``, ``'Cookie': 'x'``, ``"listenKey": "x"``); a value without quotes is masked up to the
    end of the text. Other words that look like tokens are masked. Control characters are escaped. A second redaction
    changes nothing. Never raises.

    Args:
        text: any text.
        names: names in a program that are not masked, although they may look like tokens.

    Example::

        >>> redact("ws://localhost/?key=1234 isn't a valid URI")
        "ws://localhost/?key=*** isn't a valid URI"
    """
    text = printable(text)
    shown = []
    end = 0
    for match in _IN_TEXT.finditer(text):
        shown.append(_redact_words(text[end : match.start()], names))
        shown.append(_redact_url_in_text(match["url"]) if match["url"] else _redact_field(match))
        end = match.end()
    shown.append(_redact_words(text[end:], names))
    return "".join(shown)


def printable(text: str) -> str:
    """Return ``text`` as one printable line: characters that are not printable are escaped."""
    # Callers do this before they look for secrets: a line break or a zero-width character could divide a secret.
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def _redact_without_scheme(text: str) -> str:
    authority = re.split(r"[/?#]", text, maxsplit=1)[0]
    shown = _redact_authority(authority)
    if shown is None or _looks_secret(authority):
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
    segments = "/".join(_redact_segment(segment) for segment in path.split("/"))
    parameters = "&".join(_redact_parameter(parameter) for parameter in query.split("&"))
    return f"{segments}{question_mark}{parameters}{hash_sign and hash_sign + MASK}"


def _redact_segment(segment: str) -> str:
    is_plain = _SEGMENT.fullmatch(segment) and not _USER_IN_SEGMENT.search(segment)
    return segment if is_plain and not _looks_secret(segment) else MASK


def _redact_parameter(parameter: str) -> str:
    if not parameter:
        return ""
    name, _, value = parameter.partition("=")
    if not value.strip("="):
        # A name without a value may be a secret itself, with the padding of base64.
        return MASK
    is_name = _PARAMETER.fullmatch(name) and not _looks_secret(name)
    return f"{name if is_name else MASK}={MASK}"


def _redact_url_in_text(found: str) -> str:
    url = found.rstrip(_CLOSING)
    return redact_url(url) + found[len(url) :]


def _redact_field(match: re.Match[str]) -> str:
    name = match["field"]
    value = match[0][len(name) :]
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return f"{name}{value[0]}{MASK}{value[0]}" if is_quoted else f"{name}{MASK}"


def _redact_words(text: str, names: frozenset[str]) -> str:
    text = _CREDENTIALS.sub(rf"\1 {MASK}", text)
    text = _QUERY_VALUE.sub(_redact_query_value, text)
    return _LONG_WORD.sub(lambda word: _redact_word(word[0], names), text)


def _redact_word(word: str, names: frozenset[str]) -> str:
    # A word without letters and digits, like the marks under a traceback's line, contains no names and no secret.
    return word if names.issuperset(_NAME.findall(word)) or not _looks_secret(word) else MASK


def _redact_query_value(match: re.Match[str]) -> str:
    name, value = match.groups()
    return f"{name}{MASK}{value[len(value.rstrip(_CLOSING)) :]}"


def _looks_secret(text: str) -> bool:
    """Return whether a part of ``text`` is long and does not consist of words."""
    pieces = re.split(r"[^\w.~%+\-]", text)
    return any(len(piece) >= _SHORTEST_TOKEN and not _is_made_of_words(piece) for piece in pieces)


def _is_made_of_words(text: str) -> bool:
    if _HEXADECIMAL.fullmatch(text):
        return False
    words = [word for word in re.split(r"[-_.~]", text) if not _LABEL.fullmatch(word)]
    humps = [hump for word in words for hump in _HUMP.findall(word)]
    letters = "".join(humps)
    vowels = sum(letter in "aeiouyAEIOUY" for letter in letters)
    return (
        all(_WORD.fullmatch(word) for word in words)
        and all(len(hump) <= _LONGEST_WORD for hump in humps)
        # About 40 % of the letters of English are vowels, but less than 25 % of random letters (y counted as a vowel).
        # In mixed case, random letters form humps of fewer than three letters.
        and vowels * 5 >= len(letters)
        and len(letters) >= 4 * len(humps)
        and len(letters) * 2 >= len(text)
    )
