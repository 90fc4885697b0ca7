"""The habits of notebooks: what stays open from one cell to the next, and what widgets call."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, ParamSpec, TypeVar

from ..notebook import on_rerun

__all__ = ["callback", "keep"]

T = TypeVar("T")
P = ParamSpec("P")

_LOGGER: Final = logging.getLogger("rxws.jupyter")


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
        BaseException: what entering raises.

    Example::

        exchange = await keep(rxws.demo.serve())
    """
    entered: asyncio.Future[T] = asyncio.get_running_loop().create_future()
    leave = asyncio.Event()

    async def stay() -> None:
        # All of it in one task, as some contexts need it.
        try:
            former = _LEAVING - {asyncio.current_task()}
            if former:
                await asyncio.wait(former)
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


def callback(function: Callable[P, object]) -> Callable[P, None]:
    """Make of a function, or a coroutine function, what a widget can call from any thread: it runs on this event loop.

    Kernels call back from another thread while a cell runs, and a feed belongs to its loop's thread. What the function
    raises is logged.

    Raises:
        RuntimeError: outside a running event loop.

    Example::

        button.on_click(callback(lambda button: ws.rotate()))
    """
    loop = asyncio.get_running_loop()
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
        loop.call_soon_threadsafe(lambda: call(*args, **kwargs))

    return from_any_thread
