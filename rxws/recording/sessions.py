"""The files of one recording session: one file, or one after the other in a folder."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from pathlib import Path

from ..reporting import State
from .entries import Note, Origin, encode_notes
from .files import Appender
from .rolling import Roll, RollingFile, period_of

__all__ = ["FileSession", "RollingSession"]


class FileSession:
    """A session in one file. Only one thread may use it at a time.

    Raises:
        OSError, ImportError: see :class:`~.files.Appender`.
    """

    def __init__(self, path: Path, origin: Origin) -> None:
        self._appender = Appender(path)

    def append(self, notes: list[Note], offset: float) -> None:
        """Append notes. ``offset`` is the wall clock less the loop's clock.

        Raises:
            OSError: writing failed.
        """
        self._appender.append(encode_notes(notes))

    def flush(self) -> None:
        """Pass everything to the operating system.

        Raises:
            OSError: writing failed.
        """
        self._appender.flush()

    def close(self) -> None:
        """End the session.

        Raises:
            OSError: writing failed. The file is closed nevertheless.
        """
        self._appender.close()

    def abandon(self) -> None:
        """Close the file as it is. Idempotent."""
        self._appender.abandon()


class RollingSession(FileSession):
    """A session that begins another file each day, each hour, or after a number of bytes.

    Raises:
        OSError: the folder or the file cannot be created.
    """

    def __init__(self, path: Path, origin: Origin, roll: Roll) -> None:
        self._folder = path
        self._roll = roll
        self._origin = origin
        self._state: State | None = None
        self._open(origin.wall / 1e9)

    def _open(self, wall: float) -> None:
        self._file = RollingFile(self._folder, wall)
        self._appender = self._file.appender
        self._period = period_of(self._roll, wall)

    def append(self, notes: list[Note], offset: float) -> None:
        """Append notes, to other files where their times are of other periods.

        Raises:
            OSError: writing failed.
        """
        for period, group in groupby(notes, lambda note: period_of(self._roll, note[0] + offset)):
            together = [*group]
            # A clock that was set back begins no earlier period.
            if period > self._period or (isinstance(self._roll, int) and self._file.size >= self._roll):
                self._begin_next(together[0][0], offset)
            super().append(together, offset)
            self._state = next((what for _, what in reversed(together) if isinstance(what, State)), self._state)

    def _begin_next(self, time: float, offset: float) -> None:
        """Complete the file, and begin the next one with what makes it a complete recording."""
        self._appender.append(encode_notes([(time, None)]))
        self._file.close()
        self._open(time + offset)
        session = self._origin.session or self._origin.wall
        wall, part = round((time + offset) * 1e9), self._origin.part + 1
        self._origin = replace(self._origin, wall=wall, part=part, session=session)
        self._appender.append(
            encode_notes([(time, self._origin), (time, self._state)][: 1 + (self._state is not None)])
        )

    def close(self) -> None:
        """Complete the last file.

        Raises:
            OSError: writing failed. The file is closed nevertheless.
        """
        self._file.close()
