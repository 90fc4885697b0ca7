"""The command line: arguments, printed lines, loss counter, exit codes, signals and closed pipes."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

import rxws
from rxws import cli
from rxws.cli import arguments, filters, lines, running
from rxws.cli import terminal as terminal_module
from rxws.cli.loss_counter import LossCounter
from rxws.cli.output import Output
from rxws.cli.terminal import style_of
from tests.support.terminal import started, terminal


def one_line(text):
    """Return the only line of a text."""
    assert text.endswith("\n")
    assert text.count("\n") == 1, text
    return text.rstrip("\n")


# Arguments


@pytest.mark.parametrize("command", [[], ["demo"], ["tail"]])
def test_help_fits_a_screen_when_printed(command, capsys, monkeypatch):
    """Each help fits a screen of 24 lines of 80 columns, shows an example, and is plain ASCII."""
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([*command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert len(out.splitlines()) <= 24
    assert max(map(len, out.splitlines())) <= 80
    assert "example" in out
    assert out.isascii()


@pytest.mark.parametrize("command", ["demo", "tail"])
def test_help_documents_the_exit_codes_when_printed(command, capsys):
    """The help of each command explains its exit codes."""
    cli.main([command, "--help"])
    assert "exit codes: 0 " in (out := capsys.readouterr().out)
    assert "; 130 Ctrl-C; 143 SIGTERM" in out


def test_help_is_printed_when_there_is_no_command(capsys):
    """``rxws`` alone prints the help, and is no error."""
    assert cli.main([]) == 0
    alone = capsys.readouterr()
    cli.main(["--help"])
    assert alone == capsys.readouterr()


def test_version_is_printed_when_requested(capsys):
    """``rxws --version`` prints the version of the package."""
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"rxws {rxws.__version__}\n"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["nonsense"], "there is no command 'nonsense' (see: rxws --help)"),
        (["tial"], "there is no command 'tial': did you mean tail? (see: rxws --help)"),
        (["--verison"], "there is no option '--verison': did you mean --version? (see: rxws --help)"),
        (["tail", "--fliter", "e=1", "ws://x"], "no option '--fliter': did you mean --filter? (see: rxws tail --help)"),
        (["record", "ws://x", "f", "--second=3"], "'--second': did you mean --seconds? (see: rxws record --help)"),
        (["tail", "ws://x", "--strt", "all"], "'--strt': did you mean --start?"),
        (["tail", "ws://x", "e=trade"], "unexpected argument 'e=trade' (a filter is written --filter K=V)"),
        (["tail", "ws://x", "-x"], "unexpected argument '-x'"),
        (["audit", "f", "e=trade"], "unexpected argument 'e=trade' (see: rxws audit --help)"),
        (["demo", "--seconds", "0"], "expected a number of seconds greater than 0, got '0'"),
        (["demo", "--seconds", "soon"], "expected a number of seconds greater than 0, got 'soon'"),
        (["demo", "--streams", "0"], "expected a whole number from 1 up, got '0'"),
        (["demo", "--nats", "--streams", "9"], "--streams does not go with --nats"),
        (["demo", "--serve", "--nats"], "--nats does not go with --serve"),
        (["demo", "--serve", "--seconds", "9"], "--seconds does not go with --serve"),
        (["demo", "--port", "9"], "--port is for --serve only"),
        (["tail"], "URL"),
        (["tail", "ws://x", "--colour"], "--colour"),
        (["tail", "ws://x", "--\x1b[31m"], r"--\x1b[31m"),
        (["tail", "localhost:8765"], "did you mean ws://localhost:8765?"),
        (["tail", "127.0.0.1:8765/ws"], "did you mean ws://127.0.0.1:8765/ws?"),
        (["tail", "example.org/ws"], "did you mean wss://example.org/ws?"),
        (["tail", "http://x"], "did you mean ws://x?"),
        (["tail", "https://x.org:9"], "did you mean wss://x.org:9?"),
        (["tail", "https://u:S3CRET@x.org"], "scheme isn't ws or wss"),
        (["tail", "x.org/?key=S3CRET"], "scheme isn't ws or wss"),
        (["tail", "x.org/S3CRETS3CRETS3CRET"], "scheme isn't ws or wss"),
        (["tail", "ws://"], "hostname isn't provided"),
        (["tail", "ws://u:S3CRET@x:port"], "its host or port cannot be read"),
        (["tail", "ws://[::1"], "its host or port cannot be read"),
        (["tail", "ftp://u:S3CRET@x/?key=S3CRET"], "not the URL of a websocket"),
        (["tail", "ws://x", "--count", "many"], "expected a whole number from 1 up, got 'many'"),
        (["tail", "ws://x", "--rotate", "inf"], "expected a number of seconds greater than 0"),
        (["tail", "ws://x", "--filter", "nonsense"], "with = != < <= > or >=, got 'nonsense'"),
        (["tail", "ws://x", "--filter", "p>true"], "p> takes a number or text, got true"),
        (["tail", "ws://x", "--fields", "s,,p"], "'' is not a key"),
        (["tail", "ws://x", "--sent-at", "T:h"], "where UNIT is s, ms, us or ns, got 'T:h'"),
        (["tail", "ws://x", "--sent-at", ":ms"], "'' is not a key"),
        (["tail", "ws://x", "--fields", "s,p,s"], "a key occurs twice in 's,p,s'"),
        (["tail", "ws://x", "--header", "S3CRET"], "expected Name: value"),
        (["tail", "ws://x", "--header", "S3 CRET: x"], "expected Name: value"),
        (["tail", "ws://x", "--header", "X-Key: S3CRET\r\nX-Other: 1"], "the value of X-Key"),
        (["tail", "ws://x", "--header", "X-Key: S3CRET é"], "the value of X-Key"),
        (["tail", "ws://x", "--filter", "\x1b[31m\nred"], r"\x1b[31m"),
    ],
)
def test_error_is_one_line_when_arguments_are_wrong(wrong, said, capsys):
    """Wrong arguments print one clear line on stderr, without secrets, and give exit code 2."""
    assert cli.main(wrong) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in one_line(err)
    assert "error:" in err
    assert "--help" in err
    assert "S3CRET" not in err


@pytest.mark.parametrize(
    ("text", "case"),
    [
        ("e=trade", {"e": "trade"}),
        ("e=trade,s=BTCUSDT", {"e": "trade", "s": "BTCUSDT"}),
        ("e = trade , s = BTC USDT ", {"e": "trade", "s": "BTC USDT"}),
        ("n=7", {"n": 7}),
        ("p=0.5,q=-1e3", {"p": 0.5, "q": -1000.0}),
        ("m=true,x=null", {"m": True, "x": None}),
        ('n="7"', {"n": "7"}),
        ('s="a,b",n=1', {"s": "a,b", "n": 1}),
        ("l=[1, 2],n=1", {"l": [1, 2], "n": 1}),
        ('d={"a": 1}', {"d": {"a": 1}}),
        ("s=1INCH", {"s": "1INCH"}),
        ("s=007", {"s": "007"}),
        ("s=NaN,t=-Infinity", {"s": "NaN", "t": "-Infinity"}),
        ("s=" + "[" * 100_000, {"s": "[" * 100_000}),
        ("s=,t=", {"s": "", "t": ""}),
        ("s=a=b", {"s": "a=b"}),
        ("data.s=BTCUSDT", {("data", "s"): "BTCUSDT"}),
        ("data.0.s=BTCUSDT,data.-1.s=X", {("data", 0, "s"): "BTCUSDT", ("data", -1, "s"): "X"}),
        ("0=x", {"0": "x"}),
    ],
)
def test_filter_is_parsed_when_valid(text, case):
    """A value is parsed as JSON if it is valid JSON, otherwise it is text. Dots in a key make a path."""
    read = filters.filter_case(text)
    assert read == case
    assert [type(value) for value in read.values()] == [type(value) for value in case.values()]


@pytest.mark.parametrize(
    "text", ["", "e", "=trade", "e=trade,", "e=trade,s", "a..b=1", ".a=1", "a=1,a=2", "a=x,y,b=1", "a=1,a>0", "a>0,a=1"]
)
def test_filter_is_refused_when_invalid(text):
    """A filter that is not a list of key=value, or that contains a key twice, is refused."""
    with pytest.raises(argparse.ArgumentTypeError):
        filters.filter_case(text)


@pytest.mark.parametrize(
    ("text", "passing", "failing"),
    [
        ("p>1", [{"p": 2}, {"p": "1.5"}, {"p": 1.0000001}], [{"p": 1}, {"p": "1.0"}, {"p": "x"}, {"p": None}, {}]),
        ("p >= 1", [{"p": 1}, {"p": "1.0"}], [{"p": 0.99}, {"p": True}]),
        ("p<1", [{"p": 0}, {"p": "-3e2"}], [{"p": 1}]),
        ("p<=1", [{"p": 1}], [{"p": 1.5}]),
        ("p>1,p<3", [{"p": 2}], [{"p": 1}, {"p": 3}]),
        ("s!=BTC", [{"s": "ETH"}, {"s": None}], [{"s": "BTC"}, {}]),
        ("s!=BTC,s!=ETH,s!=1", [{"s": "X"}], [{"s": "BTC"}, {"s": "ETH"}, {"s": 1}]),
        ("l!=[1],n=1", [{"l": [2], "n": 1}], [{"l": [1], "n": 1}, {"l": [2]}]),
        ("t>=2026-01-01", [{"t": "2026-01-01T00:00"}], [{"t": "2025-12-31"}, {"t": 5}]),
        ("data.p>1", [{"data": {"p": 2}}], [{"data": {}}, {"p": 2}]),
        ("p>" + "9" * 30, [{"p": "1" + "0" * 30}], [{"p": 5}]),
    ],
)
def test_filter_compares_when_it_has_an_operator(text, passing, failing):
    """``< <= > >=`` compare numbers, numeric strings as numbers, and otherwise strings; ``!=`` requires the key."""
    chosen = rxws.messages.Filter.parse([filters.filter_case(text)])
    assert [chosen(message) for message in passing] == [True] * len(passing)
    assert [chosen(message) for message in failing] == [False] * len(failing)


def test_comparison_is_shown_as_it_was_written():
    """The repr of a filter, which events quote, has the operators."""
    assert repr(filters.filter_case("p>1,p<=2.5,s!=x")) == "{'p': > 1 and <= 2.5, 's': != 'x'}"


def test_header_is_parsed_when_valid():
    """The first colon separates the name of a header from its value."""
    assert arguments.header("Authorization: Basic a:b ") == ("Authorization", "Basic a:b")
    assert arguments.header("X-Empty:") == ("X-Empty", "")


def test_package_runs_as_a_module_when_no_script_is_installed():
    """``python -m rxws`` behaves as ``rxws`` does, including the exit code."""
    with started("tail") as process:
        out, err = process.communicate(timeout=10)
    assert process.returncode == 2
    assert out == ""
    assert one_line(err).startswith("rxws tail: error:")


def test_help_prints_no_error_when_the_pipe_is_closed():
    """``rxws --help | true`` prints no error, even when the interpreter exits."""
    read, write = os.pipe()
    os.close(read)
    try:
        with started("--help", stdout=write) as process:
            _, err = process.communicate(timeout=10)
    finally:
        os.close(write)
    assert (process.returncode, err) == (0, "")


def test_standard_output_is_redirected_when_the_help_meets_a_closed_pipe(monkeypatch):
    """After a failed write, standard output is the null device, so that the interpreter does not write again."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert cli.main(["--help"]) == 0
        assert os.readlink(f"/proc/self/fd/{write}") == os.devnull


