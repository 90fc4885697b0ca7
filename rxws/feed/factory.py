"""Makes feeds: those that connect, and in a replay one that plays a recording."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

from ..options import Options
from .hooks import Hooks
from .wiring import Feed

__all__ = ["FEED_FACTORY", "make_feed"]

#: Makes the next feed of this context. A replay replaces :class:`Feed` with its own factory.
FEED_FACTORY: Final[ContextVar[Callable[[Hooks, Options, str], Feed]]] = ContextVar("rxws_feed_factory", default=Feed)


def make_feed(hooks: Hooks, options: Options, kind: str) -> Feed:
    """Make a feed that connects, or in a replay a feed that plays a recording."""
    factory = FEED_FACTORY.get()
    # A replay replaces only this feed, and not other feeds that its subclass may make.
    FEED_FACTORY.set(Feed)
    return factory(hooks, options, kind)
