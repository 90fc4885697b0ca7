"""What a recording holds, each at its time since the beginning, whatever clocks its sessions had. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..events import Gap
from .entries import OF_CONNECTIONS, Entry, EventEntry, FrameEntry, SessionStart, StateEntry

__all__ = ["Moment", "moments"]

Moment = tuple[float, Any]
"""Seconds since the beginning, and what happened then: a frame as ``ws.frames`` gives it, which is a tuple, an Event, a
State, or None for nothing."""


def moments(entries: Iterable[Entry]) -> Iterator[Moment]:
    """Give what entries hold, in seconds since the first session began; time never goes back.

    The clock of a session is monotonic, but every session has its own: between two, the wall clock counts.
    """
    first: SessionStart | None = None
    shift = last = 0
    for number, entry in enumerate(entries):
        if isinstance(entry, SessionStart):
            began = last
            if first is not None:
                # A wall clock may have been set back meanwhile; time may not.
                began = max(last, entry.wall - first.wall)
                yield began / 1e9, _gap(first, last, began)
            first = first or entry
            shift = began - entry.time
        elif number == 0:
            # The line that began the session is a bad one.
            shift = -entry.time
        last = max(last, entry.time + shift)
        match entry:
            case FrameEntry():
                yield last / 1e9, (entry.raw, entry.received, entry.connection)
            case EventEntry() if isinstance(entry.event, OF_CONNECTIONS):
                yield last / 1e9, entry.event
            case StateEntry():
                yield last / 1e9, entry.state
            case _:
                yield last / 1e9, None


def _gap(first: SessionStart, end: int, start: int) -> Gap:
    """Say that nothing was recorded between the end of one session and the start of the next."""
    since, until = ((first.wall + time) / 1e9 for time in (end, start))
    return Gap(since, until, "recording", None, name=first.name, time=until)
