"""Recordings in a folder: one file per day, per hour, or per number of bytes.

A file is named after its start in UTC. While it is being written its name has ``.partial`` in it, and is renamed when
the file is complete: ``20261130T000000Z.partial.jsonl.gz`` becomes ``20261130T000000Z.jsonl.gz``. Each file is a
complete recording. Together they are one, too, because each file except the first names the file that it continues.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, Literal, TypeAlias

from ..checks import check_count
from .entries import Entry, SessionEnd, SessionStart
from .files import Appender

__all__ = ["Roll", "RollingFile", "check_roll", "files_of", "joined", "open_part", "period_of", "rolled_files"]

Roll: TypeAlias = Literal["day", "hour"] | int
"""When a recording begins another file: each day, each hour (both in UTC), or after a number of bytes."""

SUFFIX: Final = ".jsonl.gz"
PARTIAL: Final = ".partial"

_NAME: Final = re.compile(r"\d{8}T\d{6}Z(-\d+)?(\.partial)?\.jsonl\.gz")
_SECONDS: Final = {"day": 86_400, "hour": 3_600}


def check_roll(roll: object) -> None:
    """Check the argument ``roll``.

    Raises:
        TypeError: it is neither a str nor an int.
        ValueError: it is another str, or less than 1.
    """
    if isinstance(roll, str):
        if roll not in _SECONDS:
            raise ValueError(f"roll must be 'day', 'hour' or a number of bytes, not {roll!r}")
    elif isinstance(roll, bool) or not isinstance(roll, int):
        raise TypeError(f"roll must be 'day', 'hour' or a number of bytes, not {roll!r}")
    else:
        check_count("roll", roll)


def period_of(roll: Roll, wall: float) -> int:
    """Return the number of the day or the hour at a time in seconds since the epoch; 0 if files have a size."""
    return int(wall // _SECONDS[roll]) if isinstance(roll, str) else 0


class RollingFile:
    """The file of a folder that is being written.

    Args:
        folder: the folder, which is created if it does not exist.
        wall: the start of the file, in seconds since the epoch.

    Raises:
        OSError: the folder or the file cannot be created.
    """

    def __init__(self, folder: Path, wall: float) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        start = name = datetime.fromtimestamp(wall, UTC).strftime("%Y%m%dT%H%M%SZ")
        number = 1
        while any((folder / f"{name}{middle}{SUFFIX}").exists() for middle in ("", PARTIAL)):
            number += 1
            name = f"{start}-{number}"
        self._complete = folder / f"{name}{SUFFIX}"
        self._partial = folder / f"{name}{PARTIAL}{SUFFIX}"
        self.appender = Appender(self._partial)

    @property
    def size(self) -> int:
        """The number of bytes that the file has so far. A few more may wait in the compressor."""
        return self._partial.stat().st_size

    def close(self) -> None:
        """Complete the file.

        Raises:
            OSError: it cannot be written or renamed.
        """
        self.appender.close()
        os.rename(self._partial, self._complete)


def rolled_files(folder: Path) -> list[Path]:
    """Return the files of a folder that a rolling recording wrote, in the order of their starts."""

    def start(path: Path) -> tuple[str, int]:
        name, _, number = path.name.split(".")[0].partition("-")
        return name, int(number or 1)

    return sorted((each for each in folder.iterdir() if _NAME.fullmatch(each.name)), key=start)


def files_of(path: Path) -> list[Path]:
    """Return the file, or the files of a folder.

    Raises:
        FileNotFoundError: the folder has no file that a rolling recording wrote.
    """
    if not path.is_dir():
        return [path]
    files = rolled_files(path)
    if not files:
        raise FileNotFoundError(
            errno.ENOENT, f"this folder has no recording such as 20261130T000000Z{SUFFIX}", str(path)
        )
    return files


def open_part(path: Path) -> BinaryIO:
    """Open a file to read, also if it has been completed and renamed meanwhile."""
    try:
        return path.open("rb", buffering=0)
    except FileNotFoundError:
        if PARTIAL not in path.name:
            raise
        return path.with_name(path.name.replace(PARTIAL, "")).open("rb", buffering=0)


def joined(entries: Iterable[Entry], last: Path) -> Iterator[Entry]:
    """Leave out the end and the start of a session where one file continues another.

    Args:
        entries: those of all files.
        last: the last file. As long as it is not complete, the end of the file before it is not the session's end,
            although nothing may have been written yet.
    """
    # The end of a session that the next entry may continue, and the session and the number of its last file.
    end: SessionEnd | None = None
    known: tuple[int, int] | None = None
    for entry in entries:
        is_continued = False
        if isinstance(entry, SessionStart):
            is_continued = known is not None and entry.part > 0 and (entry.session, entry.part - 1) == known
            known = entry.session or entry.wall, entry.part
        if end is not None and not is_continued:
            yield end
        end = None
        if isinstance(entry, SessionEnd):
            end = entry
        elif not is_continued:
            yield entry
    # A file that was completed meanwhile was renamed.
    if end is not None and not (PARTIAL in last.name and last.exists()):
        yield end
