"""Recordings: write a feed to a file, and play the file as a feed.

::

    entries     the entries of a recording, each as a line of JSON (no I/O)
    foreign     distinguishes damaged lines from lines that another program wrote (no I/O)
    formats     compression
    lines       the lines of a file, of bounded length
    locks       a lock, so that only one recording writes to a file
    files       appends sessions to a file
    rolling     the files of a folder
    sessions    one session in one file, or in one file after the other
    decoding    from lines to entries, and the bad lines
    timeline    leaves out entries whose time is damaged (no I/O)
    reading     read(): the entries, one by one
    recorder    record(): a thread that writes what a feed delivers
    moments     the entries of all sessions on one clock (no I/O)
    clock       the recording's time
    consumers   waits for slow consumers
    playback    a feed whose frames come from a script
    replaying   replay(): a feed whose script is a recording
    audit       finds out what a recording proves, and which messages are missing (no I/O)
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
