"""AsyncWebsocketStreamInterface: its hooks, its public members, and its single private attribute."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import itertools
import json
import time
import typing
from itertools import pairwise

import pytest
import websockets
from reactivex import operators as ops

import rxws
from rxws import AsyncWebsocketStreamInterface, CallbackFailed, ConnectFailed, FeedClosed, Gap, State
from rxws.callables import shadowable
from rxws.observables.buffer import LAG_MARKS
from tests.support.feeds import Feed, greet, of_kind, record, take
from tests.support.life import ScriptedFeed, ScriptedWebsocket
from tests.support.wiring import in_thread

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


# Construction


async def test_constructor_raises_outside_a_running_loop():
    """Outside a running event loop the constructor raises RuntimeError, whose text names the class and the problem."""
    with pytest.raises(RuntimeError, match="Feed must be made inside a running event loop"):
        in_thread(lambda: Feed(None))
    with pytest.raises(RuntimeError, match="ReactiveWebSocket must be made inside a running event loop"):
        in_thread(lambda: rxws.ReactiveWebSocket("ws://localhost:8765"))


async def test_constructor_of_the_subclass_returns_before_a_hook_runs(feed_server):
    """Attributes that a subclass sets after ``super().__init__()`` exist in all hooks."""
    calls = []

    class Late(Feed):
        def __init__(self, server):
            super().__init__(server)
            # No task of the feed exists yet, because an eager task would run a hook at once.
            assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("rxws")]
            calls.append("constructed")
            self.late = "there"

        async def _create_ws(self):
            calls.append(self.late)
            return await super()._create_ws()

    async with Late(feed_server) as feed:
        assert calls == ["constructed"]
        await feed.wait_connected()
    assert calls == ["constructed", "there"]


async def test_subclass_without_all_hooks_cannot_be_made():
    """A subclass without one of the three hooks cannot be instantiated, and the error names the hook."""

    class Half(AsyncWebsocketStreamInterface):
        async def _create_ws(self):
            """Never called."""

        async def _when2create_new_ws(self):
            """Never called."""

    with pytest.raises(TypeError, match="Half needs the hook _parse_raw_data, or _create_parser"):
        Half()
    with pytest.raises(TypeError, match="_when2create_new_ws"):
        type("Less", (AsyncWebsocketStreamInterface,), {"_create_ws": Half._create_ws})()


async def test_state_of_the_base_is_one_mangled_attribute(feed_server):
    """The base class adds one attribute to an object, with a mangled name that no subclass uses."""
    async with Feed(feed_server) as feed:
        await feed.wait_connected()
        assert set(vars(feed)) == {"server", "_AsyncWebsocketStreamInterface__feed"}


async def test_subclass_may_use_any_name_for_itself(feed_server):
    """A subclass may reuse the names of public members, because the base class never reads them."""
    base = AsyncWebsocketStreamInterface
    public = [name for name in dir(base) if not name.startswith("_") and name != "exit"]
    shadowed = [*public, "name", "loop", "options", "_handlers", "_state", "_feed", "_exit", "_ws", "_task", "_closed"]
    namespace = dict.fromkeys(shadowed, "the subclass's own")
    shadow = type("Shadow", (Feed,), namespace)
    feed_server.script = greet

    async with shadow(feed_server) as feed:
        stream = base.stream_filter(feed)
        assert await take(stream, 2) == [{"connection": 1, "n": 1}, {"connection": 1, "n": 2}]
        await feed_server.close()
        assert await take(stream, 1) == [{"connection": 2, "n": 1}]
        for name in namespace:
            setattr(feed, name, "set on the object")
        assert await take(stream, 1) == [{"connection": 2, "n": 2}]
        await base.wait_connected(feed)
        assert base.state.fget(feed).value is State.CONNECTED
        assert base.statistics(feed).messages == 4
        assert "4 messages" in repr(feed)
        await base.send(feed, "hello")
        assert await feed_server.expect() == "hello"
    assert base.state.fget(feed).value is State.CLOSED
    assert set(public) >= {"events", "state", "messages", "frames", "send", "statistics", "stream_filter"}


async def test_leaving_the_block_calls_the_exit_of_the_subclass(feed_server):
    """``async with`` calls an overridden ``exit``, so a subclass can close its own resources there."""
    closed = []

    class WithSession(Feed):
        async def exit(self):
            closing = asyncio.create_task(super().exit())
            closed.append("session")
            await closing

    async with WithSession(feed_server) as feed:
        await feed.wait_connected()
    assert closed == ["session"]
    assert feed.state.value is State.CLOSED


async def test_public_members_have_the_arguments_of_the_contract():
    """The names, the order, the kinds and the defaults of all arguments are those of the contract."""
    base = AsyncWebsocketStreamInterface

    def arguments(name):
        parameters = list(inspect.signature(getattr(base, name)).parameters.values())[1:]
        return {
            parameter.name: parameter.default if parameter.default is not parameter.empty else ...
            for parameter in parameters
        }

    assert arguments("stream_filter") == {
        "filters": None,
        "_filters": None,
        "maxsize": 1_000_000,
        "maxbytes": 256 << 20,
        "overflow": "error",
        "gaps": False,
        "copy": False,
    }
    assert arguments("add_handler") == {
        "function_or_coroutine_function": ...,
        "filters": None,
        "maxsize": 1_000_000,
        "maxbytes": 256 << 20,
        "overflow": "error",
    }
    assert arguments("send") == {"msg": ...}
    assert arguments("request") == {"msg": ..., "reply": ..., "timeout": 10.0}
    for name in ("rotate", "exit", "wait_closed", "wait_connected", "wait_enter_handing_ws", "statistics"):
        assert arguments(name) == {}
    for name in ("send", "request", "exit", "wait_closed", "wait_connected", "wait_enter_handing_ws"):
        assert inspect.iscoroutinefunction(getattr(base, name))
    for name in ("messages", "frames", "state", "events", "present_ws"):
        assert isinstance(getattr(base, name), shadowable)


async def test_option_that_does_not_exist_is_refused_by_name(feed_server):
    """An unknown option raises TypeError with its name."""
    with pytest.raises(TypeError, match="opentimeout"):
        Feed(feed_server, opentimeout=1)


async def test_name_is_shown_in_log_events_and_repr(feed_server, caplog):
    """The option ``name`` appears in log lines, events and the repr."""
    feed = Feed(feed_server, name="binance")
    events = record(feed.events)
    async with feed:
        await feed.wait_connected()
        assert repr(feed) == "<binance: connected, 0 messages>"
    assert {event.name for event in events} == {"binance"}


async def test_name_is_made_from_the_class_when_none_is_given(feed_server):
    """Without the option each feed gets a unique name, made from its class."""
    async with Feed(feed_server) as first, Feed(feed_server) as second:
        assert repr(first).startswith("<Feed-")
        assert repr(second).startswith("<Feed-")
        assert repr(first) != repr(second)


# _create_ws


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (lambda url: None, "not NoneType without __aiter__, send, close"),
        (lambda url: "open", "not str without __aiter__, send, close"),
        (lambda url: websockets.connect(url), r"not connect without send, close \(is an 'await' missing\?\)"),
    ],
)
async def test_create_ws_that_returns_no_connection_fails_the_feed(feed_server, given, expected):
    """An object without the websockets API fails the feed; the error names the hook and the object."""

    class Wrong(Feed):
        async def _create_ws(self):
            return given(self.server.url)

    feed = Wrong(feed_server)
    with pytest.raises(ConnectFailed, match=f"_create_ws must return an open connection .*{expected}") as caught:
        await feed.wait_connected()
    assert isinstance(caught.value.__cause__, TypeError)
    await feed.exit()


async def test_create_ws_may_return_any_object_with_the_api():
    """Any object with ``async for``, ``send`` and ``close`` is a connection."""
    inner = ScriptedWebsocket("1")

    class Bare:
        def __aiter__(self):
            return aiter(inner)

        async def send(self, message):
            await inner.send(message)

        async def close(self):
            await inner.close()

    websocket = Bare()
    async with ScriptedFeed(websocket) as feed:
        assert await take(feed.stream_filter(), 1) == [1]
        assert feed.present_ws is websocket
        await feed.send("hello")
        assert inner.sent == ["hello"]
    assert inner.closes == 1


async def test_create_ws_is_cancelled_at_open_timeout(feed_server):
    """A hook that takes longer than ``open_timeout`` is cancelled and called again."""
    loop = asyncio.get_running_loop()
    cancelled = []

    class Slow(Feed):
        async def _create_ws(self):
            if not cancelled:
                try:
                    await asyncio.sleep(3600)
                finally:
                    cancelled.append(loop.time())
            return await super()._create_ws()

    started = loop.time()
    async with Slow(feed_server, open_timeout=7) as feed:
        await feed.wait_connected()
        assert cancelled == [pytest.approx(started + 7)]


# _when2create_new_ws


async def test_rotation_hook_is_called_once_per_connection_with_that_one_present(feed_server):
    """The rotation hook is called once per connection, and ``present_ws`` is that connection during the call."""
    called = []

    class Counting(Feed):
        async def _when2create_new_ws(self):
            called.append(self.present_ws)
            await asyncio.Future()

    async with Counting(feed_server, handover_timeout=1) as feed:
        await feed.wait_connected()
        first = feed.present_ws
        await feed.rotate()
        second = feed.present_ws
        await feed_server.close(1011)
        await feed_server.connected(3)
        await feed.wait_connected()
        third = feed.present_ws
        await asyncio.sleep(100)
    assert called == [first, second, third]
    assert len({first, second, third}) == 3


async def test_stream_made_in_the_rotation_hook_misses_nothing(feed_server):
    """The hook runs to its first suspension before its connection's first message is delivered."""
    feed_server.script = greet
    seen = []

    class Watching(Feed):
        async def _when2create_new_ws(self):
            stream = self.stream_filter()
            while True:
                seen.append(await anext(stream))

    async with Watching(feed_server, handover_timeout=0) as feed:
        await feed.wait_connected()
        await asyncio.sleep(1)
        await feed.rotate()
        await asyncio.sleep(1)
        await feed_server.close()
        await feed_server.connected(3)
        await asyncio.sleep(1)
    assert seen == [{"connection": connection, "n": n} for connection in (1, 2, 3) for n in (1, 2)]


