"""One websocket, or two for a while: open, watch, lose, wait, rotate, overlap."""

from .connection import Connection

__all__ = ["Connection"]
