"""Checks, closes and aborts a websocket of any library, even if it lacks some attributes."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from websockets.protocol import State

from ..messages.frames import Websocket

__all__ = ["abort_transport", "abort_websocket", "check_websocket", "close_soon", "discards", "wait_overdue"]

#: Seconds after which rxws stops waiting for a close in the background. The libraries stop after 10.
CLOSE_TIMEOUT: Final = 30.0

#: How often `wait_overdue` checks the state of a connection within its timeout.
LOOKS: Final = 4


def check_websocket(websocket: object, origin: str) -> Websocket:
    """Return ``websocket`` if it has the websockets asyncio API.

    Raises:
        TypeError: it has not. The text names ``origin``, the type of ``websocket`` and the missing methods.
    """
    missing = [name for name in ("__aiter__", "send", "close") if not callable(getattr(websocket, name, None))]
    if not missing:
        return websocket  # type: ignore[return-value]
    expected = "an open connection with the websockets asyncio API (async for, send, close)"
    hint = " (is an 'await' missing?)" if callable(getattr(websocket, "__await__", None)) else ""
    given = f"{type(websocket).__name__} without {', '.join(missing)}{hint}"
    raise TypeError(f"{origin} must return {expected}, not {given}")


def abort_transport(websocket: Websocket) -> bool:
    """Abort the transport. Return False if the websocket has no transport with ``abort``, as with picows."""
    abort = getattr(getattr(websocket, "transport", None), "abort", None)
    if not callable(abort):
        return False
    abort()
    return True


def discards(websocket: Websocket) -> bool:
    """Return whether the transport is closing. A closing transport discards sent data without an error."""
    # A subclass may open another kind of websocket, whose transport may lack the method.
    is_closing = getattr(getattr(websocket, "transport", None), "is_closing", None)
    return callable(is_closing) and bool(is_closing())


#: Tasks that close websockets in the background. They are kept here, because the event loop has only weak references to
#: tasks.
_CLOSING: Final[set[asyncio.Task[None]]] = set()


def close_soon(websocket: Websocket) -> asyncio.Task[None]:
    """Close a websocket in the background, in bounded time."""

    async def close() -> None:
        # If the connection breaks meanwhile, it is closed too.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await websocket.close()

    task = asyncio.get_running_loop().create_task(close(), name="rxws close websocket")
    _CLOSING.add(task)
    task.add_done_callback(_CLOSING.discard)
    return task


def abort_websocket(websocket: Websocket) -> None:
    """Abort a websocket without a closing handshake, so that the peer cannot delay it.

    A websocket without such a transport, as with picows, is closed in the background, with a timeout.
    """
    if not abort_transport(websocket):
        close_soon(websocket)


async def wait_overdue(websocket: object, timeout: float) -> None:
    """Wait until a websocket library has been closing a connection for too long. Cancelling is safe.

    A library closes by itself when the server breaks the protocol: with text that is not UTF-8, a frame that is too
    big, a deflate bomb. It then delivers nothing more and waits for the server's answer, for 10 s or longer. Libraries
    do not report that they begin to close, so this checks the state four times within ``timeout``.

    Args:
        websocket: the connection; it may lack ``state``, and then it is never overdue.
        timeout: seconds of closing after which this returns. It may return up to a quarter of that time earlier, but
            not later.
    """
    seen = 0
    while seen < LOOKS:
        await asyncio.sleep(timeout / LOOKS)
        # Count the checks that found the connection closing, and do not measure the time: after the event loop was
        # blocked, the answer may have arrived without being read yet.
        seen = seen + 1 if getattr(websocket, "state", None) == State.CLOSING else 0