# Printed lines


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        ('{"a": 1, "b": [true, null]}', '{"a":1,"b":[true,null]}'),
        (b'{"a": 1}', '{"a":1}'),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("pong", '"pong"'),
        ('say "hi"\n', r'"say \"hi\"\n"'),
        (b"text", '"text"'),
        (b"\xff\x00", '"/wA="'),
        ("NaN", '"NaN"'),
        ("", '""'),
        ("[" * 100_000, '"' + "[" * 100_000 + '"'),
        ('{"s": "Köln 東京 👩‍💻"}', '{"s":"Köln 東京 👩‍💻"}'),
        ('"\\u001b[31m"', r'"\u001b[31m"'),
        ('"\\u009b31m\x7f"', r'"\u009b31m\u007f"'),
        ("\x9b31m", r'"\u009b31m"'),
        ("\x7f", r'"\u007f"'),
        ('"\u202eevil\u2069\u200f"', r'"\u202eevil\u2069\u200f"'),
        ('"\ufeff\u2028\U000e0041"', r'"\ufeff\u2028\udb40\udc41"'),
    ],
)
def test_message_is_one_safe_line_of_json_when_printed(raw, line):
    """Each message is one line of JSON, text that is not JSON becomes a string, and control sequences are escaped."""
    assert lines.json_lines([lines.decode(raw)]) == line + "\n"


