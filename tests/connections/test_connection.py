"""One open websocket: read to its end, sent to in time, closed or aborted."""

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
from rxws.connections.connection import Connection, abort_websocket, check_websocket
from rxws.connections.failures import Failure
from rxws.connections.rate_limit import SlidingWindow
from rxws.connections.send_queue import Priority, PrioritySendQueue
from rxws.reporting.reporter import Reporter
from rxws.testing import FeedServer
from tests.support.life import ScriptedWebsocket
from tests.support.wiring import never_asked

ROTATION = Failure("rotation", "a planned rotation")
NETWORK = Failure("network", "it broke")

in_virtual_time = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


class Opened:
    """A connection that is being read, and what came of it."""

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
        """Receive all that comes."""
        async for frame in self.websocket:
            await receive(frame)

    async def receive(self, frame):
        """Keep a frame."""
        self.received.append(frame)

    def limit_sends(self, window):
        """Send from now on never more than the window allows."""
        self.connection.send_queue = PrioritySendQueue(asyncio.get_running_loop(), window)

    async def ended(self):
        """Wait for the end, as a rotation does, and return why."""
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
    """A connection over a scripted websocket that shows no transport, as picows'."""
    yield (opened := Opened(ScriptedWebsocket(transport=False)))
    opened.websocket.end()
    await opened.ended()


async def never():
    """Wait for ever, and heed the cancellation."""
    await asyncio.get_running_loop().create_future()


# What a websocket is


@in_virtual_time
async def test_check_websocket_takes_what_has_the_api():
    """Whatever can be iterated, sent to and closed is a websocket."""
    websocket = ScriptedWebsocket()
    assert check_websocket(websocket, "_create_ws") is websocket


def test_check_websocket_refuses_what_has_not():
    """The error names who gave it, what it is, and what it lacks."""
    with pytest.raises(TypeError, match=r"^_create_ws must .*, not NoneType without __aiter__, send, close$"):
        check_websocket(None, "_create_ws")


async def test_check_websocket_suspects_a_missing_await():
    """What could be awaited was probably meant to be."""
    connecting = never()
    with pytest.raises(TypeError, match=r"not coroutine .* \(is an 'await' missing\?\)$"):
        check_websocket(connecting, "connect")
    connecting.close()


@in_virtual_time
async def test_abort_websocket_cuts_the_transport():
    """A connection with a transport is cut, not closed."""
    websocket = ScriptedWebsocket()
    abort_websocket(websocket)
    assert (websocket.transport.aborted, websocket.closes) == (1, 0)


@in_virtual_time
@pytest.mark.parametrize("error", [None, OSError("broken"), TypeError("a bug")])
async def test_abort_websocket_without_a_transport_closes(error):
    """A connection without one is left to its own ``close``, whatever that raises."""

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
    """A ``close`` that nobody waits for is cancelled after half a minute."""
    websocket = ScriptedWebsocket(transport=False)
    websocket.on_close = never
    abort_websocket(websocket)
    await asyncio.sleep(29)
    assert len(asyncio.all_tasks()) == 2
    await asyncio.sleep(2)
    assert len(asyncio.all_tasks()) == 1


# Reading


@in_virtual_time
async def test_reader_reads_what_came_before_the_end(opened):
    """The end of a connection comes after all its frames."""
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
async def test_reader_tells_why_it_ended(opened, end, reason, code):
    """The reader's result is what is known of the end: a silent one, too."""
    before = time.time()
    end(opened.websocket)
    failure = await opened.ended()
    assert (failure.reason, failure.code) == (reason, code)
    assert opened.connection.ended_at >= before - 1
    assert opened.websocket.closes == 0


@in_virtual_time
async def test_reader_closes_what_it_cannot_go_on_reading():
    """Where reading ends with an error of the program's own, the connection is cut, and the error is named."""

    async def receive(frame):
        len(frame)

    opened = Opened(ScriptedWebsocket(), receive)
    opened.websocket.come(7)
    failure = await opened.ended()
    assert failure.reason == "internal"
    assert "TypeError" in failure.cause
    assert opened.websocket.transport.aborted == 1


