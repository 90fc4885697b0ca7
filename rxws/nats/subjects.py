"""Makes NATS subjects from messages, and from filters the patterns that match all subjects of their messages. No I/O.

A subject is a list of tokens with dots between them. In a pattern ``*`` matches one token, and ``>`` all tokens that
follow; see https://docs.nats.io/nats-concepts/subjects. The patterns of one consumer must not overlap, so overlapping
ones are replaced by one pattern that is wider than both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from numbers import Number
from operator import itemgetter
from typing import Any, Final

from ..messages import ABSENT, Filter, look_up

__all__ = ["MOST_PATTERNS", "Template", "covers", "merged", "overlap", "token_of"]

#: If there are more patterns than this, all subjects are requested. Each pattern costs a consumer at the server.
MOST_PATTERNS: Final = 16

#: If there are more patterns than this, they are not compared with each other.
MOST_COMPARED: Final = 64

#: The common token of values that cannot be written as a token.
NO_TOKEN: Final = "_"

#: A longer token is replaced by :data:`NO_TOKEN`, because servers refuse command lines of more than 4,096 bytes.
LONGEST_TOKEN: Final = 200

#: The number of tokens that a template remembers before it forgets all. A feed has fewer symbols.
MOST_REMEMBERED: Final = 65_536

_UNSAFE: Final = re.compile(rb"[^A-Za-z0-9\-:@/+=]")
_LITERAL: Final = re.compile(r"[A-Za-z0-9_\-:@/+=]+")
_FIELD: Final = re.compile(r"\{([^{}]+)\}")
_TOKEN: Final = re.compile(r"\{[^{}]*\}|[^.{}]+")


def token_of(value: object) -> str:
    """Return the token of a value in a subject. Values that are equal in Python have the same token.

    In a text, letters, digits and ``-:@/+=`` are kept, and every other byte of its UTF-8 becomes ``%XX``. An empty text
    becomes ``%``. A whole number becomes its digits, even if it is a bool, a float or a Decimal. Other values become
    ``_``.
    """
    if isinstance(value, str):
        encoded = str.encode(value, errors="surrogatepass")
        token = _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], encoded).decode() or "%"
        return token if len(token) <= LONGEST_TOKEN else NO_TOKEN
    if isinstance(value, Number):
        return _number_token(value)
    return NO_TOKEN


def _number_token(value: Any) -> str:
    try:
        if isinstance(value, complex):
            value = value.real if value.imag == 0 else math.nan
        whole = int(value)
        # A larger float is whole only because it has too few digits, and a longer int has too long a token.
        return str(whole) if whole == value and abs(whole) < 10**LONGEST_TOKEN else NO_TOKEN
    except (ArithmeticError, TypeError, ValueError):
        return NO_TOKEN


#: The types whose values are equal only to values with the same token. Values of other types may equal any value.
_PLAIN: Final = frozenset({str, int, float, bool, type(None)})


class Template:
    """The form of the subjects of a feed's messages, such as ``"rx.{e}.{s}"``.

    Each ``{field}`` is one token: the value that a message has under that key. ``{data.s}`` is a path of keys, and a
    number in a path is an index.

    Args:
        text: the template. Its first token is a word.
        wildcards: whether ``*`` and ``>`` may be tokens, to read subjects that were not made by a template.

    Raises:
        TypeError: ``text`` is not a str.
        ValueError: ``text`` is not a template.

    ::

        template = Template("rx.{e}.{s}")
        assert template.render({"e": "trade", "s": "BTC/USD"}) == "rx.trade.BTC/USD"
        assert template.patterns(Filter.parse([{"s": "BTC/USD"}])) == ("rx.*.BTC/USD",)
    """

    def __init__(self, text: str, *, wildcards: bool = False) -> None:
        if not isinstance(text, str):
            raise TypeError(f"subject must be a str such as 'rx.{{e}}.{{s}}', not {type(text).__name__}")
        tokens = _TOKEN.findall(text)
        fields = [_FIELD.fullmatch(token) for token in tokens]
        allowed = {"*", ">"} if wildcards else set()
        is_known = [bool(_LITERAL.fullmatch(token)) or token in allowed for token in tokens]
        is_right = all(field or known for field, known in zip(fields, is_known, strict=True)) and ">" not in tokens[:-1]
        if not tokens or ".".join(tokens) != text or not is_right or not _LITERAL.fullmatch(tokens[0]):
            raise ValueError(
                f"subject {text!r} must be words and {{fields}} with dots between them, such as 'rx.{{e}}.{{s}}', and "
                "begin with a word"
            )
        self.text: Final = text
        self.root: Final = tokens[0]
        self._tokens: Final = tuple(tokens)
        self._paths: Final = {at: _path(field[1]) for at, field in enumerate(fields) if field}
        #: The pattern that matches all subjects of this form.
        self.everything: Final = ".".join("*" if at in self._paths else token for at, token in enumerate(tokens))
        self._subjects: dict[tuple[object, ...], str] = {}
        keys = [path[0] for path in self._paths.values() if len(path) == 1]
        # Reads several keys of a dict at once, where no field is a path.
        self._read = itemgetter(*keys) if 1 < len(keys) == len(self._paths) else None

    def __repr__(self) -> str:
        return f"Template({self.text!r})"

    def render(self, message: Any) -> str:
        """Return the subject of a message. Exceptions of the message's own methods propagate."""
        values = self._values(message)
        try:
            found = self._subjects.get(values)
        except TypeError:  # a value without a hash
            return self._filled(values)
        if found is None:
            found = self._filled(values)
            # A value of another type may be equal to a text although its token differs, so do not remember it.
            if all(type(value) in _PLAIN or value is ABSENT for value in values):
                if len(self._subjects) >= MOST_REMEMBERED:
                    self._subjects.clear()
                self._subjects[values] = found
        return found

    def _values(self, message: Any) -> tuple[object, ...]:
        if self._read is not None and type(message) is dict:
            try:
                found: tuple[object, ...] = self._read(message)
                return found
            except KeyError:
                pass
        return tuple([look_up(message, path) for path in self._paths.values()])

    def _filled(self, values: Iterable[object]) -> str:
        tokens = list(self._tokens)
        for at, value in zip(self._paths, values, strict=True):
            tokens[at] = token_of(value)
        return ".".join(tokens)

    def patterns(self, wanted: Filter) -> tuple[str, ...]:
        """Return patterns that match the subject of each message that passes a filter, and perhaps of others."""
        if wanted.predicate is not None or not wanted.alternatives:
            return (self.everything,)
        found: dict[str, None] = {}
        # Use only the plain values. All messages that pass the filter pass this part, too.
        plain, _ = wanted.plain_part()
        for alternative in plain.alternatives:
            tokens = list(self.everything.split("."))
            for at, path in self._paths.items():
                value = next((alternative[key] for key in alternative if _same(key, path)), ABSENT)
                if type(value) in _PLAIN:
                    tokens[at] = token_of(value)
            found[".".join(tokens)] = None
        return tuple(found)

    def accepts(self) -> Callable[[str], bool]:
        """Return a function that returns whether a subject has this form."""
        tokens = [".+" if each == ">" else r"[^.]+" if each == "*" else re.escape(each) for each in self._split()]
        found = re.compile(r"\.".join(tokens)).fullmatch
        return lambda subject: found(subject) is not None

    def _split(self) -> list[str]:
        return self.everything.split(".")