async def test_rotation_hook_sees_a_signal_in_the_first_message(feed_server):
    """The rotation hook gets the first message of a new connection, even if the overlap held the message."""
    rotations = []

    async def expire(connection):
        await connection.send({"e": "listenKeyExpired"} if connection.number < 4 else {"e": "fine"})

    feed_server.script = expire

    class Expiring(Feed):
        async def _when2create_new_ws(self):
            async for _ in self.stream_filter([{"e": "listenKeyExpired"}]):
                rotations.append(self.present_ws)
                return

    async with Expiring(feed_server, handover_timeout=1) as feed:
        stream = feed.stream_filter([{"e": "fine"}])
        assert await take(stream, 1) == [{"e": "fine"}]
    assert len(set(rotations)) == 3


async def test_stream_made_in_the_rotation_hook_is_closed_when_it_returns(feed_server):
    """When the hook returns, its stream delivers the messages that it holds and ends; other streams continue."""
    made = []

    class Making(Feed):
        async def _when2create_new_ws(self):
            made.append(self.stream_filter())
            await anext(made[-1])
            await anext(made[-1])

    async with Making(feed_server, handover_timeout=0) as feed:
        other = feed.stream_filter()
        await feed.wait_connected()
        await feed_server.connected()
        await feed_server.send({"n": 1}, {"n": 2}, {"n": 3})
        await feed_server.connected(2)
        await feed.wait_connected()
        await feed_server.send({"n": 4})
        async with asyncio.timeout(5):
            assert [message async for message in made[0]] == [{"n": 3}]
        assert await take(other, 4) == [{"n": n} for n in (1, 2, 3, 4)]


