"""Watches an event loop from a thread, and finds the function that blocks the loop."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from ..callables import name_of

__all__ = ["watch_loop"]

#: Seconds between two checks of the loop.
INTERVAL: Final = 0.2

#: Seconds after which a loop that does not answer is reported.
BLOCKED: Final = 0.5

#: The code of the frames around a callback of the loop. uvloop has only the second.
_BOUNDARIES: Final = {asyncio.Handle._run.__code__, asyncio.Runner.run.__code__}

#: Packages whose functions call the user's functions.
_CALLERS: Final = {
    "rxws",
    "reactivex",
    "asyncio",
    "selectors",
    "websockets",
    "picows",
    "ipykernel",
    "IPython",
    "tornado",
}

Report = Callable[[float, tuple[str, ...]], None]


def watch_loop(report: Report) -> Callable[[], None]:
    """Call ``report`` in the running loop after this loop was blocked, with the seconds and the functions' names.

    All feeds of a loop share one thread. It schedules a callback in the loop; until that runs, the thread notes which
    functions run instead. Only time in which the thread itself ran counts, because the thread also stops if the process
    is stopped or the machine sleeps. If the thread is late, only the processor time that the process used counts,
    because C code that holds the GIL stops the thread, too.

    Args:
        report: called in the loop.

    Returns:
        A function that ends this. Idempotent.
    """
    loop = asyncio.get_running_loop()
    watch = _WATCHES.get(loop) or _LoopWatch(loop)
    watch.reports.append(report)

    def end() -> None:
        if report in watch.reports:
            watch.reports.remove(report)
        if not watch.reports:
            watch.end()

    return end


class _LoopWatch(threading.Thread):
    """The thread that watches one loop, made and started in that loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # It is a daemon, so that the program can end although feeds were never closed.
        super().__init__(name="rxws loop watch", daemon=True)
        self.reports: list[Report] = []
        self._loop = loop
        self._watched = threading.get_ident()
        self._ended = threading.Event()
        # Whether the callback has not run yet, the observed time without it, and the functions that ran meanwhile.
        self._asked = False
        self._seconds = 0.0
        self._looked = time.monotonic()
        self._names: dict[str, None] = {}
        _WATCHES[loop] = self
        self.start()

    def end(self) -> None:
        """End the thread soon."""
        self._ended.set()
        _WATCHES.pop(self._loop, None)

    def run(self) -> None:
        """Check the loop periodically."""
        used = time.process_time()
        while not self._ended.wait(INTERVAL):
            now, use = time.monotonic(), time.process_time()
            passed, worked = now - self._looked, use - used
            # If only this thread was late, count only the processor time that the process used: C code may have held
            # the GIL.
            seen = min(passed, 2 * INTERVAL + worked) if self._asked else min(passed - INTERVAL, worked)
            if self._asked or seen >= INTERVAL:
                self._seconds += seen
                self._look()
            if not self._asked:
                self._asked = True
                try:
                    self._loop.call_soon_threadsafe(self._answer)
                except RuntimeError:
                    # The loop was closed before its feeds.
                    self.end()
            self._looked, used = now, use

    def _look(self) -> None:
        frame = sys._current_frames().get(self._watched)
        name = None if frame is None else _running(frame)
        if name is not None:
            self._names[name] = None

    def _answer(self) -> None:
        seconds, names = self._seconds, tuple(self._names)
        if seconds:
            seconds += min(time.monotonic() - self._looked, INTERVAL)
        self._seconds, self._names = 0.0, {}
        self._asked = False
        if seconds >= BLOCKED:
            for report in list(self.reports):
                report(seconds, names)


#: The watch of each loop that has feeds.
_WATCHES: Final[dict[asyncio.AbstractEventLoop, _LoopWatch]] = {}


def _running(frame: FrameType | None) -> str | None:
    """Return the name of the function that the loop runs: the outermost one that rxws or the loop has called."""
    frames: list[FrameType] = []
    while frame is not None and frame.f_code not in _BOUNDARIES:
        frames.append(frame)
        frame = frame.f_back
    if frame is None:
        # No known loop runs a callback, so the outermost functions belong to the program.
        return None
    frames.reverse()
    first = next((number for number, each in enumerate(frames) if _package(each) == "rxws"), 0)
    for each in frames[first:]:
        if _package(each) not in _CALLERS:
            return each.f_code.co_qualname
        handler: Any = each.f_locals.get("self") if each.f_globals["__name__"] == "rxws.streams.handlers" else None
        if handler is not None:
            return name_of(handler._function)
    return None


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
