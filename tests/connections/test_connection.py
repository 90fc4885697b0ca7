"""One open websocket with its reader: reading, sending with a timeout, closing, aborting."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time

import picows.websockets
import pytest
import websockets
from websockets.exceptions import ConnectionClosedError

from rxws import CallbackFailed, SendFailed, SendTimeout
from rxws.connections.connection import Connection
from rxws.connections.failures import Failure
from rxws.connections.send_queue import Priority, PrioritySendQueue
from rxws.rate_limit import SlidingWindow
from rxws.reporting.reporter import Reporter
from rxws.testing import FeedServer
from tests.support.life import ScriptedWebsocket
from tests.support.wiring import never_asked

ROTATION = Failure("rotation", "a planned rotation")
NETWORK = Failure("network", "it broke")

in_virtual_time = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


class Opened:
    """A connection with a running reader, and the frames and events that it received."""

    def __init__(self, websocket, receive=None):
        loop = asyncio.get_running_loop()
        self.events = []
        self.received = []
        self.websocket = websocket
        reporter = Reporter(loop, "feed")
        reporter.publish = self.events.append
        self.connection = Connection(websocket, 1, loop, reporter, never_asked)
        self.connection.start(functools.partial(self.read, receive or self.receive))

    async def read(self, receive):
        """Receive all frames."""
        async for frame in self.websocket:
            await receive(frame)

    async def receive(self, frame):
        """Keep a frame."""
        self.received.append(frame)

    def limit_sends(self, window):
        """Limit the rate of sending."""
        self.connection.send_queue = PrioritySendQueue(asyncio.get_running_loop(), window)

    async def ended(self):
        """Wait for the end, as an opener does, and return the failure."""
        await asyncio.wait({self.connection.reader})
        self.connection.end()
        return self.connection.failure


@pytest.fixture
async def opened():
    """A connection over a scripted websocket with a transport."""
    yield (opened := Opened(ScriptedWebsocket()))
    opened.websocket.end()
    await opened.ended()


@pytest.fixture
async def bare():
    """A connection over a scripted websocket without a transport, as those of picows."""
    yield (opened := Opened(ScriptedWebsocket(transport=False)))
    opened.websocket.end()
    await opened.ended()


async def never():
    """Wait forever, until cancelled."""
    await asyncio.get_running_loop().create_future()


# Reading


@in_virtual_time
async def test_reader_reads_what_arrived_before_the_end(opened):
    """The reader reads all frames that arrived before the end."""
    opened.websocket.come("a", "b")
    opened.websocket.end()
    await opened.ended()
    assert opened.received == ["a", "b"]


@in_virtual_time
@pytest.mark.parametrize(
    ("end", "reason", "code"),
    [
        (lambda websocket: websocket.close_by_server(1000), "server", 1000),
        (lambda websocket: websocket.close_by_server(1012, "restart"), "server", 1012),
        (lambda websocket: websocket.end(), "network", None),
        (lambda websocket: websocket.end(OSError("broken")), "network", None),
    ],
    ids=["closed", "closed with an error", "cut", "broken"],
)
async def test_reader_returns_why_the_connection_ended(opened, end, reason, code):
    """The reader returns the failure, even if the iteration ended without an exception."""
    before = time.time()
    end(opened.websocket)
    failure = await opened.ended()
    assert (failure.reason, failure.code) == (reason, code)
    assert opened.connection.ended_at >= before - 1
    assert opened.websocket.closes == 0


@in_virtual_time
async def test_reader_aborts_the_connection_when_reading_raises():
    """If reading raises an error of the program, the connection is aborted and the failure names the error."""

    async def receive(frame):
        len(frame)

    opened = Opened(ScriptedWebsocket(), receive)
    opened.websocket.come(7)
    failure = await opened.ended()
    assert failure.reason == "internal"
    assert "TypeError" in failure.cause
    assert opened.websocket.transport.aborted == 1


@in_virtual_time
async def test_reader_when_the_iteration_raises_a_cancelled_error(opened):
    """A CancelledError that the websocket raises, while no task is cancelled, ends only the connection."""
    opened.websocket.end(asyncio.CancelledError())
    failure = await opened.ended()
    assert (failure.reason, failure.cause) == ("network", "CancelledError")


@in_virtual_time
@pytest.mark.parametrize("transport", [True, False])
async def test_reader_when_it_is_cancelled_itself(transport):
    """When its loop is torn down, the cancelled reader aborts the transport, starts no task and stays cancelled."""
    opened = Opened(ScriptedWebsocket(transport=transport))
    await asyncio.sleep(0.1)
    opened.connection.reader.cancel()
    await asyncio.wait({opened.connection.reader})
    assert opened.connection.reader.cancelled()
    assert opened.websocket.closes == 0
    assert opened.websocket.is_open is not transport


@pytest.mark.parametrize("connect", [websockets.connect, picows.websockets.connect], ids=["websockets", "picows"])
async def test_reader_reads_both_libraries(connect, assert_no_leaks):
    """Connections of websockets and of picows are read to their end, and closed from either side."""
    async with FeedServer() as server:
        opened = Opened(await connect(server.url))
        await server.connected()
        await server.send("a", b"b")
        await server.close(4000, "enough")
        failure = await opened.ended()
        assert opened.received == ["a", b"b"]
        assert (failure.reason, failure.code, failure.cause) == (
            "server",
            4000,
            "the server closed with 4000 (private use): enough",
        )
        opened = Opened(await connect(server.url))
        await server.connected(2)
        await opened.connection.close(ROTATION, 5)
        assert await opened.ended() is ROTATION


# Sending


@in_virtual_time
async def test_send_hands_the_payload_over(opened):
    """The payload goes to the websocket unchanged."""
    await opened.connection.send("a", 1)
    await opened.connection.send(b"b", 0)
    assert opened.websocket.sent == ["a", b"b"]


@in_virtual_time
async def test_send_when_the_peer_takes_nothing(opened):
    """At its timeout ``send`` raises and aborts the connection, whose failure is that timeout."""
    opened.websocket.on_send = lambda _: never()
    loop = asyncio.get_running_loop()
    with pytest.raises(SendTimeout, match=r"the peer took nothing for 2 s: the connection was aborted"):
        await opened.connection.send("a", 2)
    assert loop.time() == pytest.approx(2, abs=0.01)
    assert opened.websocket.transport.aborted == 1
    failure = await opened.ended()
    assert (failure.reason, failure.cause) == ("network", "the peer took nothing for 2 s")


@in_virtual_time
@pytest.mark.parametrize(
    "error", [ConnectionClosedError(None, None), TimeoutError("its own"), ValueError("surrogates")]
)
async def test_send_when_it_fails(opened, error):
    """If the websocket raises, ``send`` raises SendFailed with that cause, and the connection stays open."""

    def fail(_):
        raise error

    opened.websocket.on_send = fail
    with pytest.raises(SendFailed) as caught:
        await opened.connection.send("a", 2)
    assert caught.value.__cause__ is error
    assert opened.connection.is_live


@in_virtual_time
async def test_send_when_it_is_cancelled(opened):
    """A cancelled send raises CancelledError, and the connection stays open."""
    opened.websocket.on_send = lambda _: never()
    sending = asyncio.create_task(opened.connection.send("a", 2))
    await asyncio.sleep(1)
    sending.cancel()
    await asyncio.wait({sending})
    assert sending.cancelled()
    assert opened.connection.is_live


@in_virtual_time
async def test_send_soon_sends_in_order(opened):
    """Messages that are sent in the background are sent in the order of the calls."""
    for n in range(10):
        opened.connection.send_soon(str(n), 1)
    await asyncio.sleep(0.1)
    assert opened.websocket.sent == [str(n) for n in range(10)]


@in_virtual_time
async def test_send_soon_when_it_fails_on_a_live_connection(opened):
    """A background send that fails while the connection lives is reported."""

    def fail(_):
        raise ValueError("surrogates not allowed")

    opened.websocket.on_send = fail
    opened.connection.send_soon("\ud800", 1)
    await asyncio.sleep(0.1)
    (event,) = opened.events
    assert isinstance(event, CallbackFailed)
    assert event.handler == "rxws send 1"
    assert isinstance(event.error, SendFailed)


@in_virtual_time
async def test_send_soon_when_the_connection_is_lost(opened):
    """A background send that fails because the connection is lost is not reported separately."""
    opened.websocket.end()
    opened.connection.send_soon("late", 1)
    await opened.ended()
    await asyncio.sleep(0.1)
    assert opened.events == []


@in_virtual_time
async def test_send_waits_for_a_slot_when_sending_is_limited(opened, virtual_time):
    """Messages beyond the limit wait; a higher priority goes first; the wait counts against the timeout."""
    opened.limit_sends(SlidingWindow(2, 1.0))
    for n in range(3):
        opened.connection.send_soon(f"normal {n}", 5)
    opened.connection.send_soon("pong", 5, Priority.HIGH)
    await asyncio.sleep(0.01)
    with pytest.raises(SendTimeout, match=r"the message was queued for 0\.5 s and was not sent"):
        await opened.connection.send("too late", 0.5)
    await asyncio.sleep(2)
    assert opened.websocket.sent == ["normal 0", "normal 1", "pong", "normal 2"]
    assert opened.connection.is_live


@in_virtual_time
async def test_slot_when_it_is_used_or_released(opened, virtual_time):
    """A slot that is not used can be released to the next sender; without a limit a slot is always free."""
    await opened.connection.acquire_slot(Priority.NORMAL)
    opened.connection.release_slot()
    opened.limit_sends(SlidingWindow(1, 1.0))
    await opened.connection.acquire_slot(Priority.NORMAL)
    opened.connection.send_soon("next", 5)
    await asyncio.sleep(3)
    assert opened.websocket.sent == []
    opened.connection.release_slot()
    await asyncio.sleep(0.01)
    assert opened.websocket.sent == ["next"]
    await asyncio.sleep(2)
    await opened.connection.acquire_slot(Priority.NORMAL)
    await opened.connection.send("mine", 5, None)
    assert opened.websocket.sent == ["next", "mine"]


@in_virtual_time
async def test_slot_when_the_connection_is_lost(opened, virtual_time):
    """If the connection ends while a sender waits for a slot, the error says that the message was not sent."""
    opened.limit_sends(SlidingWindow(1, 1000.0))
    await opened.connection.send("first", 5)
    waiting = asyncio.create_task(opened.connection.send("second", 500))
    await asyncio.sleep(1)
    opened.websocket.end()
    await opened.ended()
    with pytest.raises(SendFailed, match="the message was not sent"):
        await waiting


# The end


@in_virtual_time
async def test_is_live_until_the_end_is_known(opened):
    """A connection is live until its close is known, or until it was read to its end."""
    assert opened.connection.is_live
    opened.websocket.state = 2
    assert not opened.connection.is_live
    del opened.websocket.state
    assert opened.connection.is_live
    opened.websocket.end()
    await opened.ended()
    del opened.websocket.state
    assert not opened.connection.is_live


@in_virtual_time
async def test_end_cancels_the_tasks_of_the_connection(opened):
    """The tasks that belong to a connection are cancelled when the connection ends."""
    kept = opened.connection.run(never(), "kept")
    opened.connection.run(asyncio.sleep(0), "done")
    await asyncio.sleep(0.1)
    assert not kept.done()
    opened.websocket.end()
    await opened.ended()
    await asyncio.wait({kept})
    assert kept.cancelled()


@in_virtual_time
async def test_fail_keeps_the_first_failure(opened):
    """The first failure of a connection is kept, even after its end."""
    opened.connection.fail(NETWORK)
    opened.connection.fail(ROTATION)
    assert await opened.ended() is NETWORK
    opened.connection.fail(ROTATION)
    assert opened.connection.failure is NETWORK
    assert opened.websocket.transport.aborted == 2


@in_virtual_time
async def test_abort_lets_the_reader_deliver_the_frames_that_had_arrived(opened):
    """Frames that arrived before the abort are still received."""
    opened.websocket.come("a", "b")
    opened.connection.abort()
    await opened.ended()
    assert opened.received == ["a", "b"]
    opened.connection.abort()
    assert opened.websocket.transport.aborted == 1


@in_virtual_time
async def test_abort_when_the_reader_does_not_end(virtual_time):
    """A reader that does not end after the abort is cancelled 0.25 s later."""
    opened = Opened(ScriptedWebsocket(), lambda _: never())
    opened.websocket.come("a")
    await asyncio.sleep(0.1)
    opened.connection.fail(NETWORK)
    opened.connection.abort()
    assert await opened.ended() is NETWORK
    assert virtual_time.time() == pytest.approx(0.35, abs=0.01)


@in_virtual_time
async def test_abort_without_a_transport(bare, virtual_time):
    """Without a transport the reader ends at once, and the websocket is closed once in the background."""
    bare.websocket.on_close = lambda: asyncio.sleep(10)
    await asyncio.sleep(0.1)
    bare.connection.fail(NETWORK)
    bare.connection.abort()
    assert await bare.ended() is NETWORK
    assert virtual_time.time() == pytest.approx(0.1, abs=0.01)
    assert bare.websocket.closes == 1
    await asyncio.sleep(10)


@in_virtual_time
async def test_close_reads_to_the_end(opened, virtual_time):
    """Frames that the peer sends before it answers the close are received."""

    async def close():
        for n in range(3):
            await asyncio.sleep(0.1)
            opened.websocket.come(n)
        opened.websocket.end(StopAsyncIteration())

    opened.websocket.on_close = close
    await opened.connection.close(ROTATION, 1)
    assert opened.received == [0, 1, 2]
    assert opened.connection.failure is ROTATION
    assert virtual_time.time() == pytest.approx(0.3, abs=0.01)
    await opened.connection.close(NETWORK, 1)
    assert opened.connection.failure is ROTATION
    assert opened.websocket.closes == 1


@in_virtual_time
async def test_close_when_the_peer_answers_late_and_sends_on(opened, virtual_time):
    """A peer that keeps sending is aborted at the timeout; its frames until then are received."""

    async def close():
        for n in range(100):
            await asyncio.sleep(0.1)
            opened.websocket.come(n)

    opened.websocket.on_close = close
    await opened.connection.close(ROTATION, 1)
    assert opened.received in (list(range(9)), list(range(10)))
    assert virtual_time.time() == pytest.approx(1, abs=0.01)
    assert opened.websocket.transport.aborted == 1
    await asyncio.sleep(10)


@in_virtual_time
async def test_close_without_a_transport_when_the_peer_does_not_answer(bare, virtual_time):
    """A connection without a transport is given up at the timeout."""
    bare.websocket.on_close = lambda: asyncio.sleep(10)
    await bare.connection.close(ROTATION, 1)
    assert bare.connection.failure is ROTATION
    assert virtual_time.time() == pytest.approx(1, abs=0.01)
    assert bare.websocket.closes == 1
    await asyncio.sleep(10)


@in_virtual_time
async def test_close_that_raises(opened, virtual_time):
    """If ``close`` raises, the connection is still aborted at the timeout."""

    def close():
        raise RuntimeError("a bug")

    opened.websocket.on_close = close
    await opened.connection.close(ROTATION, 1)
    assert opened.connection.failure is ROTATION
    assert virtual_time.time() == pytest.approx(1, abs=0.01)


@in_virtual_time
async def test_close_when_it_is_cancelled(opened):
    """Cancelling a close aborts the connection; a second close shares the websocket's ``close``."""
    opened.websocket.on_close = never
    closing = asyncio.create_task(opened.connection.close(ROTATION, 5))
    await asyncio.sleep(1)
    closing.cancel()
    await asyncio.wait({closing})
    assert opened.websocket.transport.aborted == 1
    await opened.connection.close(NETWORK, 5)
    assert opened.connection.failure is ROTATION
    assert opened.websocket.closes == 1
    await asyncio.sleep(30)


