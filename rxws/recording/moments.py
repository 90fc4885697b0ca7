"""The entries of a recording on one clock, although each session has its own. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..reporting import Connected, Gap, State
from .entries import OF_CONNECTIONS, Entry, EventEntry, FrameEntry, SessionStart, StateEntry
from .timeline import DISAGREEMENT

__all__ = ["Moment", "moments"]

Moment = tuple[float, Any]
"""Seconds since the start of the recording, and the content: an Event, a State, None, or a tuple for a frame. The tuple
has the items of ``ws.frames``, and ``kept`` of the frame's entry."""


def moments(entries: Iterable[Entry]) -> Iterator[Moment]:
    """Yield the contents of entries with seconds since the start of the first session. The seconds never go back.

    Each session has its own monotonic clock. The pause between two sessions is measured with the wall clock. As in a
    live feed, the Gap between two sessions follows directly after the next event Connected.
    """
    first: SessionStart | None = None
    shift = last = 0
    # When the previous session ended; None when its gap has been emitted.
    since: int | None = None
    # The latest entry with a wall-clock time: the time at which it is played, and its wall-clock time.
    played = wall = 0
    for number, entry in enumerate(entries):
        if isinstance(entry, SessionStart):
            if first is not None:
                since = last if since is None else since
                start, by_latest = entry.wall - first.wall, played + entry.wall - wall
                if abs(start - by_latest) > DISAGREEMENT:
                    # The wall clock was set during an earlier session, or a date is damaged. Do not wait that long.
                    start = min(start, by_latest)
                # The wall clock may have been set back between the sessions. The time of a replay never goes back.
                last = max(last, start)
            first = first or entry
            played, wall = last, entry.wall
            shift = last - entry.time
        elif number == 0:
            # The header of the session is a bad line.
            shift = -entry.time
        before, last = last, max(last, entry.time + shift)
        if isinstance(entry, FrameEntry):
            played, wall = last, entry.received
        what = _what(entry)
        if since is None or first is None or not _is_live(what):
            yield last / 1e9, what
        elif isinstance(what, Connected):
            yield last / 1e9, what
            yield last / 1e9, _gap(first, since, last)
            since = None
        else:
            # The feed was connected during the whole time.
            yield before / 1e9, _gap(first, since, before)
            yield last / 1e9, what
            since = None


def _what(entry: Entry) -> Any:
    match entry:
        case FrameEntry():
            return entry.raw, entry.received, entry.connection, entry.kept
        case EventEntry() if isinstance(entry.event, OF_CONNECTIONS):
            return entry.event
        case StateEntry():
            return entry.state
        case _:
            return None


def _is_live(what: Any) -> bool:
    """Return whether the content of a moment shows that there is a connection."""
    return type(what) is tuple or isinstance(what, Connected) or (isinstance(what, State) and what.is_live)


def _gap(first: SessionStart, end: int, start: int) -> Gap:
    """Return the Gap between the end of one session and the start of the next."""
    since, until = ((first.wall + time) / 1e9 for time in (end, start))
    return Gap(since, until, "recording", None, name=first.name, time=until)
