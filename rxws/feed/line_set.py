"""Several lines as one source of frames: what the lines with equal messages and those with different channels share."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

from ..connections.connection import Connection
from ..connections.line import Line
from ..connections.opener import RotationHost
from ..messages.frames import Websocket
from ..messages.router import Router
from ..observables.loop_context import LoopContext
from ..reporting.event import GapReason
from ..reporting.state import State

__all__ = ["LineHost", "LineSet"]

L = TypeVar("L", bound=Line)


class LineHost:
    """What one line sees of the feed.

    Args:
        feed: the feed.
        lines: the lines of the feed.
        line: 1 for the first line.

    Attributes:
        line: 1 for the first line.
        state: the state of the line.
        failed_with: the error with which the line has failed; None: it has not failed.
    """

    def __init__(self, feed: RotationHost, lines: LineSet[Any], line: int) -> None:
        self.line = line
        self.state = State.CONNECTING
        self.failed_with: BaseException | None = None
        self._feed = feed
        self._lines = lines

    @property
    def opening(self) -> str:
        """The name of the user's opening hook, or the address."""
        return self._feed.opening

    async def wait_for_handshake(self) -> None:
        """Wait until the feed allows a handshake."""
        await self._feed.wait_for_handshake()

    async def create(self, address: int) -> Websocket:
        """Run the opening hook."""
        return await self._feed.create(address)

    async def wait_rotation_due(self) -> None:
        """Run the rotation hook."""
        await self._feed.wait_rotation_due()

    def report_gap(self, start: float, end: float, reason: GapReason) -> None:
        """Report a Gap to the streams whose messages arrive on this line."""
        self._lines.report_gap(self, start, end, reason)

    def enter(self, state: State) -> None:
        """Set the state of the line."""
        self.state = state
        self._lines.enter()

    def failed(self, error: BaseException) -> None:
        """Called when the line has failed."""
        self.failed_with = error
        self._lines.failed(self, error)


class LineSet(ABC, Generic[L]):
    """Several lines as one source of frames.

    A subclass decides which lines there are, and what the failure of one means.

    Args:
        context: the feed's event loop, scheduler and reporter.
        feed: the feed.
        router: announces gaps.
    """

    #: The feed has the first of these states that any of its lines has.
    order: ClassVar[tuple[State, ...]]

    def __init__(self, context: LoopContext, feed: RotationHost, router: Router) -> None:
        self._router = router
        self._loop = context.loop
        self._context = context
        self._reporter = context.reporter
        self._feed = feed
        self._lines: dict[LineHost, L] = {}
        self._rotating: asyncio.Task[bool] | None = None

    @property
    def all_lines(self) -> Iterable[L]:
        """The lines, and those that are being closed."""
        return list(self._lines.values())

    @property
    def connections(self) -> list[Connection]:
        """All open connections."""
        return [connection for line in self.all_lines for connection in line.connections]

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks that must end after :meth:`stop`, besides those of the connections."""
        own = [] if self._rotating is None else [self._rotating]
        return [*own, *(task for line in self.all_lines for task in line.tasks)]

    @property
    def last_received_at(self) -> float | None:
        """When the last message arrived, on the loop's clock; None before the first. May be read from any thread."""
        return max((at for line in self.all_lines if (at := line.last_received_at) is not None), default=None)

    @property
    def last_delivery_time(self) -> float | None:
        """When the last message was delivered, in seconds since the epoch; None before the first."""
        return max((at for line in self.all_lines if (at := line.last_delivery_time) is not None), default=None)

    def start(self) -> None:
        """Start all lines."""
        for line in self.all_lines:
            line.start()

    def stop(self) -> None:
        """Stop all lines. Idempotent."""
        for line in self.all_lines:
            line.stop()
        if self._rotating is not None:
            self._rotating.cancel()

    def rotate(self) -> asyncio.Future[bool]:
        """Rotate all lines, one after the other, unless they rotate already."""
        if self._rotating is None or self._rotating.done():
            self._rotating = self._loop.create_task(self._rotate(), name="rxws rotate lines")
        return asyncio.shield(self._rotating)

    async def _rotate(self) -> bool:
        # Wait for one line after the other. A generator in `all` would leave the others out after the first failure.
        # A line may be closed before its turn.
        hosts = list(self._lines)
        return all([await self._lines[each].rotate() for each in hosts if each in self._lines and not each.failed_with])

    def enter(self) -> None:
        """Set the state of the feed."""
        self._feed.enter(self._combined_state())

    def _combined_state(self) -> State:
        states = {host.state for host in self._lines if host.failed_with is None}
        return next(state for state in self.order if state in states)

    def report_gap(self, host: LineHost, start: float, end: float, reason: GapReason) -> None:
        """Report a Gap of a line to all streams."""
        self._router.report_gap(start, end, reason)

    @abstractmethod
    def failed(self, host: LineHost, error: BaseException) -> None:
        """Called when a line has failed."""

    @abstractmethod
    def statistics(self) -> Mapping[str, Any]:
        """Return fields of :class:`~rxws.Statistics`: a snapshot of each line. May be called from any thread."""
