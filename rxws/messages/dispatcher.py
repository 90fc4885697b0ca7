"""What a frame meets on its way to the router: answers, rejections, those who watch; one frame may be many messages."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, TypeVarTuple

from ..connections.connection import Connection, Sink
from ..observables.hot import HotObservable
from ..observables.observable import LoopContext
from ..reporting.cancellation import FAILURES
from ..reporting.events import MessageRejected
from ..reporting.redaction import redact
from .frames import Frame
from .router import Router

__all__ = ["FrameDispatcher", "Many", "ParseHooks", "hold_behind"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

SLICE: Final = 0.010
"""Seconds for which frames may be delivered in one go, before other tasks get their turn."""

_STEP: Final = 32
"""How many frames that were held are delivered between two looks at the clock."""


class Many(tuple[T, ...], Generic[T]):
    """What a parse hook returns for a frame that holds several messages, or none: ``Many(items)``, ``Many()``.

    Each item is a message of its own.

    Example::

        async def _parse_raw_data(self, raw_data):
            return rxws.Many(json.loads(raw_data))          # a JSON array of messages
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class ParseHooks:
    """The hooks that a frame meets; those that are None are not asked."""

    parse: Callable[[Frame], Any]
    reply: Callable[[Frame], Any] | None
    identity: Callable[[Any], Hashable] | None
    per_connection: Callable[[Any], bool] | None


def hold_behind(held: deque[tuple[*Ts]], items: Sequence[tuple[*Ts]], deliver: Callable[[*Ts], None]) -> None:
    """Hold what comes while held items are being delivered.

    Two are delivered for each that comes, so that what is held becomes less however much comes.
    """
    held.extend(items)
    _deliver_some(held, deliver, 2 * len(items))


def _deliver_some(held: deque[tuple[*Ts]], deliver: Callable[[*Ts], None], count: int) -> None:
    for _ in range(min(len(held), count)):
        deliver(*held.popleft())


class FrameDispatcher:
    """Makes messages of frames, and hands them to the sink of their connection: mostly that is the router."""

    def __init__(
        self, context: LoopContext, router: Router, hooks: ParseHooks, answer: Callable[[Connection, Any], None]
    ) -> None:
        self.frames: HotObservable[tuple[Frame, int, int]] = HotObservable(context)
        self.hooks: Final = hooks
        self.kept: tuple[bool, ...] | None = None
        """Which of its messages are delivered of the frame that those who watch the frames are given; None: all."""
        self._context = context
        self._router = router
        self._answer = answer

    def dispatch(self, connection: Connection, frame: Frame, message: Any, received: int) -> None:
        """Hand a message on where it is not simply for the router."""
        if connection.pending_replies:
            items = message if type(message) is Many else (message,)
            others = [item for item in items if not connection.resolve_reply(item)]
            if connection.is_held and len(others) < len(items):
                # An answer to what was asked on this connection alone: there is no copy of it on the other.
                self._context.reporter.counters.discarded += len(items) - len(others)
                if not others:
                    return
                message = Many(others)
        (connection.sink or self.direct_sink(connection.number))(frame, message, received)

    def reject(self, frame: Frame, error: BaseException) -> None:
        """Skip a frame that could not be parsed."""
        reporter = self._context.reporter
        reporter.counters.rejected += 1
        reporter.log(logging.WARNING, "a frame of %d characters was rejected: %s", len(frame), redact(repr(error)))
        reporter.emit(MessageRejected, raw=frame, error=error, count=reporter.counters.rejected)

    def reply(self, connection: Connection, frame: Frame) -> None:
        """Ask what is to be sent back, and send it."""
        reply = self.hooks.reply
        assert reply is not None
        try:
            answer = reply(frame)
            if answer is not None:
                self._answer(connection, answer)
        except FAILURES as error:
            self._context.reporter.failed(reply, frame, error)

    async def catch_up(self, held: deque[tuple[*Ts]], deliver: Callable[[*Ts], None]) -> None:
        """Deliver what is held, and behind it what is added meanwhile; other tasks have their turns in between.

        What is added is added with :func:`hold_behind`, or there may be no end.
        """
        clock = self._context.loop.time
        began = clock()
        while held:
            _deliver_some(held, deliver, _STEP)
            if clock() - began > SLICE:
                await asyncio.sleep(0)
                began = clock()

    def direct_sink(self, number: int) -> Sink:
        """Return the sink that delivers at once what comes on the connection of this number."""
        frames, route = self.frames, self._router.route

        def deliver(frame: Frame, message: Any, received: int) -> None:
            if received:
                frames.on_next((frame, received, number))
            if type(message) is Many:
                for item in message:
                    route(item)
            else:
                route(message)

        return deliver

    def deliver_kept(
        self, deliver: Sink, frame: Frame, message: Many[Any], kept: tuple[bool, ...], received: int
    ) -> None:
        """Deliver those of a frame's messages that are kept."""
        self.kept = kept
        try:
            deliver(frame, Many(itertools.compress(message, kept)), received)
        finally:
            self.kept = None
