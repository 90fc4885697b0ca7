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
        url: where to connect: the first line that the process printed.
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
        """Freeze it (SIGSTOP): its connections stay open and it answers nothing. Not on Windows."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue it after :meth:`stop` (SIGCONT)."""
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it (SIGKILL): it sends no close frames."""
        self.process.kill()

    def interrupt(self) -> None:
        """Interrupt it (SIGINT), as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    async def wait(self, *, timeout: float = 5.0) -> int:
        """Wait until it has ended; return its exit code.

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
        timeout: seconds in which it must print its URL.
        lifetime: seconds after which it ends by itself, so that a test run that was killed leaves no process behind.

    Raises:
        RuntimeError: it ended before it printed a URL; the message contains its error output.
        TimeoutError: it printed no URL in time.

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
        # Reading to the end also closes the pipes.
        await process.communicate()


async def serve_until_told(server: AbstractAsyncContextManager[object], *, seconds: float | None = None) -> None:
    """Run a server until SIGINT or SIGTERM or for some seconds, and print its URL on the first line.

    Args:
        server: a context manager; its value's ``url`` is printed, or the value itself if it has none.
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
