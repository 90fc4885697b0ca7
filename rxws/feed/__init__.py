"""The wiring of one feed, and its shutdown."""

from .wiring import FEED_FACTORY, Feed, Hooks

__all__ = ["FEED_FACTORY", "Feed", "Hooks"]
