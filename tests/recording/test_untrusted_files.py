"""Files that are damaged, mixed with other content, or made to exhaust memory, and the permissions of new files."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import math
import os
import stat
import sys
import tracemalloc
from pathlib import Path
from random import Random
from typing import Any

import pytest

import rxws
from rxws.recording import FrameEntry, SessionStart, decoding, formats, lines, read, record, replay
from rxws.recording.entries import encode_notes
from rxws.recording.formats import format_of
from rxws.recording.lines import LineTooLong, read_lines

from ..support.life import ScriptedFeed, ScriptedWebsocket
from .test_recording import BEGAN, ENDINGS, TwoFrames, end, frame, numbered, start, write

zstd = pytest.importorskip("backports.zstd" if sys.version_info < (3, 14) else "compression.zstd")

MIB = 2**20
DAY = 86_400.0
COMPRESS = {".jsonl": bytes, ".jsonl.gz": gzip.compress, ".jsonl.zst": zstd.compress}


@pytest.fixture(params=ENDINGS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The path of a recording, once for each file name extension."""
    return tmp_path / f"feed{request.param}"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A file that is not compressed."""
    return tmp_path / "feed.jsonl"


def put(path: Path, *parts: bytes) -> Path:
    """Write the parts to a file. The extension of its name selects the compression."""
    path.write_bytes(COMPRESS["".join(path.suffixes)](b"".join(parts)))
    return path


def damaged(path: Path, number: int, old: str, new: str) -> Path:
    """Replace text in one line of a file that is not compressed."""
    text = path.read_text().splitlines(keepends=True)
    assert old in text[number - 1]
    text[number - 1] = text[number - 1].replace(old, new)
    path.write_text("".join(text))
    return path


# Permissions


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
async def test_permissions_when_the_file_is_new(path: Path) -> None:
    """Only the user may read a new recording, even with umask 0. An existing file keeps its permissions."""
    umask = os.umask(0)
    try:
        async with ScriptedFeed(TwoFrames()) as ws:
            with record(ws, path):
                pass
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            path.chmod(0o640)
            with record(ws, path):
                pass
            assert stat.S_IMODE(path.stat().st_mode) == 0o640
    finally:
        os.umask(umask)


# Memory


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "without-end"])
def test_memory_when_a_line_is_huge(path: Path, whole: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A line of more than 16 MiB is a bad line. It takes little memory, and a warning names the limit."""
    before, after = encode_notes([start(), frame(1.0, 1)]), encode_notes([frame(2.0, 2)])
    put(
        path,
        before,
        b'{"time":1,"wall":1,"connection":1,"raw":"',
        b"x" * (200 * MIB),
        b'"}\n' + after if whole else b"",
    )
    tracemalloc.start()
    try:
        reading = read(path)
        entries = list(reading)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * MIB
    assert [entry.raw for entry in entries[1:]] == (["1", "2"] if whole else ["1"])
    assert reading.bad_lines == [3]
    assert "lines of more than max_line_size=16777216 bytes, left out: 1" in caplog.text


def test_memory_when_an_event_holds_many_values(plain: Path) -> None:
    """A line within the limit takes at most a small multiple of its size, with any values in it."""
    values = b"[" + b"[]," * (4 * MIB) + b"[]]"
    put(plain, encode_notes([start()]), b'{"time":1,"event":"Gap","fields":{"start":', values, b"}}\n")
    tracemalloc.start()
    try:
        reading = read(plain)
        assert len(list(reading)) == 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reading.bad_lines == [2]
    assert peak < 128 * MIB


def test_event_when_its_text_has_lone_surrogates(plain: Path) -> None:
    """The text of an event is read as it was recorded, even with lone surrogates."""
    event = rxws.Disconnected(name="feed", time=1.0, number=1, reason="network", cause="\ud800", code=None, delay=None)
    write(plain, start(), (1.0, event))
    assert [entry.event for entry in list(read(plain))[1:]] == [event]


@pytest.mark.parametrize("size", [300, None])
def test_lines_when_their_limit_is_given(path: Path, size: int | None) -> None:
    """``max_line_size`` limits the bytes of a line; None accepts any length."""
    write(path, start(), frame(1.0, "a"), frame(2.0, "b" * 300), frame(3.0, "c"), end(4.0))
    reading = read(path, max_line_size=size)
    raws = [entry.raw[1:2] for entry in reading if isinstance(entry, FrameEntry)]
    assert (raws, reading.bad_lines) == ((["a", "c"], [3]) if size else (["a", "b", "c"], []))


