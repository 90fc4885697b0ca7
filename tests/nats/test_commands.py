"""``rxws relay``, and ``rxws tail`` and ``rxws record`` of a stream, as a user starts them."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from rxws import cli
from rxws.cli.relay import identity_of
from rxws.recording import read
from rxws.testing import FeedServer

from .rig import ROOT
from .server import NatsServer
from .test_relay_and_feed import capturing, trade

pytestmark = pytest.mark.slow


async def rxws(*arguments: str) -> int:
    """Run a command in a thread; return its exit code."""
    async with asyncio.timeout(30):
        return await asyncio.to_thread(cli.main, list(arguments))


@asynccontextmanager
async def started(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command in its own process, which is killed at the end of the block."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rxws", *arguments), cwd=ROOT, stdout=pipe, stderr=pipe
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_relayed_messages_are_printed_and_recorded(
    nats_server: NatsServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What ``rxws relay`` publishes, ``rxws tail`` prints and ``rxws record`` records; Ctrl-C stores the rest first."""
    messages = [trade(number, f"S{number % 3}") for number in range(50)]
    relay = "relay", "--nats", nats_server.url, "--identity", "s", "--identity", "n", "-f", "e=trade"
    async with FeedServer() as server, started(*relay, server.url) as process:
        await server.connected(timeout=30)
        assert process.stderr is not None
        await process.stderr.readuntil(b"is open\n")
        await server.send({"e": "other", "s": "S0"}, *messages)
        await asyncio.sleep(1)
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 130
        assert err.decode().splitlines()[-1] == "relayed 50 messages, 0 of which were already stored"
    wanted = [message for message in messages if message["s"] == "S1"]
    assert await rxws("tail", nats_server.url, "--start", "all", "-f", "s=S1", "-n", str(len(wanted))) == 0
    assert [json.loads(line) for line in capfd.readouterr().out.splitlines()] == wanted
    path = tmp_path / "feed.jsonl"
    assert await rxws("record", nats_server.url, str(path), "--start", "all", "--seconds", "2") == 0
    assert capfd.readouterr().err.splitlines()[-1] == f"recorded 50 frames to {path}"
    assert [json.loads(entry.raw) for entry in read(path) if hasattr(entry, "raw")] == messages


async def test_relay_ends_after_seconds(nats_server: NatsServer, capfd: pytest.CaptureFixture[str]) -> None:
    """``--seconds`` ends the relay, with exit code 0 if every message is stored."""
    async with FeedServer() as server:
        options = "--nats", nats_server.url, "--identity", "n", "--feed-name", "f", "--name", "a"
        relaying = asyncio.create_task(rxws("relay", server.url, *options, "--seconds", "4"))
        await server.connected(timeout=30)
        await asyncio.sleep(1)
        await server.send(*map(trade, range(10)))
        assert await relaying == 0
    assert "relayed 10 messages" in capfd.readouterr().err


async def test_unreachable_broker_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    """If the broker is not reached, the exit code is 1, and the last line says how many messages are not stored."""
    async with (
        FeedServer() as server,
        started("relay", server.url, "--nats", "nats://me:secret@127.0.0.1:1") as process,
    ):
        await server.connected(timeout=30)
        await server.send(trade(1))
        await asyncio.sleep(1)
        process.send_signal(signal.SIGTERM)
        _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 143
    assert "RelayFailed" in err.decode()
    assert "1 not stored: no connection to NATS" in err.decode().splitlines()[-1]
    assert "secret" not in err.decode()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["tail", "nats://h", "--send", "x"], "--send is for websockets only"),
        (["tail", "ws://h", "--start", "all"], "--start is for nats:// and tls:// only"),
        (["record", "ws://h", "f", "--creds", "x"], "--creds is for nats:// and tls:// only"),
        (["tail", "nats://h", "--start", "0"], "argument --start: expected a whole number from 1 up, got '0'"),
        (["relay", "ws://h"], "the following arguments are required: --nats"),
        (["relay", "ws://h", "--nats", "secret"], "argument --nats: not the address of a NATS server"),
        (["relay", "nats://h", "--nats", "nats://h"], "argument URL: not the URL of a websocket"),
    ],
)
def test_wrong_arguments_are_named(arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An option that does not suit the address, or a wrong value, is an error of one line, and exit code 2."""
    assert cli.main(arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert error in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--subject", "{e}"], "subject"),
        (["--stream", "a.b"], "stream must be a name"),
        (["--creds", "missing"], "missing: No such file or directory"),
        (["--ca", "setup.cfg"], "setup.cfg contains no certificate"),
    ],
)
def test_wrong_options_of_a_broker_are_named(
    options: list[str], error: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong template, name or file ends the command with one line and exit code 1."""
    monkeypatch.chdir(ROOT)
    assert cli.main(["tail", "nats://127.0.0.1:1", *options]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert error in line


def test_ids_of_messages_are_the_values_of_keys() -> None:
    """``--identity`` joins the values of its keys, and names a key that a message lacks."""
    identity = identity_of(["s", ("k", "t")])
    message: Any = {"s": "BTC", "k": {"t": 5}}
    assert identity(message) == "BTC:5"
    with pytest.raises(LookupError, match=r"no key 'k\.t'"):
        identity({"s": "BTC"})


async def test_tail_of_a_stream_continues_after_the_broker_was_killed(nats_server: NatsServer) -> None:
    """``rxws tail`` prints each message once, although the broker is killed meanwhile."""
    async with (
        capturing(nats_server) as capture,
        started("tail", nats_server.url, "--start", "all", "-n", "2") as process,
    ):
        await capture.send(trade(1))
        assert process.stdout is not None
        async with asyncio.timeout(30):
            assert json.loads(await process.stdout.readline()) == trade(1)
        nats_server.kill()
        nats_server.start()
        await capture.send(trade(2))
        out, _ = await asyncio.wait_for(process.communicate(), 30)
    assert json.loads(out) == trade(2)
    assert process.returncode == 0
