"""Connects the parts of one feed. Contains its requests and its shutdown."""

from .wiring import FEED_FACTORY, Feed, Hooks

__all__ = ["FEED_FACTORY", "Feed", "Hooks"]
