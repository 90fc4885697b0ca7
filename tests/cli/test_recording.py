"""``rxws record``, ``rxws replay`` and ``rxws serve``: record a feed, replay it, serve it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import re
import signal
import socket
from pathlib import Path

import pytest
import websockets

import rxws
from rxws import cli
from rxws.cli import serve
from rxws.recording import FrameEntry, read
from rxws.testing import FeedServer, assert_no_leaks
from tests.recording.test_recording import end, frame, start, write
from tests.support.terminal import finish, started, terminal


@pytest.fixture
async def server():
    """Yield a server to which a command in another thread or process can connect."""
    async with FeedServer() as server:
        yield server


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Make a recording of three messages in three seconds, with a gap before the last message; return its path."""
    gap = rxws.Gap(1.0, 2.0, "server", None, name="feed", time=2.0)
    frames = [frame(1.0, {"e": "a", "n": 1}), frame(2.0, b"\xff", 1), (2.5, gap), frame(3.0, {"e": "b", "n": 2}, 2)]
    return write(tmp_path / "feed.jsonl.gz", start(), *frames, end(3.0))


async def run(*arguments: object) -> int:
    """Run a command in a thread; return its exit code."""
    async with asyncio.timeout(15):
        return await asyncio.to_thread(cli.main, list(map(str, arguments)))


def frames_of(path: Path) -> list[str | bytes]:
    """Return the frames in a file."""
    return [entry.raw for entry in read(path) if isinstance(entry, FrameEntry)]


@pytest.mark.parametrize("command", ["record", "replay", "serve"])
def test_help_fits_a_screen_when_printed(command, capsys, monkeypatch):
    """Each help fits a screen of 24 lines of 80 columns, shows an example and the exit codes, and is plain ASCII."""
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert len(out.splitlines()) <= 24
    assert max(map(len, out.splitlines())) <= 80
    assert "example" in out
    assert "exit codes: " in out
    assert "130 Ctrl-C; 143 SIGTERM" in out.replace("\n", " ")
    assert out.isascii()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["record", "ws://x"], "PATH"),
        (["record", "http://x", "y"], "did you mean ws://x?"),
        (["record", "ws://x", "y", "--seconds", "0"], "expected a number of seconds greater than 0"),
        (["record", "ws://x", "y", "--roll", "week"], "expected day, hour or a number of bytes, got 'week'"),
        (["record", "ws://x", "y", "--roll", "0"], "expected day, hour or a number of bytes, got '0'"),
        (["replay"], "PATH"),
        (["replay", "x", "--speed", "0"], "expected a number greater than 0, or max, got '0'"),
        (["replay", "x", "--speed", "inf"], "expected a number greater than 0, or max, got 'inf'"),
        (["serve", "x", "--port", "65536"], "expected a port, from 0 to 65535, got '65536'"),
        (["serve", "x", "--port", "-1"], "expected a port, from 0 to 65535, got '-1'"),
    ],
)
def test_error_is_one_line_when_arguments_are_wrong(wrong, said, capsys):
    """Wrong arguments print one line on stderr, and give exit code 2."""
    assert cli.main(wrong) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert len(err.splitlines()) == 1


async def test_feed_is_recorded_when_it_sends(server, tmp_path, capsys):
    """The file contains every frame; stderr shows the events and the number of frames."""

    async def script(connection):
        await connection.expect("hello")
        await connection.send({"n": 1}, b"\xff")

    server.script = script
    path = tmp_path / "feed.jsonl.gz"
    assert await run("record", server.url, path, "--send", "hello", "--seconds", "0.7") == 0
    assert frames_of(path) == ['{"n": 1}', b"\xff"] or frames_of(path) == ['{"n":1}', b"\xff"]
    out, err = capsys.readouterr()
    assert out == ""
    first, last = err.splitlines()
    assert first.endswith("Connected: connection 1 is open")
    assert last == f"recorded 2 frames to {path}"