async def test_stream_made_in_the_rotation_hook_is_closed_when_it_is_cancelled(feed_server):
    """When the hook is cancelled because its connection was lost, its stream ends as well."""
    made = []

    class Making(Feed):
        async def _when2create_new_ws(self):
            made.append(self.stream_filter())
            await asyncio.Future()

    async with Making(feed_server) as feed:
        await feed.wait_connected()
        await feed_server.close()
        await feed_server.connected(2)
        await feed.wait_connected()
        async with asyncio.timeout(5):
            assert [message async for message in made[0]] == []
        assert feed.statistics().streams == 1


@pytest.mark.parametrize("end", ["server", "rotate", "exit"])
async def test_rotation_hook_is_cancelled_when_its_connection_ends_otherwise(feed_server, end):
    """The rotation hook is cancelled once when the server closes, ``rotate()`` is called, or the feed is closed."""
    cancelled = []

    class Waiting(Feed):
        async def _when2create_new_ws(self):
            connection = self.present_ws
            try:
                await asyncio.Future()
            except asyncio.CancelledError:
                cancelled.append(connection)
                raise

    async with Waiting(feed_server, handover_timeout=1) as feed:
        events = record(feed.events)
        await feed.wait_connected()
        first = feed.present_ws
        if end == "server":
            await feed_server.close()
            await feed_server.connected(2)
            await feed.wait_connected()
        elif end == "rotate":
            await feed.rotate()
        else:
            await feed.exit()
        await asyncio.sleep(0.1)
        assert cancelled == [first]
        assert of_kind(CallbackFailed, events) == []


async def test_connection_is_rotated_when_the_hook_returns(feed_server):
    """When ``_when2create_new_ws`` returns, a new connection is opened and the old one is closed with 1000."""
    loop = asyncio.get_running_loop()

    class Daily(Feed):
        async def _when2create_new_ws(self):
            await asyncio.sleep(20 * 3600)

    async with Daily(feed_server, handover_timeout=1) as feed:
        rotated = record(feed.events.pipe(ops.filter(lambda event: isinstance(event, rxws.Rotated))))
        await feed.wait_connected()
        first = await feed_server.connected()
        started = loop.time()
        await feed_server.connected(2, timeout=100_000)
        assert loop.time() == pytest.approx(started + 20 * 3600)
        await first.wait_closed()
        assert first.websocket.close_code == 1000
        await asyncio.sleep(1)
        assert [event.number for event in rotated] == [2]


@pytest.mark.parametrize("error", [ValueError("no key"), asyncio.CancelledError()])
async def test_connection_is_rotated_when_the_hook_raises(feed_server, error):
    """An exception of the hook is reported, and the connection is rotated."""

    class Raising(Feed):
        async def _when2create_new_ws(self):
            await asyncio.sleep(10)
            if feed_server.opened == 1:
                raise error
            await asyncio.Future()

    async with Raising(feed_server, handover_timeout=1) as feed:
        events = record(feed.events)
        await feed_server.connected(2, timeout=20)
        await asyncio.sleep(5)
        assert feed.statistics().rotations == 1
        assert feed.statistics().failures == 1
        (failed,) = of_kind(CallbackFailed, events)
        assert failed.error is error
        assert failed.handler.endswith("Raising._when2create_new_ws")


def opened_at(events):
    """Return the times between the openings of consecutive connections."""
    times = [event.time for event in of_kind(rxws.Connected, events)]
    return [round(later - earlier, 2) for earlier, later in pairwise(times)]


