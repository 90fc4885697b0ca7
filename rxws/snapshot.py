"""What a feed or a stream looks like in a notebook's cell, as text and as HTML. Pure: the time is passed in.

What a feed brought is shown as text, whatever it holds: HTML is escaped, and no terminal obeys it.
"""

from __future__ import annotations

import html
import reprlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Final

__all__ = ["RECENT", "Pace", "ago", "mimebundle", "shown"]

RECENT: Final = 5
"""How many messages are shown."""

_COLUMNS: Final = 10
_WIDTH: Final = 40
_LINE_WIDTH: Final = 200
_LEFT: Final = ' style="text-align:left"'


class Pace:
    """How many came a second, from one look to the next; two looks within a second count as one."""

    __slots__ = ("_count", "_time")

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


def ago(seconds: float | None) -> str:
    """Say how long ago something was; None for what never was."""
    return "none yet" if seconds is None else f"{_duration(seconds)} ago"


def mimebundle(
    title: str,
    facts: Mapping[str, object],
    messages: Iterable[object],
    columns: dict[Hashable, None] | None = None,
) -> dict[str, str]:
    """Return what ``_repr_mimebundle_`` returns: ``text/plain`` and ``text/html``.

    Args:
        title: what is shown, in a line.
        facts: what is to be known of it: names and values.
        messages: the last few; mappings and ``msgspec.Struct`` are given a column per key.
        columns: the keys that were given a column before, in a dict that learns the new ones; None for none.
    """
    title = _line(title)
    known = [[_line(name), _line(str(value))] for name, value in facts.items()]
    table = _table(messages, {} if columns is None else columns)
    return {
        "text/plain": "\n".join([title, *_text(known), *_text(table)]),
        "text/html": "".join(
            [
                '<div class="jp-RenderedHTMLCommon">',
                f"<p><code>{html.escape(title)}</code></p>",
                *_html(list(zip(*known, strict=True))),
                *_html(table),
                "</div>",
            ]
        ),
    }


def _table(messages: Iterable[object], columns: dict[Hashable, None]) -> list[list[str]]:
    """Return a table of messages, its header first: a column for each key that any of them has, but not too many."""
    fields = [_fields(message) for message in messages]
    new = [key for key in dict.fromkeys(key for each in fields for key in each) if key not in columns]
    room = _COLUMNS - len(columns)
    columns.update(dict.fromkeys(new[:room]))
    more = len(new[room:])
    header = [shown(key) for key in columns] + [f"{more} more"] * bool(more)
    rows = [[shown(each[key]) if key in each else "" for key in columns] + ["…"] * bool(more) for each in fields]
    return [header, *rows] if rows else []


def _fields(message: Any) -> Mapping[Any, object]:
    if isinstance(message, Mapping):
        return message
    names = getattr(type(message), "__struct_fields__", None)
    if names:
        return {name: getattr(message, name) for name in names}
    return {"message": message}


def shown(value: object) -> str:
    """Return a value as a short line of text; however long it is, that takes little time."""
    if isinstance(value, str):
        text = value[: _WIDTH + 1]
    elif isinstance(value, bytes):
        text = repr(value[: _WIDTH + 1])
    else:
        try:
            text = _SHORT.repr(value)
        except Exception as error:
            # An int of 5,000 digits has none; a class of the user's may do as it likes.
            text = f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return _cut(_printable(text), _WIDTH)


def _line(text: str) -> str:
    return _cut(_printable(text[: _LINE_WIDTH + 1]), _LINE_WIDTH)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _printable(text: str) -> str:
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def _text(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


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


_SHORT: Final = reprlib.Repr()
_SHORT.maxother = _SHORT.maxlong = _SHORT.maxstring = _WIDTH + 1
