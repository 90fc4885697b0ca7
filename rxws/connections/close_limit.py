"""Limits how long a websocket library may close a connection by itself."""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["wait_overdue"]

#: The state of a connection that is being closed in the enum of websockets and in that of picows; ``OPEN`` is 1.
CLOSING: Final = 2

#: How often a connection is looked at within its limit.
LOOKS: Final = 4


async def wait_overdue(websocket: object, timeout: float) -> None:
    """Return when a websocket library has been closing a connection for too long. Cancelling is safe.

    A library closes by itself when the server breaks the protocol: with text that is no UTF-8, a frame that is too big,
    a deflate bomb. It then reads nothing more and waits for the server's answer, for 10 s and longer. No library tells
    when it begins, so its state is looked at four times within ``timeout``.

    Args:
        websocket: the connection; it may lack ``state``, and then it is never overdue.
        timeout: seconds of closing after which this returns; it may return earlier by a quarter of them, never later.
    """
    seen = 0
    while seen < LOOKS:
        await asyncio.sleep(timeout / LOOKS)
        # How often it was seen closing, and not for how long: a loop that stood still has not read the answer yet.
        seen = seen + 1 if getattr(websocket, "state", None) == CLOSING else 0
