"""What is sent, and on which connection: waiting for one, in time, and what each new one needs."""

from __future__ import annotations

import asyncio

import pytest

from rxws import FeedClosed, SendFailed, SendTimeout
from rxws.connections.connection import Connection
from rxws.options import Options
from rxws.sending.sender import Sender
from tests.support.life import ScriptedFeed, ScriptedWebsocket
from tests.support.wiring import Wiring, never_asked

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


class SenderLife:
    """Sending, with connections that the test opens."""

    def __init__(self, **options):
        self.wiring = Wiring()
        self.ended = None
        checked = Options.of(ScriptedFeed, options)
        self.sender = Sender(self.wiring.reporter, checked, self.raise_if_ended)

    def raise_if_ended(self):
        if self.ended is not None:
            raise self.ended

    async def open(self, prepare=True):
        """Open a connection, and send on it from now on."""
        websocket = ScriptedWebsocket()
        connection = Connection(websocket, 1, self.wiring.loop, self.wiring.reporter, never_asked)

        async def read():
            async for _ in websocket:
                pass

        connection.start(read)
        if prepare:
            await self.sender.prepare(connection)
        self.sender.use(connection)
        return connection

    async def close(self, *connections):
        """End connections."""
        for connection in connections:
            connection.websocket.end()
            await asyncio.wait({connection.reader})
            connection.end()


@pytest.mark.parametrize(("message", "payload"), [("a", "a"), (b"b", b"b"), ({"c": 1}, '{"c":1}')])
async def test_message_goes_to_the_connection_that_is_used(message, payload):
    """``str`` and bytes go as they are, anything else as JSON; on the newest connection alone."""
    sender = SenderLife()
    old, new = await sender.open(), await sender.open()
    await sender.sender.send(message)
    assert (old.websocket.sent, new.websocket.sent) == ([], [payload])
    await sender.close(old, new)


async def test_message_waits_for_a_connection():
    """What is sent while there is none goes out as soon as there is one."""
    sender = SenderLife(send_timeout=10)
    sending = asyncio.create_task(sender.sender.send("a"))
    await asyncio.sleep(5)
    assert not sending.done()
    connection = await sender.open()
    await sending
    assert connection.websocket.sent == ["a"]
    await sender.close(connection)


async def test_message_that_finds_no_connection_in_time():
    """It was not sent, and that is said, after ``send_timeout``."""
    sender = SenderLife(send_timeout=2)
    with pytest.raises(SendTimeout, match="no live connection for 2 s: nothing was sent"):
        await sender.sender.send("a")


async def test_message_whose_turn_does_not_come():
    """That it was the limit is said where there is one, and only there."""
    sender = SenderLife(send_limit=(1, 60), send_timeout=2)
    connection = await sender.open()
    await sender.sender.send("first")
    with pytest.raises(SendTimeout, match="not the message's turn for 2 s: nothing was sent"):
        await sender.sender.send("second")
    await sender.close(connection)
    sender = SenderLife()
    connection = await sender.open()
    assert sender.sender.obstacle == "there was no live connection"
    await sender.close(connection)


async def test_message_that_waits_when_the_feed_ends():
    """Whoever waits is told of the end."""
    sender = SenderLife()
    sending = asyncio.create_task(sender.sender.send("a"))
    await asyncio.sleep(1)
    sender.ended = FeedClosed("closed")
    sender.sender.connection_available.set()
    with pytest.raises(FeedClosed):
        await sending


async def test_connection_that_is_lost_while_sending_is_no_success():
    """A loss in the midst of it is raised: nobody knows what the peer has got."""
    sender = SenderLife()
    connection = await sender.open()
    connection.websocket.end()
    with pytest.raises(SendFailed):
        await connection.send("a", 1)
    await sender.close(connection)


async def test_turn_that_comes_as_the_connection_is_lost_is_the_next_ones():
    """Who waited for a turn on a connection that is lost sends on the next one."""
    sender = SenderLife(send_limit=(1, 5), send_timeout=30)
    old = await sender.open()
    await sender.sender.send("first")
    sending = asyncio.create_task(sender.sender.send("second"))
    await asyncio.sleep(1)
    sender.sender.use(None)
    await sender.close(old)
    new = await sender.open()
    await sending
    assert (old.websocket.sent, new.websocket.sent) == (["first"], ["second"])
    await sender.close(new)


async def test_turn_that_comes_when_the_connection_is_closing_is_given_back():
    """A connection that is known to be closing is not sent on, though the turn has come: the next one is."""
    sender = SenderLife(send_limit=(1, 5), send_timeout=30)
    old = await sender.open()
    await sender.sender.send("first")
    sending = asyncio.create_task(sender.sender.send("second"))
    await asyncio.sleep(1)
    old.websocket.state = 2
    await asyncio.sleep(10)
    assert old.websocket.sent == ["first"]
    new = await sender.open()
    await sending
    assert new.websocket.sent == ["second"]
    await sender.close(old, new)


async def test_new_connection_is_greeted_before_it_is_used():
    """``on_open`` is sent first, message by message, functions asked for theirs."""
    sender = SenderLife()

    async def token():
        return {"token": 7}

    sender.sender.on_open = ("hello", token)
    connection = await sender.open()
    assert connection.websocket.sent == ["hello", '{"token":7}']
    await sender.close(connection)


async def test_heartbeat_lives_as_long_as_its_connection():
    """It is sent every so many seconds on each connection, and no more after its end."""
    sender = SenderLife(heartbeat=("beat", 10))
    connection = await sender.open()
    await asyncio.sleep(35)
    assert connection.websocket.sent == ["beat"] * 3
    await sender.close(connection)
    await asyncio.sleep(35)
    assert connection.websocket.sent == ["beat"] * 3
