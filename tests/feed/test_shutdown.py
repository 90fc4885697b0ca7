"""The shutdown of a feed: once, in bounded time, from any task."""

from __future__ import annotations

import asyncio

import pytest

from rxws.connections.connection import Connection
from rxws.feed.shutdown import Shutdown
from tests.support.life import ScriptedWebsocket
from tests.support.wiring import Wiring, never_asked

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


class Whole:
    """A feed to shut down, with the calls of its shutdown."""

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
    """Cancel the tasks that wait for a peer which never answers."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.wait(rest)


async def test_closing_happens_once():
    """The shutdown runs once for any number of callers, and all of them wait for its end."""
    whole = Whole(ScriptedWebsocket(), ScriptedWebsocket())
    assert not whole.closing.has_begun
    first = whole.closing.request()
    assert whole.closing.has_begun
    await asyncio.gather(first, whole.closing.request(), asyncio.wait_for(whole.closing.request(), 10))
    await whole.closing.request()
    assert whole.done == ["stop", "finish"]
    assert [connection.websocket.closes for connection in whole.connections] == [1, 1]


async def test_connection_is_aborted_when_the_peer_does_not_answer(virtual_time):
    """A connection that does not close is aborted after the timeout."""
    websocket = ScriptedWebsocket()
    websocket.on_close = lambda: asyncio.sleep(1000)
    whole = Whole(websocket)
    await whole.closing.request()
    assert 5 <= virtual_time.time() <= 6
    assert websocket.transport.aborted
    await cancel_the_rest()


async def test_shutdown_ends_when_a_task_ignores_its_cancellation(virtual_time, caplog):
    """A task that ignores its cancellation is given up after another second, with a warning."""
    whole = Whole()
    task = asyncio.create_task(asyncio.sleep(1000))
    whole.tasks.append(task)
    await whole.closing.request()
    assert virtual_time.time() == pytest.approx(6, abs=0.2)
    assert "ignores its cancellation" in caplog.text
    task.cancel()


async def test_shutdown_does_not_wait_for_a_task_that_waits_for_it():
    """A task of the feed may wait for the shutdown, which does not wait for that task."""
    whole = Whole()

    async def ask():
        await whole.closing.request()
        return "ended"

    task = asyncio.create_task(ask())
    whole.tasks.append(task)
    assert await asyncio.wait_for(task, 1) == "ended"


async def test_shutdown_does_not_wait_for_a_reader_that_waits_for_it(virtual_time):
    """If a parse hook waits for the shutdown, its connection cannot be read to its end and is aborted at once."""
    whole = Whole()
    websocket = ScriptedWebsocket()
    websocket.on_close = lambda: asyncio.sleep(1000)
    connection = Connection(websocket, 1, whole.wiring.loop, whole.wiring.reporter, never_asked)
    connection.start(whole.closing.request)
    whole.connections.append(connection)
    await asyncio.sleep(0)
    await whole.closing.ended
    assert virtual_time.time() < 1
    assert websocket.transport.aborted
    await cancel_the_rest()


async def test_shutdown_that_is_cancelled_still_ends():
    """If the program cancels all tasks, the shutdown ends at once and aborts the open connections."""
    websocket = ScriptedWebsocket()
    websocket.on_close = lambda: asyncio.sleep(1000)
    whole = Whole(websocket)
    ended = whole.closing.request()
    await asyncio.sleep(0.1)
    for task in asyncio.all_tasks():
        if task.get_name() == "rxws close":
            task.cancel()
    await ended
    assert whole.done == ["stop", "stop", "finish"]
    assert websocket.transport.aborted
    await cancel_the_rest()