@in_virtual_time
async def test_reader_when_the_iteration_was_cancelled_by_somebody_else(opened):
    """A CancelledError that comes out of the websocket, and that nobody asked for, is the end of that connection."""
    opened.websocket.end(asyncio.CancelledError())
    failure = await opened.ended()
    assert (failure.reason, failure.cause) == ("network", "CancelledError")


@in_virtual_time
@pytest.mark.parametrize("transport", [True, False])
async def test_reader_when_it_is_cancelled_itself(transport):
    """A loop that is torn down cancels the reader, which cuts the transport, begins no task and stays cancelled."""
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
    """What is sent is handed to the websocket as it is."""
    await opened.connection.send("a", 1)
    await opened.connection.send(b"b", 0)
    assert opened.websocket.sent == ["a", b"b"]


@in_virtual_time
async def test_send_when_the_peer_takes_nothing(opened):
    """``send`` raises at its timeout, and the connection is cut and lost for that reason."""
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
    """What the websocket raises is the cause of a SendFailed, and no verdict on the connection."""

    def fail(_):
        raise error

    opened.websocket.on_send = fail
    with pytest.raises(SendFailed) as caught:
        await opened.connection.send("a", 2)
    assert caught.value.__cause__ is error
    assert opened.connection.is_live


@in_virtual_time
async def test_send_when_it_is_cancelled(opened):
    """A send that is cancelled stays cancelled, and the connection lives."""
    opened.websocket.on_send = lambda _: never()
    sending = asyncio.create_task(opened.connection.send("a", 2))
    await asyncio.sleep(1)
    sending.cancel()
    await asyncio.wait({sending})
    assert sending.cancelled()
    assert opened.connection.is_live


@in_virtual_time
async def test_send_soon_sends_in_order(opened):
    """What is sent in the background goes out in the order of the calls."""
    for n in range(10):
        opened.connection.send_soon(str(n), 1)
    await asyncio.sleep(0.1)
    assert opened.websocket.sent == [str(n) for n in range(10)]


@in_virtual_time
async def test_send_soon_when_it_fails_on_a_live_connection(opened):
    """A background send that fails although the connection lives is reported: nobody else would tell."""

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
    """A background send that fails with its connection is not reported apart from it."""
    opened.websocket.end()
    opened.connection.send_soon("late", 1)
    await opened.ended()
    await asyncio.sleep(0.1)
    assert opened.events == []


@in_virtual_time
async def test_send_in_turn_where_sending_is_limited(opened, virtual_time):
    """A limit puts off what is too much; a higher priority goes first, and the wait counts for the timeout."""
    opened.limit_sends(SlidingWindow(2, 1.0))
    for n in range(3):
        opened.connection.send_soon(f"normal {n}", 5)
    opened.connection.send_soon("pong", 5, Priority.HIGH)
    await asyncio.sleep(0.01)
    with pytest.raises(SendTimeout, match=r"not the message's turn for 0\.5 s: it was not sent"):
        await opened.connection.send("too late", 0.5)
    await asyncio.sleep(2)
    assert opened.websocket.sent == ["normal 0", "normal 1", "pong", "normal 2"]
    assert opened.connection.is_live


@in_virtual_time
async def test_turn_that_is_taken_or_given_back(opened, virtual_time):
    """Whoever has taken a turn sends in it, or leaves it to the next; without a limit it is always anybody's turn."""
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
async def test_turn_that_never_comes_because_the_connection_is_lost(opened, virtual_time):
    """Who waits for a turn when the connection ends is told that nothing was sent."""
    opened.limit_sends(SlidingWindow(1, 1000.0))
    await opened.connection.send("first", 5)
    waiting = asyncio.create_task(opened.connection.send("second", 500))
    await asyncio.sleep(1)
    opened.websocket.end()
    await opened.ended()
    with pytest.raises(SendFailed, match="it was not sent"):
        await waiting


