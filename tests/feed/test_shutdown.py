"""The end of a feed: once, bounded, and whoever asks for it."""

from __future__ import annotations

import asyncio

import pytest

from rxws.connections.connection import Connection
from rxws.feed.shutdown import Shutdown
from tests.support.life import ScriptedWebsocket
from tests.support.wiring import Wiring, never_asked

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


class Whole:
    """What is to be closed, and what was asked of it."""

    def __init__(self, *websockets):
        self.wiring = Wiring()
        self.done = []
        self.tasks, self.handlers, self.connections = [], [], []
        for websocket in websockets:
            connection = Connection(websocket, 1, self.wiring.loop, self.wiring.reporter, never_asked)

            async def read(websocket=websocket):
                async for _ in websocket:
                    pass

            connection.start(read)
            self.connections.append(connection)
        self.closing = Shutdown(self, self.handlers, self.stop, self.finish, self.wiring.reporter, 5.0)

    def stop(self):
        self.done.append("stop")

    def finish(self):
        self.done.append("finish")


async def cancel_the_rest():
    """Let nothing be left that waits for a peer which never answers."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.wait(rest)


async def test_closing_happens_once():
    """However often and by whomever it is asked for, it stops and finishes once, and all are told."""
    whole = Whole(ScriptedWebsocket(), ScriptedWebsocket())
    assert not whole.closing.has_begun
    first = whole.closing.wanted()
    assert whole.closing.has_begun
    await asyncio.gather(first, whole.closing.wanted(), asyncio.wait_for(whole.closing.wanted(), 10))
    await whole.closing.wanted()
    assert whole.done == ["stop", "finish"]
    assert [connection.websocket.closes for connection in whole.connections] == [1, 1]


async def test_peer_that_does_not_answer_is_cut_in_time(virtual_time):
    """A connection that does not close is aborted after the timeout."""
    websocket = ScriptedWebsocket()
    websocket.on_close = lambda: asyncio.sleep(1000)
    whole = Whole(websocket)
    await whole.closing.wanted()
    assert 5 <= virtual_time.time() <= 6
    assert websocket.transport.aborted
    await cancel_the_rest()


async def test_task_that_heeds_no_cancellation_does_not_hold_up_the_end(virtual_time, caplog):
    """What never ends is left behind after a second more, and said."""
    whole = Whole()
    task = asyncio.create_task(asyncio.sleep(1000))
    whole.tasks.append(task)
    await whole.closing.wanted()
    assert virtual_time.time() == pytest.approx(6, abs=0.2)
    assert "ignores its cancellation" in caplog.text
    task.cancel()


async def test_whoever_waits_for_the_end_is_not_waited_for():
    """A task of the feed's own that asks for the end gets it, and is not what the end waits for."""
    whole = Whole()

    async def ask():
        await whole.closing.wanted()
        return "told"

    task = asyncio.create_task(ask())
    whole.tasks.append(task)
    assert await asyncio.wait_for(task, 1) == "told"


async def test_connection_whose_reader_waits_for_the_end_is_not_waited_for(virtual_time):
    """A parse hook that asks for the end, and waits for it, reads nothing meanwhile: nothing can be read on."""
    whole = Whole()
    websocket = ScriptedWebsocket()
    websocket.on_close = lambda: asyncio.sleep(1000)
    connection = Connection(websocket, 1, whole.wiring.loop, whole.wiring.reporter, never_asked)
    connection.start(whole.closing.wanted)
    whole.connections.append(connection)
    await asyncio.sleep(0)
    await whole.closing.ended
    assert virtual_time.time() < 1
    assert websocket.transport.aborted
    await cancel_the_rest()


async def test_closing_that_is_cancelled_still_ends():
    """Whoever cancels all tasks cancels the closing, too: it ends at once, and cuts what is open."""
    websocket = ScriptedWebsocket()
    websocket.on_close = lambda: asyncio.sleep(1000)
    whole = Whole(websocket)
    ended = whole.closing.wanted()
    await asyncio.sleep(0.1)
    for task in asyncio.all_tasks():
        if task.get_name() == "rxws close":
            task.cancel()
    await ended
    assert whole.done == ["stop", "stop", "finish"]
    assert websocket.transport.aborted
    await cancel_the_rest()
