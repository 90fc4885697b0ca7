"""The feed of both demos: its rate, its lag, and the channels of its messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..demo import channel_of

__all__ = ["EVENTS", "LAG", "RATE", "channel_of_message"]

RATE: Final = 1_000.0
"""Messages per second that the exchange sends."""

LAG: Final = 0.02
"""Maximum lag in seconds. It makes channels interleave differently on each connection, as on real feeds."""

EVENTS: Final = {"trade": "trade", "bookTicker": "bookTicker", "depthUpdate": "depth"}
"""The kind of channel for each type of message (its ``e``)."""


def channel_of_message(message: Mapping[str, Any]) -> str:
    """Return the name of the channel of a message."""
    return channel_of(message["s"], EVENTS[message["e"]])
