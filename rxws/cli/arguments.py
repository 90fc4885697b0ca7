"""Parses and checks the values of the command line's arguments."""

from __future__ import annotations

import argparse
import math
import re
from typing import Final

from websockets.exceptions import InvalidURI
from websockets.uri import parse_uri

from ..recording.rolling import Roll

__all__ = ["BROKER", "broker_url", "count", "feed_url", "header", "port", "roll", "seconds", "speed", "start", "url"]

BROKER: Final = ("nats://", "tls://")
"""How the addresses of NATS servers begin."""

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""The name of a header in HTTP (RFC 9110 §5.6.2)."""


_BARE: Final = re.compile(
    r"(?:(?P<scheme>https?)://)?(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(?P<port>:[0-9]{1,5})?(?P<path>/[\w./-]{,16})?"
)
"""An address that lacks its scheme, or has another one, and that cannot contain a secret."""

_LOCAL: Final = re.compile(r"localhost|[^.]*|127\..*|10\..*|192\.168\..*|.*\.local|\[::1\]")
"""Hosts that are usually served without TLS."""


def url(text: str) -> str:
    """Check the URL of a websocket. The URL may contain secrets, so an error shows at most a short path."""
    try:
        parse_uri(text)
    except InvalidURI as error:
        reason = _meant(text) or error.msg
        raise argparse.ArgumentTypeError(f"not the URL of a websocket (ws:// or wss://): {reason}") from None
    except ValueError:
        # The port or the host is invalid. The text of the standard library's exception may quote a password.
        raise argparse.ArgumentTypeError("not the URL of a websocket: its host or port cannot be read") from None
    return text


def _meant(text: str) -> str | None:
    """Return a question about the URL that was probably meant, or None if the text may contain a secret."""
    bare = _BARE.fullmatch(text)
    if bare is None:
        return None
    is_plain = bare["scheme"] == "http" or (bare["scheme"] is None and _LOCAL.fullmatch(bare["host"]))
    return f"did you mean {'ws' if is_plain else 'wss'}://{bare['host']}{bare['port'] or ''}{bare['path'] or ''}?"


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