async def test_recording_fails_when_the_file_cannot_be_written(server, tmp_path, capsys):
    """A file that cannot be opened or written ends the command with 1 and one line."""
    missing = tmp_path / "no" / "feed"
    assert await run("record", server.url, missing) == 1
    assert capsys.readouterr().err == f"rxws record: error: {missing}: No such file or directory\n"
    if os.path.exists("/dev/full"):
        assert await run("record", server.url, "/dev/full") == 1
        assert capsys.readouterr().err.endswith("rxws record: error: /dev/full: No space left on device\n")


async def test_recording_fails_when_the_server_refuses_for_good(server, tmp_path, capsys):
    """A final refusal by the server ends the command with 1 and one line."""
    server.refuse(404)
    assert await run("record", server.url, tmp_path / "feed.jsonl") == 1
    assert "rxws record: error: " in capsys.readouterr().err


@pytest.mark.parametrize("roll", ["day", "hour", "100000"])
async def test_record_to_a_folder(server, tmp_path, roll):
    """``--roll`` records to files in a folder, which can be read as one recording."""
    folder = tmp_path / "folder"
    assert await run("record", server.url, folder, "--roll", roll, "--send", "hello", "--seconds", "0.5") == 0
    assert [path.suffixes for path in folder.iterdir()] == [[".jsonl", ".gz"]]
    assert isinstance(next(read(folder)), rxws.recording.SessionStart)


async def test_recording_fails_when_no_connection_was_ever_open(server, tmp_path, capsys):
    """If the server never answers, the exit code is 1, and stderr says that no connection was open."""
    server.mute(times=None)
    path = tmp_path / "feed.jsonl"
    assert await run("record", server.url, path, "--seconds", "0.3") == 1
    assert capsys.readouterr().err == f"recorded 0 frames to {path}: no connection was ever open\n"


async def test_recording_succeeds_when_the_feed_is_silent(server, tmp_path, capsys):
    """A recording of a silent feed has no frames, and the exit code is 0."""
    path = tmp_path / "feed.jsonl"
    assert await run("record", server.url, path, "--seconds", "0.5") == 0
    assert capsys.readouterr().err.endswith(f"recorded 0 frames to {path}\n")


async def test_recording_ends_when_its_pipe_is_closed(server):
    """``rxws record URL /dev/stdout | head`` ends with 0, and says that the reader has closed the pipe."""
    with started("record", server.url, "/dev/stdout") as process:
        assert "Connected" in await asyncio.to_thread(process.stderr.readline)
        assert '"rxws":1' in await asyncio.to_thread(process.stdout.readline)
        process.stdout.close()
        process.stdout = None
        await server.send({"n": 1})
        _, err = await finish(process)
    assert process.returncode == 0
    assert err.endswith("rxws record: the reader of /dev/stdout has closed it\n")


