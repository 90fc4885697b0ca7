"""Formats messages as aligned rows for a terminal. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ..messages import ABSENT, look_up
from .filters import Key
from .lines import decode, json_lines

__all__ = ["Cell", "Pairs", "Table", "chosen"]

MOST_CELLS: Final = 16
"""Messages with more keys are printed as JSON."""

LONGEST: Final = 40
"""Messages with a longer key or value are printed as JSON."""

MOST_KINDS: Final = 100
"""The number of combinations of keys that are aligned."""


class Cell(NamedTuple):
    """A part of a row: a text, and a style of rich."""

    text: str
    style: str


_STYLES: Final[Mapping[type, str]] = {int: "cyan", float: "cyan", str: "green", bool: "magenta", type(None): "dim"}


def chosen(message: Any, fields: Mapping[str, Key]) -> dict[str, Any]:
    """Return the values of a message under these keys, without those that it lacks."""
    found = {name: look_up(message, key) for name, key in fields.items()}
    return {name: value for name, value in found.items() if value is not ABSENT}


class Pairs:
    """Formats flat messages as ``key=value``, as ``--filter`` takes them, and aligns those that have the same keys.

    Args:
        ascii: whether to escape all characters that are not ASCII.
    """

    def __init__(self, *, ascii: bool) -> None:  # noqa: A002
        self._ascii = ascii
        self._widths: dict[tuple[Any, ...], list[int]] = {}

    def row(self, message: Any) -> list[Cell] | None:
        """Return a message as a row, or None if it is better printed as JSON, because it is not flat."""
        if not isinstance(message, dict) or not 0 < len(message) <= MOST_CELLS:
            return None
        if not all(type(value) in _STYLES and _length(value) <= LONGEST for value in message.values()):
            return None
        if any(len(key) > LONGEST for key in message):
            return None
        keys = tuple(message)
        if keys not in self._widths and len(self._widths) >= MOST_KINDS:
            return None
        widths = self._widths.setdefault(keys, [0] * len(keys))
        cells = []
        for column, (key, value) in enumerate(message.items()):
            name, text = _word(key, self._ascii), _word(value, self._ascii)
            widths[column] = max(widths[column], len(name) + len(text))
            padding = " " * (widths[column] - len(name) - len(text) + 2) if column + 1 < len(keys) else ""
            cells += [Cell(f"{name}=", "dim"), Cell(text + padding, _STYLES[type(value)])]
        return cells


class Table:
    """Formats some keys of all messages as a table.

    Args:
        fields: the keys, each under its name.
        ascii: whether to escape all characters that are not ASCII.
    """

    def __init__(self, fields: Mapping[str, Key], *, ascii: bool) -> None:  # noqa: A002
        self._fields = fields
        self._ascii = ascii
        self._widths = [len(_word(name, ascii)) for name in fields]
        self._is_number = [False] * len(fields)

    def header(self) -> list[Cell]:
        """Return the names of the keys, above the values as they are aligned now."""
        return [Cell(self._aligned(n, _word(name, self._ascii)), "bold") for n, name in enumerate(self._fields)]

    def row(self, message: Any) -> list[Cell]:
        """Return the values as a row. A value that the message lacks is empty."""
        found = chosen(message, self._fields)
        cells = []
        for column, name in enumerate(self._fields):
            value = found.get(name)
            text = _word(value, self._ascii) if name in found else ""
            self._widths[column] = max(self._widths[column], len(text))
            self._is_number[column] |= type(value) in (int, float)
            cells.append(Cell(self._aligned(column, text), _STYLES.get(type(value), "")))
        return cells

    def _aligned(self, column: int, text: str) -> str:
        width = self._widths[column]
        return f"{text.rjust(width) if self._is_number[column] else text.ljust(width)}  "


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    # Python refuses to convert a very long int. A digit has more than three bits.
    return value.bit_length() // 3 if type(value) is int else len(str(value))


def _word(value: Any, ascii: bool) -> str:  # noqa: A002
    """Return a value as ``--filter`` takes it: JSON, without quotes if it is a text that is not JSON itself."""
    encoded = json_lines([value], ascii=ascii).removesuffix("\n")
    if not isinstance(value, str) or not value or decode(value) is not value or set(value) & {",", '"', "\\"}:
        return encoded
    return encoded[1:-1] if value == value.strip() else encoded
