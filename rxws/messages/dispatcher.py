"""What a frame meets on its way to the router: replies, rejections, subscribers of frames."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import Any, Final

from ..observables.hot import HotObservable
from ..observables.loop_context import LoopContext
from ..reporting.cancellation import FAILURES
from ..reporting.events import MessageRejected
from ..reporting.redaction import redact
from .frames import Frame
from .hooks import Many, ParseHooks
from .inbound import Inbound, Sink
from .router import Router

__all__ = ["FrameDispatcher"]


class FrameDispatcher:
    """Makes messages of frames, and hands them to the sink of their connection: mostly that is the router.

    Attributes:
        frames: the frames that come, each with when it was received and the number of its connection.
        hooks: the hooks that a frame meets.
        router: where the messages go.
        reporter: counts and reports what fails.
        kept: which messages are delivered of the frame that those who watch the frames are given; None: all.
    """

    def __init__(self, context: LoopContext, router: Router, hooks: ParseHooks) -> None:
        self.frames: HotObservable[tuple[Frame, int, int]] = HotObservable(context)
        self.hooks: Final = hooks
        self.router: Final = router
        self.reporter: Final = context.reporter
        self.kept: tuple[bool, ...] | None = None

    def dispatch(self, inbound: Inbound, frame: Frame, message: Any, received: int) -> None:
        """Hand a message on where it is not simply for the router."""
        if inbound.pending_replies:
            items = message if type(message) is Many else (message,)
            others = [item for item in items if not inbound.resolve_reply(item)]
            if inbound.is_held and len(others) < len(items):
                # An answer to what was asked on this connection alone: there is no copy of it on the other.
                self.reporter.counters.discarded += len(items) - len(others)
                if not others:
                    return
                message = Many(others)
        (inbound.sink or self.direct_sink(inbound.number))(frame, message, received)

    def reject(self, frame: Frame, error: BaseException) -> None:
        """Skip a frame that could not be parsed."""
        reporter = self.reporter
        reporter.counters.rejected += 1
        reporter.log(logging.WARNING, "a frame of %d characters was rejected: %s", len(frame), redact(repr(error)))
        reporter.emit(MessageRejected, raw=frame, error=error, count=reporter.counters.rejected)

    def reply(self, inbound: Inbound, frame: Frame, reply: Callable[[Frame], Any]) -> None:
        """Ask what is to be sent back, and send it."""
        try:
            answer = reply(frame)
            if answer is not None:
                inbound.answer(answer)
        except FAILURES as error:
            self.reporter.failed(reply, frame, error)

    def direct_sink(self, number: int) -> Sink:
        """Return the sink that delivers at once what comes on the connection of this number."""
        frames, route = self.frames, self.router.route

        def deliver(frame: Frame, message: Any, received: int) -> None:
            if received:
                frames.on_next((frame, received, number))
            if type(message) is Many:
                for item in message:
                    route(item)
            else:
                route(message)

        return deliver

    def deliver_kept(self, sink: Sink, frame: Frame, message: Many[Any], kept: tuple[bool, ...], received: int) -> None:
        """Deliver those of a frame's messages that are kept."""
        self.kept = kept
        try:
            sink(frame, Many(itertools.compress(message, kept)), received)
        finally:
            self.kept = None
