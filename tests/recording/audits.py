"""Random recordings whose truth is the server's log: ``python -m tests.recording.audits --count 1000``.

A seed is the same recording on every machine. Exit codes: 0 all audits were right; 1 some were wrong.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import rxws
from rxws.recording import read
from rxws.recording.audit import Audit, Auditor
from rxws.recording.entries import Origin, encode_notes
from rxws.recording.files import Appender

WALL = 1_700_000_000.0
"""When the simulation begins, in seconds since the epoch."""

KEYS = ("BTC", "ETH", "SOL")


@dataclass
class Truth:
    """The truth, from the server's log and the times that the simulation has chosen."""

    messages: int = 0
    doubles: int = 0
    resumptions: int = 0
    sessions: int = 0
    cut_short: int = 0
    resumed: float = 0.0
    damaged: int = 0
    complete: list[tuple[float, float]] = field(default_factory=list)
    gaps: list[tuple[float, float]] = field(default_factory=list)
    # The server's log: each sent key and number, and whether it was recorded; and gaps, in their places.
    log: list[tuple[str, int, bool] | None] = field(default_factory=list)

    def missing(self) -> tuple[int, int]:
        """Return the count of numbers that are missing in gaps, and of those that are missing elsewhere."""
        at_gaps = elsewhere = 0
        for key in KEYS:
            waiting, has_begun, has_gap = 0, False, False
            for each in self.log:
                if each is None:
                    has_gap = True
                elif each[0] == key and each[2]:
                    at_gaps += waiting if has_gap else 0
                    elsewhere += 0 if has_gap else waiting
                    waiting, has_begun, has_gap = 0, True, False
                elif each[0] == key:
                    waiting += has_begun
        return at_gaps, elsewhere


class World:
    """A server with numbered messages, and a recorder, both with random behaviour.

    Args:
        rng: decides everything.
        path: the file of the recording.
    """

    def __init__(self, rng: Random, path: Path) -> None:
        self.truth = Truth()
        self._rng = rng
        self._path = path
        self._now = WALL
        self._numbers = dict.fromkeys(KEYS, 0)
        self._notes: list[tuple[float, Any]] = []
        self._connection = 0
        # The zero of the session's monotonic clock, the start of the complete time, and the time of the last message.
        self._zero = 0.0
        self._since: float | None = None
        self._heard = WALL

    def run(self) -> None:
        """Make a recording of a few sessions."""
        for number in range(self._rng.randint(1, 3)):
            self._session(is_first=number == 0)

    def _pass(self, most: float) -> float:
        self._now += self._rng.randint(1, max(1, round(most * 64))) / 64
        return self._now

    def _note(self, what: Any) -> None:
        self._notes.append((self._now - self._zero, what))

    def _event(self, kind: type[rxws.Event], **fields: Any) -> None:
        self._note(kind(name="feed", time=self._now, **fields))

    # Sessions

    def _session(self, is_first: bool) -> None:
        rng, truth = self._rng, self.truth
        self._zero = self._now - rng.randint(0, 10**6)
        truth.sessions += 1
        self._note(Origin("feed", None, round(self._now * 1e9)))
        if not is_first and rng.random() < 0.5:
            # Only the recorder was restarted, and the feed continued meanwhile.
            self._note(rxws.State.CONNECTED)
            self._connection = 7
        else:
            self._note(rxws.State.CONNECTING)
            self._pass(1.0)
            self._connection = 1
            self._event(rxws.Connected, number=1, attempt=1)
        if not is_first:
            self._gap(self._heard, self._now, is_noted=False)
        self._since = self._now
        for _ in range(rng.randint(0, 8)):
            self._messages()
            rng.choice((self._lose, self._resume, self._rotate, self._tell, self._skip, self._double, self._messages))()
        self._messages(at_least=1)
        truth.complete.append((self._since, self._heard))
        self._pass(1.0)
        if rng.random() < 0.7:
            self._note(None)
        else:
            truth.cut_short += 1
        self._write()
        self._skip(3)
        self._pass(20.0)

    def _write(self) -> None:
        lines = encode_notes(self._notes).splitlines(keepends=True)
        self._notes = []
        written = []
        for number, line in enumerate(lines):
            # Damage no session header and no two lines in a row, because that would look like another program's file.
            if 2 < number < len(lines) - 3 and self._rng.random() < 0.02:
                written.append(b'{"time":12' + self._rng.randbytes(9).replace(b"\n", b"") + b"\xff\n")
                self.truth.damaged += 1
            written.append(line)
        file = Appender(self._path)
        file.append(b"".join(written))
        file.close()

    # Actions of the server

    def _send(self, key: str, *, is_recorded: bool) -> None:
        self._numbers[key] += 1
        self.truth.log.append((key, self._numbers[key], is_recorded))
        if is_recorded:
            self._frame({"s": key, "n": self._numbers[key]})

    def _frame(self, message: Any, kept: tuple[bool, ...] | None = None) -> None:
        self._heard = self._now
        wall = round(self._now * 1e9)
        note = json.dumps(message), wall, wall, self._connection
        self._note(note if kept is None else (*note, kept))
        self.truth.messages += 1 if kept is None else sum(kept)

    def _messages(self, at_least: int = 0) -> None:
        for _ in range(self._rng.randint(at_least, 12)):
            self._pass(0.5)
            kind = self._rng.random()
            if kind < 0.1:
                self._frame({"heartbeat": 1})
            elif kind < 0.2:
                # An array of which a rotation has dropped the first message.
                key = self._rng.choice(KEYS)
                before = self._numbers[key]
                self._numbers[key] += 1
                self.truth.log.append((key, before + 1, True))
                self._frame([{"s": key, "n": before}, {"s": key, "n": before + 1}], (False, True))
            else:
                self._send(self._rng.choice(KEYS), is_recorded=True)

    def _skip(self, most: int = 4) -> None:
        """Send messages that are not recorded."""
        for _ in range(self._rng.randint(0, most)):
            self._send(self._rng.choice(KEYS), is_recorded=False)

    def _double(self) -> None:
        key = self._rng.choice(KEYS)
        if any(each is not None and each[0] == key and each[2] for each in self.truth.log):
            last = [each[1] for each in self.truth.log if each is not None and each[0] == key and each[2]][-1]
            self._pass(0.1)
            self._frame({"s": key, "n": self._rng.randint(max(1, last - 3), last)})
            self.truth.doubles += 1

    # Events of the connection

    def _gap(self, start: float, end: float, reason: str = "network", *, is_noted: bool = True) -> None:
        self.truth.gaps.append((start, end))
        self.truth.log.append(None)
        if is_noted:
            self._event(rxws.Gap, start=start, end=end, reason=reason, last_message=None)

    def _end(self, reason: str) -> None:
        self._event(rxws.Disconnected, number=self._connection, reason=reason, cause="chance")

    def _connect(self) -> None:
        self._connection += 1
        self._event(rxws.Connected, number=self._connection, attempt=1)

    def _lose(self) -> None:
        start = max(self._heard, self._since or 0.0)
        self.truth.complete.append((self._since or 0.0, start))
        self._pass(1.0)
        self._end("network")
        self._skip()
        self._pass(5.0)
        self._connect()
        self._gap(start, self._now)
        self._since = self._now

    def _resume(self) -> None:
        self._pass(1.0)
        self._end("network")
        ended = self._now
        self._pass(5.0)
        self._connect()
        self._pass(0.5)
        self._event(rxws.Resumed, number=self._connection, replayed=0)
        self.truth.resumptions += 1
        self.truth.resumed += self._now - ended
        # Send the missed messages now.
        self._messages(at_least=1)

    def _rotate(self) -> None:
        self._pass(0.5)
        self._end("rotation")
        self._connect()
        self._event(rxws.Rotated, number=self._connection, proven=True)
        self._messages(at_least=1)

    def _tell(self) -> None:
        """Let the source report a gap."""
        self._skip()
        start = max(self._heard, self._since or 0.0)
        self.truth.complete.append((self._since or 0.0, start))
        self._pass(2.0)
        self._gap(start, self._now, "source")
        self._since = self._now


