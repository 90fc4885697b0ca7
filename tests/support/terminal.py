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

import pyte

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

    def __init__(self, slave: int, columns: int, rows: int) -> None:
        self._slave = slave
        self._size = columns, rows
        self._parts: list[bytes] = []

    @property
    def text(self) -> str:
        """The output, including control sequences."""
        return b"".join(self._parts).decode(errors="replace")

    @property
    def shown(self) -> str:
        """The output without control sequences."""
        return SEQUENCE.sub("", self.text)

    @property
    def screen(self) -> list[str]:
        """What a terminal shows now: its lines, without spaces at their ends."""
        return screen_of(self.text, *self._size)


def screen_of(text: str, columns: int, rows: int) -> list[str]:
    """Return the lines that a terminal of this size shows after a text with control sequences."""
    screen = pyte.Screen(columns, rows)
    screen.set_mode(pyte.modes.LNM)
    pyte.Stream(screen).feed(text)
    return [line.rstrip() for line in screen.display]


@contextlib.contextmanager
def terminal(
    monkeypatch, *, kind: str = "xterm-256color", columns: int = 80, rows: int = 24, encoding: str = "utf-8"
) -> Iterator[Terminal]:
    """Use a pseudo-terminal as standard output and error of this process inside the block."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (rows, columns))
    there = Terminal(slave, columns, rows)

    def read() -> None:
        # On Linux, reading raises an error at the end of the output.
        with contextlib.suppress(OSError):
            while part := os.read(master, 65536):
                there._parts.append(part)

    reading = threading.Thread(target=read)
    reading.start()
    with monkeypatch.context() as patch, open(slave, "w", encoding=encoding) as stream:
        for name in ("NO_COLOR", "FORCE_COLOR"):
            patch.delenv(name, raising=False)
        for name, value in (("TERM", kind), ("COLUMNS", str(columns)), ("LINES", str(rows))):
            patch.setenv(name, value)
        patch.setattr(sys, "stdout", stream)
        patch.setattr(sys, "stderr", stream)
        yield there
    reading.join(5)
    os.close(master)
