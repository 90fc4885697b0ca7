"""A line of a feed that has several: its messages are compared with those of the others."""

from __future__ import annotations

import asyncio
import functools
from typing import Final

from ..observables.loop_context import LoopContext
from ..reporting.state import State
from .arbitration import Arbitration
from .connection import Connection
from .line import Line
from .opener import Opener, RotationHost

__all__ = ["JoinedLine"]

#: Seconds between two checks whether a new connection has joined, and whether another line still rotates.
POLL_INTERVAL: Final = 0.05


class JoinedLine(Line):
    """One of several lines.

    A rotation needs no special rules: the new connection joins like that of any other line, and then the old one is
    closed.

    Args:
        context: the feed's event loop, scheduler and reporter.
        host: the feed.
        opener: opens the connections of this line.
        arbitration: merges the lines.
        number: 1 for the first line.
    """

    def __init__(
        self, context: LoopContext, host: RotationHost, opener: Opener, arbitration: Arbitration, number: int
    ) -> None:
        super().__init__(context, host, opener)
        self._arbitration = arbitration
        self._hold = functools.partial(arbitration.hold, number)

    async def _next_connection(self, old: Connection | None) -> Connection:
        while old is not None and await self._turn_comes(old):
            try:
                if self._opener.options.handover_timeout == 0:
                    return await self._break_before_make(old)
                self._host.enter(State.ROTATING)
                new = await self._opener.open(self._hold)
                if isinstance(new, Connection) and await self._takes_over(old, new):
                    return new
            finally:
                self._end_turn()
            self._resolve_rotation(False)
            if not old.reader.done():
                await self._pause(new, old)
        return await self._replace(old)

    async def _turn_comes(self, old: Connection) -> bool:
        """Wait until no other line rotates. Return False if ``old`` has ended."""
        while not old.reader.done():
            if self._arbitration.rotating is None:
                self._arbitration.rotating = self
                return True
            await self._ended_within(POLL_INTERVAL, old)
        return False

    def _end_turn(self) -> None:
        if self._arbitration.rotating is self:
            self._arbitration.rotating = None

    async def _replace(self, old: Connection | None) -> Connection:
        """Open a connection when this line has none, and return it when it is subscribed."""
        if old is not None and old.failure.reason != "rotation":
            await self._pause(old)
        while True:
            self._host.enter(State.CONNECTING)
            opened = await self._opener.open(self._hold)
            if isinstance(opened, Connection):
                break
            self._resolve_rotation(False)
            await self._pause(opened)
        self._is_entered = old is None or old.failure.reason != "rotation"
        await self._enter(opened, old)
        return opened

    async def _enter(self, connection: Connection, lost: Connection | None) -> None:
        self._arbitration.subscribed(connection)
        self._report_connected(connection, lost)
        await self._hook.start(connection)
        await self._arbitration.enter(connection)

    async def _break_before_make(self, old: Connection) -> Connection:
        await self._close_for_rotation(old)
        self._end_turn()
        new = await self._replace(old)
        self._connection_reporter.rotated(new.number)
        return new

    async def _takes_over(self, old: Connection, new: Connection) -> bool:
        """Close ``old`` when ``new`` has joined, or after the timeout. Return False if ``new`` ends first."""
        self._arbitration.subscribed(new)
        deadline = self._loop.time() + self._opener.options.handover_timeout
        while not (old.reader.done() or self._brings_all(new)) and self._loop.time() < deadline:
            await asyncio.wait({old.reader, new.reader}, timeout=POLL_INTERVAL, return_when=asyncio.FIRST_COMPLETED)
            if new.reader.done():
                return False
        is_proven = self._brings_all(new)
        await self._close_for_rotation(old)
        if new.reader.done():
            return False
        self._is_entered = old.failure.reason != "rotation"
        await self._enter(new, None)
        self._connection_reporter.reconnected(old.failure.reason)
        self._connection_reporter.rotated(new.number, proven=is_proven)
        return True

    def _brings_all(self, new: Connection) -> bool:
        return self._opener.sender.is_subscribed and self._arbitration.is_joined(new)
