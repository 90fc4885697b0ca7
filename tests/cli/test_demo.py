"""``rxws demo``: rotation, cut, gap, loss counting and summary."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess

from rxws import cli
from rxws.cli import demo as demo_module
from rxws.cli.demo import volume_weighted
from tests.cli.test_cli import send_soon
from tests.support.terminal import COLOUR, finish, started, terminal


def summary(out):
    """Return the summary as a dict of name and text."""
    return dict(line.split(maxsplit=1) for line in out.rpartition("\n\n")[2].splitlines())


def tampered(monkeypatch, tamper):
    """Run the coroutine function ``tamper`` with the demo's exchange while it serves."""
    original = demo_module.serve

    @contextlib.asynccontextmanager
    async def serve(**options):
        async with original(**options) as exchange, asyncio.TaskGroup() as tasks:
            tampering = tasks.create_task(tamper(exchange))
            yield exchange
            tampering.cancel()

    monkeypatch.setattr(demo_module, "serve", serve)


def test_demo_measures_no_loss_when_the_feed_is_healthy(capsys):
    """The demo shows a rotation without loss or copy, a cut with its gap, and the counts of streams and handler."""
    assert cli.main(["demo", "--seconds", "1.8"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    measured = summary(out)
    received = int(measured["received"].split()[0].replace(",", ""))
    assert received > 500
    # Sixty streams, one for each channel: together they received all messages.
    assert int(measured["streams"].split()[0].replace(",", "")) == received
    assert (
        sum(int(number.replace(",", "")) for number in re.findall(r"(\d[\d,]*) \w+", measured["handler"])) == received
    )
    assert measured["rotation"].startswith("0 lost, 0 doubled; overlap proven, paused ")
    ledger = r"3; complete for \d\.\d s \(\d\.\d s by connection, \d\.\d s by overlap\); 1 gap, [\d.,]+ ms"
    assert re.fullmatch(ledger, measured["connections"])
    gap = re.fullmatch(r"gap of [\d,.]+ ms, (\d+) messages in it; 0 lost, 0 doubled since", measured["cut"])
    assert int(gap[1]) > 0
    # The line per second that the operators compute, and the lines of the events.
    assert re.search(r"\d messages/s  BTCUSDT 6[34],\d{3}\.\d\d  ETHUSDT", out)
    kinds = re.findall(r"^[\d:.]+ (\w+):", out, re.MULTILINE)
    assert kinds == [*("Connected", "Disconnected", "Connected", "Rotated"), *("Disconnected", "Connected", "Gap")]


def test_demo_prints_no_rate_of_a_part_of_a_second(capsys):
    """The demo prints a line only for each whole second, so the last rate is not that of a shorter interval."""
    assert cli.main(["demo", "--seconds", "1.4"]) == 0
    out, _ = capsys.readouterr()
    seconds = float(re.search(r" in (\d+\.\d) s", summary(out)["received"])[1])
    assert 1 <= out.count("messages/s  ") <= int(seconds)


def test_demo_fails_when_messages_are_lost(capsys, monkeypatch):
    """Missing numbers count as lost, and the exit code is 1."""

    async def tamper(exchange):
        await exchange.server.connected()
        message = {"e": "trade", "s": "NEWUSDT", "p": 1.0, "q": 1.0, "n": 1}
        await exchange.server.send(message, message | {"n": 5})

    tampered(monkeypatch, tamper)
    assert cli.main(["demo", "--seconds", "1", "--streams", "1"]) == 1
    assert summary(capsys.readouterr().out)["rotation"].startswith("3 lost, 0 doubled; ")


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
    monkeypatch.setattr(demo_module, "PATIENCE", 0.3)
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
    assert ", 1 doubled; " in summary(capsys.readouterr().out)["rotation"]


def test_demo_fails_when_rotation_and_gap_do_not_happen(capsys, monkeypatch):
    """If the rotation or the gap does not happen, the summary says so, and the exit code is 1."""

    async def tamper(exchange):
        await exchange.server.connected()
        exchange.refuse(times=None)

    tampered(monkeypatch, tamper)
    monkeypatch.setattr(demo_module, "PATIENCE", 0.2)
    assert cli.main(["demo", "--seconds", "0.3"]) == 1
    measured = summary(capsys.readouterr().out)
    assert measured["rotation"].startswith("has not happened; 0 lost, 0 doubled so far")
    assert measured["cut"] == "was not detected"


def test_demo_prints_the_summary_so_far_when_a_signal_arrives(capsys):
    """A signal ends the demo, which prints the values measured so far."""
    send_soon(signal.SIGTERM, 0.5)
    assert cli.main(["demo", "--seconds", "60"]) == 143
    out, err = capsys.readouterr()
    assert err == ""
    measured = summary(out)
    assert "messages/s" in measured["received"]
    assert measured["rotation"] == "has not happened; 0 lost, 0 doubled so far"
    assert measured["cut"] == "has not happened"


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


async def test_demo_shows_a_live_table_when_there_is_a_terminal(monkeypatch):
    """On a terminal the demo shows a live table in colour, the events below it, and the summary at the end."""
    with terminal(monkeypatch) as there:
        assert await asyncio.to_thread(cli.main, ["demo", "--seconds", "2.4"]) == 0
    assert COLOUR.search(there.text)
    assert re.search(r"│ BTCUSDT +│ +6[34],\d{3}\.\d\d [▲▼ ]", there.shown)
    assert "Rotated: connection 2 delivers" in there.shown
    assert re.search(r"[12]\.\d of 2\.4 s · [\d,]+ messages, [\d,]+ messages/s", there.shown)
    last = there.shown.replace("\r", "").rpartition("\n\n")[2]
    assert "rotation    0 lost, 0 doubled" in last
    assert there.text.index("\x1b[?25l") < there.text.rindex("\x1b[?25h")
    # The last table and the summary fit on one screen.
    picture = there.shown.replace("\r", "").rpartition(" s · ")[2]
    assert picture.count("\n") < 24


def test_price_is_weighted_by_volume_when_trades_differ():
    """The price of a symbol is the sum of price times quantity, divided by the sum of quantities."""
    trades = [{"s": "A", "p": 10.0, "q": 1.0}, {"s": "A", "p": 20.0, "q": 3.0}, {"s": "B", "p": 5.0, "q": 2.0}]
    assert volume_weighted(trades) == {"A": (17.5, 4.0, 2), "B": (5.0, 2.0, 1)}
    assert volume_weighted([]) == {}
