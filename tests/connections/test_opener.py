"""Opening a connection: attempts, retries, the messages sent first, silence, and giving up."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import pytest

from rxws import Connected, ConnectFailed, Disconnected, Gap, Overflowed, Quiet, State
from rxws.connections import loss_reporter
from tests.support.life import ScriptedFeed, ScriptedWebsocket
from tests.support.opening import REFUSED, Followed, connecting, delays, never, now, status, stubborn

in_virtual_time = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


# Opening


@in_virtual_time
async def test_opening_reports_and_delivers():
    """The first connection is reported before its messages are delivered."""
    async with ScriptedFeed() as feed:
        event = await feed.record.happened(Connected)
        feed.websocket.come("a", "b")
        await feed.record.received(2)
        assert (event.number, event.attempt) == (1, 1)
        assert feed.record.messages == ["a", "b"]
    assert feed.record.states == [State.CONNECTING, State.CONNECTED, State.CLOSED]
    assert feed.record.reasons == ["user"]


@in_virtual_time
async def test_hook_runs_to_its_first_suspension_before_the_first_message():
    """A stream that is made in the rotation hook gets the first message of the connection."""
    got = []

    async def wait_rotation_due():
        async for messages in feed.stream_filter().batches():
            got.extend(messages)

    websocket = ScriptedWebsocket()
    websocket.come("first", "second")
    async with ScriptedFeed(websocket, wait_rotation_due=wait_rotation_due) as feed:
        await feed.record.received(2)
        await asyncio.sleep(0.01)
        assert got == ["first", "second"]


@in_virtual_time
async def test_opening_is_retried_with_delays():
    """Each failed attempt is reported with the delay until the next attempt; during the delay the state is WAITING."""
    async with ScriptedFeed(REFUSED, status(503), reconnect_delays=delays(0, 1, 2)) as feed:
        event = await feed.record.happened(Connected)
        assert (now(), event.attempt) == (1, 3)
        first, second = feed.record.of(Disconnected)
        assert (first.number, first.reason, first.delay) == (None, "network", 0)
        assert (second.number, second.reason, second.delay) == (None, "handshake", 1)
        assert feed.record.states == [State.CONNECTING, State.WAITING, State.CONNECTING]
        assert feed.record.of(Gap) == []


@in_virtual_time
async def test_opening_ends_the_feed_when_the_failure_is_fatal():
    """A fatal failure ends the feed and its streams with an error that has its cause."""
    error = status(404)
    feed = ScriptedFeed(error)
    stream = feed.stream_filter()
    with pytest.raises(ConnectFailed, match=r"404.* \(gave up after 1 attempt\)") as caught:
        await feed.wait_closed()
    assert (caught.value.status, caught.value.attempt, caught.value.__cause__) == (404, 1, error)
    with pytest.raises(ConnectFailed):
        await anext(stream)
    assert feed.record.states == [State.CONNECTING, State.FAILED]
    assert feed.record.of(Disconnected)[0].delay is None


@in_virtual_time
async def test_opening_ends_when_the_delays_do():
    """A feed gives up when ``reconnect_delays`` is exhausted."""
    feed = ScriptedFeed(*[REFUSED] * 9, reconnect_delays=lambda: [0, 0, 0])
    with pytest.raises(ConnectFailed, match="gave up after 4 attempts"):
        await feed.wait_closed()


@in_virtual_time
async def test_opening_when_the_delays_raise():
    """An exception of ``reconnect_delays`` is logged and ends the feed."""

    def broken():
        raise ZeroDivisionError("a bug")

    feed = ScriptedFeed(REFUSED, reconnect_delays=broken)
    with pytest.raises(ConnectFailed, match="the rotation failed: ZeroDivisionError"):
        await feed.wait_closed()


@in_virtual_time
async def test_opening_that_takes_too_long_is_retried():
    """The opening hook is cancelled after ``open_timeout``, and called again."""
    async with ScriptedFeed(never, open_timeout=3) as feed:
        await feed.record.happened(Connected)
        (event,) = feed.record.of(Disconnected)
        assert (now(), event.reason, event.cause) == (3, "network", "TimeoutError: _create_ws took longer than 3 s")


@in_virtual_time
@pytest.mark.parametrize("is_function", [False, True])
async def test_opening_that_takes_too_long_names_the_address(is_function, caplog):
    """The error names the address without its secrets, and not the hook, which the user did not write."""

    async def connect(_url):
        await never()

    url = "ws://me:hunter2@feed.example/stream?token=5ecre7"
    async with Followed((lambda: url) if is_function else url, connect=connect, open_timeout=3) as feed:
        event = await feed.record.happened(Disconnected)
        assert event.cause == "TimeoutError: connecting to ws://***@feed.example/stream?token=*** took longer than 3 s"
    assert "_create_ws" not in caplog.text


@in_virtual_time
async def test_opening_that_takes_too_long_to_find_its_address():
    """If a function that returns the URL takes too long, the error says that the URL comes from a function."""
    async with Followed(never, connect=connecting(), open_timeout=3) as feed:
        event = await feed.record.happened(Disconnected)
        assert event.cause == "TimeoutError: connecting to the URL that a function returns took longer than 3 s"


@in_virtual_time
async def test_opening_that_takes_too_long_names_a_hook_that_the_user_wrote():
    """The error names the hook if a subclass opens the connections itself."""

    class Own(Followed):
        async def _create_ws(self):
            await never()

    async with Own("ws://localhost", open_timeout=3) as feed:
        event = await feed.record.happened(Disconnected)
        assert event.cause == "TimeoutError: _create_ws took longer than 3 s"


@in_virtual_time
async def test_opening_is_given_up_when_the_hook_ignores_cancellation(caplog):
    """A hook that ignores cancellation delays the feed by one second; a connection that it opens later is aborted."""
    late, until = ScriptedWebsocket(), asyncio.get_running_loop().create_future()

    async def hangs():
        await stubborn(until)
        return late

    async def hangs_and_raises():
        await stubborn(until)
        raise REFUSED

    async with ScriptedFeed(hangs, hangs_and_raises, open_timeout=3, reconnect_delays=delays(0)) as feed:
        await feed.record.happened(Connected)
        assert now() == 8
        assert "_create_ws ignores its cancellation" in caplog.text
        until.set_result(None)
        await asyncio.sleep(0.01)
        assert late.transport.aborted == 1
        assert feed.record.reasons == ["network", "network"]


@in_virtual_time
async def test_opening_when_the_hook_raises_a_cancelled_error():
    """A CancelledError of the hook itself is a failure like any other."""
    async with ScriptedFeed(asyncio.CancelledError()) as feed:
        await feed.record.happened(Connected)
        assert feed.record.reasons == ["handshake"]


@in_virtual_time
async def test_feed_fails_when_the_task_that_opens_connections_is_cancelled():
    """If other code cancels the task that opens connections, the feed fails, since it could not reconnect any more."""
    feed = ScriptedFeed(REFUSED, reconnect_delays=delays(5))
    await feed.record.happened(Disconnected)
    (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "rxws handover"]
    task.cancel()
    with pytest.raises(ConnectFailed, match="other code cancelled a task of the feed"):
        await feed.wait_closed()


@in_virtual_time
async def test_opening_when_the_hook_raises_generator_exit():
    """A GeneratorExit of the hook is a failure like any other, and the feed retries."""

    async def leave():
        raise GeneratorExit

    async with ScriptedFeed(leave) as feed:
        await feed.record.happened(Connected)
        (event,) = feed.record.of(Disconnected)
        assert event.cause == "RuntimeError: the opening hook raised GeneratorExit"


@in_virtual_time
@pytest.mark.parametrize("turns", range(6))
async def test_exit_at_the_moment_of_opening_leaves_no_connection(turns):
    """A connection that opens while the feed closes is aborted, whichever comes first."""
    opened, websocket = asyncio.get_running_loop().create_future(), ScriptedWebsocket()

    async def opening():
        await asyncio.shield(opened)
        return websocket

    feed = ScriptedFeed(opening)
    await asyncio.sleep(0.1)
    opened.set_result(None)
    for _ in range(turns):
        await asyncio.sleep(0)
    await feed.exit()
    assert not websocket.is_open or websocket not in feed.websockets
    if websocket in feed.websockets:
        assert websocket.transport.aborted + websocket.closes > 0
    assert feed.record.states[-1] is State.CLOSED


@in_virtual_time
async def test_exit_when_the_opening_hook_swallows_the_cancellation():
    """A connection that the hook returns after its cancellation is aborted."""
    websocket = ScriptedWebsocket()

    async def opening():
        with contextlib.suppress(asyncio.CancelledError):
            await never()
        return websocket

    feed = ScriptedFeed(opening)
    await asyncio.sleep(0.1)
    await feed.exit()
    await asyncio.sleep(0)
    assert websocket.transport.aborted == 1
    assert feed.record.of(Connected) == []


@in_virtual_time
async def test_create_ws_that_returns_no_connection():
    """A hook that returns no connection is a bug, which is fatal before the first success."""

    async def nothing():
        return None

    feed = ScriptedFeed(nothing)
    with pytest.raises(ConnectFailed, match="_create_ws must return an open connection"):
        await feed.wait_closed()


@in_virtual_time
async def test_opening_fails_when_the_first_messages_cannot_be_sent():
    """If the first message cannot be sent on a connection, the connection is closed with that cause and replaced."""
    refusing = ScriptedWebsocket()
    refusing.on_send = lambda _: never()
    options = {"on_open": ["subscribe"], "send_timeout": 2, "reconnect_delays": delays(0)}
    async with Followed("ws://localhost", connect=connecting(refusing, ScriptedWebsocket()), **options) as feed:
        event = await feed.record.happened(Connected)
        assert (now(), event.number) == (2, 2)
        assert not refusing.is_open
        assert set(feed.record.reasons) == {"network"}
        assert "took nothing for 2 s" in feed.record.of(Disconnected)[0].cause
        assert feed.record.of(Gap) == []


@in_virtual_time
async def test_opening_when_the_connection_is_lost_as_soon_as_it_is_prepared():
    """A connection that ends while the first messages are being sent is reported as lost, and the feed reconnects."""
    brief = ScriptedWebsocket()

    def end_while_sending(_):
        brief.end()
        return asyncio.sleep(0.1)

    brief.on_send = end_while_sending
    options = {"on_open": ["subscribe"], "reconnect_delays": delays(0)}
    async with Followed("ws://localhost", connect=connecting(brief, ScriptedWebsocket()), **options) as feed:
        await feed.record.entered(State.CONNECTED)
        assert feed.present_ws is not brief


@in_virtual_time
async def test_exit_while_a_connection_is_prepared():
    """``exit`` cancels the sending of a connection's first messages, too."""
    refusing = ScriptedWebsocket()
    refusing.on_send = lambda _: never()
    feed = Followed("ws://localhost", connect=connecting(refusing), on_open=["subscribe"])
    await asyncio.sleep(1)
    await feed.exit()
    assert not refusing.is_open
    assert now() <= 2
    assert feed.record.reasons == ["user"]


