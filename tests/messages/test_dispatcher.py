"""What a frame meets on its way: parsed, answered, split, rejected, watched."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from rxws import CallbackFailed, Many, MessageRejected
from tests.support.feeds import Feed, of_kind, opened, record, take
from tests.support.life import ScriptedFeed, ScriptedWebsocket, StuckWebsocket

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


def parsing(parse, kind=ScriptedFeed):
    """Give a class of feeds with this parse hook."""
    return type("Parsing", (kind,), {"_parse_raw_data": lambda self, raw_data: parse(raw_data)})


def rejected(events):
    """Give what of the rejected frames is told, without its time."""
    return [(event.raw, event.error, event.count) for event in of_kind(MessageRejected, events)]


# Parsing


class Plain(ScriptedFeed):
    def _parse_raw_data(self, raw_data):
        return json.loads(raw_data)


class Immediate(ScriptedFeed):
    async def _parse_raw_data(self, raw_data):
        return json.loads(raw_data)


class Suspending(ScriptedFeed):
    async def _parse_raw_data(self, raw_data):
        message = json.loads(raw_data)
        # Later ones are faster, some do not wait at all.
        await asyncio.sleep(max(0, 1 - message / 5))
        await asyncio.sleep(0)
        return message


class Mixed(ScriptedFeed):
    async def _parse_raw_data(self, raw_data):
        message = json.loads(raw_data)
        if message % 3 == 0:
            async with asyncio.timeout(5), asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(0.1))
        return message


@pytest.mark.parametrize("kind", [Plain, Immediate, Suspending, Mixed])
async def test_parse_hook_makes_the_message_in_order(kind):
    """A plain function or a coroutine function, waiting or not: what it returns is the message, in order."""
    websocket = ScriptedWebsocket(*map(str, range(12)))
    async with kind(websocket) as feed:
        stream = feed.stream_filter()
        assert await take(stream, 12) == list(range(12))
        assert feed.statistics().messages == 12


async def test_parse_hook_gets_str_and_bytes_as_they_came():
    """A text frame is ``str`` to the hook, a binary frame ``bytes``."""
    async with parsing(lambda raw_data: raw_data)(ScriptedWebsocket("text", b"binary")) as feed:
        assert await take(feed.stream_filter(), 2) == ["text", b"binary"]


async def fail_later(error):
    """Raise after a wait."""
    await asyncio.sleep(0.1)
    raise error


async def fail_at_once(error):
    """Raise without waiting."""
    raise error


def fail(error):
    """Raise, as a plain function."""
    raise error


@pytest.mark.parametrize("how", [fail, fail_at_once, fail_later])
@pytest.mark.parametrize(
    "error", [ValueError("bad"), asyncio.CancelledError(), StopAsyncIteration(), KeyError("e"), TimeoutError("slow")]
)
async def test_frame_is_skipped_when_the_parse_hook_raises(how, error, caplog):
    """Whatever the hook raises, that frame is skipped, logged, counted and emitted; the next one is delivered."""
    websocket = ScriptedWebsocket("1", "bad", "2", "bad")
    async with parsing(lambda raw: how(error) if raw == "bad" else json.loads(raw))(websocket) as feed:
        events = record(feed.events)
        assert await take(feed.stream_filter(), 2) == [1, 2]
        await asyncio.sleep(1)
        assert rejected(events) == [("bad", error, 1), ("bad", error, 2)]
        assert feed.statistics().rejected == 2
        assert feed.statistics().messages == 2
        assert feed.statistics().opened == 1
    assert "a frame of 3 characters was rejected" in caplog.text


async def test_what_the_parse_hook_raises_brings_no_secret_into_the_log(caplog):
    """Of a URL that is asked for in the hook, and cannot be had, the log has what the event's repr has."""
    websocket = ScriptedWebsocket("1")
    async with parsing(lambda raw: fail(OSError("no https://example.com/?token=hunter2")))(websocket) as feed:
        events = record(feed.events)
        await asyncio.sleep(1)
    assert "hunter2" not in caplog.text + repr(events)
    assert "https://example.com/?token=***" in caplog.text


@pytest.mark.parametrize("how", [fail, fail_at_once, fail_later])
async def test_stop_iteration_of_the_parse_hook_is_no_message(how):
    """A ``next()`` without an item in the hook skips the frame as any exception does."""
    websocket = ScriptedWebsocket("bad", "2")
    async with parsing(lambda raw: how(StopIteration("a value")) if raw == "bad" else json.loads(raw))(
        websocket
    ) as feed:
        events = record(feed.events)
        assert await take(feed.stream_filter(), 1) == [2]
        assert len(rejected(events)) == 1


