"""A lock that lets only one recording at a time write to a file. There is no lock on Windows.

Windows can lock only a range of bytes (``msvcrt.locking``) in the first 2 GiB of a file, and other processes cannot
read this range. A separate lock file is no alternative: a killed process would leave it behind, and the recording could
not be continued.
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
    """Lock a file until it is unlocked or the process ends, however it ends.

    Raises:
        BlockingIOError: another recording has locked it.
    """
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, "another recording is writing to it", str(path)) from None
        except OSError as error:
            # Some network file systems have no locks. Record without one.
            logging.getLogger("rxws").debug("%s cannot be locked: %s", path, error)


def unlock(file: BinaryIO) -> None:
    """Unlock the file, even if a forked process still has it open."""
    if sys.platform != "win32":
        # Unlocking fails on a file system without locks.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)
