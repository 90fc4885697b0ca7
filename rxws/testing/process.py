"""Servers in their own processes, because a test cannot freeze or kill a server in its own process."""

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
    """A server that runs in its own process.

    Attributes:
        url: the URL to connect to, which is the first line that the process printed.
        process: the asyncio process.
    """

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url

    def __repr__(self) -> str:
        return f"<ServerProcess {self.pid} {self.url}>"

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self.process.pid

    def stop(self) -> None:
        """Freeze the process (SIGSTOP): its connections stay open, but it answers nothing. Not on Windows."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue the process after :meth:`stop` (SIGCONT)."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the process (SIGKILL): it sends no close frames."""
        self.process.kill()

    def interrupt(self) -> None:
        """Interrupt the process (SIGINT), as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    async def wait(self, *, timeout: float = 5.0) -> int:
        """Wait until the process has ended; return its exit code.

        Raises:
            TimeoutError: it has not ended within ``timeout`` seconds.
        """
        async with asyncio.timeout(timeout):
            return await self.process.wait()


@asynccontextmanager
async def serve_in_process(
    *arguments: str, module: str = "rxws.testing", timeout: float = 15.0, lifetime: float = 600.0
) -> AsyncIterator[ServerProcess]:
    """Run ``python -m rxws.testing`` (or another module that prints its URL) while the block runs.

    Args:
        arguments: arguments of the command line, ``"--script", "broadcast", "--rate", "1000"`` for example.
        module: ``"rxws.demo"``, or your own module that takes ``--seconds``, prints a URL on its first line and serves
            until it is interrupted.
        timeout: seconds within which the process must print its URL.
        lifetime: seconds after which the process ends by itself, so that a killed test run leaves no process behind.

    Raises:
        RuntimeError: the process ended before it printed a URL; the text of the error contains its error output.
        TimeoutError: the process printed no URL in time.

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
        # Kill the process, because a frozen process reacts to no other signal, and it has nothing to save.
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        # communicate() reads the pipes to their end, which also closes them.
        await process.communicate()


async def serve_until_told(server: AbstractAsyncContextManager[object], *, seconds: float | None = None) -> None:
    """Run a server until SIGINT or SIGTERM or for a few seconds, and print its URL on the first line.

    Args:
        server: a context manager. The ``url`` of its value is printed, or the value itself if it has no ``url``.
        seconds: how long to serve; None: until a signal.
    """
    signalled = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # On Windows Ctrl-C raises KeyboardInterrupt.
            loop.add_signal_handler(number, signalled.set)
    try:
        async with server as running:
            print(getattr(running, "url", running), flush=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await signalled.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)
