"""Drops copies by their frames alone, while all lines have the same messages and no other rule is needed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from ..messages.frames import Frame
from ..reporting.reporter import Counters
from .matching import Delivery, Limits, Matcher

__all__ = ["Lockstep"]

#: The bit of a frame whose first arrival was timed, to measure the lag of its copies. Each line has another bit.
PROBE: Final = 1

#: The bits of a frame that has arrived several times on one line. It has every line's bit, so it never seems a copy.
REPEATED: Final = -1


@dataclass(eq=False, slots=True)
class _Repeats:
    """How often a frame was delivered, and has arrived on each line.

    Attributes:
        delivered: how often it was delivered.
        had: how often it has arrived on each line.
        since: when a line was first seen to have it less often than it was delivered; infinity: none has.
    """

    delivered: int
    had: dict[int, int]
    since: float = math.inf


class Lockstep:
    """The frames that have arrived while all lines are joined, each with the lines on which it has arrived.

    A frame costs two or three lookups in dicts, and no clock call. The matcher, which needs ten times as long, gets to
    know the deliveries when another rule concerns them: when a line ends, begins, or lacks a message for too long.

    Attributes:
        is_on: whether frames are compared here.
        channels: the channels of the frames, where the feed has channels: one, or a list of those of a ``Many``.

    Args:
        matcher: has the other rules.
        limits: the limits of the matcher.
        counters: counts copies.
        firsts: counts the first arrivals of each line of the feed.
        clock: returns the time.
    """

    def __init__(
        self,
        matcher: Matcher[Any],
        limits: Limits,
        counters: Counters,
        firsts: dict[int, int],
        clock: Callable[[], float],
    ) -> None:
        self.is_on = False
        self.channels: Final[dict[Frame, Any]] = {}
        self._matcher = matcher
        self._limits = limits
        self._counters = counters
        self._firsts = firsts
        self._clock = clock
        self._bits: dict[int, int] = {}
        # The lines on which each frame has arrived, as bits: the newest frames, and the older ones.
        self._seen: Final[dict[Frame, int]] = {}
        self._older: Final[dict[Frame, int]] = {}
        self._repeats: dict[Frame, _Repeats] = {}
        # The frames that some line lacks, with the time when that was first seen.
        self._late: dict[Frame, float] = {}
        # The frames that the matcher knows.
        self._known: dict[Frame, int] = {}
        # The number and the bytes of the newest frames at the last look.
        self._looked = self._bytes = 0
        self._is_due = False
        self._probed_at = 0.0

    # The hot path

    def comparer(self, number: int, line: int, compare: Callable[[Frame], bool], *busy: Any) -> Callable[[Frame], bool]:
        """Return the function that takes a frame of a connection if it is a copy, and returns whether it is.

        Args:
            number: the number of the connection.
            line: its line.
            compare: does the same by the matcher; called while frames are not compared here.
            busy: collections that are empty unless a frame must be parsed before it can be compared.
        """
        used = self._bits.values()
        self._bits[number] = bit = next(
            each for each in (2 << place for place in itertools.count()) if each not in used
        )
        seen, older, firsts, counters = self._seen, self._older, self._firsts, self._counters
        expected, watching = busy

        def is_copy(frame: Frame) -> bool:
            if not self.is_on or expected or watching or (type(frame) is not str and type(frame) is not bytes):
                return compare(frame)
            lines = seen.get(frame)
            if lines is None:
                if frame not in older:
                    seen[frame] = bit
                    firsts[line] += 1
                    if self._is_due:
                        self._begin_probe(frame)
                    return False
                lines = older.pop(frame)
            if lines & bit:
                seen[frame] = REPEATED
                return self._repeated(frame, number, line, lines)
            seen[frame] = lines | bit
            counters.duplicates += 1
            if lines & PROBE:
                self._matcher.note_lag(number, self._clock() - self._probed_at)
            return True

        return is_copy

    def _begin_probe(self, frame: Frame) -> None:
        self._seen[frame] |= PROBE
        self._is_due, self._probed_at = False, self._clock()

    def _repeated(self, frame: Frame, number: int, line: int, lines: int) -> bool:
        """Take a frame that a line has had before. Each delivery leaves one credit on every other line."""
        repeats = self._repeats.get(frame) or self._repeats_of(frame, lines)
        repeats.had[number] += 1
        if repeats.had[number] <= repeats.delivered:
            self._counters.duplicates += 1
            return True
        repeats.delivered = repeats.had[number]
        self._firsts[line] += 1
        return False

    def _repeats_of(self, frame: Frame, lines: int) -> _Repeats:
        had = {line: int(bool(lines & bit)) for line, bit in self._bits.items()}
        return self._repeats.setdefault(frame, _Repeats(1, had))

    # Beginning, looking, ending

    def begin(self) -> None:
        """Compare frames from now on. All lines must be joined."""
        full = sum(self._bits.values())
        for delivery, owing in self._matcher.remembered_deliveries():
            frame, place = _frame_of(delivery.key)
            if place > 0:
                # The messages of one frame arrive together.
                continue
            known = self._known.get(frame)
            self._known[frame] = full - sum(self._bits[line] for line in owing)
            if known is not None:
                repeats = self._repeats.get(frame) or self._repeats_of(frame, known)
                repeats.delivered += 1
                for line in self._bits:
                    repeats.had[line] += line not in owing
                self._known[frame] = REPEATED
            elif owing:
                self._late[frame] = delivery.time
        for frame, lines in self._known.items():
            (self._older if lines & full == full else self._seen)[frame] = lines
        self._looked = len(self._seen)
        self.is_on = True

    def look(self, now: float) -> bool:
        """Return whether every line still has every message soon enough. Called every few hundredths of a second."""
        full = sum(self._bits.values())
        self._late = {frame: at for frame, at in self._late.items() if self._lacks(frame, full)}
        if any(at <= now - self._matcher.patience for at in self._late.values()):
            return False
        newest = list(islice(self._seen.items(), self._looked, None))
        self._late.update((frame, now) for frame, lines in newest if lines & full != full)
        self._bytes += sum(len(frame) for frame, _ in newest)
        self._looked = len(self._seen)
        for repeats in self._repeats.values():
            self._expire(repeats, now)
        if 2 * self._looked > self._limits.messages or 2 * self._bytes > self._limits.bytes:
            self._roll(full)
        self._is_due = True
        return True

    def _lacks(self, frame: Frame, full: int) -> bool:
        return self._seen.get(frame, full) & full != full

    def _expire(self, repeats: _Repeats, now: float) -> None:
        if all(had == repeats.delivered for had in repeats.had.values()):
            repeats.since = math.inf
        elif repeats.since == math.inf:
            repeats.since = now
        elif now - repeats.since > self._matcher.reach:
            repeats.had = dict.fromkeys(repeats.had, repeats.delivered)

    def _roll(self, full: int) -> None:
        """Forget the older half of the frames."""
        self._older.clear()
        self._older.update(self._seen)
        self._seen.clear()
        for frame in self._late:
            if self._older.get(frame, full) & full != full:
                self._seen[frame] = self._older.pop(frame)
        self._looked, self._bytes = len(self._seen), 0
        for kept in (self._repeats, self.channels, self._known):
            for frame in [each for each in kept if each not in self._older and each not in self._seen]:
                del kept[frame]

    def withdraw(self, frame: Frame, number: int) -> bool:
        """Forget a frame that was not delivered. Return whether a copy of it was dropped meanwhile."""
        return self.is_on and self._seen.pop(frame, 0) & ~PROBE not in (0, self._bits[number])

    def end(self) -> None:
        """Tell the matcher what was delivered, and leave the next frames to it."""
        self.is_on = False
        now = self._clock()
        self._matcher.settle_owed(self._has_arrived)
        for frame, lines in [*self._older.items(), *self._seen.items()]:
            repeats, had = self._repeats.get(frame), [line for line, bit in self._bits.items() if lines & bit]
            for channel, key in self._units(frame):
                if repeats is not None:
                    self._matcher.repeated_meanwhile(channel, key, len(frame), repeats.delivered, repeats.had, now)
                elif frame not in self._known:
                    self._matcher.bypassed(channel, key, len(frame), had, self._late.get(frame, now))
        for kept in (self._seen, self._older, self._repeats, self._late, self.channels, self._known):
            kept.clear()
        self._looked = self._bytes = 0

    def _units(self, frame: Frame) -> Iterator[tuple[Hashable, Hashable]]:
        """Return the channel and the identity of each message of a frame."""
        channels = self.channels.get(frame)
        if type(channels) is not list:
            yield channels, frame
            return
        for place, channel in enumerate(channels):
            yield channel, (frame, place)

    def _has_arrived(self, delivery: Delivery, line: int) -> bool:
        frame, _ = _frame_of(delivery.key)
        lines = self._seen.get(frame, self._older.get(frame, REPEATED))
        return bool(lines & self._bits[line])

    def ended(self, number: int) -> None:
        """Forget a connection that has ended."""
        self._bits.pop(number, None)


def _frame_of(key: Any) -> tuple[Frame, int]:
    """Return the frame of an identity, and the place of its message in the frame."""
    return key if type(key) is tuple else (key, 0)
