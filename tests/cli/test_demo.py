"""``rxws demo``: its story, rotation, cut, gap, loss counting, summary and verdict."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess

import pytest

import rxws
from rxws import cli
from rxws.cli import demo_run, demo_serve
from rxws.cli.demo_result import Result
from rxws.cli.demo_run import volume_weighted
from rxws.cli.loss_counter import LossCounter
from tests.cli.test_cli import send_soon
from tests.support.terminal import COLOUR, finish, started, terminal

pytestmark = pytest.mark.slow

PRAISE = re.compile(
    r"Nothing was lost in the rotation; the cut cost (\d+) messages?, and a Gap says so\."
    r"(?: \((?:Why \1 in \d+ ms\?|This machine was busy:) .*\))?"
)


def summary(out):
    """Return the summary as a dict of name and text."""
    return dict(line.split(maxsplit=1) for line in out.split("\n\n")[-2].splitlines())


def verdict(out):
    """Return the last lines as one."""
    return " ".join(out.rpartition("\n\n")[2].split())


def whole(text):
    """Return the whole number at the start of a text."""
    return int(text.split()[0].replace(",", ""))


def tampered(monkeypatch, tamper):
    """Run the coroutine function ``tamper`` with the demo's exchange while it serves."""
    original = demo_run.serve

    @contextlib.asynccontextmanager
    async def serve(**options):
        async with original(**options) as exchange, asyncio.TaskGroup() as tasks:
            tampering = tasks.create_task(tamper(exchange))
            yield exchange
            tampering.cancel()

    monkeypatch.setattr(demo_run, "serve", serve)


