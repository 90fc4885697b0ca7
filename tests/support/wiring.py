"""The parts of a feed without a connection. The test itself routes messages."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from reactivex import abc

from rxws.messages.filters import Filter
from rxws.messages.router import Router
from rxws.observables.buffer import DEFAULT_MAXSIZE, Overflow
from rxws.observables.hot import HotObservable
from rxws.observables.loop_context import LoopContext
from rxws.reporting.events import Event, Gap
from rxws.reporting.reporter import Reporter
from rxws.streams.handlers import CoroutineHandler, FunctionHandler, make_handler
from rxws.streams.stream import Stream
from rxws.streams.stream_options import StreamOptions


class Wiring:
    """A router on the running loop, with its reporter and its events."""

    def __init__(self, name: str = "feed") -> None:
        self.loop = asyncio.get_running_loop()
        self.reporter = Reporter(self.loop, name)
        self.context = LoopContext(self.loop, self.reporter)
        self.events: HotObservable[Event] = HotObservable(self.context.without_events())
        self.reporter.publish = self.events.on_next
        self.router = Router(self.context)
        self.seen: list[Any] = []
        """All events so far."""
        self.events.subscribe(self.seen.append)

    def route(self, *messages: Any) -> None:
        """Route messages."""
        for message in messages:
            self.router.route(message)

    def stream(
        self,
        filters: object = None,
        *,
        maxsize: int | None = DEFAULT_MAXSIZE,
        overflow: Overflow = "error",
        gaps: bool = False,
        copy: bool = False,
    ) -> Stream[Any]:
        """Make a stream as a feed does."""
        options = StreamOptions(maxsize, overflow, gaps, copy)
        return Stream(self.router, Filter.parse(filters), options)

    def receiver(
        self,
        function: Callable[[Any], Any],
        filters: object = None,
        *,
        maxsize: int | None = DEFAULT_MAXSIZE,
        overflow: Overflow = "error",
    ) -> FunctionHandler | CoroutineHandler:
        """Make and register a handler."""
        receiver = make_handler(self.router, function, StreamOptions(maxsize, overflow))
        self.router.add(receiver, Filter.parse(filters))
        return receiver

    def handler(self, function: Callable[[Any], Any], filters: object = None, **options: Any) -> abc.DisposableBase:
        """Add a handler as a feed does."""
        return self.context.disposable(self.receiver(function, filters, **options).dispose)

    def gap(self, last_message: Any = None) -> Gap:
        """Make a gap."""
        return Gap(start=1.0, end=2.0, reason="server", last_message=last_message, name=self.reporter.name, time=2.0)


def never_asked(*_: Any) -> None:
    """Fail: used as the function that sends replies in tests without a reply hook."""
    raise AssertionError("a reply was to be sent")


async def settle() -> None:
    """Let all tasks run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


def in_thread(function: Callable[[], Any]) -> Any:
    """Return what a function returns in another thread, or raise what it raises there."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((function(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    result, error = outcome[0]
    if error is not None:
        raise error
    return result


def subscribed(observable: Any, **options: Any) -> list[Any]:
    """Subscribe; return a list to which the items are appended, and ("end", error) at the end."""
    items: list[Any] = []
    observable.subscribe(
        items.append, lambda error: items.append(("end", error)), lambda: items.append(("end", None)), **options
    )
    return items


def emit(hot: Any, *items: Any) -> None:
    """Emit items, one after the other."""
    for item in items:
        hot.on_next(item)


async def emit_at(hot: Any, *times: float) -> None:
    """Emit each of these times as an item, at that time of the loop's virtual clock."""
    loop = asyncio.get_running_loop()
    for due in times:
        await asyncio.sleep(due - loop.time())
        hot.on_next(due)
