"""The audit of recordings: random ones are compared with the server's log, and each rule has an example."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest

import rxws
from rxws.recording import EventEntry, FrameEntry, SessionEnd, read, record
from rxws.recording.audit import Audit, Auditor
from rxws.testing import FeedServer
from tests.recording.audits import mistakes
from tests.recording.test_recording import BEGAN, end, frame, start, write

SINCE = BEGAN / 1e9


def audited(path: Path, sequence: Any = None, key: Any = None) -> Audit:
    """Return the audit of a file."""
    with read(path) as reading:
        auditor = Auditor(reading, sequence, key)
        for _ in auditor:
            pass
        return auditor.result(reading.bad_lines)


def event(seconds: float, kind: type[rxws.Event], **fields: Any) -> Any:
    """Return the note of an event."""
    return seconds, kind(name="feed", time=SINCE + seconds, **fields)


def connected(seconds: float, number: int = 1) -> Any:
    """Return the note of a connection."""
    return event(seconds, rxws.Connected, number=number, attempt=1)


def lost(seconds: float, number: int = 1) -> Any:
    """Return the note of a connection's end."""
    return event(seconds, rxws.Disconnected, number=number, reason="network", cause="a test")


def gap(seconds: float, since: float, until: float) -> Any:
    """Return the note of a gap."""
    fields = {"start": SINCE + since, "end": SINCE + until, "reason": "network", "last_message": None}
    return event(seconds, rxws.Gap, **fields)


def numbers(first: float, *found: int, key: str = "a", connection: int = 1) -> list[Any]:
    """Return the notes of numbered messages, one each second."""
    return [frame(first + index, {"s": key, "n": number}, connection) for index, number in enumerate(found)]


@pytest.mark.parametrize("tens", range(10))
def test_audit_of_random_recordings_is_that_of_the_servers_log(tens: int, tmp_path: Path) -> None:
    """The audits of random recordings agree with the server's log in every count and time."""
    logging.disable(logging.CRITICAL)
    try:
        assert [mistake for seed in range(10 * tens, 10 * tens + 10) for mistake in mistakes(seed, tmp_path)] == []
    finally:
        logging.disable(logging.NOTSET)


def test_audit_of_a_whole_recording(tmp_path: Path) -> None:
    """A recording without a loss is whole, and proven from its connection to its last message."""
    path = write(tmp_path / "a.jsonl", start(), connected(1.0), *numbers(2.0, 1, 2, 3), end(9.0))
    found = audited(path, "n", "s")
    assert found.is_whole
    assert (found.messages, found.numbered, found.sessions, found.cut_short) == (3, 3, 1, 0)
    assert (found.start, found.end, found.proven) == (SINCE + 1.0, SINCE + 4.0, 3.0)
    assert (found.gaps, found.holes, found.doubles, found.unexplained) == ((), (), 0, 0.0)


def test_audit_without_numbers_knows_no_holes(tmp_path: Path) -> None:
    """Without a sequence neither holes nor doubles are known, and a gap is a loss."""
    notes = [connected(1.0), *numbers(2.0, 1, 5, 5), lost(4.5), connected(5.0, 2), gap(5.0, 4.0, 5.0)]
    found = audited(write(tmp_path / "a.jsonl", start(), *notes, *numbers(6.0, 6, connection=2), end(9.0)))
    assert (found.numbered, found.missing, found.doubles) == (None, None, None)
    assert [each.missing for each in found.gaps] == [None]
    assert not found.is_whole
    assert (found.proven, found.gap_seconds) == (3.0 + 1.0, 1.0)


@pytest.mark.parametrize(("after", "missing", "is_whole"), [(3, 0, True), (7, 4, False)])
def test_audit_counts_what_is_missing_at_a_gap(after: int, missing: int, is_whole: bool, tmp_path: Path) -> None:
    """With numbers a gap is a loss only if numbers are missing there."""
    notes = [connected(1.0), *numbers(2.0, 1, 2), lost(3.5), connected(4.0, 2), gap(4.0, 3.0, 4.0)]
    path = write(tmp_path / "a.jsonl", start(), *notes, *numbers(5.0, after, connection=2), end(9.0))
    found = audited(path, "n", "s")
    assert ([each.missing for each in found.gaps], found.missing, found.is_whole) == ([missing], 0, is_whole)