@pytest.mark.parametrize("raises", [False, True])
async def test_rotation_waits_ever_longer_when_the_hook_ends_at_once(feed_server, raises):
    """A hook that ends within 0.25 s delays its rotation by 0.5 s, then twice as long each time, up to 60 s."""

    class Hasty(Feed):
        async def _when2create_new_ws(self):
            if raises:
                raise ValueError

    async with Hasty(feed_server, handover_timeout=0) as feed:
        events = record(feed.events)
        await feed_server.connected(11, timeout=1000)
        assert opened_at(events)[:9] == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]


async def test_rotation_is_not_delayed_when_the_connection_lived_longer(feed_server):
    """A hook that ends 0.3 s after its start never delays a rotation."""

    class Frequent(Feed):
        async def _when2create_new_ws(self):
            await asyncio.sleep(0.3)

    async with Frequent(feed_server, handover_timeout=0) as feed:
        events = record(feed.events)
        await feed_server.connected(20, timeout=1000)
        assert opened_at(events) == [0.3] * len(opened_at(events))
        assert len(opened_at(events)) > 15


async def test_delay_of_early_rotations_starts_over_after_a_longer_life(feed_server):
    """After a connection that lived longer, the next early rotation waits 0.5 s again."""
    lives = iter([0, 0, 0, 10, 0, 0, 3600])

    class Moody(Feed):
        async def _when2create_new_ws(self):
            await asyncio.sleep(next(lives))

    async with Moody(feed_server, handover_timeout=0) as feed:
        events = record(feed.events)
        await feed_server.connected(7, timeout=1000)
        await feed.wait_connected()
        assert opened_at(events) == [0.5, 1, 2, 10, 0.5, 1]


async def test_messages_flow_while_an_early_rotation_waits(feed_server):
    """The connection delivers while its rotation waits; if the connection is lost, the wait ends."""

    class Hasty(Feed):
        async def _when2create_new_ws(self):
            """End at once."""

    async with Hasty(feed_server, handover_timeout=0) as feed:
        stream = feed.stream_filter()
        await feed_server.connected(8, timeout=200)
        await asyncio.sleep(5)
        opened = feed_server.opened
        await feed_server.send({"n": 1})
        assert await take(stream, 1) == [{"n": 1}]
        await feed_server.close()
        await feed_server.connected(opened + 1)


# The optional hooks


@pytest.mark.parametrize("is_coroutine_function", [False, True])
async def test_each_connection_has_its_own_parser(feed_server, is_coroutine_function):
    """``_create_parser`` is called once per connection, after ``_create_ws``, and needs no ``_parse_raw_data``."""
    calls = []

    class Counting(AsyncWebsocketStreamInterface):
        async def _create_ws(self):
            calls.append("connect")
            return await websockets.connect(feed_server.url, compression=None, proxy=None, ping_interval=None)

        async def _when2create_new_ws(self):
            await asyncio.Future()

        def _create_parser(self):
            calls.append("parser")
            count = itertools.count(1)

            async def parse_later(frame):
                await asyncio.sleep(0.01)
                return frame, next(count)

            return parse_later if is_coroutine_function else lambda frame: (frame, next(count))

    async with Counting(handover_timeout=0.1) as feed:
        messages = record(feed.messages)
        for number in (1, 2):
            connection = await feed_server.connected(number)
            await connection.send("a", "b")
            await asyncio.sleep(1)
            feed.rotate()
        await asyncio.sleep(1)
        assert messages == [("a", 1), ("b", 2)] * 2
        assert calls == ["connect", "parser"] * 3
        with pytest.raises(NotImplementedError, match="_create_parser"):
            feed._parse_raw_data("a")


@pytest.mark.parametrize("given", [None, 3])
async def test_parser_that_is_not_a_function_fails_the_feed(feed_server, given):
    """A ``_create_parser`` that returns no function fails the feed; the error names the hook."""
    kind = type("Wrong", (Feed,), {"_create_parser": lambda self: given})
    with pytest.raises(ConnectFailed, match=f"_create_parser must return a function of a frame, not {given}"):
        await kind(feed_server).wait_connected()
    await feed_server.disconnected()


@pytest.mark.parametrize("hook", ["_create_parser", "_reply", "_message_identity", "_is_per_connection"])
async def test_optional_hook_must_be_a_plain_function(feed_server, hook):
    """A coroutine function raises TypeError with the hook's name, because its result would always be true."""

    async def coroutine_function(self, message):
        """Never called."""

    kind = type("Wrong", (Feed,), {hook: coroutine_function})
    with pytest.raises(TypeError, match=f"{hook} must be a plain function.*coroutine_function"):
        kind(feed_server)


@pytest.mark.parametrize("hook", ["_parse_raw_data", "_reply", "_message_identity", "_is_per_connection"])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_hook_must_not_yield(feed_server, hook, asynchronous):
    """A generator function raises TypeError with the names of hook and function, because its code would never run."""

    def generator_function(self, message):
        yield message

    async def async_generator_function(self, message):
        yield message

    function = async_generator_function if asynchronous else generator_function
    with pytest.raises(TypeError, match=f"{hook} must return.*generator_function"):
        type("Wrong", (Feed,), {hook: function})(feed_server)


