"""The display of a feed in a notebook cell."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakValueDictionary

from reactivex import abc

from ..reporting.events import State, Statistics
from .snapshot import RECENT, RateMeter, ago, mimebundle

__all__ = ["FeedView", "replace_namesake"]

#: The last few messages are kept for this many seconds after a display, because keeping them costs time per message.
KEEP_SECONDS: Final = 60.0


class FeedView:
    """Displays a feed: its state, its counters and its last few messages.

    Messages are kept for a minute after each display, so a display slows the feed only for that time.

    Args:
        loop: the feed's loop.
        subscribe: subscribes a function to the feed's messages.
        last_message: returns the last message, or None.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        subscribe: Callable[[Callable[[Any], None]], abc.DisposableBase],
        last_message: Callable[[], Any],
    ) -> None:
        self._loop = loop
        self._subscribe = subscribe
        self._last_message = last_message
        self._rate = RateMeter(loop.time())
        self._recent: deque[Any] = deque(maxlen=RECENT)
        self._subscription: abc.DisposableBase | None = None
        self._timer: asyncio.TimerHandle

    def show(self, title: str, state: State, statistics: Statistics, error: Exception | None) -> dict[str, str]:
        """Return the MIME bundle for a cell. Works in any thread."""
        messages = list(self._recent)[::-1]
        if not messages and (last := self._last_message()) is not None:
            messages = [last]
        if asyncio._get_running_loop() is self._loop and not state.is_final:
            self.keep_messages()
        facts = {
            "state": state.value,
            "rate": self._rate.look(statistics.messages, self._loop.time()),
            "last message": ago(statistics.last_message_age),
            "rotations": statistics.rotations,
            "reconnects": sum(statistics.reconnects.values()),
            "streams": statistics.streams,
            "pending": statistics.pending,
        }
        return mimebundle(title, facts if error is None else facts | {"error": str(error)}, messages)

    def keep_messages(self) -> None:
        """Keep the last few messages during the next minute."""
        if self._subscription is None:
            self._subscription = self._subscribe(self._recent.append)
        else:
            self._timer.cancel()
        self._timer = self._loop.call_later(KEEP_SECONDS, self.close)

    def close(self) -> None:
        """Stop keeping messages. Idempotent."""
        if self._subscription is not None:
            self._timer.cancel()
            self._subscription.dispose()
            self._subscription = None
        self._recent.clear()


_NAMED: Final[WeakValueDictionary[str, Any]] = WeakValueDictionary()


def replace_namesake(name: str, feed: Any) -> Any:
    """Remember a feed by its name, and return the former feed of this name, or None.

    A cell that is run again makes a second feed of the same name while the first one is still open.
    """
    former = _NAMED.get(name)
    _NAMED[name] = feed
    return former
