"""What a feed or a stream looks like in a notebook's cell, as text and as HTML. Pure: the time is passed in.

What a feed brought is shown as text, whatever it holds: HTML is escaped, and no terminal obeys it.
"""

from __future__ import annotations

import contextlib
import html
import reprlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from ..reporting.redaction import printable, redact

__all__ = ["RECENT", "Columns", "RateMeter", "ago", "mimebundle", "shown"]

RECENT: Final = 5
"""How many messages are shown."""

_COLUMNS: Final = 10

_MOST_KEYS: Final = 100
"""How many keys of a message are looked at: a message may have a million."""

_UNUSED_LOOKS: Final = 20
"""After how many looks without a value a column is given up."""

_WIDTH: Final = 40
_LINE_WIDTH: Final = 200
_LEFT: Final = ' style="text-align:left"'


class RateMeter:
    """How many came a second, from one look to the next; two looks within a second count as one."""

    def __init__(self, now: float) -> None:
        self._time = now
        self._count = 0

    def look(self, count: int, now: float) -> str:
        """Return the rate since the last look, or since the beginning, in words; ``count`` have come until ``now``."""
        seconds, came = now - self._time, count - self._count
        if seconds < 1.0:
            return f"{came} within {seconds:.1f} s"
        self._time, self._count = now, count
        return f"{came / seconds:,.1f} a second for {_duration(seconds)}"


class Columns:
    """Which keys have a column in a table that is looked at again and again.

    A key keeps its place from one look to the next, and gives it up when no message has had it for a while, or when
    another that is there has none.
    """

    def __init__(self) -> None:
        self._unused: dict[Hashable, int] = {}

    def look(self, present: Mapping[Hashable, None]) -> list[Hashable]:
        """Return the keys that have a column at this look; ``present`` are those of the messages that are shown."""
        looks = {key: 0 if key in present else unused + 1 for key, unused in self._unused.items()}
        kept = {key: unused for key, unused in looks.items() if unused < _UNUSED_LOOKS}
        new = list(islice((key for key in present if key not in kept), _COLUMNS))
        # The sort is stable: of those that are unused for as long, the first go.
        idle = sorted((key for key, unused in kept.items() if unused), key=kept.__getitem__, reverse=True)
        for key in idle[: max(0, len(kept) + len(new) - _COLUMNS)]:
            del kept[key]
        self._unused = kept | dict.fromkeys(new[: _COLUMNS - len(kept)], 0)
        return list(self._unused)


def ago(seconds: float | None) -> str:
    """Say how long ago something was; None for what never was."""
    return "none yet" if seconds is None else f"{_duration(seconds)} ago"


def mimebundle(
    title: str, facts: Mapping[str, object], messages: Iterable[object], columns: Columns | None = None
) -> dict[str, str]:
    """Return what ``_repr_mimebundle_`` returns: ``text/plain`` and ``text/html``.

    Args:
        title: what is shown, in a line.
        facts: what is to be known of it: names and values.
        messages: the last few; mappings, dataclasses and ``msgspec.Struct`` are given a column per key.
        columns: the columns of the last look, for a table that is shown again; None for one that is not.
    """
    title = _line(title)
    known = [[_line(name), _line(str(value))] for name, value in facts.items()]
    table = _table(messages, columns or Columns())
    shown = "".join([*_html(list(zip(*known, strict=True))), *_html(table)])
    return {
        "text/plain": "\n".join([title, *_text(known), *_text(table)]),
        "text/html": f'<div class="jp-RenderedHTMLCommon"><p><code>{html.escape(title)}</code></p>{shown}</div>',
    }


def _table(messages: Iterable[object], columns: Columns) -> list[list[str]]:
    """Return a table of messages, its header first: a column for each key that any of them has, but not too many."""
    fields = [_fields(message) for message in messages]
    keys = dict.fromkeys(key for each in fields for key in each)
    shown_keys = columns.look(keys)
    more = len(keys.keys() - set(shown_keys))
    is_cut = any(len(each) == _MOST_KEYS for each in fields)
    header = [shown(key) for key in shown_keys] + [f"{more}{' or' * is_cut} more"] * bool(more)
    rows = [[shown(each[key]) if key in each else "" for key in shown_keys] + ["…"] * bool(more) for each in fields]
    return [header, *rows] if rows else []


def _fields(message: Any) -> Mapping[Any, object]:
    """Return the first fields of a message: enough for a table, in little time."""
    # A mapping of the user's may do as it likes; what can be shown of it is.
    with contextlib.suppress(Exception):
        if isinstance(message, Mapping):
            return dict(islice(message.items(), _MOST_KEYS))
        names = _names(message)
        if names:
            return {name: getattr(message, name) for name in islice(names, _MOST_KEYS)}
    return {"message": message}


def _names(message: Any) -> Iterable[str]:
    """Return the names of the fields of a ``msgspec.Struct``, a dataclass, a named tuple; none of anything else."""
    kind = type(message)
    names: Iterable[str] = getattr(kind, "__struct_fields__", ()) or getattr(kind, "__dataclass_fields__", ())
    return names or (getattr(kind, "_fields", ()) if isinstance(message, tuple) else ())


class _Short(reprlib.Repr):
    """Shows the beginning of a value.

    reprlib's own sorts all of a dict or a set first, and spells out all of bytes, of what is derived from them, and of
    whatever has fields.
    """

    def repr1(self, x: Any, level: int) -> str:
        names = _names(x)
        if names:
            return self._repr_fields(x, names, level)
        if isinstance(x, BaseException):
            # It may quote the address that a feed could not open.
            return redact(repr(x)[:_LINE_WIDTH])
        if isinstance(x, str):
            # Of a class of the user's, which may give anything for a slice.
            return self.repr_str(str.__getitem__(x, slice(self.maxstring + 1)), level)
        if isinstance(x, bytes | bytearray):
            return repr(x[: self.maxstring])
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


def shown(value: object) -> str:
    """Return a value as a short line of text; however long it is, that takes little time."""
    try:
        text = str.__getitem__(value, slice(_WIDTH + 1)) if isinstance(value, str) else _SHORT.repr(value)
    except Exception as error:
        # An int of 5,000 digits has none; a class of the user's may do as it likes.
        text = f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return _cut(printable(text), _WIDTH)


def _line(text: str) -> str:
    return _cut(printable(text[: _LINE_WIDTH + 1]), _LINE_WIDTH)


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
# What is deeper is beyond the width of a line, and six in six in six more are 46,656.
_SHORT.maxlevel = 3
