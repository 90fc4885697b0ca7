"""Requests: sends a message and waits for its reply."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ..connections.connection import Connection
from ..errors import FeedClosed, SendFailed, SendTimeout
from ..messages.filters import Filter
from ..messages.router import Router
from ..reporting.quoting import quoted_repr
from ..streams.stream_options import StreamOptions
from ..streams.stream_receiver import StreamReceiver

__all__ = ["exchange"]

#: Calls the function with the connection that it has chosen, and then sends the message there.
Send = Callable[[Any, Callable[[Connection], object]], Awaitable[None]]


async def exchange(
    message: Any, wanted: Filter, timeout: float, send: Send, router: Router, obstacle: Callable[[], str]
) -> Any:
    """Send a message and return its reply: the first message that passes a filter.

    Args:
        message: the message.
        wanted: the filter of the reply.
        timeout: seconds for sending and for the reply together.
        send: sends the message.
        router: delivers the reply.
        obstacle: returns why a message was not sent yet.

    Raises:
        TimeoutError: in that time the message was not sent, or no reply arrived.
        SendFailed: the connection was lost before the reply arrived.
        FeedClosed: the feed was closed before the reply arrived.
    """
    receiver = StreamReceiver[Any](router, wanted, StreamOptions(maxsize=None, maxbytes=None))
    router.add(receiver, wanted)
    expected: list[asyncio.Future[None]] = []

    def lost(_expected: asyncio.Future[None]) -> None:
        # If the receiver already holds a reply, it delivers that before the error.
        receiver.on_end(SendFailed("sent, then the connection was lost before the reply came"))

    def expect_reply(connection: Connection) -> None:
        # In a rotation the reply may arrive on a connection whose messages are held or discarded: expect it there too.
        def take(message: Any) -> bool:
            is_reply = connection.inbound.passes(wanted, message)
            if is_reply:
                receiver.on_message(message)
            return is_reply

        expected.append(connection.inbound.expect_replies(take, is_shared=True))
        # The end of the connection cancels this future.
        expected[-1].add_done_callback(lost)

    try:
        async with asyncio.timeout(timeout):
            await send(message, expect_reply)
            return await receiver.get()
    except StopAsyncIteration:
        raise FeedClosed(f"{router.context.reporter.name} was closed before the reply came") from None
    except SendTimeout:
        raise
    except TimeoutError:
        if not expected:
            raise TimeoutError(f"{obstacle()} for {timeout:g} s: nothing was sent") from None
        shown = quoted_repr(wanted)
        raise TimeoutError(f"no message that passes {shown} came within {timeout:g} s") from None
    finally:
        for each in expected:
            each.cancel()
        receiver.on_end(None)
