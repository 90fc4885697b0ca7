"""The arguments of operators: which value to read from a message, and times in seconds."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final

from ..callables import is_coroutine_function, name_of
from ..messages import ABSENT, look_up

__all__ = ["Field", "key_reader", "number_of", "parse_seconds", "reader"]

Field = Hashable | Callable[[Any], Any]
"""A key, a path (a tuple of keys), or a function of the message."""


def reader(field: Field, argument: str) -> Callable[[Any], Any]:
    """Return a function that reads ``field`` from a message, and raises LookupError if the message lacks it.

    Args:
        field: a key, a path or a function.
        argument: the name of the operator's argument, for error texts.

    Raises:
        TypeError: it is a coroutine function, or neither callable nor hashable.
        ValueError: the path is empty.
    """
    if callable(field):
        if is_coroutine_function(field):
            raise TypeError(f"{argument} must be a plain function, but {name_of(field)} is a coroutine function")
        return field
    try:
        hash(field)
    except TypeError:
        kind = type(field).__name__
        raise TypeError(f"{argument} must be a key, a tuple of keys or a function, not a {kind}") from None
    if field == ():
        raise ValueError(f"{argument} is an empty tuple: a path needs at least one key")

    def read(message: Any) -> Any:
        found = look_up(message, field)
        if found is ABSENT:
            raise LookupError(f"the message has no {field!r}")
        return found

    return read


def key_reader(key: Field | None) -> Callable[[Any], Hashable]:
    """Return a function that reads the hashable key of a message; for None, every message has the key None.

    Raises:
        TypeError, ValueError: as :func:`reader`.
    """
    if key is None:
        return lambda _message: None
    read = reader(key, "key")

    def read_key(message: Any) -> Hashable:
        found: Hashable = read(message)
        hash(found)
        return found

    return read_key


def number_of(value: object) -> int | float | str:
    """Return a value that is a number or a string. Many feeds send numbers as strings.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"a number is expected, not an object of type {type(value).__name__}")
    return value


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