async def test_frame_is_skipped_when_the_parse_hook_never_returns():
    """A hook that waits for longer than 10 s loses its frame to a TimeoutError; the next one is delivered."""
    cancelled = []

    async def parse(raw_data):
        if raw_data == "stuck":
            try:
                await asyncio.Future()
            finally:
                cancelled.append(loop.time())
        return raw_data

    loop = asyncio.get_running_loop()
    async with parsing(parse)(ScriptedWebsocket("stuck", "fine")) as feed:
        events = record(feed.events)
        started = loop.time()
        assert await take(feed.stream_filter(), 1) == ["fine"]
        assert cancelled == [pytest.approx(started + 10)]
        ((raw, error, count),) = rejected(events)
        assert (raw, type(error), count) == ("stuck", TimeoutError, 1)


async def test_exit_does_not_wait_for_a_parse_hook_that_waits():
    """``exit()`` cuts a parse hook short, which is neither a rejected frame nor a failure."""
    loop = asyncio.get_running_loop()
    cancelled = []

    async def parse(raw_data):
        try:
            await asyncio.Future()
        finally:
            cancelled.append(raw_data)

    async with parsing(parse)(ScriptedWebsocket("stuck")) as feed:
        events = record(feed.events)
        await feed.wait_connected()
        await asyncio.sleep(1)
        started = loop.time()
    assert loop.time() - started <= 6
    assert cancelled == ["stuck"]
    assert rejected(events) == []


async def test_connection_lost_while_a_frame_is_parsed_still_gives_its_message():
    """The connection may end while the hook waits: the frame came, and is delivered."""
    first, second = ScriptedWebsocket("1"), ScriptedWebsocket("2")

    async def parse(raw_data):
        if raw_data == "1":
            first.end(ConnectionResetError())
            await asyncio.sleep(1)
        return json.loads(raw_data)

    async with parsing(parse)(first, second) as feed:
        assert await take(feed.stream_filter(), 2) == [1, 2]


# Many


@pytest.mark.parametrize("is_coroutine_function", [False, True])
async def test_each_item_of_many_is_a_message(is_coroutine_function):
    """``Many(items)`` is a message per item, ``Many()`` none; a list is one message."""

    def parse(raw_data):
        message = json.loads(raw_data)
        return Many(message["items"]) if isinstance(message, dict) else message

    async def parse_later(raw_data):
        return parse(raw_data)

    frames = ['{"items": [{"n": 1}, {"n": 2}, {"n": 1}]}', '{"items": []}', "[1, 2]", '{"items": [null]}']
    async with parsing(parse_later if is_coroutine_function else parse)(ScriptedWebsocket(*frames)) as feed:
        everything, ones = feed.stream_filter(), feed.stream_filter([{"n": 1}])
        assert await take(everything, 5) == [{"n": 1}, {"n": 2}, {"n": 1}, [1, 2], None]
        assert ones.matched == 2
        assert feed.statistics().messages == 5


async def test_many_is_a_typed_tuple():
    """``Many`` holds its items as a tuple does, and may be told their type."""
    assert Many([1, 2]) == (1, 2)
    assert list(Many[int](iter([1, 2]))) == [1, 2]
    assert type(Many[int]([1])) is Many
    assert not Many()
    assert not hasattr(Many(), "__dict__")


# Frames


async def test_frames_tells_the_raw_frame_its_time_and_its_connection():
    """``frames`` emits ``(raw, received_ns, connection_number)``, before the message, for rejected frames, too."""
    first, second = ScriptedWebsocket("1", "bad", "[2, 3]"), ScriptedWebsocket(b"4")
    both = []
    started = time.time_ns()
    async with parsing(lambda raw: Many(json.loads(raw)) if raw == "[2, 3]" else json.loads(raw))(
        first, second
    ) as feed:
        feed.frames.subscribe(both.append)
        feed.messages.subscribe(both.append)
        stream = feed.stream_filter()
        await take(stream, 3)
        first.end()
        await take(stream, 1)
    frames = [item for item in both if isinstance(item, tuple)]
    assert [(raw, number) for raw, _, number in frames] == [("1", 1), ("bad", 1), ("[2, 3]", 1), (b"4", 2)]
    times = [received for _, received, _ in frames]
    assert times == sorted(times)
    assert all(started <= received <= time.time_ns() for received in times)
    assert [item if isinstance(item, int) else item[0] for item in both] == ["1", 1, "bad", "[2, 3]", 2, 3, b"4", 4]


