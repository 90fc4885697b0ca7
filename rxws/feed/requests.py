"""A request: a message is sent and its reply is awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ..connections.connection import Connection
from ..errors import SendFailed, SendTimeout
from ..messages.filters import Filter
from ..reporting.redaction import redact
from ..streams.stream import Stream

__all__ = ["exchange"]

#: Sends a message; calls the function with the chosen connection before it sends there.
Send = Callable[[Any, Callable[[Connection], object]], Awaitable[None]]


async def exchange(
    message: Any, wanted: Filter, timeout: float, send: Send, stream: Stream[Any], obstacle: Callable[[], str]
) -> Any:
    """Send a message and return its reply: the first message that passes a filter.

    Args:
        message: the message.
        wanted: the filter of the reply.
        timeout: seconds for sending and for the reply together.
        send: sends the message.
        stream: a stream with the filter of the reply; it is closed afterwards.
        obstacle: returns why a message could not be sent so far.

    Raises:
        TimeoutError: in that time the message was not sent, or no reply came.
        SendFailed: the connection was lost before the reply came.
        StopAsyncIteration: the feed was closed before the reply came.
    """
    replies: list[asyncio.Future[tuple[Any, Filter]]] = []

    def take(reply: asyncio.Future[tuple[Any, Filter]]) -> None:
        if not reply.cancelled():
            stream.take_in(reply.result()[0])
        else:
            # The end of the connection cancels the reply. What the stream holds already comes before the error.
            stream.fail(SendFailed("sent, then the connection was lost before the reply came"))

    def expect_reply(connection: Connection) -> None:
        # In a rotation the reply may come on a connection whose messages are held or discarded: expect it there too.
        reply = connection.inbound.expect_reply([wanted], is_shared=True)
        reply.add_done_callback(take)
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
