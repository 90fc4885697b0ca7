"""Only one recording at a time writes to a file, where the system has locks: Windows has none that readers can pass.

What it locks is a range of bytes (``msvcrt.locking``), which nobody else can read then, and which lies in the first
2 GiB of the file. A second file that is made exclusively would be left behind by a process that is killed, and with it
the recording that is to go on.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from pathlib import Path
from typing import BinaryIO

if sys.platform != "win32":
    import fcntl

__all__ = ["lock", "unlock"]


def lock(file: BinaryIO, path: Path) -> None:
    """Keep others from locking a file until it is unlocked, or the process has ended, however it ends.

    Raises:
        BlockingIOError: another has locked it.
    """
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, "another recording is writing to it", str(path)) from None
        except OSError as error:
            # Some file systems of a network have no locks, which is no reason not to record.
            logging.getLogger("rxws").debug("%s cannot be locked: %s", path, error)


def unlock(file: BinaryIO) -> None:
    """Let others lock the file, also where a process that was forked meanwhile has it open."""
    if sys.platform != "win32":
        # What could not be locked cannot be unlocked.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)
