"""Recordings: entries are read and replayed as they were recorded, even from damaged files."""

from __future__ import annotations

import asyncio
import errno
import gc
import gzip
import json
import math
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
import reactivex
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reactivex import operators as ops

import rxws
from rxws import recording
from rxws.interface import feed_of
from rxws.recording import (
    EventEntry,
    FrameEntry,
    RecordedError,
    SessionEnd,
    SessionStart,
    StateEntry,
    consumers,
    files,
    lines,
    read,
    record,
    recorder,
    replay,
    sessions,
)
from rxws.recording.clock import RecordedClock
from rxws.recording.decoding import MOST_AT_FIRST
from rxws.recording.entries import Origin, encode_notes
from rxws.recording.files import Appender
from rxws.reporting.events import RecordingFailed
from rxws.testing import FeedServer, assert_no_leaks

from ..support.feeds import Feed, of_kind
from ..support.life import ScriptedFeed, ScriptedWebsocket
from ..support.wiring import in_thread, settle

ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst")
BEGAN = 1_790_000_000_000_000_000
"""The start of the recordings that the tests write, in nanoseconds since the epoch."""

zstd = pytest.importorskip("backports.zstd" if sys.version_info < (3, 14) else "compression.zstd")


def start(seconds: float = 0.0, *, name: str = "feed", wall: int = BEGAN, url: str | None = None) -> Any:
    """Return the note that starts a session."""
    return seconds, Origin(name, url, wall)


def frame(seconds: float, message: Any, connection: int = 1) -> Any:
    """Return the note of a frame: JSON, unless the message is bytes."""
    raw = message if isinstance(message, bytes) else json.dumps(message)
    received = BEGAN + round(seconds * 1e9)
    return seconds, (raw, received, received, connection)


def end(seconds: float) -> Any:
    """Return the note of a session's end."""
    return seconds, None


def write(path: Path, *notes: Any) -> Path:
    """Append a session to a file, with a flush after each 100 notes."""
    appender = Appender(path)
    for first in range(0, len(notes), 100):
        appender.append(encode_notes(notes[first : first + 100]))
        appender.flush()
    appender.close()
    return path


def write_singly(path: Path, *notes: Any) -> Path:
    """Append a session to a file, flushed after each line, with compressed data that is not ended properly."""
    appender = Appender(path)
    for note in notes:
        appender.append(encode_notes([note]))
        appender.flush()
    appender.abandon()
    return path


def numbered(path: Path, count: int, interval: float = 0.1, **more: Any) -> Path:
    """Write a recording of ``count`` numbers, as messages ``{"n": 0, …}``, one every interval."""
    frames = [frame((n + 1) * interval, {"n": n, **more}) for n in range(count)]
    return write(path, start(), *frames, end((count + 1) * interval))


def frames_of(path: Path) -> list[str | bytes]:
    """Return the frames in a file."""
    return [entry.raw for entry in read(path) if isinstance(entry, FrameEntry)]


async def until(condition: Callable[[], Any], timeout: float = 10.0) -> None:
    """Wait in real time until a condition holds, because a thread does the work."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.fixture(params=ENDINGS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The path of a recording, once for each file name extension."""
    return tmp_path / f"feed{request.param}"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """The path of a file that is not compressed."""
    return tmp_path / "feed.jsonl"


# Lines and files


any_text = st.text(st.characters(exclude_categories=()))


@settings(max_examples=60, deadline=None)
@given(raws=st.lists(any_text | st.binary(), max_size=20), ending=st.sampled_from(ENDINGS))
@example(raws=["\ud83d\ude00", "\ud800", "a\nb\r\u2028\x00", "", b"", b"\xff\n"], ending=".jsonl")
def test_frames_when_read_again(raws: list[str | bytes], ending: str) -> None:
    """Frames of any content, text or binary, are read as they were recorded."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"x{ending}")
        write(file, start(), *((n, (raw, n + 5, n + 5 + 500_000 * n, n % 3)) for n, raw in enumerate(raws)), end(100))
        entries = list(read(file))
    assert [entry.raw for entry in entries[1:-1]] == raws
    assert [(entry.received, entry.connection, entry.time, entry.held) for entry in entries[1:-1]] == [
        (n + 5, n % 3, n * 10**9, 500_000 * n if n > 1 else 0) for n in range(len(raws))
    ]
    assert entries[0] == SessionStart(0, "feed", None, BEGAN)
    assert entries[-1] == SessionEnd(100 * 10**9)


EVENTS = [
    rxws.Connected(name="feed", time=1.5, number=1, attempt=2),
    rxws.Disconnected(name="feed", time=1.5, number=None, reason="network", cause="é", code=1006, delay=0.5),
    rxws.Rotated(name="feed", time=1.5, number=2, proven=True, held=3, duplicates=2, discarded=1, paused=0.25),
    rxws.Quiet(name="feed", time=1.5, seconds=60.0),
    rxws.SubscriptionFailed(name="feed", time=1.5, message="subscribe", attempt=1),
    rxws.Lagging(name="feed", time=1.5, consumer="stream", pending=10_000),
    rxws.Overflowed(name="feed", time=1.5, consumer="stream", overflow="error", dropped=1),
]


def test_events_when_read_again(path: Path) -> None:
    """Events and states are read as they were emitted."""
    write(path, start(), *((1.0, event) for event in EVENTS), (2.0, rxws.State.ROTATING))
    assert list(read(path))[1:] == [
        *(EventEntry(10**9, event) for event in EVENTS),
        StateEntry(2 * 10**9, rxws.State.ROTATING),
    ]


def test_events_when_recorded_under_their_former_names(plain: Path) -> None:
    """A recording with the former names of two events is read with their present names."""
    refused = rxws.SubscriptionFailed(name="feed", time=1.5, message="subscribe", attempt=1)
    failed = rxws.CallbackFailed(name="feed", time=1.0, handler="f", message=None, error=ValueError("no"))
    write(plain, start(), (1.0, refused), (1.0, failed))
    text = plain.read_text()
    plain.write_text(text.replace("SubscriptionFailed", "Unacknowledged").replace("CallbackFailed", "HandlerFailed"))
    assert "Unacknowledged" in plain.read_text()
    assert "HandlerFailed" in plain.read_text()
    first, second = (entry.event for entry in read(plain) if isinstance(entry, EventEntry))
    assert first == refused
    assert (type(second), second.handler) == (rxws.CallbackFailed, "f")


def test_events_when_their_fields_do_not_fit_into_json(plain: Path) -> None:
    """Events are recorded with the text of their exception, without secrets, and without their message."""
    error = ValueError("wss://me:secret@example.org")
    write(
        plain,
        start(),
        (0.0, rxws.MessageRejected(name="feed", time=1.0, raw=b"\xff", error=error, count=1)),
        (0.0, rxws.MessageRejected(name="feed", time=1.0, raw="\ud800", error=error, count=2)),
        (0.0, rxws.CallbackFailed(name="feed", time=1.0, handler="f", message=object(), error=error)),
        (0.0, rxws.Gap(1.0, 2.0, "network", {"n": 1}, name="feed", time=2.0)),
        (0.0, rxws.NothingMatched(name="feed", time=1.0, filter="f", messages=1, values={"s": ("x", "y")})),
    )
    assert "secret" not in plain.read_text()
    binary, text, failed, gap, unmatched = (entry.event for entry in read(plain) if isinstance(entry, EventEntry))
    assert (binary.raw, text.raw) == (b"\xff", "\ud800")
    assert isinstance(failed.error, RecordedError)
    assert "ValueError" in str(failed.error)
    assert failed.message is None
    assert unmatched.values == {"s": ["x", "y"]}
    assert gap == rxws.Gap(1.0, 2.0, "network", None, name="feed", time=2.0)


JUNK = [
    b"",
    b"junk",
    b"\xff\xfe",
    b"[]",
    b'{"time":1}',
    b'{"time":"1","end":true}',
    b'{"time":9223372036854775808,"end":true}',
    b'{"time":1,"rxws":1,"name":"x","wall":-9223372036854775809}',
    b'{"time":1,"wall":1,"connection":1,"raw":{}}',
    b'{"time":1,"wall":1,"connection":1,"raw":{"binary":"?"}}',
    b'{"time":1,"event":"Nothing","fields":{}}',
    b'{"time":1,"event":"Gap","fields":{}}',
    b'{"time":1,"event":"Gap","fields":{"start":"x"}}',
    b'{"time":1,"event":"Quiet","fields":{"name":"x","time":1,"seconds":"x"}}',
    b'{"time":1,"event":"Lagging","fields":{"nonsense":1}}',
    b'{"time":1,"event":"Quiet","fields":{"a":' + b"[" * 100_000,
    b'{"time":1,"state":"nowhere"}',
]


def test_bad_lines_when_read(plain: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Bad lines are left out, and one warning counts them and lists their numbers."""
    good = encode_notes([frame(1.0, 1)]).rstrip()
    plain.write_bytes(b"\n".join([*JUNK, good, b"junk", good]) + b"\n")
    reading = read(plain)
    assert [entry.raw for entry in reading] == ["1", "1"]
    assert reading.bad_lines == [*range(1, len(JUNK) + 1), len(JUNK) + 2]
    assert f"bad lines, left out: {len(JUNK) + 1} (line 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …)" in caplog.text
    assert len(caplog.records) == 1
    assert "2 bad lines" not in repr(reading)
    assert list(reading) == []
    assert len(caplog.records) == 1