@pytest.mark.parametrize("chunk", [1, 7, 64, 2**16])
@pytest.mark.parametrize("piece", [1, 5, 64, 2**18])
def test_lines_when_they_lie_across_pieces(path: Path, chunk: int, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line may be exactly as long as the limit, with chunks and pieces of any size."""
    monkeypatch.setattr(lines, "CHUNK", chunk)
    monkeypatch.setattr(formats, "PIECE", piece)
    put(path, b"12345\n123456\n\n123456789\n1\n12345\n123456\n1234")
    with path.open("rb", buffering=0) as file:
        found = list(read_lines(file, format_of(path), 5))
    assert [type(line) if isinstance(line, Exception) else line for line in found] == [
        *(b"12345", LineTooLong, b"", LineTooLong, b"1", b"12345", LineTooLong, b"1234")
    ]


@pytest.mark.usefixtures("virtual_time")
async def test_replay_when_a_limit_is_given(path: Path) -> None:
    """A replay leaves out lines that are too long, and counts them as bad lines."""
    write(path, start(), frame(1.0, "a"), frame(2.0, "b" * 300))
    for size, count in ((200, 1), (None, 2)):
        async with replay(path, math.inf, max_line_size=size) as ws:
            assert len([message async for message in ws.stream_filter()]) == count
        assert ws.bad_lines == ((3,) if size else ())


@pytest.mark.parametrize(
    ("size", "error"), [(0, ValueError), (-1, ValueError), (True, TypeError), (1.5, TypeError), ("1", TypeError)]
)
def test_read_when_the_limit_is_wrong(plain: Path, size: Any, error: type[Exception]) -> None:
    """A limit is a positive number of bytes or None."""
    with pytest.raises(error, match="max_line_size must be a positive number of bytes or None, not"):
        read(numbered(plain, 1), max_line_size=size)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="a device of Unix")
def test_read_when_a_file_without_line_breaks_never_ends() -> None:
    """A file whose first line is too long is refused at once, and not read completely."""
    with pytest.raises(rxws.RxwsError, match=r"is not a recording: .* found none in 1 lines, of which 1 were too long"):
        list(read("/dev/zero"))


def test_read_when_there_are_millions_of_bad_lines(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading stops with an error after 100,000 bad lines, because a small compressed file may hold billions."""
    put(path, encode_notes([start()]), b"\n" * 200_000)
    reading = read(path)
    with pytest.raises(rxws.RxwsError, match="more than 100,000 lines cannot be read"):
        list(reading)
    assert len(reading.bad_lines) == decoding.MOST_BAD + 1


# Lines of other programs


LOG = b'{"time":1790000000,"level":"info","msg":"up"}\n'


@pytest.mark.parametrize(
    ("others", "named"),
    [
        (LOG, "line 4"),
        (b'{"a":1,"b":2}\n', "line 4"),
        (b'{"time":1790000000,"level":"info"}\n' * 2, "line 4 and line 5"),
        (b"2026-11-27 up\n2026-11-27\tdown\r\n", "line 4 and line 5"),
        (b"2026-11-27 up\n\n2026-11-27 down\n", "line 4 and line 6"),
        (b"[]\n[]\n", "line 4 and line 5"),
    ],
)
@pytest.mark.parametrize("place", ["middle", "end"])
def test_read_when_another_program_wrote_lines_too(path: Path, others: bytes, named: str, place: str) -> None:
    """Lines of another program after valid ones raise an error that names them. The entries before them are read."""
    put(
        path, encode_notes([start(), frame(1.0, 1), frame(2.0, 2)]), others, encode_notes([end(3.0)] * (place != "end"))
    )
    reading = read(path)
    entries = [next(reading) for _ in range(3)]
    assert [type(entry) for entry in entries] == [SessionStart, FrameEntry, FrameEntry]
    with pytest.raises(rxws.RxwsError, match=f"another program wrote {named}; remove the lines") as raised:
        next(reading)
    assert str(path) in str(raised.value)
    assert list(reading) == []
    assert not reading._close.alive


@pytest.mark.parametrize(
    "others",
    [
        *(b"junk\n", b"\n\n\n", b'{"time":1,"enz":true}\n', b'{"time":1,"end":tru\n{"time":\n'),
        *(b"\xff\xfe\n\x00\x01\n", b'junk\n{"time":1,\njunk\n', b'{"time":1,"event":"Later","fields":{}}\n' * 2),
    ],
)
def test_read_when_lines_are_only_damaged(path: Path, others: bytes) -> None:
    """Lines that may be damaged entries are bad lines, and the rest is read."""
    put(path, encode_notes([start(), frame(1.0, 1)]), others, encode_notes([frame(2.0, 2)]))
    reading = read(path)
    assert [entry.raw for entry in reading if isinstance(entry, FrameEntry)] == ["1", "2"]
    assert reading.bad_lines == [3 + n for n in range(others.count(b"\n"))]


def test_read_when_any_byte_is_damaged(plain: Path) -> None:
    """A damaged byte outside the format number makes at most two lines bad, and never raises an error."""
    write(plain, start(), *(frame(n, n) for n in range(5)), (5.0, rxws.State.WAITING), end(6.0))
    whole, random = plain.read_bytes(), Random(1)
    version = whole.index(b'"rxws":1') + 7
    for index in {*range(len(whole))} - {version}:
        octets = bytearray(whole)
        octets[index] ^= 1 << random.randrange(8)
        plain.write_bytes(octets)
        reading = read(plain)
        assert len(list(reading)) >= 6
        assert len(reading.bad_lines) <= 2


@pytest.mark.usefixtures("virtual_time")
async def test_replay_when_another_program_wrote_lines_too(path: Path) -> None:
    """A replay delivers the messages before lines of another program, and fails with the error."""
    put(path, encode_notes([start(), frame(1.0, 1)]), LOG, encode_notes([frame(2.0, 2)]))
    ws = replay(path, math.inf)
    ws.state.subscribe(None, lambda _: None)
    stream = ws.stream_filter()
    with pytest.raises(rxws.RxwsError, match="another program wrote line 3"):
        await ws.wait_closed()
    assert await anext(stream) == 1


@pytest.mark.parametrize("content", [LOG, b"precious\n", b"\x00\xff\n", b"x" * (17 * MIB)])
async def test_record_when_the_first_line_is_of_another_program(path: Path, content: bytes) -> None:
    """A log whose lines begin with a time, and a compressed file of another kind, are refused and left as they are."""
    before = put(path, content).read_bytes()
    async with ScriptedFeed(ScriptedWebsocket("1")) as ws:
        with pytest.raises(FileExistsError, match="it is not a recording, and was left unchanged"):
            record(ws, path)
    assert path.read_bytes() == before


# Damaged times


def session(path: Path, count: int = 20, began: float = 1000.0, wall: float = 0.0) -> Path:
    """Append a session with a frame every second, and a state in the middle."""
    walled = BEGAN + round(wall * 1e9)
    notes: list[Any] = [start(began, wall=walled), (began, rxws.State.CONNECTED)]
    for n in range(1, count + 1):
        seconds, (raw, *_, connection) = frame(began + n, n)
        notes.append((seconds, (raw, walled + n * 10**9, walled + n * 10**9, connection)))
    notes.insert(count // 2, (began + count // 2 - 1.5, rxws.State.WAITING))
    return write(path, *notes, end(began + count + 1.0))


async def play(path: Path) -> tuple[list[int], float, tuple[int, ...]]:
    """Return the messages of a replay, its duration, and its bad lines."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with replay(path) as ws:
        messages = [message async for message in ws.stream_filter()]
        await ws.wait_closed()
    return messages, loop.time() - began, ws.bad_lines


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("number", range(2, 24))
@pytest.mark.parametrize("digit", ["9", "1001", "1", "0"])
async def test_replay_when_a_digit_of_a_time_is_damaged(plain: Path, number: int, digit: str) -> None:
    """A damaged time makes at most one line bad, and the replay takes no longer than the recording."""
    session(plain)
    old, new = '{"time":10', f'{{"time":{digit}0'
    damaged(plain, number, old, new)
    messages, took, bad = await play(plain)
    assert len(messages) >= 19
    assert took <= 22.0
    assert bad in ((number,), ())


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("number", [22, 23])
async def test_replay_when_the_time_of_the_last_frame_is_damaged(plain: Path, number: int) -> None:
    """A damaged time in the last line is detected with the wall-clock time of the frame."""
    session(plain)
    plain.write_text("".join(plain.read_text().splitlines(keepends=True)[:number]))
    damaged(plain, number, '{"time":10', '{"time":90000010')
    _, took, bad = await play(plain)
    assert bad == (number,)
    assert took < 22.0


@pytest.mark.usefixtures("virtual_time")
async def test_replay_when_the_time_of_the_end_is_damaged(plain: Path) -> None:
    """An end more than 30 days after the last entry is a bad line."""
    session(plain)
    damaged(plain, 24, '{"time":10', '{"time":90000010')
    messages, took, bad = await play(plain)
    assert (len(messages), took, bad) == (20, pytest.approx(20.0, abs=1e-5), (24,))


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("new", ['{"time":9', '{"time":'])
async def test_replay_when_the_time_of_a_header_is_damaged(plain: Path, new: str) -> None:
    """A header whose time contradicts the lines after it is a bad line, and the replay starts with the next line."""
    session(plain, began=1_000_000.0)
    damaged(plain, 1, '{"time":1', new)
    messages, took, bad = await play(plain)
    assert (len(messages), took, bad) == (20, pytest.approx(21.0, abs=1e-5), (1,))


@pytest.mark.usefixtures("virtual_time")
async def test_replay_when_the_date_of_a_later_session_is_damaged(plain: Path) -> None:
    """A header whose date contradicts the frames of its session is a bad line."""
    session(plain)
    session(plain, began=1100.0, wall=100.0)
    damaged(plain, 25, f'"wall":{BEGAN // 10**17}', '"wall":29')
    messages, took, bad = await play(plain)
    assert (len(messages), took, bad) == (40, pytest.approx(121.0, abs=1e-5), (25,))


@pytest.mark.usefixtures("virtual_time")
async def test_replay_when_the_date_of_the_first_session_is_wrong(plain: Path) -> None:
    """A wall clock that was set during the first session does not delay the second one by years."""
    session(plain)
    session(plain, began=5.0, wall=100.0)
    damaged(plain, 1, f'"wall":{BEGAN // 10**17}', '"wall":0')
    # The zero must be replaced, because JSON does not allow leading zeros.
    damaged(plain, 1, '"wall":0', '"wall":1')
    messages, took, bad = await play(plain)
    assert (len(messages), took, bad) == (40, pytest.approx(121.0, abs=1e-5), ())


@pytest.mark.parametrize("silence", [2.0, 3600.0, 3 * DAY])
@pytest.mark.parametrize("place", range(1, 6))
def test_entries_when_a_feed_was_silent(plain: Path, silence: float, place: int) -> None:
    """A silence in any place is not damage."""
    seconds = [n + silence * (n >= place) for n in range(6)]
    write(plain, start(), *(frame(n, n) for n in seconds[1:]), end(seconds[-1] + silence))
    reading = read(plain)
    assert len(list(reading)) == 7
    assert reading.bad_lines == []


@pytest.mark.parametrize("silence", [2.0, 3600.0, 3 * DAY])
def test_entries_when_each_follows_a_silence(plain: Path, silence: float) -> None:
    """A feed with a long silence before each message is read completely."""
    write(plain, start(), *(frame(n * silence, n) for n in range(30)), end(30 * silence))
    reading = read(plain)
    assert len(list(reading)) == 32
    assert reading.bad_lines == []


def test_frame_when_the_one_after_a_silence_is_damaged(plain: Path) -> None:
    """If two entries contradict each other, the wall clock decides which one is damaged."""
    write(plain, start(), frame(1.0, 1), frame(1000.0, 2), frame(1001.0, 3), frame(1002.0, 4), end(1003.0))
    damaged(plain, 4, '{"time":1001', '{"time":501')
    reading = read(plain)
    assert [entry.raw for entry in reading if isinstance(entry, FrameEntry)] == ["1", "2", "4"]
    assert reading.bad_lines == [4]


def test_session_when_its_header_is_a_bad_line(plain: Path) -> None:
    """A session without a header, whose clock is behind that of the session before, is read completely."""
    session(plain)
    session(plain, began=5.0, wall=100.0)
    damaged(plain, 25, '{"time":', '{"time":x')
    reading = read(plain)
    entries = list(reading)
    assert (len(entries), reading.bad_lines) == (47, [25])


def test_entries_when_the_file_fails_during_a_check(plain: Path) -> None:
    """Entries that were read ahead for a check are delivered before the error that follows them."""
    put(plain, encode_notes([start(), frame(100.0, 1), frame(101.0, 2)]), b'{"time":1,"rxws":2,"name":"x","wall":1}\n')
    reading = read(plain)
    assert [type(entry) for entry in itertools.islice(reading, 3)] == [SessionStart, FrameEntry, FrameEntry]
    with pytest.raises(rxws.RxwsError, match="format 2"):
        next(reading)


def test_bad_lines_when_they_are_found_out_of_order(plain: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The numbers of bad lines are in ascending order, even if a later line was found first."""
    session(plain)
    damaged(plain, 8, '{"time":', '{"time":9')
    damaged(plain, 9, '{"time":', '{"time":x')
    reading = read(plain)
    assert len(list(reading)) == 22
    assert reading.bad_lines == [8, 9]
    assert "bad lines, left out: 2 (line 8, 9)" in caplog.text


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl.zst"])
def test_read_when_compressed_data_is_cut_short_in_its_only_block(tmp_path: Path, ending: str) -> None:
    """A session of which nothing can be decompressed is a bad line, and not an empty recording."""
    notes = [start(), *(frame(float(number), {"n": number}) for number in range(200)), end(201.0)]
    path = put(tmp_path / f"feed{ending}", encode_notes(notes))
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with read(path) as reading:
        assert list(reading) or reading.bad_lines == [1]
    path.write_bytes(whole[:20])
    with read(path) as reading:
        # A session that has just begun has no line yet.
        assert list(reading) == reading.bad_lines == []
