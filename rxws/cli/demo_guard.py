"""Kills the processes of ``rxws demo --nats`` when the demo itself was killed, and deletes their files."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

__all__ = ["Guard"]

PATIENCE: Final = 10.0
"""Seconds to wait for the end of the guarding process."""


class Guard:
    """A second process, which reads the ids of the demo's processes from a pipe. The pipe ends when the demo dies.

    Args:
        folder: the folder of the processes' files.
    """

    def __init__(self, folder: Path) -> None:
        # This file imports no package, so -I and its path start faster than -m. The new session keeps Ctrl-C and a
        # closed terminal away from the guard.
        command = [sys.executable, "-I", __file__, str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        assert self._process.stdin is not None
        self._pipe: IO[bytes] = self._process.stdin

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pipe.close()
        self._process.wait(PATIENCE)

    def started(self, pid: int) -> None:
        """Note that a process was started."""
        self._write(f"+{pid}")

    def ended(self, pid: int) -> None:
        """Note that a process has ended, because another program may get its id."""
        self._write(f"-{pid}")

    def _write(self, line: str) -> None:
        self._pipe.write(f"{line}\n".encode())
        self._pipe.flush()


def _guard(folder: str) -> None:
    # Windows has no sessions, so Ctrl-C reaches this process, too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    running: set[int] = set()
    for line in sys.stdin:
        (running.add if line.startswith("+") else running.discard)(int(line[1:]))
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            # On Windows there is no SIGKILL, and SIGTERM ends a process at once.
            os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _guard(sys.argv[1])