def audited(path: Path) -> Audit:
    """Return the audit of a file with numbers."""
    with read(path) as reading:
        auditor = Auditor(reading, "n", "s")
        for _ in auditor:
            pass
        return auditor.result(reading.bad_lines)


def mistakes(seed: int, folder: Path) -> list[str]:
    """Make the recording of a seed, and return how its audit differs from the truth."""
    path = folder / f"{seed}.jsonl{('', '.gz')[seed % 2]}"
    world = World(Random(seed), path)
    world.run()
    found, truth = audited(path), world.truth
    at_gaps, elsewhere = truth.missing()
    complete = sum(end - start for start, end in truth.complete)
    has_loss = bool(at_gaps or elsewhere or truth.doubles or truth.damaged or any(gap.unknown for gap in found.gaps))
    wanted = {
        "messages": (found.messages, truth.messages),
        "doubles": (found.doubles, truth.doubles),
        "sessions": (found.sessions, truth.sessions),
        "cut short": (found.cut_short, truth.cut_short),
        "resumptions": (found.resumptions, truth.resumptions),
        "damaged lines": (len(found.damaged_lines), truth.damaged),
        "gaps": ([(round(gap.start, 6), round(gap.end, 6)) for gap in found.gaps], truth.gaps),
        "missing at gaps": (sum(gap.missing or 0 for gap in found.gaps), at_gaps),
        "missing elsewhere": (found.missing, elsewhere),
        "proven": (_steps(found.proven), _steps(complete - truth.resumed)),
        "resumed": (_steps(found.resumed), _steps(truth.resumed)),
        "unexplained": (_steps(found.unexplained), 0),
        "whole": (found.is_whole, not has_loss),
    }
    return [
        f"seed {seed}: {name}: {is_} instead of {should}" for name, (is_, should) in wanted.items() if is_ != should
    ]


def _steps(seconds: float) -> int:
    """Return a time in steps of the world's clock."""
    return round(seconds * 64)


def main() -> int:
    """Audit random recordings; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.recording.audits", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--count", type=int, default=1000, help="how many recordings (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first one (default: 0)")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.seed, options.seed + options.count):
            found = mistakes(seed, Path(folder))
            wrong += bool(found)
            print(*found, sep="\n", end="\n" if found else "", flush=True)
    print(f"{options.count} recordings, {wrong} audited wrongly")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
