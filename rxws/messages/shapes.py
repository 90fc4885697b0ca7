"""Reads values from messages of every shape: mappings, lists and tuples, and objects with fields."""

from __future__ import annotations

import functools
from collections import ChainMap
from collections.abc import Callable, Hashable, Mapping
from operator import attrgetter, itemgetter
from typing import Any, Final, TypeAlias

from ..reporting.cancellation import FAILURES

__all__ = ["ABSENT", "Read", "look_up", "mapping_of", "reader_for", "reader_of_mappings"]

#: The result of :func:`look_up` for a key that the message lacks. None would be ambiguous, because it may be a value.
ABSENT: Final = object()

#: Reads the values of some keys: one value, or a tuple of several. If the message lacks a key, the result contains
#: :data:`ABSENT` in place of its value, or is ABSENT as a whole.
Read: TypeAlias = Callable[[Any], Any]

#: The attributes in which Structs, dataclasses, attrs classes and named tuples list their fields.
_FIELDS: Final = ("__struct_fields__", "__dataclass_fields__", "__attrs_attrs__", "_fields")


def mapping_of(message: object) -> Mapping[Any, Any] | None:
    """Return the message as a mapping that has ``get``, or None if it is not a mapping.

    A class without ``get`` may be registered as a Mapping. An example is the Struct of protobuf.
    """
    if type(message) is dict:
        return message
    try:
        if not isinstance(message, Mapping):
            return None
        if callable(getattr(message, "get", None)):
            return message
        # ChainMap's ``get`` first checks whether the key exists. Reading a missing key of a protobuf Struct creates it.
        return ChainMap(message)  # type: ignore[arg-type]
    except FAILURES:
        # The message's own code raised. Treat a message that cannot be checked as one that is not a mapping.
        return None


def look_up(message: object, key: Hashable) -> object:
    """Return the value that a message has under a key, or :data:`ABSENT`.

    Args:
        message: any object.
        key: a key of a mapping, a position in a list or a tuple (negative ones count from the end), or the name of an
            attribute of a Struct, a dataclass, an attrs object or a named tuple; or a path: a tuple of these.

    Raises:
        Exception: a mapping, a key or an attribute of the caller's own class raised it.

    ::

        look_up({"data": [{"s": "BTCUSDT"}]}, ("data", 0, "s"))  # "BTCUSDT"
    """
    found = message
    for step in key if isinstance(key, tuple) else (key,):
        kind: Any = type(found)
        if kind is dict:
            found = found.get(step, ABSENT)  # type: ignore[attr-defined]
        elif issubclass(kind, (list, tuple)) and isinstance(step, int):
            found = found[step] if -len(found) <= step < len(found) else ABSENT  # type: ignore[arg-type, index]
        elif (read := _attribute_reader(kind, step)) is not None:
            found = read(found)
        else:
            mapping = mapping_of(found)
            found = ABSENT if mapping is None else mapping.get(step, ABSENT)
    return found


def reader_of_mappings(keys: tuple[Hashable, ...]) -> Read:
    """Return a function that reads the values of these keys from a mapping that has ``get``."""
    if any(isinstance(key, tuple) for key in keys):
        return _reader_of_paths(keys)
    if len(keys) == 1:
        (key,) = keys
        return lambda message: message.get(key, ABSENT)
    if len(keys) == 2:
        first, second = keys
        return lambda message: (message.get(first, ABSENT), message.get(second, ABSENT))  # 0.2 µs instead of 0.5
    return lambda message: tuple([message.get(key, ABSENT) for key in keys])


def reader_for(kind: Any, keys: tuple[Hashable, ...]) -> Read | None:
    """Return a function that reads the values of these keys from messages of a type; None if they have no such keys."""
    steps = [key[0] if isinstance(key, tuple) and len(key) == 1 else key for key in keys]
    if issubclass(kind, Mapping):
        read = reader_of_mappings(keys)
        return lambda message: read(mapping_of(message))
    if issubclass(kind, (list, tuple)) and all(isinstance(step, int) for step in steps):
        return _reader(itemgetter(*steps), IndexError)
    if all(_attribute_reader(kind, step) is not None for step in steps) and _tag_field_of(kind) not in steps:
        return _reader(attrgetter(*steps), AttributeError)  # type: ignore[arg-type]
    if kind.__module__ == "builtins":
        first_steps = [step[0] if isinstance(step, tuple) else step for step in steps]
        if kind not in (list, tuple) or not all(isinstance(step, int) for step in first_steps):
            return None
    # An object may be a mapping although its type is not: a proxy reports the ``__class__`` of its target.
    return _reader_of_paths(keys)


def _reader(get: Callable[[Any], Any], missing: type[Exception]) -> Read:
    def read(message: Any) -> Any:
        try:
            return get(message)
        except missing:
            return ABSENT

    return read


def _reader_of_paths(keys: tuple[Hashable, ...]) -> Read:
    if len(keys) == 1:
        (key,) = keys
        return lambda message: look_up(message, key)
    return lambda message: tuple([look_up(message, key) for key in keys])


@functools.lru_cache(maxsize=4096)
def _attribute_reader(kind: Any, name: Any) -> Read | None:
    """Return a function that reads an attribute of objects of a type; None if they have no such attribute.

    Only classes that list their fields have attributes in this sense: the fields, the public properties, and the tag of
    a Struct under the name that it has in a message. Methods and other private attributes do not count, because a
    server did not send them.
    """
    if not isinstance(name, str) or issubclass(kind, Mapping) or not any(hasattr(kind, each) for each in _FIELDS):
        return None
    if name == _tag_field_of(kind):
        tag = kind.__struct_config__.tag
        return lambda _message: tag
    listed = [*getattr(kind, "__dataclass_fields__", ()), *(each.name for each in getattr(kind, "__attrs_attrs__", ()))]
    if name in listed or (hasattr(kind, name) and not name.startswith("_") and not callable(getattr(kind, name))):
        return lambda message: getattr(message, name, ABSENT)
    return None


def _tag_field_of(kind: Any) -> str | None:
    """Return the name that a Struct's tag has in messages; None for other types, and for a Struct without a tag."""
    return getattr(getattr(kind, "__struct_config__", None), "tag_field", None)
