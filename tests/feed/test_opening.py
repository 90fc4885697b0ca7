"""What the lines of a feed share when they open connections."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from rxws.feed.opening import Opening
from rxws.options import Options
from rxws.rate_limit import MARGIN
from tests.support.life import ScriptedWebsocket

pytestmark = pytest.mark.usefixtures("virtual_time")


def opening_of(create_ws=None, **options):
    """Return the opening part of a feed without the feed."""
    hooks = SimpleNamespace(create_ws=create_ws)
    return Opening(asyncio.get_running_loop(), None, hooks, Options(**options))


async def test_handshakes_wait_when_the_limit_is_reached():
    """The third handshake of a limit of two in ten seconds waits until the window is over; ``stop`` ends the wait."""
    opening = opening_of(connect_limit=(2, 10))
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(3):
        await opening.wait_for_handshake()
    assert 10 <= loop.time() - began <= 10 + MARGIN
    await opening.wait_for_handshake()
    waiting = asyncio.ensure_future(opening.wait_for_handshake())
    await asyncio.sleep(1)
    assert not waiting.done()
    opening.stop()
    await asyncio.wait_for(waiting, 1)


async def test_handshakes_do_not_wait_when_there_is_no_limit():
    """Without ``connect_limit`` no handshake waits."""
    opening = opening_of()
    began = asyncio.get_running_loop().time()
    for _ in range(1000):
        await opening.wait_for_handshake()
    opening.stop()
    assert asyncio.get_running_loop().time() == began


async def test_hook_that_returns_no_websocket_is_refused():
    """What ``_create_ws`` returns must be a websocket; the error names the hook."""
    made = ScriptedWebsocket()

    async def create():
        return made

    async def create_nothing():
        return None

    assert await opening_of(create).create(0) is made
    with pytest.raises(TypeError, match="_create_ws"):
        await opening_of(create_nothing).create(0)


async def test_lines_share_the_delays_of_an_address():
    """A failure of one line delays the other lines that connect to the same address."""
    opening = opening_of()
    first, second = opening.make_backoff(1), opening.make_backoff(2)
    assert first.address is second.address is opening.addresses[0]
