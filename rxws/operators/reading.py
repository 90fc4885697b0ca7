"""The arguments of operators: the key of a message, and times in seconds."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final

from ..messages import Field, field_reader

__all__ = ["key_reader", "parse_seconds"]


def key_reader(key: Field | None) -> Callable[[Any], Hashable]:
    """Return a function that reads the hashable key of a message; for None, every message has the key None.

    Raises:
        TypeError, ValueError: as :func:`~rxws.messages.field_reader`.
    """
    if key is None:
        return lambda _message: None
    read = field_reader(key, "key")

    def read_key(message: Any) -> Hashable:
        found: Hashable = read(message)
        hash(found)
        return found

    return read_key


LONGEST: Final = 1e9
"""Seconds, about thirty years: every clock can add them to its time."""


def parse_seconds(seconds: object, argument: str, at_least: float = 0.0) -> float:
    """Return a number of seconds between ``at_least`` and a billion.

    Raises:
        TypeError: it is not a number.
        ValueError: it is out of this range, or NaN.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{argument} must be a number of seconds, not {seconds!r}")
    if not at_least <= seconds <= LONGEST:
        raise ValueError(f"{argument} must be between {at_least:g} and {LONGEST:g} seconds, not {seconds!r}")
    return seconds
