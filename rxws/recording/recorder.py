"""Records a feed: a separate thread writes its frames, events and states."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from reactivex import abc

from ..checks import check_seconds
from ..interface import AsyncWebsocketStreamInterface, feed_of
from ..reporting import RecordingFailed, redact
from ..websocket import ReactiveWebSocket
from .entries import Note, Origin
from .rolling import Roll, check_roll
from .sessions import FileSession, RollingSession

__all__ = ["Recording", "record"]

STEP: Final = 0.01
"""Seconds between two writes. While the recording's thread works, the loop may wait for the GIL. At
50,000 messages a second, the messages of one interval take one or two milliseconds. With an interval five times as
long, other tasks waited for 8 to 40 ms."""

BATCH: Final = 500
"""Entries that are encoded at a time. A smaller number would not help the loop, because the recording's thread runs
only every few milliseconds while the loop's thread is busy."""

MOST_BYTES: Final = 2**28
"""Bytes of frames that may wait to be written. If more wait, the disk is too slow, and the recording stops."""

CLOSE_TIMEOUT: Final = 10.0
"""Seconds to wait for the disk at the end of the block."""

GLANCE: Final = 0.005
"""Seconds between two checks for the end of the thread, while the loop continues."""


def _ignore(_error: Exception) -> None:
    """Ignore the error of the feed. The recording just ends."""


