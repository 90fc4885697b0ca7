"""Reads the lines of a file. Their length is bounded, and reading continues after damaged data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

from .formats import Format

__all__ = ["LONGEST", "CutShort", "LineTooLong", "read_lines"]

CHUNK: Final = 2**16
"""Maximum number of bytes that are read from the file at a time."""


LONGEST: Final = 2**24
"""Bytes that a line may have by default: 16 MiB."""


HEADERS_MAX: Final = 64
"""Bytes that a session which has just begun may have: headers of the compression, and no line yet."""


class CutShort(EOFError):
    """Nothing of a compressed session can be read, because it was cut short in its first block."""


class LineTooLong(ValueError):
    """A line is longer than the reader accepts. It is not kept in memory."""


def read_lines(file: BinaryIO, how: Format, longest: float) -> Iterator[bytes | Exception]:
    """Yield the lines of a file, without their line breaks.

    A session that was cut short ends with an incomplete line, which is yielded too. An exception is yielded in place of
    each line that is too long, and in place of all lines from damaged compressed data to the next session.

    Args:
        file: the file.
        how: how it is compressed.
        longest: the bytes that a line may have; ``math.inf`` for any number.
    """
    for session in _sessions(file, how.mark):
        size, has_lines = 0, False

        def counted(chunks: Iterator[bytes]) -> Iterator[bytes]:
            nonlocal size
            for chunk in chunks:
                size += len(chunk)
                yield chunk

        try:
            for line in _split(how.decompressed(counted(session)), longest, how.errors):
                has_lines = True
                yield line
        except how.errors as error:
            yield error
        else:
            if how.mark and not has_lines and size > HEADERS_MAX:
                # A compressed block was cut short, so nothing of it can be decompressed.
                yield CutShort(f"nothing of {size:,} compressed bytes can be read: they were cut short")


def _split(pieces: Iterator[bytes], longest: float, errors: tuple[type[Exception], ...]) -> Iterator[bytes | Exception]:
    """Yield the lines of one session; raise the error of the decompressor after the last line."""
    # The parts of the present, incomplete line, and their size. The parts of a line that is too long are not kept.
    parts: list[bytes] = []
    size: float = 0
    failure: Exception | None = None
    while True:
        try:
            octets = next(pieces, None)
        except errors as error:
            octets, failure = None, error
        if octets is None:
            break
        first, *others = octets.split(b"\n")
        for index, part in enumerate((first, *others[-1:])):
            if index:
                if size <= longest:
                    yield b"".join(parts)
                yield from others[:-1] if len(octets) <= longest else _bounded(others[:-1], longest)
                parts, size = [], 0
            if size <= longest:
                size += len(part)
                parts.append(part)
                if size > longest:
                    parts.clear()
                    # Report the line now, because its end may be far away.
                    yield LineTooLong(f"a line of more than {longest:,} bytes")
    if cut_short := b"".join(parts):
        yield cut_short
    if failure is not None:
        raise failure


def _bounded(lines: list[bytes], longest: float) -> Iterator[bytes | Exception]:
    for line in lines:
        yield line if len(line) <= longest else LineTooLong(f"a line of more than {longest:,} bytes")


def _sessions(file: BinaryIO, mark: bytes) -> Iterator[Iterator[bytes]]:
    """Yield the sessions of a file, each as an iterator of chunks. Exhaust it before you take the next session."""
    if not mark:
        yield iter(lambda: file.read(CHUNK), b"")
        return
    rest: bytes | None = b""

    def part() -> Iterator[bytes]:
        nonlocal rest
        assert rest is not None
        while True:
            before, found, after = rest.partition(mark)
            if found:
                rest = after
                yield before
                return
            # Keep the last bytes, which may be the beginning of a mark.
            keep = len(mark) - 1
            yield rest[:-keep]
            chunk = file.read(CHUNK)
            if not chunk:
                last, rest = rest[-keep:], None
                yield last
                return
            rest = rest[-keep:] + chunk

    while rest is not None:
        chunks = part()
        yield chunks
        for _ in chunks:
            pass
