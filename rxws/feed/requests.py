"""A request: a message that is sent, and the reply to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from ..connections.connection import Connection
from ..errors import SendTimeout
from ..messages.filters import Filter
from ..reporting.redaction import redact
from ..streams.stream import Stream

__all__ = ["Request"]

Send = Callable[[Any, Callable[[Connection], object]], Awaitable[None]]
"""Sends a message; calls the function with the connection that it chose, before it sends there."""


@dataclass(frozen=True, slots=True)
class Request:
    """A message whose reply is the first message that passes a filter.

    Attributes:
        message: what is sent.
        wanted: the filter of the reply.
        timeout: seconds for both.
    """

    message: Any
    wanted: Filter
    timeout: float

    async def make(self, send: Send, stream: Stream[Any], obstacle: Callable[[], str]) -> Any:
        """Send the message and return its reply.

        Args:
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
            reply = connection.inbound.expect_reply([self.wanted], is_shared=True)
            reply.add_done_callback(lambda done: None if done.cancelled() else stream.take_in(done.result()[0]))
            replies.append(reply)

        try:
            async with asyncio.timeout(self.timeout):
                await send(self.message, expect_reply)
                return await anext(stream)
        except SendTimeout:
            raise
        except TimeoutError:
            if not replies:
                raise TimeoutError(f"{obstacle()} for {self.timeout:g} s: nothing was sent") from None
            wanted = redact(repr(self.wanted))
            raise TimeoutError(f"no message that passes {wanted} came within {self.timeout:g} s") from None
        finally:
            for reply in replies:
                reply.cancel()
            stream.close_nowait()
