"""Recordings in a folder: one file per day, per hour, or per number of bytes, which together are one recording."""

from __future__ import annotations

import asyncio
import math
import os

import pytest

import rxws
from rxws import Gap, RecordingFailed, demo
from rxws.recording import FrameEntry, SessionEnd, SessionStart, StateEntry, read, record, replay
from rxws.recording.audit import Auditor
from rxws.recording.entries import Note, Origin
from rxws.recording.rolling import joined, rolled_files
from rxws.recording.sessions import RollingSession

START = 1_767_225_600  # 2026-01-01


def note(time: float, number: int) -> Note:
    """Return the note of a frame that came this many seconds after START, on a loop whose clock began at START."""
    wall = round((START + time) * 1e9)
    return time, (f'{{"n":{number}}}', wall, wall, 1)


def session(folder, roll):
    """Begin a session in a folder, with the state."""
    origin = Origin("feed", None, START * 10**9)
    begun = RollingSession(folder, origin, roll)
    begun.append([(0.0, origin), (0.0, rxws.State.CONNECTED)], START)
    return begun


def frames(entries):
    """Return the numbers of the frames."""
    return [int(each.raw[5:-1]) for each in entries if isinstance(each, FrameEntry)]


@pytest.mark.parametrize(
    ("roll", "names"),
    [
        ("day", ["20260101T000000Z", "20260102T010000Z", "20260103T010000Z"]),
        ("hour", ["20260101T000000Z", "20260101T010000Z", "20260101T020000Z"]),
    ],
)
def test_file_for_each_period(tmp_path, roll, names):
    """A file begins with the first entry of a day or an hour in UTC, and is renamed when it is complete."""
    step = {"day": 86_400, "hour": 3_600}[roll]
    begun = session(tmp_path, roll)
    begun.append([note(1, 1), note(step - 1, 2), note(step + 3_600 * (roll == "day"), 3)], START)
    assert sorted(os.listdir(tmp_path)) == [f"{names[0]}.jsonl.gz", f"{names[1]}.partial.jsonl.gz"]
    begun.append([note(2 * step + 3_600 * (roll == "day"), 4)], START)
    begun.append([(3 * step - 1.0, None)], START)
    begun.close()
    assert sorted(os.listdir(tmp_path)) == [f"{name}.jsonl.gz" for name in names]
    assert [frames(read(path)) for path in rolled_files(tmp_path)] == [[1, 2], [3], [4]]
    assert frames(read(tmp_path)) == [1, 2, 3, 4]


def test_each_file_is_its_own_recording(tmp_path):
    """It begins with its session and the state, and ends properly; together they have one session."""
    begun = session(tmp_path, "hour")
    begun.append([note(1, 1), note(3_601, 2), (3_602.0, None)], START)
    begun.close()
    for number, path in enumerate(rolled_files(tmp_path)):
        first, state, *_, last = read(path)
        assert isinstance(first, SessionStart)
        assert (first.part, first.session, first.wall) == (
            number,
            START * 10**9 * bool(number),
            (START + 3_601 * number) * 10**9,
        )
        assert isinstance(state, StateEntry)
        assert isinstance(last, SessionEnd)
    together = [type(each) for each in read(tmp_path)]
    assert (together.count(SessionStart), together.count(SessionEnd)) == (1, 1)


def test_file_that_was_cut_short_is_read(tmp_path):
    """After the end of the process, ``.partial`` stays in the name; another session continues in another file."""
    begun = session(tmp_path, "day")
    begun.append([note(1, 1)], START)
    begun.flush()
    begun.abandon()
    again = session(tmp_path, "day")
    again.append([note(2, 2), (3.0, None)], START)
    again.close()
    assert sorted(os.listdir(tmp_path)) == ["20260101T000000Z-2.jsonl.gz", "20260101T000000Z.partial.jsonl.gz"]
    assert frames(read(tmp_path)) == [1, 2]
    assert sum(isinstance(each, SessionStart) for each in read(tmp_path)) == 2


def test_session_that_ended_before_the_first_entry_of_a_file(tmp_path):
    """The end of the complete file is not the end of the session: the recording stopped without one."""
    begun = session(tmp_path, "hour")
    begun.append([note(1, 1), (2.0, None)], START)
    begun.close()
    (tmp_path / "20260101T010000Z.partial.jsonl.gz").touch()
    assert frames(read(tmp_path)) == [1]
    assert not any(isinstance(each, SessionEnd) for each in read(tmp_path))
    reading = read(tmp_path)
    auditor = Auditor(reading, sequence="n")
    for _ in auditor:
        pass
    assert auditor.result(reading.bad_lines).cut_short == 1


def test_session_whose_first_files_were_removed(tmp_path):
    """What is left begins with a session; a file that is missing in the middle begins another one."""
    begun = session(tmp_path, "hour")
    for hour in range(5):
        begun.append([note(3_600 * hour + 1, hour)], START)
    begun.append([(5 * 3_600 - 1.0, None)], START)
    begun.close()
    files = rolled_files(tmp_path)
    files[0].unlink()
    files[2].unlink()
    entries = [*read(tmp_path)]
    assert frames(entries) == [1, 3, 4]
    assert [each.part for each in entries if isinstance(each, SessionStart)] == [1, 3]
    assert sum(isinstance(each, SessionEnd) for each in entries) == 2


