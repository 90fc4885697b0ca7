"""Mistakes in users' code: clear errors, and a feed that does not stall."""

from __future__ import annotations

import asyncio

import pytest

import rxws
from rxws.connections.connection import Connection
from rxws.connections.send_queue import PrioritySendQueue
from rxws.options import Options
from rxws.rate_limit import SlidingWindow
from rxws.reporting.events import CallbackFailed
from rxws.reporting.reporter import Reporter
from tests.support.wiring import never_asked

from .support.feeds import Feed
from .support.life import ScriptedWebsocket

pytestmark = pytest.mark.usefixtures("virtual_time")


class Strange(BaseException):
    """An exception that is not an Exception, like a panic in compiled code."""


class Forgetful(Feed):
    def __init__(self):
        pass


async def test_missing_call_of_the_base_constructor_raises():
    """A subclass that does not call ``super().__init__()`` gets a RuntimeError that says so."""
    with pytest.raises(RuntimeError, match=r"Forgetful.__init__ must call super\(\).__init__\(\)"):
        async with Forgetful():
            pass
    with pytest.raises(AttributeError, match="nothing"):
        _ = Forgetful().nothing


async def test_unknown_option_is_named_with_the_nearest_known():
    """An unknown option raises TypeError, which suggests the nearest known option."""
    with pytest.raises(TypeError, match=r"Feed\(\) has no option 'idle_timout': did you mean 'idle_timeout'\?"):
        Options.of(Feed, {"idle_timout": 1})
    with pytest.raises(TypeError, match=r"Feed\(\) has no option 'zzzzzz'$"):
        Options.of(Feed, {"zzzzzz": 1})
    with pytest.raises(TypeError, match=r"has no option 'option'$"):
        Options.of(rxws.ReactiveWebSocket, {"option": 1})


async def test_context_manager_as_url_is_refused():
    """A server whose ``async with`` is missing is refused as a URL."""
    with pytest.raises(TypeError, match="async with"):
        rxws.ReactiveWebSocket(rxws.demo.serve())


async def opened():
    loop = asyncio.get_running_loop()
    websocket = ScriptedWebsocket()
    connection = Connection(websocket, 1, loop, Reporter(loop, "feed"), never_asked)
    return websocket, connection


def reading(websocket):
    """Return a function that reads a connection to its end and discards the frames."""

    async def read():
        async for _ in websocket:
            pass

    return read


async def test_send_on_a_transport_that_is_closing_is_not_a_success():
    """``send`` on a closing transport raises, because the message is not sent."""
    websocket, connection = await opened()
    connection.start(reading(websocket))
    websocket.transport.is_closing = lambda: True
    with pytest.raises(rxws.SendFailed):
        await connection.send("hello", 1)
    websocket.end()
    await asyncio.wait({connection.reader})
    connection.end()


async def test_send_that_waited_for_its_turn_keeps_the_connection(virtual_time):
    """If a send waited for the rate limit, the peer had only the rest of the timeout, so it is not disconnected."""
    websocket, connection = await opened()
    connection.start(reading(websocket))
    connection.send_queue = PrioritySendQueue(virtual_time, SlidingWindow(1, 10.0))
    await connection.send("first", 12)

    async def never(_message):
        await asyncio.Event().wait()

    websocket.send = never
    with pytest.raises(rxws.SendTimeout, match="but may still take it"):
        await connection.send("second", 12)
    assert connection.is_live
    websocket.end()
    await asyncio.wait({connection.reader})
    connection.end()


async def test_send_with_little_time_left_keeps_the_connection():
    """A send with little of its timeout left raises SendTimeout and does not disconnect the peer."""
    websocket, connection = await opened()
    connection.start(reading(websocket))

    async def slow(_message):
        await asyncio.sleep(0.05)

    websocket.send = slow
    with pytest.raises(rxws.SendTimeout, match="but may still take it"):
        await connection.send("late", 0.02, None, patience=10)
    assert connection.is_live
    websocket.end()
    await asyncio.wait({connection.reader})
    connection.end()