def test_message_is_ascii_when_the_output_has_no_unicode():
    """If standard output cannot encode Unicode, non-ASCII characters become JSON escapes."""
    assert lines.json_lines(["Köln", "👩"], ascii=True) == '"K\\u00f6ln"\n"\\ud83d\\udc69"\n'


SINCE = {"name": "feed", "time": 1_700_000_000.25}


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (rxws.Connected(number=1, attempt=1, **SINCE), "Connected: connection 1 is open"),
        (rxws.Connected(number=2, attempt=3, **SINCE), "Connected: connection 2 is open after 3 attempts"),
        (
            rxws.Disconnected(number=None, reason="network", cause="refused", delay=0.0, **SINCE),
            "cannot connect (network): refused; retrying at once",
        ),
        (
            rxws.Disconnected(number=None, reason="network", cause="refused", delay=1.25, **SINCE),
            "cannot connect (network): refused; retrying in 1.2 s",
        ),
        (
            rxws.Disconnected(number=None, reason="auth", cause="HTTP 401", **SINCE),
            "cannot connect (auth): HTTP 401; giving up",
        ),
        (
            rxws.Disconnected(number=1, reason="server", cause="bye \x1b[31m\n", code=1001, **SINCE),
            r"Disconnected: connection 1 ended (server, code 1001): bye \x1b[31m\n",
        ),
        (
            rxws.Disconnected(number=1, reason="rotation", cause="a planned rotation", **SINCE),
            "Disconnected: connection 1 ended (rotation): a planned rotation",
        ),
        (
            rxws.Rotated(number=2, proven=True, held=1200, duplicates=1100, paused=0.0015, **SINCE),
            "Rotated: connection 2 delivers: overlap proven, 1,200 held, 1,100 of them copies, paused 1.5 ms",
        ),
        (
            rxws.Rotated(number=2, truncated=True, **SINCE),
            "Rotated: connection 2 delivers: overlap not proven, 0 held, 0 of them copies, paused 0.0 ms, cut short",
        ),
        (
            rxws.Gap(10.0, 11.5, "network", None, **SINCE),
            "Gap: 1,500.0 ms without a connection (network): messages may be missing",
        ),
        (rxws.Quiet(seconds=60, **SINCE), "Quiet: connected, but no message for 60 s"),
        (
            rxws.MessageRejected(raw="x", error=ValueError("no https://h/?key=hunter2"), count=1000, **SINCE),
            "MessageRejected: a frame could not be parsed (1,000 so far): ValueError('no https://h/?key=***')",
        ),
        (
            rxws.CallbackFailed(handler="f", message=None, error=ValueError("no https://h/?key=hunter2"), **SINCE),
            "CallbackFailed: f raised ValueError('no https://h/?key=***')",
        ),
        (rxws.Lagging(consumer="stream", pending=10_000, **SINCE), "Lagging: stream is behind: 10,000 messages wait"),
        (
            rxws.Overflowed(consumer="stream", overflow="error", dropped=5, **SINCE),
            "Overflowed: stream was full (error): 5 messages dropped in all",
        ),
        (rxws.Event(**SINCE), "Event: Event(name='feed', time=1700000000.25)"),
    ],
)
def test_event_is_one_line_in_words_when_printed(event, words):
    """An event is one line with its time, type and description, and without control characters."""
    clock, text = lines.event_line(event).split(" ", 1)
    assert clock.endswith(".250")
    assert text == words


