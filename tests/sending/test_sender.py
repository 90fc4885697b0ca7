"""The sender: waits for a live connection, sends in time, and prepares each new connection."""

from __future__ import annotations

import asyncio

import pytest

from rxws import CallbackFailed, FeedClosed, SendFailed, SendTimeout
from rxws.connections.connection import Connection
from rxws.options import Options
from rxws.sending.channel_group import ChannelGroup
from rxws.sending.sender import Sender
from tests.support.feeds import of_kind
from tests.support.life import ScriptedFeed, ScriptedWebsocket
from tests.support.wiring import Wiring, never_asked

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


class SenderLife:
    """A sender with connections that the test opens."""

    def __init__(self, **options):
        self.wiring = Wiring()
        self.ended = None
        checked = Options.of(ScriptedFeed, options)
        self.sender = Sender(self.wiring.reporter, checked, self.raise_if_ended)
        self.channels = ChannelGroup(self.sender, checked, self.wiring.reporter)

    def raise_if_ended(self):
        if self.ended is not None:
            raise self.ended

    async def open(self, prepare=True):
        """Open a connection, which the sender uses from now on."""
        websocket = ScriptedWebsocket()
        connection = Connection(websocket, 1, self.wiring.loop, self.wiring.reporter, never_asked)

        async def read():
            async for _ in websocket:
                pass

        connection.start(read)
        if prepare:
            await self.channels.prepare(connection)
        self.channels.use(connection, 1)
        return connection

    async def close(self, *connections):
        """End connections and wait until they were read to their ends."""
        for connection in connections:
            connection.websocket.end()
            await asyncio.wait({connection.reader})
            connection.end()


@pytest.mark.parametrize(("message", "payload"), [("a", "a"), (b"b", b"b"), ({"c": 1}, '{"c":1}')])
async def test_message_goes_to_the_newest_connection_when_there_are_two(message, payload):
    """``str`` and bytes are sent unchanged and other messages as JSON, on the newest connection only."""
    sender = SenderLife()
    old, new = await sender.open(), await sender.open()
    await sender.sender.send(message)
    assert (old.websocket.sent, new.websocket.sent) == ([], [payload])
    await sender.close(old, new)


async def test_message_waits_when_there_is_no_connection():
    """A message that is sent without a connection goes out as soon as there is one."""
    sender = SenderLife(send_timeout=10)
    sending = asyncio.create_task(sender.sender.send("a"))
    await asyncio.sleep(5)
    assert not sending.done()
    connection = await sender.open()
    await sending
    assert connection.websocket.sent == ["a"]
    await sender.close(connection)


async def test_send_raises_when_no_connection_opens_in_time():
    """After ``send_timeout`` without a connection SendTimeout says that nothing was sent."""
    sender = SenderLife(send_timeout=2)
    with pytest.raises(SendTimeout, match="no live connection for 2 s: nothing was sent"):
        await sender.sender.send("a")


async def test_error_names_the_limit_when_a_message_waits_for_it():
    """The error names the send limit only if there is a limit."""
    sender = SenderLife(send_limit=(1, 60), send_timeout=2)
    connection = await sender.open()
    await sender.sender.send("first")
    with pytest.raises(SendTimeout, match="the send limit left no slot for 2 s: nothing was sent"):
        await sender.sender.send("second")
    await sender.close(connection)
    sender = SenderLife()
    connection = await sender.open()
    assert sender.sender.obstacle == "there was no live connection"
    await sender.close(connection)


async def test_send_raises_when_the_feed_ends_meanwhile():
    """A waiting sender gets FeedClosed when the feed ends."""
    sender = SenderLife()
    sending = asyncio.create_task(sender.sender.send("a"))
    await asyncio.sleep(1)
    sender.ended = FeedClosed("closed")
    sender.sender.connection_available.set()
    with pytest.raises(FeedClosed):
        await sending


async def test_send_raises_when_the_connection_is_lost_meanwhile():
    """A loss during sending raises SendFailed, because the peer may not have received the message."""
    sender = SenderLife()
    connection = await sender.open()
    connection.websocket.end()
    with pytest.raises(SendFailed):
        await connection.send("a", 1)
    await sender.close(connection)


async def test_message_goes_to_the_next_connection_when_its_own_is_lost():
    """A message that waits for a slot on a lost connection is sent on the next connection."""
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


async def test_slot_is_released_when_the_connection_is_closing():
    """A message whose slot is free only when its connection closes is sent on the next connection."""
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


async def test_on_open_is_sent_first_when_a_connection_opens():
    """The ``on_open`` messages, and those that its functions return, are sent first and in order."""
    sender = SenderLife()

    async def token():
        return {"token": 7}

    sender.sender.on_open = ("hello", token)
    connection = await sender.open()
    assert connection.websocket.sent == ["hello", '{"token":7}']
    await sender.close(connection)


async def test_heartbeat_stops_when_its_connection_ends():
    """A heartbeat is sent at its interval on each connection, until the connection ends."""
    sender = SenderLife(heartbeat=("beat", 10))
    connection = await sender.open()
    await asyncio.sleep(35)
    assert connection.websocket.sent == ["beat"] * 3
    await sender.close(connection)
    await asyncio.sleep(35)
    assert connection.websocket.sent == ["beat"] * 3


async def test_heartbeat_continues_when_its_function_raises():
    """If a heartbeat function raises, this is reported, nothing is sent, and the next interval calls it again."""
    calls = []

    def beat():
        calls.append(1)
        if len(calls) == 2:
            raise ValueError("no")
        return f"beat {len(calls)}"

    sender = SenderLife(heartbeat=(beat, 10))
    connection = await sender.open()
    await asyncio.sleep(35)
    assert connection.websocket.sent == ["beat 1", "beat 3"]
    assert [event.handler for event in of_kind(CallbackFailed, sender.wiring.seen)] == ["the heartbeat's message"]
    await sender.close(connection)
