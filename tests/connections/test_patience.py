"""Timeouts after the event loop was blocked: messages and answers that arrived meanwhile are taken first."""

from __future__ import annotations

import asyncio

import pytest

from rxws import Connected, Disconnected, SendTimeout
from rxws.testing.lives.clock import stand_still
from tests.support.life import ScriptedFeed, ScriptedWebsocket
from tests.support.opening import never

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


async def test_send_waits_again_when_the_loop_was_blocked() -> None:
    """If the peer took the message while the loop was blocked, the send succeeds and the connection stays."""
    websocket = ScriptedWebsocket()
    websocket.on_send = lambda _: asyncio.sleep(0.5)
    async with ScriptedFeed(websocket, send_timeout=1.0) as feed:
        await feed.record.happened(Connected)
        sending = asyncio.ensure_future(feed.send("late"))
        await asyncio.sleep(0.1)
        stand_still(3.0)
        await sending
        assert websocket.sent == ["late"]
        assert not feed.record.of(Disconnected)


async def test_send_fails_when_the_peer_takes_nothing_after_the_standstill() -> None:
    """If the peer takes nothing after the loop was blocked, the connection is cut a second later."""
    websocket = ScriptedWebsocket()
    websocket.on_send = lambda _: never()
    async with ScriptedFeed(websocket, send_timeout=1.0) as feed:
        await feed.record.happened(Connected)
        loop = asyncio.get_running_loop()
        sending = asyncio.ensure_future(feed.send("late"))
        await asyncio.sleep(0.1)
        stand_still(3.0)
        began = loop.time()
        with pytest.raises(SendTimeout, match="the peer took nothing"):
            await sending
        assert loop.time() - began == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(("seconds", "attempts"), [(0.5, 1), (30.0, 2)])
async def test_opening_waits_again_when_the_loop_was_blocked(seconds: float, attempts: int) -> None:
    """A handshake that was answered while the loop was blocked succeeds; one without an answer fails a second later."""

    async def slow() -> ScriptedWebsocket:
        await asyncio.sleep(seconds)
        return ScriptedWebsocket()

    async with ScriptedFeed(slow, open_timeout=1.0) as feed:
        await asyncio.sleep(0.1)
        stand_still(3.0)
        await feed.record.happened(Connected)
        assert feed.attempts == attempts