@pytest.mark.parametrize(
    ("event", "colour"),
    [
        (rxws.Rotated(number=2, **SINCE), "green"),
        (rxws.Quiet(seconds=60, **SINCE), "yellow"),
        (rxws.CallbackFailed(handler="f", message=None, error=ValueError("no"), **SINCE), "red"),
    ],
)
def test_event_has_the_colour_of_its_severity_when_printed(event, colour):
    """Success is green, an error is red, and a warning is yellow."""
    assert style_of(event) == colour


@pytest.mark.parametrize(("kind", "is_one"), [("xterm-256color", True), ("dumb", False)])
async def test_terminal_is_used_when_it_can_move_its_cursor(kind, is_one, monkeypatch):
    """A dumb terminal gets plain lines, as a pipe does."""
    with terminal(monkeypatch, kind=kind):
        output = Output([].append)
        assert (terminal_module.terminal(output) is not None) is is_one
        await output.close()


# Loss counter


def test_loss_counter_counts_no_loss_when_numbers_are_consecutive():
    """Consecutive numbers of a channel are neither lost nor doubled, whichever number is the first."""
    loss_counter = LossCounter()
    for number in range(5, 10):
        loss_counter.take("a", number)
        loss_counter.take("b", number + 100)
    assert (loss_counter.received, loss_counter.lost, loss_counter.doubled, loss_counter.missed) == (10, 0, 0, 0)


