"""What a frame meets on its way to the router; and, while two connections overlap, how its messages are held."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from .connection import Connection, Sink
from .events import MessageRejected
from .frames import Frame
from .handover import Handover, Verdict
from .observable import Home, HotObservable
from .reporting import FAILURES
from .router import Router

__all__ = ["Delivery", "Many", "Overlap", "ParseHooks"]

T = TypeVar("T")


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


class Delivery:
    """Makes messages of frames, and hands them to the sink of their connection: mostly that is the router."""

    def __init__(
        self, home: Home, router: Router, hooks: ParseHooks, answer: Callable[[Connection, Any], None]
    ) -> None:
        self.frames: HotObservable[tuple[Frame, int, int]] = HotObservable(home)
        self.hooks: Final = hooks
        self._home = home
        self._router = router
        self._answer = answer

    def hand_on(self, connection: Connection, frame: Frame, message: Any, received: int) -> None:
        """Hand a message on where it is not simply for the router."""
        if connection.expected:
            items = message if type(message) is Many else (message,)
            others = [item for item in items if not connection.meet(item)]
            if connection.is_held and len(others) < len(items):
                # An answer to what was asked on this connection alone: there is no copy of it on the other.
                self._home.reporter.counters.discarded += len(items) - len(others)
                if not others:
                    return
                message = Many(others)
        (connection.sink or self.deliverer(connection.number))(frame, message, received)

    def reject(self, frame: Frame, error: BaseException) -> None:
        """Skip a frame that could not be parsed."""
        reporter = self._home.reporter
        reporter.counters.rejected += 1
        reporter.log(logging.WARNING, "a frame of %d characters was rejected: %r", len(frame), error)
        reporter.emit(
            MessageRejected(
                name=reporter.name, time=reporter.now(), raw=frame, error=error, count=reporter.counters.rejected
            )
        )

    def reply(self, connection: Connection, frame: Frame) -> None:
        """Ask what is to be sent back, and send it."""
        reply = self.hooks.reply
        assert reply is not None
        try:
            answer = reply(frame)
            if answer is not None:
                self._answer(connection, answer)
        except FAILURES as error:
            self._home.reporter.failed(reply, frame, error)

    def deliverer(self, number: int) -> Sink:
        """Return the sink that delivers at once what comes on the connection of this number."""
        frames, route = self.frames, self._router.route

        def deliver(frame: Frame, message: Any, received: int) -> None:
            if received:
                frames.emit((frame, received, number))
            if type(message) is Many:
                for item in message:
                    route(item)
            else:
                route(message)

        return deliver


@dataclass(slots=True)
class _Source:
    """The frame of messages that are held: it is one frame, however many they are."""

    frame: Frame
    received: int


class Overlap:
    """Two connections at once: the old one delivers, the new one is held, and then comes less what was delivered."""

    def __init__(
        self, home: Home, delivery: Delivery, router: Router, old: Connection, *, settle: float, timeout: float
    ) -> None:
        self._home = home
        self._delivery = delivery
        self._router = router
        self._now = home.loop.time
        self._handover: Handover[tuple[_Source, Any]] = Handover(settle=settle, timeout=timeout)
        self._deliver = delivery.deliverer(old.number)
        self._old = old
        self.discarded = 0
        old.sink = self._from_old

    @property
    def handover(self) -> Handover[tuple[_Source, Any]]:
        """What is known of the overlap."""
        return self._handover

    def hold(self, new: Connection) -> Sink:
        """Return the sink that holds what comes on the new connection, which is open."""
        new.is_held = True
        return self._from_new

    def subscribed(self) -> None:
        """Tell that everything is subscribed on the new connection."""
        self._handover.subscribed(self._now())

    def verdict(self) -> Verdict:
        """Whether the old connection may be closed now."""
        return self._handover.verdict(self._now())

    def release(self, new: Connection) -> None:
        """Deliver what is held, and from now on all that comes but copies: the old one has been read to its end."""
        new.is_held = False
        deliver = self._delivery.deliverer(new.number)
        for source, message in self._handover.old_ended(self._now()):
            deliver(source.frame, message, source.received)
            source.received = 0
        new.sink = lambda frame, message, received: self._after(deliver, frame, message, received)

    def give_up(self) -> None:
        """Forget the new connection: the old one delivers as if nothing had been."""
        self._old.sink = None

    def is_over(self) -> bool:
        """Whether all memory of the overlap has ended."""
        return self._handover.is_over(self._now())

    def _from_old(self, frame: Frame, message: Any, received: int) -> None:
        self._deliver(frame, message, received)
        now = self._now()
        for identity, item in self._units(frame, message):
            if not self._is_per_connection(item):
                self._handover.old_delivered(identity, now)

    def _from_new(self, frame: Frame, message: Any, received: int) -> None:
        now = self._now()
        if self._old.reader.done():
            self._handover.old_lost()
        source = _Source(frame, received)
        for identity, item in self._units(frame, message):
            if self._is_per_connection(item):
                self._discard()
            else:
                self._handover.hold(identity, (source, item), now)

    def _after(self, deliver: Sink, frame: Frame, message: Any, received: int) -> None:
        now = self._now()
        for identity, item in self._units(frame, message):
            if self._is_per_connection(item):
                self._discard()
            elif self._handover.is_copy(identity, now):
                self._home.reporter.counters.duplicates += 1
            else:
                deliver(frame, item, received)
                received = 0

    def _discard(self) -> None:
        self.discarded += 1
        self._home.reporter.counters.discarded += 1

    def _units(self, frame: Frame, message: Any) -> list[tuple[Hashable, Any]]:
        """Return the messages of a frame with what makes each the same on another connection."""
        if type(message) is not Many:
            return [(self._identity(frame, message), message)]
        if not message:
            return [(frame, message)]
        # By default the frame and the place in it: equal items of one frame are not each other's copies.
        return [(self._identity((frame, place), item), item) for place, item in enumerate(message)]

    def _identity(self, default: Hashable, message: Any) -> Hashable:
        identity = self._delivery.hooks.identity
        if identity is None:
            return default
        try:
            found = identity(message)
            # Now, and not in the midst of a handover: of what cannot be compared nothing is a copy.
            return found if hash(found) is not None and found == found else object()
        except FAILURES as error:
            self._home.reporter.failed(identity, message, error)
            # Equal to nothing: in doubt a message is delivered.
            return object()

    def _is_per_connection(self, message: Any) -> bool:
        per_connection = self._delivery.hooks.per_connection
        if per_connection is None or type(message) is Many:
            return False
        try:
            return bool(per_connection(message))
        except FAILURES as error:
            self._home.reporter.failed(per_connection, message, error)
            return False
