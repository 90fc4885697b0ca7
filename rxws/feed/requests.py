"""A request: a message that is sent, and the reply to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ..connections.connection import Connection
from ..errors import SendTimeout
from ..messages.filters import Filter
from ..reporting.redaction import redact
from ..streams.stream import Stream

__all__ = ["exchange"]

Send = Callable[[Any, Callable[[Connection], object]], Awaitable[None]]
"""Sends a message; calls the function with the connection that it chose, before it sends there."""


async def exchange(
    message: Any, wanted: Filter, timeout: float, send: Send, stream: Stream[Any], obstacle: Callable[[], str]
) -> Any:
    """Send a message and return its reply: the first message that passes the filter.

    Args:
        message: the message.
        wanted: the filter of the reply.
        timeout: seconds for both.
        send: sends the message.
        stream: has the filter of the reply; it is closed afterwards.
        obstacle: returns why nothing was sent.

    Raises:
        TimeoutError: nothing was sent, or no reply came, in time.
        StopAsyncIteration: the feed was closed before the reply came.
    """
    replies: list[asyncio.Future[tuple[Any, Filter]]] = []

    def expect_reply(connection: Connection) -> None:
        # In a rotation the reply comes on a connection whose messages are held, or are for it alone.
        reply = connection.inbound.expect_reply([wanted], is_shared=True)
        reply.add_done_callback(lambda done: None if done.cancelled() else stream.take_in(done.result()[0]))
        replies.append(reply)

    try:
        async with asyncio.timeout(timeout):
            await send(message, expect_reply)
            return await anext(stream)
    except SendTimeout:
        raise
    except TimeoutError:
        if not replies:
            raise TimeoutError(f"{obstacle()} for {timeout:g} s: nothing was sent") from None
        shown = redact(repr(wanted))
        raise TimeoutError(f"no message that passes {shown} came within {timeout:g} s") from None
    finally:
        for reply in replies:
            reply.cancel()
        stream.close_nowait()
