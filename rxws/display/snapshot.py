"""The display of a feed or a stream in a notebook cell, as text and as HTML. Callers pass the time.

The contents of messages are displayed as plain text: HTML and control characters are escaped.
"""

from __future__ import annotations

import contextlib
import html
import reprlib
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from ..reporting.quoting import quoted, quoted_repr
from ..reporting.redaction import MASK
from ..reporting.tokens import is_secret_name

__all__ = ["COLUMNS", "RECENT", "RateMeter", "ago", "mimebundle", "shown"]

#: The number of displayed messages.
RECENT: Final = 5

#: The largest number of columns of a table.
COLUMNS: Final = 10

#: The largest number of keys that are read of one message, because a message may have a million keys.
_MOST_KEYS: Final = 100

_WIDTH: Final = 40
_LINE_WIDTH: Final = 200
_LEFT: Final = ' style="text-align:left"'


Select = Callable[[Mapping[Hashable, None]], Sequence[Hashable]]


@dataclass(slots=True, eq=False)
class RateMeter:
    """Measures the rate between two displays. Two displays within a second count as one.

    Attributes:
        time: the time of the last display, or of the start, in seconds.
        count: the number of messages at that time.
    """

    time: float
    count: int = 0

    def look(self, count: int, now: float) -> str:
        """Return the rate since the last display, or since the start, in words.

        Args:
            count: the number of messages so far.
            now: the present time in seconds.
        """
        seconds, came = now - self.time, count - self.count
        if seconds < 1.0:
            return f"{came} within {seconds:.1f} s"
        self.time, self.count = now, count
        return f"{came / seconds:,.1f} a second for {_duration(seconds)}"


def ago(seconds: float | None) -> str:
    """Return a time span in words, such as ``"1.2 s ago"``. None means that there was no message yet."""
    return "none yet" if seconds is None else f"{_duration(seconds)} ago"


def _first_columns(present: Mapping[Hashable, None]) -> list[Hashable]:
    """Return the first keys, as many as a table has columns."""
    return list(islice(present, COLUMNS))


def mimebundle(
    title: str, facts: Mapping[str, object], messages: Iterable[object], select: Select = _first_columns
) -> dict[str, str]:
    """Return the result of ``_repr_mimebundle_``: ``text/plain`` and ``text/html``.

    Args:
        title: one line of text.
        facts: names and values, displayed below the title.
        messages: the last few messages. Mappings, dataclasses and ``msgspec.Struct`` get one column per key.
        select: returns the keys that have a column, given the keys of the messages; by default the first ones.
    """
    title = quoted(title)
    known = [[quoted(name), quoted(str(value))] for name, value in facts.items()]
    table = _table(messages, select)
    shown = "".join([*_html(list(zip(*known, strict=True))), *_html(table)])
    return {
        "text/plain": "\n".join([title, *_text(known), *_text(table)]),
        "text/html": f'<div class="jp-RenderedHTMLCommon"><p><code>{html.escape(title)}</code></p>{shown}</div>',
    }


def _table(messages: Iterable[object], select: Select) -> list[list[str]]:
    """Return a table of messages, header first, with a limited number of columns."""
    fields = [_fields(message) for message in messages]
    keys = dict.fromkeys(key for each in fields for key in each)
    shown_keys = select(keys)
    more = len(keys.keys() - set(shown_keys))
    is_cut = any(len(each) == _MOST_KEYS for each in fields)
    header = [shown(key) for key in shown_keys] + [f"{more}{' or' * is_cut} more"] * bool(more)
    rows = [
        [shown(each[key], key) if key in each else "" for key in shown_keys] + ["…"] * bool(more) for each in fields
    ]
    return [header, *rows] if rows else []


def _fields(message: Any) -> Mapping[Any, object]:
    """Return the first fields of a message, as many as a table may show."""
    # A user's mapping may raise; then the message itself is the only field.
    with contextlib.suppress(Exception):
        if isinstance(message, Mapping):
            return dict(islice(message.items(), _MOST_KEYS))
        names = _names(message)
        if names:
            return {name: getattr(message, name) for name in islice(names, _MOST_KEYS)}
    return {"message": message}


def _names(message: Any) -> Iterable[str]:
    """Return the field names of a ``msgspec.Struct``, a dataclass or a named tuple, and no names for other objects."""
    kind = type(message)
    names: Iterable[str] = getattr(kind, "__struct_fields__", ()) or getattr(kind, "__dataclass_fields__", ())
    return names or (getattr(kind, "_fields", ()) if isinstance(message, tuple) else ())


class _Short(reprlib.Repr):
    """Writes the beginning of a value.

    reprlib itself would sort a whole dict or set first. It would not shorten bytes, subclasses of these types, and
    objects with fields.
    """

    def repr1(self, x: Any, level: int) -> str:
        names = _names(x)
        if names:
            return self._repr_fields(x, names, level)
        if isinstance(x, BaseException):
            # The text of an exception may quote a URL with secrets.
            return quoted_repr(x)
        if isinstance(x, str):
            # A user's subclass of str may return anything for a slice.
            return self.repr_str(quoted(str.__getitem__(x, slice(None))), level)
        if isinstance(x, bytes | bytearray):
            return quoted_repr(bytes(x[:_LINE_WIDTH]))
        if isinstance(x, Mapping):
            return self.repr_dict(dict(islice(x.items(), self.maxdict + 1)), level)
        if isinstance(x, list):
            return self.repr_list(x, level)
        if isinstance(x, tuple):
            return self.repr_tuple(x, level)
        if isinstance(x, set | frozenset):
            first = set(islice(x, self.maxset + 1))
            return self.repr_set(first, level) if isinstance(x, set) else self.repr_frozenset(frozenset(first), level)
        return super().repr1(x, level)

    def _repr_fields(self, x: Any, names: Iterable[str], level: int) -> str:
        fields = ", ".join(f"{name}={self.repr1(getattr(x, name), level - 1)}" for name in islice(names, 6))
        return f"{type(x).__name__}({fields if level > 0 else '...'})"


def shown(value: object, name: object = None) -> str:
    """Return a value as a short line of text without secrets, in little time even for a long value.

    Args:
        value: any value.
        name: the name of the value's field, which may show that the value is a secret.
    """
    if isinstance(name, str) and is_secret_name(name):
        return MASK
    try:
        text = str.__getitem__(value, slice(None)) if isinstance(value, str) else _SHORT.repr(value)
    except Exception as error:
        # An int of 5,000 digits has no repr, and a user's class may raise.
        text = f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return _cut(quoted(text), _WIDTH)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _text(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _html(rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    lines = [("th", rows[0]), *(("td", row) for row in rows[1:])]
    cells = (
        "<tr>" + "".join(f"<{tag}{_LEFT}>{html.escape(cell)}</{tag}>" for cell in row) + "</tr>" for tag, row in lines
    )
    return ['<table style="margin-left:0">', *cells, "</table>"]


def _duration(seconds: float) -> str:
    if seconds < 60.0:
        return f"{seconds:.1f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 3600.0 else f"{seconds / 3600.0:.1f} h"


_SHORT: Final = _Short()
_SHORT.maxother = _SHORT.maxlong = _SHORT.maxstring = _WIDTH + 1
# Three levels are enough, because deeper levels do not fit into a line. Six items on each of six levels would be 46,656
# items.
_SHORT.maxlevel = 3
