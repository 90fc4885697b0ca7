"""A connection of a test with its reader, and the messages that it delivered."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from rxws import MessageRejected
from rxws.connections.connection import Connection
from rxws.messages.dispatcher import FrameDispatcher
from rxws.messages.frames import frames_of
from rxws.messages.hooks import ParseHooks
from rxws.messages.reader import Reader

from .feeds import of_kind
from .wiring import Wiring, never_asked


class Reading:
    """A connection with its reader, and the messages that it delivered.

    Args:
        websocket: the connection. Its ``end`` ends it.
        parse: the parse hook.
    """

    def __init__(self, websocket: Any, parse: Any = lambda raw: raw) -> None:
        self.wiring = Wiring()
        self.websocket = websocket
        hooks = ParseHooks(lambda: parse, reply=None, identity=None, per_connection=None)
        dispatcher = FrameDispatcher(self.wiring.context, self.wiring.router, hooks)
        self.connection = Connection(self.websocket, 1, self.wiring.loop, self.wiring.reporter, never_asked)
        frames = functools.partial(frames_of, self.websocket, self.wiring.reporter)
        self.messages: list[Any] = []
        self.wiring.router.messages.subscribe(self.messages.append)
        self.connection.start(Reader(self.connection.inbound, frames, dispatcher, parse).read)

    async def ended(self) -> None:
        """End the connection, and wait until it was read to its end."""
        self.websocket.end()
        assert self.connection.reader is not None
        await asyncio.wait({self.connection.reader})
        self.connection.end()

    def rejected(self) -> list[tuple[Any, type[BaseException]]]:
        """Return the rejected frames, each with the type of its error."""
        return [(event.raw, type(event.error)) for event in of_kind(MessageRejected, self.wiring.seen)]