def test_loss_counter_counts_holes_and_repetitions_when_there_are_any():
    """A hole counts as lost, a number that arrives again as doubled, and a number that arrives late as out of order."""
    loss_counter = LossCounter()
    for number in (1, 2, 5, 5, 4, 6):
        loss_counter.take("a", number)
    assert (loss_counter.received, loss_counter.lost, loss_counter.missed) == (6, 1, 0)
    assert (loss_counter.doubled, loss_counter.disordered) == (1, 1)


def test_loss_counter_counts_missed_messages_when_there_was_an_interruption():
    """After an interruption only the first hole of each channel counts as missed. New channels have no hole."""
    loss_counter = LossCounter()
    for channel in "ab":
        loss_counter.take(channel, 1)
    loss_counter.interrupt()
    for channel, number in (("a", 4), ("a", 6), ("b", 2), ("b", 4), ("c", 9)):
        loss_counter.take(channel, number)
    assert (loss_counter.missed, loss_counter.lost, loss_counter.doubled) == (2, 2, 0)


def test_loss_counter_returns_outstanding_messages_when_some_have_not_arrived():
    """Sent messages that have not arrived are outstanding, if an earlier message of their channel has arrived."""
    loss_counter = LossCounter()
    loss_counter.take("a", 3)
    loss_counter.take("b", 9)
    assert loss_counter.outstanding({"a": 5, "b": 8, "c": 4}) == 2


def test_loss_counter_misses_the_first_message_when_it_knows_its_number():
    """With ``first`` a channel that begins later has a hole, and a channel that is silent is outstanding."""
    loss_counter = LossCounter(first=1)
    loss_counter.take("a", 3)
    assert (loss_counter.lost, loss_counter.outstanding({"a": 3, "b": 2})) == (2, 2)
    loss_counter.settle({"a": 3, "b": 2})
    assert (loss_counter.lost, loss_counter.missed) == (4, 0)


def test_loss_counter_misses_what_was_sent_in_an_interruption_when_nothing_follows():
    """On channels that stay silent, what was sent before the interruption's end is missed, and the rest is lost."""
    loss_counter = LossCounter(first=1)
    for channel in "abc":
        loss_counter.take(channel, 1)
    loss_counter.interrupt({"a": 3, "b": 2, "d": 1})
    loss_counter.take("b", 3)
    numbers = {"a": 4, "b": 3, "c": 2, "d": 1}
    assert loss_counter.outstanding(numbers) == 2
    loss_counter.settle(numbers)
    # Missed: 2 and 3 of a, 2 of b, 1 of d. Lost: 4 of a, 2 of c.
    assert (loss_counter.missed, loss_counter.lost) == (4, 2)


# Exit codes, signals and closed pipes


def run_with(command):
    """Run a command, which is a coroutine function that takes the output; return its exit code."""
    return running.run("rxws x", command)


def test_exit_code_is_that_of_the_command_when_it_finishes(capsys):
    """The program exits with the code that the command returns, after it has written all output."""

    async def command(output):
        output.write("to stdout\n")
        output.report("to stderr")
        return 7

    assert run_with(command) == 7
    assert capsys.readouterr() == ("to stdout\n", "to stderr\n")


