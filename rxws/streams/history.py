"""Reads the pages of a history: the past messages that a function of the user fetches."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

from ..reporting.quoting import quoted_repr

__all__ = ["History", "Pages"]

#: Fetches messages that are missing: ``history(after, before)``, or ``history(key, after, before)``.
History = Callable[..., Awaitable[Any] | AsyncIterator[Any]]

#: Seconds after which one page of a history fails.
PAGE_TIMEOUT: Final = 10.0

_NO_PAGE: Final = object()


class Pages:
    """Reads histories. All keys share the limit of the pages that are fetched at the same time.

    The limit is for pages and not for whole holes, so that a key whose history hangs or never ends does not make the
    others wait for longer than a page.

    Args:
        concurrency: the number of pages that are fetched at the same time.
        timeout: the seconds after which a hole is given up. A page gets half of them at most.
    """

    def __init__(self, concurrency: int, timeout: float) -> None:
        self._slots = asyncio.Semaphore(concurrency)
        self._seconds = min(PAGE_TIMEOUT, timeout / 2)

    async def of(self, ask: Callable[[], Any]) -> AsyncIterator[Sequence[Any]]:
        """Yield the pages of a history: the list that it returns, or those of its async iterator.

        Args:
            ask: calls the history. It is called when the first page may be fetched.

        Raises:
            TypeError: it is neither.
            TimeoutError: a page took too long.
        """
        answer = await self._fetch(ask)
        if not isinstance(answer, AsyncIterable):
            yield _checked(answer, "return a list of messages, or an async iterator of such lists")
            return
        # The event loop closes an async generator that is not exhausted.
        following = functools.partial(anext, aiter(answer), _NO_PAGE)
        while (page := await self._fetch(following)) is not _NO_PAGE:
            yield _checked(page, "yield lists")

    async def _fetch(self, ask: Callable[[], Any]) -> Any:
        """Return the result of an awaitable that ``ask`` returns, or the result of ``ask``.

        The awaitable runs in its own task, because a function that ignores its cancellation must not make the messages
        wait.

        Raises:
            TimeoutError: it took too long.
        """
        async with self._slots:
            answer = ask()
            if not inspect.isawaitable(answer):
                return answer
            task = asyncio.ensure_future(_result(answer))
            # Retrieve the exception even if the task is given up, because asyncio would log it.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            try:
                await asyncio.wait({task}, timeout=self._seconds)
            finally:
                is_done = task.done()
                task.cancel()
            if not is_done:
                raise TimeoutError(f"no answer within {self._seconds:g} s")
            return task.result()


async def _result(answer: Awaitable[Any]) -> Any:
    # `anext` with a default returns an awaitable of which no task can be made.
    return await answer


def _checked(page: Any, expected: str) -> Sequence[Any]:
    if not isinstance(page, list | tuple):
        raise TypeError(f"the history must {expected}, not {quoted_repr(page)}")
    return page
