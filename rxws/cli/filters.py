"""Parses the keys and filters of the command line."""

from __future__ import annotations

import argparse
import json
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NoReturn, TypeAlias

from ..messages import Condition

__all__ = ["Key", "filter_case", "key", "keys", "sent_at"]

Key: TypeAlias = str | tuple[str | int, ...]
"""A key of messages, or a path."""

UNITS: Final = ("s", "ms", "us", "ns")
"""The units of times in messages."""

_PAIR: Final = re.compile(r"([^=!<>,]*)(!=|<=|>=|=|<|>)(.*)", re.DOTALL)

_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True, repr=False)
class _Compared(Condition):
    """Accepts values that compare with another one as an operator says.

    Values are compared as numbers if both are numbers or numeric strings, otherwise as strings if both are strings.
    Other values are only unequal.
    """

    sign: str
    value: Any

    def accepts(self, value: Any) -> bool:
        if self.sign == "!=":
            return bool(value != self.value)
        ours, theirs = _number(self.value), _number(value)
        if ours is None or theirs is None:
            ours, theirs = self.value, value
            if not (isinstance(ours, str) and isinstance(theirs, str)):
                return False
        return bool(_COMPARISONS[self.sign](theirs, ours))

    def __repr__(self) -> str:
        return f"{self.sign} {self.value!r}"


@dataclass(frozen=True, slots=True, repr=False)
class _All(Condition):
    """Accepts values that all conditions accept."""

    conditions: tuple[Condition, ...]

    def accepts(self, value: Any) -> bool:
        return all(condition.accepts(value) for condition in self.conditions)

    def __repr__(self) -> str:
        return " and ".join(map(repr, self.conditions))


def key(text: str) -> Key:
    """Parse a key of messages. A key with dots is a path, as in ``data.s`` or ``data.0.s``."""
    steps = text.split(".")
    if not all(steps):
        raise argparse.ArgumentTypeError(f"{text!r} is not a key: expected a name, or names with dots between them")
    first, *others = steps
    return (first, *(int(step) if re.fullmatch("-?[0-9]{1,9}", step) else step for step in others)) if others else first


def keys(text: str) -> dict[str, Key]:
    """Parse keys with commas between them; return each under its text."""
    names = [name.strip() for name in text.split(",")]
    parsed = {name: key(name) for name in names}
    if len(parsed) < len(names):
        raise argparse.ArgumentTypeError(f"a key occurs twice in {text!r}")
    return parsed


def sent_at(text: str) -> tuple[Key, str]:
    """Parse ``KEY`` or ``KEY:UNIT``, the key of the time when a message was sent, and the unit: s, ms, us or ns."""
    name, colon, unit = text.rpartition(":")
    if not colon:
        return key(text), "ms"
    if unit not in UNITS:
        raise argparse.ArgumentTypeError(f"expected KEY or KEY:UNIT, where UNIT is s, ms, us or ns, got {text!r}")
    return key(name), unit


def filter_case(text: str) -> dict[Key, Any]:
    """Parse ``key=value[,key=value]`` into one dict of a filter. In place of ``=`` there may be ``!= < <= > >=``.

    A value is parsed as JSON if it is valid JSON (numbers, true, null, "quoted, with a comma"); otherwise it is a
    string. A key with dots is a path, as in ``data.s=BTCUSDT``. A number in a path is the index of a list, as in
    ``data.0.s=BTCUSDT``. A key may occur several times with an operator other than ``=``, as in ``p>1,p<2``.
    """
    case: dict[Key, Any] = {}
    rest: str | None = text
    while rest is not None:
        pair = _PAIR.fullmatch(rest)
        if pair is None:
            raise argparse.ArgumentTypeError(f"expected key=value[,key=value], with = != < <= > or >=, got {text!r}")
        name, sign = pair[1].strip(), pair[2]
        path = key(name)
        value, rest = _value(pair[3])
        wanted = value if sign == "=" else _compared(name, sign, value)
        if path not in case:
            case[path] = wanted
        elif isinstance(wanted, Condition) and isinstance(case[path], Condition):
            case[path] = _All((case[path], wanted))
        else:
            raise argparse.ArgumentTypeError(f"{name!r} occurs twice in {text!r}; repeat --filter for alternatives")
    return case


def _compared(name: str, sign: str, value: Any) -> Condition:
    if sign != "!=" and not isinstance(value, str) and _number(value) is None:
        raise argparse.ArgumentTypeError(f"{name}{sign} takes a number or text, got {json.dumps(value)}")
    return _Compared(sign, value)


def _number(value: Any) -> Decimal | int | float | None:
    """Return a number, or a numeric string as a number; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    try:
        number = Decimal(value) if isinstance(value, str) else None
    except InvalidOperation:
        return None
    return number if number is not None and number.is_finite() else None


def _no_constant(name: str) -> NoReturn:
    # The standard library accepts NaN and Infinity, but JSON has no such values. Here they are text.
    raise ValueError(name)


_JSON: Final = json.JSONDecoder(parse_constant=_no_constant)


def _value(text: str) -> tuple[Any, str | None]:
    """Return the value at the start of ``text``, and the text after the next comma, or None if there is no comma."""
    text = text.strip()
    try:
        value, end = _JSON.raw_decode(text)
    except (ValueError, RecursionError):
        pass
    else:
        after = text[end:].lstrip()
        if not after or after[0] == ",":
            return value, after[1:] if after else None
    word, comma, rest = text.partition(",")
    return word.rstrip(), rest if comma else None
