"""Reads the pages of a history: the past messages that a function of the user fetches."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

from ..reporting.quoting import quoted_repr

__all__ = ["History", "pages_of"]

#: Fetches messages that are missing: ``history(after, before)``, or ``history(key, after, before)``.
History = Callable[..., Awaitable[Any] | AsyncIterator[Any]]

#: Seconds after which one page of a history fails.
PAGE_TIMEOUT: Final = 10.0


async def pages_of(answer: Any) -> AsyncIterator[Sequence[Any]]:
    """Yield the pages of a history: the list that it returns, or those of its async iterator.

    Raises:
        TypeError: it is neither.
        TimeoutError: a page took too long.
    """
    if inspect.isawaitable(answer):
        answer = await _limited(answer)
    if isinstance(answer, AsyncIterable):
        # The event loop closes an async generator that is not exhausted.
        pages = aiter(answer)
        with contextlib.suppress(StopAsyncIteration):
            while True:
                yield _checked(await _limited(anext(pages)), "yield lists")
    else:
        yield _checked(answer, "return a list of messages, or an async iterator of such lists")


def _checked(page: Any, expected: str) -> Sequence[Any]:
    if not isinstance(page, list | tuple):
        raise TypeError(f"the history must {expected}, not {quoted_repr(page)}")
    return page


async def _limited(page: Awaitable[Any]) -> Any:
    """Return the result of an awaitable.

    It runs in its own task, because a function that ignores its cancellation must not make the messages wait.

    Raises:
        TimeoutError: it took too long.
    """
    task = asyncio.ensure_future(page)
    # Retrieve the exception even if the task is given up, because asyncio would log it.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        await asyncio.wait({task}, timeout=PAGE_TIMEOUT)
    finally:
        is_done = task.done()
        task.cancel()
    if not is_done:
        raise TimeoutError(f"no answer within {PAGE_TIMEOUT:g} s")
    return task.result()
