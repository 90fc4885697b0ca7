"""Credentials files: tokens (JWT) with the least rights, that expire or are revoked; and files that are none."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nkeys
import pytest

import rxws

from .accounts import Key, Operator
from .rig import ROOT
from .server import NatsServer
from .test_access import captured, until


class Site:
    """A server with an operator, and the credentials files of an administrator, a relay and a worker."""

    def __init__(self, folder: Path) -> None:
        self.operator = Operator()
        self.folder = folder
        self.server = NatsServer(folder, more=self.operator.config())
        self.secrets: list[str] = []
        self.keys = {name: Key(nkeys.PREFIX_BYTE_USER) for name in ("admin", "relay", "worker")}
        for name in self.keys:
            self.write(name)

    def write(self, name: str, expires: float = 0) -> None:
        """Write the credentials file of a user, with the rights that the page for operators gives it."""
        publish, subscribe = ((), ()) if name == "admin" else rights(name)
        text = self.operator.credentials(self.keys[name], publish, subscribe, expires)
        self.secrets += [line for line in text.splitlines() if line and not line.startswith("-")]
        (self.folder / f"{name}.creds").write_text(text)

    def options(self, name: str) -> dict[str, Any]:
        """Return the options of relay and feed for a user."""
        return {"connect_options": {"user_credentials": str(self.folder / f"{name}.creds")}}

    def revoke(self, name: str) -> None:
        """Revoke the rights of a user, while the server runs."""
        config = self.folder / "nats.conf"
        text = config.read_text()
        config.write_text(text[: text.index("operator:")] + self.operator.config(self.keys[name]))
        self.server.signal(signal.SIGHUP)


def rights(name: str) -> tuple[list[str], list[str]]:
    """Return what a user of the page's configuration may publish and subscribe to."""
    page = (ROOT / "rxws" / "nats" / "RUNNING.rst").read_text()
    text = page.partition(f'nkey: "{name.upper()}", permissions')[2]
    found = [
        re.findall(r'"([^"]+)"', text.partition(f"{kind}: [")[2].partition("]")[0]) for kind in ("publish", "subscribe")
    ]
    assert all(found)
    return found[0], found[1]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A running site."""
    site = Site(tmp_path)
    site.server.start()
    try:
        yield site
    finally:
        site.server.kill()


@asynccontextmanager
async def running(site: Site) -> AsyncIterator[tuple[Any, rxws.nats.Relay, rxws.nats.NatsFeed[Any]]]:
    """A stream that the administrator made, and a relay and a feed with the least rights."""
    async with captured(site.server.url, **site.options("admin")) as (_, relay):
        await until(lambda: relay.is_connected)
    async with (
        captured(site.server.url, create=False, **site.options("relay")) as (upstream, relay),
        rxws.nats.NatsFeed(site.server.url, start="all", **site.options("worker")) as ws,
    ):
        yield upstream, relay, ws


async def test_least_rights_in_credentials_files_suffice(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Relay and feed work with credentials files, are refused by name if rights are revoked, and log no secret."""
    caplog.set_level(logging.DEBUG)
    events: list[Any] = []
    async with running(site) as (upstream, relay, ws):
        ws.events.subscribe(events.append)
        await upstream.send({"e": "x", "s": "y", "n": 1})
        async with asyncio.timeout(15):
            assert (await anext(ws.stream_filter([{"s": "y"}])))["n"] == 1
        site.revoke("relay")
        await until(lambda: "revoked" in caplog.text.lower() and "authorization" in str(relay.error).lower())
        assert ws.state.value.is_live
        site.revoke("worker")
        await until(lambda: any("authorization" in str(event).lower() for event in events))
        shown = [repr(relay), repr(ws), repr(relay.error), *map(repr, events), *map(str, events)]
    async with captured(site.server.url, create=False, **site.options("worker")) as (_, relay):
        await until(lambda: relay.error is not None)
        shown.append(repr(relay.error))
    shown += [record.getMessage() + (record.exc_text or "") for record in caplog.records]
    assert not [secret for secret in (*site.secrets, ".creds") if secret in "\n".join(shown)]


@pytest.mark.slow
async def test_expired_token_is_named_and_replaced(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """If a token expires, the relay reports it by name; if its file is replaced, the relay continues."""
    site.write("relay", expires=time.time() + 2)
    async with running(site) as (upstream, relay, ws):
        await until(lambda: "user authentication expired" in caplog.text)
        await until(lambda: "authorization" in str(relay.error).lower())
        await upstream.send({"e": "x", "s": "y", "n": 1})
        site.write("relay")
        async with asyncio.timeout(15):
            assert (await anext(ws.stream_filter()))["n"] == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "contains no user JWT"),
        ("SUAEXAMPLE\n", "contains no user JWT"),
        ("-----BEGIN NATS USER JWT-----\nx.y.z\n------END NATS USER JWT------\n", "contains no valid nkey seed"),
        (
            "-----BEGIN NATS USER JWT-----\nx.y.z\n------END NATS USER JWT------\n"
            "-----BEGIN USER NKEY SEED-----\nSUAEXAMPLE\n------END USER NKEY SEED------\n",
            "contains no valid nkey seed",
        ),
    ],
)
async def test_file_without_credentials_is_named(nats_server: NatsServer, tmp_path: Path, text: str, said: str) -> None:
    """A file that contains no token or no seed is named, blocks no event loop, and is not shown."""
    path = tmp_path / "wrong.creds"
    path.write_text(text)
    given = {"connect_options": {"user_credentials": str(path)}}
    async with captured(nats_server.url, **given) as (_, relay):
        await until(lambda: relay.error is not None)
        assert said in str(relay.error)
        assert isinstance(relay.error, rxws.RxwsError)
    async with rxws.nats.NatsFeed(nats_server.url, **given) as ws:
        events: list[Any] = []
        ws.events.subscribe(events.append)
        await until(lambda: any(said in str(event) for event in events))
    assert "EXAMPLE" not in str([relay.error, *events])
