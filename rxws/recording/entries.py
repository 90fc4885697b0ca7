"""The entries of a recording, each as a line of JSON. No I/O.

::

    {"time":…,"rxws":1,"name":"feed","url":"wss://…","wall":…}    a session starts; in a folder also "session":…, and
                                                                  "part":… if the file is not the first one
    {"time":…,"wall":…,"connection":1,"raw":"…"}                  a frame was delivered; optional keys:
                                                                  "raw":{"binary":"base64"} for bytes,
                                                                  "held":… for the nanoseconds before its delivery,
                                                                  "kept":[true,false] if only some of its messages
                                                                  were delivered
    {"time":…,"event":"Gap","fields":{…}}                         an event of the feed
    {"time":…,"state":"connected"}                                the feed entered a state
    {"time":…,"end":true}                                         the session was closed properly

``time`` is in nanoseconds on the monotonic clock of the session's event loop, ``wall`` in nanoseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, Final

import msgspec

from ..errors import RxwsError
from ..reporting import (
    CallbackFailed,
    Connected,
    Disconnected,
    Event,
    Gap,
    LineJoined,
    LineLost,
    Quiet,
    Resumed,
    Rotated,
    State,
    SubscriptionEnded,
    SubscriptionFailed,
    events,
    redact,
)

__all__ = [
    "BEGIN",
    "FIELDS",
    "FORMAT",
    "OF_CONNECTIONS",
    "Entry",
    "EventEntry",
    "FrameEntry",
    "Note",
    "Origin",
    "RecordedError",
    "SessionEnd",
    "SessionStart",
    "StateEntry",
    "decode_line",
    "encode_notes",
    "is_begun",
]

FORMAT: Final = 1
"""The version of the format. Recordings of a later version cannot be read."""


class RecordedError(Exception):
    """The ``repr`` of an event's ``error``, without secrets. The exception itself is not recorded."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The base class of all entries.

    Attributes:
        time: when it was recorded, in nanoseconds on the monotonic clock of the session's event loop. Compare it only
            with times of the same session: the zero of this clock is arbitrary.
    """

    time: int


@dataclass(frozen=True, slots=True)
class SessionStart(Entry):
    """A session starts. A file has one session for each time that it was recorded to.

    Attributes:
        name: the feed's name.
        url: its URL without secrets, or None if the feed has no URL.
        wall: when the session started, in nanoseconds since the epoch.
        part: the number of earlier files with the same session, in a folder with one file per day, say.
        session: the ``wall`` of the first of these files; 0 in that file itself.
    """

    name: str
    url: str | None
    wall: int
    part: int = 0
    session: int = 0


@dataclass(frozen=True, slots=True)
class FrameEntry(Entry):
    """A frame was delivered.

    Attributes:
        time: when it was delivered.
        raw: a str for a text frame, bytes for a binary frame.
        received: when the frame was received, in nanoseconds since the epoch.
        connection: the number of its connection.
        held: the nanoseconds between receipt and delivery, if a rotation or a parse hook held the frame. It was
            received at ``time - held`` on the monotonic clock. 0 for less than a millisecond.
        kept: for a frame of several messages, a bool for each message: whether it was delivered. A rotation drops
            messages that the previous connection has delivered. None if all were delivered.
    """

    raw: str | bytes
    received: int
    connection: int
    held: int = 0
    kept: tuple[bool, ...] | None = None


@dataclass(frozen=True, slots=True)
class EventEntry(Entry):
    """The feed emitted an event.

    Attributes:
        event: the event. Its message is None (see the frames before it), and its exception is a
            :exc:`RecordedError`.
    """

    event: Event


@dataclass(frozen=True, slots=True)
class StateEntry(Entry):
    """The feed entered a state. The first entry of a session is the state at its start."""

    state: State


@dataclass(frozen=True, slots=True)
class SessionEnd(Entry):
    """The session was closed properly. A session without this entry was cut short."""


class _Packed(msgspec.Struct, omit_defaults=True):
    """The content of a frame that JSON cannot hold as text: bytes, or text with lone surrogates."""

    binary: bytes | None = None
    surrogates: bytes | None = None


_Nanoseconds = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""A time in nanoseconds since the epoch that fits into 64 bits: from the year 1677 to 2262."""


_NO_FIELDS: Final = msgspec.Raw()


class _Line(msgspec.Struct, omit_defaults=True):
    """A line of JSON. There is one class for all kinds of entries, because it decodes fastest."""

    time: _Nanoseconds
    rxws: int | None = None
    part: int = 0
    session: _Nanoseconds = 0
    name: str = ""
    url: str | None = None
    wall: _Nanoseconds | None = None
    held: int = 0
    kept: tuple[bool, ...] | None = None
    connection: int | None = None
    raw: str | _Packed | None = None
    event: str | None = None
    # The fields are decoded later, for the type of the event. Arbitrary JSON takes much memory as Python objects.
    fields: msgspec.Raw = _NO_FIELDS
    state: State | None = None
    end: bool = False


OF_CONNECTIONS: Final = (
    *(Connected, Disconnected, Rotated, Resumed, LineJoined, LineLost, Gap, Quiet),
    *(SubscriptionEnded, SubscriptionFailed),
)
"""The events of the feed itself. Other events concern only the program that recorded the feed."""

BEGIN: Final = b'{"time":'
"""How each line begins."""

FIELDS: Final = frozenset(_Line.__struct_fields__)
"""The keys that a line may have."""

_PACKED: Final = frozenset(_Packed.__struct_fields__)

_EVENTS: Final[dict[str, type[Event]]] = {
    name: kind
    for name, kind in vars(events).items()
    if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
}
_MESSAGES: Final = frozenset({(Gap, "last_message"), (CallbackFailed, "message")})
"""Fields of events that hold a message of the feed, which may be any object."""

