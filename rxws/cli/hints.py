"""Sentences that help where a command got no connection, or no message that passes its filter. No I/O."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from .. import Connected, Disconnected, Event
from ..display import shown
from ..messages import ABSENT, look_up
from .filters import Key

__all__ = ["ConnectionHint", "Unmatched"]

NO_TLS: Final = re.compile("SSL|ConnectionReset|ConnectionAborted|BrokenPipe|EOF")
"""Causes of a server that got the beginning of TLS, but does not speak it."""

TLS: Final = re.compile("InvalidMessage|ConnectionReset|EOF|HTTP 400|valid HTTP")
"""Causes of a server that speaks TLS, but got an HTTP request."""

MOST_VALUES: Final = 10_000
"""The number of values of each key that are counted."""

VALUES: Final = 8
"""The number of values of each key that are named."""


class ConnectionHint:
    """Notices that the first connection fails because TLS is on one side only.

    Args:
        url: the address of the feed.
    """

    def __init__(self, url: str) -> None:
        self._is_secure = url.startswith("wss:")
        self._is_open = not url.startswith(("ws:", "wss:"))

    def take(self, event: Event) -> str | None:
        """Return a sentence if an event of the feed calls for it. It is returned once, and only before a success."""
        if isinstance(event, Connected):
            self._is_open = True
        if self._is_open or not isinstance(event, Disconnected) or event.number is not None or event.reason == "auth":
            return None
        if not (NO_TLS if self._is_secure else TLS).search(event.cause):
            return None
        self._is_open = True
        if self._is_secure:
            return "The server may not speak TLS. Then its address begins with ws:// instead of wss://."
        return "The server may expect TLS. Then its address begins with wss:// instead of ws://."


class Unmatched:
    """Counts the values under the keys of a filter, to say which there were if no message passed.

    Args:
        filters: the dicts of the filter.
    """

    def __init__(self, filters: Sequence[Mapping[Key, Any]]) -> None:
        self._values: dict[Key, dict[str, None]] = {key: {} for each in filters for key in each}
        self._keys: dict[str, None] = {}
        self._messages = 0

    def take(self, message: Any) -> None:
        """Count a message."""
        self._messages += 1
        for key, values in self._values.items():
            value = look_up(message, key)
            if value is not ABSENT and len(values) < MOST_VALUES:
                values[shown(value, key[-1] if isinstance(key, tuple) else key)] = None
        if isinstance(message, Mapping) and len(self._keys) < MOST_VALUES:
            self._keys |= dict.fromkeys(map(shown, itertools.islice(message, MOST_VALUES)))

    def sentence(self) -> str:
        """Return which values there were under each key."""
        number = self._messages
        said = [f"no message of {number:,} passed the filter" if number else "there was no message"]
        for key, values in self._values.items():
            name = ".".join(map(str, key)) if isinstance(key, tuple) else key
            if values:
                said.append(f"{name} was {_listed(values)}")
            elif number:
                said.append(f"no message has the key {name}")
        if not all(self._values.values()) and self._keys:
            said.append(f"the keys were {_listed(self._keys)}")
        return "; ".join(said)


def _listed(texts: Mapping[str, None]) -> str:
    first = ", ".join(itertools.islice(texts, VALUES))
    more = len(texts) - VALUES
    return f"{first} and {more:,} more" if more > 0 else first