def test_demo_measures_no_loss_when_the_feed_is_healthy(capsys):
    """What the exchange has sent is what arrived, plus what was missing in the gap; the verdict says it in words."""
    assert cli.main(["demo", "--seconds", "1.8"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    measured = summary(out)
    received, sent = re.match(r"([\d,]+) of ([\d,]+) messages in", measured["received"]).groups()
    received, sent = whole(received), whole(sent)
    assert received > 500
    # Sixty streams, one for each channel: together they received all messages.
    assert whole(measured["streams"]) == received
    assert (
        sum(int(number.replace(",", "")) for number in re.findall(r"(\d[\d,]*) \w+", measured["handler"])) == received
    )
    assert measured["rotation"].startswith("0 lost, 0 doubled; overlap proven, paused ")
    ledger = r"3; complete for \d\.\d s \(\d\.\d s by connection, \d\.\d s by overlap\); 1 gap, [\d.,]+ ms"
    assert re.fullmatch(ledger, measured["connections"])
    gap = re.fullmatch(r"gap of [\d,.]+ ms, (\d+) messages in it; 0 lost, 0 doubled since", measured["cut"])
    assert received + int(gap[1]) == sent
    assert PRAISE.fullmatch(verdict(out))[1] == gap[1]


def test_demo_tells_its_story_in_lines_when_there_is_no_terminal(capsys):
    """The phases are announced. In the rotation the new connection is open before the old one ends: no loss."""
    assert cli.main(["demo", "--seconds", "2.4"]) == 0
    out, _ = capsys.readouterr()
    told = re.findall(r"^\d of 3: \w+|^[\d:.]+ (?:connection \d is \w+|\w+:)", out, re.MULTILINE)
    assert [re.sub(r"^[\d:.]+ (?!of)", "", line) for line in told] == [
        *("Connected:", "1 of 3: start"),
        *("2 of 3: rotation", "connection 2 is open", "connection 1 is closed", "Rotated:"),
        *("3 of 3: cut", "Disconnected:", "Connected:", "Gap:"),
    ]
    # The line per second that the operators compute.
    assert re.search(r"\d messages/s  BTCUSDT 6[34],\d{3}\.\d\d  ETHUSDT", out)


def test_demo_prints_no_rate_of_a_part_of_a_second(capsys):
    """The demo prints a rate only for each whole second, so the last rate is not that of a shorter interval."""
    assert cli.main(["demo", "--seconds", "1.4"]) == 0
    out, _ = capsys.readouterr()
    seconds = float(re.search(r" in (\d+\.\d) s", summary(out)["received"])[1])
    rates = [whole(line) for line in re.findall(r"^ *([\d,]+) messages/s", out, re.MULTILINE)]
    assert 1 <= len(rates) <= int(seconds)


def test_demo_makes_streams_that_are_all_different(capsys, monkeypatch):
    """With more streams than the usual channels, there are more channels: each stream has another one."""
    filters = []
    original = demo_run._Feed.stream_filter
    monkeypatch.setattr(
        demo_run._Feed,
        "stream_filter",
        lambda self, cases=None, **options: filters.append(cases) or original(self, cases, **options),
    )
    assert cli.main(["demo", "--seconds", "1", "--streams", "1000"]) == 0
    cases = [tuple(cases[0].items()) for cases in filters if cases and "s" in cases[0]]
    assert len(cases) == len(set(cases)) == 1_000
    measured = summary(capsys.readouterr().out)
    assert measured["streams"].endswith(" messages in 1,000 filtered streams")
    # There are 1,002 channels, so at most a few messages belong to none of the streams.
    assert 0 <= whole(measured["received"]) - whole(measured["streams"]) < 20


def test_demo_fails_when_messages_are_lost(capsys, monkeypatch):
    """Missing numbers count as lost, the verdict says so, and the exit code is 1."""

    async def tamper(exchange):
        await exchange.server.connected()
        message = {"e": "trade", "s": "NEWUSDT", "p": 1.0, "q": 1.0, "n": 1}
        await exchange.server.send(message, message | {"n": 5})

    tampered(monkeypatch, tamper)
    assert cli.main(["demo", "--seconds", "2", "--streams", "1"]) == 1
    out, _ = capsys.readouterr()
    assert summary(out)["rotation"].startswith("3 lost, 0 doubled; ")
    assert verdict(out) == "Not as promised: 3 messages lost."


def test_demo_counts_messages_as_lost_when_an_unplanned_gap_misses_them(capsys, monkeypatch):
    """Only the demo's own cut may miss messages: those missing in another gap count as lost."""

    async def tamper(exchange):
        await exchange.server.connected()
        await asyncio.sleep(0.2)
        await exchange.cut()

    tampered(monkeypatch, tamper)
    assert cli.main(["demo", "--seconds", "1"]) == 1
    measured = summary(capsys.readouterr().out)
    assert re.match(r"[1-9]\d* lost, 0 doubled; ", measured["rotation"])
    assert measured["connections"].startswith("4; ")


def test_demo_counts_messages_as_lost_when_they_have_not_arrived_at_the_end(capsys, monkeypatch):
    """Messages that were sent before the end and do not arrive within the patience count as lost."""

    async def tamper(exchange):
        await exchange.server.connected(3)
        await asyncio.sleep(0.3)
        exchange.lag = 60.0

    tampered(monkeypatch, tamper)
    monkeypatch.setattr(demo_run, "PATIENCE", 0.3)
    assert cli.main(["demo", "--seconds", "2"]) == 1
    assert re.search(r"; [1-9]\d* lost, 0 doubled since", summary(capsys.readouterr().out)["cut"])


def test_demo_fails_when_messages_arrive_twice(capsys, monkeypatch):
    """Repeated numbers count as doubled, and the exit code is 1."""

    async def tamper(exchange):
        await exchange.server.connected()
        message = {"e": "trade", "s": "NEWUSDT", "p": 1.0, "q": 1.0, "n": 1}
        await exchange.server.send(message, message)

    tampered(monkeypatch, tamper)
    assert cli.main(["demo", "--seconds", "1"]) == 1
    out, _ = capsys.readouterr()
    assert ", 1 doubled; " in summary(out)["rotation"]
    assert verdict(out) == "Not as promised: 1 message doubled."


def test_demo_fails_when_rotation_and_gap_do_not_happen(capsys, monkeypatch):
    """If the rotation or the gap does not happen, the summary says so, and the exit code is 1."""

    async def tamper(exchange):
        await exchange.server.connected()
        exchange.refuse(times=None)

    tampered(monkeypatch, tamper)
    monkeypatch.setattr(demo_run, "PATIENCE", 0.2)
    assert cli.main(["demo", "--seconds", "0.3"]) == 1
    out, _ = capsys.readouterr()
    measured = summary(out)
    assert measured["rotation"].startswith("has not happened; 0 lost, 0 doubled so far")
    assert measured["cut"] == "was not detected"
    assert verdict(out).startswith("Not as promised: the feed did not rotate, or did not come back")


def test_demo_prints_the_summary_so_far_when_a_signal_arrives(capsys):
    """A signal ends the demo, which prints the values measured so far."""
    send_soon(signal.SIGTERM, 0.5)
    assert cli.main(["demo", "--seconds", "60"]) == 143
    out, err = capsys.readouterr()
    assert err == ""
    measured = summary(out)
    assert re.fullmatch(r"[\d,]+ of [\d,]+ messages in 0\.\d s, [\d,]+/s", measured["received"])
    assert measured["rotation"] == "has not happened; 0 lost, 0 doubled so far"
    assert measured["cut"] == "has not happened"
    assert verdict(out) == "Stopped early. Nothing was lost until then."


async def test_demo_process_prints_the_summary_when_interrupted():
    """After Ctrl-C the process prints the summary and no traceback, and exits with 130."""
    with started("demo", "--seconds", "60", stderr=subprocess.STDOUT) as process:
        assert "Connected" in await asyncio.to_thread(process.stdout.readline)
        process.send_signal(signal.SIGINT)
        out, _ = await finish(process)
    assert process.returncode == 130
    assert "0 lost, 0 doubled so far" in out
    assert "Traceback" not in out


async def test_demo_process_prints_no_error_when_the_pipe_is_closed():
    """``rxws demo | head -1`` exits with 0 and prints no error."""
    with started("demo", "--seconds", "60") as process:
        assert "Connected" in await asyncio.to_thread(process.stdout.readline)
        process.stdout.close()
        process.stdout = None
        _, err = await finish(process)
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize(
    ("columns", "rows", "encoding"), [(60, 12, "utf-8"), (80, 24, "utf-8"), (120, 50, "utf-8"), (80, 24, "cp1252")]
)
async def test_demo_draws_its_story_when_there_is_a_terminal(monkeypatch, columns, rows, encoding):
    """At any size, the end shows a lane per connection with overlap, cut and gap, both counters and the verdict."""
    with terminal(monkeypatch, columns=columns, rows=rows, encoding=encoding) as there:
        assert await asyncio.to_thread(cli.main, ["demo", "--seconds", "2.4"]) == 0
    assert COLOUR.search(there.text)
    assert there.text.index("\x1b[?25l") < there.text.rindex("\x1b[?25h")
    assert re.search(r"[012]\.\d of 2\.4 s ", there.shown)
    screen = there.screen
    lanes = {line[:12]: line[14:] for line in screen if re.match(r"connection \d  |your streams  ", line)}
    assert [*lanes] == ["connection 1", "connection 2", "connection 3", "your streams"]
    line, end, cut, gap = ("━", "╸", "✘", "╳") if encoding == "utf-8" else ("=", "]", "x", "x")  # noqa: RUF001
    first, second, third, streams = lanes.values()
    # The second connection begins before the first one ends. The third begins no earlier than the second is cut.
    assert re.search(r"\S", second).start() < first.index(end)
    assert second.index(cut) <= re.search(r"\S", third).start()
    assert set(streams[: streams.index(gap)]) == {line}
    assert (first.split()[-1], second.split()[-1]) == ("closed", "cut")
    assert streams.endswith("1 gap")
    assert any(line.startswith("0 lost   0 doubled   ") for line in screen)
    last = " ".join(line for line in screen if line).rpartition(" in the gap ")[2]
    assert PRAISE.search(last)
    if rows >= 24:
        assert any(line.startswith("rotation     0 lost, 0 doubled") for line in screen)
    if rows >= 50:
        assert any("Rotated: connection 2 delivers" in line for line in screen)


async def test_demo_prints_lines_of_the_width_when_the_terminal_is_dumb(monkeypatch):
    """A dumb terminal gets plain lines, broken between words, without control sequences."""
    with terminal(monkeypatch, kind="dumb", columns=60) as there:
        assert await asyncio.to_thread(cli.main, ["demo", "--seconds", "1"]) == 0
    lines = there.text.replace("\r", "").splitlines()
    assert max(map(len, lines)) <= 60
    assert "\x1b" not in there.text
    assert PRAISE.search(" ".join(lines))


def test_price_is_weighted_by_volume_when_trades_differ():
    """The price of a symbol is the sum of price times quantity, divided by the sum of quantities."""
    trades = [{"s": "A", "p": 10.0, "q": 1.0}, {"s": "A", "p": 20.0, "q": 3.0}, {"s": "B", "p": 5.0, "q": 2.0}]
    assert volume_weighted(trades) == {"A": (17.5, 4.0, 2), "B": (5.0, 2.0, 1)}
    assert volume_weighted([]) == {}


@pytest.mark.parametrize(
    ("missed", "milliseconds", "said"),
    [
        (
            19,
            4.1,
            "the cut cost 19 messages, and a Gap says so. (Why 19 in 4 ms? A message takes up to 20 ms to arrive",
        ),
        (90, 4.1, "and a Gap says so. (This machine was busy: what waited to be read was lost"),
        (1, 4.1, "the cut cost 1 message, and a Gap says so."),
        (0, 4.1, "nor in the cut; a Gap says that messages could be missing."),
    ],
)
def test_verdict_explains_the_cost_of_the_cut(missed, milliseconds, said):
    """The verdict explains why more messages are missing than were sent in the gap, and only then."""
    counter = LossCounter(first=1)
    result = Result(counter, streams=60, is_complete=True)
    result.take_gap(rxws.Gap(name="x", start=1.0, end=1.0 + milliseconds / 1000, reason="network", last_message=None))
    counter.missed = missed
    praise = result.ending().verdict
    assert praise.is_good
    assert said in praise.text
    assert ("Why" in praise.text) == ("Why" in said)


# --serve


async def test_demo_serves_until_ctrl_c_and_prints_a_line_to_paste():
    """``--serve`` prints a whole ``rxws tail`` line, which works when it is pasted into a shell."""
    with started("demo", "--serve", "--port", "0", stderr=subprocess.STDOUT) as process:
        said = [await asyncio.to_thread(process.stdout.readline) for _ in range(4)]
        assert said[0].endswith("Read it in another terminal:\n")
        done = await asyncio.to_thread(
            subprocess.run,
            f"{said[2].strip()} -n 1",
            shell=True,
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        process.send_signal(signal.SIGINT)
        out, _ = await finish(process)
    assert done.stdout.startswith('{"e":"trade","s":"BTCUSDT",')
    assert (process.returncode, out) == (130, "")


async def test_demo_takes_a_free_port_only_when_none_is_given(monkeypatch, capsys):
    """A taken default port is replaced by a free one. A taken port that the user gave is an error."""
    async with demo_serve.serve() as other:
        taken = other.server.port
        monkeypatch.setattr(demo_serve, "PORT", taken)
        assert await asyncio.to_thread(cli.main, ["demo", "--serve", "--port", str(taken)]) == 1
        assert f"port {taken}: " in capsys.readouterr().err
        async with contextlib.AsyncExitStack() as stack:
            assert (await demo_serve._start(stack, None)).server.port != taken


@pytest.mark.parametrize(
    ("argv", "found", "typed"),
    [
        ("/venv/bin/rxws", "/venv/bin/rxws", "rxws"),
        ("/venv/bin/rxws", "/usr/bin/rxws", "/venv/bin/rxws"),
        ("my venv/bin/rxws", None, "'my venv/bin/rxws'"),
        ("/src/rxws/__main__.py", None, "/usr/bin/python3 -m rxws"),
    ],
)
def test_line_to_paste_begins_with_what_the_shell_finds(monkeypatch, argv, found, typed):
    """The line begins with ``rxws`` only if the shell would find this program, and otherwise with its path."""
    monkeypatch.setattr(demo_serve.sys, "argv", [argv])
    monkeypatch.setattr(demo_serve.sys, "executable", "/usr/bin/python3")
    monkeypatch.setattr(demo_serve.shutil, "which", lambda name: found)
    monkeypatch.setattr(demo_serve.Path, "exists", lambda self: True)
    monkeypatch.setattr(demo_serve.Path, "samefile", lambda self, other: str(self) == str(other))
    assert demo_serve.invocation() == typed
