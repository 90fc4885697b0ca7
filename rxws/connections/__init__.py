"""The connections of a feed: opening, watching, backoff after a loss, rotation with an overlap."""

from .connection import Connection

__all__ = ["Connection"]
