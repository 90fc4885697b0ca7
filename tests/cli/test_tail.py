"""``rxws tail``: messages as JSON lines, events on standard error, terminals, signals and closed pipes."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import os
import re
import signal
import socket
import ssl
import sys
import time

import pytest
import trustme

from rxws import ReactiveWebSocket, cli
from rxws.cli import feed_screen
from rxws.testing import FeedServer
from tests.support.terminal import COLOUR, SEQUENCE, finish, started, terminal

HOSTILE = ['{"s": "\x9b31m\u202e"}', "\x1b]0;title\x07", '{"s": "\\u001b[2J"}']
"""Messages with control sequences that a terminal would execute."""


@pytest.fixture
async def server():
    """Yield a server to which a command in another thread or process can connect."""
    async with FeedServer() as server:
        yield server


async def tail(server, *arguments, url=None):
    """Run the command in a thread while the server serves; return its exit code."""
    async with asyncio.timeout(15):
        return await asyncio.to_thread(cli.main, ["tail", url or server.url, *arguments])


def sends(*messages):
    """Return a script that sends messages on each connection."""

    async def script(connection):
        await connection.send(*messages)

    return script


async def test_messages_are_json_lines_when_they_arrive(server, capfd):
    """Stdout has one line of JSON per message, in order, and nothing else; text that is not JSON becomes a string."""
    server.script = sends({"e": "trade", "n": 1}, "pong", b'{"n": 2}', b"\xff", "[1, 2]")
    assert await tail(server, "--count", "5") == 0
    out, err = capfd.readouterr()
    assert out.splitlines() == ['{"e":"trade","n":1}', '"pong"', '{"n":2}', '"/w=="', "[1,2]"]
    assert err.splitlines()[0].endswith("Connected: connection 1 is open")
    assert len(err.splitlines()) == 1


async def test_count_is_exact_when_more_messages_arrive_at_once(server, capsys):
    """``--count N`` ends the command after exactly N messages."""
    server.script = sends(*range(100))
    assert await tail(server, "--count", "7") == 0
    assert capsys.readouterr().out.split() == [str(number) for number in range(7)]


async def test_filters_are_alternatives_when_there_are_several(server, capsys):
    """A message is printed if it passes any of the filters."""
    server.script = sends(
        {"e": "trade", "s": "A", "n": 1},
        {"e": "trade", "s": "B", "n": 2},
        {"e": "book", "s": "A", "n": 3},
        {"data": {"s": "C"}, "n": 4},
        {"e": "trade", "s": "A", "n": 5},
    )
    arguments = ["--filter", "e=trade,s=A", "--filter", "n=3", "--filter", "data.s=C", "--count", "4"]
    assert await tail(server, *arguments) == 0
    assert [json.loads(line)["n"] for line in capsys.readouterr().out.splitlines()] == [1, 3, 4, 5]


async def test_texts_and_headers_are_sent_when_each_connection_opens(server, capsys):
    """Every new connection sends the headers, and then the texts unchanged and in order."""

    async def script(connection):
        assert [await connection.expect() for _ in range(2)] == ['{"op": 1}', "two"]
        await connection.send({"n": connection.number})
        if connection.number == 1:
            await connection.close(1001)

    server.script = script
    arguments = ["--send", '{"op": 1}', "--send", "two", "--header", "X-Key: K7", "--header", "User-Agent: mine"]
    assert await tail(server, *arguments, "--count", "2") == 0
    assert capsys.readouterr().out == '{"n":1}\n{"n":2}\n'
    assert [handshake.headers["X-Key"] for handshake in server.handshakes] == ["K7", "K7"]
    assert server.handshakes[0].headers.get_all("User-Agent") == ["mine"]


async def test_events_are_printed_when_a_lost_connection_is_opened_again(server, capsys):
    """Stderr has one line each for the end of a connection, the new connection, and the gap between them."""

    async def script(connection):
        await connection.send({"n": connection.number})
        if connection.number == 1:
            await connection.close(1011, "over\x1b[31mload")

    server.script = script
    assert await tail(server, "--count", "2") == 0
    out, err = capsys.readouterr()
    assert out == '{"n":1}\n{"n":2}\n'
    kinds = [line.split()[1] for line in err.splitlines()]
    assert kinds == ["Connected:", "Disconnected:", "Connected:", "Gap:"]
    assert "(server, code 1011)" in err
    assert "\x1b" not in err


async def test_connection_is_rotated_when_rotate_is_given(server, capsys):
    """``--rotate`` opens a new connection regularly, prints the event, and prints every message once."""

    async def send():
        for number in itertools.count():
            await server.send({"n": number})
            await asyncio.sleep(0.01)

    sending = asyncio.ensure_future(send())
    try:
        assert await tail(server, "--rotate", "0.3", "--count", "120") == 0
    finally:
        sending.cancel()
    out, err = capsys.readouterr()
    numbers = [json.loads(line)["n"] for line in out.splitlines()]
    assert numbers == list(range(numbers[0], numbers[0] + 120))
    assert "Rotated: connection 2 delivers: overlap proven" in err


async def test_command_fails_when_the_first_connection_is_refused_with_401(server, capsys):
    """A 401 at the first connection ends the command with 1 and one line without secrets."""
    server.refuse(401, times=None)
    assert await tail(server, "--header", "Authorization: Bearer S3CRET", url=server.url + "?key=S3CRET") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("rxws tail: error: ")
    assert "401" in err
    assert "S3CRET" not in err


async def test_refusal_with_401_is_retried_when_there_was_a_connection(server, capsys):
    """After a first connection a 401 is retried; the third in a row ends the command with 1 and one line."""

    async def script(connection):
        await connection.send(1)
        await asyncio.sleep(0.05)
        await connection.send(2)
        server.refuse(401, times=None)
        await connection.close(1001)

    server.script = script
    assert await tail(server) == 1
    out, err = capsys.readouterr()
    assert out == "1\n2\n"
    kinds = [line.split()[1] for line in err.splitlines()]
    assert kinds == ["Connected:", "Disconnected:", "cannot", "cannot", "tail:"]
    assert err.count("; retrying ") == 2
    assert "401" in err.splitlines()[-1]


async def test_command_fails_when_the_output_is_read_too_slowly(server, capsys, monkeypatch):
    """If too many messages wait for a slow reader, the command ends with 1 and one line; it drops none silently."""
    original = ReactiveWebSocket.stream_filter
    monkeypatch.setattr(ReactiveWebSocket, "stream_filter", lambda feed, filters: original(feed, filters, maxsize=20))
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        running = asyncio.ensure_future(tail(server, "--count", "61"))
        connection = await server.connected()
        # Longer than the buffer of a pipe, so that the write blocks.
        await connection.send("x" * 300_000)
        for number in range(60):
            await connection.send(number)
            await asyncio.sleep(0.002)
        octets = b""
        while len(octets) < 300_003 or not octets.endswith(b"\n"):
            octets += await asyncio.to_thread(os.read, read, 65536)
        assert await running == 1
    os.close(read)
    assert capsys.readouterr().err.endswith(
        "rxws tail: error: the output is read too slowly: 20 messages wait for it\n"
    )


async def test_json_is_ascii_when_standard_output_is_not_unicode(server, monkeypatch):
    """If the encoding of standard output is not Unicode, the lines are JSON with ASCII escapes."""
    octets = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(octets, "latin-1", write_through=True))
    server.script = sends('{"s": "Köln ▲"}')
    assert await tail(server, "--count", "1") == 0
    assert octets.getvalue() == b'{"s":"K\\u00f6ln \\u25b2"}\n'


@pytest.mark.parametrize("where", ["pipe", "terminal"])
async def test_content_is_escaped_when_a_terminal_would_execute_it(server, capfd, monkeypatch, where):
    """Control sequences and bidi characters are escaped, on a pipe, too, because it may end at a terminal."""
    server.script = sends(*HOSTILE)
    if where == "pipe":
        assert await tail(server, "--count", "3") == 0
        written = capfd.readouterr().out
    else:
        with terminal(monkeypatch) as there:
            assert await tail(server, "--count", "3") == 0
        written = there.shown
    assert not set(written) & {"\x1b", "\x9b", "\x07", "\u202e"}
    assert r"\u009b31m\u202e" in written
    assert r"\u001b]0;title\u0007" in written
    assert r"\u001b[2J" in written


# On a terminal


async def test_terminal_has_colours_and_a_status_when_there_is_one(server, monkeypatch):
    """On a terminal, messages and events have colours, and a status line is shown until the end."""

    async def script(connection):
        await connection.send({"n": 1})
        await asyncio.sleep(0.7)
        await connection.send({"n": 2})

    server.script = script
    with terminal(monkeypatch) as there:
        assert await tail(server, "--count", "2") == 0
    assert COLOUR.search(there.text)
    assert [line for line in there.screen if line.startswith("n=")] == ["n=1", "n=2"]
    assert "Connected: connection 1 is open" in there.shown
    assert re.search(r"● connected · 1 received · \d/s · 0 gaps · Ctrl-C ends", there.shown)
    # The cursor is visible again, and the status line is removed.
    assert there.text.index("\x1b[?25l") < there.text.rindex("\x1b[?25h")
    assert there.text.endswith("\x1b[1A\x1b[2K")


async def test_terminal_shows_no_colours_when_a_batch_is_large(server, monkeypatch):
    """The messages of a large batch have no colours, because colouring them would take too long."""
    monkeypatch.setattr(feed_screen, "MOST_COLOURED", 0)
    server.script = sends({"n": 1}, {"n": [2]})
    with terminal(monkeypatch) as there:
        assert await tail(server, "--count", "2") == 0
    assert "n=1" in there.text
    assert '{"n":[2]}' in there.text


async def test_terminal_has_no_colours_when_no_color_is_set(server, monkeypatch):
    """With the environment variable NO_COLOR, nothing has colours."""
    server.script = sends({"n": 1})
    with terminal(monkeypatch) as there:
        monkeypatch.setenv("NO_COLOR", "1")
        assert await tail(server, "--count", "1") == 0
    assert "n=1" in there.text
    assert not COLOUR.search(there.text)


async def test_terminal_shows_a_table_when_fields_are_given(server, monkeypatch):
    """With ``--fields`` a terminal shows a table: its header again on each screen, and numbers aligned to the right."""
    server.script = sends(*({"s": "AB", "d": {"p": 10.0**n}, "x": n} for n in range(6)), {"s": "LONGER"})
    with terminal(monkeypatch, rows=12) as there:
        assert await tail(server, "--fields", "s,d.p", "--count", "7") == 0
    lines = [line for line in there.screen if line]
    assert lines[-8:] == [
        *("s   d.p", "AB  1.0", "AB  10.0", "AB  100.0", "AB  1000.0", "AB  10000.0", "AB  100000.0", "LONGER")
    ]
    server.script = sends(*({"s": n} for n in range(20)))
    with terminal(monkeypatch, rows=9) as there:
        assert await tail(server, "--fields", "s", "--count", "20") == 0
    assert [line.strip() for line in there.shown.splitlines()].count("s") == 3


@pytest.mark.parametrize(("name", "unit"), [("T", 1e3), ("d.T:us", 1e6)])
async def test_terminal_shows_the_latency_when_the_time_of_sending_is_named(server, monkeypatch, name, unit):
    """With ``--sent-at`` the status line shows how late messages arrive."""

    async def script(connection):
        for late in (0.2, 0.2, 0.2):
            sent = int((time.time() - late) * unit)
            await connection.send({"T": sent, "d": {"T": sent}})
            await asyncio.sleep(0.4)
        await connection.send(0)

    server.script = script
    with terminal(monkeypatch) as there:
        assert await tail(server, "--sent-at", name, "--count", "4") == 0
    assert re.search(r"0 gaps · latency 2\d\d ms, p99 2\d\d ms · Ctrl-C ends", there.shown)


@pytest.mark.parametrize(("scheme", "word"), [("wss", "ws://"), ("ws", "wss://")])
async def test_scheme_is_questioned_when_tls_is_on_one_side_only(scheme, word, capsys):
    """If the first connection fails because only one side speaks TLS, one line names the other scheme."""
    context = None
    if scheme == "ws":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("localhost").configure_cert(context)
    url = f"{scheme}://localhost:"
    async with FeedServer(ssl=context) as server:
        with started("tail", f"{url}{server.port}") as process:
            lines = [await asyncio.to_thread(process.stderr.readline) for _ in range(3)]
            process.send_signal(signal.SIGINT)
            await finish(process)
    assert "cannot connect" in lines[0]
    assert f"address begins with {word} instead of {scheme}://" in lines[1]
    assert "TLS" not in lines[2]


@pytest.mark.parametrize("lacking", ["rich", "cursor movement"])
async def test_terminal_shows_plain_lines_when_rich_or_cursor_movement_is_lacking(server, monkeypatch, lacking):
    """Without rich, or on a dumb terminal, messages and events are plain lines."""
    server.script = sends({"n": 1})
    with terminal(monkeypatch, kind="xterm" if lacking == "rich" else "dumb") as there:
        if lacking == "rich":
            monkeypatch.setitem(sys.modules, "rich.console", None)
        assert await tail(server, "--count", "1") == 0
    assert '{"n":1}\r\n' in there.text
    assert "Connected: connection 1 is open" in there.text
    assert not SEQUENCE.search(there.text)
    assert "●" not in there.text


# As a process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_process_ends_without_a_traceback_when_a_signal_arrives(server, number, code):
    """Ctrl-C and SIGTERM end the process with 130 and 143; printed lines are complete, and there is no traceback."""
    server.script = sends({"n": 1})
    with started("tail", server.url) as process:
        assert await asyncio.to_thread(process.stdout.readline) == '{"n":1}\n'
        process.send_signal(number)
        out, err = await finish(process)
    assert process.returncode == code
    assert out == ""
    assert [line.split()[1] for line in err.splitlines()] == ["Connected:"]
    await server.disconnected()


@pytest.mark.parametrize("feed", ["busy", "quiet"])
async def test_process_prints_no_error_when_the_pipe_is_closed(server, feed):
    """``| head`` ends the process with 0 and no error, even if the feed sends nothing more."""

    async def script(connection):
        await connection.send({"n": 1})
        while feed == "busy":
            await connection.send({"n": 2})
            await asyncio.sleep(0.001)

    server.script = script
    with started("tail", server.url) as process:
        assert await asyncio.to_thread(process.stdout.readline) == '{"n":1}\n'
        process.stdout.close()
        process.stdout = None
        _, err = await finish(process)
    assert process.returncode == 0
    assert "Traceback" not in err
    assert "Exception" not in err
    assert [line.split()[1] for line in err.splitlines()] == ["Connected:"]


async def test_process_retries_when_the_connection_is_refused():
    """A refused connection is retried, each attempt prints one line, and only a signal ends the process."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{unused.getsockname()[1]}"
        with started("tail", url) as process:
            lines = [await asyncio.to_thread(process.stderr.readline) for _ in range(2)]
            process.send_signal(signal.SIGINT)
            out, err = await finish(process)
    assert process.returncode == 130
    assert out == ""
    assert all("cannot connect (network)" in line and "; retrying " in line for line in lines)
    assert "Traceback" not in err
