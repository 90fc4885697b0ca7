"""Limits how often a line is written to the log, and writes the number of suppressed lines."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

from .redaction import redact
from .tracebacks import redacted_traceback

__all__ = ["EACH_SECOND", "LESS_AND_LESS", "MAX_SUBJECTS", "ONCE", "LogLimit"]

#: Seconds after the first line of a subject at which the next lines may be written. The last of these times is also the
#: interval of all further lines.
EACH_SECOND: Final = (1.0,)
LESS_AND_LESS: Final = (1.0, 10.0, 60.0, 600.0)
ONCE: Final = (math.inf,)

#: Above this number of subjects, those without a recent line are forgotten.
MAX_SUBJECTS: Final = 1_000


@dataclass(slots=True)
class _Subject:
    """The lines that were written and suppressed about one subject, at one level."""

    level: int
    times: tuple[float, ...]
    began: float
    last: float
    due: float
    suppressed: int = 0
    # The text of the first suppressed line. An object would keep its exception and its frames alive.
    text: str = ""

    def advance(self, now: float) -> None:
        """Compute the time at which the next line may be written."""
        self.due = next((self.began + each for each in self.times if self.began + each > now), now + self.times[-1])
        self.suppressed = 0

    def is_over(self, now: float) -> bool:
        """Return whether the next line would count as the first line of the subject."""
        return now >= self.due and now - self.last >= self.times[-1] and not self.suppressed


class LogLimit:
    """Writes the lines of one feed to the log ``rxws``.

    The first line of a subject is written at once, with its traceback. Later lines are suppressed until the next time
    of ``times``; then the first of them is written with the number of the others. After a silence as long as the last
    of ``times`` (a second, or ten minutes), the next line counts as the first again. A line whose level is disabled in
    the log does not suppress others.

    Args:
        loop: the loop that has the clock and the timer.
        name: the beginning of each line.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._name = redact(name)
        self._logger = logging.getLogger("rxws")
        self._subjects: dict[tuple[int, Hashable], _Subject] = {}
        self._most_subjects = MAX_SUBJECTS
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def write(
        self,
        level: int,
        about: Hashable,
        text: Callable[[], str],
        error: BaseException | None = None,
        times: tuple[float, ...] = EACH_SECOND,
    ) -> None:
        """Write a line, or suppress and count it.

        Args:
            level: as in :mod:`logging`.
            about: the subject. Lines of other levels are about other subjects.
            text: returns the line, as printable text without secrets.
            error: an exception, whose traceback is written with the first line of a subject.
            times: seconds after the first line at which the next may follow.
        """
        if not self._logger.isEnabledFor(level):
            return
        now = self._loop.time()
        subject = self._subjects.get((level, about))
        if subject is not None and subject.suppressed and now >= subject.due:
            self._write_suppressed(subject, now)
        if subject is None or subject.is_over(now):
            self._forget(now)
            self._subjects[level, about] = _Subject(level, times, now, now, now + times[0])
            # Do not pass exc_info, because the text of an exception may contain secrets or control characters.
            trace = "" if error is None else "\n" + redacted_traceback(error)
            self._logger.log(level, "%s: %s%s", self._name, text(), trace)
            return
        subject.last = now
        if now >= subject.due:
            subject.advance(now)
            self._logger.log(level, "%s: %s", self._name, text())
            return
        subject.suppressed += 1
        if subject.suppressed == 1:
            subject.text = text()
            self._schedule(subject.due)

    def close(self) -> None:
        """Write the numbers of suppressed lines now, and stop the timer. Idempotent."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._write_due(math.inf)

    def _schedule(self, due: float) -> None:
        if self._closed or due == math.inf or self._loop.is_closed():
            return
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._tick)

    def _tick(self) -> None:
        # A timer may fire slightly early.
        now = max(self._loop.time(), self._timer.when() if self._timer is not None else 0.0)
        self._timer = None
        self._write_due(now)
        for due in sorted(each.due for each in self._subjects.values() if each.suppressed)[:1]:
            self._schedule(due)

    def _write_due(self, now: float) -> None:
        for subject in self._subjects.values():
            if subject.suppressed and subject.due <= now and subject.times is not ONCE:
                self._write_suppressed(subject, now)

    def _write_suppressed(self, subject: _Subject, now: float) -> None:
        more = f" ... and {subject.suppressed - 1:,} more" if subject.suppressed > 1 else ""
        subject.advance(now)
        self._logger.log(subject.level, "%s: %s%s", self._name, subject.text, more)

    def _forget(self, now: float) -> None:
        if len(self._subjects) < self._most_subjects:
            return
        self._subjects = {key: each for key, each in self._subjects.items() if not each.is_over(now)}
        # The limit grows with the number of remaining subjects, so that many new subjects in one second cost few scans.
        self._most_subjects = MAX_SUBJECTS + 2 * len(self._subjects)
