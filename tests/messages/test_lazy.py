"""Lazy decoding: which frames are decoded, when, and that consumers do not notice."""

from __future__ import annotations

import asyncio
import enum
import gc
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from reactivex import operators as ops

import rxws
from rxws import codec
from rxws.messages.lazy import LARGE, Lazy, reader_of_keys
from rxws.messages.router import Receiver
from rxws.messages.shapes import ABSENT, look_up
from rxws.observables.deferred import Deferred
from tests.support.feeds import of_kind, opened, record, take
from tests.support.wiring import Wiring

PAD = "x" * LARGE


def large(**message: Any) -> str:
    """Return a frame that is large enough to be decoded lazily."""
    return json.dumps({**message, "pad": PAD})


# The keys, against the whole message

KEYS = st.sampled_from(["a", "b", "data", "s", "", "a b", "\n", "\\", '"', "a.b"])
OTHER_KEYS = KEYS | st.sampled_from(["ä", "𝄞", "\x00"])
PATHS = st.one_of(KEYS, st.lists(st.one_of(KEYS, st.integers(-2, 2)), min_size=1, max_size=3).map(tuple))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(OTHER_KEYS, inner, max_size=4), max_leaves=12
)


@st.composite
def frames(draw: st.DrawFn) -> str:
    """Draw the text of a JSON value, with duplicate keys, escapes and white space, and perhaps damaged."""

    def text(value: Any) -> str:
        if isinstance(value, dict):
            pairs = [f"{text(key)}{draw(SPACE)}:{text(each)}" for key, each in value.items()]
            if pairs and draw(st.booleans()):
                # The last one of equal keys wins.
                pairs.append(f"{text(draw(st.sampled_from(list(value))))}:{text(draw(SCALARS))}")
            return "{" + ",".join(pairs) + draw(SPACE) + "}"
        if isinstance(value, list):
            return "[" + ",".join(text(each) for each in value) + "]"
        if isinstance(value, str) and draw(st.booleans()):
            return '"' + "".join(f"\\u{unit:04x}" for unit in _utf16(value)) + '"'
        return json.dumps(value, ensure_ascii=draw(st.booleans()))

    whole = text(draw(VALUES | st.dictionaries(OTHER_KEYS, VALUES, max_size=6)))
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(whole)))
        whole = whole[:at] + draw(st.sampled_from(["", "}", ",", "x", '"'])) + whole[at + 1 :]
    return whole


SPACE = st.sampled_from(["", " ", "\n\t"])


def _utf16(value: str) -> list[int]:
    encoded = value.encode("utf-16-le", "surrogatepass")
    return [int.from_bytes(encoded[at : at + 2], "little") for at in range(0, len(encoded), 2)]


@given(frames(), st.frozensets(PATHS, max_size=4), st.booleans())
@example('{"a":1,"a":2}', frozenset({"a"}), False)
@example('{"\\u0061":1}', frozenset({"a"}), True)
@example('{"a":123456789012345678901234567890}', frozenset({"a"}), False)
@example('{"data":{"s":1},"data":{"b":2}}', frozenset({("data", "s")}), False)
@example('{"data":null}', frozenset({("data", "s")}), False)
@example('{"data":[{"s":1}]}', frozenset({("data", 0, "s"), ("data", "s"), "data"}), False)
@example("[1]", frozenset({"a"}), False)
def test_keys_when_compared_with_the_whole_message(frame: str, keys: frozenset[Any], is_binary: bool) -> None:
    """If the keys can be read and the frame is valid, they have the values that the whole message has."""
    read = reader_of_keys(keys)
    assert read is not None
    raw: Any = frame
    if is_binary:
        raw = frame.encode(errors="surrogatepass")
    try:
        part = read(raw)
    except Exception:
        return
    assert type(part) is dict
    try:
        whole = codec.decode(raw)
    except Exception:
        # What is not read may be invalid.
        return
    for key in keys:
        found, expected = look_up(part, key), look_up(whole, key)
        assert type(found) is type(expected)
        assert found == expected