async def test_exit_in_the_reader_closes_the_connection():
    """An exception that ends the program ends the reader, and the connection is closed."""
    websocket, connection = await opened()

    async def leave():
        await anext(aiter(websocket))
        raise GeneratorExit

    connection.start(leave)
    websocket.come("frame")
    await asyncio.wait({connection.reader})
    assert isinstance(connection.reader.exception(), GeneratorExit)
    assert websocket.transport.aborted == 1
    connection.end()


async def test_parser_that_panics_ends_its_connection_and_not_the_feed(feed_server):
    """A BaseException of a parse hook is reported, and the feed continues with the next connection."""

    class Panicking(Feed):
        def _parse_raw_data(self, raw_data):
            if raw_data == "panic":
                raise Strange
            return raw_data

    async with Panicking(feed_server) as feed:
        seen = []
        feed.add_handler(seen.append)
        await feed_server.connected()
        await feed_server.send("panic")
        await feed_server.connected(2, timeout=60)
        await feed.wait_connected()
        await feed_server.send("good")
        await asyncio.sleep(1)
        assert seen == ["good"]
        assert feed.statistics().gaps == 1


async def test_opening_hook_that_panics_fails_the_feed(feed_server):
    """A BaseException of ``_create_ws`` fails the feed, and all waiting calls raise."""

    class Panicking(Feed):
        async def _create_ws(self):
            raise Strange

    feed = Panicking(feed_server)
    with pytest.raises(rxws.ConnectFailed, match="Strange"):
        await feed.wait_closed()


async def test_coroutine_handler_and_rotation_hook_that_panic_are_reported(feed_server):
    """A BaseException of a handler or of the rotation hook is reported like any failure."""

    class Panicking(Feed):
        async def _when2create_new_ws(self):
            await asyncio.sleep(5)
            raise Strange

    failures = []
    async with Panicking(feed_server) as feed:
        feed.events.subscribe(lambda event: failures.append(event) if isinstance(event, CallbackFailed) else None)
        calls = []

        async def panic(message):
            calls.append(message)
            raise Strange

        feed.add_handler(panic)
        await feed_server.connected()
        await feed_server.send({"n": 1}, {"n": 2})
        await asyncio.sleep(1)
        assert calls == [{"n": 1}, {"n": 2}]
        await feed_server.connected(2, timeout=60)
    assert sum(isinstance(failure.error, Strange) for failure in failures) >= 3


async def test_generator_exit_of_a_coroutine_handler_passes(feed_server):
    """GeneratorExit of a coroutine handler passes through its task, and the feed continues."""

    async def leave(_message):
        raise GeneratorExit

    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with Feed(feed_server) as feed:
        feed.add_handler(leave)
        await feed_server.connected()
        await feed_server.send({"n": 1})
        await asyncio.sleep(1)
        assert feed.statistics().messages == 1


async def test_parse_hook_that_returns_after_its_timeout_affects_no_other_frame(feed_server):
    """A hook that returns a message after its timeout does not affect the next frame."""

    class Late(Feed):
        async def _parse_raw_data(self, raw_data):
            if raw_data == "late":
                try:
                    await asyncio.sleep(100)
                except asyncio.CancelledError:
                    return "late after all"
            if raw_data == "bad":
                raise ValueError("bad")
            return raw_data

    async with Late(feed_server) as feed:
        rejected = []
        feed.events.subscribe(lambda event: rejected.append(event) if isinstance(event, rxws.MessageRejected) else None)
        seen = []
        feed.add_handler(seen.append)
        await feed_server.connected()
        await feed_server.send("late", "bad", "good")
        await asyncio.sleep(30)
        assert seen == ["late after all", "good"]
        assert [str(event.error) for event in rejected] == ["bad"]