def test_file_that_is_completed_while_the_folder_is_read(tmp_path):
    """A file that was listed as partial is found under its final name."""
    begun = session(tmp_path, "hour")
    begun.append([note(1, 1), note(3_601, 2)], START)
    begun.flush()
    reading = read(tmp_path)
    begun.append([(3_602.0, None)], START)
    begun.close()
    entries = list(reading)
    assert frames(entries) == [1, 2]
    assert isinstance(entries[-1], SessionEnd)
    assert list(joined([], tmp_path)) == []


async def test_feed_in_files_of_limited_size(tmp_path):
    """Replayed, the folder is one recording: every message once, and no gap between the files."""
    folder = tmp_path / "new" / "folder"
    async with demo.serve(rate=0, symbols=demo.SYMBOLS[:2]) as exchange, rxws.ReactiveWebSocket(exchange) as ws:
        await ws.wait_connected()
        async with record(ws, folder, roll=20_000, flush_interval=0.02) as running:
            for _ in range(20):
                await exchange.publish(100)
                await asyncio.sleep(0.05)
            assert repr(running).startswith(f"<Recording {os.fspath(folder)!r} running")
        live = ws.statistics().messages
    files = rolled_files(folder)
    assert len(files) > 3
    assert not any("partial" in path.name for path in files)
    async with replay(folder, speed=math.inf) as again:
        gaps, messages = [], again.stream_filter()
        again.events.subscribe(lambda event: gaps.append(event) if isinstance(event, Gap) else None)
        numbers = {}
        async for message in messages:
            channel = message["e"], message["s"]
            assert message["n"] == numbers.get(channel, message["n"] - 1) + 1
            numbers[channel] = message["n"]
    assert (messages.matched, gaps) == (live, [])
    reading = read(folder)
    auditor = Auditor(reading)
    for _ in auditor:
        pass
    found = auditor.result(reading.bad_lines)
    assert (found.is_whole, found.messages, found.sessions, found.cut_short) == (True, live, 1, 0)


async def test_hours_in_virtual_time(virtual_time, tmp_path):
    """In virtual time, too, each hour has its file, and the audit shows all of them, and what a cut has lost."""
    options = {"connect_options": {"ping_interval": None}, "rotate_every": 7_000}
    live = []
    async with demo.serve(rate=0.05, start=START) as exchange, rxws.ReactiveWebSocket(exchange, **options) as ws:
        ws.messages.subscribe(live.append)
        async with record(ws, tmp_path, roll="hour", flush_interval=0.02):
            await ws.wait_connected()
            await asyncio.sleep(3.5 * 3_600)
            await exchange.cut()
            await asyncio.sleep(3.5 * 3_600)
            # The recording's thread needs real time, in which virtual time would pass.
            recorded = len(live)
    files = rolled_files(tmp_path)
    assert len(files) == 8
    hours = [path.name[:11] for path in files]
    assert hours == sorted({*hours})
    reading = read(tmp_path)
    auditor = Auditor(reading)
    for _ in auditor:
        pass
    found = auditor.result(reading.bad_lines)
    assert (found.messages, found.sessions, found.cut_short, found.damaged_lines) == (recorded, 1, 0, ())
    assert [gap.reason for gap in found.gaps] == ["network"]
    assert found.unexplained == 0
    assert found.proven + found.gap_seconds == pytest.approx(7 * 3_600, abs=100)
    replayed = []
    async with replay(tmp_path, speed=math.inf) as again:
        again.messages.subscribe(replayed.append)
        await again.wait_closed()
    assert replayed == live[:recorded]


async def test_recording_when_the_disk_is_full(tmp_path, monkeypatch):
    """The recording stops with its event; complete files stay whole."""
    async with demo.serve(rate=1_000) as exchange, rxws.ReactiveWebSocket(exchange) as ws:
        failed = asyncio.get_running_loop().create_future()
        ws.events.subscribe(lambda event: failed.set_result(event) if isinstance(event, RecordingFailed) else None)
        await ws.wait_connected()
        with record(ws, tmp_path, roll=5_000, flush_interval=0.02) as running:
            async with asyncio.timeout(10):
                while len(rolled_files(tmp_path)) < 3:
                    await asyncio.sleep(0.02)

            def full(*_):
                raise OSError(28, "No space left on device")

            monkeypatch.setattr(running._session._file.appender, "_write", full)
            async with asyncio.timeout(10):
                assert (await failed).error.errno == 28
    complete = [path for path in rolled_files(tmp_path) if "partial" not in path.name]
    assert len(complete) >= 2
    for path in complete:
        *_, last = read(path)
        assert isinstance(last, SessionEnd)


@pytest.mark.parametrize(
    ("roll", "error"), [("week", ValueError), (0, ValueError), (1.5, TypeError), (True, TypeError)]
)
async def test_roll_that_is_wrong(tmp_path, roll, error):
    """The error names the argument and what was expected."""
    async with rxws.ReactiveWebSocket("ws://127.0.0.1:9") as ws:
        with pytest.raises(error, match="roll must be"):
            record(ws, tmp_path, roll=roll)


async def test_folder_that_cannot_be_used(tmp_path):
    """A file in place of the folder raises, and so does a folder without recordings."""
    path = tmp_path / "file"
    path.touch()
    async with rxws.ReactiveWebSocket("ws://127.0.0.1:9") as ws:
        with pytest.raises(FileExistsError):
            record(ws, path, roll="day")
    with pytest.raises(FileNotFoundError, match="no recording such as"):
        read(tmp_path)
