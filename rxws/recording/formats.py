"""How the files of recordings are compressed: not at all, with gzip or with Zstandard.

Each session of a compressed recording is a separate stream with a mark before it, which other tools skip. If a session
was cut short, the reader finds the next session by its mark. ``zcat`` and ``zstdcat`` read the sessions that were not
cut short.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

__all__ = ["Format", "format_of"]

PIECE: Final = 2**18
"""Maximum number of bytes decompressed at a time. One compressed chunk can contain a thousand times its own size."""


class _Compressor(Protocol):
    def compress(self, octets: bytes, /) -> bytes: ...
    def flush(self, mode: int = ..., /) -> bytes: ...


class _Plain:
    """Takes the place of a compressor for a file that is not compressed."""

    def compress(self, octets: bytes, /) -> bytes:
        return octets

    def flush(self, mode: int = 0, /) -> bytes:
        return b""


@dataclass(frozen=True, slots=True)
class Format:
    """How a file is compressed.

    Attributes:
        mark: the bytes before each session; empty if a line break is enough.
        begins: the bytes with which a recording can begin, even if another tool compressed it.
        compressor: returns a new compressor, for one session.
        decompressed: yields the contents of a session's chunks, in pieces of bounded size.
        flush_mode: the argument with which ``flush`` writes everything so far and keeps the stream open.
        errors: the exceptions that the decompressor raises for damaged data.
    """

    mark: bytes
    begins: tuple[bytes, ...]
    compressor: Callable[[], _Compressor]
    decompressed: Callable[[Iterator[bytes]], Iterator[bytes]]
    flush_mode: int
    errors: tuple[type[Exception], ...]


def _inflate(stream: Any, octets: bytes) -> Iterator[bytes]:
    """Yield the decompressed bytes of ``octets`` in pieces, with zlib."""
    while True:
        piece = stream.decompress(octets, PIECE)
        yield piece
        octets = stream.unconsumed_tail
        # After a full piece zlib may still have output although it has consumed all input.
        if stream.eof or (not octets and len(piece) < PIECE):
            return


def _expand(stream: Any, octets: bytes) -> Iterator[bytes]:
    """Yield the decompressed bytes of ``octets`` in pieces, with Zstandard."""
    while True:
        yield stream.decompress(octets, PIECE)
        octets = b""
        if stream.eof or stream.needs_input:
            return


def _decompressed(
    chunks: Iterator[bytes], new_stream: Callable[[], Any], pieces: Callable[[Any, bytes], Iterator[bytes]]
) -> Iterator[bytes]:
    """Yield the contents of a session's streams: usually one, but another tool may have joined several streams."""
    stream = new_stream()
    for chunk in chunks:
        while chunk:
            yield from pieces(stream, chunk)
            chunk = stream.unused_data if stream.eof else b""
            if stream.eof:
                stream = new_stream()


_PLAIN: Final = Format(b"", tuple(b'{"time":%c' % digit for digit in b"-0123456789"), _Plain, iter, 0, ())

# The mark is a gzip member without content (RFC 1952 §2.2). Compressed data contains these 20 bytes by chance once in
# 2¹⁶⁰.
_GZIP: Final = Format(
    bytes.fromhex("1f8b08000000000000ff 0300 0000000000000000"),
    (bytes.fromhex("1f8b"),),
    # Level 3 takes half the time of the default level, and files are a tenth larger. wbits=31 means gzip with the
    # largest window.
    lambda: zlib.compressobj(3, wbits=31),
    lambda chunks: _decompressed(chunks, lambda: zlib.decompressobj(wbits=31), _inflate),
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
    # The mark is a skippable frame (RFC 8878 §3.1.2).
    mark = bytes.fromhex("502a4d18 0e000000") + b"rxws recording"
    return Format(
        mark,
        (mark[:4], bytes.fromhex("28b52ffd")),
        zstd.ZstdCompressor,
        # The decompressor refuses a window of more than 128 MiB by default.
        lambda chunks: _decompressed(chunks, zstd.ZstdDecompressor, _expand),
        zstd.ZstdCompressor.FLUSH_BLOCK,
        (zstd.ZstdError,),
    )


def format_of(path: Path) -> Format:
    """Return how a file is compressed, by its name: ``.gz``, ``.zst``, or otherwise not at all.

    Raises:
        ImportError: ``.zst`` needs a package that is not installed; the text names the extra.
    """
    match path.suffix.lower():
        case ".gz":
            return _GZIP
        case ".zst":
            return _zstd()
        case _:
            return _PLAIN
