"""``rxws demo --serve``: serves the demo exchange until Ctrl-C, and says how to read it."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import shutil
import sys
from pathlib import Path
from typing import Final

from .. import RxwsError
from ..demo import DemoExchange, serve
from .output import Output

__all__ = ["invocation", "serve_demo"]

PORT: Final = 8765
"""The port, unless it is taken or the user gives another one."""


async def serve_demo(port: int | None, output: Output) -> int:
    """Serve until the command is cancelled.

    Args:
        port: the port; 0 takes a free one. None: 8765, or a free one if that is taken.
        output: where the URL is printed.

    Raises:
        rxws.RxwsError: the given port is taken.
    """
    async with contextlib.AsyncExitStack() as stack:
        output.write(_described(await _start(stack, port)))
        await asyncio.get_running_loop().create_future()
    raise AssertionError


async def _start(stack: contextlib.AsyncExitStack, port: int | None) -> DemoExchange:
    try:
        return await stack.enter_async_context(serve(port=PORT if port is None else port))
    except OSError as error:
        if port is not None:
            raise RxwsError(f"port {port}: {error.strerror}; --port 0 takes a free one") from error
    return await stack.enter_async_context(serve())


def _described(exchange: DemoExchange) -> str:
    url = f"ws://localhost:{exchange.server.port}"
    return (
        f"The demo feed runs at {url} until Ctrl-C. Read it in another terminal:\n\n"
        f"  {invocation()} tail {url} --filter e=trade,s=BTCUSDT\n\n"
    )


def invocation() -> str:
    """Return what to type to run this program again: ``rxws`` only if the shell would find it."""
    program = Path(sys.argv[0])
    if program.stem == "__main__":
        return shlex.join([sys.executable, "-m", "rxws"])
    found = shutil.which(program.name)
    is_found = found is not None and program.exists() and Path(found).samefile(program)
    return program.name if is_found else shlex.quote(str(program))
