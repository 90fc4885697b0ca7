"""A websocket of any library: it is checked, closed and aborted, and may close by itself in bounded time."""

from __future__ import annotations

import asyncio
import struct
from types import SimpleNamespace

import pytest
from websockets.protocol import State

import rxws
from rxws import Connected, Disconnected
from rxws.connections.transport import abort_websocket, check_websocket, wait_overdue
from rxws.testing import FeedServer
from tests.support.life import ScriptedFeed, ScriptedWebsocket
from tests.support.opening import Followed, never, now

in_virtual_time = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")

PAYLOADS = {
    "text that is not UTF-8": (1007, struct.pack("!BB", 0x81, 1) + b"\xff"),
    "a GiB announced": (1009, struct.pack("!BBQ", 0x82, 127, 2**30)),
    "a frame of no kind": (1002, struct.pack("!BB", 0x83, 0)),
    "an extension that was not agreed on": (1002, struct.pack("!BB", 0xC1, 0)),
}
"""Violations of the protocol by a server: the close code that the library sends, and the bytes."""


@in_virtual_time
async def test_check_websocket_accepts_any_object_with_the_api():
    """Any object with iteration, ``send`` and ``close`` is a websocket."""
    websocket = ScriptedWebsocket()
    assert check_websocket(websocket, "_create_ws") is websocket


def test_check_websocket_refuses_an_object_without_the_api():
    """The error names the hook that returned the object, the object's type and its missing methods."""
    with pytest.raises(TypeError, match=r"^_create_ws must .*, not NoneType without __aiter__, send, close$"):
        check_websocket(None, "_create_ws")


async def test_check_websocket_hints_at_a_missing_await():
    """If the object can be awaited, the error says that ``await`` is missing."""
    connecting = never()
    with pytest.raises(TypeError, match=r"not coroutine .* \(is an 'await' missing\?\)$"):
        check_websocket(connecting, "connect")
    connecting.close()


@in_virtual_time
async def test_abort_websocket_aborts_the_transport():
    """A websocket with a transport is aborted, without a closing handshake."""
    websocket = ScriptedWebsocket()
    abort_websocket(websocket)
    assert (websocket.transport.aborted, websocket.closes) == (1, 0)


@in_virtual_time
@pytest.mark.parametrize("error", [None, OSError("broken"), TypeError("a bug")])
async def test_abort_websocket_without_a_transport_closes(error):
    """A websocket without a transport is closed with ``close``, and an exception of that is ignored."""

    async def close():
        if error is not None:
            raise error

    websocket = ScriptedWebsocket(transport=False)
    websocket.on_close = close
    abort_websocket(websocket)
    await asyncio.sleep(0.01)
    assert websocket.closes == 1


@in_virtual_time
async def test_abort_websocket_gives_up_a_close_that_never_ends():
    """A ``close`` in the background is cancelled after 30 seconds."""
    websocket = ScriptedWebsocket(transport=False)
    websocket.on_close = never
    abort_websocket(websocket)
    await asyncio.sleep(29)
    assert len(asyncio.all_tasks()) == 2
    await asyncio.sleep(2)
    assert len(asyncio.all_tasks()) == 1


@in_virtual_time
@pytest.mark.parametrize(("code", "payload"), PAYLOADS.values(), ids=PAYLOADS)
async def test_a_protocol_error_ends_the_connection_after_close_timeout(code, payload):
    """If the server does not answer the close, the connection is aborted after ``close_timeout``; the cause is kept."""
    async with FeedServer(compression=None) as server, Followed(server.url, close_timeout=1) as feed:
        await feed.record.happened(Connected)
        before = now()
        server.connections[0].websocket.transport.pause_reading()
        server.connections[0].send_raw(payload)
        await feed.record.happened(Connected, 2)
        assert 0.75 <= now() - before <= 1.01
        (event,) = feed.record.of(Disconnected)
        assert (event.reason, event.code) == ("server", code)


@in_virtual_time
async def test_a_deflate_bomb_ends_the_connection_after_close_timeout():
    """A small message that decompresses to more than ``max_size`` is a protocol error like any other."""
    async with (
        FeedServer(compression="deflate") as server,
        Followed(server.url, close_timeout=1, connect_options={"max_size": 1000}) as feed,
    ):
        await feed.record.happened(Connected)
        before = now()
        server.connections[0].websocket.transport.pause_reading()
        await server.connections[0].websocket.send("0" * 100_000)
        await feed.record.happened(Connected, 2)
        assert 0.75 <= now() - before <= 1.01
        assert feed.record.of(Disconnected)[0].code == 1009


@in_virtual_time
async def test_an_answer_in_time_ends_the_connection():
    """If the server answers the close at once, the connection ends without a wait."""
    async with FeedServer() as server, Followed(server.url, close_timeout=20) as feed:
        await feed.record.happened(Connected)
        await server.connections[0].send_invalid_utf8()
        await feed.record.happened(Connected, 2)
        assert now() < 0.5


@in_virtual_time
async def test_a_close_of_rxws_has_its_own_limit():
    """The limit for the library's own close does not shorten the close of ``exit``."""

    async def answer_late():
        feed.websocket.state = State.CLOSING
        await asyncio.sleep(0.99)
        feed.websocket.end(StopAsyncIteration())

    async with ScriptedFeed(close_timeout=1) as feed:
        await feed.record.happened(Connected)
        feed.websocket.on_close = answer_late
        feed.websocket.state = State.CLOSING
        await asyncio.sleep(0.5)
    assert feed.websocket.transport.aborted == 0
    assert isinstance(feed.record.events[-1], rxws.Disconnected)


@in_virtual_time
async def test_a_rotation_hook_may_continue_while_rxws_closes():
    """The limit for the library's own close does not abort a connection that rxws closes."""
    async with ScriptedFeed(close_timeout=0.4) as feed:
        await feed.record.happened(Connected)
        first = feed.websocket

        async def answer_late():
            first.state = State.CLOSING
            await asyncio.sleep(0.9)
            first.end(StopAsyncIteration())

        first.on_close = answer_late
        assert await feed.rotate()
        assert first.transport.aborted == 0


@in_virtual_time
async def test_the_limit_is_never_exceeded():
    """A close is found to be overdue in the last quarter of its limit, whenever it begins."""
    for delay in (0.0, 0.1, 0.249, 0.26, 3.7):
        websocket = SimpleNamespace(state=1)
        overdue = asyncio.ensure_future(wait_overdue(websocket, 1.0))
        await asyncio.sleep(delay)
        websocket.state, began = State.CLOSING, now()
        await overdue
        assert 0.74 <= now() - began <= 1.001


@in_virtual_time
async def test_a_connection_without_a_state_is_never_overdue():
    """A connection of another library, which has no state, is never overdue."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(wait_overdue(object(), 1.0), timeout=10)