def test_error_is_one_line_when_a_command_raises_rxws_error(capsys):
    """An RxwsError is printed as one line without a traceback, and the exit code is 1."""

    async def command(output):
        raise rxws.RxwsError("no\x1b[31m way")

    assert run_with(command) == 1
    assert capsys.readouterr() == ("", "rxws x: error: no\\x1b[31m way\n")


def test_unexpected_error_is_raised_when_a_command_raises_it():
    """An unexpected exception is raised, not hidden."""

    async def command(output):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_with(command)


def test_exit_code_is_130_when_the_command_raises_keyboard_interrupt():
    """A Ctrl-C that raises KeyboardInterrupt gives 130 and no traceback."""

    async def command(output):
        raise KeyboardInterrupt

    assert run_with(command) == 130


def send_soon(number, seconds=0.1):
    """Send a signal to this process from another thread, after ``seconds``."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), number))
    timer.start()
    return timer


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_command_is_cancelled_when_a_signal_arrives(number, code, capsys):
    """After SIGINT or SIGTERM the command cleans up and writes its last lines; the exit code is 128 + the signal."""

    async def command(output):
        send_soon(number)
        try:
            await asyncio.sleep(10)
        finally:
            output.write("last words\n")

    before = signal.getsignal(number)
    assert run_with(command) == code
    assert capsys.readouterr() == ("last words\n", "")
    assert signal.getsignal(number) is before


def test_command_is_cancelled_by_ctrl_c_when_the_loop_has_no_signal_handlers(monkeypatch, capsys):
    """If the loop cannot handle signals, as on Windows, Ctrl-C cancels the command, too."""

    def add_signal_handler(*_):
        raise NotImplementedError

    monkeypatch.setattr("asyncio.unix_events._UnixSelectorEventLoop.add_signal_handler", add_signal_handler)

    async def command(output):
        send_soon(signal.SIGINT)
        try:
            await asyncio.sleep(10)
        finally:
            output.write("last words\n")

    assert run_with(command) == 130
    assert capsys.readouterr() == ("last words\n", "")


def test_unexpected_error_is_raised_when_it_follows_a_signal():
    """An exception while the command cleans up after a signal is raised."""

    async def command(output):
        send_soon(signal.SIGINT)
        try:
            await asyncio.sleep(10)
        finally:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_with(command)


@contextlib.contextmanager
def stdout_is(stream, monkeypatch):
    """Replace standard output by ``stream`` inside the block."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        yield


async def endless(output):
    """A command that writes one line, then waits until it is cancelled."""
    output.write("hello\n")
    await asyncio.sleep(60)
    raise AssertionError("the command was not cancelled")