@in_virtual_time
async def test_opening_holds_the_messages_that_arrive_while_it_is_prepared(caplog, monkeypatch):
    """Messages are held while the first ones are sent; beyond the limit the oldest are dropped and counted."""
    monkeypatch.setattr(loss_reporter, "HELD_MAX", 3)
    websocket = ScriptedWebsocket()
    websocket.on_send = lambda _: asyncio.sleep(1)
    websocket.come("1", "2", "3", "4", "5")
    async with Followed("ws://localhost", connect=connecting(websocket), on_open=["subscribe"]) as feed:
        await asyncio.sleep(0.5)
        assert feed.record.messages == []
        await feed.record.happened(Connected)
        await feed.record.received(3)
        assert feed.record.messages == [3, 4, 5]
        assert "connection 1 was full (drop_oldest): 2 messages dropped in all" in caplog.text
        assert feed.statistics().dropped == 2


@in_virtual_time
async def test_opening_counts_the_dropped_messages_until_it_delivers(monkeypatch):
    """Messages that arrive while the connection is reported are held too, and counted if they are dropped."""
    monkeypatch.setattr(loss_reporter, "HELD_MAX", 3)
    websocket = ScriptedWebsocket()
    websocket.on_send = lambda _: asyncio.sleep(1)
    websocket.come("1", "2", "3", "4", "5")
    async with Followed("ws://localhost", connect=connecting(websocket), on_open=["subscribe"]) as feed:
        feed.events.subscribe(lambda event: websocket.come("6", "7") if isinstance(event, Connected) else None)
        await feed.record.received(3)
        assert feed.record.messages == [5, 6, 7]
        assert sum(event.dropped for event in feed.record.of(Overflowed)) == feed.statistics().dropped == 4


