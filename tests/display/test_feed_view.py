"""The display of a feed in a notebook cell."""

from __future__ import annotations

import asyncio

import pytest

import rxws
from rxws.display.feed_view import KEEP_SECONDS

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


def lines(ws):
    """Return the displayed messages, the last one first."""
    return [line.strip() for line in ws._repr_mimebundle_()["text/plain"].splitlines()[-5:]]


async def send(server, *numbers):
    """Send numbers, and wait until they have arrived."""
    for n in numbers:
        await server.send({"n": n})
    await asyncio.sleep(1.0)


async def test_display_keeps_messages_for_a_minute(feed_server):
    """A display keeps the last few messages for a minute; then the feed keeps none."""
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


async def test_display_after_the_end_keeps_nothing(feed_server):
    """A display of a closed feed shows its state and does not subscribe."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        await ws.wait_connected()
        lines(ws)
    assert "closed" in ws._repr_mimebundle_()["text/plain"]
    assert not ws.messages.observed
