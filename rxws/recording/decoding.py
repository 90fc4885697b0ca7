"""Decodes the lines of a file: counts bad lines, and refuses files of another kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from ..errors import RxwsError
from .entries import Entry, decode_line, is_begun
from .foreign import Verdict, judge
from .lines import CutShort, LineTooLong

__all__ = ["BadLines", "numbered_entries"]

MOST_AT_FIRST: Final = 1_000
"""Bad lines after which reading stops if no entry came before them. A file of another kind may be large."""

MOST_BAD: Final = 100_000
"""Bad lines after which reading stops in any case. A small compressed file may hold billions of them."""


class BadLines:
    """The lines of a file that cannot be read.

    Args:
        path: the file.

    Attributes:
        numbers: the numbers of the bad lines, ascending; the first line of the file is 1.
        too_long: how many of them are longer than the reader accepts.
    """

    def __init__(self, path: Path) -> None:
        self.numbers: list[int] = []
        self.too_long = 0
        self._path = path
        # Whether an entry was read, and whether a bad line was read that is not the beginning of an entry.
        self._is_recording, self._has_others = False, False
        # The number of the previous line, if another program probably wrote that line.
        self._unlikely: int | None = None

    def found_entry(self) -> None:
        """Note that an entry was read."""
        self._is_recording, self._unlikely = True, None

    def add(self, number: int, line: bytes | Exception) -> None:
        """Count a bad line, or the exception that was yielded in its place.

        Raises:
            RxwsError: the file is not a recording, another program wrote to it too, or too many lines are bad.
        """
        self.numbers.append(number)
        is_too_long = isinstance(line, LineTooLong)
        self.too_long += is_too_long
        is_other = isinstance(line, Exception) or not is_begun(line)
        # A session that was cut short in its first block may belong to a recording.
        self._has_others = self._has_others or (is_other and not isinstance(line, CutShort))
        if self._is_recording:
            self._check_writer(number, line)
        elif is_too_long or number >= MOST_AT_FIRST:
            self.check_kind()
        if len(self.numbers) > MOST_BAD:
            raise RxwsError(f"{self._path}: more than {MOST_BAD:,} lines cannot be read")

    def check_kind(self) -> None:
        """Check that the lines so far can belong to a recording, or to the beginning of one.

        Raises:
            RxwsError: they cannot.
        """
        if self._is_recording or not self._has_others:
            return
        long = f", of which {self.too_long:,} were too long" if self.too_long else ""
        raise RxwsError(
            f"{self._path} is not a recording: expected JSON lines as rxws.record writes them, compressed if the name "
            f"ends in .gz or .zst, and found none in {len(self.numbers):,} lines{long}"
        )

    def _check_writer(self, number: int, line: bytes | Exception) -> None:
        verdict = Verdict.DAMAGED if isinstance(line, Exception) else judge(line)
        if verdict is Verdict.FOREIGN or (verdict is Verdict.UNLIKELY and self._unlikely is not None):
            first = number if verdict is Verdict.FOREIGN else self._unlikely
            raise RxwsError(
                f"{self._path}: another program wrote line {first}{f' and line {number}' if first != number else ''}; "
                "remove the lines that rxws.record did not write"
            )
        if verdict is Verdict.UNLIKELY:
            self._unlikely = number
        elif line:
            self._unlikely = None


def numbered_entries(lines: Iterable[bytes | Exception], bad: BadLines) -> Iterator[tuple[int, Entry]]:
    """Yield each entry with the number of its line; bad lines are left out and counted.

    Raises:
        RxwsError: see :class:`BadLines`; or a later version of rxws wrote the file.
    """
    # Call found_entry only for the first entry, and for the first one after a bad line, as there are many entries.
    is_news = True
    for number, line in enumerate(lines, start=1):
        if not isinstance(line, Exception):
            try:
                entry = decode_line(line)
            except ValueError:
                pass
            else:
                if is_news:
                    bad.found_entry()
                    is_news = False
                yield number, entry
                continue
        is_news = True
        bad.add(number, line)
    bad.check_kind()
