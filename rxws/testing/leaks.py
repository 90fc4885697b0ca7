"""A check for leaks: tasks, file descriptors and timers that a block leaves behind."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

__all__ = ["assert_no_leaks"]


@asynccontextmanager
async def assert_no_leaks(*, timeout: float = 1.0) -> AsyncIterator[None]:
    """Assert that the block leaves no task, file descriptor or pending timer behind.

    File descriptors are found where the system lists them (``/proc/self/fd`` or ``/dev/fd``). Timers and in-memory
    sockets are found on asyncio's own loops and loops derived from them (not on uvloop). If the block raises, nothing
    is checked.

    Args:
        timeout: seconds after the block within which its tasks and connections must have ended.

    Raises:
        AssertionError: something leaked; the message lists it.

    Example::

        async with assert_no_leaks():
            async with Feed() as feed:
                ...
    """
    loop = asyncio.get_running_loop()
    tasks, descriptors, timers = asyncio.all_tasks(), _descriptors(loop), _timers(loop)
    yield
    deadline = loop.time() + timeout
    pause = 0.001
    while True:
        # Sleep first, so that tasks that are about to end can run. The sleep's own timer is gone at the check.
        await asyncio.sleep(pause)
        leaks = [
            # Leave out the present task, because the end of a fixture runs in another task than its beginning.
            *_describe_tasks(asyncio.all_tasks() - tasks - {asyncio.current_task()}),
            *(f"file descriptor {number}: {target}" for number, target in sorted(_descriptors(loop) - descriptors)),
            *(f"timer: {callback} ({count} more than before)" for callback, count in (_timers(loop) - timers).items()),
        ]
        if not leaks:
            return
        if loop.time() >= deadline:
            raise AssertionError("\n  ".join(["the block left behind:", *leaks]))
        pause = min(pause * 2, 0.05)


def _describe_tasks(tasks: Iterable[asyncio.Task[Any]]) -> Iterable[str]:
    for task in sorted(tasks, key=asyncio.Task.get_name):
        where = " < ".join(f"{os.path.basename(f.f_code.co_filename)}:{f.f_lineno}" for f in task.get_stack(limit=3))
        yield f"task {task.get_name()}: {getattr(task.get_coro(), '__qualname__', task.get_coro())} at {where}"


def _descriptors(loop: asyncio.AbstractEventLoop) -> set[tuple[int, str]]:
    """Return the open file descriptors, and the sockets that exist only in memory.

    A descriptor is returned with its target, because the system reuses the numbers of closed descriptors.
    """
    found = set()
    selector = getattr(loop, "_selector", None)
    for folder in ("/proc/self/fd", "/dev/fd"):
        if os.path.isdir(folder):
            for name in os.listdir(folder):
                try:
                    target = os.readlink(f"{folder}/{name}")
                except OSError:
                    # The descriptor that listed the folder is closed by now, or this system has no such links.
                    continue
                # libuv (a loop without asyncio's selector) keeps one descriptor of the null device in reserve.
                if target != os.devnull or selector is not None:
                    found.add((int(name), target))
            break
    if selector is not None:
        for key in (selector.get_map() or {}).values():
            if not isinstance(key.fileobj, int) and not isinstance(key.fileobj.fileno(), int):
                found.add((id(key.fileobj), f"in memory, {type(key.fileobj).__name__}"))
    return found


def _timers(loop: asyncio.AbstractEventLoop) -> Counter[str]:
    """Count pending timers by callback.

    Code that runs beside the block sets its timers again and again, so the timers differ and only their number can be
    compared.
    """
    return Counter(_name(handle._callback) for handle in getattr(loop, "_scheduled", ()) if not handle.cancelled())


def _name(callback: Any) -> str:
    inner = getattr(callback, "func", callback)
    return f"{getattr(inner, '__module__', '?')}.{getattr(inner, '__qualname__', repr(inner))}"
