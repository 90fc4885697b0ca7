"""The habits of notebooks: what stays open from one cell to the next, and what widgets call."""

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
"""Seconds that what a cell kept is given to be left, before anything is entered anew."""

_LEAVING: Final[set[asyncio.Task[None]]] = set()
"""What :func:`keep` kept, and is being left."""


async def keep(context: AbstractAsyncContextManager[T]) -> T:
    """Enter ``async with context`` and stay in it, until the cell is run again or the kernel ends.

    A cell cannot be inside a block that another began; this is for what is to stay open from one cell to the next.
    When the cell is run again, what it kept is left before anything is entered anew.

    Args:
        context: a feed, a server, a stream: anything that ``async with`` takes.

    Returns:
        What ``async with context as …`` gives.

    Raises:
        TypeError: it is nothing that ``async with`` takes.
        BaseException: what entering raises.

    Example::

        exchange = await keep(rxws.demo.serve())
    """
    if not hasattr(type(context), "__aenter__"):
        hint = ": are its parentheses missing?" if callable(context) else ""
        raise TypeError(f"keep takes what 'async with' takes, such as rxws.demo.serve(), not {context!r}{hint}")
    entered: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    leave = asyncio.Event()

    async def stay() -> None:
        # All of it in one task, as some contexts need it.
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
    """Wait for what is being left. Not in the task's own frame, which lives on, and would keep what they raised."""
    if former:
        _, late = await asyncio.wait(former, timeout=LEAVE_TIMEOUT)
        if late:
            _LOGGER.warning("what a cell kept has not been left for %g s: going on without waiting", LEAVE_TIMEOUT)


def callback(function: Callable[P, object]) -> Callable[P, None]:
    """Make of a function, or a coroutine function, what a widget can call from any thread: it runs on this event loop.

    Kernels call back from another thread while a cell runs, and a feed belongs to its loop's thread. What the function
    raises is logged. The handlers and views that it makes are those of the cell that made the callback, and go when
    that is run again.

    Raises:
        TypeError: it is no function.
        RuntimeError: outside a running event loop.

    Example::

        button.on_click(callback(lambda button: ws.rotate()))
    """
    if not callable(function):
        raise TypeError(f"callback takes a function, not {function!r}")
    loop = asyncio.get_running_loop()
    # The kernel knows by it which cell runs; of a widget's message it knows none.
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