@in_virtual_time
async def test_close_twice_at_once(opened):
    """Two concurrent calls share one ``close`` of the websocket."""
    opened.websocket.on_close = lambda: asyncio.sleep(0.5)
    await asyncio.gather(opened.connection.close(ROTATION, 1), opened.connection.close(NETWORK, 1))
    assert opened.connection.failure is ROTATION
    assert opened.websocket.closes == 1


@in_virtual_time
async def test_close_when_a_parse_hook_ignores_cancellation(virtual_time):
    """A reader that does not end is abandoned, and its later messages are discarded."""
    released = asyncio.Event()
    delivered = []

    async def stubborn(frame):
        while not released.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await released.wait()
        opened.connection.inbound.sink(frame, frame, 0)

    opened = Opened(ScriptedWebsocket(), stubborn)
    opened.connection.inbound.deliver(lambda *frame: delivered.append(frame))
    opened.websocket.come("a")
    await asyncio.sleep(0)
    await opened.connection.close(ROTATION, 1)
    assert virtual_time.time() == pytest.approx(1.5, abs=0.01)
    assert not opened.connection.reader.done()
    assert opened.connection.failure is ROTATION
    assert opened.connection.ended_at > 0
    released.set()
    assert await opened.ended() is ROTATION
    assert delivered == []
