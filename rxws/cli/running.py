"""Runs a command: signals, closed pipes and errors become exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

from .. import RxwsError
from ..reporting import printable
from .output import Output

__all__ = ["DONE", "FAILED", "INTERRUPTED", "TERMINATED", "run"]

DONE: Final = 0
FAILED: Final = 1
INTERRUPTED: Final = 130
"""128 + SIGINT, as shells have it."""
TERMINATED: Final = 143
"""128 + SIGTERM."""

# A command tells of the feed's events itself; without a handler, logging would print them once more.
_NO_LOG: Final = logging.NullHandler()


def run(prog: str, command: Callable[[Output], Coroutine[Any, Any, int]], *, prints: bool = True) -> int:
    """Run a command to its end and return its exit code.

    SIGINT, SIGTERM and the end of whoever reads standard output cancel it; it may then still say what it has to say.
    An error of rxws is told in one line.

    Args:
        prog: what the command is called in that line.
        command: coroutine function that is given the output, and returns the exit code.
        prints: whether it writes to standard output; if not, it does not matter who reads that.
    """
    logging.getLogger("rxws").addHandler(_NO_LOG)
    try:
        return asyncio.run(_supervise(prog, command, prints))
    except KeyboardInterrupt:
        # A second one, or one that came too early.
        return INTERRUPTED
    finally:
        logging.getLogger("rxws").removeHandler(_NO_LOG)


async def _supervise(prog: str, command: Callable[[Output], Coroutine[Any, Any, int]], prints: bool) -> int:
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        running.cancel()

    def broken(error: OSError) -> None:
        if isinstance(error, BrokenPipeError):
            # ``| head`` has had enough, which is no failure.
            end(DONE)
            return
        output.tell(f"{prog}: error: standard output cannot be written to: {error.strerror}")
        end(FAILED)

    output = Output(broken if prints else None)
    running = asyncio.get_running_loop().create_task(command(output), name=prog)
    try:
        with _signals({signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}, end):
            try:
                await asyncio.wait({running})
            except asyncio.CancelledError:
                # Ctrl-C, where a loop cannot handle signals (Windows): asyncio.run cancels its task.
                end(INTERRUPTED)
                await asyncio.wait({running})
        if not codes:
            try:
                codes.append(running.result())
            except RxwsError as error:
                output.tell(printable(f"{prog}: error: {error}"))
                codes.append(FAILED)
        elif not running.cancelled():
            # It came to its end in spite of all; an error in that is a bug, and is seen.
            running.result()
        return codes[0]
    finally:
        await output.close()


@contextlib.contextmanager
def _signals(codes: dict[signal.Signals, int], end: Callable[[int], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    handled = []
    try:
        for number, code in codes.items():
            # Not on Windows, and not in a thread, which whoever started it has to end.
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, end, code)
                handled.append(number)
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