async def test_optional_hooks_of_the_base_do_nothing(feed_server):
    """``super()._reply`` returns None, ``super()._is_per_connection`` False; ``super()._message_identity`` raises."""
    async with Feed(feed_server) as feed:
        assert feed._reply("ping") is None
        assert feed._is_per_connection({"n": 1}) is False
        with pytest.raises(NotImplementedError, match="the frame itself"):
            feed._message_identity({"n": 1})


# Consuming


MESSAGES = [
    {"e": "trade", "s": "BTCUSDT", "data": {"s": "A"}},
    {"e": "trade", "s": "ETHUSDT"},
    {"e": "ticker", "s": "BTCUSDT"},
    [1, 2],
    "text",
    None,
]


@pytest.mark.parametrize(
    ("filters", "passing"),
    [
        (None, [0, 1, 2, 3, 4, 5]),
        ([], [0, 1, 2, 3, 4, 5]),
        ([{"e": "trade", "s": "BTCUSDT"}], [0]),
        ([{"e": "trade"}, {"s": "BTCUSDT"}], [0, 1, 2]),
        ([{("data", "s"): "A"}], [0]),
        ([{"missing": None}], []),
        (lambda message: isinstance(message, list), [3]),
        (lambda message: message["e"] == "trade", [0, 1]),
    ],
)
async def test_filter_selects_the_messages(feed_server, filters, passing):
    """Streams and handlers get messages that pass any dict, or the function; only a mapping can pass a dict."""
    handled = []
    async with Feed(feed_server) as feed:
        stream = feed.stream_filter(filters)
        feed.add_handler(handled.append, filters)
        everything = feed.stream_filter()
        await feed_server.connected()
        await feed_server.send(*(json.dumps(message) for message in MESSAGES))
        await take(everything, len(MESSAGES))
    assert [message async for message in stream] == handled
    assert handled == [MESSAGES[place] for place in passing]


@pytest.mark.parametrize(
    ("arguments", "error", "expected"),
    [
        (({"e": "trade"},), TypeError, "must be a list of dicts, not a dict"),
        (("trade",), TypeError, "must be a list of dicts, or a callable, not str"),
        ((7,), TypeError, "must be a list of dicts, or a callable, not int"),
        ((["trade"],), TypeError, "must be a list of dicts, but"),
    ],
)
async def test_bad_filter_is_refused(feed_server, arguments, error, expected):
    """A filter that is neither a list of dicts nor a callable raises TypeError, which names the argument."""
    async with Feed(feed_server) as feed:
        with pytest.raises(error, match=f"^filters {expected}"):
            feed.stream_filter(*arguments)
        with pytest.raises(error, match=f"^filters {expected}"):
            feed.add_handler(print, *arguments)
        with pytest.raises(error, match=f"^reply {expected}"):
            await feed.request("ping", *arguments)
        assert feed.statistics().streams == 0


async def test_filter_is_accepted_by_its_old_name(feed_server):
    """``_filters``, the name of the original package, means the same as ``filters``; both together are refused."""
    async with Feed(feed_server) as feed:
        streams = [feed.stream_filter(filters=[{"e": "trade"}]), feed.stream_filter(_filters=[{"e": "trade"}])]
        assert [repr(stream) for stream in streams] == 2 * [
            "<stream Filter([{'e': 'trade'}]): 0 matched, 0 pending, 0 dropped>"
        ]
        with pytest.raises(TypeError, match="two names of the same argument"):
            feed.stream_filter([{"e": "trade"}], _filters=[])


@pytest.mark.parametrize(
    ("bounds", "error", "expected"),
    [
        ({"maxsize": 0}, ValueError, "maxsize must be at least 1, or None for no bound, not 0"),
        ({"maxsize": -1}, ValueError, "maxsize must be at least 1, or None for no bound, not -1"),
        ({"maxsize": 1.5}, TypeError, "maxsize must be a positive int, or None for no bound, not 1.5"),
        ({"maxsize": True}, TypeError, "maxsize must be a positive int"),
        ({"overflow": "block"}, ValueError, "overflow must be 'error', 'drop_oldest' or 'drop_newest', not 'block'"),
    ],
)
async def test_bad_bounds_are_refused(feed_server, bounds, error, expected):
    """An impossible ``maxsize`` and an unknown ``overflow`` raise an error that names the argument."""
    async with Feed(feed_server) as feed:
        with pytest.raises(error, match=f"^{expected}"):
            feed.stream_filter(**bounds)
        with pytest.raises(error, match=f"^{expected}"):
            feed.add_handler(print, **bounds)


@pytest.mark.parametrize("handler", [None, 7, "print", [print]])
async def test_handler_that_is_not_callable_is_refused(feed_server, handler):
    """A handler that is not callable raises TypeError."""
    async with Feed(feed_server) as feed:
        with pytest.raises(TypeError, match="function_or_coroutine_function must be callable with a message, not"):
            feed.add_handler(handler)