Note = tuple[float, Any]
"""An entry before it is encoded, which is cheap to make: the loop's time in seconds, and the content. The content of a
frame is a tuple: the raw data, when it was received and when it was delivered (both in nanoseconds since the epoch),
the number of its connection, and ``kept`` if not all of its messages were delivered. Other contents are an Event, a
State, an :class:`Origin`, or None for the end."""

MOST_VALUES: Final = 2**20
"""Bytes of JSON that one list or object in an event may have. As Python objects they take twenty times as much."""

SHORT: Final = 1_000_000
"""A frame that was delivered within this many nanoseconds of its receipt does not count as held."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of a session; see :class:`SessionStart`."""

    name: str
    url: str | None
    wall: int
    part: int = 0
    session: int = 0


def _plain(value: Any) -> Any:
    """Return a text of a subclass of str, such as the frames of ``rxws.nats``, as a str."""
    if isinstance(value, str):
        return str.__str__(value)
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


_encoder: Final = msgspec.json.Encoder(enc_hook=_plain)
_decoder: Final = msgspec.json.Decoder(_Line)
_frame_decoder: Final = msgspec.json.Decoder(str | _Packed)
_fields_decoder: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def encode_notes(notes: Iterable[Note]) -> bytes:
    """Return notes as lines of JSON."""
    lines = [_line(time, what) for time, what in notes]
    try:
        return _encoder.encode_lines(lines)
    except UnicodeEncodeError:
        # A text has lone surrogates. This is rare, so check each line only now.
        for line in lines:
            if isinstance(line.raw, str):
                line.raw = _pack(line.raw)
        return _encoder.encode_lines(lines)


def _line(seconds: float, what: Any) -> _Line:
    time = round(seconds * 1e9)
    # Frames first, because most notes are frames.
    if type(what) is tuple:
        raw, received, delivered, connection, *kept = what
        held = delivered - received
        return _Line(
            time,
            wall=received,
            held=held if held >= SHORT else 0,
            kept=kept[0] if kept else None,
            connection=connection,
            raw=raw if isinstance(raw, str) else _pack(raw),
        )
    match what:
        case Event():
            kind = type(what)
            values = {
                field.name: _to_json(getattr(what, field.name))
                for field in fields(what)
                if (kind, field.name) not in _MESSAGES
            }
            return _Line(time, event=kind.__name__, fields=msgspec.Raw(_encoder.encode(values)))
        case State():
            return _Line(time, state=what)
        case Origin():
            return _Line(time, rxws=FORMAT, **asdict(what))
        case _:
            return _Line(time, end=True)


def _pack(raw: str | bytes) -> str | _Packed:
    if not isinstance(raw, str):
        return _Packed(binary=raw)
    try:
        raw.encode()
    except UnicodeEncodeError:
        return _Packed(surrogates=raw.encode(errors="surrogatepass"))
    return raw


def _unpack(raw: str | _Packed) -> str | bytes:
    if isinstance(raw, str):
        return raw
    if raw.binary is not None:
        return raw.binary
    if raw.surrogates is not None:
        return raw.surrogates.decode(errors="surrogatepass")
    raise ValueError("the frame has no content")


def _to_json(value: Any) -> Any:
    if isinstance(value, BaseException):
        return redact(repr(value))
    return _pack(value) if isinstance(value, str | bytes) else value


def _from_json(field: str, value: msgspec.Raw) -> Any:
    if field == "raw":
        return _unpack(_frame_decoder.decode(value))
    octets = memoryview(value)
    if len(octets) > MOST_VALUES and bytes(octets[:1]) in b"[{":
        raise ValueError(f"a value of the event has {len(octets):,} bytes")
    decoded = msgspec.json.decode(value)
    if isinstance(decoded, dict) and decoded.keys() & _PACKED:
        decoded = _unpack(msgspec.convert(decoded, _Packed))
    return RecordedError(decoded) if field == "error" else decoded


def _event(kind: type[Event], raw: msgspec.Raw) -> Event:
    known = {field.name for field in fields(kind)}
    values = {name: _from_json(name, value) for name, value in _fields_decoder.decode(raw).items() if name in known}
    values |= {field: None for holder, field in _MESSAGES if holder is kind}
    # Check the field types of events that are replayed. Other events have exceptions, which msgspec cannot convert.
    return msgspec.convert(values, kind) if kind in OF_CONNECTIONS else kind(**values)


def decode_line(line: bytes) -> Entry:
    """Return the entry in a line.

    Raises:
        ValueError: the line is not an entry.
        RxwsError: the line is of a later format, which this version cannot read.
    """
    try:
        read = _decoder.decode(line)
        if read.connection is not None and read.raw is not None and read.wall is not None:
            return FrameEntry(read.time, _unpack(read.raw), read.wall, read.connection, read.held, read.kept)
        if read.event is not None and read.fields is not _NO_FIELDS:
            return EventEntry(read.time, _event(_EVENTS[read.event], read.fields))
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"not an entry of a recording: {error!r}") from error
    if read.state is not None:
        return StateEntry(read.time, read.state)
    if read.rxws is not None and read.wall is not None:
        if read.rxws > FORMAT:
            raise RxwsError(f"the recording has format {read.rxws}: this version of rxws reads up to {FORMAT}")
        return SessionStart(read.time, read.name, read.url, read.wall, read.part, read.session)
    if read.end:
        return SessionEnd(read.time)
    raise ValueError("not an entry of a recording")


def is_begun(line: bytes) -> bool:
    """Return whether a line may be an entry that was cut short."""
    return BEGIN.startswith(line[: len(BEGIN)]) and not line.endswith(b"}")
