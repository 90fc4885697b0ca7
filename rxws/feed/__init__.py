"""The wiring of one feed, and its shutdown."""

from .wiring import SUBSTITUTE, Feed, Hooks

__all__ = [
    "SUBSTITUTE",
    "Feed",
    "Hooks",
]