async def test_gap_is_where_messages_may_be_missing(feed_server):
    """Only a stream with ``gaps=True`` contains a Gap between the last message before a loss and the first after it."""
    feed_server.script = greet
    async with Feed(feed_server) as feed:
        with_gaps, without = feed.stream_filter(gaps=True), feed.stream_filter()
        filtered = feed.stream_filter([{"n": 2}], gaps=True)
        handled = record(feed.messages)
        feed.add_handler(handled.append)
        await take(feed.stream_filter(), 2)
        await feed_server.close(1011)
        first = await take(with_gaps, 5)
        assert first[:2] == [{"connection": 1, "n": 1}, {"connection": 1, "n": 2}]
        assert first[3:] == [{"connection": 2, "n": 1}, {"connection": 2, "n": 2}]
        gap = first[2]
        assert isinstance(gap, Gap)
        assert gap.last_message == {"connection": 1, "n": 2}
        assert gap.reason == "server"
        assert gap.start <= gap.end
        assert await take(filtered, 3) == [first[1], gap, first[4]]
        assert await take(without, 4) == first[:2] + first[3:]
        assert gap not in handled


async def test_messages_are_shared_unless_copies_are_requested(feed_server):
    """All consumers get the same object; a stream with ``copy=True`` gets its own deep copies."""
    async with Feed(feed_server) as feed:
        one, other, copies = feed.stream_filter(), feed.stream_filter(), feed.stream_filter(copy=True)
        await feed_server.connected()
        await feed_server.send({"levels": [[1]]})
        (first,), (second,), (copied,) = await take(one, 1), await take(other, 1), await take(copies, 1)
        assert first is second
        assert copied == first
        assert copied["levels"][0] is not first["levels"][0]


async def test_feed_is_iterated_as_a_connection_is(feed_server):
    """``async for`` over a feed yields all its messages, even if a subclass reuses the name ``stream_filter``."""

    class Narrower(Feed):
        def stream_filter(self, symbol):
            return super().stream_filter([{"s": symbol}])

    async with Narrower(feed_server) as feed:
        await feed.wait_connected()
        first, second = aiter(feed), aiter(feed)
        await feed_server.send({"n": 1})
        assert await anext(first) == await anext(second) == {"n": 1}
        await feed_server.send({"n": 2})
        async for message in first:
            assert message == {"n": 2}
            break


async def test_stream_bounds_reach_the_stream(feed_server):
    """``maxsize`` and ``overflow`` apply to the stream; dropped messages are counted and reported."""
    async with Feed(feed_server) as feed:
        events = record(feed.events)
        oldest = feed.stream_filter(maxsize=2, overflow="drop_oldest")
        newest = feed.stream_filter(maxsize=2, overflow="drop_newest")
        failing = feed.stream_filter(maxsize=2)
        everything = feed.stream_filter(maxsize=None)
        await feed_server.connected()
        await feed_server.send(*({"n": n} for n in range(4)))
        await take(everything, 4)
        assert await take(oldest, 2) == [{"n": 2}, {"n": 3}]
        assert await take(newest, 2) == [{"n": 0}, {"n": 1}]
        assert await take(failing, 2) == [{"n": 0}, {"n": 1}]
        with pytest.raises(rxws.StreamOverflow):
            await anext(failing)
        overflowed = of_kind(rxws.Overflowed, events)
        assert {event.overflow for event in overflowed} == {"error", "drop_oldest", "drop_newest"}
        assert feed.statistics().dropped == 5
        assert feed.statistics().streams == 3


async def test_handler_is_called_with_each_message_in_order(feed_server):
    """A plain and a coroutine function are called with each message that passes, in order, until disposed."""
    called, awaited = [], []

    async def handle(message):
        await asyncio.sleep(0.1)
        awaited.append(message["n"])

    async with Feed(feed_server) as feed:
        subscription = feed.add_handler(lambda message: called.append(message["n"]))
        feed.add_handler(handle, [{"odd": True}])
        stream = feed.stream_filter()
        await feed_server.connected()
        await feed_server.send(*({"n": n, "odd": bool(n % 2)} for n in range(6)))
        await take(stream, 6)
        subscription.dispose()
        await feed_server.send({"n": 6, "odd": False})
        await take(stream, 1)
        await asyncio.sleep(1)
    assert called == [0, 1, 2, 3, 4, 5]
    assert awaited == [1, 3, 5]


async def test_slow_coroutine_handler_delays_no_other_consumer(feed_server):
    """Each coroutine handler has its own queue: while one sleeps, streams and other handlers get messages."""
    fast = []

    async def slow(message):
        await asyncio.sleep(3600)

    async def quick(message):
        fast.append(message["n"])

    async with Feed(feed_server, close_timeout=1) as feed:
        feed.add_handler(slow)
        feed.add_handler(quick)
        stream = feed.stream_filter()
        await feed_server.connected()
        await feed_server.send(*({"n": n} for n in range(5)))
        assert len(await take(stream, 5)) == 5
        await asyncio.sleep(0.01)
        assert fast == [0, 1, 2, 3, 4]
        assert feed.statistics().pending == 4


