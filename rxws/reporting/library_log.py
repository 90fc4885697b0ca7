"""A logger for the websocket library. The library's own logger shows tokens, headers and login messages at DEBUG."""

from __future__ import annotations

import logging
from typing import Any, Final

from .quoting import quoted
from .redaction import redact, redact_url
from .tracebacks import redacted_traceback

__all__ = ["library_logger"]

#: The name of a child of the library's own logger, so that the user's level and handlers apply.
NAME: Final = "websockets.client.rxws"

_REQUEST: Final = "> GET %s HTTP/1.1"


def library_logger() -> logging.Logger:
    """Return the logger for connections of websockets. Its lines have no secrets and no control characters."""
    logger = logging.getLogger(NAME)
    if not logger.filters:
        logger.addFilter(_redact)
    return logger


def _redact(record: logging.LogRecord) -> bool:
    if record.msg == _REQUEST and isinstance(record.args, tuple):
        text = record.msg % redact_url(f"ws://host{record.args[0]}").removeprefix("ws://host")
    else:
        if isinstance(record.args, tuple):
            # Shorten the content here. The library would cut it in its middle, and so might cut a secret in two.
            record.args = tuple(_shown(each) if hasattr(each, "opcode") else each for each in record.args)
        text = redact(record.getMessage())
    if record.exc_info and record.exc_info[1] is not None:
        text += "\n" + redacted_traceback(record.exc_info[1])
    record.msg, record.args, record.exc_info, record.exc_text = text, (), None, None
    return True


def _shown(frame: Any) -> str:
    """Return a frame in words. The content of a binary frame, or of a part of a message, is not shown."""
    kind, data = frame.opcode.name, bytes(frame.data)
    size = f"{kind} [{len(data):,} bytes]"
    if kind == "CLOSE" and len(data) > 1:
        return f"{size} {int.from_bytes(data[:2])} {quoted(data[2:].decode(errors='backslashreplace'))}"
    return f"{size} {quoted(data.decode(errors='backslashreplace'))}" if kind == "TEXT" and frame.fin else size
