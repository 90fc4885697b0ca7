"""Recording a feed: what it delivers and what happens to it, written by a thread of its own."""

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
from .entries import Note, Origin, encode_notes
from .files import Appender

__all__ = ["Recording", "record"]

STEP: Final = 0.01
"""Seconds between two looks at what is to be written. Each turn of the loop may wait until its thread has the
interpreter's lock again: of 50,000 messages a second, one look finds as many as take a millisecond or two. With five
times as many, other tasks waited for 8 to 40 ms."""

BATCH: Final = 500
"""Entries that are made into lines at a time. Fewer would not be kinder: where the loop's thread never rests, ours has
its turn every few milliseconds, and should make something of it."""

MOST_BYTES: Final = 2**28
"""Bytes of frames that may wait to be written, before the disk is too slow for the feed."""

CLOSE_TIMEOUT: Final = 10.0
"""Seconds that leaving the block waits for the disk."""

GLANCE: Final = 0.005
"""Seconds between two looks at whether it is done, where the loop must not stand meanwhile."""


def _ignore(_error: Exception) -> None:
    """How the feed ended is not the recording's concern."""


class Recording(abc.DisposableBase):
    """A recording that runs; what :func:`record` returns.

    Attributes:
        path: the file.
        frames: how many frames have been written.
        error: what made the recording stop, or None.
    """

    def __init__(
        self, ws: AsyncWebsocketStreamInterface[Any], path: str | os.PathLike[str], flush_interval: float
    ) -> None:
        check_seconds("flush_interval", flush_interval, zero=False)
        if not isinstance(ws, AsyncWebsocketStreamInterface):
            raise TypeError(
                f"ws must be a feed, the first argument of record, not an object of type {type(ws).__name__}"
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
        # Appended to by the loop's thread and emptied by ours: a deque needs no lock for that.
        self._notes: deque[Note] = deque()
        # How many have been written since the file was flushed, and when that was.
        self._unsafe, self._flushed = 0, time.monotonic()
        self._bytes = self._bytes_taken = 0
        self._ending = threading.Event()
        self._file = Appender(self.path)
        url = ws.shown_url if isinstance(ws, ReactiveWebSocket) else None
        self._note(Origin(redact(feed.reporter.name), url, time.time_ns()))
        # A daemon, so that a program which forgets to exit() its feed can end; then _end comes by atexit.
        self._thread = threading.Thread(target=self._run, name=f"rxws recording {self.path.name}", daemon=True)
        self._thread.start()
        atexit.register(self.dispose)
        # In this order: the state that the feed is in stands before what happens in it. The events end last.
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
            self._fail(TimeoutError(f"the file is too slow: {MOST_BYTES:,} bytes wait to be written"))
            return
        raw, received, connection = frame
        kept = self._dispatcher.kept
        note = raw, received, time.time_ns(), connection
        self._notes.append((self._now(), note if kept is None else (*note, kept)))
        self._bytes += len(raw)

    def _end(self, _error: Exception | None = None) -> None:
        """Write what is left and close the file, soon. Idempotent."""
        if not self._ending.is_set():
            self._note(None)
            self._ending.set()

    def _give_up(self) -> None:
        """Tell that the recording has failed."""
        for subscription in self._subscriptions:
            subscription.dispose()
        self._ending.set()
        lost = self._unsafe + len(self._notes)
        self._notes.clear()
        reporter, error = self._context.reporter, self.error
        assert error is not None
        reporter.log(logging.ERROR, "the recording to %s stopped: %s", self.path, error, about=self.path)
        reporter.emit(RecordingFailed, path=os.fspath(self.path), error=error, lost=lost)

    # In the recording's own thread

    def _run(self) -> None:
        step = min(STEP, self._flush_interval / 2)
        try:
            ended = False
            while not ended:
                # What was noted before the end is written, too: so this is asked first.
                ended = self._ending.wait(step)
                while self._notes:
                    self._write()
                    self._flush_if_due(step)
                self._flush_if_due(step)
            self._file.close()
        except Exception as error:
            self._file.abandon()
            self._fail(error)
        finally:
            atexit.unregister(self.dispose)

    def _write(self) -> None:
        """Write a batch of what has been noted."""
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
        self._file.append(encode_notes(batch))
        self.frames += frames

    def _flush_if_due(self, step: float) -> None:
        """Flush what is not safe, unless the next look is early enough for it."""
        now = time.monotonic()
        if self._unsafe and now - self._flushed >= self._flush_interval - step:
            self._file.flush()
            self._unsafe, self._flushed = 0, now

    # In either

    def _fail(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
            self._context.call(self._give_up)

    def dispose(self) -> None:
        """Stop recording, and wait until all is written: for 10 seconds at most, then a warning says so.

        Idempotent; may be called from any thread.
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
            logging.getLogger("rxws").warning("%s takes nothing: the end of the recording may be lost", self.path)

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
        # By the wall's time, also where the loop's is virtual: a thread is waited for.
        deadline = time.monotonic() + CLOSE_TIMEOUT
        while self._thread.is_alive() and time.monotonic() < deadline:  # noqa: ASYNC110 - a thread sets no event here
            await asyncio.sleep(GLANCE)
        self._warn_if_stuck()

    def __repr__(self) -> str:
        state = "failed" if self.error else "ended" if self._ending.is_set() else "running"
        return f"<Recording {os.fspath(self.path)!r} {state}: {self.frames} frames>"


def record(
    ws: AsyncWebsocketStreamInterface[Any], path: str | os.PathLike[str], *, flush_interval: float = 1.0
) -> Recording:
    """Record every frame of a feed, and its events and states in between, from now on.

    A thread of its own encodes, compresses and writes: the feed never waits for the disk. Frames are written as they
    came, whatever they hold; of the address, secrets are left out. What is there is kept: another session is appended,
    also where the last one was cut short. One recording at a time may write to a file. (On Windows nothing keeps
    another from it, and the two spoil the file: give each its own.)

    It ends when it is disposed or its block is left, when the feed ends, and with the program. Leaving the block waits
    until all is written, for 10 seconds at most; ``async with`` lets the loop go on meanwhile. When the file takes no
    more (a full disk, or one that is 256 MiB behind), the recording stops with an error in the log and a
    :class:`~rxws.RecordingFailed` event; the feed goes on.

    Args:
        ws: the feed.
        path: the file: lines of JSON, compressed if its name ends in ``.gz`` or ``.zst``.
        flush_interval: seconds after which a frame is safe from the end of the process, ``kill -9`` included.

    Returns:
        A Disposable that is a context manager, too, of both kinds.

    Raises:
        OSError: the file cannot be opened.
        FileExistsError: what is in the file is no recording.
        BlockingIOError: another recording is writing to it.
        ImportError: ``.zst`` needs ``pip install 'rxws[zstd]'`` before Python 3.14.
        TypeError: ``ws`` is no feed, or ``flush_interval`` is no number.
        ValueError: ``flush_interval`` is not positive and finite.
        RuntimeError: outside the loop's thread.

    Example::

        with rxws.record(ws, "feed.jsonl.gz"):
            await asyncio.sleep(3600)
    """
    return Recording(ws, path, flush_interval)
