"""Scripted connections, a record of a feed's events, and a check of numbered messages."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.frames import Close
from websockets.protocol import State as Protocol

import rxws
from rxws.testing.waiting import Changes

EventT = TypeVar("EventT", bound=rxws.Event)

Outcome = Any
"""The result of an attempt to open a connection: a websocket, an exception, or a coroutine function.

The coroutine function returns the websocket or raises the exception.
"""


class ScriptedTransport:
    """The transport of a :class:`ScriptedWebsocket`, which a test can abort."""

    def __init__(self, websocket: ScriptedWebsocket) -> None:
        self._websocket = websocket
        self.aborted = 0

    def abort(self) -> None:
        """Abort as asyncio's transports do. Frames that arrived before can still be read."""
        self.aborted += 1
        self._websocket.end()


class ScriptedWebsocket:
    """An open connection without a network. The test defines its frames and the results of its methods.

    Args:
        frames: frames that arrive at once.
        transport: whether the connection has a transport. Connections of websockets have one, those of picows do not.

    Attributes:
        sent: the sent messages.
        closes: number of calls of ``close``.
        on_send: called with each message. ``send`` awaits its result, and its exceptions propagate.
        on_close: called by ``close`` in the same way. None ends the iteration, as if the peer answered at once.
    """

    def __init__(self, *frames: Any, transport: bool = True) -> None:
        self.state = Protocol.OPEN
        self.sent: list[Any] = []
        self.closes = 0
        self.on_send: Callable[[Any], Awaitable[None] | None] | None = None
        self.on_close: Callable[[], Awaitable[None] | None] | None = None
        if transport:
            self.transport = ScriptedTransport(self)
        self._frames: deque[Any] = deque(frames)
        self._ending: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def is_open(self) -> bool:
        """Whether the connection has not ended."""
        return self._ending is None

    def come(self, *frames: Any) -> None:
        """Add frames, unless the connection has ended."""
        if self._ending is None:
            self._frames.extend(frames)
            self._wake()

    def end(self, error: BaseException | None = None) -> None:
        """End the connection with an exception, after the frames that have arrived. None means a cut."""
        if self._ending is None:
            self._ending = error or ConnectionClosedError(None, None)
            self.state = Protocol.CLOSED
            self._wake()

    def close_by_server(self, code: int = 1000, reason: str = "") -> None:
        """End the connection with the server's closing handshake; 1000 and 1001 end the iteration without an error."""
        self.close_code, self.close_reason = code, reason
        close = Close(code, reason)
        kind = ConnectionClosedOK if code in (1000, 1001) else ConnectionClosedError
        self.end(StopAsyncIteration() if kind is ConnectionClosedOK else kind(close, close, True))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        while not self._frames:
            if self._ending is not None:
                raise self._ending
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._frames.popleft()

    async def send(self, message: Any) -> None:
        """Record the message."""
        if self._ending is not None:
            raise ConnectionClosedError(None, None)
        if self.on_send is not None and (sending := self.on_send(message)) is not None:
            await sending
        self.sent.append(message)

    async def close(self) -> None:
        """Call ``on_close``, or end the iteration."""
        self.closes += 1
        if self.on_close is None:
            self.end(StopAsyncIteration())
        elif (closing := self.on_close()) is not None:
            await closing


class StuckWebsocket(ScriptedWebsocket):
    """A connection whose peer reads nothing, so ``send`` waits until it is cancelled."""

    async def send(self, message: Any) -> None:
        """Wait for ever."""
        await asyncio.get_running_loop().create_future()


