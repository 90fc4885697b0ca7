"""Functions that read the part of a message that an argument names: a value, a number, or a range of numbers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from itertools import islice
from typing import Any, Final, TypeAlias

from ..callables import is_coroutine_function, name_of
from ..reporting.quoting import quoted
from .shapes import ABSENT, look_up

__all__ = ["Field", "field_reader", "number_reader", "range_reader"]

#: A key, a path (a tuple of keys), or a function of the message.
Field: TypeAlias = Hashable | Callable[[Any], Any]

#: Number of keys that an error text names.
_NAMED_KEYS: Final = 20


def field_reader(field: Field, argument: str) -> Callable[[Any], Any]:
    """Return a function that reads ``field`` from a message, and raises KeyError if the message lacks it.

    Args:
        field: a key, a path or a function.
        argument: the name of the user's argument, for error texts.

    Raises:
        TypeError: ``field`` is a coroutine function, or neither callable nor hashable.
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
            raise _missing(message, field, argument)
        return found

    return read


def number_reader(field: Field, argument: str) -> Callable[[Any], int]:
    """Return a function that reads a whole number from ``field``: an int, or an int as a str.

    The function raises KeyError if the message lacks the field, and TypeError or ValueError if the field is not a whole
    number.

    Raises:
        TypeError, ValueError: for the same reasons as :func:`field_reader`.
    """
    read = field_reader(field, argument)
    return lambda message: _whole(read(message), argument)


def range_reader(
    sequence: Field | list[Field], argument: str, *, pairs: tuple[type, ...] = (list,)
) -> Callable[[Any], tuple[int, int]]:
    """Return a function that reads the first and the last number of a message, which may be the same.

    Args:
        sequence: a key or a path of one number; a list of two of them, for the first and the last number; or a function
            that returns a number, or the first and the last one. Each number is an int, or an int as a str.
        argument: the name of the user's argument, for error texts.
        pairs: the types in which the caller may give two fields. A tuple is a path, unless ``pairs`` contains tuple.

    Raises:
        TypeError: ``sequence`` is none of these.
        ValueError: a path is empty.
    """
    if isinstance(sequence, tuple | list) and isinstance(sequence, pairs) and len(sequence) == 2:
        first, last = (number_reader(each, argument) for each in sequence)
        return lambda message: (first(message), last(message))
    if sequence is None or isinstance(sequence, list):
        raise TypeError(
            f"{argument} must be a key or a path, a list of the keys of the first and the last number, or a function, "
            f"not {sequence!r}"
        )
    read = field_reader(sequence, argument)

    def read_range(message: Any) -> tuple[int, int]:
        found = read(message)
        if isinstance(found, tuple | list) and len(found) == 2:
            return _whole(found[0], argument), _whole(found[1], argument)
        number = _whole(found, argument)
        return number, number

    return read_range


def _whole(value: Any, argument: str) -> int:
    if type(value) is int:
        return value
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f"{argument} must be an int or an int as a str, not {value!r}")
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{argument} must be an int or an int as a str, not {value!r}") from None


def _missing(message: Any, field: Hashable, argument: str) -> KeyError:
    """Return the error for a message that lacks a field. The error names the missing key and the existing keys."""
    steps = field if isinstance(field, tuple) else (field,)
    missing = next(n for n in range(len(steps)) if look_up(message, steps[: n + 1]) is ABSENT)
    message = look_up(message, steps[:missing])
    kind = f"an object of type {type(message).__name__}"
    there = f"the keys {', '.join(map(repr, islice(message, _NAMED_KEYS)))}" if isinstance(message, Mapping) else kind
    return KeyError(quoted(f"{argument} {field!r}: there is no {steps[missing]!r} in {there}"))