@given(frames(), st.frozensets(KEYS, max_size=4))
def test_keys_when_the_message_is_an_object(frame: str, keys: frozenset[Any]) -> None:
    """The keys of every valid JSON object can be read, so that none is decoded at once without need."""
    try:
        whole = codec.decode(frame)
    except Exception:
        return
    read = reader_of_keys(keys)
    assert read is not None
    if type(whole) is dict:
        assert read(frame) == {key: whole[key] for key in keys if key in whole}
    else:
        with pytest.raises(Exception, match="Expected `object`"):
            read(frame)


class Word(enum.StrEnum):
    """A key that is a str of another class."""

    B = "only here"


@pytest.mark.parametrize("key", [Word.B, "ä", ("data", "ä"), "\ud800"])
def test_keys_when_one_cannot_be_read(key: Any) -> None:
    """A key that may equal other strings, or that no JSON has, makes lazy decoding impossible."""
    assert reader_of_keys(frozenset({key})) is None


def test_keys_when_they_are_no_strings() -> None:
    """A position in a list is in no object, so it is not read there."""
    read = reader_of_keys(frozenset({0, (1, "s"), None}))
    assert read is not None
    assert read('{"0":1,"1":{"s":2}}') == {}
    assert look_up(read("{}"), 0) is ABSENT


# A feed

virtual = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


