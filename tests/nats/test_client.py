"""The client calls plain functions, with any version of the library, and notices a function that raises."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest
from nats.aio.client import Client

import rxws
from rxws.nats.broker import Broker, BrokerError
from rxws.nats.client import DirectClient, header_of, status_of

from .server import NatsServer
from .test_relay_and_feed import capturing, take, trade, until


async def test_message_goes_to_a_function(nats_server: NatsServer) -> None:
    """A published message arrives with its subject, reply subject, data and headers."""
    broker = await Broker.connect([nats_server.url], {}, "test")
    found: list[Any] = []
    try:
        await broker.client.receive("a.*", lambda *message: found.append(message))
        assert broker.client.put("a.é", "answer", b"\x00data", "Rxws-From: me 1 2\r\n")
        await until(lambda: found)
    finally:
        await broker.close()
    [(subject, reply, data, headers)] = found
    assert (subject, reply, data) == ("a.é", "answer", b"\x00data")
    assert header_of(headers, b"Rxws-From") == "me 1 2"
    assert header_of(headers, b"Rxws-Kind") == ""


async def test_older_ways_of_the_library_suffice(nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a version of the library without the private names, relay and feed work through the public methods."""
    monkeypatch.setattr(DirectClient, "_process_msg", Client._process_msg)
    made = DirectClient.__init__

    def make(self: DirectClient, failed: Any) -> None:
        made(self, failed)
        self.has_buffer = False

    monkeypatch.setattr(DirectClient, "__init__", make)
    messages = [trade(number, f"S{number % 3}") for number in range(300)]
    async with capturing(nats_server) as capture:
        await capture.send(*messages)
        async with rxws.nats.NatsFeed(nats_server.url, start="all") as ws:
            wanted = [message for message in messages if message["s"] != "S2"]
            assert await take(ws.stream_filter([{"s": "S0"}, {"s": "S1"}]), len(wanted)) == wanted
            frames: list[Any] = []
            ws.frames.subscribe(lambda entry: frames.append(entry[0]))
            await capture.send(trade(300))
            await until(lambda: any(frame.endswith('"n":300}') for frame in frames))
    assert frames[-1].relay == capture.relay.name
    assert frames[-1].received_ns > 0


async def test_function_that_raises_ends_the_connection(nats_server: NatsServer) -> None:
    """An exception of a function that gets messages ends the connection, and becomes its reason."""
    broker = await Broker.connect([nats_server.url], {}, "test")

    def refuse(*_: Any) -> None:
        raise ZeroDivisionError("on purpose")

    try:
        await broker.client.receive("a", refuse)
        broker.client.put("a", "", b"", "")
        with pytest.raises(ZeroDivisionError, match="on purpose"):
            async with asyncio.timeout(5):
                await broker.lost
    finally:
        await broker.close()


async def test_close_leaves_no_connection_to_a_frozen_server(nats_server: NatsServer) -> None:
    """Closing a connection whose server reads nothing ends in time, and leaves no task and no socket."""
    before = asyncio.all_tasks()
    broker = await Broker.connect([nats_server.url], {"ping_interval": 0.2}, "test")
    nats_server.signal(signal.SIGSTOP)
    for _ in range(200):
        broker.client.put("a", "", b"x" * 2**16, "")
    # The library notices that no ping is answered, and waits for the server while it closes.
    await until(lambda: broker.client.is_closed)
    async with asyncio.timeout(5):
        await broker.close()
    await asyncio.sleep(0.05)
    assert asyncio.all_tasks() == before
    with pytest.raises(BrokerError):
        broker.check()


def test_status_has_a_number_and_a_description() -> None:
    """The first line of the headers may be a status."""
    assert status_of(b"NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 3\r\n\r\n") == ("100", "Idle Heartbeat")
    assert status_of(b"NATS/1.0 503\r\n\r\n") == ("503", "")
    assert status_of(b"NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n") == ("", "")
    assert status_of(b"") == ("", "")
    assert header_of(b"NATS/1.0 100 Idle\r\nNats-Last-Consumer: 3\r\n\r\n", b"Nats-Last-Consumer") == "3"
