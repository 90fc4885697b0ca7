"""The files of recordings: lines appended, compressed by the file's ending, and read back, whatever happened to them.

Each session of a compressed recording is a stream of its own, behind a mark that is no data to any tool: whatever cut
the session before short, the reader finds the next one by it. ``zcat`` and ``zstdcat`` read what was not cut short.
"""

from __future__ import annotations

import errno
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from .locks import lock, unlock

__all__ = ["Appender", "Format", "format_of", "read_lines"]

CHUNK: Final = 2**16
"""Bytes that are read at a time, at most."""


class _Compressor(Protocol):
    def compress(self, octets: bytes, /) -> bytes: ...
    def flush(self, mode: int = ..., /) -> bytes: ...


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, octets: bytes, /) -> bytes: ...


class _Plain:
    """No compression at all."""

    eof = False
    unused_data = b""

    def compress(self, octets: bytes, /) -> bytes:
        return octets

    def decompress(self, octets: bytes, /) -> bytes:
        return octets

    def flush(self, mode: int = 0, /) -> bytes:
        return b""


@dataclass(frozen=True, slots=True)
class Format:
    """How a file is compressed.

    Attributes:
        mark: what stands before each session; empty where a line break is enough.
        begins: with one of these each recording begins, whoever compressed it.
        compressor: makes what compresses one session.
        decompressor: makes what decompresses one stream.
        flush_mode: what makes ``flush`` give all that a reader needs, and go on.
        errors: what the decompressor raises for what is no such stream.
    """

    mark: bytes
    begins: tuple[bytes, ...]
    compressor: Callable[[], _Compressor]
    decompressor: Callable[[], _Decompressor]
    flush_mode: int
    errors: tuple[type[Exception], ...]


_PLAIN: Final = Format(b"", tuple(b'{"time":%c' % digit for digit in b"-0123456789"), _Plain, _Plain, 0, ())

# A member without content (RFC 1952 §2.2): 20 bytes that compressed data has by chance once in 2¹⁶⁰.
_GZIP: Final = Format(
    bytes.fromhex("1f8b08000000000000ff 0300 0000000000000000"),
    (bytes.fromhex("1f8b"),),
    # Level 3 takes half the time of the default, for files that are a tenth larger. 16 + 15: gzip, the largest window.
    lambda: zlib.compressobj(3, wbits=31),
    lambda: zlib.decompressobj(wbits=31),
    zlib.Z_SYNC_FLUSH,
    (zlib.error,),
)


def _zstd() -> Format:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]  # Python 3.14's
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            raise ImportError(
                "recordings that end in .zst need Zstandard, which Python has from 3.14 on: pip install 'rxws[zstd]'"
            ) from None
    # A skippable frame (RFC 8878 §3.1.2).
    mark = bytes.fromhex("502a4d18 0e000000") + b"rxws recording"
    return Format(
        mark,
        (mark[:4], bytes.fromhex("28b52ffd")),
        zstd.ZstdCompressor,
        zstd.ZstdDecompressor,
        zstd.ZstdCompressor.FLUSH_BLOCK,
        (zstd.ZstdError,),
    )


def format_of(path: Path) -> Format:
    """Return how a file of this ending is compressed: ``.gz``, ``.zst``, any other not at all.

    Raises:
        ImportError: ``.zst`` needs a package that is not installed; says which extra brings it.
    """
    match path.suffix.lower():
        case ".gz":
            return _GZIP
        case ".zst":
            return _zstd()
        case _:
            return _PLAIN


def open_to_append(path: Path) -> BinaryIO:
    """Open a file to read and append; a pipe only to write: who reads it, too, is never told that nobody else does.

    Raises:
        OSError: it cannot be opened, or is a pipe that nobody reads, which is not waited for.
    """
    # Unbuffered: what a failed write has not written must not be written later.
    if not path.is_fifo():
        return open(path, "a+b", buffering=0)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        said = "nobody reads this pipe" if error.errno == errno.ENXIO else error.strerror
        raise OSError(error.errno, said, str(path)) from None
    os.set_blocking(descriptor, True)
    return open(descriptor, "wb", buffering=0)


def claim(file: BinaryIO, path: Path, how: Format) -> None:
    """Make sure that what is appended to a file disturbs nobody: not another recording, and no file of another kind.

    Raises:
        BlockingIOError: another recording is writing to it.
        FileExistsError: what is in it is no recording.
    """
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        # A device holds nothing, and is everybody's.
        return
    lock(file, path)
    file.seek(0)
    head = file.read(max(map(len, how.begins)))
    # As far as it goes: it may have been cut short.
    if not any(begin.startswith(head[: len(begin)]) for begin in how.begins):
        raise FileExistsError(errno.EEXIST, "it is no recording, and is left as it is", str(path))


class Appender:
    """Appends a session to a file. It belongs to one thread at a time.

    Raises:
        OSError: the file cannot be opened, or is not to be written to: see :func:`claim`.
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
            OSError: the file takes no more.
        """
        if not self._begun:
            self._begun = True
            self._write(self._format.mark or self._line_break())
        self._write(self._compressor.compress(lines))

    def flush(self) -> None:
        """Hand all to the operating system: from now on, no end of this process can lose it.

        Raises:
            OSError: the file takes no more.
        """
        self._write(self._compressor.flush(self._format.flush_mode))

    def close(self) -> None:
        """End the session.

        Raises:
            OSError: the file takes no more; it is closed all the same.
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
        # Whatever was cut short there: it ends here, and is one bad line.
        size = self._file.seek(0, os.SEEK_END) if self._file.seekable() else 0
        if not size:
            return b""
        self._file.seek(size - 1)
        return b"" if self._file.read(1) == b"\n" else b"\n"

    def _write(self, octets: bytes) -> None:
        rest = memoryview(octets)
        while rest:
            rest = rest[self._file.write(rest) :]


def read_lines(file: BinaryIO, how: Format) -> Iterator[bytes | Exception]:
    """Give the lines of a file, without their ends.

    What was cut short is given as it is, and is the last line of its session. What cannot be decompressed is an
    exception in the place of its lines, up to the next session.
    """
    for session in _sessions(file, how.mark):
        # The parts of a line that has not come to its end: a frame may be as long as it likes.
        parts: list[bytes] = []
        failure = None
        try:
            for octets in _decompressed(session, how):
                first, *others = octets.split(b"\n")
                parts.append(first)
                if others:
                    yield b"".join(parts)
                    yield from others[:-1]
                    parts = [others[-1]]
        except how.errors as error:
            failure = error
        if cut_short := b"".join(parts):
            yield cut_short
        if failure is not None:
            yield failure


def _sessions(file: BinaryIO, mark: bytes) -> Iterator[Iterator[bytes]]:
    """Give the parts of a file between the marks, each as its chunks; each is read to its end before the next."""
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
            # What may be the beginning of a mark is kept.
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


def _decompressed(chunks: Iterator[bytes], how: Format) -> Iterator[bytes]:
    """Give what is in a session's streams: mostly one, but a file may have been put together otherwise."""
    stream: Any = how.decompressor()
    for chunk in chunks:
        while chunk:
            yield stream.decompress(chunk)
            chunk = stream.unused_data if stream.eof else b""
            if stream.eof:
                stream = how.decompressor()
