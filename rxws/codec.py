"""JSON in and out."""

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
        message: anything that JSON can hold: also dataclasses, ``msgspec.Struct``, datetimes, UUIDs, integers of any
            size.

    Raises:
        ValueError: for NaN and infinities, which JSON (RFC 8259 §6) does not have.
        TypeError: for what JSON cannot hold.
    """
    # The standard library writes the text, because msgspec would write NaN as null without a word.
    return json.dumps(msgspec.to_builtins(message), allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def to_payload(message: Any, encode: Callable[[Any], str | bytes] = encode) -> str | bytes:
    """Return what goes into a frame: ``str`` as text, bytes as binary, anything else as ``encode`` says.

    Raises:
        TypeError: ``encode`` gave neither ``str`` nor bytes.
    """
    if isinstance(message, bytes | bytearray | memoryview):
        return bytes(message)
    payload = message if isinstance(message, str) else encode(message)
    if isinstance(payload, str):
        # What UTF-8 does not have, a lone surrogate, would end the connection for everybody. It raises a ValueError.
        payload.encode()
    elif not isinstance(payload, bytes):
        raise TypeError(f"encode must return str or bytes, not {type(payload).__name__}")
    return payload
