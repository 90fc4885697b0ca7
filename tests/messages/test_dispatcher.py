"""The dispatcher of frames: parsing, answers, splitting into messages, rejection, and the Observable of frames."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from rxws import CallbackFailed, Gap, Many, MessageRejected
from rxws.interface import feed_of
from tests.support.feeds import Feed, of_kind, opened, record, take
from tests.support.life import ScriptedFeed, ScriptedWebsocket, StuckWebsocket

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


def parsing(parse, kind=ScriptedFeed):
    """Return a class of feeds with this parse hook."""
    return type("Parsing", (kind,), {"_parse_raw_data": lambda self, raw_data: parse(raw_data)})


def rejected(events):
    """Return the frame, the error and the count of each MessageRejected event."""
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
        # Each message waits for a shorter time than the one before, and the last ones do not wait.
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
async def test_messages_keep_the_order_when_the_parse_hook_suspends(kind):
    """Messages keep the order of their frames, whether the parse hook is a plain or a coroutine function."""
    websocket = ScriptedWebsocket(*map(str, range(12)))
    async with kind(websocket) as feed:
        stream = feed.stream_filter()
        assert await take(stream, 12) == list(range(12))
        assert feed.statistics().messages == 12


async def test_parse_hook_gets_str_or_bytes_when_a_frame_is_text_or_binary():
    """The parse hook gets a text frame as ``str`` and a binary frame as ``bytes``."""
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
    """Raise from a plain function."""
    raise error


@pytest.mark.parametrize("how", [fail, fail_at_once, fail_later])
@pytest.mark.parametrize(
    "error", [ValueError("bad"), asyncio.CancelledError(), StopAsyncIteration(), KeyError("e"), TimeoutError("slow")]
)
async def test_frame_is_skipped_when_the_parse_hook_raises(how, error, caplog):
    """A frame for which the parse hook raises is skipped, logged, counted and emitted; the next frame is delivered."""
    websocket = ScriptedWebsocket("1", "bad", "2", "bad")
    async with parsing(lambda raw: how(error) if raw == "bad" else json.loads(raw))(websocket) as feed:
        events = record(feed.events)
        assert await take(feed.stream_filter(), 2) == [1, 2]
        await asyncio.sleep(1)
        assert rejected(events) == [("bad", error, 1), ("bad", error, 2)]
        assert feed.statistics().rejected == 2
        assert feed.statistics().messages == 2
        assert feed.statistics().opened == 1
    assert "a frame could not be parsed" in caplog.text


async def test_log_contains_no_secret_when_the_parse_hook_raises(caplog):
    """A secret in a URL in the parse hook's exception appears neither in the log nor in the event's repr."""
    websocket = ScriptedWebsocket("1")
    async with parsing(lambda raw: fail(OSError("no https://example.com/?token=hunter2")))(websocket) as feed:
        events = record(feed.events)
        await asyncio.sleep(1)
    assert "hunter2" not in caplog.text + repr(events)
    assert "https://example.com/?token=***" in caplog.text


@pytest.mark.parametrize("how", [fail, fail_at_once, fail_later])
async def test_frame_is_skipped_when_the_parse_hook_raises_stop_iteration(how):
    """A StopIteration from ``next()`` in the parse hook skips the frame, as any other exception does."""
    websocket = ScriptedWebsocket("bad", "2")
    async with parsing(lambda raw: how(StopIteration("a value")) if raw == "bad" else json.loads(raw))(
        websocket
    ) as feed:
        events = record(feed.events)
        assert await take(feed.stream_filter(), 1) == [2]
        assert len(rejected(events)) == 1


async def test_frame_is_skipped_when_the_parse_hook_never_returns():
    """After 10 s in the parse hook a frame is rejected with a TimeoutError; the next frame is delivered."""
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


async def test_exit_cancels_the_parse_hook_when_it_waits():
    """``exit()`` cancels a waiting parse hook, which counts neither as a rejected frame nor as a failure."""
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


async def test_frame_is_delivered_when_the_connection_is_lost_during_parsing():
    """A frame whose parse hook still waits when the connection ends is delivered."""
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
async def test_each_item_is_a_message_when_the_parse_hook_returns_many(is_coroutine_function):
    """``Many(items)`` is one message per item, ``Many()`` contains none, and a list is one message."""

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
    """``Many`` is a tuple of its items, and takes their type as a parameter."""
    assert Many([1, 2]) == (1, 2)
    assert list(Many[int](iter([1, 2]))) == [1, 2]
    assert type(Many[int]([1])) is Many
    assert not Many()
    assert not hasattr(Many(), "__dict__")


# Frames


async def test_frames_emits_each_frame_before_its_message():
    """``frames`` emits ``(raw, received_ns, connection_number)`` before the message, even for a rejected frame."""
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


async def test_frames_reads_no_clock_when_it_has_no_subscribers():
    """The clock is read per frame only while ``frames`` has a subscriber."""
    asked = []
    websocket = ScriptedWebsocket("1", "2")
    async with ScriptedFeed(websocket) as feed:
        feed_of(feed).reporter.time_ns = lambda: asked.append(1) or 7
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


async def test_frames_completes_when_the_feed_is_closed():
    """``frames`` completes when the feed is closed, and supports ``async for`` as ``messages`` does."""
    websocket = ScriptedWebsocket()
    async with ScriptedFeed(websocket) as feed:
        frames = aiter(feed.frames)
        websocket.come("1")
        await take(feed.stream_filter(), 1)
    assert [raw async for raw, _, _ in frames] == ["1"]


async def test_bytes_counts_payloads_when_frames_arrive():
    """``statistics().bytes`` counts a text frame as UTF-8, and includes rejected frames."""
    async with ScriptedFeed(ScriptedWebsocket('"ä€"', b'"b"', "bad"), parse=json.loads) as feed:
        await take(feed.stream_filter(), 2)
        await asyncio.sleep(1)
        assert feed.statistics().rejected == 1
        assert feed.statistics().bytes == 7 + 3 + 3


# Replies


def replying(reply, kind=Feed):
    """Return a class of feeds with this reply hook."""
    return type("Replying", (kind,), {"_reply": lambda self, raw_data: reply(raw_data)})


@pytest.mark.parametrize(
    ("answer", "sent"), [("pong", ["pong"]), (b"\x00", [b"\x00"]), ({"op": "pong"}, ['{"op":"pong"}']), (None, [])]
)
async def test_answer_is_sent_at_once_when_the_reply_hook_returns_it(answer, sent):
    """The result of ``_reply`` is sent at once on the same connection, as text, binary or JSON; None sends nothing."""
    websocket = ScriptedWebsocket('"ping"')
    async with replying(lambda raw: answer, ScriptedFeed)(websocket, parse=json.loads) as feed:
        assert await take(feed.stream_filter(), 1) == ["ping"]
        await asyncio.sleep(0)
        assert websocket.sent == sent


async def test_reply_hook_is_called_when_a_frame_cannot_be_parsed():
    """``_reply`` is called for every frame before it is parsed, so a rejected frame is answered, too."""
    websocket = ScriptedWebsocket("ping", "1")
    async with replying(lambda raw: raw.upper(), ScriptedFeed)(websocket, parse=json.loads) as feed:
        await take(feed.stream_filter(), 1)
        await asyncio.sleep(0)
        assert websocket.sent == ["PING", "1"]
        assert feed.statistics().rejected == 1


async def test_answer_goes_to_the_held_connection_when_its_frame_arrives_there(feed_server):
    """In an overlap each of the two connections gets the answers to its own frames."""
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
async def test_failure_is_reported_when_the_reply_hook_fails(reply, error):
    """A reply hook that raises or returns an invalid message is reported; the frame is delivered nevertheless."""
    websocket = ScriptedWebsocket("1", "2")
    async with replying(reply, ScriptedFeed)(websocket) as feed:
        events = record(feed.events)
        assert await take(feed.stream_filter(), 2) == [1, 2]
        failed = of_kind(CallbackFailed, events)
        assert [type(event.error) for event in failed] == [error, error]
        assert [event.message for event in failed] == ["1", "2"]
        assert websocket.sent == []
        assert feed.statistics().opened == 1


async def test_connection_ends_when_an_answer_cannot_be_sent():
    """If an answer cannot be sent within ``send_timeout``, the connection is aborted and the feed reconnects."""
    loop = asyncio.get_running_loop()
    async with replying(lambda raw: raw, ScriptedFeed)(
        StuckWebsocket("1"), ScriptedWebsocket("2"), send_timeout=3
    ) as feed:
        started = loop.time()
        assert await take(feed.stream_filter(), 2) == [1, 2]
        assert loop.time() - started == pytest.approx(3, abs=0.1)
        assert feed.statistics().reconnects == {"network": 1}


# Gaps of the source


def with_gaps(raw):
    """Parse each word of a frame: ``gap`` becomes a Gap, other words are messages. Several words become a Many."""
    items = [Gap(5.0, 7.5) if word == "gap" else word for word in raw.split()]
    return items[0] if len(items) == 1 else Many(items)


@pytest.mark.parametrize("frames", [("a", "gap", "b"), ("a gap b",), ("a gap", "b"), ("a", "gap b")])
async def test_gap_of_the_parse_hook_is_in_its_place(frames, caplog):
    """A Gap that the parse hook returns, alone or in a Many, is announced between the messages, emitted and counted."""
    async with parsing(with_gaps)(ScriptedWebsocket(*frames)) as feed:
        whole, messages_only = feed.stream_filter(gaps=True), feed.stream_filter()
        first, gap, second = await take(whole, 3)
        assert (first, second) == ("a", "b")
        assert (gap.start, gap.end, gap.reason, gap.last_message) == (5.0, 7.5, "source", "a")
        assert (gap.name, gap.time) == (repr(feed).split(":")[0][1:], feed.record.of(Gap)[0].time)
        assert gap.time > 1e9
        assert feed.record.of(Gap) == [gap]
        assert feed.record.messages == await take(messages_only, 2) == ["a", "b"]
        assert (feed.statistics().gaps, feed.statistics().messages) == (1, 2)
    assert "messages of 2,500.0 ms may be missing" in caplog.text


async def test_gap_of_the_parse_hook_gets_its_fields_from_the_feed():
    """The feed sets the other fields of a Gap, even if the hook has set them."""
    made = Gap(1, 2, "network", "mine", name="mine", time=3.0)
    async with parsing(lambda raw: made if raw == "gap" else raw)(ScriptedWebsocket("a", "gap")) as feed:
        stream = feed.stream_filter(gaps=True)
        _, gap = await take(stream, 2)
        assert (gap.start, gap.end, gap.reason, gap.last_message) == (1.0, 2.0, "source", "a")
        assert gap.name != "mine"
        assert gap.time != 3.0


@pytest.mark.parametrize(
    ("start", "end"), [(2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf")), ("then", 1.0), (0.0, None)]
)
@pytest.mark.parametrize("is_one_of_many", [False, True])
async def test_gap_of_the_parse_hook_without_proper_times_is_rejected(start, end, is_one_of_many):
    """A Gap with invalid times is rejected with an error that shows both; the other messages are delivered."""
    gap = Gap(start, end)
    found = Many(["b", gap, "c"]) if is_one_of_many else gap
    async with parsing(lambda raw: found if raw == "gap" else raw)(ScriptedWebsocket("a", "gap", "d")) as feed:
        stream, events = feed.stream_filter(gaps=True), record(feed.events)
        assert await take(stream, 4 if is_one_of_many else 2) == ["a", *(["b", "c"] if is_one_of_many else []), "d"]
        [(frame, error, count)] = rejected(events)
        assert (frame, type(error), count) == ("gap", ValueError, 1)
        assert f"not {start!r} and {end!r}" in str(error)
        assert feed.statistics().gaps == 0


async def test_gap_of_the_parse_hook_is_not_a_reply():
    """A filter for an awaited reply is not called with a Gap."""
    seen = []

    async with parsing(with_gaps)(ScriptedWebsocket()) as feed:
        await feed.opened()
        asking = asyncio.create_task(feed.request("question", lambda message: seen.append(message) or message == "yes"))
        await asyncio.sleep(0.1)
        feed.websocket.come("gap", "gap yes")
        assert await asking == "yes"
        assert seen == ["yes"]
        assert feed.statistics().gaps == 2


async def test_gap_of_the_parse_hook_when_frames_are_subscribed():
    """The frame of a Gap is in ``frames``, too, before the Gap is announced."""
    async with parsing(with_gaps)(ScriptedWebsocket("a", "gap")) as feed:
        seen = []
        feed.frames.subscribe(lambda frame: seen.append(frame[0]))
        feed.events.subscribe(lambda event: seen.append("Gap") if isinstance(event, Gap) else None)
        await feed.record.happened(Gap)
        assert seen == ["a", "gap", "Gap"]
