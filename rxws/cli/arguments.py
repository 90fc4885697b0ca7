"""Parses and checks the arguments of the command line. Only the parser prints."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn

from websockets.exceptions import InvalidURI
from websockets.uri import parse_uri

from ..recording.rolling import Roll
from ..reporting import redact

__all__ = [
    "BROKER",
    "Declare",
    "Parser",
    "broker_url",
    "count",
    "feed_url",
    "filter_case",
    "header",
    "key",
    "port",
    "roll",
    "seconds",
    "speed",
    "start",
    "url",
]

BROKER: Final = ("nats://", "tls://")
"""How the addresses of NATS servers begin."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""The name of a header in HTTP (RFC 9110 §5.6.2)."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that prints errors as one line, and ignores a closed pipe when it prints the help."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Print the error, and exit with code 2."""
        self.exit(2, f"{self.prog}: error: {redact(message)} (see: {self.prog} --help)\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message(message, file)
        if file is sys.stdout and file is not None:
            try:
                file.flush()
            except BrokenPipeError:
                # Otherwise the interpreter flushes the closed pipe again when it exits, and prints an error.
                os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())


Declare = Callable[..., argparse.ArgumentParser]
"""The type of argparse's ``add_parser``, which declares a command."""


def url(text: str) -> str:
    """Check the URL of a websocket. The URL may contain secrets, so no error shows it."""
    try:
        parse_uri(text)
    except InvalidURI as error:
        raise argparse.ArgumentTypeError(f"not the URL of a websocket, ws://… or wss://…: {error.msg}") from None
    except ValueError:
        # The port or the host is invalid. The text of the standard library's exception may quote a password.
        raise argparse.ArgumentTypeError("not the URL of a websocket: its host or port cannot be read") from None
    return text


def broker_url(text: str) -> str:
    """Check the addresses of NATS servers, with commas between them. No error shows them: they may contain secrets."""
    for address in text.split(","):
        if not address.startswith(BROKER) or not address.partition("://")[2]:
            raise argparse.ArgumentTypeError("not the address of a NATS server: expected nats://HOST:PORT or tls://…")
    return text


def feed_url(text: str) -> str:
    """Check the address of a feed: a websocket, or NATS servers."""
    return broker_url(text) if text.startswith(BROKER) else url(text)


def start(text: str) -> str | int:
    """Parse the place in a stream where reading begins: ``new``, ``all``, ``last``, or a number."""
    return text if text in ("new", "all", "last") else count(text)


def count(text: str) -> int:
    """Parse a whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, got {text!r}")
    return number


def seconds(text: str) -> float:
    """Parse a time in seconds, greater than 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f"expected a number of seconds greater than 0, got {text!r}")
    return number


def roll(text: str) -> Roll:
    """Parse when a recording begins another file: ``day``, ``hour`` or a number of bytes."""
    if text == "day":
        return "day"
    if text == "hour":
        return "hour"
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"expected day, hour or a number of bytes, got {text!r}")
    return int(text)


def speed(text: str) -> float:
    """Parse a speed factor: a number greater than 0, or ``max`` for infinity."""
    if text == "max":
        return math.inf
    try:
        return seconds(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"expected a number greater than 0, or max, got {text!r}") from None


def port(text: str) -> int:
    """Parse the number of a port; 0 means any free port."""
    if not re.fullmatch("[0-9]{1,5}", text) or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"expected a port, from 0 to 65535, got {text!r}")
    return int(text)


def header(text: str) -> tuple[str, str]:
    """Parse ``Name: value``. The value may be a secret, so no error shows it."""
    name, colon, value = text.partition(":")
    value = value.strip(" \t")
    if not colon or not _TOKEN.fullmatch(name):
        raise argparse.ArgumentTypeError("expected Name: value, as in 'Authorization: Bearer …'")
    if not value.isprintable() or not value.isascii():
        raise argparse.ArgumentTypeError(f"the value of {name} has characters that a header must not contain")
    return name, value


def key(text: str) -> str | tuple[str | int, ...]:
    """Parse a key of messages. A key with dots is a path, as in ``data.s`` or ``data.0.s``."""
    return _path(text)


def filter_case(text: str) -> dict[str | tuple[str | int, ...], Any]:
    """Parse ``key=value[,key=value]`` into one dict of a filter.

    A value is parsed as JSON if it is valid JSON (numbers, true, null, "quoted, with a comma"); otherwise it is a
    string. A key with dots is a path, as in ``data.s=BTCUSDT``. A number in a path is the index of a list, as in
    ``data.0.s=BTCUSDT``.
    """
    case: dict[str | tuple[str | int, ...], Any] = {}
    rest: str | None = text
    while rest is not None:
        name, equals, rest = rest.partition("=")
        if not equals or "," in name:
            raise argparse.ArgumentTypeError(f"expected key=value[,key=value], got {text!r}")
        path = _path(name.strip())
        if path in case:
            raise argparse.ArgumentTypeError(
                f"{name.strip()!r} occurs twice in {text!r}; repeat --filter for alternatives"
            )
        case[path], rest = _value(rest)
    return case


def _path(key: str) -> str | tuple[str | int, ...]:
    steps = key.split(".")
    if not all(steps):
        raise argparse.ArgumentTypeError(f"{key!r} is not a key: expected a name, or names with dots between them")
    first, *others = steps
    return (first, *(int(step) if re.fullmatch("-?[0-9]{1,9}", step) else step for step in others)) if others else first


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
