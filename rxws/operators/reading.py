"""What operators are told to read from a message, and the times they are given."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final

from ..callables import is_coroutine_function, name_of
from ..messages import ABSENT, look_up

__all__ = ["Field", "key_reader", "number_of", "parse_seconds", "reader"]

Field = Hashable | Callable[[Any], Any]
"""A key, a path (a tuple of keys), or a function of the message."""


def reader(field: Field, argument: str) -> Callable[[Any], Any]:
    """Return the function that reads ``field`` from a message; it raises LookupError where there is none.

    Args:
        field: a key, a path or a function.
        argument: what the operator's user calls it, for the message of an exception.

    Raises:
        TypeError: it is a coroutine function, or neither callable nor hashable.
        ValueError: the path is empty.
    """
    if callable(field):
        if is_coroutine_function(field):
            raise TypeError(f"{argument} must be a plain function: nobody waits for the coroutine of {name_of(field)}")
        return field
    try:
        hash(field)
    except TypeError:
        kind = type(field).__name__
        raise TypeError(f"{argument} must be a key, a tuple of keys or a function, not a {kind}") from None
    if field == ():
        raise ValueError(f"{argument} is an empty tuple: a path needs a step")

    def read(message: Any) -> Any:
        found = look_up(message, field)
        if found is ABSENT:
            raise LookupError(f"there is no {field!r} in the message")
        return found

    return read


def key_reader(key: Field | None) -> Callable[[Any], Hashable]:
    """Return the function that reads a message's key, which can be hashed; with None all messages have the key None.

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
    """Return a value that is a number, or (as many feeds have it) a string that should be one; else raise TypeError."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"a {type(value).__name__} is no number")
    return value


LONGEST: Final = 1e9
"""Seconds: thirty years, which every clock can still add to what it shows."""


def parse_seconds(seconds: object, argument: str, at_least: float = 0.0) -> float:
    """Return a time, which must be a number of seconds between ``at_least`` and a billion.

    Raises:
        TypeError: it is no number.
        ValueError: it is less or more, or NaN.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{argument} must be a number of seconds, not {seconds!r}")
    if not at_least <= seconds <= LONGEST:
        raise ValueError(f"{argument} must be between {at_least:g} and {LONGEST:g} seconds, not {seconds!r}")
    return seconds