async def test_frames_cost_nothing_while_nobody_subscribes(monkeypatch):
    """The clock is asked while somebody is subscribed to ``frames``, and at no other time."""
    asked = []
    monkeypatch.setattr("rxws.messages.reader.time.time_ns", lambda: asked.append(1) or 7)
    websocket = ScriptedWebsocket("1", "2")
    async with ScriptedFeed(websocket) as feed:
        stream = feed.stream_filter()
        await take(stream, 2)
        assert asked == []
        frames = []
        subscription = feed.frames.subscribe(frames.append)
        websocket.come("3")
        await take(stream, 1)
        subscription.dispose()
        websocket.come("4")
        await take(stream, 1)
    assert frames == [("3", 7, 1)]
    assert len(asked) == 1


async def test_frames_end_with_the_feed():
    """``frames`` completes when the feed is closed, and iterates as ``messages`` does."""
    websocket = ScriptedWebsocket()
    async with ScriptedFeed(websocket) as feed:
        frames = aiter(feed.frames)
        websocket.come("1")
        await take(feed.stream_filter(), 1)
    assert [raw async for raw, _, _ in frames] == ["1"]


async def test_bytes_are_those_of_the_payload():
    """``statistics().bytes`` counts a text frame as UTF-8, and rejected frames, too."""
    async with ScriptedFeed(ScriptedWebsocket('"ä€"', b'"b"', "bad"), parse=json.loads) as feed:
        await take(feed.stream_filter(), 2)
        await asyncio.sleep(1)
        assert feed.statistics().rejected == 1
        assert feed.statistics().bytes == 7 + 3 + 3


# Replies


def replying(reply, kind=Feed):
    """Give a class of feeds with this reply hook."""
    return type("Replying", (kind,), {"_reply": lambda self, raw_data: reply(raw_data)})


@pytest.mark.parametrize(
    ("answer", "sent"), [("pong", ["pong"]), (b"\x00", [b"\x00"]), ({"op": "pong"}, ['{"op":"pong"}']), (None, [])]
)
async def test_reply_is_sent_at_once_on_the_same_connection(answer, sent):
    """What ``_reply`` returns goes back at once: text, binary, or JSON; None is nothing."""
    websocket = ScriptedWebsocket('"ping"')
    async with replying(lambda raw: answer, ScriptedFeed)(websocket, parse=json.loads) as feed:
        assert await take(feed.stream_filter(), 1) == ["ping"]
        await asyncio.sleep(0)
        assert websocket.sent == sent


async def test_reply_is_asked_for_every_frame_before_it_is_parsed():
    """A frame that cannot be parsed is answered as well."""
    websocket = ScriptedWebsocket("ping", "1")
    async with replying(lambda raw: raw.upper(), ScriptedFeed)(websocket, parse=json.loads) as feed:
        await take(feed.stream_filter(), 1)
        await asyncio.sleep(0)
        assert websocket.sent == ["PING", "1"]
        assert feed.statistics().rejected == 1


async def test_held_connection_is_answered_on_itself(feed_server):
    """While a connection is held in an overlap it is answered too, and on itself."""
    async with replying(lambda raw: raw if "ping" in raw else None)(feed_server, handover_timeout=5) as feed:
        first = await opened(feed, feed_server)
        rotating = feed.rotate()
        second = await feed_server.connected(2)
        await first.send({"ping": 1})
        await second.send({"ping": 2})
        assert await first.expect({"ping": 1}, timeout=0.5) == '{"ping":1}'
        assert await second.expect({"ping": 2}, timeout=0.5) == '{"ping":2}'
        assert not rotating.done()
        assert len(first.received) == len(second.received) == 1
        await rotating


@pytest.mark.parametrize(
    ("reply", "error"),
    [(lambda raw: 1 / 0, ZeroDivisionError), (lambda raw: object(), TypeError), (lambda raw: float("nan"), ValueError)],
)
async def test_reply_that_fails_is_reported(reply, error):
    """A hook that raises, or gives what cannot be sent, is reported; the frame is delivered all the same."""
    websocket = ScriptedWebsocket("1", "2")
    async with replying(reply, ScriptedFeed)(websocket) as feed:
        events = record(feed.events)
        assert await take(feed.stream_filter(), 2) == [1, 2]
        failed = of_kind(CallbackFailed, events)
        assert [type(event.error) for event in failed] == [error, error]
        assert [event.message for event in failed] == ["1", "2"]
        assert websocket.sent == []
        assert feed.statistics().opened == 1


async def test_reply_to_a_peer_that_takes_nothing_ends_its_connection():
    """A pong that cannot be handed over in ``send_timeout`` seconds means a dead peer: there is a new connection."""
    loop = asyncio.get_running_loop()
    async with replying(lambda raw: raw, ScriptedFeed)(
        StuckWebsocket("1"), ScriptedWebsocket("2"), send_timeout=3
    ) as feed:
        started = loop.time()
        assert await take(feed.stream_filter(), 2) == [1, 2]
        assert loop.time() - started == pytest.approx(3, abs=0.1)
        assert feed.statistics().reconnects == {"network": 1}