def test_command_ends_without_an_error_when_the_pipe_is_closed(monkeypatch, capsys):
    """A write to a closed pipe ends the command with 0 and no error text."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as stream, stdout_is(stream, monkeypatch):
        assert run_with(endless) == 0
    assert capsys.readouterr().err == ""


def test_command_ends_without_an_error_when_the_pipe_is_closed_between_two_writes(monkeypatch, capsys):
    """The command ends as soon as the reader closes the pipe, not only at the next write."""
    read, write = os.pipe()

    async def command(output):
        asyncio.get_running_loop().call_later(0.05, os.close, read)
        await endless(output)

    with open(write, "w") as stream, stdout_is(stream, monkeypatch):
        assert run_with(command) == 0
    assert capsys.readouterr().err == ""


def test_command_continues_when_its_pipe_is_open_in_both_directions(monkeypatch, tmp_path):
    """A named pipe that is opened for reading and writing has a reader, so the command continues."""
    os.mkfifo(path := tmp_path / "fifo")
    descriptor = os.open(path, os.O_RDWR)
    assert stat.S_ISFIFO(os.fstat(descriptor).st_mode)

    async def command(output):
        output.write("hello\n")
        await output.written()
        await asyncio.sleep(0.05)
        return 5

    # Open for writing only: a Python stream for both directions needs seeking, which a pipe does not support.
    with open(descriptor, "w") as stream, stdout_is(stream, monkeypatch):
        assert run_with(command) == 5


def test_error_is_printed_when_standard_output_is_full(monkeypatch, capsys):
    """A write that fails for another reason than a closed pipe prints one line and gives 1."""
    with open("/dev/full", "w") as stream, stdout_is(stream, monkeypatch):
        assert run_with(endless) == 1
    assert one_line(capsys.readouterr().err) == (
        "rxws x: error: standard output cannot be written to: No space left on device"
    )


def test_error_is_printed_when_there_is_no_standard_output(monkeypatch, capsys):
    """``rxws tail URL >&-`` prints one line that names the error, and gives 1."""
    with stdout_is(None, monkeypatch):
        assert run_with(endless) == 1
    assert "Bad file descriptor" in one_line(capsys.readouterr().err)


def test_command_continues_when_there_is_no_standard_error(monkeypatch, capsys):
    """Without standard error, reports are discarded."""

    async def command(output):
        output.report("a report")
        return 0

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", None)
        assert run_with(command) == 0
    assert capsys.readouterr() == ("", "")


def test_loop_keeps_running_when_the_pipe_is_full(monkeypatch):
    """A full pipe blocks writing, but not the event loop, and closing waits only for a limited time."""
    monkeypatch.setattr("rxws.cli.output.CLOSE_TIMEOUT", 0.05)
    read, write = os.pipe()
    ticks = 0

    async def command(output):
        nonlocal ticks
        output.write("x" * 1_000_000)
        written = asyncio.ensure_future(output.written())
        for _ in range(10):
            await asyncio.sleep(0.01)
            ticks += 1
        assert not written.done()
        written.cancel()
        return 3

    with open(write, "w") as stream, stdout_is(stream, monkeypatch):
        assert run_with(command) == 3
        # Read everything, so that the blocked thread ends before its pipe is closed.
        drained = 0
        while drained < 1_000_000:
            drained += len(os.read(read, 65536))
    os.close(read)
    assert ticks == 10


def test_text_is_complete_and_in_order_when_the_system_writes_parts(monkeypatch, capfd):
    """Text is written completely and in order, even if each system call writes only a part."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, octets: write(descriptor, octets[:3]))

    async def command(output):
        for number in range(1000):
            output.write(f"{number}\n")
        await output.written()
        return 0

    assert run_with(command) == 0
    assert capfd.readouterr().out.split() == [str(number) for number in range(1000)]


def test_text_is_escaped_when_it_cannot_be_encoded(monkeypatch):
    """Characters that the encoding of standard output lacks are escaped; no exception is raised."""
    octets = io.BytesIO()

    async def command(output):
        assert output.encoding == "latin-1"
        output.write("é ▲\n")
        return 0

    with stdout_is(io.TextIOWrapper(octets, "latin-1", write_through=True), monkeypatch):
        assert run_with(command) == 0
        assert octets.getvalue() == b"\xe9 \\u25b2\n"


async def test_output_stays_closed_when_it_is_closed_twice(capsys):
    """Closing an output twice is safe."""
    output = Output([].append)
    output.write("all\n")
    await output.close()
    await output.close()
    assert capsys.readouterr().out == "all\n"


async def test_broken_is_not_called_when_the_pipe_is_closed_after_close(monkeypatch):
    """After ``close`` a closed pipe is ignored."""
    monkeypatch.setattr("rxws.cli.output.CLOSE_TIMEOUT", 0.05)
    broken = []
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream, stdout_is(stream, monkeypatch):
        output = Output(broken.append)
        output.write("x" * 1_000_000)
        await output.close()
        os.close(read)
        await output.written()
    assert broken == []


def test_command_runs_when_started_in_another_thread(capsys):
    """In another thread than the main thread a command runs without signal handlers."""

    async def command(output):
        output.write("hello\n")
        return 4

    codes = []
    thread = threading.Thread(target=lambda: codes.append(run_with(command)))
    thread.start()
    thread.join(5)
    assert codes == [4]
    assert capsys.readouterr().out == "hello\n"


def test_log_is_not_printed_when_a_command_runs():
    """The log of rxws is not printed on stderr, because a command prints the events itself."""
    code = (
        "import logging, sys\n"
        "from rxws.cli.running import run\n"
        "async def command(output):\n"
        "    logging.getLogger('rxws').warning('twice')\n"
        "    return 0\n"
        "sys.exit(run('rxws x', command))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=10, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
