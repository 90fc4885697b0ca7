"""What a feed and a stream look like in a notebook's cell."""

from __future__ import annotations

import asyncio
import dataclasses
import html.parser
import threading
import tracemalloc
import types
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import pytest

import rxws
from rxws.display.snapshot import Columns, RateMeter, ago, mimebundle, shown
from rxws.testing import FeedServer

virtual = pytest.mark.usefixtures("virtual_time")

EVIL = '<img src=x onerror="alert(1)">'


class Trade(msgspec.Struct):
    s: str
    p: float


GAP = rxws.Gap(name="a", time=0.0, start=1.0, end=2.0, reason="closed", last_message=None)


class Unpresentable:
    def __repr__(self):
        raise RuntimeError


def tags(text):
    """Give the names of all elements of an HTML text, and fail if one is left open."""
    found, still_open = [], []

    class Parser(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            found.append(tag)
            still_open.append(tag)

        def handle_endtag(self, tag):
            assert still_open.pop() == tag

    Parser().feed(text)
    assert still_open == []
    return set(found)


def broadcast(server, message):
    """Send a message on every connection."""
    for connection in server.connections:
        connection.send_nowait(message)


def show(*messages, title="title", **facts):
    return mimebundle(title, facts, messages)


def test_messages_are_a_table():
    """Each key of any message has a column; a message without it has an empty cell."""
    text = show({"s": "BTC", "p": 1.5}, {"s": "ETH", "q": 2})["text/plain"]
    assert [line.split() for line in text.splitlines()] == [["title"], ["s", "p", "q"], ["BTC", "1.5"], ["ETH", "2"]]


def test_structs_are_a_table_and_other_messages_a_column():
    """A Struct has a column per field; what is neither mapping nor Struct has one column."""
    assert "  s    p\n  BTC  1.0" in show(Trade("BTC", 1.0))["text/plain"]
    assert "  message\n  [1, 2]\n  text" in show([1, 2], "text")["text/plain"]


def test_dataclasses_are_a_table():
    """What operators and feeds make of messages has a column per field, too."""
    text = show(rxws.Snapshot(data=1, reason="start"), GAP)["text/plain"]
    assert text.splitlines()[1].split()[:2] == ["data", "reason"]
    assert "last_message" in text
    text = show(rxws.operators.Conflated(message="m", merged=3))["text/plain"]
    assert [line.split() for line in text.splitlines()[1:]] == [["message", "merged"], ["m", "3"]]


def test_facts_are_shown():
    """Facts stand below the title, with their names."""
    bundle = show(state="connected", rotations=2)
    assert bundle["text/plain"] == "title\n  state      connected\n  rotations  2"
    assert "<td" in bundle["text/html"]
    assert "connected" in bundle["text/html"]


@pytest.mark.parametrize(
    "message", [{"s": EVIL}, {EVIL: 1}, {"s": [EVIL]}, {"s": {EVIL: EVIL}}, EVIL, EVIL.encode(), Trade(EVIL, 1.0)]
)
def test_html_in_a_message_is_shown_as_text(message):
    """Whatever a message holds, and wherever: no element of its own making is in the HTML."""
    bundle = mimebundle(EVIL, {EVIL: EVIL}, [message])
    assert tags(bundle["text/html"]) == {"div", "p", "code", "table", "tr", "th", "td"}
    assert "&lt;img" in bundle["text/html"]


@pytest.mark.parametrize("text", ["\x1b[31mred\x1b[0m", "two\nlines\r", "\u202egnp.exe", "\x00\x07", "\udc80"])
def test_control_characters_are_shown_as_text(text):
    """No terminal obeys what a feed sends: control characters are written out, and it can be encoded."""
    for form in mimebundle(text, {text: text}, [{text: text}, {"nested": [text]}, text]).values():
        assert all(line.isprintable() for line in form.splitlines())
        form.encode()


def test_long_values_are_cut():
    """A value that is too long is cut, and so are too many columns; it takes little time."""
    lines = show({"s": "x" * 10_000_000, "b": b"x" * 10_000_000, "l": [1.5] * 1_000_000})["text/plain"].splitlines()
    assert all(len(line) < 140 for line in lines)
    assert "…" in lines[-1]
    assert "3 more" in show({str(n): n for n in range(13)})["text/plain"]
    assert len(show(title="x" * 1000)["text/plain"]) == 200


def test_values_without_a_repr_are_named():
    """A value whose repr raises says so; the others are shown all the same."""
    text = show({"a": Unpresentable(), "n": 10**5000, "s": "shown"})["text/plain"]
    assert "<int whose repr raised ValueError>" in text
    assert "Unpresentable" in text
    assert "shown" in text


class Loud:
    """Something that is not to be asked for all of itself."""

    def __repr__(self):
        raise AssertionError


class LoudList(Loud, list):
    pass


class LoudText(Loud, str):
    __slots__ = ()

    def __getitem__(self, _):
        raise AssertionError


class Book(msgspec.Struct):
    bids: object


@dataclasses.dataclass
class Side:
    levels: object


class Level(NamedTuple):
    price: object


@pytest.mark.parametrize("kind", [Book, Side, Level, lambda value: types.MappingProxyType({"levels": value})])
@pytest.mark.parametrize("value", [LoudList([1.5] * 1000), LoudText("text" * 1000), (1.5,) * 1000])
def test_of_what_has_fields_only_the_beginning_is_looked_at(kind, value):
    """A typed book of a million levels is shown by its first ones, also inside of another."""
    assert "raised" not in shown(kind(value))
    assert "=[1.5, 1.5" in shown(Book([1.5] * 1000))
    text = shown([kind(value)])
    assert "raised" not in text
    assert len(text) <= 40
    # By keys, where it is a message itself.
    assert "raised" not in show(kind(value))["text/plain"]


def test_exceptions_are_shown_without_secrets():
    """Events have a column for each field, and an exception may quote an address."""
    event = rxws.CallbackFailed(
        name="feed", time=1.0, handler="f", message=None, error=OSError("wss://h/?k=s3cret is gone")
    )
    assert "s3cret" not in str(show(event))
    assert "s3cret" not in str(show([event], {"deep": [event.error]}))


def header(*messages, columns):
    return mimebundle("", {}, messages, columns)["text/plain"].splitlines()[1].split()


def test_columns_stay_where_they_are():
    """With something to remember them, columns keep their places from one look to the next."""
    columns = Columns()
    header({"a": 1}, {"b": 2}, columns=columns)
    assert header({"c": 3, "b": 2}, columns=columns) == ["a", "b", "c"]


def test_column_that_stays_empty_is_given_up():
    """A column that has had no value for 20 looks makes room for others."""
    columns = Columns()
    first = [f"a{n}" for n in range(9)]
    assert header(dict.fromkeys(first), columns=columns) == first
    for _ in range(19):
        assert header({"b": 1}, columns=columns) == [*first, "b"]
    assert header({"b": 1}, columns=columns) == ["b"]


def test_column_that_is_empty_makes_room_for_what_is_there():
    """Where columns run out, those that have been unused for longest go first: no table is shown that is blank."""
    columns = Columns()
    header(dict.fromkeys("abcdefghij"), columns=columns)
    header(dict.fromkeys("bcdefghij"), columns=columns)
    assert header(dict.fromkeys("cdefghijk"), columns=columns) == list("bcdefghijk")
    for n in range(100):
        keys = [f"{n}-{m}" for m in range(10)]
        assert header(dict.fromkeys(keys), columns=columns) == keys


@pytest.mark.parametrize(
    "message",
    [
        dict.fromkeys(range(1_000_000)),
        {"nested": dict.fromkeys(range(1_000_000))},
        {"nested": set(range(1_000_000))},
        {"nested": frozenset(range(1_000_000))},
        {"nested": [[b"x" * 10_000_000, bytearray(10_000_000)]]},
        {"nested": OrderedDict.fromkeys(range(100_000))},
        {"nested": type("Raw", (bytes,), {})(10_000_000)},
    ],
)
def test_of_a_huge_message_only_the_beginning_is_looked_at(message):
    """A million keys, or ten million bytes, are not copied, sorted or written out to show the first few."""
    show(message)
    tracemalloc.start()
    show(message)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1_000_000


def test_columns_that_are_not_shown_are_counted_as_far_as_they_were_looked_at():
    """How many more there are is told, or of a message with very many keys that there are at least so many."""
    assert "3 more" in show(dict.fromkeys(range(13)))["text/plain"]
    assert "90 or more" in show(dict.fromkeys(range(1_000)))["text/plain"]


class Torn(Mapping):
    """A mapping that cannot be read."""

    def __getitem__(self, key):
        raise OSError

    def __len__(self):
        raise OSError

    def __iter__(self):
        raise OSError


def test_mapping_that_raises_is_shown_by_its_repr():
    """A message that is a mapping in name only hides no other."""
    lines = show(Torn(), {"s": "BTC"})["text/plain"].splitlines()
    assert lines[1].split() == ["message", "s"]
    assert lines[2].startswith("  <")
    assert lines[3].split() == ["BTC"]


def test_pace_is_counted_from_look_to_look():
    """The rate is that since the last look; looks within a second count as one."""
    pace = RateMeter(100.0)
    assert pace.look(50, 100.5) == "50 within 0.5 s"
    assert pace.look(3000, 102.0) == "1,500.0 a second for 2.0 s"
    assert pace.look(3000, 222.0) == "0.0 a second for 2 min"
    assert pace.look(10_200, 222.0 + 7200) == "1.0 a second for 2.0 h"


def test_age_is_told_in_words():
    """An age is a time ago, or none."""
    assert ago(None) == "none yet"
    assert ago(1.25) == "1.2 s ago"


# Feeds and streams


@virtual
async def test_feed_shows_itself(feed_server):
    """A feed shows its state, rate, age, rotations, reconnects and the last few messages, the newest first."""
    async with rxws.ReactiveWebSocket(feed_server.url, name="ticker") as ws:
        first = ws._repr_mimebundle_()["text/plain"]
        assert "connecting" in first
        await feed_server.connected()
        await ws.wait_connected()
        for n in range(7):
            broadcast(feed_server, {"n": n})
        await asyncio.sleep(2.0)
        text = ws._repr_mimebundle_()["text/plain"]
        rows = [line.split() for line in text.splitlines()]
        assert "ticker: connected, 7 messages" in " ".join(rows[0])
        assert ["state", "connected"] in rows
        assert ["last", "message", "2.0", "s", "ago"] in rows
        assert ["rotations", "0"] in rows
        assert ["reconnects", "0"] in rows
        assert rows[-6:] == [["n"], ["6"], ["5"], ["4"], ["3"], ["2"]]


@virtual
async def test_feed_shows_its_last_message_at_the_first_look(feed_server):
    """Messages cost nothing until somebody looks; the first look finds the last one, the next ones the last few."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        await ws.wait_connected()
        for n in range(3):
            broadcast(feed_server, {"n": n, "s": EVIL})
        await asyncio.sleep(1.0)
        assert not ws.messages.observed
        bundle = ws._repr_mimebundle_()
        assert bundle["text/plain"].splitlines()[-1].split()[0] == "2"
        assert "<img" not in bundle["text/html"]
        for n in range(3, 5):
            broadcast(feed_server, {"n": n})
        await asyncio.sleep(1.0)
        assert [line.split() for line in ws._repr_mimebundle_()["text/plain"].splitlines()[-2:]] == [["4"], ["3"]]


@virtual
async def test_feed_keeps_no_message_after_its_end(feed_server):
    """After exit, a feed shows its state and no message: it holds none."""
    ws = rxws.ReactiveWebSocket(feed_server.url)
    await ws.wait_connected()
    ws._repr_mimebundle_()
    broadcast(feed_server, {"n": "the-message"})
    await asyncio.sleep(1.0)
    assert "the-message" in ws._repr_mimebundle_()["text/plain"]
    await ws.exit()
    text = ws._repr_mimebundle_()["text/plain"]
    assert "closed" in text
    assert "the-message" not in text


@virtual
async def test_failed_feed_shows_its_error_without_secrets():
    """A feed that has failed says why, and no secret in it."""
    async with FeedServer() as server:
        server.refuse(404, times=None)
        ws = rxws.ReactiveWebSocket(server.url + "?token=abcdef")
        with pytest.raises(rxws.ConnectFailed):
            await ws.wait_closed()
        for shown in ws._repr_mimebundle_().values():
            assert "404" in shown
            assert "abcdef" not in shown


@virtual
async def test_feed_can_be_shown_from_any_thread(feed_server):
    """A widget's thread may show a feed and a stream."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        await ws.wait_connected()
        stream = ws.stream_filter()
        broadcast(feed_server, {"n": 1})
        await asyncio.sleep(1.0)
        shown = []
        thread = threading.Thread(target=lambda: shown.extend([ws._repr_mimebundle_(), stream._repr_mimebundle_()]))
        thread.start()
        thread.join()
        assert len(shown) == 2
        assert not ws.messages.observed


@virtual
async def test_stream_shows_itself(feed_server):
    """A stream shows its filter, its numbers and the last few messages that wait, without taking them."""
    async with rxws.ReactiveWebSocket(feed_server.url, name="ticker") as ws:
        stream = ws.stream_filter([{"s": EVIL}])
        await ws.wait_connected()
        for n in range(7):
            broadcast(feed_server, {"s": EVIL, "n": n})
        await asyncio.sleep(2.0)
        bundle = stream._repr_mimebundle_()
        rows = [line.split() for line in bundle["text/plain"].splitlines()]
        assert ["feed", "ticker"] in rows
        assert ["state", "open"] in rows
        assert ["pending", "7"] in rows
        assert ["dropped", "0"] in rows
        assert [row[-1] for row in rows[-5:]] == ["6", "5", "4", "3", "2"]
        assert "<img" not in bundle["text/html"]
        assert stream.pending == 7
        await stream.close()
        assert "closed" in stream._repr_mimebundle_()["text/plain"]