@in_virtual_time
async def test_opening_catches_up_with_a_feed_that_is_as_fast_as_its_handlers(virtual_time):
    """Held messages are delivered faster than new ones arrive, and ``send`` does not wait for them."""
    websocket = ScriptedWebsocket()
    websocket.on_send = lambda message: asyncio.sleep(1 if message == "subscribe" else 0)
    numbers = itertools.count()
    websocket.come(*(str(next(numbers)) for _ in range(100)))
    async with Followed("ws://localhost", connect=connecting(websocket), on_open=["subscribe"]) as feed:

        def handle(message):
            virtual_time._selector.clock.advance(0.001)
            if message < 900:
                websocket.come(str(next(numbers)))

        feed.add_handler(handle)
        await feed.send("mine")
        assert (feed.state.value, websocket.sent) == (State.CONNECTING, ["subscribe", "mine"])
        await feed.wait_connected()
        assert len(feed.record.messages) < 900
        await feed.record.received(1_000)
        assert feed.record.messages == list(range(1_000))


@in_virtual_time
async def test_opening_names_the_cause_when_the_first_message_fails(caplog):
    """If a function that returns a first message raises, the exception is the cause of the failure."""

    def broken():
        raise OSError("no key")

    options = {"on_open": [broken], "reconnect_delays": delays(1)}
    async with Followed("ws://localhost", connect=connecting(), **options) as feed:
        await feed.record.happened(Disconnected, 2)
        assert feed.record.of(Connected) == []
        assert all("no key" in event.cause for event in feed.record.of(Disconnected))


# Silence


@in_virtual_time
async def test_idle_connections_are_replaced():
    """Without a message for ``idle_timeout`` seconds the connection is aborted and replaced."""
    async with ScriptedFeed(idle_timeout=5) as feed:
        await feed.record.happened(Connected)
        await asyncio.sleep(4)
        feed.websocket.come("a")
        await feed.record.happened(Connected, 2)
        (event,) = feed.record.of(Disconnected)
        assert (now(), event.reason, event.cause) == (9, "idle", "no message for 5 s")
        assert feed.websockets[0].transport.aborted == 1
        assert feed.record.of(Quiet) == []


@in_virtual_time
async def test_quiet_connections_are_reported(caplog):
    """Without ``idle_timeout`` silence is an event and a warning, and the connection stays."""
    async with ScriptedFeed(name="mine") as feed:
        await feed.record.happened(Quiet, 2, timeout=1000)
        assert [event.seconds for event in feed.record.of(Quiet)] == [60, 120]
        assert feed.websocket.is_open
        assert "mine: connected, but no message for 60 s" in caplog.text