class Recording(abc.DisposableBase):
    """A running recording; :func:`record` returns it.

    Attributes:
        path: the file, or the folder.
        frames: the number of frames written.
        error: the exception that stopped the recording, or None.
    """

    def __init__(
        self,
        ws: AsyncWebsocketStreamInterface[Any],
        path: str | os.PathLike[str],
        flush_interval: float,
        roll: Roll | None = None,
    ) -> None:
        check_seconds("flush_interval", flush_interval, zero=False)
        if roll is not None:
            check_roll(roll)
        if not isinstance(ws, AsyncWebsocketStreamInterface):
            raise TypeError(
                f"ws must be a feed (the first argument of record), not an object of type {type(ws).__name__}"
            )
        feed = feed_of(ws)
        feed.context.check()
        self.path = Path(path)
        self.frames = 0
        self.error: Exception | None = None
        self._context = feed.context
        self._now = feed.loop.time
        self._dispatcher = feed.dispatcher
        self._flush_interval = flush_interval
        # The loop's thread appends, and the recording's thread removes. A deque needs no lock for this.
        self._notes: deque[Note] = deque()
        # The number of notes written since the last flush, and the time of that flush.
        self._unsafe, self._flushed = 0, time.monotonic()
        self._bytes = self._bytes_taken = 0
        self._ending = threading.Event()
        url = ws.shown_url if isinstance(ws, ReactiveWebSocket) else None
        origin = Origin(redact(feed.reporter.name), url, round(feed.reporter.now() * 1e9))
        self._session = FileSession(self.path, origin) if roll is None else RollingSession(self.path, origin, roll)
        self._wall, self._time_ns = feed.reporter.now, feed.reporter.time_ns
        self._note(origin)
        # Use a daemon thread, so that a program can end without closing its feed. atexit then ends the recording.
        self._thread = threading.Thread(target=self._run, name=f"rxws recording {self.path.name}", daemon=True)
        self._thread.start()
        atexit.register(self.dispose)
        # The order matters: the current state must come before frames and events, and the events end last.
        self._subscriptions = [
            ws.state.subscribe(self._note, _ignore),
            ws.frames.subscribe(self._note_frame, _ignore),
            ws.events.subscribe(self._note, self._end, self._end),
        ]

    # In the loop's thread

    def _note(self, what: Any) -> None:
        self._notes.append((self._now(), what))

    def _note_frame(self, frame: tuple[str | bytes, int, int]) -> None:
        if self._bytes - self._bytes_taken > MOST_BYTES:
            self._fail(TimeoutError(f"the disk is too slow: more than {MOST_BYTES:,} bytes wait to be written"))
            return
        raw, received, connection = frame
        kept = self._dispatcher.kept
        if kept is not None and not any(kept):
            # It is a copy. A recording has the frames that were delivered.
            return
        note = raw, received, self._time_ns(), connection
        self._notes.append((self._now(), note if kept is None else (*note, kept)))
        self._bytes += len(raw)

    def _end(self, _error: Exception | None = None) -> None:
        """Make the thread write all notes and close the file. It does not wait for the thread. Idempotent."""
        if not self._ending.is_set():
            self._note(None)
            self._ending.set()

    def _give_up(self) -> None:
        """Stop the recording, and report its error."""
        for subscription in self._subscriptions:
            subscription.dispose()
        self._ending.set()
        lost = self._unsafe + len(self._notes)
        self._notes.clear()
        reporter, error = self._context.reporter, self.error
        assert error is not None
        event = reporter.emit(RecordingFailed, path=os.fspath(self.path), error=error, lost=lost)
        reporter.log(logging.ERROR, event, about=event.path)

    # In the recording's own thread

    def _run(self) -> None:
        step = min(STEP, self._flush_interval / 2)
        try:
            ended = False
            while not ended:
                # Check for the end before writing, so that all notes from before the end are written.
                ended = self._ending.wait(step)
                while self._notes:
                    self._write()
                    self._flush_if_due(step)
                self._flush_if_due(step)
            self._session.close()
        except Exception as error:
            self._session.abandon()
            self._fail(error)
        finally:
            atexit.unregister(self.dispose)

    def _write(self) -> None:
        """Write a batch of notes."""
        notes = self._notes
        batch: list[Note] = []
        frames = 0
        while notes and len(batch) < BATCH:
            batch.append(notes.popleft())
            what = batch[-1][1]
            if what is None:
                notes.clear()
            elif type(what) is tuple:
                frames += 1
                self._bytes_taken += len(what[0])
        self._unsafe += len(batch)
        self._session.append(batch, self._offset())
        self.frames += frames

    def _offset(self) -> float:
        """Return the wall clock less the loop's clock."""
        while True:
            now, wall = self._now(), self._wall()
            # A virtual clock may jump between the two calls, because the loop runs in another thread.
            if self._now() - now < 1.0:
                return wall - now

    def _flush_if_due(self, step: float) -> None:
        """Flush the file if a flush at the next check would be too late."""
        now = time.monotonic()
        if self._unsafe and now - self._flushed >= self._flush_interval - step:
            self._session.flush()
            self._unsafe, self._flushed = 0, now

    # In both threads

    def _fail(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
            self._context.call(self._give_up)

    def dispose(self) -> None:
        """Stop recording, and wait until everything is written: at most 10 seconds, and then log a warning.

        Idempotent. It may be called from any thread.
        """
        self._stop()
        self._thread.join(CLOSE_TIMEOUT)
        self._warn_if_stuck()

    def _stop(self) -> None:
        for subscription in self._subscriptions:
            subscription.dispose()
        self._end()

    def _warn_if_stuck(self) -> None:
        if self._thread.is_alive():
            logging.getLogger("rxws").warning(
                "%s: writing does not finish; the end of the recording may be lost", self.path
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()
        # Use real time, because the thread does not follow the virtual time of a loop.
        deadline = time.monotonic() + CLOSE_TIMEOUT
        while self._thread.is_alive() and time.monotonic() < deadline:  # noqa: ASYNC110 - a thread sets no event here
            await asyncio.sleep(GLANCE)
        self._warn_if_stuck()

    def __repr__(self) -> str:
        state = "failed" if self.error else "ended" if self._ending.is_set() else "running"
        return f"<Recording {os.fspath(self.path)!r} {state}: {self.frames} frames>"


def record(
    ws: AsyncWebsocketStreamInterface[Any],
    path: str | os.PathLike[str],
    *,
    flush_interval: float = 1.0,
    roll: Roll | None = None,
) -> Recording:
    """Record the frames, events and states of a feed from now on.

    A separate thread encodes, compresses and writes, so the feed never waits for the disk. Frames are written
    unchanged; the URL is written without secrets. A new file has mode 0600, so that only its user may read it. If the
    file exists, a session is appended, even if the last session was cut short. Only one recording at a time may write
    to a file. (On Windows this is not checked, and two recordings damage the file.)

    The recording ends when it is disposed, at the end of the block, when the feed ends, and when the program ends. The
    end of the block waits until everything is written, at most 10 seconds; with ``async with``, the loop continues
    meanwhile. If the file cannot be written (the disk is full, or 256 MiB wait for it), the recording stops with an
    error in the log and a :class:`~rxws.RecordingFailed` event. The feed continues.

    Args:
        ws: the feed.
        path: the file. It has lines of JSON, compressed if its name ends in ``.gz`` or ``.zst``.
        flush_interval: the seconds after which a frame survives the end of the process, even ``kill -9``; 1 by default.
        roll: None (the default) for one file. Otherwise ``path`` is a folder, which is created if needed, and gets one
            compressed file per ``"day"`` or ``"hour"`` (in UTC), or one whenever a file has this number of bytes. A
            file is named after its start, with ``.partial`` in its name until it is complete. Each can be read alone;
            ``read``, ``replay`` and ``rxws audit`` take the folder as one recording.

    Returns:
        A Disposable that is also a context manager, for ``with`` and ``async with``.

    Raises:
        OSError: the file cannot be opened.
        FileExistsError: the content of the file is not a recording; or with ``roll``, ``path`` is a file.
        BlockingIOError: another recording is writing to it.
        ImportError: ``.zst`` needs ``pip install 'rxws[zstd]'`` before Python 3.14.
        TypeError: ``ws`` is not a feed, ``flush_interval`` is not a number, or ``roll`` is neither a str nor an int.
        ValueError: ``flush_interval`` is not positive and finite, ``roll`` is another str or less than 1.
        RuntimeError: it is called outside the loop's thread.

    Example::

        with rxws.record(ws, "feed.jsonl.gz"):
            await asyncio.sleep(3600)
    """
    return Recording(ws, path, flush_interval, roll)
