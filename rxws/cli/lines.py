"""Formats messages and events as lines of text that are safe on a terminal. No I/O."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from .. import Disconnected, Event
from ..reporting import printable

__all__ = ["clock", "decode", "event_line", "is_news", "json_lines"]

_UNSAFE: Final = re.compile(
    "["
    "\x7f-\x9f"  # DEL and C1: many terminals treat U+009B as ESC [
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidi marks, overrides and isolates: they reorder the visible text
    "\u200b\u2028\u2029\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"  # invisible, or line breaks
    "]"
)
"""Characters that JSON allows in a string but that must not reach a terminal. (JSON always escapes C0 controls.)"""

_NOT_ASCII: Final = re.compile("[^\0-\x7e]")


def decode(raw: str | bytes) -> Any:
    """Return the message of a frame: the parsed JSON, otherwise the text, otherwise the octets."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        if isinstance(raw, str):
            return raw
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def json_lines(messages: Iterable[Any], *, ascii: bool = False) -> str:  # noqa: A002
    """Return messages as JSON, one per line. Octets become a string in Base64.

    Control characters and invisible characters are always escaped, because a pipe may end at a terminal, too. A JSON
    parser reads the same value from the escape.

    Args:
        messages: messages as :func:`decode` returns them.
        ascii: whether to escape all characters that are not ASCII.
    """
    text = "".join(msgspec.json.encode(message).decode() + "\n" for message in messages)
    if text.isascii() and "\x7f" not in text:
        return text
    return (_NOT_ASCII if ascii else _UNSAFE).sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    # JSON escapes a character beyond U+FFFF as a surrogate pair (RFC 8259 §7).
    units = match[0].encode("utf-16-be")
    return "".join(f"\\u{units[i] << 8 | units[i + 1]:04x}" for i in range(0, len(units), 2))


def event_line(event: Event) -> str:
    """Return an event as a line: its time, its type and its sentence."""
    # A user who has never been connected would not understand "Disconnected".
    is_failure = isinstance(event, Disconnected) and event.number is None
    kind = "" if is_failure else f"{type(event).__name__}: "
    return printable(f"{clock(event.time)} {kind}{event}")


def clock(seconds: float) -> str:
    """Return a time of the epoch as local time, with milliseconds."""
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{int(seconds % 1 * 1000):03}"


def is_news(event: Event) -> bool:
    """Return whether to print an event.

    The end of a connection that the command itself closes is not printed, nor is the final error, which the command
    reports itself.
    """
    if not isinstance(event, Disconnected):
        return True
    gives_up = event.number is None and event.delay is None
    return event.reason != "user" and not gives_up
