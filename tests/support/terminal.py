"""Runs the command line in tests: as a process, or on a pseudo-terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
ENVIRONMENT |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}

SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""Matches control sequences, which move the cursor, erase or colour (ECMA-48 §5.4)."""

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def start(*arguments, **options) -> subprocess.Popen[str]:
    """Start ``rxws ARGUMENTS`` in its own process."""
    return subprocess.Popen(
        [sys.executable, "-m", "rxws", *arguments],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT, "cwd": ROOT}
        | options,
    )


@contextlib.contextmanager
def started(*arguments, **options) -> Iterator[subprocess.Popen[str]]:
    """Start the process, and kill it at the end of the block if it still runs."""
    process = start(*arguments, **options)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def finish(process: subprocess.Popen[str], timeout: float = 10) -> tuple[str, str]:
    """Wait for the end of a process; return its remaining output."""
    return await asyncio.to_thread(process.communicate, timeout=timeout)


class Terminal:
    """A pseudo-terminal that stores its output."""

    def __init__(self, slave: int) -> None:
        self._slave = slave
        self._parts: list[bytes] = []

    @property
    def text(self) -> str:
        """The output, including control sequences."""
        return b"".join(self._parts).decode()

    @property
    def shown(self) -> str:
        """The output without control sequences."""
        return SEQUENCE.sub("", self.text)


@contextlib.contextmanager
def terminal(monkeypatch, *, kind: str = "xterm-256color") -> Iterator[Terminal]:
    """Use a pseudo-terminal of 24 lines as standard output and error of this process inside the block."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    there = Terminal(slave)

    def read() -> None:
        # On Linux, reading raises an error at the end of the output.
        with contextlib.suppress(OSError):
            while part := os.read(master, 65536):
                there._parts.append(part)

    reading = threading.Thread(target=read)
    reading.start()
    with monkeypatch.context() as patch, open(slave, "w", encoding="utf-8") as stream:
        for name in ("NO_COLOR", "FORCE_COLOR"):
            patch.delenv(name, raising=False)
        for name, value in (("TERM", kind), ("COLUMNS", "80"), ("LINES", "24")):
            patch.setenv(name, value)
        patch.setattr(sys, "stdout", stream)
        patch.setattr(sys, "stderr", stream)
        yield there
    reading.join(5)
    os.close(master)
