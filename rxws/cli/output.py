"""Writes to standard output and standard error without blocking the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import queue
import select
import stat
import sys
import threading
from collections.abc import Callable
from typing import Final, TextIO

__all__ = ["Output"]

CLOSE_TIMEOUT: Final = 2.0
"""Seconds that :meth:`Output.close` waits for unfinished writes. Text that is not written by then may be lost."""

_Write = Callable[[bytes], int]


class Output:
    """Writes to standard output and standard error, in order, from its own thread.

    A paused terminal (Ctrl-S) or a pipe with a slow reader blocks that thread, but not the event loop: the connection
    stays open, and signals are handled.

    Args:
        broken: called once, with the error, when standard output cannot be written to any more. If standard output is
            a pipe, it is called as soon as the reader closes the pipe, even if there is nothing to write. None means
            that standard output is not used, and its state is ignored.
    """

    def __init__(self, broken: Callable[[OSError], None] | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._broken = broken
        self._queue: queue.SimpleQueue[tuple[_Write | None, bytes, asyncio.Future[None]] | None] = queue.SimpleQueue()
        self._stdout = _writer(sys.stdout)
        self._stderr = _writer(sys.stderr)
        self._watched: int | None = None
        self._last: asyncio.Future[None] = self._loop.create_future()
        self._last.set_result(None)
        self.encoding: str = getattr(sys.stdout, "encoding", None) or "utf-8"
        """The encoding of standard output."""
        # A daemon thread, because a write that blocks for ever must not keep the process alive.
        threading.Thread(target=self._run, name="rxws output", daemon=True).start()
        if broken is None:
            return
        if self._stdout is None:
            self._loop.call_soon(self._fail, OSError(errno.EBADF, os.strerror(errno.EBADF)))
        else:
            self._watch()

    # Writing

    def write(self, text: str) -> None:
        """Queue text for standard output."""
        self._put(self._stdout, text, self.encoding)

    def report(self, line: str) -> None:
        """Queue a line for standard error. Without a standard error the line is discarded."""
        self._put(self._stderr, line + "\n", getattr(sys.stderr, "encoding", None) or "utf-8")

    async def written(self) -> None:
        """Wait until all text of earlier calls is written. Cancelling is safe."""
        await asyncio.wait({self._last})

    async def close(self) -> None:
        """Wait up to two seconds for unfinished writes, then stop the thread. Idempotent."""
        await asyncio.wait({self._last}, timeout=CLOSE_TIMEOUT)
        self._broken = None
        self._unwatch()
        self._queue.put(None)

    def _put(self, write: _Write | None, text: str, encoding: str) -> None:
        self._last = self._loop.create_future()
        self._queue.put((write, text.encode(encoding, "backslashreplace"), self._last))

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            write, octets, done = entry
            error = None
            try:
                while octets and write is not None:
                    octets = octets[write(octets) :]
            except OSError as failed:
                error = failed
            with contextlib.suppress(RuntimeError):
                # The loop is closed: close() gave up waiting for this write.
                self._loop.call_soon_threadsafe(self._settle, write, done, error)

    def _settle(self, write: _Write | None, done: asyncio.Future[None], error: OSError | None) -> None:
        done.set_result(None)
        if error is not None and write is self._stdout:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self._stdout = None
        self._unwatch()
        broken, self._broken = self._broken, None
        if broken is not None:
            broken(error)

    # The reader of the pipe

    def _watch(self) -> None:
        # Without this, ``rxws tail URL | head -1`` on a quiet feed would not end before the second message.
        try:
            descriptor = sys.stdout.fileno()
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                self._loop.add_reader(descriptor, self._look, descriptor)
                self._watched = descriptor
        except (OSError, NotImplementedError):
            # There is no descriptor, or the loop cannot watch pipes (Windows). The next write detects a closed pipe.
            pass

    def _look(self, descriptor: int) -> None:
        self._unwatch()
        poll = select.poll()
        poll.register(descriptor, 0)
        # Look for an error: the pipe may also have become readable, if this process has opened it for reading, too.
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
            self._fail(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))

    def _unwatch(self) -> None:
        if self._watched is not None:
            self._loop.remove_reader(self._watched)
            self._watched = None


def _writer(stream: TextIO | None) -> _Write | None:
    """Return a function that writes octets to a stream; None if there is no stream."""
    if stream is None:
        return None
    try:
        # Bypass the stream's buffer: a thread that is blocked in a write would hold the lock of the buffer, which the
        # interpreter needs when it exits.
        return functools.partial(os.write, stream.fileno())
    except OSError:
        # A stream without a descriptor, as in a notebook or a test.
        def write(octets: bytes) -> int:
            stream.write(octets.decode(stream.encoding or "utf-8"))
            return len(octets)

        return write