@pytest.mark.parametrize("error", [ValueError("bad"), asyncio.CancelledError()])
@pytest.mark.parametrize("is_coroutine_function", [False, True])
async def test_handler_that_raises_is_reported_and_continues(feed_server, caplog, error, is_coroutine_function):
    """An exception of a handler, even CancelledError, is logged, counted and emitted; the next message follows."""
    seen = []

    def handle(message):
        seen.append(message["n"])
        if message["n"] == 1:
            raise error

    async def handle_later(message):
        await asyncio.sleep(0.01)
        handle(message)

    async with Feed(feed_server) as feed:
        events = record(feed.events)
        feed.add_handler(handle_later if is_coroutine_function else handle)
        await feed_server.connected()
        await feed_server.send({"n": 1}, {"n": 2})
        await asyncio.sleep(1)
        assert seen == [1, 2]
        (failed,) = of_kind(CallbackFailed, events)
        assert failed.error is error
        assert failed.message == {"n": 1}
        assert failed.handler.endswith("handle_later" if is_coroutine_function else "handle")
        assert feed.statistics().failures == 1
    assert [record.levelname for record in caplog.records if "handle" in record.getMessage()] == ["ERROR"]


async def test_handlers_may_be_added_and_removed_inside_a_handler(feed_server):
    """A handler may remove handlers and add one. The new handler gets the next message first."""
    calls = []

    async with Feed(feed_server) as feed:

        def first(message):
            calls.append(("first", message["n"]))
            mine.dispose()
            others.dispose()
            feed.add_handler(lambda message: calls.append(("added", message["n"])))

        mine = feed.add_handler(first)
        others = feed.add_handler(lambda message: calls.append(("other", message["n"])))
        stream = feed.stream_filter()
        await feed_server.connected()
        await feed_server.send({"n": 1}, {"n": 2})
        await take(stream, 2)
    assert calls == [("first", 1), ("added", 2)]


async def test_messages_is_the_hot_observable_of_all_messages(feed_server):
    """``messages`` emits each message to its subscribers, is async-iterable, and completes when the feed closes."""
    async with Feed(feed_server) as feed:
        await feed_server.connected()
        stream = feed.stream_filter()
        await feed_server.send({"n": 1})
        await take(stream, 1)
        late = record(feed.messages)
        iterated = aiter(feed.messages)
        await feed_server.send({"n": 2}, {"n": 3})
        await take(stream, 2)
        assert late == [{"n": 2}, {"n": 3}]
        assert feed.messages is feed.messages
    assert [message async for message in iterated] == late


# State, events, statistics


async def test_state_follows_the_life_of_the_feed(feed_server):
    """``state`` replays the current state, then emits each change; ``value`` is always the current state."""
    feed = Feed(feed_server, handover_timeout=1, reconnect_delays=lambda: iter([0, 3]))
    assert feed.state.value is State.CONNECTING
    seen = record(feed.state)
    assert seen == [State.CONNECTING]
    await feed.wait_connected()
    assert feed.state.value is State.CONNECTED
    await feed.rotate()
    feed_server.refuse()
    await feed_server.close()
    await asyncio.sleep(1)
    assert feed.state.value is State.WAITING
    assert not feed.state.value.is_live
    await feed.wait_connected()
    assert feed.state.value.is_live
    late = record(feed.state)
    await feed.exit()
    assert feed.state.value is State.CLOSED
    assert seen == [
        *(State.CONNECTING, State.CONNECTED, State.ROTATING, State.CONNECTED),
        *(State.CONNECTING, State.WAITING, State.CONNECTING, State.CONNECTED),
        State.CLOSED,
    ]
    assert late == [State.CONNECTED, State.CLOSED]
    assert record(feed.state) == [State.CLOSED]


async def test_state_is_live_while_a_connection_is_open():
    """Only the states CONNECTED and ROTATING are live."""
    assert [state.name for state in State] == ["CONNECTING", "CONNECTED", "ROTATING", "WAITING", "CLOSED", "FAILED"]
    assert [state for state in State if state.is_live] == [State.CONNECTED, State.ROTATING]


async def test_events_are_emitted_in_order(feed_server):
    """Connections, rotations, losses, gaps, rejected frames and failures are events with name and time, in order."""
    started = time.time()
    feed = Feed(feed_server, name="feed", handover_timeout=1)
    events = record(feed.events)
    feed.add_handler(lambda message: message["n"])
    async with feed:
        await feed.wait_connected()
        await feed.rotate()
        connection = await feed_server.connected(2)
        await connection.send("no JSON", "{}")
        await asyncio.sleep(0.1)
        await connection.close(1012, "restart")
        await feed_server.connected(3)
        await feed.wait_connected()
    kinds = [type(event).__name__ for event in events]
    assert kinds == [
        *("Connected", "Disconnected", "Connected", "Rotated"),
        *("MessageRejected", "CallbackFailed"),
        *("Disconnected", "Connected", "Gap", "Disconnected"),
    ]
    assert [event.reason for event in of_kind(rxws.Disconnected, events)] == ["rotation", "server", "user"]
    assert [event.number for event in of_kind(rxws.Connected, events)] == [1, 2, 3]
    assert all(event.name == "feed" for event in events)
    assert all(started - 1 <= event.time <= started + 60 for event in events)
    assert [event.time for event in events] == sorted(event.time for event in events)
    for event in events:
        with pytest.raises(dataclasses.FrozenInstanceError):
            event.name = "other"


