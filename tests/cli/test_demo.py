"""``rxws demo``: the main job in one command, with a summary that is measured."""

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
    """Give what the summary says, by name."""
    return dict(line.split(maxsplit=1) for line in out.rpartition("\n\n")[2].splitlines())


def tampered(monkeypatch, tamper):
    """Let something be done to the demo's exchange as soon as it serves."""
    original = demo_module.serve

    @contextlib.asynccontextmanager
    async def serve(**options):
        async with original(**options) as exchange, asyncio.TaskGroup() as tasks:
            tampering = tasks.create_task(tamper(exchange))
            yield exchange
            tampering.cancel()

    monkeypatch.setattr(demo_module, "serve", serve)


def test_demo_measures_no_loss_when_all_is_well(capsys):
    """One rotation without a loss or a copy, one cut with a gap that is measured; streams, handler and pipeline ran."""
    assert cli.main(["demo", "--seconds", "1.8"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    told = summary(out)
    received = int(told["received"].split()[0].replace(",", ""))
    assert received > 500
    # Sixty streams, one for each channel: together they got what came.
    assert int(told["streams"].split()[0].replace(",", "")) == received
    assert sum(int(number.replace(",", "")) for number in re.findall(r"(\d[\d,]*) \w+", told["handler"])) == received
    assert told["connections"] == "3"
    assert told["rotation"].startswith("0 lost, 0 doubled; overlap proven, paused ")
    gap = re.fullmatch(r"gap of [\d,.]+ ms, (\d+) messages in it; 0 lost, 0 doubled since", told["cut"])
    assert int(gap[1]) > 0
    # The operators' line for a second, and the events.
    assert re.search(r"\d messages/s  BTCUSDT 6[34],\d{3}\.\d\d  ETHUSDT", out)
    kinds = re.findall(r"^[\d:.]+ (\w+):", out, re.MULTILINE)
    assert kinds == [*("Connected", "Disconnected", "Connected", "Rotated"), *("Disconnected", "Connected", "Gap")]


def test_demo_says_so_when_something_is_lost(capsys, monkeypatch):
    """Numbers that never come are counted as lost, and the exit code is 1."""

    async def tamper(exchange):
        await exchange.server.connected()
        message = {"e": "trade", "s": "NEWUSDT", "p": 1.0, "q": 1.0, "n": 1}
        await exchange.server.send(message, message | {"n": 5})

    tampered(monkeypatch, tamper)
    assert cli.main(["demo", "--seconds", "1", "--streams", "1"]) == 1
    assert summary(capsys.readouterr().out)["rotation"].startswith("3 lost, 0 doubled; ")


def test_demo_counts_as_lost_what_falls_into_a_gap_that_was_not_asked_for(capsys, monkeypatch):
    """Only the cut of the demo itself may miss messages."""

    async def tamper(exchange):
        await exchange.server.connected()
        await asyncio.sleep(0.2)
        await exchange.cut()

    tampered(monkeypatch, tamper)
    assert cli.main(["demo", "--seconds", "1"]) == 1
    told = summary(capsys.readouterr().out)
    assert re.match(r"[1-9]\d* lost, 0 doubled; ", told["rotation"])
    assert told["connections"] == "4"


def test_demo_counts_as_lost_what_has_not_come_in_the_end(capsys, monkeypatch):
    """What was sent before the end, and has not come when the patience is over, is lost."""

    async def tamper(exchange):
        await exchange.server.connected(3)
        await asyncio.sleep(0.3)
        exchange.lag = 60.0

    tampered(monkeypatch, tamper)
    monkeypatch.setattr(demo_module, "PATIENCE", 0.3)
    assert cli.main(["demo", "--seconds", "2"]) == 1
    assert re.search(r"; [1-9]\d* lost, 0 doubled since", summary(capsys.readouterr().out)["cut"])


def test_demo_says_so_when_something_comes_twice(capsys, monkeypatch):
    """Numbers that come again are counted as doubled, and the exit code is 1."""

    async def tamper(exchange):
        await exchange.server.connected()
        message = {"e": "trade", "s": "NEWUSDT", "p": 1.0, "q": 1.0, "n": 1}
        await exchange.server.send(message, message)

    tampered(monkeypatch, tamper)
    assert cli.main(["demo", "--seconds", "1"]) == 1
    assert ", 1 doubled; " in summary(capsys.readouterr().out)["rotation"]


def test_demo_fails_when_rotation_and_cut_cannot_be_shown(capsys, monkeypatch):
    """What was to happen and did not is told, and is no success."""

    async def tamper(exchange):
        await exchange.server.connected()
        exchange.refuse(times=None)

    tampered(monkeypatch, tamper)
    monkeypatch.setattr(demo_module, "PATIENCE", 0.2)
    assert cli.main(["demo", "--seconds", "0.3"]) == 1
    told = summary(capsys.readouterr().out)
    assert told["rotation"].startswith("has not happened; 0 lost, 0 doubled so far")
    assert told["cut"] == "was not noticed"


def test_demo_ends_with_the_summary_so_far_when_a_signal_comes(capsys):
    """A signal ends it cleanly, with what was measured until then."""
    send_soon(signal.SIGTERM, 0.5)
    assert cli.main(["demo", "--seconds", "60"]) == 143
    out, err = capsys.readouterr()
    assert err == ""
    told = summary(out)
    assert "messages/s" in told["received"]
    assert told["rotation"] == "has not happened; 0 lost, 0 doubled so far"
    assert told["cut"] == "has not happened"


async def test_demo_process_ends_cleanly_when_interrupted():
    """As a process too Ctrl-C gives the summary, 130, and no traceback."""
    with started("demo", "--seconds", "60", stderr=subprocess.STDOUT) as process:
        assert "Connected" in await asyncio.to_thread(process.stdout.readline)
        process.send_signal(signal.SIGINT)
        out, _ = await finish(process)
    assert process.returncode == 130
    assert "0 lost, 0 doubled so far" in out
    assert "Traceback" not in out


async def test_demo_process_ends_quietly_when_its_reader_has_had_enough():
    """``rxws demo | head -1`` ends with 0 and no word."""
    with started("demo", "--seconds", "60") as process:
        assert "Connected" in await asyncio.to_thread(process.stdout.readline)
        process.stdout.close()
        process.stdout = None
        _, err = await finish(process)
    assert (process.returncode, err) == (0, "")


async def test_demo_shows_a_live_table_when_there_is_a_terminal(monkeypatch):
    """On a terminal there is a table in colour that moves, with the events below it, and the summary at the end."""
    with terminal(monkeypatch) as there:
        assert await asyncio.to_thread(cli.main, ["demo", "--seconds", "1.8"]) == 0
    assert COLOUR.search(there.text)
    assert re.search(r"│ BTCUSDT +│ +6[34],\d{3}\.\d\d [▲▼ ]", there.shown)
    assert "Rotated: connection 2 delivers" in there.shown
    assert re.search(r"1\.\d of 1\.8 s · [\d,]+ messages, [\d,]+ messages/s", there.shown)
    last = there.shown.replace("\r", "").rpartition("\n\n")[2]
    assert "rotation    0 lost, 0 doubled" in last
    assert there.text.index("\x1b[?25l") < there.text.rindex("\x1b[?25h")
    # The last picture and the summary fit the screen together.
    picture = there.shown.replace("\r", "").rpartition(" s · ")[2]
    assert picture.count("\n") < 24


def test_price_is_weighted_by_volume():
    """The price of a second is the sum of price times quantity by the sum of quantities, for each symbol."""
    trades = [{"s": "A", "p": 10.0, "q": 1.0}, {"s": "A", "p": 20.0, "q": 3.0}, {"s": "B", "p": 5.0, "q": 2.0}]
    assert volume_weighted(trades) == {"A": (17.5, 4.0, 2), "B": (5.0, 2.0, 1)}
    assert volume_weighted([]) == {}