def test_audit_does_not_know_missing_numbers_of_a_key_without_later_messages(tmp_path: Path) -> None:
    """A gap counts as a loss if a key has no later message."""
    notes = [connected(1.0), *numbers(2.0, 1), *numbers(2.5, 1, key="b"), lost(3.5), connected(4.0, 2)]
    notes += [gap(4.0, 3.0, 4.0), *numbers(5.0, 2, connection=2)]
    found = audited(write(tmp_path / "a.jsonl", start(), *notes, end(9.0)), "n", "s")
    assert [(each.missing, each.unknown) for each in found.gaps] == [(0, 1)]
    assert not found.is_whole


def test_audit_finds_holes_and_doubles_of_each_key(tmp_path: Path) -> None:
    """A hole without a gap names its key and numbers; a number that does not grow is a double."""
    notes = [*numbers(2.0, 1, 4, 4), *numbers(2.5, 1, 2, 1, key="b")]
    found = audited(write(tmp_path / "a.jsonl", start(), connected(1.0), *sorted(notes), end(9.0)), "n", "s")
    assert [(hole.key, hole.first, hole.last, hole.time) for hole in found.holes] == [("a", 2, 3, SINCE + 3.0)]
    assert (found.missing, found.doubles, found.is_whole) == (2, 2, False)


@pytest.mark.parametrize("key", [None, "absent"])
def test_audit_without_a_key_counts_all_messages(key: Any, tmp_path: Path) -> None:
    """Without a key, or if messages lack it, the numbers count all messages."""
    path = write(tmp_path / "a.jsonl", start(), connected(1.0), *numbers(2.0, 1, 2), end(9.0))
    assert audited(path, "n", key).is_whole


@pytest.mark.parametrize("number", ["7", 7.0, 7])
def test_audit_reads_numbers_in_text_and_in_paths(number: Any, tmp_path: Path) -> None:
    """A number may be an int or digits, at a key or a path; other messages have no number."""
    others = [{"data": 1}, {"data": {"n": True}}, {"data": {"n": 1.5}}, {"data": {"n": "x"}}, b"\xff", [1], 3]
    messages = [{"data": {"n": 6}}, *others, {"data": {"n": number}}]
    notes = [frame(2.0 + index, message) for index, message in enumerate(messages)]
    found = audited(write(tmp_path / "a.jsonl", start(), connected(1.0), *notes, end(20.0)), ("data", "n"))
    assert (found.messages, found.numbered, found.missing) == (len(messages), 2, 0)


def test_audit_survives_frames_that_no_decoder_can_read(tmp_path: Path) -> None:
    """A frame that is not JSON, or is nested too deeply, is a message without a number."""
    notes = [(2.0, (raw, BEGAN, BEGAN, 1)) for raw in ("no JSON", "[" * 100_000, b"[\xff", "[]")]
    assert audited(write(tmp_path / "a.jsonl", start(), connected(1.0), *notes, end(3.0)), "n").messages == 4


def test_audit_of_keys_that_cannot_be_hashed(tmp_path: Path) -> None:
    """The value of a key may be a list or an object."""
    notes = [frame(2.0 + n, {"s": ["a"], "n": n}) for n in range(3)]
    assert audited(write(tmp_path / "a.jsonl", start(), connected(1.0), *notes, end(9.0)), "n", "s").is_whole


def test_audit_of_a_connection_that_resumed(tmp_path: Path) -> None:
    """If a connection resumes, the time before it counts as resumed, and is not a loss."""
    notes = [connected(1.0), *numbers(2.0, 1), lost(3.0), connected(5.0, 2), event(5.5, rxws.Resumed, number=2)]
    found = audited(write(tmp_path / "a.jsonl", start(), *notes, *numbers(6.0, 2, connection=2), end(9.0)), "n", "s")
    assert (found.resumed, found.resumptions, found.proven, found.is_whole) == (2.5, 1, 2.5, True)


def test_audit_of_a_loss_whose_gap_is_not_recorded(tmp_path: Path) -> None:
    """A lost connection without a gap or a resumption leaves unexplained time."""
    notes = [connected(1.0), *numbers(2.0, 1), lost(3.0), connected(5.0, 2), *numbers(6.0, 2, 3, connection=2)]
    notes += [lost(8.0, 2), connected(9.0, 3), gap(9.0, 7.0, 9.0), *numbers(10.0, 4, connection=3)]
    found = audited(write(tmp_path / "a.jsonl", start(), *notes, end(12.0)), "n", "s")
    assert not found.is_whole
    assert (found.unexplained, found.proven, found.gap_seconds) == (4.0, 1.0 + 1.0 + 1.0, 2.0)


