"""Handlers: functions and coroutine functions that are called with each message."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from ..callables import is_coroutine_function, is_generator_function, name_of
from ..errors import StreamOverflow
from ..messages.router import Router
from ..observables.buffer import Buffer
from ..observables.loop_context import LoopContext
from ..reporting.cancellation import EXITS, FAILURES, is_torn_down
from ..reporting.events import Gap
from .stream_options import StreamOptions

__all__ = ["CoroutineHandler", "FunctionHandler", "make_handler"]


class FunctionHandler:
    """A plain function, called as each message comes."""

    def __init__(self, context: LoopContext, router: Router, function: Callable[[Any], object]) -> None:
        self._context = context
        self._router = router
        self._function = function
        self._disposed = False

    def on_message(self, message: Any, /) -> None:
        """Call the function."""
        # Disposed by a sibling, for this very message.
        if self._disposed:
            return
        try:
            result = self._function(message)
            # A task or a future goes on by itself.
            if result is not None and inspect.isawaitable(result) and not asyncio.isfuture(result):
                raise _never_awaited(self._function, result)
        except FAILURES as error:
            self._context.reporter.failed(self._function, message, error)

    def on_gap(self, gap: Gap, /) -> None:
        """A handler gets messages only."""

    def on_end(self, error: Exception | None, /) -> None:
        """Nothing is held, so nothing is left to do."""

    def __len__(self) -> int:
        return 0

    def dispose(self) -> None:
        """Call the function no more."""
        self._disposed = True
        self._router.remove(self)


class CoroutineHandler(Buffer[Any]):
    """A coroutine function with a queue of its own, so that it delays nobody: one message at a time, in order."""

    __slots__ = ("_cancelled", "_context", "_function", "_router", "task")

    def __init__(
        self, context: LoopContext, router: Router, function: Callable[[Any], Awaitable[object]], options: StreamOptions
    ) -> None:
        super().__init__(context.loop, context.reporter, options.maxsize, options.overflow)
        self._context = context
        self._router = router
        self._function = function
        self._cancelled = False
        context.consumed(self)
        self.task = context.loop.create_task(self._run(), name=f"rxws handler {name_of(function)}")

    on_message = Buffer.put

    def describe(self) -> str:
        """Name the handler by its function."""
        return f"handler {name_of(self._function)}"

    def on_gap(self, gap: Gap, /) -> None:
        """A handler gets messages only."""

    def on_end(self, error: Exception | None, /) -> None:
        """Go on with what is held, then end."""
        self.close()

    def overflowed(self) -> None:
        """End when what is held is done: the queue was full."""
        self._router.remove(self)

    def dispose(self) -> None:
        """Call the function no more; a call that is under way comes to its end."""
        self._router.remove(self)
        self.clear()
        self.close()

    def cancel(self) -> None:
        """Cut a call that is under way short, and end."""
        self._cancelled = True
        self.dispose()
        self.task.cancel()

    async def _run(self) -> None:
        try:
            while True:
                await self._call(await self.get())
        except StopAsyncIteration:
            pass
        except StreamOverflow as error:
            self._context.reporter.failed(self._function, None, error)
        except GeneratorExit as error:
            # Not where the loop is gone and its tasks are collected: this one is not running then.
            if asyncio._get_running_loop() is self._context.loop and asyncio.current_task() is self.task:
                self._context.reporter.failed(self._function, None, error)
            raise
        except asyncio.CancelledError as error:
            # Somebody cancelled the task while it waited: nobody else would say why the function is called no more.
            if not (self._cancelled or is_torn_down()):
                self._context.reporter.failed(self._function, None, error)
            raise
        finally:
            # A queue that nobody empties must not fill.
            self.dispose()

    async def _call(self, message: Any) -> None:
        try:
            await self._function(message)
            if self.task.cancelling():
                # It was cancelled, by itself perhaps, and has not waited since: not at the expense of the next message.
                await asyncio.sleep(0)
        except EXITS:
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and (self._cancelled or is_torn_down()):
                raise
            self._context.reporter.failed(self._function, message, error)
        # A cancellation that did not come from here is the function's own failure: the next message is due.
        while self.task.uncancel():
            pass


def make_handler(
    context: LoopContext, router: Router, function: Callable[[Any], object], options: StreamOptions
) -> FunctionHandler | CoroutineHandler:
    """Make the receiver that calls ``function``.

    Raises:
        TypeError: if it is not callable, or a generator function.
    """
    if not callable(function):
        raise TypeError(f"function_or_coroutine_function must be callable with a message, not {function!r}")
    if is_generator_function(function):
        raise TypeError(f"{name_of(function)} is a generator function, whose code would never run: it must not yield")
    if is_coroutine_function(function):
        return CoroutineHandler(context, router, function, options)  # type: ignore[arg-type]
    return FunctionHandler(context, router, function)


def _never_awaited(function: Callable[[Any], object], result: object) -> TypeError:
    if inspect.iscoroutine(result):
        result.close()
    return TypeError(
        f"{name_of(function)} is a plain function that returned an awaitable, which nobody awaits: "
        "give add_handler the coroutine function itself"
    )
