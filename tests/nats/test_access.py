"""TLS, the least permissions, wrong credentials and old servers; and no secret is logged or shown."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nkeys
import pytest
import trustme

import rxws
from rxws.testing import FeedServer

from .rig import ROOT
from .server import NatsServer
from .wire import Wire

SECRET = "s3cret-p4ss"


async def until(condition: Any, timeout: float = 15.0) -> None:
    """Wait until a condition is true."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def seed() -> tuple[str, str]:
    """Return a new user's seed, and its public key."""
    user = nkeys.from_seed(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER))
    return user.seed.decode(), user.public_key.decode()


@asynccontextmanager
async def captured(url: str, **options: Any) -> AsyncIterator[tuple[FeedServer, rxws.nats.Relay]]:
    """A relayed feed."""
    async with FeedServer() as server, rxws.ReactiveWebSocket[Any](server.url) as ws:
        await server.connected()
        relay = rxws.nats.relay(ws, url, **options)
        try:
            yield server, relay
        finally:
            relay.dispose()


@pytest.fixture
def password_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server with a password."""
    server = NatsServer(tmp_path, more=f'authorization {{ user: "me", password: "{SECRET}" }}')
    server.start()
    try:
        yield server
    finally:
        server.kill()


async def test_secrets_appear_nowhere(password_server: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    """Passwords in an address or in the options are neither logged nor shown, right or wrong, whatever happens."""
    caplog.set_level(logging.DEBUG)
    place = password_server.url.removeprefix("nats://")
    events: list[Any] = []
    shown: list[str] = []
    async with (
        captured(f"nats://me:{SECRET}@{place}") as (server, relay),
        rxws.nats.NatsFeed(f"nats://me:{SECRET}@{place}", start="all") as ws,
    ):
        ws.events.subscribe(events.append)
        await server.send({"e": "x", "s": "y"})
        async with asyncio.timeout(15):
            await anext(ws.stream_filter())
        password_server.kill()
        await until(lambda: relay.error is not None and not ws.state.value.is_live)
        shown += [repr(relay), repr(ws), repr(relay.error)]
        password_server.start()
        await until(lambda: relay.is_connected)
    wrong = f"wrong-{SECRET}"
    async with captured(f"nats://me:{wrong}@{place}") as (_, relay):
        # The server closes the connection at once, which may reset it before the refusal is read. Others follow.
        await until(lambda: "authorization" in str(relay.error).lower())
        shown += [repr(relay), repr(relay.error)]
    async with rxws.nats.NatsFeed(password_server.url, connect_options={"user": "me", "password": wrong}) as ws:
        ws.events.subscribe(events.append)
        await until(lambda: any("authorization" in str(event).lower() for event in events))
    texts = [record.getMessage() for record in caplog.records] + [str(event) for event in events] + shown
    texts += [repr(event) for event in events] + [record.exc_text or "" for record in caplog.records]
    assert SECRET not in "\n".join(texts)


def configured(values: dict[str, str]) -> str:
    """Return the security part of the page's configuration, with these values in place of its own."""
    page = (ROOT / "rxws" / "nats" / "RUNNING.rst").read_text()
    text = page.partition(":name: nats.conf")[2].partition("The administrator")[0]
    text = text[text.index("    tls {") :]
    for old, new in values.items():
        assert old in text
        text = text.replace(old, new)
    return text


async def test_least_permissions_suffice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Relay and feed work over TLS with nkeys, with the configuration in the page for operators, and log no warning."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    (admin, admin_key), (writer, writer_key), (reader, reader_key) = seed(), seed(), seed()
    keys = {"ADMIN": admin_key, "RELAY": writer_key, "WORKER": reader_key}
    more = configured({**keys, "/etc/nats/": f"{tmp_path}/"})
    server = NatsServer(tmp_path, more=more, scheme="tls")
    server.start()
    try:
        for name, text in (("admin", admin), ("writer", writer), ("reader", reader)):
            (tmp_path / name).write_text(text)

        def options(name: str) -> dict[str, Any]:
            return {"tls": context, "nkeys_seed": str(tmp_path / name)}

        identity = {"identity": lambda message: message["n"], "patience": 1.0}
        async with captured(server.url, connect_options=options("admin"), **identity) as (_, relay):
            await until(lambda: relay.is_connected)
        async with captured(server.url, connect_options=options("writer"), create=False, **identity) as (
            upstream,
            relay,
        ):
            await upstream.send({"e": "x", "s": "y", "n": 1})
            await until(lambda: relay.published == 1)
            async with rxws.nats.NatsFeed(server.url, connect_options=options("reader"), start="all") as ws:
                async with asyncio.timeout(15):
                    assert (await anext(ws.stream_filter([{"s": "y"}])))["n"] == 1
                assert ws.statistics().reconnects == {}
                assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
                server.kill()
                await until(lambda: not ws.state.value.is_live and relay.error is not None)
                server.start()
        assert not [record for record in caplog.records if record.name == "asyncio"]
        async with captured(server.url, connect_options=options("reader")) as (_, relay):
            await until(lambda: relay.error is not None)
            assert "permissions violation" in str(relay.error).lower()
        async with rxws.nats.NatsFeed(server.url, connect_options=options("writer")) as ws:
            events: list[Any] = []
            ws.events.subscribe(events.append)
            await until(lambda: any("permissions violation" in str(event).lower() for event in events))
    finally:
        server.kill()


async def test_old_server_is_refused_with_its_version(nats_server: NatsServer) -> None:
    """A server older than 2.10 silently ignores filters, so feed and relay refuse it and name its version."""

    def older(data: bytes) -> bytes:
        return data.replace(b'"version":"2.15.1"', b'"version":"2.9.10"')

    async with Wire(nats_server.port, older) as wire:
        with pytest.raises(rxws.ConnectFailed, match=r"nats-server 2\.9\.10 is too old: 2\.10"):
            async with rxws.nats.NatsFeed(wire.url) as ws:
                async with asyncio.timeout(15):
                    await ws.wait_connected()
        async with captured(wire.url) as (_, relay):
            await until(lambda: relay.error is not None)
            assert "2.9.10 is too old" in str(relay.error)
