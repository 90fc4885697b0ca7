"""Runs a command, and turns signals, closed pipes and errors into exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

from .. import RxwsError
from ..reporting import redact
from .output import Output

__all__ = ["DONE", "FAILED", "INTERRUPTED", "TERMINATED", "run"]

DONE: Final = 0
FAILED: Final = 1
INTERRUPTED: Final = 130
"""128 + SIGINT, the convention of shells."""
TERMINATED: Final = 143
"""128 + SIGTERM, the convention of shells."""

# A command prints the events of its feed. Without a handler, logging would print them a second time.
_NO_LOG: Final = logging.NullHandler()


def run(prog: str, command: Callable[[Output], Coroutine[Any, Any, int]], *, prints: bool = True) -> int:
    """Run a command until it finishes, and return its exit code.

    SIGINT, SIGTERM and a closed pipe at standard output cancel the command. While it is cancelled it may still write
    its last lines. An :class:`rxws.RxwsError` is printed as one line.

    Args:
        prog: name of the command in that line.
        command: coroutine function that takes the output and returns the exit code.
        prints: whether the command writes to standard output. If not, a closed standard output is ignored.
    """
    logging.getLogger("rxws").addHandler(_NO_LOG)
    try:
        return asyncio.run(_supervise(prog, command, prints))
    except KeyboardInterrupt:
        # The user pressed Ctrl-C twice, or before the signal handlers were installed.
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
            # A reader that closes its pipe, as ``| head`` does, is not a failure.
            end(DONE)
            return
        output.report(f"{prog}: error: standard output cannot be written to: {error.strerror}")
        end(FAILED)

    output = Output(broken if prints else None)
    running = asyncio.get_running_loop().create_task(command(output), name=prog)
    try:
        with _signals({signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}, end):
            try:
                await asyncio.wait({running})
            except asyncio.CancelledError:
                # On Windows the loop cannot handle signals: after Ctrl-C, asyncio.run cancels its main task.
                end(INTERRUPTED)
                await asyncio.wait({running})
        if not codes:
            try:
                codes.append(running.result())
            except RxwsError as error:
                output.report(redact(f"{prog}: error: {error}"))
                codes.append(FAILED)
        elif not running.cancelled():
            # The command ended without being cancelled, so an exception in it is a bug. Raise it.
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
            # Signal handlers are supported neither on Windows nor outside the main thread.
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, end, code)
                handled.append(number)
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
