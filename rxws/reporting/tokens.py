"""Recognizes secrets in texts: by the names of fields, and by the lengths and characters of words. No I/O.

A word is a token (a key, a JSON web token, a UUID) if it has 20 characters or more and does not look like words that
people write. People write words of one case (``connection``), words in camel case (``aggTrade``) and numbers
(``2024-06-28``). Random characters change between cases and digits more often.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MASK", "is_secret_name", "is_token", "mask_tokens"]

#: Replaces a secret. It is ASCII, so that any terminal shows it, and differs from the sign of shortened texts.
MASK: Final = "***"

_SHORTEST_TOKEN: Final = 20

#: The number of characters at the end of a field's name that are examined.
_LONGEST_NAME: Final = 60

_NAME_PART: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+")
# The names of secrets in snake case, with the words that may follow.
_SECRET_NAME: Final = re.compile(
    r"(?:pass_?(?:word|wd|phrase|code|key)|passwort|pwd|secret|token|cred(?:ential)?|signature|cookie|authorization"
    r"|authentication|bearer|jwt|hmac|otp|mnemonic|seed_?phrase|session|[cx]srf|[a-z]sess_?id"
    r"|(?:api|access|auth|private|secret|listen|sign|signing|encryption|master|shared|client|consumer|ssh|license|app"
    r"|user)_?keys?|api_?sign"
    r"|(?:^|_)(?:pass|pin|o?auth2?|mfa|2_?fa|sign|sig|mac|sid|cvv|cvc))s?"
    r"(?:_?(?:key|id|value|token|hash|hex|base_?64|b64|str|string|text|bytes|header|code|old|new|confirm|confirmation"
    r"|v?[0-9]+|sha_?[0-9]+))*_?$"
)

# The characters of base64 (RFC 4648 §4 and §5), of percent-encoding, and of JSON web tokens. Some encoders of JSON
# escape three of them: ``\/``, ``\u002B``, ``\u003D``. The letter of another escape does not belong to the next word.
_ESCAPED: Final = re.compile(r"\\+(?:(/)|u00(2[BbFf]|3[Dd]))")
_RUN: Final = re.compile(
    rf"(?P<run>(?:[A-Za-z0-9_.~%+/\-]|\\{{1,8}}+(?:/|u002[BbFf])){{{_SHORTEST_TOKEN},}}+(?:=|\\{{1,8}}+u003[Dd])*+)"
    r"|\\(?:[abfnrtv]|x[0-9a-f]{2}|u[0-9a-f]{4})"
)
_NAME: Final = re.compile(r"\w+")
_BREAK: Final = re.compile(r"[^A-Za-z0-9_.~%+\-]")
_BASE64: Final = re.compile(rf"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{{{_SHORTEST_TOKEN},}}(?![\w.~%+\-])")
_MIXED: Final = re.compile(r"(?=[^0-9]*[0-9])(?=[^a-z]*[a-z])[^A-Z]*[A-Z]")
_PATH_WORD: Final = re.compile(r"[a-z]{0,7}|v[0-9]{1,2}")
_SEPARATOR: Final = re.compile(r"[-_.~+]")
_UUID: Final = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_HEXADECIMAL: Final = re.compile(r"(?=[0-9\-]*[A-Fa-f])[0-9A-Fa-f\-]+")
_WORD: Final = re.compile(
    r"(?!.{20})(?:[0-9]{0,5}(?:[A-Z]{0,16}|[A-Z]?[a-z]{0,16})[0-9]{0,4}"
    r"|[a-z]{1,6}[0-9][a-z]{1,6}"  # when2create
    r"|[0-9]{1,2}[A-Z]{3}[0-9]{2,4}"  # 28JUN24
    r"|[0-9]{1,5}d[0-9]{1,5})"  # 0d5, a decimal fraction in the names of options
    r"|[0-9]+|[0-9]{2,8}T[0-9]{4,12}Z?"
)
_HUMP: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def is_secret_name(name: str) -> bool:
    """Return whether a field of this name holds a secret. The name may be in snake, camel or kebab case, or one word.

    Example::

        >>> [is_secret_name(name) for name in ("X-MBX-APIKEY", "sessionId", "pin", "pinned", "authors")]
        [True, True, True, False, False]
    """
    return _SECRET_NAME.search(_NAME_PART.sub("_", name[-_LONGEST_NAME:]).lower()) is not None


def is_token(text: str) -> bool:
    """Return whether a part of a text without slashes is a token."""
    return any(len(part) >= _SHORTEST_TOKEN and not _is_made_of_words(part) for part in _BREAK.split(text))


def mask_tokens(text: str, names: frozenset[str] = frozenset()) -> str:
    """Return ``text`` with its tokens masked. Words that consist of ``names`` are not tokens.

    Example::

        >>> mask_tokens("wrong key q8Xk29dLmZ7aT1bVw5RcYp/3 in /usr/lib/python3.11/site-packages")
        'wrong key *** in /usr/lib/python3.11/site-packages'
    """

    def shown(match: re.Match[str]) -> str:
        run = match["run"]
        if run is None or names.issuperset(_NAME.findall(run)):
            return match[0]
        plain = _ESCAPED.sub(lambda escape: escape[1] or chr(int(escape[2], 16)), run) if "\\" in run else run
        masked = _mask(plain)
        return run if masked == plain else masked

    return _RUN.sub(shown, text)


def _mask(run: str) -> str:
    """Mask the tokens of a run. A token in base64 may contain slashes; a token in a path is between slashes."""
    body = run.rstrip("=")
    parts = body.split("/")
    masked = [is_token(part) for part in parts]
    start = end = 0
    for each in _BASE64.finditer(body):
        start, end = start + body.count("/", end, each.start()), each.start()
        for number in _token_in(each[0].split("/"), padding=run[each.end() :] if each.end() == len(body) else ""):
            masked[start + number] = True
    shown = [MASK if hidden else part for part, hidden in zip(parts, masked, strict=True)]
    # Adjacent masked parts are shown as one.
    shown = [part for at, part in enumerate(shown) if not (at and masked[at] and masked[at - 1])]
    return "/".join(shown) + ("" if masked[-1] else run[len(body) :])


def _token_in(parts: list[str], padding: str) -> range:
    """Return the range of adjacent parts that are one token. All parts consist of characters of base64."""
    if padding == "==" and _MIXED.match("/".join(parts)):
        return range(len(parts))
    odd = [number for number, part in enumerate(parts) if not _is_made_of_words(part)]
    if not odd:
        return range(0)
    first, last = odd[0], odd[-1] + 1
    if len("/".join(parts[first:last])) < 8 and not padding:
        return range(0)
    # A long part is a token by itself, and words before it are the rest of a path. Otherwise slashes divide the token.
    if not (is_token(parts[first]) and all(map(_PATH_WORD.fullmatch, parts[:first]))):
        first = 0
    if padding or not (is_token(parts[last - 1]) and all(map(_PATH_WORD.fullmatch, parts[last:]))):
        last = len(parts)
    return range(first, last)


def _is_made_of_words(text: str) -> bool:
    if len(text) >= _SHORTEST_TOKEN and (_HEXADECIMAL.fullmatch(text) or _UUID.search(text)):
        return False
    return all(_WORD.fullmatch(word) or _is_camel_case(word) for word in _SEPARATOR.split(text))


def _is_camel_case(word: str) -> bool:
    if not word.isalnum() or word in (word.lower(), word.upper()):
        return False
    parts = _HUMP.findall(word)
    humps = [part for part in parts if part.isalpha()]
    acronyms = [hump for hump in humps if hump.isupper()]
    return (
        len(parts) - len(humps) <= 1
        and all(len(part) <= 16 for part in parts)
        and len(acronyms) <= 1
        and all(len(acronym) <= 6 for acronym in acronyms)
        # In words, humps are long. If the case of letters is random, a hump has only two or three letters.
        and sum(map(len, humps)) >= (5 if len(word) > 12 else 4) * len(humps)
        and 4 * sum(len(hump) < 3 for hump in humps) <= len(humps)
    )