class ScriptedFeed(rxws.AsyncWebsocketStreamInterface[Any]):
    """A feed over scripted connections. Its messages are the frames; frames of digits become numbers.

    Args:
        outcomes: the results of the attempts to open a connection, in order. Later attempts return plain connections.
        wait_rotation_due: the rotation hook. None means that the feed never rotates.
        parse: parses a frame. None means this default.
        recorded: whether to record messages, events and states.
    """

    def __init__(
        self,
        *outcomes: Outcome,
        wait_rotation_due: Callable[[], Awaitable[object]] | None = None,
        parse: Callable[[Any], Any] | None = None,
        recorded: bool = True,
        **options: Any,
    ) -> None:
        self.outcomes = deque(outcomes)
        self.attempts = 0
        self.websockets: list[Any] = []
        self._changes = Changes()
        self.wait_rotation_due = wait_rotation_due
        if parse is not None:
            self._parse_raw_data = parse
        super().__init__(**options)
        if recorded:
            self.record = Record(self)

    @property
    def websocket(self) -> Any:
        """The last opened connection."""
        return self.websockets[-1]

    async def _create_ws(self) -> Any:
        self.attempts += 1
        outcome = self.outcomes.popleft() if self.outcomes else ScriptedWebsocket()
        if isinstance(outcome, BaseException):
            raise outcome
        if asyncio.iscoroutinefunction(outcome):
            outcome = await outcome()
        self.websockets.append(outcome)
        self._changes.notify()
        return outcome

    async def opened(self, count: int = 1, *, timeout: float = 30.0) -> Any:
        """Wait for the ``count``-th connection, and return it."""
        return await self._changes.until(
            lambda: self.websockets[count - 1] if len(self.websockets) >= count else None,
            timeout=timeout,
            describe=lambda: f"expected {count} connections, had {len(self.websockets)}",
        )

    async def _when2create_new_ws(self) -> None:
        await (
            asyncio.get_running_loop().create_future() if self.wait_rotation_due is None else self.wait_rotation_due()
        )

    def _parse_raw_data(self, raw_data: Any) -> Any:
        return int(raw_data) if raw_data.isdigit() else raw_data


class Record:
    """Records all messages, events and states of a feed, and waits for them."""

    def __init__(self, feed: rxws.AsyncWebsocketStreamInterface[Any]) -> None:
        self.messages: list[Any] = []
        self.events: list[rxws.Event] = []
        self.states: list[rxws.State] = []
        self._changes = Changes()
        feed.messages.subscribe(lambda message: self._take(self.messages, message))
        feed.events.subscribe(lambda event: self._take(self.events, event))
        feed.state.subscribe(lambda state: self._take(self.states, state))

    def _take(self, items: list[Any], item: Any) -> None:
        items.append(item)
        self._changes.notify()

    def of(self, kind: type[EventT]) -> list[EventT]:
        """Return all events of a kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def reasons(self) -> list[str]:
        """Return the reasons of all Disconnected events, in order."""
        return [event.reason for event in self.of(rxws.Disconnected)]

    async def happened(self, kind: type[EventT], count: int = 1, *, timeout: float = 30.0) -> EventT:
        """Wait for the ``count``-th event of a kind, and return it."""
        return await self._changes.until(
            lambda: found[count - 1] if len(found := self.of(kind)) >= count else None,
            timeout=timeout,
            describe=lambda: f"expected {count} {kind.__name__}, had {self.events}",
        )

    async def received(self, count: int, *, timeout: float = 30.0) -> list[Any]:
        """Wait for ``count`` messages, and return all messages."""
        return await self._changes.until(
            lambda: self.messages if len(self.messages) >= count else None,
            timeout=timeout,
            describe=lambda: f"expected {count} messages, had {len(self.messages)}: {self.messages[-20:]}",
        )

    async def entered(self, state: rxws.State, count: int = 1, *, timeout: float = 30.0) -> None:
        """Wait until the feed has entered a state ``count`` times."""
        await self._changes.until(
            lambda: True if self.states.count(state) >= count else None,
            timeout=timeout,
            describe=lambda: f"expected {state}, had {self.states}",
        )


class Ledger:
    """Checks that numbers arrive once and in order, except for gaps that are reported in place.

    Attributes:
        last: the last number that arrived.
        count: number of received numbers.
        gaps: number of reported gaps.
        missed: number of numbers that are missing inside reported gaps.
        lost: numbers after which numbers are missing without a gap.
        doubled: numbers that arrived again or too late.
    """

    def __init__(self, first: int = 1) -> None:
        self.last = first - 1
        self.count = 0
        self.gaps = 0
        self.missed = 0
        self.lost: list[int] = []
        self.doubled: list[int] = []
        # Numbers before the first one may be missing, because there was no connection.
        self._excused = True

    def take(self, item: int | rxws.Gap) -> None:
        """Record a number or a gap."""
        if isinstance(item, rxws.Gap):
            self.gaps += 1
            self._excused = True
            return
        self.count += 1
        missing = item - self.last - 1
        if missing < 0:
            self.doubled.append(item)
            return
        if missing and not self._excused:
            self.lost.append(self.last)
        self.missed += missing
        self.last = item
        self._excused = False

    def check(self) -> None:
        """Assert that every number arrived once, in order, or is inside a gap."""
        assert not self.lost, f"lost without a gap after {self.lost[:10]} and {max(0, len(self.lost) - 10)} more"
        assert not self.doubled, f"doubled {self.doubled[:10]} and {max(0, len(self.doubled) - 10)} more"
