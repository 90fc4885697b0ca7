"""The display of feeds and streams in a notebook cell."""

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
from rxws.display.snapshot import RateMeter, ago, mimebundle, shown
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
    """Return the names of all elements of an HTML text, and fail if one is not closed."""
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
    """A Struct has a column per field; a message without fields has one column."""
    assert "  s    p\n  BTC  1.0" in show(Trade("BTC", 1.0))["text/plain"]
    assert "  message\n  [1, 2]\n  text" in show([1, 2], "text")["text/plain"]


def test_dataclasses_are_a_table():
    """Events and the results of operators have a column per field."""
    text = show(rxws.Snapshot(data=1, reason="start"), GAP)["text/plain"]
    assert text.splitlines()[1].split()[:2] == ["data", "reason"]
    assert "last_message" in text
    text = show(rxws.operators.Conflated(message="m", merged=3))["text/plain"]
    assert [line.split() for line in text.splitlines()[1:]] == [["message", "merged"], ["m", "3"]]


def test_facts_are_shown():
    """Facts are displayed below the title, with their names."""
    bundle = show(state="connected", rotations=2)
    assert bundle["text/plain"] == "title\n  state      connected\n  rotations  2"
    assert "<td" in bundle["text/html"]
    assert "connected" in bundle["text/html"]


@pytest.mark.parametrize(
    "message", [{"s": EVIL}, {EVIL: 1}, {"s": [EVIL]}, {"s": {EVIL: EVIL}}, EVIL, EVIL.encode(), Trade(EVIL, 1.0)]
)
def test_html_in_a_message_is_shown_as_text(message):
    """HTML anywhere in a message is escaped, so the HTML has no element of the message."""
    bundle = mimebundle(EVIL, {EVIL: EVIL}, [message])
    assert tags(bundle["text/html"]) == {"div", "p", "code", "table", "tr", "th", "td"}
    assert "&lt;img" in bundle["text/html"]


@pytest.mark.parametrize("text", ["\x1b[31mred\x1b[0m", "two\nlines\r", "\u202egnp.exe", "\x00\x07", "\udc80"])
def test_control_characters_are_shown_as_text(text):
    """Control characters in a message are escaped, and the text can be encoded."""
    for form in mimebundle(text, {text: text}, [{text: text}, {"nested": [text]}, text]).values():
        assert all(line.isprintable() for line in form.splitlines())
        form.encode()


def test_long_values_are_cut():
    """Long values and surplus columns are cut, in little time."""
    lines = show({"s": "x" * 10_000_000, "b": b"x" * 10_000_000, "l": [1.5] * 1_000_000})["text/plain"].splitlines()
    assert all(len(line) < 140 for line in lines)
    assert "…" in lines[-1]
    assert "3 more" in show({str(n): n for n in range(13)})["text/plain"]
    assert len(show(title="word " * 200)["text/plain"]) == 201


def test_values_without_a_repr_are_named():
    """A value whose repr raises is replaced by a note; the other values are displayed."""
    text = show({"a": Unpresentable(), "n": 10**5000, "s": "shown"})["text/plain"]
    assert "<int whose repr raised ValueError>" in text
    assert "Unpresentable" in text
    assert "shown" in text


class Loud:
    """An object of which only the beginning may be read."""

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
def test_only_the_beginning_of_an_object_with_fields_is_read(kind, value):
    """A typed book of a million levels is displayed by its first levels, also inside another object."""
    assert "raised" not in shown(kind(value))
    assert "=[1.5, 1.5" in shown(Book([1.5] * 1000))
    text = shown([kind(value)])
    assert "raised" not in text
    assert len(text) <= 40
    # As a message it is displayed by its fields.
    assert "raised" not in show(kind(value))["text/plain"]


def test_exceptions_are_shown_without_secrets():
    """The text of an exception in an event is redacted."""
    event = rxws.CallbackFailed(
        name="feed", time=1.0, handler="f", message=None, error=OSError("wss://h/?k=s3cret is gone")
    )
    assert "s3cret" not in str(show(event))
    assert "s3cret" not in str(show([event], {"deep": [event.error]}))


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
def test_only_the_beginning_of_a_huge_message_is_read(message):
    """A million keys or ten million bytes are not copied, sorted or written to display the first few."""
    show(message)
    tracemalloc.start()
    show(message)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1_000_000


def test_hidden_columns_are_counted():
    """The header has the number of hidden columns, or a lower bound if a message has very many keys."""
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
    """A mapping that raises is displayed by its repr, and the other messages by their keys."""
    lines = show(Torn(), {"s": "BTC"})["text/plain"].splitlines()
    assert lines[1].split() == ["message", "s"]
    assert lines[2].startswith("  <")
    assert lines[3].split() == ["BTC"]


def test_rate_is_measured_from_display_to_display():
    """The displayed rate is the rate since the last display; displays within a second count as one."""
    meter = RateMeter(100.0)
    assert meter.look(50, 100.5) == "50 within 0.5 s"
    assert meter.look(3000, 102.0) == "1,500.0 a second for 2.0 s"
    assert meter.look(3000, 222.0) == "0.0 a second for 2 min"
    assert meter.look(10_200, 222.0 + 7200) == "1.0 a second for 2.0 h"


def test_age_is_in_words():
    """An age is a time span in words, or "none yet"."""
    assert ago(None) == "none yet"
    assert ago(1.25) == "1.2 s ago"


# Feeds and streams


@virtual
async def test_feed_shows_itself(feed_server):
    """A feed displays its state, rate, age, rotations, reconnects and last few messages, the newest first."""
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
async def test_feed_shows_its_last_message_at_the_first_display(feed_server):
    """The first display shows only the last message, as earlier ones are not kept; later displays show the last few."""
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
    """After ``exit`` a feed displays its state and keeps no messages."""
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
    """A failed feed displays its error without secrets."""
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
    """A feed and a stream can be displayed from another thread."""
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
    """A stream displays its filter, its counters and its last few messages without consuming them."""
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
