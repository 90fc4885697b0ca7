"""Audits a recording: finds out what is complete, missing or damaged. No I/O."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .. import codec
from ..connections import Ledger
from ..messages import ABSENT, look_up
from ..reporting import Connected, Disconnected, Event, Gap, Resumed, State
from .entries import Entry, FrameEntry, SessionEnd, SessionStart
from .moments import moments

__all__ = ["Audit", "AuditedGap", "AuditedHole", "Auditor"]

MOST_HOLES: Final = 10_000
"""The largest number of holes that are kept. All are counted."""

INSTANT: Final = 1e-3
"""Shorter times (in seconds) are ignored, because the clocks of a recording are not more accurate."""


@dataclass(slots=True)
class AuditedGap:
    """A gap of a recording.

    Attributes:
        start: its start, in seconds since the epoch.
        end: its end.
        reason: as in :class:`~rxws.Gap`.
        missing: the number of messages that are missing there; None if messages have no numbers.
        unknown: the number of keys without a later message, so that their missing messages are unknown.
    """

    start: float
    end: float
    reason: str
    missing: int | None
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class AuditedHole:
    """A hole in the numbers of messages that no gap explains.

    Attributes:
        key: the key of the message, or None.
        first: the first missing number.
        last: the last missing number.
        time: when the first message after the hole was received, in seconds since the epoch.
    """

    key: Any
    first: int
    last: int
    time: float


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of an audit.

    Attributes:
        messages: the number of messages.
        numbered: the number of messages with a number; None if no key of a number was given.
        sessions: the number of sessions.
        cut_short: the number of sessions that were not closed properly.
        start: when the first connection or message was recorded, in seconds since the epoch; None without one.
        end: when the last message was received, in seconds since the epoch; None without one.
        proven: seconds in which connections were complete.
        resumed: seconds without a connection whose messages arrived later.
        resumptions: the number of connections that resumed.
        gaps: the gaps, in the order in which they were reported.
        gap_seconds: the length of all gaps together.
        unexplained: seconds that neither a connection nor a gap covers.
        holes: the first 10,000 holes in the numbers that no gap explains.
        missing: the number of messages that are missing in all such holes; None if messages have no numbers.
        doubles: the number of messages whose number had arrived before; None if messages have no numbers.
        damaged_lines: the numbers of the lines that cannot be read.
    """

    messages: int
    numbered: int | None
    sessions: int
    cut_short: int
    start: float | None
    end: float | None
    proven: float
    resumed: float
    resumptions: int
    gaps: tuple[AuditedGap, ...]
    gap_seconds: float
    unexplained: float
    holes: tuple[AuditedHole, ...]
    missing: int | None
    doubles: int | None
    damaged_lines: tuple[int, ...]

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing, duplicated, damaged or unexplained.

        A gap counts only if a number is missing in it, or if it is not known whether one is.
        """
        has_loss = any(gap.missing is None or gap.missing or gap.unknown for gap in self.gaps)
        faults = self.missing, self.doubles, self.damaged_lines, self.unexplained > INSTANT
        return not (has_loss or any(faults))


@dataclass(slots=True)
class _Key:
    last: int
    # The number of gaps before its last message.
    gaps: int


class Auditor(Iterator[None]):
    """Audits entries. Iterate over it to the end, and then call :meth:`result`.

    In a frame with a JSON array of objects, each object is a message.

    Args:
        entries: the entries of a recording.
        sequence: the key or path of the messages' numbers, which grow by one; None if there are none.
        key: the key or path of a field, such as a symbol, for whose values messages are numbered separately, or a list
            of several, whose values together are numbered; None if all messages have one count.

    Example::

        reading = rxws.read("feed.jsonl.gz")
        auditor = Auditor(reading, sequence="n", key="s")
        for _ in auditor:
            pass
        print(auditor.result(reading.bad_lines).is_whole)
    """

    def __init__(
        self, entries: Iterable[Entry], sequence: Hashable = None, key: Hashable | list[Hashable] = None
    ) -> None:
        self._sequence = sequence
        self._key = key
        self._moments = moments(self._counted(entries))
        self._ledger = Ledger(limit=None)
        self._gaps: list[AuditedGap] = []
        self._holes: list[AuditedHole] = []
        self._keys: dict[Hashable, _Key] = {}
        self._messages = self._numbered = self._missing = self._doubles = 0
        self._sessions = self._ends = self._resumptions = 0
        self._resumed = self._ended_at = 0.0
        # The times of the start of the first session, of the first connection or message, and of the last message.
        self._epoch: float | None = None
        self._first: float | None = None
        self._heard: float | None = None
        # The connection about which no event has decided yet whether it follows the last one, and the time without
        # messages before its first message.
        self._undecided: int | None = None
        self._silence: tuple[float, float] | None = None
        # Whether the last frame was an empty text.
        self._is_empty = False

    def __next__(self) -> None:
        seconds, what = next(self._moments)
        match what:
            case tuple():
                self._take_frame(*what)
            case Event():
                self._take_event(what)
            case State() if what.is_live and self._epoch is not None:
                self._begin(self._epoch + seconds)
                self._ledger.began(self._epoch + seconds)

    def result(self, bad_lines: Sequence[int]) -> Audit:
        """Return the audit of the entries so far. ``bad_lines`` are the lines that could not be read."""
        self._decide()
        self._ledger.heard(self._heard)
        intervals = [(each.start, each.end) for each in self._ledger.continuity().intervals]
        gaps = [(gap.start, gap.end) for gap in self._gaps]
        seen = Counter(each.gaps for each in self._keys.values())
        unknown = itertools.accumulate(seen[number] for number in range(len(self._gaps)))
        for gap, count in zip(self._gaps, unknown, strict=True):
            gap.unknown = count
        has_numbers = self._sequence is not None
        span = 0.0 if self._first is None or self._heard is None else self._heard - self._first
        within = [(max(start, self._first or 0.0), min(end, self._heard or 0.0)) for start, end in (*intervals, *gaps)]
        return Audit(
            messages=self._messages,
            numbered=self._numbered if has_numbers else None,
            sessions=self._sessions,
            cut_short=self._sessions - self._ends,
            start=self._first,
            end=self._heard,
            proven=max(0.0, _length(intervals) - self._resumed),
            resumed=self._resumed,
            resumptions=self._resumptions,
            gaps=tuple(self._gaps),
            gap_seconds=_length(gaps),
            unexplained=max(0.0, span - _length(within)),
            holes=tuple(self._holes),
            missing=self._missing if has_numbers else None,
            doubles=self._doubles if has_numbers else None,
            damaged_lines=tuple(bad_lines),
        )

    def _counted(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Count sessions, and yield all entries."""
        has_begun = False
        for entry in entries:
            if isinstance(entry, SessionStart):
                self._epoch = entry.wall / 1e9 if self._epoch is None else self._epoch
            # If the header of a session is a bad line, the session begins with its first frame, or has only its end.
            if isinstance(entry, SessionStart) or (isinstance(entry, FrameEntry | SessionEnd) and not has_begun):
                self._sessions += 1
                has_begun = True
            if isinstance(entry, SessionEnd):
                self._ends += 1
                has_begun = False
            yield entry

    def _begin(self, time: float) -> None:
        self._first = time if self._first is None else self._first

    # Events

    def _take_event(self, event: Event) -> None:
        if isinstance(event, Disconnected):
            self._ended_at = event.time if event.number is not None else self._ended_at
        elif isinstance(event, Resumed):
            self._resumptions += 1
            self._resumed += max(0.0, event.time - self._ended_at)
        elif isinstance(event, Gap):
            if self._heard is not None:
                self._ledger.extend(self._heard)
            if event.reason == "source" and self._is_empty:
                # The frame before was no message: a NatsFeed has an empty frame where messages are missing.
                self._messages -= 1
            start, missing = event.start, None if self._sequence is None else 0
            if event.reason == "recording" and self._heard is not None:
                # It is unknown how long a connection stayed complete after its last message.
                start = min(start, self._heard)
            self._gaps.append(AuditedGap(start, event.end, event.reason, missing))
        if isinstance(event, Connected) or (isinstance(event, Disconnected) and event.number == self._undecided):
            self._decide()
        self._ledger.note(event)
        if self._ledger.complete_since is not None:
            self._begin(event.time)
            self._undecided = self._silence = None
        elif isinstance(event, Connected):
            self._undecided = event.number

    def _decide(self) -> None:
        """Exclude the silence before a connection with messages, if the event that decides about it is not recorded."""
        if self._silence is not None:
            self._ledger.extend(self._silence[0])
            self._ledger.exclude(*self._silence)
        self._undecided = self._silence = None

    # Messages

    def _take_frame(self, raw: str | bytes, received: int, connection: int, kept: tuple[bool, ...] | None) -> None:
        before, self._heard, self._is_empty = self._heard, received / 1e9, raw == ""
        if connection == self._undecided and self._silence is None and before is not None:
            self._silence = min(before, self._heard), self._heard
        self._begin(self._heard)
        messages = _messages(raw, self._sequence is not None)
        if kept is not None and len(kept) == len(messages):
            messages = [message for message, is_kept in zip(messages, kept, strict=True) if is_kept]
        self._messages += len(messages)
        if self._sequence is not None:
            for message in messages:
                number = _whole(look_up(message, self._sequence))
                if number is not None:
                    self._take_number(self._key_of(message), number)

    def _key_of(self, message: Any) -> Hashable:
        if isinstance(self._key, list):
            return tuple(_hashable(look_up(message, each)) for each in self._key)
        return None if self._key is None else _hashable(look_up(message, self._key))

    def _take_number(self, key: Hashable, number: int) -> None:
        self._numbered += 1
        known = self._keys.get(key)
        if known is None:
            self._keys[key] = _Key(number, len(self._gaps))
            return
        if number <= known.last:
            self._doubles += 1
            return
        missing = number - known.last - 1
        if missing and known.gaps < len(self._gaps):
            gap = self._gaps[known.gaps]
            gap.missing = (gap.missing or 0) + missing
        elif missing:
            self._missing += missing
            if len(self._holes) < MOST_HOLES:
                self._holes.append(AuditedHole(key, known.last + 1, number - 1, self._heard or 0.0))
        known.last, known.gaps = number, len(self._gaps)


def _messages(raw: str | bytes, is_decoded: bool) -> list[Any]:
    """Return the messages of a frame, with None for messages that are not decoded."""
    if not is_decoded and raw[:1] not in ("[", b"["):
        return [None]
    try:
        message = codec.decode(raw)
    except (ValueError, RecursionError):
        return [None]
    if isinstance(message, list) and message and all(isinstance(item, dict) for item in message):
        return message
    return [message]


def _whole(value: Any) -> int | None:
    """Return a value as a whole number; None if it is not one."""
    if type(value) is str and value.isdecimal():
        return int(value)
    return int(value) if type(value) in (int, float) and value == int(value) else None


def _hashable(key: Any) -> Hashable:
    if key is ABSENT:
        return None
    return key if isinstance(key, Hashable) else repr(key)


def _length(times: list[tuple[float, float]]) -> float:
    """Return the length of the union of these intervals."""
    length, until = 0.0, float("-inf")
    for start, end in sorted(times):
        length += max(0.0, end - max(start, until))
        until = max(until, end)
    return length