class Decoding:
    """Counts the frames that are decoded as a whole."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.later = self.at_once = 0
        make, parse = Lazy.make, Lazy.parse

        def counted_make(lazy: Lazy, source: Any) -> Any:
            self.later += 1
            return make(lazy, source)

        def counted_parse(lazy: Lazy, frame: Any) -> Any:
            message = parse(lazy, frame)
            self.at_once += isinstance(message, dict | list)
            return message

        monkeypatch.setattr(Lazy, "make", counted_make)
        # The search for misspelled filters looks at a message now and then.
        monkeypatch.setattr(Deferred, "peek", lambda _: None)
        monkeypatch.setattr(Lazy, "parse", counted_parse)

    @property
    def count(self) -> tuple[int, int]:
        """The numbers of frames that were decoded later, and at once."""
        return self.later, self.at_once


@pytest.fixture
def decoding(monkeypatch):
    return Decoding(monkeypatch)


def ready_made(server, **options):
    return rxws.ReactiveWebSocket(server.url, connect_options={"compression": None, "proxy": None}, **options)


@virtual
async def test_frame_is_not_decoded_when_no_consumer_wants_it(feed_server, decoding):
    """A frame that no consumer wants is counted and not decoded; one that a function wants is decoded at once."""
    async with ready_made(feed_server) as feed:
        seen = record(feed.stream_filter([{"s": "A"}]))
        handled = []
        feed.add_handler(handled.append, [{"s": "B"}])
        connection = await feed_server.connected()
        await connection.send(*[large(s=symbol) for symbol in "ABCDC"])
        await asyncio.sleep(1)
        assert [message["s"] for message in seen + handled] == ["A", "B"]
        assert decoding.count == (2, 0)
        assert feed.statistics().messages == 5


@virtual
async def test_waiting_message_is_decoded_when_it_is_taken(feed_server, decoding):
    """Streams that share a message share its object. It is decoded once, when the first of them takes it."""
    async with ready_made(feed_server) as feed:
        first, second = feed.stream_filter([{"s": "A"}]), feed.stream_filter([{"n": 1}])
        connection = await feed_server.connected()
        await connection.send(large(s="A", n=1), large(s="A", n=2))
        await asyncio.sleep(1)
        assert decoding.count == (0, 0)
        assert (first.pending, second.pending) == (2, 1)
        assert feed.statistics().pending_bytes == 3 * len(large(s="A", n=1))
        message = await anext(first)
        assert message == {"s": "A", "n": 1, "pad": PAD}
        assert await anext(second) is message
        assert decoding.count == (1, 0)
        first.clear()
        assert decoding.count == (1, 0)


@virtual
async def test_dropped_message_is_not_decoded(feed_server, decoding):
    """What is dropped from a full stream is never decoded."""
    async with ready_made(feed_server) as feed:
        stream = feed.stream_filter([{"s": "A"}], maxsize=2, overflow="drop_oldest")
        connection = await feed_server.connected()
        await connection.send(*[large(s="A", n=n) for n in range(10)])
        await asyncio.sleep(1)
        assert [message["n"] for message in await take(stream, 2)] == [8, 9]
        assert decoding.count == (2, 0)


@virtual
@pytest.mark.parametrize(
    "want",
    [
        lambda feed: feed.messages.subscribe(lambda _: None),
        lambda feed: feed.frames.subscribe(lambda _: None),
        lambda feed: feed.add_handler(lambda _: None),
        lambda feed: feed.add_handler(lambda _: None, lambda message: message["s"] == "A"),
    ],
    ids=["messages", "frames", "everything", "function"],
)
async def test_frames_are_decoded_at_once_while_a_consumer_wants_all(feed_server, decoding, want):
    """A consumer of everything, and a function as a filter, end lazy decoding; when they go, it begins again."""
    async with ready_made(feed_server) as feed:
        stream = feed.stream_filter([{"s": "A"}])
        connection = await feed_server.connected()
        await connection.send(large(s="B"))
        await asyncio.sleep(1)
        consumer = want(feed)
        await connection.send(large(s="B"))
        await asyncio.sleep(1)
        assert decoding.count == (0, 1)
        consumer.dispose()
        await connection.send(large(s="B"), large(s="A"))
        await asyncio.sleep(1)
        assert decoding.count == (0, 1)
        assert (await anext(stream))["s"] == "A"
        assert decoding.count == (1, 1)


@virtual
@pytest.mark.parametrize(
    "options",
    [
        {"decode": json.loads},
        {"decoder_factory": lambda: codec.decode},
        {"split": True},
        {"identity": lambda message: message["n"]},
        {"per_connection": [{"hello": 1}]},
        {"resume": True, "cursor": "n"},
    ],
    ids=lambda options: next(iter(options)),
)
async def test_frames_are_decoded_at_once_with_an_option_that_looks_into_messages(feed_server, decoding, options):
    """With options that change or need the messages, every frame is decoded when it arrives."""
    async with ready_made(feed_server, **options) as feed:
        stream = feed.stream_filter([{"s": "A"}])
        connection = await feed_server.connected()
        await connection.send(large(s="A", n=1))
        assert (await anext(stream))["n"] == 1
        assert decoding.later == 0


@virtual
async def test_frames_are_decoded_at_once_with_a_hook_of_a_subclass(feed_server, decoding):
    """A subclass with its own parse hook gets every frame."""

    class Own(rxws.ReactiveWebSocket):
        def _parse_raw_data(self, raw_data):
            return {**json.loads(raw_data), "own": True}

    async with Own(feed_server.url) as feed:
        stream = feed.stream_filter([{"own": True}])
        connection = await feed_server.connected()
        await connection.send(large(s="A"))
        assert (await anext(stream))["s"] == "A"
        assert decoding.count == (0, 0)


@virtual
@pytest.mark.parametrize(
    "filters",
    [
        [{"s": "A"}],
        [{"s": "A", "e": "trade"}, {("data", "s"): "A"}],
        [{"s": rxws.one_of("A", "B")}],
        [{"s": rxws.starts_with("A")}],
        [{"p": rxws.between(1, 2)}, {"s": rxws.present, "levels": [1, 2]}],
        [{("levels", 0): 1}],
    ],
    ids=str,
)
async def test_same_messages_pass_when_decoded_lazily(feed_server, decoding, filters):
    """Every kind of dict finds the messages that it finds without lazy decoding."""
    messages = [
        {"s": "A"},
        {"s": "AB", "p": "1.5"},
        {"s": "B", "e": "trade", "levels": [1, 2]},
        {"s": "A", "e": "trade"},
        {"data": {"s": "A"}},
        {"data": None, "s": "A"},
        {"data": [1], "p": 3},
        {"s": ["A"]},
        {"s": None, "levels": [2, 1]},
    ]
    expected = [message for message in messages if rxws.messages.Filter.parse(filters)(message)]
    async with ready_made(feed_server) as feed:
        stream = feed.stream_filter(filters)
        connection = await feed_server.connected()
        await connection.send(*[large(**message) for message in messages], "[1]" + " " * LARGE)
        await asyncio.sleep(1)
        assert decoding.later == 0
        assert [{**message, "pad": PAD} for message in expected] == await take(stream, stream.pending)
        assert expected


@virtual
async def test_frame_that_cannot_be_decoded_when_taken_is_rejected_then(feed_server):
    """It is skipped, counted and emitted when the message is taken, once for all streams. No consumer: no report."""
    async with ready_made(feed_server) as feed:
        events = record(feed.events)
        first, second = feed.stream_filter([{"s": "A"}]), feed.stream_filter([{"n": 1}])
        subscribed = record(feed.stream_filter([{"s": "B"}]))
        connection = await feed_server.connected()
        # Reading the keys does not notice that this number is too large.
        bad = [large(s=symbol, n=1).replace(PAD, PAD + '","x":1e999,"y":"') for symbol in "AC"]
        await connection.send(*bad, large(s="A", n=2), large(n=1))
        await asyncio.sleep(1)
        assert feed.statistics().rejected == 0
        assert (await anext(first))["n"] == 2
        assert (await anext(second))["n"] == 1
        (rejected, other) = of_kind(rxws.MessageRejected, events)
        assert [rejected.raw, other.raw] == bad
        await connection.send(large(s="B").replace(PAD, PAD + '","x":1e999,"y":"'))
        await asyncio.sleep(1)
        assert feed.statistics().rejected == 3
        assert not subscribed


@virtual
async def test_frame_that_is_no_json_is_rejected_at_once(feed_server):
    """A frame of which the keys cannot be read takes the usual way, so it does not count as a message."""
    async with ready_made(feed_server) as feed:
        events, stream = record(feed.events), feed.stream_filter([{"s": "A"}])
        connection = await feed_server.connected()
        await connection.send("no JSON" + PAD, large(s="A"))
        assert (await anext(stream))["s"] == "A"
        assert [event.raw for event in of_kind(rxws.MessageRejected, events)] == ["no JSON" + PAD]
        assert feed.statistics().messages == 1


@virtual
async def test_request_gets_its_reply_when_frames_are_decoded_lazily(feed_server):
    """While a reply is awaited, every message is decoded at once."""
    async with ready_made(feed_server) as feed:
        stream = feed.stream_filter([{"s": "A"}])
        connection = await opened(feed, feed_server)
        asking = asyncio.ensure_future(feed.request("ping", lambda message: message.get("id") == 7))
        assert await feed_server.expect() == "ping"
        await connection.send(large(s="A"), large(id=7))
        assert (await asking)["id"] == 7
        assert (await anext(stream))["s"] == "A"


@virtual
async def test_gap_has_the_last_message(feed_server):
    """A Gap has the last message, although no consumer wanted it."""
    async with ready_made(feed_server) as feed:
        gaps = record(feed.events.pipe(ops.filter(lambda event: isinstance(event, rxws.Gap))))
        kept = feed.stream_filter([{"s": "A"}])
        connection = await feed_server.connected()
        await connection.send(large(s="B", n=5))
        await asyncio.sleep(1)
        await connection.close(1011)
        await opened(feed, feed_server, 2)
        await asyncio.sleep(1)
        assert gaps[0].last_message["n"] == 5
        assert kept.pending == 0


async def overlapping(feed, feed_server):
    """Begin a rotation after a message. Return both connections of the server, and the task that rotates."""
    old = await feed_server.connected()
    await old.send(large(s="A", n=1))
    await asyncio.sleep(1)
    rotating = asyncio.ensure_future(feed.rotate())
    return old, await feed_server.connected(2), rotating


@virtual
async def test_overlap_delivers_each_message_once_when_frames_are_held(feed_server, decoding):
    """A rotation compares and holds frames. Copies are never decoded."""
    async with ready_made(feed_server) as feed:
        stream = feed.stream_filter([{"s": "A"}])
        old, new, rotating = await overlapping(feed, feed_server)
        await new.send(*[large(s="A", n=n) for n in range(2, 7)], large(s="B"))
        await asyncio.sleep(0.1)
        await old.send(*[large(s="A", n=n) for n in range(2, 5)])
        assert await rotating
        assert feed.statistics().duplicates == 3
        await asyncio.sleep(10)
        assert decoding.count == (0, 0)
        assert stream.pending == 6
        assert [message["n"] for message in await take(stream, 6)] == [1, 2, 3, 4, 5, 6]
        assert decoding.count == (6, 0)


@virtual
async def test_consumer_that_comes_in_an_overlap_gets_held_messages(feed_server):
    """Held frames whose keys were read for other filters are compared as whole messages."""
    async with ready_made(feed_server) as feed:
        stream = feed.stream_filter([{"s": "A"}])
        old, new, rotating = await overlapping(feed, feed_server)
        await new.send(large(s="A", n=2), large(s="B", k=1))
        await asyncio.sleep(0.1)
        other, every = feed.stream_filter([{"k": 1}]), feed.stream_filter(lambda message: "n" in message)
        messages = record(feed.messages)
        await old.send(large(s="A", n=2))
        assert await rotating
        await asyncio.sleep(10)
        assert [message["n"] for message in await take(stream, stream.pending)] == [1, 2]
        assert [message["s"] for message in await take(other, 1)] == ["B"]
        assert [message["n"] for message in await take(every, every.pending)] == [2]
        assert [message.get("n") for message in messages] == [2, None]


@virtual
async def test_copy_and_collect_and_batches_get_whole_messages(feed_server):
    """Every way to consume a stream gives decoded messages."""
    async with ready_made(feed_server) as feed:
        copies = [feed.stream_filter([{"s": "A"}], copy=True) for _ in range(2)]
        batched, collected = feed.stream_filter([{"s": "A"}]), feed.stream_filter([{"s": "A"}])
        late = feed.stream_filter([{"s": "A"}])
        handled = []

        async def handle(message):
            handled.append(message["n"])

        feed.add_handler(handle, [{"s": "A"}])
        connection = await feed_server.connected()
        await connection.send(*[large(s="A", n=n) for n in range(3)])
        await asyncio.sleep(1)
        one, two = await anext(copies[0]), await anext(copies[1])
        assert one == two
        assert one is not two
        assert [message["n"] for message in await anext(batched.batches())] == [0, 1, 2]
        assert [message["n"] for message in await collected.collect(2)] == [0, 1]
        seen = record(late)
        await asyncio.sleep(0)
        assert [message["n"] for message in seen] == handled == [0, 1, 2]
        assert "'n': 2" in late._repr_mimebundle_()["text/plain"] or not late.pending
        assert "'pad'" not in repr(late)


# A message that cannot be decoded, at each receiver


class Failing:
    """Makes no item, and counts its failures."""

    def __init__(self):
        self.failures = 0

    def make(self, source):
        raise ValueError(source)

    def failed(self, source, error):
        self.failures += 1


class Whole(Receiver):
    """A receiver that does not know Deferreds."""

    def __init__(self):
        self.received = []

    def on_message(self, message):
        self.received.append(message)


def routed(wiring):
    """Route a message that cannot be decoded, and one that can."""
    maker, router = Failing(), wiring.router
    router.route(Deferred(maker, "frame", {"s": "A"}, router.index.token))
    router.route({"s": "A", "n": 2})
    return maker


async def test_receivers_skip_a_message_that_cannot_be_decoded():
    """Functions, copies, subscribers and other receivers skip it. It is reported once."""
    wiring = Wiring()
    functions = []
    wiring.handler(functions.append, [{"s": "A"}])
    copies, subscribed = wiring.stream([{"s": "A"}], copy=True), record(wiring.stream([{"s": "A"}]))
    late, whole = wiring.stream([{"s": "A"}]), Whole()
    wiring.router.add(whole, rxws.messages.Filter.parse([{"s": "A"}]))
    maker = routed(wiring)
    assert functions == subscribed == whole.received == [{"s": "A", "n": 2}]
    assert await anext(copies) == {"s": "A", "n": 2}
    assert late.pending == 2
    seen = record(late)
    await asyncio.sleep(0)
    assert seen == [{"s": "A", "n": 2}]
    assert maker.failures == 1


async def test_report_of_a_receiver_that_raises_has_the_whole_message():
    """The event has the decoded message, although the receiver got a Deferred."""
    wiring = Wiring()
    maker = Failing()
    maker.make = lambda source: {"s": "A", "n": 1}

    class Raising(Whole):
        takes_deferred = True

        def on_message(self, message):
            raise ValueError("a bug")

    wiring.router.add(Raising(), rxws.messages.Filter.parse([{"s": "A"}]))
    wiring.router.route(Deferred(maker, "frame", {"s": "A"}, wiring.router.index.token))
    assert [event.message for event in of_kind(rxws.CallbackFailed, wiring.seen)] == [{"s": "A", "n": 1}]


async def test_subscribers_of_messages_skip_a_message_that_cannot_be_decoded():
    """A subscriber of all messages does not get it, and neither does a stream."""
    wiring = Wiring()
    seen, stream = record(wiring.router.messages), wiring.stream([{"s": "A"}])
    maker = routed(wiring)
    assert seen == [{"s": "A", "n": 2}]
    assert stream.pending == 1
    assert maker.failures == 1


async def test_index_compares_the_whole_message_when_its_entries_have_changed():
    """The keys that were read count only for the entries for which they were read."""
    wiring = Wiring()
    router, maker = wiring.router, Failing()
    maker.make = lambda source: {"s": "A", "k": 1}
    token = router.index.token
    by_key = wiring.stream([{"k": 1}])
    router.route(Deferred(maker, "frame", {"s": "A"}, token))
    assert await anext(by_key) == {"s": "A", "k": 1}
    failing = Failing()
    router.route(Deferred(failing, "frame", {"s": "A"}, token))
    assert by_key.pending == 0
    assert failing.failures == 1
    assert router.last_message is None


@pytest.mark.parametrize("count", [99, 101])
async def test_index_has_no_keys_when_there_are_many_conditions(count):
    """Up to a hundred filters with conditions are read first."""
    wiring = Wiring()
    streams = [wiring.stream([{"s": rxws.starts_with(f"A{number}")}]) for number in range(count)]
    assert wiring.router.index.keys() == (frozenset({"s"}) if count < 100 else None)
    assert streams


async def test_memory_of_waiting_messages(feed_server):
    """Waiting messages are frames: a thousand take less than a fifth of the memory of the decoded ones."""
    import tracemalloc

    levels = [[f"{price}.45", f"{price}.01830"] for price in range(50)]
    texts = [json.dumps({"s": "A", "n": n, "b": levels}) for n in range(300)]
    async with ready_made(feed_server) as feed:
        stream = feed.stream_filter([{"s": "A"}])
        connection = await feed_server.connected()
        gc.collect()
        tracemalloc.start()
        try:
            await connection.send(*texts)
            async with asyncio.timeout(20):
                while stream.pending < len(texts):
                    await asyncio.sleep(0.01)
            held, _ = tracemalloc.get_traced_memory()
            messages = await take(stream, len(texts))
            decoded, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(messages) == len(texts)
        assert held < decoded / 3
