"""What a notebook's cell shows of a feed."""

from __future__ import annotations

import asyncio

import pytest

import rxws
from rxws.display.feed_view import KEEP_SECONDS

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


def lines(ws):
    """Return the messages that a look shows, the last one first."""
    return [line.strip() for line in ws._repr_mimebundle_()["text/plain"].splitlines()[-5:]]


async def send(server, *numbers):
    """Send numbers, and wait until they have come."""
    for n in numbers:
        await server.send({"n": n})
    await asyncio.sleep(1.0)


async def test_look_keeps_messages_for_a_minute(feed_server):
    """After a look the last few messages are kept; a minute after the last look they cost nothing any more."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        await ws.wait_connected()
        assert not ws.messages.observed
        await send(feed_server, 1, 2)
        assert lines(ws)[-1] == "2"
        assert ws.messages.observed
        await send(feed_server, 3, 4, 5)
        assert lines(ws)[-3:] == ["5", "4", "3"]
        await asyncio.sleep(KEEP_SECONDS - 1)
        assert ws.messages.observed
        await asyncio.sleep(2)
        assert not ws.messages.observed
        await send(feed_server, 6)
        assert lines(ws)[-1] == "6"


async def test_look_after_the_end_keeps_nothing(feed_server):
    """A look at a closed feed shows its state, and subscribes nothing."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        await ws.wait_connected()
        lines(ws)
    assert "closed" in ws._repr_mimebundle_()["text/plain"]
    assert not ws.messages.observed
