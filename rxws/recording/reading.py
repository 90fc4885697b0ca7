"""Reading a recording: its entries one after the other, without those that cannot be read."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ..errors import RxwsError
from .entries import Entry, decode_line, is_begun
from .files import format_of, read_lines

__all__ = ["Reading", "read", "summary"]

MOST_NAMED: Final = 10
"""How many bad lines a warning names by their numbers."""

MOST_AT_FIRST: Final = 1_000
"""Bad lines after which nothing is read on if there was nothing else: a file of another kind may be large."""


def summary(path: str | os.PathLike[str], bad_lines: Sequence[int]) -> str:
    """Say how many lines of a file could not be read, and which were the first of them."""
    numbers = ", ".join(map(str, bad_lines[:MOST_NAMED]))
    more = ", …" if len(bad_lines) > MOST_NAMED else ""
    return f"{os.fspath(path)}: bad lines, left out: {len(bad_lines)} (line {numbers}{more})"


class Reading(Iterator[Entry]):
    """The entries of a recording, read as they are asked for; what :func:`read` returns.

    Lines that cannot be read, a last line that was cut short among them, are left out; when the end is reached, a
    warning in the log counts and names them. The file is closed at the end, by :meth:`close`, when a ``with`` block is
    left, and when nobody refers to this any more.

    Attributes:
        path: the file.
        bad_lines: the numbers of the lines that could not be read, so far; the first line is 1. Where compressed data
            is damaged, the rest of its session counts as one.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.bad_lines: list[int] = []
        how = format_of(self.path)
        file = self.path.open("rb", buffering=0)
        self._close = weakref.finalize(self, file.close)
        self._lines = enumerate(read_lines(file, how), start=1)
        # Whether an entry was read, and whether there was a line that is not even the beginning of one.
        self._is_recording, self._has_others = False, False

    def __next__(self) -> Entry:
        if not self._close.alive:
            raise StopIteration
        for number, line in self._lines:
            try:
                if isinstance(line, Exception):
                    raise ValueError(str(line)) from line
                entry = decode_line(line)
                self._is_recording = True
                return entry
            except ValueError:
                self.bad_lines.append(number)
                self._has_others = self._has_others or isinstance(line, Exception) or not is_begun(line)
                if number >= MOST_AT_FIRST and self._is_something_else:
                    break
        self.close()
        if self._is_something_else:
            raise RxwsError(
                f"{self.path} is no recording: expected JSON lines as rxws.record writes them, compressed where the "
                f"name ends in .gz or .zst, and found none in {len(self.bad_lines):,} lines"
            )
        if self.bad_lines:
            logging.getLogger("rxws").warning("%s", summary(self.path, self.bad_lines))
        raise StopIteration

    @property
    def _is_something_else(self) -> bool:
        # The beginning of a recording that was killed is left to be one.
        return self._has_others and not self._is_recording

    def close(self) -> None:
        """Read no more. Idempotent."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Reading {os.fspath(self.path)!r}, {len(self.bad_lines)} bad lines>"


def read(path: str | os.PathLike[str]) -> Reading:
    """Iterate over what a recording holds: frames, events, states, and where sessions begin and end.

    Needs no event loop. Lines that cannot be read are left out, counted and named: see :class:`Reading`.

    Args:
        path: the file; one that ends in ``.gz`` or ``.zst`` is decompressed.

    Raises:
        OSError: the file cannot be opened, or (while iterating) read.
        RxwsError: while iterating, that it is no recording, or that a later version of rxws wrote it.
        ImportError: ``.zst`` needs ``pip install 'rxws[zstd]'`` before Python 3.14.

    Example::

        for entry in rxws.read("feed.jsonl.gz"):
            if isinstance(entry, rxws.recording.FrameEntry):
                print(entry.received, entry.raw)
    """
    return Reading(path)
