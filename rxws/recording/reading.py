"""Reading a recording: its entries one after the other, without the lines that cannot be read."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import weakref
from bisect import insort
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from .decoding import BadLines, numbered_entries
from .entries import Entry
from .formats import Format, format_of
from .lines import LONGEST, read_lines
from .rolling import files_of, joined, open_part
from .timeline import without_jumps

__all__ = ["Reading", "read", "summary"]

MOST_NAMED: Final = 10
"""The number of bad lines that a warning lists."""


def summary(path: str | os.PathLike[str], bad_lines: Sequence[int]) -> str:
    """Return a text with the number of lines of a file that could not be read, and the first of their line numbers."""
    numbers = ", ".join(map(str, bad_lines[:MOST_NAMED]))
    more = ", …" if len(bad_lines) > MOST_NAMED else ""
    return f"{os.fspath(path)}: bad lines, left out: {len(bad_lines)} (line {numbers}{more})"


def _check_size(max_line_size: object) -> None:
    if max_line_size is None:
        return
    expected = f"max_line_size must be a positive number of bytes or None, not {max_line_size!r}"
    if isinstance(max_line_size, bool) or not isinstance(max_line_size, int):
        raise TypeError(expected)
    if max_line_size < 1:
        raise ValueError(expected)


def _lines(
    first: tuple[BinaryIO, Format], others: list[Path], longest: float, opened: contextlib.ExitStack
) -> Iterator[bytes | Exception]:
    """Yield the lines of a file that is open and of others, of which one at a time is open."""
    yield from read_lines(*first, longest)
    for path in others:
        opened.close()
        yield from read_lines(opened.enter_context(open_part(path)), format_of(path), longest)


def _entries(
    lines: Iterator[bytes | Exception],
    bad: BadLines,
    path: Path,
    last: Path,
    longest: float,
    close: Callable[[], object],
) -> Iterator[Entry]:
    """Yield the entries of a file, close it, and log the number of lines that could not be read."""
    try:
        yield from joined(without_jumps(numbered_entries(lines, bad), lambda number: insort(bad.numbers, number)), last)
    finally:
        close()
    log = logging.getLogger("rxws")
    if bad.numbers:
        log.warning("%s", summary(path, bad.numbers))
    if bad.too_long:
        log.warning("%s: lines of more than max_line_size=%d bytes, left out: %d", path, longest, bad.too_long)


class Reading(Iterator[Entry]):
    """The entries of a recording, read one by one; :func:`read` returns it.

    Lines that cannot be read are left out. At the end of the file, a warning in the log counts them and lists the
    first. The file is closed at its end, by :meth:`close`, at the end of a ``with`` block, and when the object is
    garbage-collected.

    Attributes:
        path: the file, or the folder.
        bad_lines: the numbers of the lines that could not be read, so far; the first line is 1. In a folder the lines
            of all files are counted together. Where compressed data is damaged, the rest of its session counts as one.
    """

    def __init__(self, path: str | os.PathLike[str], max_line_size: int | None = LONGEST) -> None:
        _check_size(max_line_size)
        self.path = Path(path)
        files = files_of(self.path)
        # The file that is being read. Open the first one now, because a path that cannot be read raises here.
        opened = contextlib.ExitStack()
        self._close = weakref.finalize(self, opened.close)
        first = opened.enter_context(open_part(files[0])), format_of(files[0])
        bad = BadLines(self.path)
        self.bad_lines = bad.numbers
        longest = math.inf if max_line_size is None else max_line_size
        lines = _lines(first, files[1:], longest, opened)
        # _entries is a function, because a method would make a reference cycle, which would keep the file open.
        self._entries: Iterator[Entry] = _entries(lines, bad, self.path, files[-1], longest, self._close)

    def __next__(self) -> Entry:
        return next(self._entries)

    def close(self) -> None:
        """Stop reading and close the file. Idempotent."""
        self._entries = iter(())
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Reading {os.fspath(self.path)!r}, {len(self.bad_lines)} bad lines>"


def read(path: str | os.PathLike[str], *, max_line_size: int | None = LONGEST) -> Reading:
    """Iterate over the entries of a recording: frames, events, states, and the start and end of each session.

    This needs no event loop. Lines that cannot be read are left out, counted and listed: see :class:`Reading`. A line
    is also bad if its time jumps by more than a second and the lines after it contradict the jump.

    Args:
        path: the file; one that ends in ``.gz`` or ``.zst`` is decompressed. Or a folder that ``record`` with ``roll``
            wrote, whose files are read one after the other, as one recording.
        max_line_size: the bytes that a line may have after decompression. Longer lines are bad lines. The default of
            16 MiB bounds the memory that a small compressed file can take, and holds any text frame of up to 2 MiB.
            None accepts any length.

    Raises:
        OSError: the file cannot be opened, or (while iterating) read.
        RxwsError: while iterating: the file is not a recording, another program wrote lines to it too, more than
            100,000 lines cannot be read, or a later version of rxws wrote it.
        ImportError: ``.zst`` needs ``pip install 'rxws[zstd]'`` before Python 3.14.
        TypeError: ``max_line_size`` is not an int or None.
        ValueError: ``max_line_size`` is not positive.

    Example::

        for entry in rxws.read("feed.jsonl.gz"):
            if isinstance(entry, rxws.recording.FrameEntry):
                print(entry.received, entry.raw)
    """
    return Reading(path, max_line_size)
