"""``rxws audit PATH``: shows when a recording is complete, and which of its messages are missing or damaged."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
from collections.abc import Hashable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from .. import RxwsError
from ..recording import read
from ..recording.audit import Audit, Auditor
from ..recording.rolling import rolled_files
from ..reporting import printable, redact
from .filters import key
from .output import Output
from .parser import Declare
from .running import DONE, FAILED

__all__ = ["add", "audit"]

UNREADABLE: Final = 2

SUFFIXES: Final = (".jsonl", ".jsonl.gz", ".jsonl.zst")
"""File name suffixes of the recordings in a folder."""

STEP: Final = 500
"""The number of entries after which the audit yields to the event loop, so that signals are handled."""

MOST_SHOWN: Final = 10
"""The largest numbers of gaps, holes and lines that are listed."""

MANY_DOUBLES: Final = 0.25
"""The share of messages that are doubles from which on a key is probably missing."""

_EPILOG: Final = """\
example:
  rxws audit feed.jsonl.gz --sequence n --key e --key s

exit codes: 0 whole; 1 something is missing or damaged; 2 a file cannot be read,
or wrong arguments; 130 Ctrl-C; 143 SIGTERM."""


def add(declare: Declare) -> None:
    """Declare the command ``audit``."""
    parser = declare(
        "audit",
        usage="rxws audit PATH [options]",
        help="show what is missing in a recording",
        description="Show when a recording is proven to be complete, and what is missing or damaged\n"
        "in it. In a folder, all files that end in .jsonl, .jsonl.gz or .jsonl.zst are\n"
        "audited; those that rxws record --roll wrote are one recording.",
        epilog=_EPILOG,
    )
    parser.set_defaults(command=audit, prog=parser.prog)
    parser.add_argument("path", metavar="PATH", help="file that rxws record wrote, or a folder of such files")
    parser.add_argument("--sequence", metavar="K", type=key, help="key of consecutive numbers; a.b is a path")
    parser.add_argument(
        "--key", metavar="K", type=key, action="append", help="key whose values are numbered separately; repeatable"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object for each file")


async def audit(options: argparse.Namespace, output: Output) -> int:
    """Print the audit of each recording. Return the exit code."""
    if options.key is not None and options.sequence is None:
        output.report("rxws audit: error: --key needs --sequence, the key of the numbers")
        return UNREADABLE
    codes = [DONE]
    try:
        for path in _files(Path(options.path)):
            codes.append(await _audit_one(path, options, output))
            await output.written()
    except (OSError, RxwsError) as error:
        _report(output, options.path, error)
        codes.append(UNREADABLE)
    return max(codes)


def _files(path: Path) -> Iterator[Path]:
    """Yield the recordings at a path: the folder itself if a recording with ``--roll`` wrote files to it."""
    if not path.is_dir():
        yield path
        return
    rolled = rolled_files(path)
    found = {each for each in path.iterdir() if each.name.endswith(SUFFIXES) and each.is_file()}
    if not found:
        raise RxwsError(f"no file in this folder ends in {', '.join(SUFFIXES)}")
    if rolled:
        yield path
    yield from sorted(found.difference(rolled))


async def _audit_one(path: Path, options: argparse.Namespace, output: Output) -> int:
    try:
        found = await _audited(path, options.sequence, options.key)
        if not found.sessions:
            raise RxwsError("the file has no entries")
        if found.messages and found.numbered == 0:
            raise RxwsError(f"no message has a whole number at {options.sequence!r}: give --sequence another key")
    except (OSError, ImportError, RxwsError) as error:
        _report(output, path, error)
        return UNREADABLE
    shown = json.dumps(_fields(path, found), default=str) + "\n" if options.json else _text(path, found)
    output.write(shown)
    return DONE if found.is_whole else FAILED


def _report(output: Output, path: object, error: Exception) -> None:
    reason = (error.strerror if isinstance(error, OSError) else None) or error
    text = redact(str(reason)).removeprefix(f"{path}: ")
    output.report(printable(f"rxws audit: error: {path}: {text}"))


async def _audited(path: Path, sequence: Hashable, keys: list[Hashable] | None) -> Audit:
    with read(path) as reading:
        auditor = Auditor(reading, sequence, keys[0] if keys is not None and len(keys) == 1 else keys)
        for number, _ in enumerate(auditor, start=1):
            if number % STEP == 0:
                await asyncio.sleep(0)
        return auditor.result(reading.bad_lines)


def _fields(path: Path, found: Audit) -> dict[str, Any]:
    """Return the fields of the output in JSON."""
    return {"path": str(path), "whole": found.is_whole, **dataclasses.asdict(found)}


def _text(path: Path, found: Audit) -> str:
    """Return the output as text."""
    lines = [f"{path}: {'whole' if found.is_whole else 'not whole'}"]
    times = f", {_moment(found.start)} to {_moment(found.end)}" if found.start and found.end else ""
    lines.append(f"  messages       {found.messages:,}, {_count(found.sessions, 'session')}{times}")
    if found.numbered is not None and found.numbered < found.messages:
        lines.append(f"  not numbered   {found.messages - found.numbered:,}")
    lines.append(f"  proven         {found.proven:,.3f} s")
    lines.append(f"  resumed        {found.resumed:,.3f} s, {_count(found.resumptions, 'time')}")
    missing = "" if found.missing is None else f", {sum(gap.missing or 0 for gap in found.gaps):,} messages"
    lines.append(f"  gaps           {len(found.gaps):,}: {found.gap_seconds:,.3f} s{missing}")
    for gap in found.gaps[:MOST_SHOWN]:
        said = "" if gap.missing is None else f", {gap.missing:,} messages"
        unknown = f", not known for {_count(gap.unknown, 'key')}" if gap.unknown else ""
        lines.append(f"    {_moment(gap.start)}  {gap.end - gap.start:.3f} s ({gap.reason}){said}{unknown}")
    lines += _more(len(found.gaps))
    numbers = "" if found.missing is None else f"{len(found.holes):,}: {found.missing:,} messages, "
    lines.append(f"  unexplained    {numbers}{found.unexplained:,.3f} s")
    for hole in found.holes[:MOST_SHOWN]:
        of_key = (
            ""
            if hole.key is None
            else f"{', '.join(map(str, hole.key)) if isinstance(hole.key, tuple) else hole.key}: "
        )
        lines.append(f"    {_moment(hole.time)}  {of_key}{hole.first} to {hole.last}")
    lines += _more(len(found.holes))
    if found.doubles is not None:
        lines.append(f"  doubles        {found.doubles:,}")
    if found.holes and (found.doubles or 0) > MANY_DOUBLES * found.messages:
        lines.append("  (numbers that go back and forth: name all keys that are numbered separately with --key)")
    lines.append(f"  damaged lines  {len(found.damaged_lines):,}{_list(found.damaged_lines)}")
    if found.cut_short:
        lines.append(f"  cut short      {_count(found.cut_short, 'session')}")
    return "".join(f"{printable(line)}\n" for line in lines)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _more(count: int) -> list[str]:
    return [f"    and {count - MOST_SHOWN:,} more"] if count > MOST_SHOWN else []


def _list(numbers: tuple[int, ...]) -> str:
    more = ", ..." if len(numbers) > MOST_SHOWN else ""
    return f" ({', '.join(map(str, numbers[:MOST_SHOWN]))}{more})" if numbers else ""


def _moment(time: float) -> str:
    """Return a time in UTC, to the millisecond."""
    try:
        return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    except (ValueError, OverflowError, OSError):
        return f"{time:.3f}"
