"""Leaves out entries whose time is damaged: the time jumps, and the lines after it contradict the jump. No I/O.

The times of one session ascend. A step of more than a second, forward or backward, is checked against the entries that
follow in the session. If they do not decide, the wall-clock times of frames do, because the wall clock advances as fast
as the monotonic clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from .entries import Entry, FrameEntry, SessionStart

__all__ = ["DISAGREEMENT", "without_jumps"]

STEP: Final = 10**9
"""The longest step in nanoseconds that is not checked. A wrong step of this size delays a replay only by one second."""

LOOK: Final = 8
"""Maximum number of entries that are read ahead for a check."""

DISAGREEMENT: Final = 3_600 * 10**9
"""Nanoseconds by which the wall clock may differ from the monotonic clock, because it may have been set meanwhile."""

LONGEST_SILENCE: Final = 30 * 86_400 * 10**9
"""The longest silence before the last entry of a session, in nanoseconds, that no wall-clock time needs to confirm."""


def without_jumps(entries: Iterator[tuple[int, Entry]], reject: Callable[[int], object]) -> Iterator[Entry]:
    """Yield the entries whose time is plausible.

    Args:
        entries: the entries, each with the number of its line.
        reject: called with the number of each line whose time is damaged.

    Raises:
        Exception: an exception that ``entries`` raises, after the entries before it.
    """
    ahead = _Ahead(entries)
    # The previous entry of the same session, and the last entry of the session that has a wall-clock time.
    before: Entry | None = None
    walled: FrameEntry | SessionStart | None = None
    while (item := next(entries, None) if ahead.is_empty else ahead.take()) is not None:
        number, entry = item
        if isinstance(entry, SessionStart):
            if _contradicts_start(entry, walled is not None, ahead.session()):
                reject(number)
                before = None
                continue
            walled = entry
        elif (
            before is not None
            and not -STEP <= entry.time - before.time <= STEP
            and _is_contradicted(entry, before, walled, ahead.session())
        ):
            reject(number)
            continue
        before = entry
        if isinstance(entry, FrameEntry):
            walled = entry
        yield entry


class _Ahead:
    """Entries that were read ahead.

    Attributes:
        is_empty: whether there is neither an entry nor an error that was read ahead.
    """

    def __init__(self, entries: Iterator[tuple[int, Entry]]) -> None:
        self.is_empty = True
        self._entries = entries
        self._read: deque[tuple[int, Entry]] = deque()
        self._error: Exception | None = None

    def take(self) -> tuple[int, Entry]:
        """Return and remove the first entry, or raise the error that came in place of it."""
        if not self._read:
            assert self._error is not None
            raise self._error
        item = self._read.popleft()
        self.is_empty = not self._read and self._error is None
        return item

    def session(self) -> list[Entry]:
        """Return the next entries of this session, without removing them."""
        following: list[Entry] = []
        for index in range(LOOK):
            if index == len(self._read) and not self._read_one():
                break
            entry = self._read[index][1]
            if isinstance(entry, SessionStart):
                break
            following.append(entry)
        return following

    def _read_one(self) -> bool:
        if self._error is not None:
            return False
        try:
            item = next(self._entries, None)
        except Exception as error:
            # Raise the error when the entries before it have been taken.
            self._error, self.is_empty = error, False
            return False
        if item is None:
            return False
        self._read.append(item)
        self.is_empty = False
        return True


def _is_contradicted(
    entry: Entry, before: Entry, walled: FrameEntry | SessionStart | None, following: list[Entry]
) -> bool:
    """Return whether the step from ``before`` to ``entry`` is damage."""
    if entry.time < before.time:
        # If most of the following entries continue from the previous entry, this entry is damaged. Otherwise it belongs
        # to a new session with another clock, whose header is a bad line.
        return 2 * sum(other.time >= before.time - STEP for other in following) > len(following)
    against = [other for other in following if other.time < entry.time - STEP]
    if following and (len(against) != 1 or against[0].time < before.time - STEP):
        return len(against) > 1
    # Either two entries contradict each other, or this is the last entry of its session.
    if isinstance(entry, FrameEntry) and walled is not None:
        return entry.time - walled.time - (entry.received - _wall(walled)) > DISAGREEMENT
    return bool(against) or entry.time - before.time > LONGEST_SILENCE


def _contradicts_start(start: SessionStart, has_session_before: bool, following: list[Entry]) -> bool:
    """Return whether the time or the date of a session's header is damaged."""
    if not following:
        return False
    if len(following) > 1 and all(other.time < start.time - STEP for other in following):
        return True
    frame = next((other for other in following if isinstance(other, FrameEntry)), None)
    if frame is None:
        return False
    excess = frame.time - start.time - (frame.received - start.wall)
    # The date of the first session delays no frame, so it is not checked. It may be wrong, because a device without a
    # battery sets its clock some time after its start.
    return excess > DISAGREEMENT and (has_session_before or following[0].time > start.time + STEP)


def _wall(entry: FrameEntry | SessionStart) -> int:
    return entry.received if isinstance(entry, FrameEntry) else entry.wall