def test_read_when_the_format_is_newer(plain: Path) -> None:
    """A recording of a later version raises an error that names both versions."""
    plain.write_text('{"time":1,"rxws":2,"name":"x","wall":1}\n')
    with pytest.raises(rxws.RxwsError, match="format 2: this version of rxws reads up to 1"):
        next(read(plain))


OTHERS = {
    "text": b"precious\nwords\n",
    "log": b'{"time":1790000000,"level":"info"}\n{"time":1790000001,"level":"info"}\n',
    "indented": json.dumps({"time": 1, "end": True}, indent=1).encode(),
    "large": b"2026-11-27 something happened\n" * 100_000,
    "gzip": gzip.compress(b"precious"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_read_when_the_file_is_not_a_recording(path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A file with no line of a recording raises one error without a warning, and is not read completely if large."""
    path.write_bytes(OTHERS[kind])
    reading = read(path)
    with pytest.raises(rxws.RxwsError, match="is not a recording: expected JSON lines as") as raised:
        list(reading)
    assert str(path) in str(raised.value)
    assert len(reading.bad_lines) <= MOST_AT_FIRST
    assert caplog.records == []
    assert list(reading) == []
    assert not reading._close.alive


@pytest.mark.usefixtures("virtual_time")
async def test_replay_when_the_file_is_not_a_recording(path: Path) -> None:
    """A file that is not a recording is refused at once. The beginning of a recording can be replayed."""
    path.write_bytes(b"precious")
    async with assert_no_leaks():
        with pytest.raises(rxws.RxwsError, match="is not a recording"):
            replay(path)
    path.unlink()
    octets = write_singly(path, start()).read_bytes()
    for length in range(len(octets)):
        path.write_bytes(octets[:length])
        async with replay(path) as ws:
            await ws.wait_closed()


def test_read_when_the_file_was_cut_anywhere(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """If a file was cut short at any byte, the entries before it are read, and at most one line is bad."""
    write_singly(path, start(), *(frame(n, f"message {n}") for n in range(20)), end(20))
    whole, octets = list(read(path)), path.read_bytes()
    for length in range(len(octets)):
        path.write_bytes(octets[:length])
        reading = read(path)
        entries = list(reading)
        assert entries == whole[: len(entries)]
        assert len(reading.bad_lines) <= 1
    assert len(entries) >= len(whole) - 1


def test_append_when_the_session_before_was_cut_short(path: Path) -> None:
    """A session that is appended to a file that was cut short at any byte is read completely."""
    write_singly(path, start(), *(frame(n, f"message {n}") for n in range(20)))
    octets = path.read_bytes()
    for length in range(0, len(octets), 7):
        path.write_bytes(octets[:length])
        write(path, start(name="second"), frame(1.0, "second"), end(2.0))
        reading = read(path)
        entries = list(reading)
        assert entries[-3] == SessionStart(0, "second", None, BEGAN)
        assert entries[-2] == FrameEntry(10**9, '"second"', BEGAN + 10**9, 1)
        assert len(reading.bad_lines) <= 1


@pytest.mark.parametrize("chunk", [1, 7, 25, 64])
def test_sessions_when_marks_lie_across_chunks(path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several sessions in a file are read one after the other, with chunks of any size."""
    monkeypatch.setattr(lines, "CHUNK", chunk)
    for n in range(3):
        write(path, start(), frame(1.0, n), end(2.0))
    reading = read(path)
    assert [type(entry) for entry in reading] == [SessionStart, FrameEntry, SessionEnd] * 3
    assert reading.bad_lines == []


@pytest.mark.parametrize("ending", ENDINGS[1:])
def test_read_when_compressed_data_is_damaged(tmp_path: Path, ending: str) -> None:
    """If compressed data is damaged, the rest of its session is one bad line, and the next session is read."""
    random = Random(1)
    path = tmp_path / f"feed{ending}"
    write(path, start(), *(frame(n, random.randbytes(100).hex()) for n in range(50)), end(50))
    octets = bytearray(path.read_bytes())
    octets[len(octets) // 2 :] = random.randbytes(len(octets) // 2)
    path.write_bytes(octets)
    write(path, start(name="second"))
    reading = read(path)
    assert list(reading)[-1] == SessionStart(0, "second", None, BEGAN)
    assert 1 <= len(reading.bad_lines) <= 3


def test_read_when_a_line_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The incomplete line before the damage is one bad line, and the damage is another."""
    monkeypatch.setattr(lines, "CHUNK", 8)
    path, random = tmp_path / "feed.gz", Random(1)
    whole = gzip.compress(b'{"time":1,"end":true}\n' + random.randbytes(64).hex().encode())
    path.write_bytes(whole[:60] + b"\xff" * 40)
    reading = read(path)
    assert list(reading) == [SessionEnd(1)]
    assert reading.bad_lines == [2, 3]


def test_read_when_compressed_by_hand(tmp_path: Path) -> None:
    """Recordings that other tools compressed and joined are read."""
    plain = write(tmp_path / "feed.jsonl", start(), frame(1.0, 1))
    path = tmp_path / "feed.jsonl.GZ"
    path.write_bytes(gzip.compress(plain.read_bytes()) + gzip.compress(plain.read_bytes()))
    assert frames_of(path) == ["1", "1"]


@pytest.mark.parametrize("ending", ENDINGS[1:])
def test_compressed_file_when_read_by_other_tools(tmp_path: Path, ending: str) -> None:
    """Other tools decompress recordings to the lines of JSON."""
    path, plain = tmp_path / f"feed{ending}", tmp_path / "feed.jsonl"
    for _ in range(2):
        numbered(path, 5)
        numbered(plain, 5)
    decompress = gzip.decompress if ending.endswith("gz") else zstd.decompress
    assert decompress(path.read_bytes()) == plain.read_bytes()


def test_zstandard_when_it_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its package, ``.zst`` raises an error with the command that installs it."""
    for module in ("compression", "backports"):
        monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / "feed.zst"
    path.touch()
    with pytest.raises(ImportError, match=r"pip install 'rxws\[zstd\]'"):
        read(path)


def test_reading_when_closed(plain: Path) -> None:
    """A reading closes its file at the end, when it is closed, and when it is garbage-collected."""
    numbered(plain, 5)
    with pytest.raises(FileNotFoundError):
        read(plain.with_name("nothing"))
    with read(plain) as reading:
        next(reading)
    reading.close()
    assert list(reading) == []
    dropped = read(plain)
    next(dropped)
    closing = dropped._close
    assert repr(dropped) == f"<Reading '{plain}', 0 bad lines>"
    del dropped
    gc.collect()
    assert not closing.alive


# Recording


class TwoFrames(ScriptedWebsocket):
    """A connection that has received a text frame and a binary frame."""

    def __init__(self) -> None:
        super().__init__('{"n": 1}', b'{"n": 2}')


async def test_record_when_frames_arrive(path: Path) -> None:
    """Frames and events are recorded in order, between a header and an end."""
    async with assert_no_leaks(), ScriptedFeed(TwoFrames(), name="feed") as ws:
        with record(ws, path) as running:
            await settle()
            assert running.error is None
            assert "running" in repr(running)
        assert repr(running) == f"<Recording '{path}' ended: 2 frames>"
        first, *entries, last = read(path)
        assert isinstance(first, SessionStart)
        assert (first.name, first.url) == ("feed", None)
        assert abs(first.wall - time.time_ns()) < 60e9
        assert [entry.state for entry in entries if isinstance(entry, StateEntry)] == [
            rxws.State.CONNECTING,
            rxws.State.CONNECTED,
        ]
        assert [(entry.raw, entry.connection) for entry in entries if isinstance(entry, FrameEntry)] == [
            ('{"n": 1}', 1),
            (b'{"n": 2}', 1),
        ]
        kinds = [type(entry.event if isinstance(entry, EventEntry) else entry) for entry in entries]
        assert kinds.index(rxws.Connected) < kinds.index(FrameEntry)
        assert isinstance(last, SessionEnd)
        assert running.frames == 2


async def test_header_when_the_address_has_secrets(plain: Path, feed_server: FeedServer) -> None:
    """The header has the URL without its secrets."""
    url = feed_server.url.replace("ws://", "ws://me:hidden@") + "?token=hidden"
    async with rxws.ReactiveWebSocket(url, name="wss://x/?key=hidden") as ws:
        with record(ws, plain):
            pass
    assert "hidden" not in plain.read_text()
    header = next(read(plain))
    assert header.url == f"ws://***@127.0.0.1:{feed_server.port}/?token=***"


async def test_frames_when_recorded_before_they_are_flushed(path: Path) -> None:
    """After the flush interval, a frame is in the file while the recording continues."""
    async with ScriptedFeed(TwoFrames()) as ws:
        with record(ws, path, flush_interval=0.05):
            await until(lambda: len(frames_of(path)) == 2)


async def test_dispose_when_called_again_and_from_another_thread(plain: Path) -> None:
    """A recording may be disposed from any thread and more than once. Later frames are not recorded."""
    websocket = ScriptedWebsocket("1")
    async with ScriptedFeed(websocket) as ws:
        running = record(ws, plain)
        await settle()
        in_thread(running.dispose)
        running.dispose()
        octets = plain.read_bytes()
        websocket.come("2")
        await settle()
        assert plain.read_bytes() == octets
    assert frames_of(plain) == ["1"]


async def test_dispose_when_called_in_a_handler(path: Path) -> None:
    """A handler, a coroutine handler and a subscriber of the frames may dispose a recording."""
    async with ScriptedFeed(ScriptedWebsocket("1", "2", "3")) as ws:
        running = record(ws, path)

        async def dispose(_: Any) -> None:
            running.dispose()

        ws.frames.filter(lambda frame: frame[0] == "2").subscribe(lambda _: running.dispose())
        ws.add_handler(lambda _: running.dispose())
        ws.add_handler(dispose)
        await settle()
        assert ws.statistics().messages == 3
    assert frames_of(path) == ["1"]
    assert isinstance(list(read(path))[-1], SessionEnd)


@pytest.mark.parametrize("step", range(0, 24, 2))
async def test_record_when_cancelled_at_any_step(plain: Path, step: int) -> None:
    """If the recording task is cancelled at any step, the recording is closed properly, without leaks."""

    async def use(kind: str) -> None:
        async with ScriptedFeed(ScriptedWebsocket("1")) as ws:
            if kind == "with":
                with record(ws, plain):
                    await ws.wait_closed()
            else:
                async with record(ws, plain):
                    await ws.wait_closed()

    async with assert_no_leaks():
        for kind in ("with", "async with"):
            using = asyncio.create_task(use(kind))
            for _ in range(step):
                await asyncio.sleep(0)
            using.cancel()
            with pytest.raises(asyncio.CancelledError):
                await using
    entries = list(read(plain)) if plain.exists() else []
    assert [isinstance(entry, SessionEnd) for entry in entries].count(True) == sum(
        isinstance(entry, SessionStart) for entry in entries
    )


async def test_recording_when_the_feed_ends(plain: Path) -> None:
    """A recording ends when its feed is closed. The recording of a closed feed ends at once."""
    async with ScriptedFeed(ScriptedWebsocket("1")) as ws:
        running = record(ws, plain)
        await settle()
    await until(lambda: not running._thread.is_alive())
    *_, state, last = read(plain)
    assert (type(last), state.state) == (SessionEnd, rxws.State.CLOSED)
    with record(ws, plain):
        pass
    assert [type(entry) for entry in read(plain)][-3:] == [SessionStart, StateEntry, SessionEnd]


async def test_frames_when_they_arrive_while_the_feed_is_closing(plain: Path) -> None:
    """A frame that arrives after ``exit()`` is neither delivered nor recorded."""

    class Late(ScriptedWebsocket):
        async def close(self) -> None:
            self.come("2")
            await super().close()

    async with asyncio.timeout(10), ScriptedFeed(Late("1")) as ws, record(ws, plain):
        frames = ws.frames.pipe(ops.to_list()).to_future()
        stream = ws.stream_filter()
        await settle()
        await ws.exit()
        assert [message async for message in stream] == [1]
        assert [raw for raw, *_ in await frames] == ["1"]
    assert frames_of(plain) == ["1"]
    assert [type(entry) for entry in read(plain)][-3:] == [EventEntry, StateEntry, SessionEnd]


async def test_recording_when_the_feed_fails(plain: Path) -> None:
    """A recording ends without a report when its feed fails."""

    class Failing(ScriptedFeed):
        async def _create_ws(self) -> Any:
            raise OSError("no")

    events: list[rxws.Event] = []
    ws = Failing(should_retry=lambda _: False, recorded=False)
    ws.events.subscribe(events.append, lambda _: None)
    ws.state.subscribe(None, lambda _: None)
    with record(ws, plain) as running:
        with pytest.raises(rxws.ConnectFailed):
            await ws.wait_closed()
        await until(lambda: not running._thread.is_alive())
    assert isinstance(list(read(plain))[-1], SessionEnd)
    assert of_kind(rxws.CallbackFailed, events) == []


async def test_frames_when_they_are_held(plain: Path) -> None:
    """The entry of a frame that a parse hook held has the time for which it was held."""

    class Slow(ScriptedFeed):
        async def _parse_raw_data(self, raw_data: Any) -> Any:  # type: ignore[override]
            await asyncio.sleep(0.05)
            return raw_data

    began = time.time_ns()
    async with Slow(ScriptedWebsocket("1")) as ws, record(ws, plain):
        assert await anext(ws.stream_filter()) == "1"
        delivered = time.time_ns()
    [entry] = [entry for entry in read(plain) if isinstance(entry, FrameEntry)]
    assert 45_000_000 < entry.held < delivered - began
    assert began < entry.received < delivered - entry.held + 1_000_000


async def test_record_when_another_recording_writes_to_the_file(path: Path) -> None:
    """Until a recording ends, other recordings to its file are refused, in this process and in others."""
    async with ScriptedFeed(ScriptedWebsocket("1")) as ws:
        with record(ws, path) as running:
            await settle()
            with pytest.raises(BlockingIOError, match="another recording is writing to it") as raised:
                record(ws, path)
            assert raised.value.filename == str(path)
            with child(path, 60) as process:
                assert await asyncio.to_thread(process.wait, 15) == 1
            # This child process inherits the open file, and outlives the recording.
            heir = await asyncio.create_subprocess_exec(
                "sleep", "60", pass_fds=[running._session._appender._file.fileno()]
            )
        try:
            with record(ws, path):
                pass
        finally:
            heir.kill()
            await heir.wait()
    assert frames_of(path) == ["1"]


async def test_record_when_the_file_system_has_no_locks(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without locks, recordings are written nevertheless."""

    def flock(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    async with ScriptedFeed(TwoFrames()) as ws:
        with monkeypatch.context() as patch:
            patch.setattr("fcntl.flock", flock)
            with record(ws, plain):
                await settle()
    assert len(frames_of(plain)) == 2


@pytest.mark.parametrize("content", [b"precious", b"{", b'{"time":"12:00","level":"info"}\n', b"\x00", b"\x1f", b"("])
async def test_record_when_the_file_is_not_a_recording(path: Path, content: bytes) -> None:
    """A file that is not a recording is refused and left as it is. The beginning of a recording is accepted."""
    path.write_bytes(content)
    is_begun = content in {".jsonl": b"{", ".gz": b"\x1f", ".zst": b"("}[path.suffix]
    async with assert_no_leaks(), ScriptedFeed(TwoFrames()) as ws:
        if is_begun:
            with record(ws, path):
                await settle()
            assert len(frames_of(path)) == 2
            return
        with pytest.raises(FileExistsError, match="it is not a recording, and was left unchanged") as raised:
            record(ws, path)
    assert raised.value.filename == str(path)
    assert path.read_bytes() == content


async def test_record_when_arguments_are_wrong(tmp_path: Path) -> None:
    """Wrong arguments, and a file that cannot be opened, raise an error at once."""
    async with ScriptedFeed() as ws:
        with pytest.raises(TypeError, match="flush_interval"):
            record(ws, tmp_path / "x", flush_interval="1")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="ws must be a feed"):
            record(tmp_path / "x", ws)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="flush_interval"):
            record(ws, tmp_path / "x", flush_interval=0)
        with pytest.raises(FileNotFoundError):
            record(ws, tmp_path / "no" / "x")
        with pytest.raises(IsADirectoryError):
            record(ws, tmp_path)
        with pytest.raises(RuntimeError):
            in_thread(lambda: record(ws, tmp_path / "x"))
    assert list(tmp_path.iterdir()) == []


class Disk:
    """A file on a disk that is full after ``room`` bytes, and blocks while its gate is closed."""

    def __init__(self, file: Any, room: float = math.inf) -> None:
        self.file = file
        self.room = room
        self.gate = threading.Event()
        self.gate.set()

    def write(self, octets: Any) -> int:
        self.gate.wait(30)
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self.file.write(octets[: int(min(self.room, 10_000))])
        self.room -= written
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Disk]]:
    """Return a function that sets and returns the disk of the next file."""
    disks: list[Disk] = []

    def prepare(path: Path, room: float = math.inf) -> Disk:
        disks.append(Disk(path.open("a+b", buffering=0), room))
        monkeypatch.setattr(files, "open_to_append", lambda _: disks[-1])
        return disks[-1]

    yield prepare
    for each in disks:
        each.gate.set()
        each.file.close()


async def test_recording_when_the_disk_is_full(
    path: Path, disk: Callable[..., Disk], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk stops the recording with one event and one line in the log. The feed continues."""
    websocket, random = ScriptedWebsocket(), Random(1)
    async with assert_no_leaks(), ScriptedFeed(websocket, name="feed", parse=json.loads) as ws:
        disk(path, 500)
        events: list[rxws.Event] = []
        ws.events.subscribe(events.append)
        taken = ws.stream_filter()
        with record(ws, path, flush_interval=0.01) as running:
            for n in range(200):
                websocket.come(json.dumps({"n": n, "x": random.randbytes(20).hex()}))
            await until(lambda: running.error)
            await until(lambda: of_kind(RecordingFailed, events))
            websocket.come('{"n": 200}')
        async with asyncio.timeout(5):
            while (await anext(taken))["n"] < 200:
                pass
        [failed] = of_kind(RecordingFailed, events)
        assert failed.path == str(path)
        assert failed.error is running.error
        assert isinstance(failed.error, OSError)
        assert failed.error.errno == errno.ENOSPC
        assert failed.lost > 0
        assert "failed" in repr(running)
        assert len([line for line in caplog.records if "stopped: OSError(28" in line.getMessage()]) == 1
        monkeypatch.undo()
        assert path.stat().st_size == 500
        with record(ws, path):
            pass
        assert [type(entry) for entry in read(path)][-3:] == [SessionStart, StateEntry, SessionEnd]


async def test_recording_when_the_disk_is_full_later(plain: Path, disk: Callable[..., Disk]) -> None:
    """Frames that were flushed before the disk was full are not lost."""
    websocket = ScriptedWebsocket(*map(str, range(50)))
    async with ScriptedFeed(websocket) as ws:
        events: list[rxws.Event] = []
        ws.events.subscribe(events.append)
        full = disk(plain)
        with record(ws, plain, flush_interval=0.02) as running:
            await until(lambda: running.frames == 50)
            await asyncio.sleep(0.2)
            full.room = 0
            websocket.come("50")
            await until(lambda: of_kind(RecordingFailed, events))
    assert of_kind(RecordingFailed, events)[0].lost == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
async def test_recording_when_the_device_is_full() -> None:
    """A device that is full stops the recording with an event."""
    async with ScriptedFeed(TwoFrames()) as ws:
        events: list[rxws.Event] = []
        ws.events.subscribe(events.append)
        with record(ws, "/dev/full") as running:
            await until(lambda: of_kind(RecordingFailed, events))
    assert running.error.errno == errno.ENOSPC  # type: ignore[union-attr]


async def test_recording_when_the_disk_is_full_at_its_end(path: Path, disk: Callable[..., Disk]) -> None:
    """If the last write after the end of the feed fails, the recording ends with the error."""
    disk(path, 25)
    ws = ScriptedFeed(ScriptedWebsocket("1"))
    running = record(ws, path)
    await ws.exit()
    running.dispose()
    assert isinstance(running.error, OSError)


async def test_recording_when_the_disk_is_slow(
    plain: Path, disk: Callable[..., Disk], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A slow disk does not delay the feed. When too many bytes wait for it, the recording stops with an event."""
    monkeypatch.setattr(recorder, "MOST_BYTES", 1000)
    monkeypatch.setattr(recorder, "CLOSE_TIMEOUT", 0.05)
    websocket = ScriptedWebsocket()
    async with ScriptedFeed(websocket) as ws:
        events: list[rxws.Event] = []
        ws.events.subscribe(events.append)
        slow = disk(plain)
        slow.gate.clear()
        running = record(ws, plain)
        await asyncio.sleep(0.2)
        for n in range(100):
            websocket.come(f"{n:020}")
        await until(lambda: of_kind(RecordingFailed, events))
        assert isinstance(running.error, TimeoutError)
        assert len(of_kind(RecordingFailed, events)) == 1
        running.dispose()
        assert "writing does not finish" in caplog.text
        # The disk fails later too, which must not be reported again.
        slow.room = 0
        slow.gate.set()
        await until(lambda: not running._thread.is_alive())
        await settle()
        assert len(of_kind(RecordingFailed, events)) == 1


async def test_frame_when_it_is_huge(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single frame that is larger than the limit of waiting bytes is recorded."""
    monkeypatch.setattr(recorder, "MOST_BYTES", 1000)
    async with ScriptedFeed(ScriptedWebsocket("1" * 5000)) as ws:
        with record(ws, plain) as running:
            await settle()
        assert running.error is None
    assert frames_of(plain) == ["1" * 5000]


async def test_frames_when_writing_is_barely_fast_enough(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames are flushed at the interval, even if they arrive as fast as they can be written."""
    monkeypatch.setattr(recorder, "BATCH", 1)
    monkeypatch.setattr(sessions, "encode_notes", lambda notes: (time.sleep(0.005), encode_notes(notes))[1])
    websocket = ScriptedWebsocket()
    async with ScriptedFeed(websocket) as ws:
        running = record(ws, path, flush_interval=0.1)
        async with asyncio.timeout(10):
            while not frames_of(path):
                for _ in range(10):
                    websocket.come("1")
                await asyncio.sleep(0.01)
        assert running._notes
        running.dispose()


async def test_loop_when_an_async_block_is_left(
    plain: Path, disk: Callable[..., Disk], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """``async with`` waits until everything is written, while the loop continues. The wait has a timeout."""
    async with ScriptedFeed(TwoFrames()) as ws:
        slow = disk(plain)
        async with record(ws, plain):
            await settle()
            slow.gate.clear()
            # The loop opens the gate, so it must not be blocked.
            asyncio.get_running_loop().call_later(0.2, slow.gate.set)
        assert len(frames_of(plain)) == 2
        assert isinstance(list(read(plain))[-1], SessionEnd)
        monkeypatch.setattr(recorder, "CLOSE_TIMEOUT", 0.05)
        stuck = disk(plain)
        async with record(ws, plain) as running:
            stuck.gate.clear()
        assert "writing does not finish" in caplog.text
        stuck.gate.set()
        running.dispose()


def test_recording_when_the_system_lets_no_file_grow(path: Path) -> None:
    """In a separate process, a limit of the system stops the recording with an event. The feed continues."""
    pytest.importorskip("resource")
    code = """
        import asyncio, os, resource, sys
        import rxws
        from rxws.testing import FeedServer

        async def main():
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
            async with FeedServer() as server, rxws.ReactiveWebSocket(server.url) as ws:
                failed = ws.events.filter(lambda event: isinstance(event, rxws.RecordingFailed)).take(1).to_future()
                with rxws.record(ws, sys.argv[1], flush_interval=0.05):
                    await server.connected()
                    stream = ws.stream_filter()
                    await server.send(*[{"n": n, "x": os.urandom(100).hex()} for n in range(200)])
                    print(type((await failed).error).__name__, (await failed).lost > 0)
                    await server.send({"n": "after"})
                    print([message["n"] async for message in stream.take(201)] == [*range(200), "after"])

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), path],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ | {"PYTHONPATH": str(Path(rxws.__file__).parents[1])},
        check=False,
    )
    assert done.stdout.splitlines() == ["OSError True", "True"]
    assert [line.partition("stopped: ")[2] for line in done.stderr.splitlines()] == ["OSError(27, 'File too large')"]
    assert path.stat().st_size == 5000
    numbers = [json.loads(raw)["n"] for raw in frames_of(path)]
    assert numbers == list(range(len(numbers)))


CHILD = """
import asyncio, sys, time
import rxws
from rxws import recording

async def main():
    async with rxws.demo.serve(rate=500) as url, rxws.ReactiveWebSocket(url) as ws:
        ws.frames.subscribe(lambda frame: print(time.monotonic(), frame[0], flush=True))
        running = recording.record(ws, sys.argv[1], flush_interval=0.3)
        await asyncio.sleep(float(sys.argv[2]))
        sys.exit()

asyncio.run(main())
"""


def child(path: Path, seconds: float) -> subprocess.Popen[str]:
    """Start a process that records, prints every frame with the time, and exits without ending its recording."""
    environment = os.environ | {"PYTHONPATH": str(Path(rxws.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), path, str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.mark.slow
def test_recording_when_killed(path: Path) -> None:
    """``kill -9`` loses no frame that is older than the flush interval."""
    with child(path, 60) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(500)]
        process.kill()
        killed = time.monotonic()
        lines += process.stdout.readlines()
    printed = [line.rstrip("\n").partition(" ") for line in lines if line.endswith("\n")]
    recorded = set(frames_of(path))
    # Twice the flush interval, because the machine may be busy.
    assert {raw for when, _, raw in printed if float(when) < killed - 0.6} <= recorded
    assert recorded


@pytest.mark.slow
def test_recording_when_the_program_ends(path: Path) -> None:
    """A program that ends without closing its feed loses no frame."""
    with child(path, 0.5) as process:
        assert process.stdout is not None
        printed = [line.rstrip("\n").partition(" ")[2] for line in process.stdout]
    recorded = frames_of(path)
    assert printed
    assert recorded == printed
    assert isinstance(list(read(path))[-1], SessionEnd)


# Replaying


@pytest.mark.usefixtures("virtual_time")
async def test_frames_when_a_rotation_dropped_a_part_of_them(path: Path, feed_server: FeedServer) -> None:
    """If a rotation dropped some messages of a frame, a replay delivers only the others."""

    class Items(Feed):
        def _parse_raw_data(self, raw_data: Any) -> Any:
            return rxws.Many(json.loads(raw_data))

        def _message_identity(self, message: Any) -> Any:
            return message

    async with Items(feed_server, handover_timeout=1) as ws, record(ws, path):
        first = await feed_server.connected()
        await ws.wait_connected()
        live: list[Any] = []
        ws.messages.subscribe(live.append)
        rotating = ws.rotate()
        second = await feed_server.connected(2)
        await asyncio.sleep(0.9)
        await first.send("[1,2]")
        await second.send("[0,1]", "[1]")
        await rotating
        await second.send("[2,3,4]", "[5]")
        await asyncio.sleep(1)
    assert live == [1, 2, 0, 1, 3, 4, 5]
    entries = [entry for entry in read(path) if isinstance(entry, FrameEntry)]
    assert [(entry.raw, entry.kept) for entry in entries] == [
        ("[1,2]", None),
        ("[0,1]", (True, False)),
        ("[1]", None),
        ("[2,3,4]", (False, True, True)),
        ("[5]", None),
    ]
    again = path.with_name(f"again.{path.name}")
    async with replay(path, math.inf, split=True) as ws, record(ws, again):
        assert [message async for message in ws.stream_filter()] == live
    async with replay(again, math.inf, split=True) as ws:
        assert [message async for message in ws.stream_filter()] == live
    async with replay(path, math.inf) as ws:
        # If the replay parses frames in another way, ``kept`` does not apply, and all messages are delivered.
        assert [message async for message in ws.stream_filter()] == [[1, 2], [0, 1], [1], [2, 3, 4], [5]]


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("speed", [math.inf, 10.0, 1.0, 0.1])
async def test_replay_when_compared_with_the_live_feed(path: Path, speed: float) -> None:
    """At every speed, each stream of a replay equals that of the live feed: messages, buffers, gaps and events."""

    def watch(ws: Any) -> list[list[Any]]:
        seen: list[list[Any]] = [[] for _ in range(7)]
        trades = [{"e": "trade"}]
        sources = [
            ws.messages,
            ws.stream_filter([{"s": "BTCUSDT"}]),
            ws.stream_filter(gaps=True),
            ws.messages.pipe(ops.buffer_with_time(1.0)),
            ws.stream_filter(trades).pipe(ops.throttle_first(0.5), ops.timestamp(), ops.map(lambda each: each.value)),
            ws.events,
            ws.frames,
        ]
        for source, items in zip(sources, seen, strict=True):
            source.subscribe(items.append)
        return seen

    loop = asyncio.get_running_loop()
    options = {"connect_options": {"proxy": None, "compression": None, "ping_interval": None}, "name": "feed"}
    async with rxws.demo.serve(rate=97) as exchange, rxws.ReactiveWebSocket(exchange, **options) as ws:
        await ws.wait_connected()
        with record(ws, path):
            live = watch(ws)
            await asyncio.sleep(2.3)
            await ws.rotate()
            await asyncio.sleep(2.2)
            await exchange.cut()
            await asyncio.sleep(2.123)
            await ws.exit()
    began = loop.time()
    async with assert_no_leaks(), replay(path, speed) as played:
        seen = watch(played)
        await played.wait_closed()
        took = loop.time() - began
    assert seen == live
    assert len(live[3]) == 8
    assert {len(buffer) for buffer in live[3][:-1]} == {96, 97}
    assert of_kind(rxws.Rotated, live[5])
    assert of_kind(rxws.Gap, live[2])
    assert took == pytest.approx(live_seconds(path) / speed, abs=1e-6)
    before, after = ws.statistics(), played.statistics()
    for counter in ("rotations", "reconnects", "gaps", "duplicates", "rejected"):
        assert getattr(before, counter) == getattr(after, counter)
    assert after.messages == len(live[0])
    assert after.complete_since is before.complete_since is None
    assert played.continuity().gaps == ws.continuity().gaps
    assert [each.proof for each in played.continuity().intervals] == ["connection", "overlap", "connection"]
    assert [(each.start, each.proof) for each in played.continuity().intervals[1:]] == [
        (each.start, each.proof) for each in ws.continuity().intervals[1:]
    ]


def live_seconds(path: Path) -> float:
    """Return the length of a recording in seconds."""
    entries = list(read(path))
    return (entries[-1].time - entries[0].time) / 1e9


@pytest.mark.usefixtures("virtual_time")
class TestReplay:
    """Replays in virtual time."""

    async def test_messages_when_subscribed_before_the_first_await(self, plain: Path) -> None:
        """The replay starts at the block's first await. Streams and the replay end with the file."""
        numbered(plain, 5)
        async with replay(plain, math.inf) as ws:
            stream = ws.stream_filter()
            seen: list[Any] = []
            ws.messages.subscribe(seen.append)
            assert seen == []
            assert ws.state.value is rxws.State.CONNECTING
            assert [message["n"] async for message in stream] == [0, 1, 2, 3, 4]
            assert len(seen) == 5
            await ws.wait_closed()
            assert ws.state.value is rxws.State.CLOSED
            assert [message async for message in ws.stream_filter()] == []
        assert repr(ws) == f"<feed: closed, 5 messages, {plain}>"
        assert ws.bad_lines == ()

    @pytest.mark.parametrize("speed", [10**400, 1e308], ids=["integer", "float"])
    async def test_replay_when_the_speed_is_huge(self, plain: Path, speed: float) -> None:
        """A speed of any size is accepted; a huge one is as fast as possible."""
        async with replay(numbered(plain, 3, interval=1e6), speed) as ws:
            assert len(await ws.messages.pipe(ops.to_list())) == 3

    async def test_messages_when_the_speed_is_finite(self, plain: Path) -> None:
        """Messages are delivered at the recorded intervals divided by the speed."""
        numbered(plain, 3, interval=60.0)
        loop = asyncio.get_running_loop()
        began = loop.time()
        times: list[float] = []
        async with replay(plain, 2) as ws:
            ws.add_handler(lambda _: times.append(loop.time() - began))
            await ws.wait_closed()
        assert times == pytest.approx([30.0, 60.0, 90.0], abs=1e-6)
        assert loop.time() - began == pytest.approx(120.0, abs=1e-6)

    async def test_frames_when_replayed(self, plain: Path) -> None:
        """Frames have the recorded time of receipt and the number of their connection."""
        write(plain, start(), frame(0.5, 1), frame(1.0, b"2", 2))
        async with replay(plain, math.inf) as ws:
            assert await ws.frames.pipe(ops.to_list()) == [
                ("1", BEGAN + 500_000_000, 1),
                (b"2", BEGAN + 1_000_000_000, 2),
            ]

    async def test_states_when_replayed(self, plain: Path) -> None:
        """States are replayed in any recorded order, except the final states, which the replay enters itself."""
        recorded = [rxws.State.WAITING, rxws.State.CLOSED, rxws.State.CONNECTED, rxws.State.CONNECTED]
        write(plain, start(), *((n, state) for n, state in enumerate(recorded)), frame(9, 1))
        async with replay(plain, math.inf) as ws:
            states: list[rxws.State] = []
            ws.state.subscribe(states.append)
            await ws.wait_closed()
        assert [state.name for state in states] == ["CONNECTING", "WAITING", "CONNECTED", "CLOSED"]

    async def test_events_when_they_concern_the_recording_program(self, plain: Path) -> None:
        """Events of the feed are replayed. Events of the recording program are not."""
        write(plain, start(), *((1.0, event) for event in EVENTS), frame(2.0, 1))
        async with replay(plain, math.inf) as ws:
            events: list[rxws.Event] = []
            ws.events.subscribe(events.append)
            await ws.wait_closed()
        assert events == EVENTS[:5]
        statistics = ws.statistics()
        assert (statistics.opened, statistics.rotations, statistics.duplicates, statistics.discarded) == (1, 1, 2, 1)

    async def test_gap_when_replayed(self, plain: Path) -> None:
        """A stream with gaps=True contains the Gap after the last message before it, which the Gap contains, too."""
        gap = rxws.Gap(1.0, 2.0, "rotation", None, name="feed", time=2.0)
        write(plain, start(), frame(1.0, {"n": 1}), (2.0, gap), frame(3.0, {"n": 2}))
        async with replay(plain, math.inf) as ws:
            items = [item async for item in ws.stream_filter(gaps=True)]
        assert items == [{"n": 1}, rxws.Gap(1.0, 2.0, "rotation", {"n": 1}, name="feed", time=2.0), {"n": 2}]
        assert (ws.statistics().gaps, ws.statistics().reconnects) == (1, {})

    async def test_sessions_when_there_are_two(self, path: Path) -> None:
        """The second of two sessions is replayed after the recorded pause, with a Gap before it."""
        write(path, start(100.0), frame(101.0, 1), end(102.0))
        write(path, start(5.0, wall=BEGAN + 60 * 10**9), frame(6.0, 2), end(7.0))
        async with replay(path, math.inf) as ws:
            stamped = ws.stream_filter(gaps=True).pipe(ops.timestamp())
            items = [(each.value, each.timestamp.timestamp() - BEGAN / 1e9) async for each in stamped]
        first, gap, second = items
        assert first == (1, pytest.approx(1.0))
        assert second == (2, pytest.approx(61.0))
        assert (gap[0].reason, gap[0].end - gap[0].start, gap[1]) == ("recording", 58.0, pytest.approx(60.0))
        assert ws.statistics().reconnects == {"recording": 1}

    async def test_events_when_a_session_begins_without_a_connection(self, plain: Path) -> None:
        """As in a live feed, the Gap between two sessions is emitted when there is a connection again."""
        connected, state = rxws.Connected(name="feed", time=0.0, number=1, attempt=1), rxws.State
        refused = rxws.Disconnected(name="feed", time=0.0, number=None, reason="network", cause="no", delay=1.0)
        opening = (0.0, state.CONNECTING), (1.0, refused), (3.0, connected), (3.0, state.CONNECTED)
        write(plain, start(), *opening, frame(4.0, 1), end(5.0))
        # This session has no connection, so the gap continues.
        write(plain, start(wall=BEGAN + 10 * 10**9), *opening[:2], end(2.0))
        write(plain, start(wall=BEGAN + 20 * 10**9), *opening, frame(4.0, 2), end(5.0))
        # This session started while the feed was connected, so its first entry is the state.
        write(plain, start(wall=BEGAN + 30 * 10**9), (0.0, state.CONNECTED), frame(9.0, 3), end(9.0))
        # In this session, the line of the connection is a bad line.
        write(plain, start(wall=BEGAN + 40 * 10**9), opening[0], frame(9.0, 4), end(9.0))
        async with replay(plain, math.inf) as ws:
            seen: list[Any] = []
            ws.events.subscribe(seen.append)
            ws.state.subscribe(seen.append)
            ws.messages.subscribe(seen.append)
            await ws.wait_closed()
        gaps = of_kind(rxws.Gap, seen)
        assert [(gap.start - BEGAN / 1e9, gap.end - BEGAN / 1e9) for gap in gaps] == [
            (pytest.approx(5.0), pytest.approx(23.0)),
            (pytest.approx(25.0), pytest.approx(30.0)),
            (pytest.approx(39.0), pytest.approx(40.0)),
        ]
        kinds = [type(each).__name__ if isinstance(each, rxws.Event) else each for each in seen]
        assert kinds == [
            *(state.CONNECTING, "Disconnected", "Connected", state.CONNECTED, 1),
            *(state.CONNECTING, "Disconnected"),
            *("Disconnected", "Connected", "Gap", state.CONNECTED, 2),
            *("Gap", 3),
            *(state.CONNECTING, "Gap", 4, state.CLOSED),
        ]

    async def test_sessions_when_the_wall_clock_was_set_back(self, plain: Path) -> None:
        """The time of a replay does not go back if the wall clock was set back between two sessions."""
        write(plain, start(), frame(10.0, 1))
        write(plain, start(wall=BEGAN - 10**12), frame(1.0, 2))
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with replay(plain) as ws:
            assert [message async for message in ws.stream_filter()] == [1, 2]
        assert loop.time() - began == pytest.approx(11.0, abs=1e-6)

    async def test_replay_when_the_header_is_a_bad_line(self, plain: Path, caplog: pytest.LogCaptureFixture) -> None:
        """Without its header, a recording is replayed from its first frame on. The log reports the bad line."""
        plain.write_bytes(b"junk\n" + encode_notes([frame(70.0, 1), frame(71.0, 2), start(5.0), frame(6.0, 3)]))
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with replay(plain) as ws:
            assert [message async for message in ws.stream_filter()] == [1, 2, 3]
            assert repr(ws).startswith("<feed.jsonl: ")
        assert loop.time() - began == pytest.approx(2.0, abs=1e-6)
        assert ws.bad_lines == (1,)
        assert "bad lines, left out: 1 (line 1)" in caplog.text

    async def test_replay_when_the_file_is_empty(self, plain: Path) -> None:
        """An empty file gives a replay that ends at once."""
        plain.touch()
        async with replay(plain) as ws:
            await ws.wait_closed()
            assert [message async for message in ws.stream_filter()] == []

    async def test_send_when_replayed(self, plain: Path) -> None:
        """send, request and rotate raise RxwsError in a replay."""
        numbered(plain, 3)
        async with replay(plain) as ws:
            with pytest.raises(rxws.RxwsError, match="feed is a replay: there is no connection to send on"):
                await ws.send("hello")
            with pytest.raises(rxws.RxwsError, match="to send on"):
                await ws.request("hello", [{"n": 1}])
            with pytest.raises(rxws.RxwsError, match="to rotate"):
                ws.rotate()
            assert ws.present_ws is None

    async def test_book_when_replayed(self, plain: Path) -> None:
        """A book of a channel works in a replay, although the replay sends no subscription."""

        async def fetch() -> dict[str, int]:
            return {"last": 0}

        async with replay(numbered(plain, 3)) as ws:
            changes = ws.multiplex("+a", filters=None, acknowledged=[{"ok": 1}])
            book = changes.resync(fetch, sequence=("n", "n"), snapshot_sequence="last")
            assert await book.collect() == [rxws.Snapshot({"last": 0}, "start"), {"n": 1}, {"n": 2}]

    async def test_wait_connected_when_replayed(self, plain: Path) -> None:
        """wait_connected waits for the recorded connection, and raises FeedClosed after the end."""
        write(plain, start(), (1.0, rxws.State.WAITING), (5.0, rxws.State.CONNECTED), end(9.0))
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with replay(plain) as ws:
            await ws.wait_connected()
            assert loop.time() - began == pytest.approx(5.0, abs=1e-6)
            await ws.wait_closed()
            with pytest.raises(rxws.FeedClosed):
                await ws.wait_connected()
        async with replay(write(plain.with_name("never"), start(), end(1.0))) as ws:
            with pytest.raises(rxws.FeedClosed):
                await ws.wait_connected()

    async def test_messages_when_decode_and_split_are_given(self, plain: Path) -> None:
        """``decode`` and ``split`` work as in a live feed, and frames that cannot be parsed are rejected."""
        write(plain, start(), frame(1.0, [1, 2]), frame(2.0, b"junk"), frame(3.0, [3]))
        async with replay(plain, math.inf, decode=json.loads, split=True) as ws:
            events: list[rxws.Event] = []
            ws.events.subscribe(events.append)
            assert [message async for message in ws.stream_filter()] == [1, 2, 3]
        [rejected] = of_kind(rxws.MessageRejected, events)
        assert (rejected.raw, rejected.count, rejected.time) == (b"junk", 1, pytest.approx(BEGAN / 1e9 + 2.0))
        assert ws.statistics().rejected == 1

    async def test_replay_when_a_feed_class_is_given(self, plain: Path) -> None:
        """A replay may be a feed of the user's class, which parses frames itself and opens no connection."""

        class Own(Feed):
            def __init__(self) -> None:
                super().__init__(None, name="own")
                self.doubled = self.stream_filter().pipe(ops.map(lambda n: 2 * n))
                self.replies: list[Any] = []

            async def _parse_raw_data(self, raw_data: Any) -> Any:  # type: ignore[override]
                await asyncio.sleep(1)
                return json.loads(raw_data)

            def _reply(self, raw_data: Any) -> Any:
                self.replies.append(raw_data)
                return "pong"

        write(plain, start(), frame(1.0, 1), frame(2.0, 2))
        async with replay(plain, math.inf, feed=Own) as ws:
            assert [n async for n in ws.doubled] == [2, 4]
        assert ws.replies == []
        assert repr(ws) == "<own: closed, 2 messages>"
        for feed in (lambda: None, lambda: ws, dict, 5, ws, asyncio.sleep):
            with pytest.raises(TypeError, match="feed must be a function that makes a feed"):
                replay(plain, feed=feed)  # type: ignore[type-var]
        with pytest.raises(TypeError, match=r"Feed cannot be called .*'server'\): pass feed=lambda: Feed\(\.\.\.\)"):
            replay(plain, feed=Feed)  # type: ignore[call-overload]
        for options in ({"decode": json.loads}, {"split": True}):
            with pytest.raises(TypeError, match="decode and split are for a replay without feed"):
                replay(plain, feed=Own, **options)  # type: ignore[call-overload]
        async with ScriptedFeed() as live:
            # A feed that is made later connects as usual.
            await live.wait_connected()

    @pytest.mark.parametrize(
        ("speed", "error"),
        [(0, ValueError), (-1, ValueError), (math.nan, ValueError), (True, TypeError), ("1", TypeError)],
    )
    async def test_replay_when_the_speed_is_wrong(self, plain: Path, speed: Any, error: type[Exception]) -> None:
        """A speed that is not a positive number is refused."""
        with pytest.raises(error, match="speed"):
            replay(numbered(plain, 1), speed)

    async def test_replay_when_exited(self, path: Path) -> None:
        """``exit()`` ends a replay at once, also during a wait, and closes the file."""
        numbered(path, 100, interval=10.0)
        async with assert_no_leaks():
            async with replay(path) as ws:
                assert await anext(ws.stream_filter()) == {"n": 0}
            assert ws.state.value is rxws.State.CLOSED
            async with replay(path):
                pass
            async with replay(path, math.inf) as ws:

                async def leave(message: Any) -> None:
                    await ws.exit()

                ws.add_handler(leave)
                await ws.wait_closed()
            assert ws.statistics().messages <= 100
            await asyncio.sleep(1.0)
            feed = feed_of(ws)
            before = feed.clock.time()
            feed.source.stop()
            assert feed.clock.time() >= before > 0

    @pytest.mark.parametrize("step", range(0, 40, 3))
    async def test_replay_when_cancelled_at_any_step(self, path: Path, step: int) -> None:
        """If the replaying task is cancelled at any step, no task and no open file are left."""
        numbered(path, 100)

        async def use() -> None:
            async with replay(path, 1.0) as ws:
                ws.add_handler(asyncio.sleep)
                async for _ in ws.messages.pipe(ops.buffer_with_time(1.0)):
                    pass
                await ws.wait_closed()

        async with assert_no_leaks():
            using = asyncio.create_task(use())
            for _ in range(step):
                await asyncio.sleep(0)
            using.cancel()
            with pytest.raises(asyncio.CancelledError):
                await using

    async def test_replay_when_its_consumer_leaves_or_raises(self, path: Path) -> None:
        """A loop that ends early, and a block that raises, leave no task. The exception is propagated."""
        numbered(path, 2000, interval=0.001)
        async with assert_no_leaks():
            async with replay(path, math.inf) as ws:
                async for message in ws.messages:
                    if message["n"] == 10:
                        break
            with pytest.raises(LookupError, match="no such trade"):
                async with replay(path, math.inf) as ws:
                    async for _ in ws.messages.pipe(ops.buffer_with_time(0.1)):
                        raise LookupError("no such trade")

    async def test_replays_when_there_are_several_of_one_file(self, path: Path) -> None:
        """A file may be replayed several times at the same time."""
        numbered(path, 500, interval=0.01)

        async def numbers(speed: float) -> list[int]:
            async with replay(path, speed) as ws:
                return [message["n"] async for message in ws.stream_filter()]

        async with assert_no_leaks():
            speeds = (math.inf, 1.0, math.inf, 7.0)
            assert await asyncio.gather(*map(numbers, speeds)) == [list(range(500))] * 4

    async def test_replay_when_subscribers_raise(self, plain: Path) -> None:
        """Subscribers and handlers that raise are reported. The replay and the other subscribers continue."""
        numbered(plain, 10)

        def fail(message: Any) -> None:
            raise LookupError(message)

        async def fail_later(message: Any) -> None:
            raise LookupError(message)

        async with replay(plain, math.inf) as ws:
            events: list[rxws.Event] = []
            ws.events.subscribe(events.append)
            ws.messages.subscribe(fail)
            ws.add_handler(fail)
            ws.add_handler(fail_later)
            assert len([message async for message in ws.stream_filter()]) == 10
            await ws.wait_closed()
        assert len(of_kind(rxws.CallbackFailed, events)) == ws.statistics().failures == 30

    async def test_replay_when_reading_the_file_fails(
        self, plain: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """If reading the file fails, streams deliver the messages before it and raise the error."""

        def lines(*_: Any) -> Iterator[bytes]:
            yield from encode_notes([start(), frame(1.0, 1)]).split(b"\n")[:2]
            raise OSError("the disk is gone")

        plain.touch()
        monkeypatch.setattr("rxws.recording.reading.read_lines", lines)
        ws = replay(plain, math.inf)
        ws.state.subscribe(None, lambda _: None)
        stream = ws.stream_filter()
        with pytest.raises(OSError, match="the disk is gone"):
            await ws.wait_closed()
        assert await anext(stream) == 1
        with pytest.raises(OSError, match="the disk is gone"):
            await anext(stream)
        assert ws.state.value is rxws.State.FAILED
        assert "failed: OSError" in caplog.text

    async def test_replay_when_all_tasks_are_cancelled(self, plain: Path) -> None:
        """If other code cancels its task, the replay fails, and its streams raise that after the held messages."""
        numbered(plain, 5, interval=10.0)
        ws = replay(plain)
        stream = ws.stream_filter()
        await asyncio.sleep(15)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        assert await anext(stream) == {"n": 0}
        with pytest.raises(rxws.ConnectFailed, match="other code cancelled"):
            await anext(stream)
        with pytest.raises(rxws.ConnectFailed, match="other code cancelled"):
            await ws.wait_closed()

    # Consumers

    async def test_replay_when_consumers_are_slow(self, plain: Path) -> None:
        """A replay at full speed waits for its consumers: no stream overflows, and each holds a limited number."""
        numbered(plain, 3000, interval=0.001)
        most = 0

        async def consume(stream: Any, pause: float) -> list[int]:
            nonlocal most
            taken = []
            async for message in stream:
                taken.append(message["n"])
                most = max(most, stream.pending)
                if len(taken) % 50 == 0:
                    await asyncio.sleep(pause)
            return taken

        handled: list[int] = []

        async def handle(message: Any) -> None:
            await asyncio.sleep(0.01)
            handled.append(message["n"])

        async with replay(plain, math.inf) as ws:
            ws.add_handler(handle, maxsize=50)
            small = ws.stream_filter(maxsize=10)
            one = ws.stream_filter(maxsize=1)
            tasks = [
                asyncio.create_task(consume(ws.stream_filter(), 1.0)),
                asyncio.create_task(consume(small, 0.1)),
                asyncio.create_task(consume(one, 0.0)),
            ]
            piped = [n async for n in ws.messages.pipe(ops.map(lambda message: message["n"]))]
            everything = list(range(3000))
            assert [await task for task in tasks] == [everything] * 3
            assert piped == handled == everything
        assert most <= consumers.MOST_WAITING + consumers.STRIDE

    async def test_replay_when_a_stream_has_no_consumer(self, plain: Path) -> None:
        """A stream without an iteration, and an abandoned one, do not stop a replay. They hold all messages."""
        numbered(plain, 3000, interval=0.001)
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with replay(plain, math.inf) as ws:
            idle, left, closed = (ws.stream_filter() for _ in range(3))
            await anext(left)
            await anext(closed)
            await closed.close()
            await ws.wait_closed()
            assert loop.time() - began == pytest.approx(consumers.PATIENCE, abs=1.0)
            assert idle.pending == 3000
            assert left.pending == 2999
            assert [message["n"] async for message in left] == list(range(1, 3000))

    async def test_replay_when_handlers_are_slow_at_its_end(self, plain: Path) -> None:
        """At its end a replay waits until slow coroutine handlers have processed all messages."""
        numbered(plain, 100)
        handled: list[int] = []

        async def handle(message: Any) -> None:
            await asyncio.sleep(1.0)
            handled.append(message["n"])

        async with replay(plain, math.inf) as ws:
            ws.add_handler(handle)
            await ws.wait_closed()
        assert handled == list(range(100))

    async def test_replay_when_a_handler_hangs(self, plain: Path) -> None:
        """A handler that hangs is cancelled, as at the end of a live feed, and the replay ends."""
        numbered(plain, 3)
        calls = []

        async def hang(message: Any) -> None:
            calls.append(message)
            await asyncio.Future()

        async with assert_no_leaks(), replay(plain, math.inf) as ws:
            ws.add_handler(hang)
            async with asyncio.timeout(60):
                await ws.wait_closed()
        assert calls == [{"n": 0}]

    async def test_statistics_when_replayed(self, plain: Path) -> None:
        """The statistics of a replay count messages and bytes as in a live feed."""
        numbered(plain, 3)
        async with replay(plain, math.inf) as ws:
            assert ws.statistics().last_message_age is None
            await ws.wait_closed()
        statistics = ws.statistics()
        assert (statistics.messages, statistics.bytes, statistics.last_message_age) == (3, 24, 0.0)

    # Time

    async def test_timer_when_cancelled_again(self) -> None:
        """A timer of the recording's clock may be cancelled twice, and after it fired."""
        clock = RecordedClock(asyncio.get_running_loop(), math.inf, datetime.now(UTC))
        fired: list[float] = []
        timers = [clock.call_at(due, fired.append, due) for due in (1.0, 2.0, 3.0)]
        timers[1].cancel()
        timers[1].cancel()
        assert clock.reach(5.0)
        timers[0].cancel()
        assert fired == [1.0, 3.0]
        assert clock.time() == 5.0

    async def test_timers_when_they_are_due_with_a_frame(self, plain: Path) -> None:
        """Timers fire between the frames. A timer and a frame with the same time: the timer fires first."""
        write(plain, start(), frame(1.0, "a"), frame(1.5, "b"), frame(2.0, "c"), end(3.25))
        async with replay(plain, math.inf) as ws:
            assert [buffer async for buffer in ws.messages.pipe(ops.buffer_with_time(1.0))] == [
                [],
                ["a", "b"],
                ["c"],
                [],
            ]

    @pytest.mark.parametrize("speed", [math.inf, 100.0, 1.0])
    @pytest.mark.parametrize("kind", ["messages", "stream"])
    async def test_collect_when_limited_in_time(self, plain: Path, speed: float, kind: str) -> None:
        """``collect`` uses the seconds of the recording, and returns the same messages at every speed."""
        numbered(plain, 100)
        async with assert_no_leaks(), replay(plain, speed) as ws:
            source, rest = (ws.messages, []) if kind == "messages" else (ws.stream_filter(), list(range(20, 100)))
            assert [message["n"] for message in await source.collect(seconds=2.05)] == list(range(20))
            await ws.wait_closed()
            assert [message["n"] for message in await source.collect(seconds=1.0)] == rest

    async def test_collect_when_behind(self, plain: Path) -> None:
        """``collect`` includes the messages that still wait when its time ends, up to the given count."""
        numbered(plain, 100, interval=0.001)
        async with replay(plain, math.inf) as ws:
            stream = ws.stream_filter()
            collecting = asyncio.create_task(stream.collect(count=30, seconds=0.0505))
            assert [message["n"] for message in await collecting] == list(range(30))
            assert [message["n"] async for message in stream] == list(range(30, 100))

    async def test_timers_when_set_while_the_replay_waits(self, plain: Path) -> None:
        """A timer that is set while the replay waits counts from the recording's present time, and fires on time."""
        write(plain, start(), frame(100.0, 1), end(200.0))
        loop = asyncio.get_running_loop()
        began = loop.time()
        fired: list[tuple[float, float]] = []
        async with replay(plain, 2.0) as ws:
            await asyncio.sleep(10)

            def tell(seconds: int) -> None:
                fired.append((seconds, loop.time() - began))

            for seconds in (4, 30, 2):
                reactivex.timer(seconds).pipe(ops.map(lambda _, seconds=seconds: seconds)).subscribe(
                    tell, scheduler=ws.messages._context.scheduler
                )
            await ws.wait_closed()
        assert fired == [(2, pytest.approx(11.0)), (4, pytest.approx(12.0)), (30, pytest.approx(25.0))]

    async def test_timers_when_many_are_cancelled(self, plain: Path) -> None:
        """Cancelled timers are removed and do not fire."""
        numbered(plain, 1000, interval=0.001)
        async with replay(plain, math.inf) as ws:
            settled = ws.messages.pipe(ops.debounce(0.5))
            most = 0

            def look(_: Any) -> None:
                nonlocal most
                most = max(most, len(ws.messages._context.clock._timers))  # type: ignore[attr-defined, union-attr]

            ws.messages.subscribe(look)
            # This timer is due before the cancelled ones.
            ws.messages.pipe(ops.buffer_with_time(0.45)).subscribe()
            assert [message["n"] async for message in settled] == [999]
        assert 100 < most < 300

    async def test_timers_when_restarted_without_a_delay(self, plain: Path) -> None:
        """A timer that restarts itself without a delay does not stop the recording."""
        write(plain, start(), frame(0.0005, 1), frame(0.001, 2))
        async with replay(plain, math.inf) as ws:
            ticks = []
            ticking = reactivex.interval(0.0).subscribe(ticks.append, scheduler=ws.messages._context.scheduler)
            assert [message async for message in ws.stream_filter()] == [1, 2]
            ticking.dispose()
        assert len(ticks) >= 900

    async def test_operators_when_they_are_late(self, plain: Path) -> None:
        """Timers of operators that are still due when the recording ends fire soon after it."""
        numbered(plain, 3, interval=1.0)
        loop = asyncio.get_running_loop()
        for speed, after in ((math.inf, 0.1), (1.0, 100.0), (10_000, 0.1)):
            began = loop.time()
            async with assert_no_leaks(), replay(plain, speed) as ws:
                late = ws.messages.pipe(ops.delay(100.0))
                assert [message["n"] async for message in late] == [0, 1, 2]
                assert loop.time() - began == pytest.approx(after + 4.0 / speed, rel=0.1)

    async def test_timers_when_they_never_end(self, plain: Path) -> None:
        """An endless timer continues after the recording's end, at a limited speed, until it is disposed."""
        numbered(plain, 3, interval=1.0)
        loop = asyncio.get_running_loop()
        async with assert_no_leaks():
            ticks: list[int] = []
            async with replay(plain, math.inf) as ws:
                ticking = reactivex.interval(1.0).subscribe(ticks.append, scheduler=ws.messages._context.scheduler)
                await ws.wait_closed()
                ended, began = len(ticks), loop.time()
                assert ended == 4
                await asyncio.sleep(0.5)
                assert len(ticks) - ended == pytest.approx(500 * (loop.time() - began) / 0.5, abs=2)
                scheduler = ws.messages._context.scheduler
                due = (scheduler.now).timestamp()
                assert due == pytest.approx(BEGAN / 1e9 + 4.0 + 500.0, abs=1.0)
                reactivex.timer(0.5).subscribe(lambda _: ticks.append(-1), scheduler=scheduler)
                await asyncio.sleep(0.01)
                assert -1 in ticks
                ticking.dispose()


async def test_replay_when_there_is_much_to_do(plain: Path) -> None:
    """Other tasks run during a replay at full speed."""
    numbered(plain, 3_000, interval=1.0)
    send_queue = 0

    async def other() -> None:
        nonlocal send_queue
        while True:
            await asyncio.sleep(0)
            send_queue += 1

    task = asyncio.create_task(other())
    async with replay(plain, math.inf) as ws:
        ticks: list[int] = []
        ws.messages.pipe(ops.buffer_with_time(0.5)).subscribe(lambda _: ticks.append(send_queue))
        await ws.wait_closed()
    task.cancel()
    assert ws.statistics().messages == 3_000
    assert send_queue > 3_000 / consumers.STRIDE
    assert len(ticks) == 2 * 3_001 + 1


async def test_wait_for_timers_when_they_take_long(plain: Path) -> None:
    """Other tasks also run between slow timers without frames."""
    write(plain, start(), end(30.0))
    send_queue: list[int] = []

    async def other() -> None:
        while True:
            await asyncio.sleep(0)
            send_queue.append(0)

    task = asyncio.create_task(other())
    async with replay(plain, math.inf) as ws:
        ws.messages.pipe(ops.buffer_with_time(1.0)).subscribe(lambda _: time.sleep(0.011))
        await ws.wait_closed()
    task.cancel()
    assert len(send_queue) >= 25


def test_replay_when_outside_an_event_loop(plain: Path) -> None:
    """Without a running event loop, replay raises RuntimeError and leaves no file open."""
    with pytest.raises(RuntimeError, match="inside a running event loop") as raised:
        replay(numbered(plain, 1))
    # The traceback still refers to the objects that were made before the error.
    readings = [entry.locals["reading"] for entry in raised.traceback if "reading" in entry.locals]
    assert readings
    assert not any(reading._close.alive for reading in readings)


def test_all_when_compared_with_the_docstrings() -> None:
    """Every public name of the package has a docstring."""
    for name in recording.__all__:
        assert getattr(recording, name).__doc__
    assert {"record", "replay", "read"} <= set(recording.__all__)


def test_benchmark_when_run_briefly(capsys: pytest.CaptureFixture[str]) -> None:
    """The benchmark of recordings runs and loses no frame."""
    pytest.importorskip("picows")
    from ..benchmarks import recording as benchmark

    benchmark.main(["--seconds", "0.02"])
    output = capsys.readouterr().out
    assert output.count("lost 0") == 3


@pytest.mark.usefixtures("virtual_time")
async def test_replay_when_the_source_reported_a_gap(plain: Path) -> None:
    """A Gap of the parse hook is emitted once in a replay: by the hook if it returns one, otherwise from the file."""

    def decode(raw: str | bytes) -> Any:
        message = json.loads(raw)
        return rxws.Gap(*message["gap"]) if "gap" in message else message

    class Parsing(ScriptedFeed):
        def _parse_raw_data(self, raw_data: Any) -> Any:
            return decode(raw_data)

    frames = ['{"n": 1}', '{"gap": [5, 7.5]}', '{"n": 2}', '{"gap": [8, 9]}', '{"gap": [8, 9]}', '{"n": 3}']
    async with Parsing() as feed:
        with record(feed, plain):
            await feed.record.entered(rxws.State.CONNECTED)
            feed.websocket.come(*frames)
            await feed.record.received(3)
            feed.websocket.end()
            await feed.record.happened(rxws.Gap, 4)
    assert (feed.statistics().gaps, feed.statistics().reconnects) == (4, {"network": 1})
    for make in (decode, json.loads):
        async with replay(plain, math.inf, decode=make) as played:
            items = [item async for item in played.stream_filter(gaps=True)]
            found = [(item.start, item.end) for item in items if isinstance(item, rxws.Gap) and item.reason == "source"]
            assert found == [(5.0, 7.5), (8.0, 9.0), (8.0, 9.0)]
            assert [item["n"] for item in items if isinstance(item, dict) and "n" in item] == [1, 2, 3]
            assert (played.statistics().gaps, played.statistics().reconnects) == (4, {"network": 1})
            assert [gap.reason for gap in played.continuity().gaps] == ["source"] * 3 + ["network"]


async def test_replay_when_each_connection_has_a_decoder(plain: Path) -> None:
    """The frames of each recorded connection have their own decoder."""
    notes = [frame(0.1, 1, 1), frame(0.2, 1, 2), frame(0.3, 2, 1), frame(0.4, 2, 2)]
    write(plain, start(), *notes, end(0.5))

    def counting() -> Callable[[str | bytes], Any]:
        seen: list[Any] = []
        return lambda raw: seen.append(raw) or len(seen)  # type: ignore[func-returns-value]

    feed = replay(plain, math.inf, feed=lambda: rxws.ReactiveWebSocket("ws://localhost", decoder_factory=counting))
    assert [message async for message in feed] == [1, 1, 2, 2]