# Answers


# The end


@in_virtual_time
async def test_is_live_until_the_end_is_known(opened):
    """A connection is live until it is known to be closing, or was read to its end."""
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
async def test_end_cancels_what_lives_no_longer_than_the_connection(opened):
    """Tasks that were kept end with the connection."""
    kept, done = asyncio.create_task(never()), asyncio.create_task(asyncio.sleep(0))
    opened.connection.track(kept)
    opened.connection.track(done)
    await asyncio.sleep(0.1)
    assert not kept.done()
    opened.websocket.end()
    await opened.ended()
    await asyncio.wait({kept})
    assert kept.cancelled()


@in_virtual_time
async def test_lose_ends_the_connection_for_the_first_reason(opened):
    """The first verdict holds, and after the end there is none."""
    opened.connection.fail(NETWORK)
    opened.connection.fail(ROTATION)
    assert await opened.ended() is NETWORK
    opened.connection.fail(ROTATION)
    assert opened.connection.failure is NETWORK
    assert opened.websocket.transport.aborted == 2


@in_virtual_time
async def test_abort_lets_the_reader_deliver_what_had_come(opened):
    """What came before the cut is still received."""
    opened.websocket.come("a", "b")
    opened.connection.abort()
    await opened.ended()
    assert opened.received == ["a", "b"]
    opened.connection.abort()
    assert opened.websocket.transport.aborted == 1


@in_virtual_time
async def test_abort_when_the_reader_does_not_end(virtual_time):
    """A reader that waits for something else, or whose transport cannot be cut, is cancelled soon after."""
    opened = Opened(ScriptedWebsocket(), lambda _: never())
    opened.websocket.come("a")
    await asyncio.sleep(0.1)
    opened.connection.fail(NETWORK)
    opened.connection.abort()
    assert await opened.ended() is NETWORK
    assert virtual_time.time() == pytest.approx(0.35, abs=0.01)


@in_virtual_time
async def test_abort_without_a_transport(bare, virtual_time):
    """Where there is no transport, the reader ends at once, and the websocket is closed once, however long it takes."""
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
    """What the peer sends before it answers the close is received."""

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
    """A peer that does not come to its end is cut at the timeout; what it sent until then is received."""

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
    """A connection that cannot be cut is abandoned at the timeout."""
    bare.websocket.on_close = lambda: asyncio.sleep(10)
    await bare.connection.close(ROTATION, 1)
    assert bare.connection.failure is ROTATION
    assert virtual_time.time() == pytest.approx(1, abs=0.01)
    assert bare.websocket.closes == 1
    await asyncio.sleep(10)


@in_virtual_time
async def test_close_that_raises(opened, virtual_time):
    """A ``close`` that raises changes nothing: the connection is cut at the timeout."""

    def close():
        raise RuntimeError("a bug")

    opened.websocket.on_close = close
    await opened.connection.close(ROTATION, 1)
    assert opened.connection.failure is ROTATION
    assert virtual_time.time() == pytest.approx(1, abs=0.01)


@in_virtual_time
async def test_close_when_it_is_cancelled(opened):
    """Cancelling a close cuts the connection; a second close goes on with the first one's."""
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
    """Two who close at once wait for one and the same close."""
    opened.websocket.on_close = lambda: asyncio.sleep(0.5)
    await asyncio.gather(opened.connection.close(ROTATION, 1), opened.connection.close(NETWORK, 1))
    assert opened.connection.failure is ROTATION
    assert opened.websocket.closes == 1


@in_virtual_time
async def test_close_when_a_parse_hook_heeds_nothing(virtual_time):
    """A reader that cannot be ended holds nobody up: it is given up, and what it delivers later goes nowhere."""
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