async def test_recording_fails_when_a_pipe_has_no_reader(server, tmp_path, capsys):
    """A named pipe without a reader ends the command at once, with 1 and one line."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    assert await run("record", server.url, path) == 1
    assert capsys.readouterr().err == f"rxws record: error: {path}: no process reads this pipe\n"


async def test_recording_is_complete_when_interrupted(server, tmp_path):
    """Ctrl-C ends a recording with 130, and the file contains all frames that arrived."""

    async def script(connection):
        await connection.send({"n": 1})

    server.script = script
    path = tmp_path / "feed.jsonl"
    with started("record", server.url, str(path)) as process:
        assert "Connected" in await asyncio.to_thread(process.stderr.readline)
        await asyncio.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, err = await finish(process)
    assert process.returncode == 130
    assert out == ""
    assert err == f"recorded 1 frames to {path}\n"
    assert len(frames_of(path)) == 1


async def test_recording_is_complete_when_terminated(server, tmp_path):
    """SIGTERM ends a recording with 143, and the file contains all frames that arrived."""
    path = tmp_path / "feed.jsonl.zst"
    with started("record", server.url, str(path)) as process:
        assert "Connected" in await asyncio.to_thread(process.stderr.readline)
        await server.send({"n": 1})
        await asyncio.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        _, err = await finish(process)
    assert process.returncode == 143
    assert err == f"recorded 1 frames to {path}\n"
    assert len(frames_of(path)) == 1


@pytest.mark.parametrize("stdout", ["closed pipe", "none"])
async def test_recording_continues_when_standard_output_is_closed(server, tmp_path, stdout):
    """A recording does not use standard output, so it continues when that is closed."""
    path = tmp_path / "feed.jsonl"
    preexec = (lambda: os.close(1)) if stdout == "none" else None
    with started("record", server.url, str(path), preexec_fn=preexec) as process:
        process.stdout.close()
        assert "Connected" in await asyncio.to_thread(process.stderr.readline)
        await asyncio.sleep(0.2)
        await server.send({"n": 1})
        await asyncio.sleep(0.2)
        process.stdout = None
        process.send_signal(signal.SIGINT)
        await finish(process)
    assert process.returncode == 130
    assert len(frames_of(path)) == 1


async def test_recording_fails_when_it_would_damage_a_file(server, tmp_path, capsys):
    """If the file is not a recording, or another recording writes to it, the command ends with 1 and one line."""
    path = tmp_path / "notes.txt"
    path.write_text("precious")
    assert await run("record", server.url, path) == 1
    assert capsys.readouterr().err == f"rxws record: error: {path}: it is not a recording, and was left unchanged\n"
    assert path.read_text() == "precious"
    path = tmp_path / "feed.gz"
    async with rxws.ReactiveWebSocket(server.url) as ws:
        with rxws.record(ws, path):
            assert await run("record", server.url, path) == 1
    assert capsys.readouterr().err == f"rxws record: error: {path}: another recording is writing to it\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_replay_ends_without_an_error_when_a_signal_arrives(tmp_path, number, code):
    """Ctrl-C and SIGTERM end a replay in the middle, and nothing is printed on stderr."""
    path = write(tmp_path / "feed", start(), frame(0.1, 1), frame(1000.0, 2))
    with started("replay", str(path)) as process:
        assert await asyncio.to_thread(process.stdout.readline)
        process.send_signal(number)
        out, err = await finish(process)
    assert process.returncode == code
    assert (out, err) == ("", "")


@pytest.mark.parametrize("speed", ["1", "max"])
async def test_replay_ends_without_an_error_when_the_pipe_is_closed(tmp_path, speed):
    """``| head`` ends a replay with 0 and no error, even while it waits for its next message."""
    path = write(tmp_path / "feed", start(), *(frame(n, n) for n in range(10)), frame(1000.0, 1))
    with started("replay", str(path), "--speed", speed) as process:
        assert await asyncio.to_thread(process.stdout.readline) == "0\n"
        process.stdout.close()
        process.stdout = None
        _, err = await finish(process)
    assert process.returncode == 0
    assert err == ""


async def test_messages_are_those_of_the_feed_when_replayed_or_served(tmp_path, capsys):
    """``rxws replay`` and ``rxws serve`` deliver the messages that ``rxws record`` received, in the same order."""
    path = tmp_path / "feed.jsonl.gz"
    async with rxws.demo.serve(rate=500) as url, rxws.ReactiveWebSocket(url) as ws:
        live = ws.stream_filter()
        assert await run("record", url, path, "--seconds", "1") == 0
        await ws.exit()
        messages = [message async for message in live]
    capsys.readouterr()
    assert await run("replay", path, "--speed", "max") == 0
    replayed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(replayed) > 100
    first = messages.index(replayed[0])
    assert messages[first : first + len(replayed)] == replayed
    async with serving(path) as (url, _), connect(url) as client:
        assert [json.loads(raw) async for raw in client] == replayed


async def test_messages_are_json_lines_when_replayed(recorded, capsys):
    """A replay prints messages as lines of JSON on stdout, and events on stderr."""
    assert await run("replay", recorded, "--speed", "max") == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ['{"e":"a","n":1}', '"/w=="', '{"e":"b","n":2}']
    assert err.splitlines()[0].endswith("Gap: 1,000.0 ms without a connection (server): messages may be missing")
    assert await run("replay", recorded, "--speed", "1000", "--filter", "e=b") == 0
    assert capsys.readouterr().out == '{"e":"b","n":2}\n'
    assert await run("replay", recorded, "--speed", "max", "--count", "1") == 0
    assert capsys.readouterr().out == '{"e":"a","n":1}\n'


async def test_events_are_among_their_messages_when_replayed(recorded, monkeypatch):
    """On a terminal, an event is printed after the messages before it, and before those after it, at any speed."""
    for speed in ("max", "1000"):
        with terminal(monkeypatch) as there:
            assert await run("replay", recorded, "--speed", speed) == 0
        kinds = re.findall(r"^(?:[\d:.]+ (\w+):|(e=\w+|\"/w==\"))", "\n".join(there.screen), re.MULTILINE)
        assert ["".join(kind) for kind in kinds] == ["e=a", '"/w=="', "Gap", "e=b"]


async def test_values_are_named_when_no_replayed_message_passes_the_filter(recorded, capsys):
    """If no message passes, stderr says which values and keys there were, so that a mistake is found."""
    assert await run("replay", recorded, "--speed", "max", "--filter", "e=c,x=1", "--filter", "n=5") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == (
        "rxws replay: no message of 3 passed the filter; e was a, b; no message has the key x; n was 1, 2; "
        "the keys were e, n"
    )
    assert await run("replay", recorded, "--speed", "max", "--filter", "n=2") == 0
    assert "passed the filter" not in capsys.readouterr().err


async def test_fields_are_chosen_when_replayed(recorded, capsys):
    """``--fields`` prints only these keys; a message that lacks them all is an empty object."""
    assert await run("replay", recorded, "--speed", "max", "--fields", "n,x") == 0
    assert capsys.readouterr().out.splitlines() == ['{"n":1}', "{}", '{"n":2}']


async def test_count_is_shown_while_recording(server, tmp_path, monkeypatch):
    """On a terminal a status line shows how many frames are recorded, until the end."""

    async def script(connection):
        await connection.send(1)
        await asyncio.sleep(0.5)
        await connection.send(2)
        await asyncio.sleep(30)

    server.script = script
    with terminal(monkeypatch) as there:
        assert await run("record", server.url, tmp_path / "feed.jsonl", "--seconds", "1.2") == 0
    assert re.search(r"● connected · 2 frames recorded · \d+/s · 0 gaps · Ctrl-C ends", there.shown)
    assert "recorded 2 frames to " in "".join(there.screen)
    assert "Ctrl-C" not in "".join(there.screen)


async def test_replay_fails_when_there_is_no_file(tmp_path, capsys):
    """A file that cannot be read ends the command with 1 and one line."""
    assert await run("replay", tmp_path / "feed\x1b") == 1
    assert capsys.readouterr().err == f"rxws replay: error: {tmp_path}/feed\\x1b: No such file or directory\n"


async def test_bad_lines_are_reported_when_replayed(tmp_path, capsys):
    """Stderr reports lines that cannot be read; if no frame is left, the exit code is 1."""
    path = write(tmp_path / "feed.jsonl", start(), frame(1.0, 1))
    with path.open("a") as file:
        file.write('{"time":')
    assert await run("replay", path, "--speed", "max") == 0
    assert capsys.readouterr() == ("1\n", f"rxws replay: {path}: bad lines, left out: 1 (line 3)\n")
    path.write_text('{"time":1,"end":true}\n{"time":')
    assert await run("replay", path) == 1
    said = f"rxws replay: error: {path}: bad lines, left out: 1 (line 2), and no frame is left\n"
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("command", ["replay", "serve"])
async def test_command_fails_when_the_file_is_not_a_recording(tmp_path, capsys, command):
    """A file that is not a recording ends the command with 1 and one line that names the expected format."""
    path = tmp_path / "notes.txt"
    path.write_text("something\nelse")
    assert await run(command, path) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"rxws {command}: error: {path} is not a recording: expected JSON lines as rxws.record writes them, compressed "
        "if the name ends in .gz or .zst, and found none in 2 lines\n"
    )


async def test_recording_is_a_feed_when_served(recorded):
    """Each client receives all frames, then its connection is closed with code 1000. Ctrl-C ends the server."""
    with started("serve", str(recorded), "--speed", "max") as process:
        url = (await asyncio.to_thread(process.stdout.readline)).strip()
        for _ in range(2):
            async with asyncio.timeout(10), rxws.ReactiveWebSocket(url) as ws:
                ended = ws.events.filter(lambda event: isinstance(event, rxws.Disconnected)).take(1).to_future()
                frames = await ws.frames.pipe(rxws_take(3))
                assert [raw for raw, *_ in frames] == ['{"e": "a", "n": 1}', b"\xff", '{"e": "b", "n": 2}']
                assert (await ended).code == 1000
        process.send_signal(signal.SIGINT)
        _, err = await finish(process)
    assert process.returncode == 130
    assert err == ""


class Lines:
    """Replaces standard output and standard error in a test."""

    def __init__(self) -> None:
        self.written = asyncio.Queue()
        self.reported = []

    def write(self, text: str) -> None:
        self.written.put_nowait(text)

    def report(self, line: str) -> None:
        self.reported.append(line)


@contextlib.asynccontextmanager
async def serving(path: Path, *, speed: float = math.inf, loop: bool = False):
    """Run ``rxws serve`` in this loop; yield its URL and its output."""
    lines = Lines()
    options = argparse.Namespace(path=str(path), speed=speed, port=0, loop=loop, allow_origin=[], allow_host=[])
    running = asyncio.create_task(serve.serve(options, lines))
    try:
        yield (await lines.written.get()).strip(), lines
    finally:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running


def connect(url: str, **options):
    """Connect without compression, proxy and pings, unless ``options`` asks for them."""
    return websockets.connect(url, **{"compression": None, "proxy": None, "ping_interval": None} | options)


@pytest.mark.parametrize("loop", [False, True])
async def test_server_leaks_nothing_when_a_client_leaves(recorded, loop):
    """A client that disconnects early leaves no task or socket behind, and cancelling stops the server."""
    async with assert_no_leaks(), asyncio.timeout(20), serving(recorded, speed=100.0, loop=loop) as (url, lines):
        for count in (1, 7 if loop else 3):
            async with rxws.ReactiveWebSocket(url, decode=lambda raw: raw) as ws:
                assert len(await ws.messages.pipe(rxws_take(count))) == count
                if not loop and count == 3:
                    await ws.events.filter(lambda event: isinstance(event, rxws.Disconnected)).take(1)
        assert lines.reported == []


@pytest.mark.usefixtures("virtual_time")
class TestServe:
    """``rxws serve`` in virtual time."""

    async def test_frames_are_sent_at_their_recorded_pace_when_served(self, recorded):
        """Each frame is sent at its recorded time, scaled by the speed; events are not sent."""
        loop = asyncio.get_running_loop()
        async with assert_no_leaks(), serving(recorded, speed=0.5) as (url, _), connect(url) as client:
            began = loop.time()
            frames = [(frame, loop.time() - began) async for frame in client]
        assert [frame for frame, _ in frames] == ['{"e": "a", "n": 1}', b"\xff", '{"e": "b", "n": 2}']
        assert [when for _, when in frames] == pytest.approx([2.0, 4.0, 6.0], abs=0.01)

    @pytest.mark.parametrize(("seconds", "is_cut"), [(50, False), (70, True)])
    async def test_client_is_waited_for_when_it_is_slow(self, tmp_path, seconds, is_cut):
        """The server waits for a slow client; after a minute it cuts the connection and reports it."""
        frames = [frame(n, str(n) * 100_000) for n in range(9)]
        async with serving(write(tmp_path / "feed", start(), *frames)) as (url, lines), connect(url) as client:
            client.transport.pause_reading()
            await asyncio.sleep(seconds)
            client.transport.resume_reading()
            taken = []
            with contextlib.suppress(websockets.ConnectionClosedError):
                taken = [raw async for raw in client]
            assert client.close_code == (1006 if is_cut else 1000)
        if is_cut:
            assert lines.reported == ["rxws serve: client 1 received nothing for 60 s: its connection is cut"]
        else:
            assert taken == [raw for _, (raw, *_) in frames]
            assert lines.reported == []

    async def test_bad_lines_are_reported_once_when_served(self, recorded):
        """Lines that cannot be read are left out, and reported once for all clients."""
        recorded = recorded.with_name("feed.jsonl")
        write(recorded, start(), frame(1.0, 1))
        with recorded.open("a") as file:
            file.write('{"time":')
        async with serving(recorded) as (url, lines):
            for _ in range(2):
                async with connect(url) as client:
                    assert [raw async for raw in client] == ["1"]
        assert lines.reported == [f"rxws serve: {recorded}: bad lines, left out: 1 (line 3)"]

    @pytest.mark.parametrize("loop", [False, True])
    async def test_client_is_closed_with_1011_when_the_file_is_missing(self, recorded, loop):
        """A missing or empty file closes the client with 1011, stderr says why, and later clients are served."""
        octets = recorded.read_bytes()
        async with assert_no_leaks(), serving(recorded, loop=loop) as (url, lines):
            for spoil in (recorded.unlink, recorded.touch):
                spoil()
                async with connect(url) as client:
                    with pytest.raises(websockets.ConnectionClosedError):
                        await client.recv()
                    assert (client.close_code, client.close_reason) == (1011, "the recording cannot be read")
            recorded.write_bytes(octets)
            async with connect(url) as client:
                assert await client.recv() == '{"e": "a", "n": 1}'
        assert lines.reported == [
            f"rxws serve: error: client 1: [Errno 2] No such file or directory: '{recorded}'",
            f"rxws serve: error: client 2: {recorded} no longer contains frames",
        ]


async def test_recording_begins_again_when_served_in_a_loop(recorded):
    """With ``--loop`` the frames begin again after the last one, even after another client has left."""
    with started("serve", str(recorded), "--speed", "max", "--loop") as process:
        url = (await asyncio.to_thread(process.stdout.readline)).strip()
        for _ in range(2):
            async with asyncio.timeout(10), rxws.ReactiveWebSocket(url, decode=lambda raw: raw) as ws:
                messages = await ws.messages.pipe(rxws_take(7))
            assert messages[0] == messages[3] == messages[6]
        process.send_signal(signal.SIGTERM)
        _, err = await finish(process)
    assert process.returncode == 143
    assert err == ""


async def test_serving_fails_when_file_or_port_is_unusable(recorded, tmp_path, capsys):
    """A missing file, a file without frames, or a port in use ends the command with 1 and one line."""
    assert await run("serve", tmp_path / "nothing") == 1
    assert capsys.readouterr().err == f"rxws serve: error: {tmp_path}/nothing: No such file or directory\n"
    empty = write(tmp_path / "empty", start(), end(1.0))
    assert await run("serve", empty) == 1
    assert capsys.readouterr().err == f"rxws serve: error: {empty} contains no frames\n"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert await run("serve", recorded, "--port", taken.getsockname()[1]) == 1
    assert "rxws serve: error: port " in (err := capsys.readouterr().err)
    assert len(err.splitlines()) == 1


def rxws_take(count: int):
    """Return an operator that collects ``count`` items into a list."""
    return lambda source: source.take(count).to_list()
