"""Distinguishes damaged entries from lines that another program wrote. No I/O."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from .entries import BEGIN, FIELDS

__all__ = ["Verdict", "judge", "may_be_first"]

_keys: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Verdict(enum.Enum):
    """The probable origin of a line that is not an entry."""

    DAMAGED = enum.auto()
    """The line may be an entry that was damaged or cut short."""
    UNLIKELY = enum.auto()
    """The line is readable text of another form. Damage may produce one such line, but hardly two in a row."""
    FOREIGN = enum.auto()
    """The line is a JSON object with several keys that no entry has. Damage does not produce such a line."""


def judge(line: bytes) -> Verdict:
    """Return the probable origin of a line that is not an entry."""
    try:
        unknown = len(_keys.decode(line).keys() - FIELDS)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Verdict.DAMAGED if BEGIN.startswith(line[: len(BEGIN)]) or not _is_text(line) else Verdict.UNLIKELY
    if unknown > 1:
        return Verdict.FOREIGN
    return Verdict.UNLIKELY if unknown else Verdict.DAMAGED


def may_be_first(line: bytes) -> bool:
    """Return whether the first line of a file may belong to a recording: whole, damaged or cut short."""
    return BEGIN.startswith(line[: len(BEGIN)]) and judge(line) is Verdict.DAMAGED


def _is_text(line: bytes) -> bool:
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return False
    return text.replace("\t", " ").removesuffix("\r").isprintable() and not text.isspace()
