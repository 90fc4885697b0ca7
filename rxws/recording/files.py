"""Creates and locks the files of recordings, and appends sessions, even after one that was cut short."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

from .foreign import may_be_first
from .formats import Format, format_of
from .lines import LONGEST, CutShort, read_lines
from .locks import lock, unlock

__all__ = ["Appender"]

MODE: Final = 0o600
"""The permissions of a new recording. Only the user may read it, because it may contain orders and balances."""


def open_to_append(path: Path) -> BinaryIO:
    """Open a file to read and append, and create it with mode 0600 if needed. Open a pipe only to write.

    A process that also opened a pipe for reading would get no error after all other readers have closed it.

    Raises:
        OSError: it cannot be opened, or is a pipe without a reader. This function does not wait for a reader.
    """
    # Open it unbuffered, because bytes of a failed write must not be written later.
    if not path.is_fifo():
        return open(path, "a+b", buffering=0, opener=lambda name, flags: os.open(name, flags, MODE))
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        said = "no process reads this pipe" if error.errno == errno.ENXIO else error.strerror
        raise OSError(error.errno, said, str(path)) from None
    os.set_blocking(descriptor, True)
    return open(descriptor, "wb", buffering=0)


def claim(file: BinaryIO, path: Path, how: Format) -> None:
    """Lock a file for one recording, and check that its content is a recording.

    Raises:
        BlockingIOError: another recording is writing to it.
        FileExistsError: its content is not a recording.
    """
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        # A device has no content to protect, and several recordings may write to it.
        return
    lock(file, path)
    file.seek(0)
    head = file.read(max(map(len, how.begins)))
    # Compare only the bytes that the file has, because the recording may have been cut short.
    is_recording = any(begin.startswith(head[: len(begin)]) for begin in how.begins)
    if is_recording and head:
        # Check the first line too: logs of other programs may begin with a time, and any file may be compressed.
        file.seek(0)
        first = next(read_lines(file, how, LONGEST), b"")
        # If the first session cannot be decompressed, it may be damaged. Another session can be appended.
        is_recording = isinstance(first, (CutShort, *how.errors)) or (isinstance(first, bytes) and may_be_first(first))
    if not is_recording:
        raise FileExistsError(errno.EEXIST, "it is not a recording, and was left unchanged", str(path))


class Appender:
    """Appends a session to a file. Only one thread may use it at a time.

    Raises:
        OSError: the file cannot be opened, or :func:`claim` refuses it.
        ImportError: see :func:`format_of`.
    """

    def __init__(self, path: Path) -> None:
        self._format = format_of(path)
        self._file = open_to_append(path)
        try:
            claim(self._file, path, self._format)
        except BaseException:
            self._file.close()
            raise
        self._compressor = self._format.compressor()
        self._begun = False

    def append(self, lines: bytes) -> None:
        """Append whole lines.

        Raises:
            OSError: writing failed.
        """
        if not self._begun:
            self._begun = True
            self._write(self._format.mark or self._line_break())
        self._write(self._compressor.compress(lines))

    def flush(self) -> None:
        """Pass everything to the operating system. After that, it survives the end of this process.

        Raises:
            OSError: writing failed.
        """
        self._write(self._compressor.flush(self._format.flush_mode))

    def close(self) -> None:
        """End the session.

        Raises:
            OSError: writing failed. The file is closed nevertheless.
        """
        try:
            self._write(self._compressor.flush())
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close the file as it is. Idempotent."""
        if not self._file.closed:
            unlock(self._file)
            self._file.close()

    def _line_break(self) -> bytes:
        # End an incomplete line, so that it does not make the next line a bad one too.
        size = self._file.seek(0, os.SEEK_END) if self._file.seekable() else 0
        if not size:
            return b""
        self._file.seek(size - 1)
        return b"" if self._file.read(1) == b"\n" else b"\n"

    def _write(self, octets: bytes) -> None:
        rest = memoryview(octets)
        while rest:
            rest = rest[self._file.write(rest) :]
