"""Recordings: a feed is written to a file, and played from it, as if it were live.

::

    entries     what a recording holds, each as a line of JSON; pure
    locks       one recording at a time in a file
    files       lines in a file: appended, compressed, read back, whatever happened to them
    reading     read(): the entries one after the other
    recorder    record(): a thread that writes what a feed delivers
    moments     what happened when, in one time for all sessions; pure
    clock       the recording's time
    consumers   waiting for those who are slow
    playback    a feed whose frames come from a script
    replaying   replay(): a recording is that script
"""

from __future__ import annotations

from .entries import Entry, EventEntry, FrameEntry, RecordedError, SessionEnd, SessionStart, StateEntry
from .reading import Reading, read
from .recorder import Recording, record
from .replaying import Replay, replay

__all__ = [
    "Entry",
    "EventEntry",
    "FrameEntry",
    "Reading",
    "RecordedError",
    "Recording",
    "Replay",
    "SessionEnd",
    "SessionStart",
    "StateEntry",
    "read",
    "record",
    "replay",
]