async def test_quiet_event_when_no_message_arrives(feed_server, caplog):
    """Without ``idle_timeout`` a silent connection is kept, and reported at 60 s, 120 s, 240 s and so on."""
    async with Feed(feed_server) as feed:
        await feed.wait_connected()
        events = record(feed.events)
        await asyncio.sleep(500)
        assert [event.seconds for event in of_kind(rxws.Quiet, events)] == [60, 120, 240, 480]
        assert feed_server.opened == 1
    assert len([line for line in caplog.records if "no message for" in line.getMessage()]) == 4


async def test_idle_connection_is_replaced_after_idle_timeout(feed_server):
    """After ``idle_timeout`` seconds without a message the connection is replaced, and a Gap is emitted."""
    async with Feed(feed_server, idle_timeout=30) as feed:
        events = record(feed.events)
        await feed_server.connected(2, timeout=31)
        await feed.wait_connected()
        assert of_kind(rxws.Quiet, events) == []
        assert of_kind(Gap, events)[0].reason == "idle"


async def test_lagging_event_when_a_stream_is_not_consumed(feed_server, monkeypatch):
    """A Lagging event names the stream that holds 10,000 messages."""
    assert LAG_MARKS == (10_000, 100_000, 1_000_000)
    monkeypatch.setattr("rxws.observables.buffer.LAG_MARKS", (10, 100, 1_000))
    async with Feed(feed_server) as feed:
        events = record(feed.events)
        lagging, stream = feed.stream_filter([{"n": 1}]), feed.stream_filter()
        connection = await feed_server.connected()
        await connection.burst(12, {"n": 1})
        await take(stream, 12)
        lags = {(event.consumer, event.pending) for event in of_kind(rxws.Lagging, events)}
        assert lags == {("stream Filter([])", 10), ("stream Filter([{'n': 1}])", 10)}
        assert lagging.pending == 12


async def test_statistics_do_not_count_a_stream_that_was_collected(feed_server):
    """After the garbage collection of a stream, neither the stream nor its messages are counted."""
    async with Feed(feed_server) as feed:
        connection = await feed_server.connected()
        stream = feed.stream_filter()
        await connection.send({"a": 1})
        await asyncio.sleep(1)
        assert (feed.statistics().streams, feed.statistics().pending) == (1, 1)
        del stream
        assert (feed.statistics().streams, feed.statistics().pending) == (0, 0)


async def test_statistics_have_all_counters(feed_server):
    """All counters of the snapshot have the right values, and the snapshot is frozen."""
    feed = Feed(feed_server, handover_timeout=1)
    empty = feed.statistics()
    assert dataclasses.asdict(empty) == {
        **dict.fromkeys(["messages", "bytes", "opened", "rotations", "gaps", "rejected", "duplicates"], 0),
        **dict.fromkeys(["discarded", "failures", "unacknowledged", "streams", "pending", "dropped"], 0),
        "pending_bytes": 0,
        "reconnects": {},
        "last_message_age": None,
        "complete_since": None,
        "lines": (),
        "shards": (),
        "latency": None,
    }
    async with feed:
        connection = await feed_server.connected()
        stream = feed.stream_filter()
        await asyncio.sleep(1)
        await connection.send('{"a":1}', "no JSON", '{"ä":2}', b'{"b":3}')
        await asyncio.sleep(2)
        await feed.rotate()
        connection = await feed_server.connected(2)
        await connection.close(1011)
        connection = await feed_server.connected(3)
        connection.reset()
        await feed_server.connected(4, timeout=10)
        await feed.wait_connected()
        feed.stream_filter(maxsize=1)
        statistics = feed.statistics()
        assert statistics.messages == 3
        assert statistics.bytes == 7 + 7 + 8 + 7
        assert statistics.rejected == 1
        assert statistics.opened == 4
        assert statistics.rotations == 1
        assert statistics.reconnects == {"server": 1, "network": 1}
        assert statistics.gaps == 2
        assert (statistics.pending, statistics.pending_bytes) == (3, 7 + 8 + 7)
        assert statistics.streams == 1
        assert statistics.last_message_age >= 3
        assert stream.pending == 3
        with pytest.raises(dataclasses.FrozenInstanceError):
            statistics.messages = 7
        statistics.reconnects["server"] = 7
        assert feed.statistics().reconnects["server"] == 1
        assert empty.messages == 0


# Types


async def test_messages_have_the_type_that_the_subclass_names():
    """The class is generic in the type of its messages, for type checkers."""
    base = AsyncWebsocketStreamInterface
    hints = typing.get_type_hints(base.stream_filter)
    assert typing.get_origin(hints["return"]) is rxws.Stream
    assert base[int].__args__ == (int,)


async def test_hooks_may_be_called_after_the_end(feed_server):
    """After ``exit()`` queries still work, and methods that need a connection raise FeedClosed."""
    async with Feed(feed_server) as feed:
        await feed.wait_connected()
    assert feed.present_ws is None
    assert feed.statistics().opened == 1
    assert "closed" in repr(feed)
    with pytest.raises(FeedClosed):
        await feed.wait_connected()


async def test_closed_feed_is_not_entered_again(feed_server):
    """``async with`` on a closed feed raises FeedClosed, because all its streams would end at once."""
    async with Feed(feed_server) as feed:
        await feed.wait_connected()
    with pytest.raises(FeedClosed):
        async with feed:
            raise AssertionError
