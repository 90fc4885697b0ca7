"""Connects the parts of one feed. Contains its requests and its shutdown."""

from .factory import FEED_FACTORY
from .hooks import Hooks
from .wiring import Feed

__all__ = ["FEED_FACTORY", "Feed", "Hooks"]
