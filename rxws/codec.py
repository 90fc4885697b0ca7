"""The default encoding and decoding of messages: JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec

__all__ = ["decode", "encode", "to_payload"]

decode = msgspec.json.decode


def encode(message: Any) -> str:
    """Return a message as JSON text.

    Args:
        message: any value that has a JSON form, including dataclasses, ``msgspec.Struct``, datetimes, UUIDs and
            integers of any size.

    Raises:
        ValueError: the message contains NaN or an infinity, which JSON (RFC 8259 §6) does not allow.
        TypeError: the message has no JSON form.
    """
    # Use the standard library to write the text, because msgspec silently writes NaN as null.
    return json.dumps(msgspec.to_builtins(message), allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def to_payload(message: Any, encode: Callable[[Any], str | bytes] = encode) -> str | bytes:
    """Return the payload of a frame: ``str`` for a text frame, bytes for a binary frame.

    Args:
        message: ``str`` and bytes are returned unchanged; anything else is passed to ``encode``.
        encode: turns a message into ``str`` or bytes.

    Raises:
        TypeError: ``encode`` returned neither ``str`` nor bytes.
        ValueError: the text contains a lone surrogate, or ``encode`` raised it.
    """
    if isinstance(message, bytes | bytearray | memoryview):
        return bytes(message)
    payload = message if isinstance(message, str) else encode(message)
    if isinstance(payload, str):
        # Raise ValueError now for a lone surrogate. It has no UTF-8 form, so sending it would break the connection.
        payload.encode()
    elif not isinstance(payload, bytes):
        raise TypeError(f"encode must return str or bytes, not {type(payload).__name__}")
    return payload
