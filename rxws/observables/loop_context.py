"""The context of Observables: their event loop, its clock, and the reporter of their errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from weakref import WeakSet

from reactivex.disposable import Disposable

from ..reporting.reporter import Reporter
from .buffer import Buffer
from .scheduler import Clock, LoopScheduler

__all__ = ["LoopContext", "running_loop"]


@dataclass(slots=True, eq=False)
class LoopContext:
    """The event loop of Observables, its scheduler, and the reporter of their errors.

    Attributes:
        loop: the event loop.
        reporter: reports errors that no subscriber handles.
        clock: the clock of the scheduler; None for the loop's.
        consumers: the buffers that have a consumer, if the producer (a replay) can wait for consumers; None if it
            cannot.
        scheduler: runs timed operators on the clock.
    """

    loop: asyncio.AbstractEventLoop
    reporter: Reporter
    clock: Clock | None = None
    consumers: WeakSet[Buffer[Any]] | None = None
    scheduler: LoopScheduler = field(init=False)

    def __post_init__(self) -> None:
        failed = partial(self.reporter.raised, "a timed operator's subscriber", None)
        self.scheduler = LoopScheduler(self.loop, failed, self.clock)

    def check(self) -> None:
        """Raise RuntimeError unless the caller runs in the loop, on its thread."""
        # Not get_running_loop, which raises another error without a running loop.
        if asyncio._get_running_loop() is not self.loop:
            raise RuntimeError(
                f"{self.reporter.name} belongs to the event loop in which it was made: use it from that loop only "
                "(from another thread with loop.call_soon_threadsafe or asyncio.run_coroutine_threadsafe)"
            )

    def unhandled(self, error: Exception) -> None:
        """Report an error of a subscription without ``on_error``."""
        self.reporter.failed("a subscription without on_error", None, error)

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function on the loop's thread.

        It is called now if this is that thread or if the loop is closed, and otherwise in a later callback.
        """
        if asyncio._get_running_loop() is self.loop:
            function(*arguments)
        else:
            self.call_from_finalizer(function, *arguments)

    def call_from_finalizer(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function on the loop's thread in a later callback, or now if the loop is closed.

        Use it in ``__del__``, because a garbage collection may run in any thread and at any allocation.
        """
        here = asyncio._get_running_loop() is self.loop
        try:
            (self.loop.call_soon if here else self.loop.call_soon_threadsafe)(function, *arguments)
        except RuntimeError:
            # The loop is closed, so this call cannot interrupt code that runs in it.
            function(*arguments)

    def disposable(self, dispose: Callable[[], None]) -> Disposable:
        """Return a Disposable that may be disposed from any thread; ``dispose`` runs on the loop's thread."""
        return Disposable(lambda: self.call(dispose))

    def consumed(self, buffer: Buffer[Any]) -> None:
        """Record that ``buffer`` has a consumer from now on."""
        if self.consumers is not None:
            self.consumers.add(buffer)

    def without_events(self) -> LoopContext:
        """Return a copy of this context that logs and counts failures but emits no events."""
        return replace(self, reporter=self.reporter.without_events())


def running_loop(kind: str) -> asyncio.AbstractEventLoop:
    """Return the running event loop.

    Args:
        kind: the name of the class that needs it, for the error.

    Raises:
        RuntimeError: no event loop runs in this thread.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        where = "in a coroutine that asyncio.run runs, or in a notebook's cell"
        raise RuntimeError(f"{kind} must be made inside a running event loop: {where}") from None
