"""Frames from the broker. Each is a captured frame with its place in the stream."""

from __future__ import annotations

from typing import Final

from .client import Headers, header_of

__all__ = ["BinaryFrame", "MissingFrame", "TextFrame", "make_frame"]


class _Captured:
    __slots__ = ()

    headers: Headers

    @property
    def relay(self) -> str:
        """The name of the relay that captured it; empty if no relay of rxws published it."""
        return header_of(self.headers, _FROM).partition(" ")[0]

    @property
    def received_ns(self) -> int:
        """When the relay received it, in nanoseconds since the epoch; 0 if no relay of rxws published it."""
        text = header_of(self.headers, _FROM).rpartition(" ")[2]
        return int(text) if text.isascii() and text.isdigit() else 0


class TextFrame(_Captured, str):
    """A text frame that a relay has captured.

    Attributes:
        sequence: its number in the stream. A feed that starts at the next number misses no message.
        subject: its subject.
        headers: its headers, which ``relay`` and ``received_ns`` read.
    """

    __slots__ = ("headers", "sequence", "subject")

    sequence: int
    subject: str
    headers: Headers


class BinaryFrame(_Captured, bytes):
    """A binary frame that a relay has captured; its attributes are those of :class:`TextFrame`."""

    sequence: int
    subject: str
    headers: Headers


class MissingFrame(str):
    """An empty frame that marks the place of missing messages.

    Attributes:
        start: the time since which messages are missing, in seconds since the epoch.
        end: the time until which they are missing.
    """

    __slots__ = ("end", "start")

    start: float
    end: float

    @classmethod
    def between(cls, start: float, end: float) -> MissingFrame:
        """Return the frame for messages that are missing between two times."""
        frame = cls()
        frame.start, frame.end = start, end
        return frame


def make_frame(payload: bytes, sequence: int, subject: str, headers: Headers) -> TextFrame | BinaryFrame:
    """Return the frame of a message of the stream. A payload that is not valid UTF-8 is a binary frame."""
    frame: TextFrame | BinaryFrame
    if _IS_BINARY in headers:
        frame = BinaryFrame(payload)
    else:
        try:
            frame = TextFrame(payload, "utf-8")
        except UnicodeDecodeError:
            frame = BinaryFrame(payload)
    frame.sequence = sequence
    frame.subject = subject
    frame.headers = headers
    return frame


_FROM: Final = b"Rxws-From"

_IS_BINARY: Final = b"\r\nRxws-Kind: b\r\n"