def test_audit_of_empty_frames() -> None:
    """An empty frame is a message, unless a Gap of the source follows: then it only says that messages are missing."""
    gap = rxws.Gap(10**9, 10**9 + 1, "source", None, name="feed", time=10**9 + 1)
    frames = [FrameEntry(number, raw, 10**18 + number, 1) for number, raw in enumerate(("{}", "", "{}", ""), 1)]
    for entries, messages in (
        ([*frames], 4),
        ([*frames, EventEntry(5, gap)], 3),
        ([*frames[:3], EventEntry(5, gap)], 3),
    ):
        auditor = Auditor(iter(entries))
        for _ in auditor:
            pass
        assert auditor.result(()).messages == messages


def test_audit_of_sessions_whose_headers_are_damaged() -> None:
    """Such a session begins with its first frame, or has only its end; none is counted as cut short."""
    frame = FrameEntry(1, "{}", 10**18, 1)
    for entries, sessions, cut_short in (
        ([frame, SessionEnd(2), frame, SessionEnd(2)], 2, 0),
        ([SessionEnd(2), SessionEnd(2)], 2, 0),
        ([frame, frame], 1, 1),
    ):
        auditor = Auditor(iter(entries))
        for _ in auditor:
            pass
        found = auditor.result(())
        assert (found.sessions, found.cut_short) == (sessions, cut_short)


def test_audit_of_damaged_lines_and_a_session_that_was_cut_short(tmp_path: Path) -> None:
    """Bad lines are listed; a session without an end is counted, and is not a loss by itself."""
    path = write(tmp_path / "a.jsonl", start(), connected(1.0), *numbers(2.0, 1, 2))
    assert (audited(path, "n").cut_short, audited(path, "n").is_whole) == (1, True)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b'{"time":1\xff\n', *lines[3:]]))
    found = audited(path, "n")
    assert (found.damaged_lines, found.is_whole) == ((4,), False)


def test_audit_of_a_recording_without_its_header(tmp_path: Path) -> None:
    """A recording with a damaged header is one session, and its connections are still known."""
    path = write(tmp_path / "a.jsonl", start(), connected(1.0), (1.0, rxws.State.CONNECTED), *numbers(2.0, 1), end(3.0))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([b'{"time":0,"rxws"\n', *lines[1:]]))
    found = audited(path, "n")
    assert (found.sessions, found.messages, found.proven) == (1, 1, 1.0)


async def test_audit_of_a_feed_that_was_recorded(tmp_path: Path) -> None:
    """The audit of a real feed's recording agrees with the feed's own continuity, and finds the numbers never sent."""
    path = tmp_path / "feed.jsonl.gz"
    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url, reconnect_delays=lambda: iter([0.1])) as ws:
        with record(ws, path):
            connection = await server.connected()
            await connection.send(*({"s": "a", "n": n} for n in range(10)))
            await asyncio.sleep(0.2)
            connection.reset()
            connection = await server.connected(2)
            await ws.wait_connected()
            await connection.send(*({"s": "a", "n": n} for n in (12, 13, 20)))
            await asyncio.sleep(0.3)
            continuity = ws.continuity()
    found = audited(path, "n", "s")
    assert (found.messages, [each.missing for each in found.gaps], found.missing) == (13, [2], 6)
    assert found.proven == pytest.approx(sum(each.end - each.start for each in continuity.intervals), abs=0.1)
    assert [(each.start, each.end) for each in found.gaps] == [(each.start, each.end) for each in continuity.gaps]
    assert found.unexplained == pytest.approx(0.0, abs=1e-3)


def test_audit_can_be_written_as_json(tmp_path: Path) -> None:
    """All fields of an audit fit into JSON."""
    import dataclasses

    path = write(tmp_path / "a.jsonl", start(), connected(1.0), *numbers(2.0, 1, 4), end(9.0))
    assert json.loads(json.dumps(dataclasses.asdict(audited(path, "n", "s"))))["missing"] == 2
