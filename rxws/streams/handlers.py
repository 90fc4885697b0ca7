"""Handlers: functions and coroutine functions that are called with each message."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from ..callables import is_coroutine_function, is_generator_function, name_of
from ..errors import StreamOverflow
from ..messages.router import Receiver, Router
from ..observables.buffer import Buffer
from ..observables.deferred import SKIPPED, Deferred
from ..reporting.cancellation import EXITS, RAISED, is_torn_down
from .stream_options import StreamOptions

__all__ = ["CoroutineHandler", "FunctionHandler", "make_handler"]


class FunctionHandler(Receiver):
    """A plain function that is called with each message when it arrives."""

    takes_deferred = True

    def __init__(self, router: Router, function: Callable[[Any], object]) -> None:
        self._reporter = router.context.reporter
        self._router = router
        self._function = function
        self._disposed = False

    def on_message(self, message: Any, /) -> None:
        """Call the function with a message, and report the exception that it raises."""
        # Another receiver of this message may have disposed this handler.
        if self._disposed:
            return
        if type(message) is Deferred:
            message = message.get()
            if message is SKIPPED:
                return
        try:
            result = self._function(message)
            # The function may return a task or a future, because these run without being awaited.
            if result is not None and inspect.isawaitable(result) and not asyncio.isfuture(result):
                raise _never_awaited(self._function, result)
        except RAISED as error:
            self._reporter.raised(self._function, message, error)

    def dispose(self) -> None:
        """Stop calling the function."""
        self._disposed = True
        self._router.remove(self)


class CoroutineHandler(Buffer[Any], Receiver):
    """A coroutine function that is called with each message, one call at a time, in order.

    Messages wait in the handler's own queue, so that a slow handler does not delay other receivers.
    """

    __slots__ = ("_cancelled", "_function", "_router", "task")

    def __init__(self, router: Router, function: Callable[[Any], Awaitable[object]], options: StreamOptions) -> None:
        context = router.context
        super().__init__(context.loop, context.reporter, options.maxsize, options.overflow, options.maxbytes)
        self._router = router
        self._function = function
        self._cancelled = False
        context.consumed(self)
        self.task = context.loop.create_task(self._run(), name=f"rxws handler {name_of(function)}")

    takes_deferred = True

    on_message = Buffer.put

    def describe(self) -> str:
        """Return the name of the handler's function."""
        return f"handler {name_of(self._function)}"

    def on_end(self, error: Exception | None, /) -> None:
        """Handle the waiting messages, then end."""
        self.close()

    def overflowed(self) -> None:
        """Unregister, because the queue was full. The waiting messages are still handled."""
        self._router.remove(self)

    def dispose(self) -> None:
        """Stop calling the function. A call that is running is not cancelled."""
        self._router.remove(self)
        self.clear()
        self.close()

    def cancel(self) -> None:
        """Cancel a running call, and end."""
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
            self._reporter.failed(self._function, None, error)
        except GeneratorExit as error:
            # If this task is running, the function raised this. Otherwise the loop is gone and the task is being
            # garbage collected, which is not a failure.
            if asyncio._get_running_loop() is self._loop and asyncio.current_task() is self.task:
                self._reporter.failed(self._function, None, error)
            raise
        except asyncio.CancelledError as error:
            # Other code cancelled the task while it waited for a message. No other report says why the calls stopped.
            if not (self._cancelled or is_torn_down()):
                self._reporter.failed(self._function, None, error)
            raise
        finally:
            # Unregister, so that a queue without a consumer does not fill.
            self.dispose()

    async def _call(self, message: Any) -> None:
        try:
            await self._function(message)
            if self.task.cancelling():
                # The function's task was cancelled, perhaps by the function itself, and the CancelledError was not
                # raised yet. Suspend here, so that it is raised now and does not affect the next message.
                await asyncio.sleep(0)
        except EXITS:
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and (self._cancelled or is_torn_down()):
                raise
            self._reporter.failed(self._function, message, error)
        # A cancellation by other code is a failure of this call only. Continue with the next message.
        while self.task.uncancel():
            pass


def make_handler(
    router: Router, function: Callable[[Any], object], options: StreamOptions
) -> FunctionHandler | CoroutineHandler:
    """Make the receiver that calls ``function``.

    Raises:
        TypeError: ``function`` is not callable, or is a generator function.
    """
    if not callable(function):
        raise TypeError(f"function_or_coroutine_function must be callable with a message, not {function!r}")
    if is_generator_function(function):
        raise TypeError(f"{name_of(function)} is a generator function, whose code would never run: it must not yield")
    if is_coroutine_function(function):
        return CoroutineHandler(router, function, options)  # type: ignore[arg-type]
    return FunctionHandler(router, function)


def _never_awaited(function: Callable[[Any], object], result: object) -> TypeError:
    if inspect.iscoroutine(result):
        result.close()
    return TypeError(
        f"{name_of(function)} is a plain function that returned an awaitable, which is never awaited: "
        "give add_handler the coroutine function itself"
    )
