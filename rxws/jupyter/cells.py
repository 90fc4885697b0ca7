"""``keep`` for contexts that stay open after a cell, and ``callback`` for functions that widgets call."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, ParamSpec, TypeVar

from ..display import on_rerun

__all__ = ["callback", "keep"]

T = TypeVar("T")
P = ParamSpec("P")

_LOGGER: Final = logging.getLogger("rxws.jupyter")


LEAVE_TIMEOUT: Final = 10.0
"""Seconds that :func:`keep` waits for earlier contexts to be left before it enters a new one."""

_LEAVING: Final[set[asyncio.Task[None]]] = set()
"""The tasks of :func:`keep` that are leaving their contexts."""


async def keep(context: AbstractAsyncContextManager[T]) -> T:
    """Enter ``async with context``, and stay inside until the cell is run again or the kernel ends.

    An ``async with`` block cannot extend over several cells, so use this function for a context that has to stay open
    after its cell. When the cell is run again, rxws leaves the former context before it enters the new one; it waits
    at most 10 seconds for that. Cancelling ``keep`` cancels entering.

    Args:
        context: a feed, a server, a stream, or any other async context manager.

    Returns:
        The value of ``async with context as value``.

    Raises:
        TypeError: ``context`` is not an async context manager.
        BaseException: the exception that entering the context raised.

    Example::

        exchange = await keep(rxws.demo.serve())
    """
    if not hasattr(type(context), "__aenter__"):
        hint = ": are its parentheses missing?" if callable(context) else ""
        raise TypeError(f"keep takes what 'async with' takes, such as rxws.demo.serve(), not {context!r}{hint}")
    entered: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    leave = asyncio.Event()

    async def stay() -> None:
        # Some contexts must be entered and left in the same task.
        try:
            await _until_left(_LEAVING - {asyncio.current_task()})
            async with context as value:
                entered.set_result(value)
                await leave.wait()
        except BaseException as error:
            if entered.done() or not isinstance(error, Exception):
                entered.cancel()
                raise
            entered.set_exception(error)

    def end() -> None:
        _LEAVING.add(task)
        task.add_done_callback(_LEAVING.discard)
        leave.set()

    task = asyncio.create_task(stay(), name="rxws keep")
    call_off = on_rerun(end)
    task.add_done_callback(lambda _: call_off())
    try:
        return await asyncio.shield(entered)
    except asyncio.CancelledError:
        task.cancel()
        raise


async def _until_left(former: set[asyncio.Task[None]]) -> None:
    """Wait until the former contexts are left.

    This is a separate function, because the frame of ``stay`` stays alive with the context, and would keep the
    exceptions of the former tasks alive.
    """
    if former:
        _, late = await asyncio.wait(former, timeout=LEAVE_TIMEOUT)
        if late:
            _LOGGER.warning(
                "a kept context has not been left within %g s: the new one is entered without waiting", LEAVE_TIMEOUT
            )


def callback(function: Callable[P, object]) -> Callable[P, None]:
    """Wrap a function or coroutine function so that a widget can call it from any thread.

    The function runs on the event loop of the caller of :func:`callback`. While a cell runs, the kernel may call
    widgets' callbacks from another thread, but a feed must be used in the thread of its event loop. Exceptions of the
    function are logged. Handlers and views that the function makes belong to the cell that called :func:`callback`, and
    are removed when that cell is run again.

    Args:
        function: a function or coroutine function. Its result is ignored.

    Returns:
        A function with the same arguments, which returns None at once.

    Raises:
        TypeError: ``function`` is not callable.
        RuntimeError: there is no running event loop.

    Example::

        button.on_click(callback(lambda button: ws.rotate()))
    """
    if not callable(function):
        raise TypeError(f"callback takes a function, not {function!r}")
    loop = asyncio.get_running_loop()
    # The context identifies the cell. When a widget calls the function, the kernel itself does not know the cell.
    context = contextvars.copy_context()
    tasks: set[asyncio.Future[Any]] = set()

    def call(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            result = function(*args, **kwargs)
        except Exception as error:
            _LOGGER.error("a callback raised", exc_info=error)
            return
        if inspect.isawaitable(result):
            task = asyncio.ensure_future(result)
            tasks.add(task)
            task.add_done_callback(ended)

    def ended(task: asyncio.Future[Any]) -> None:
        tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _LOGGER.error("a callback raised", exc_info=task.exception())

    @functools.wraps(function)
    def from_any_thread(*args: P.args, **kwargs: P.kwargs) -> None:
        loop.call_soon_threadsafe(lambda: call(*args, **kwargs), context=context)

    return from_any_thread