def _path(field: str) -> tuple[str | int, ...]:
    return tuple(int(step) if re.fullmatch("-?[0-9]+", step) else step for step in field.split("."))


def _same(key: object, path: tuple[str | int, ...]) -> bool:
    return (key if isinstance(key, tuple) else (key,)) == path


def covers(wide: str, narrow: str) -> bool:
    """Return whether a pattern matches all subjects that another one matches."""
    ours, theirs = wide.split("."), narrow.split(".")
    if ours[-1] == ">":
        ours = ours[:-1]
        if len(theirs) <= len(ours):
            return False
        theirs = theirs[: len(ours)]
    elif len(ours) != len(theirs) or theirs[-1] == ">":
        return False
    return all(our == their or (our == "*" and their != ">") for our, their in zip(ours, theirs, strict=True))


def overlap(one: str, other: str) -> bool:
    """Return whether any subject matches both patterns."""
    ours, theirs = one.split("."), other.split(".")
    for our, their in zip(ours, theirs, strict=False):
        if ">" in (our, their):
            return True
        if our != their and "*" not in (our, their):
            return False
    return len(ours) == len(theirs)


def _generalized(one: str, other: str) -> str:
    """Return the narrowest pattern that covers two overlapping patterns."""
    tokens = []
    for our, their in zip(one.split("."), other.split("."), strict=False):
        if ">" in (our, their):
            tokens.append(">")
            break
        tokens.append(our if our == their else "*")
    return ".".join(tokens)


def merged(patterns: Iterable[str], most: int = MOST_PATTERNS) -> tuple[str, ...] | None:
    """Return patterns that cover the given ones and do not overlap; None if these are more than ``most``.

    Overlapping patterns are replaced by one pattern that is wider than both.
    """
    found = _uncovered(set(patterns))
    if len(found) > MOST_COMPARED:
        return None
    kept: list[str] = []
    for pattern in found:
        wider = pattern
        while met := [each for each in kept if overlap(each, wider)]:
            for each in met:
                wider = _generalized(wider, each)
                kept.remove(each)
        kept.append(wider)
    return tuple(sorted(kept)) if len(kept) <= most else None


def _uncovered(patterns: set[str]) -> list[str]:
    """Return the patterns that no other one covers. Do not compare each with each, as there may be thousands."""
    masks: dict[tuple[int, ...], set[str]] = {}
    for pattern in patterns:
        places = tuple(at for at, token in enumerate(pattern.split(".")) if token == "*")
        masks.setdefault(places, set()).add(pattern)
    found = []
    for mask, members in masks.items():
        wider = [(other, theirs) for other, theirs in masks.items() if set(other) > set(mask)]
        found += [each for each in members if not any(_masked(each, other) in theirs for other, theirs in wider)]
    endless = [each for each in found if each.endswith(">")]
    return [each for each in found if not any(other != each and covers(other, each) for other in endless)]


def _masked(pattern: str, places: Iterable[int]) -> str:
    tokens = pattern.split(".")
    for at in places:
        if at < len(tokens):
            tokens[at] = "*"
    return ".".join(tokens)
