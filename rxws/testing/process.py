"""Servers in a process of their own: what is to be stopped or killed cannot live in the test's process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

__all__ = ["ServerProcess", "serve_in_process", "serve_until_told"]


_PACKAGE_FOLDER = str(Path(__file__).resolve().parents[2])


class ServerProcess:
    """A server that runs as a process of its own.

    Attributes:
        url: what it printed first: where to connect.
        process: the process of asyncio.
    """

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url

    def __repr__(self) -> str:
        return f"<ServerProcess {self.pid} {self.url}>"

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self.process.pid

    def stop(self) -> None:
        """Freeze it (SIGSTOP): its connections stay open and nothing answers. Not on Windows."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Thaw it (SIGCONT)."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it (SIGKILL): it says goodbye to nobody."""
        self.process.kill()

    def interrupt(self) -> None:
        """Interrupt it (SIGINT), as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    async def wait(self, *, timeout: float = 5.0) -> int:
        """Wait until it has ended; return its exit code.

        Raises:
            TimeoutError: it has not within ``timeout`` seconds.
        """
        async with asyncio.timeout(timeout):
            return await self.process.wait()


@asynccontextmanager
async def serve_in_process(
    *arguments: str, module: str = "rxws.testing", timeout: float = 15.0, lifetime: float = 600.0
) -> AsyncIterator[ServerProcess]:
    """Run ``python -m rxws.testing`` (or another module that prints its URL) while the block runs.

    Args:
        arguments: of the command line, ``"--script", "broadcast", "--rate", "1000"`` say.
        module: ``"rxws.demo"``, or a module of yours that takes ``--seconds``, prints a URL on its first line and
            serves until it is interrupted.
        timeout: seconds until it must have printed its URL.
        lifetime: seconds after which it ends by itself, so that a test run that was killed leaves no process behind.

    Raises:
        RuntimeError: it ended before it printed a URL; the message has its error output.
        TimeoutError: it printed none in time.

    Example::

        async with serve_in_process("--script", "broadcast") as server, ReactiveWebSocket(server.url) as feed:
            server.stop()
    """
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [_PACKAGE_FOLDER, os.environ.get("PYTHONPATH")]))
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, "--seconds", str(lifetime), *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(timeout):
            url = (await process.stdout.readline()).decode().strip()
            if not url:
                raise RuntimeError(f"{module} did not start:\n{(await process.stderr.read()).decode()}")
        yield ServerProcess(process, url)
    finally:
        # Killed, not asked: a frozen process hears nothing else, and there is nothing in it to save.
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        # Reading to the end also closes the pipes.
        await process.communicate()


async def serve_until_told(server: AbstractAsyncContextManager[object], *, seconds: float | None = None) -> None:
    """Run a server, printing its URL on the first line, until SIGINT or SIGTERM or for so many seconds.

    Args:
        server: what it is entered to is printed, or its ``url`` where it has one.
        seconds: None: until a signal comes.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: there Ctrl-C raises KeyboardInterrupt
            loop.add_signal_handler(number, told.set)
    try:
        async with server as running:
            print(getattr(running, "url", running), flush=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await told.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)
