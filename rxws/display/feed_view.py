"""The display of a feed in a notebook cell."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakValueDictionary

from reactivex import abc

from ..reporting.state import State, Statistics
from .snapshot import RECENT, RateMeter, ago, mimebundle

__all__ = ["FeedView", "replace_namesake"]

#: The last few messages are kept only for this many seconds after a display, as keeping them costs time per message.
KEEP_SECONDS: Final = 60.0


@dataclass(eq=False, slots=True)
class FeedView:
    """Displays a feed: its state, its counters and its last few messages.

    Messages are kept for a minute after each display, so a display slows the feed only for that time.

    Attributes:
        loop: the feed's loop.
        subscribe: subscribes a function to the feed's messages.
        last_message: returns the last message, or None.
    """

    loop: asyncio.AbstractEventLoop
    subscribe: Callable[[Callable[[Any], None]], abc.DisposableBase]
    last_message: Callable[[], Any]
    _rate: RateMeter = field(init=False)
    _recent: deque[Any] = field(init=False, default_factory=lambda: deque(maxlen=RECENT))
    _subscription: abc.DisposableBase | None = field(init=False, default=None)
    _timer: asyncio.TimerHandle = field(init=False)

    def __post_init__(self) -> None:
        self._rate = RateMeter(self.loop.time())

    def show(self, title: str, state: State, statistics: Statistics, error: Exception | None) -> dict[str, str]:
        """Return the MIME bundle for a cell. Works in any thread."""
        messages = list(self._recent)[::-1]
        if not messages and (last := self.last_message()) is not None:
            messages = [last]
        if asyncio._get_running_loop() is self.loop and not state.is_final:
            self.keep_messages()
        facts = {
            "state": state.value,
            "rate": self._rate.look(statistics.messages, self.loop.time()),
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
            self._subscription = self.subscribe(self._recent.append)
        else:
            self._timer.cancel()
        self._timer = self.loop.call_later(KEEP_SECONDS, self.close)

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
