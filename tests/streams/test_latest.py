"""LatestTable: the newest message of each key."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import weakref

import msgspec
import pandas
import pytest
from reactivex.subject import Subject

import rxws
from rxws import CallbackFailed, FeedClosed, Overflowed
from rxws import operators as rxops
from tests.support.life import ScriptedFeed

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


class Quote(msgspec.Struct):
    """A typed message."""

    s: str
    p: float


class Quotes(ScriptedFeed):
    """A feed of quotes."""

    def __init__(self):
        super().__init__(parse=json.loads)

    async def come(self, *quotes, **more):
        """Send quotes, given as pairs of symbol and price, and let the tasks run."""
        self.websocket.come(*(json.dumps({"s": symbol, "p": price} | more) for symbol, price in quotes))
        await asyncio.sleep(0.01)


@pytest.fixture
async def feed():
    """Return a connected feed."""
    async with Quotes() as feed:
        await feed.wait_connected()
        yield feed


async def test_table_has_the_newest_message_of_each_key(feed):
    """It is a Mapping, in the order of the messages."""
    table = feed.stream_filter().latest("s")
    assert (len(table), "a" in table) == (0, False)
    await feed.come(("a", 1), ("b", 2), ("a", 3))
    assert [*table] == ["b", "a"]
    assert table["a"] == {"s": "a", "p": 3}
    assert dict(table) == {"b": {"s": "b", "p": 2}, "a": {"s": "a", "p": 3}}
    assert repr(table).endswith(": 2 keys>")
    with pytest.raises(KeyError):
        table["c"]


async def test_messages_that_the_stream_held_already(feed):
    """Messages that arrived before the table was made are in it."""
    stream = feed.stream_filter()
    await feed.come(("a", 1))
    table = stream.latest("s")
    await asyncio.sleep(0.01)
    assert [*table] == ["a"]


async def test_find_takes_the_filters_of_streams(feed):
    """``find`` returns the messages that pass."""
    table = feed.stream_filter().latest(lambda message: message["s"])
    await feed.come(("a", 1), ("b", 2), ("c", 3))
    assert [each["s"] for each in table.find([{"p": rxws.between(2, None)}])] == ["b", "c"]
    with pytest.raises(TypeError, match="filters must be a list of dicts"):
        table.find({"p": 2})


async def test_changes_are_pairs_of_key_and_message(feed):
    """Each message is a change, after it is in the table."""
    table, got = feed.stream_filter().latest("s"), []
    table.changes.subscribe(lambda change: got.append((*change, table["a"]["p"])))
    await feed.come(("a", 1), ("a", 2))
    assert got == [("a", {"s": "a", "p": 1}, 1), ("a", {"s": "a", "p": 2}, 2)]


async def test_wait_for_a_key(feed):
    """It returns the present message, or waits for one."""
    table = feed.stream_filter().latest("s")
    waiting = asyncio.ensure_future(table.wait_for("b", timeout=5))
    await feed.come(("a", 1), ("b", 2), ("b", 3))
    assert await waiting == {"s": "b", "p": 2}
    assert await table.wait_for("b") == {"s": "b", "p": 3}


async def test_wait_for_a_key_when_none_arrives(feed):
    """It raises TimeoutError with the key; after the end of the messages FeedClosed."""
    table = feed.stream_filter().latest("s")
    with pytest.raises(TimeoutError, match="no message had the key 'x' within 2 s"):
        await table.wait_for("x", timeout=2)
    waiting = asyncio.ensure_future(table.wait_for("x"))
    await asyncio.sleep(0)
    await feed.exit()
    with pytest.raises(FeedClosed, match="ended before one had the key 'x'"):
        await waiting
    with pytest.raises(ValueError, match="timeout must be a number of seconds of at least 0, not -1"):
        await table.wait_for("x", timeout=-1)


async def test_wait_for_a_key_when_the_source_fails():
    """It raises the error of the source; a message that came before the end is returned."""
    for error in (TimeoutError("of the source"), None):
        source = Subject()
        table = rxws.LatestTable(rxws.on_loop(source), "s")
        failing, waiting = (asyncio.ensure_future(table.wait_for(key, timeout=5)) for key in ("x", "a"))
        await asyncio.sleep(0)
        source.on_next({"s": "a"})
        source.on_completed() if error is None else source.on_error(error)
        assert await waiting == {"s": "a"}
        with pytest.raises(FeedClosed if error is None else TimeoutError, match=r"ended before|of the source"):
            await failing


async def test_keys_are_limited(feed):
    """The key that has been without a message for longest is dropped, counted and reported once."""
    table = feed.stream_filter().latest("s", max_keys=2)
    await feed.come(("a", 1), ("b", 2), ("a", 3), ("c", 4), ("d", 5))
    assert [*table] == ["c", "d"]
    assert table.dropped == feed.statistics().dropped == 2
    (event,) = feed.record.of(Overflowed)
    assert (event.consumer, event.overflow) == ("latest", "drop_oldest")


async def test_keys_expire(feed):
    """A key without a message for ``expire`` seconds is removed."""
    table = feed.stream_filter().latest("s", expire=10)
    await feed.come(("a", 1), ("b", 2))
    await asyncio.sleep(6)
    await feed.come(("a", 3))
    await asyncio.sleep(5)
    assert [*table] == ["a"]
    await asyncio.sleep(6)
    assert (len(table), "a" in table) == (0, False)


async def test_no_key_expires_while_the_table_is_read(feed, monkeypatch):
    """A table that is read without an await is consistent, however long that takes."""
    table = feed.stream_filter().latest("s", expire=10)
    await feed.come(("a", 1), ("b", 2))
    loop = asyncio.get_running_loop()
    times = itertools.count(loop.time() + 9, 0.5)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "time", lambda: next(times))
        assert [quote["p"] for quote in table.values()] == [1, 2]
        assert table.find([{"s": "b"}]) == [dict(table)["b"]]
        assert [*table.to_pandas().index] == ["a", "b"]
        assert await table.wait_for("b") == table["b"]
    await asyncio.sleep(11)
    assert not table


async def test_table_is_forgotten_before_its_keys_expire(feed):
    """The timer does not keep a table that is no longer used."""
    table = feed.stream_filter().latest("s", expire=1000)
    await feed.come(("a", 1))
    reference = weakref.ref(table)
    table.dispose()
    await asyncio.sleep(0)
    del table
    gc.collect()
    assert reference() is None
    await asyncio.sleep(1001)


async def test_message_without_the_key(feed):
    """Such messages are left out and counted, and the first is reported."""
    table = feed.stream_filter().latest("x")
    await feed.come(("a", 1), ("b", 2))
    assert len(table) == 0
    (event,) = feed.record.of(CallbackFailed)
    assert "there is no 'x'" in str(event.error)
    assert feed.statistics().failures == 2


async def test_table_of_typed_messages(feed):
    """It takes any AsyncObservable, and leaves gaps and snapshots out."""
    typed = feed.stream_filter(gaps=True).pipe(rxops.as_type(Quote))
    table = rxws.LatestTable(typed, "s")
    await feed.come(("a", 1))
    feed.websocket.end()
    await feed.opened(2)
    await feed.wait_connected()
    await feed.come(("b", 2))
    assert [*table.values()] == [Quote("a", 1.0), Quote("b", 2.0)]
    assert feed.record.of(CallbackFailed) == []


async def test_table_of_resynced_changes(feed):
    """The table has the changes of a result of ``resync``."""

    async def snapshot():
        return {"last": 0}

    resynced = feed.stream_filter().resync(snapshot, sequence="n", snapshot_sequence="last")
    table = rxws.LatestTable(resynced, "s")
    await feed.come(("a", 1), n=1)
    assert table["a"]["p"] == 1


async def test_table_as_a_data_frame(feed):
    """The keys are the index of the DataFrame, even if the messages are Structs."""
    plain = feed.stream_filter().latest("s")
    typed = rxws.LatestTable(feed.messages.pipe(rxops.as_type(Quote)), "s")
    await feed.come(("a", 1), ("b", 2))
    expected = pandas.DataFrame({"s": ["a", "b"], "p": [1, 2]}, index=["a", "b"])
    pandas.testing.assert_frame_equal(plain.to_pandas(), expected)
    pandas.testing.assert_frame_equal(typed.to_pandas(), expected.astype({"p": float}))


async def test_table_ends_when_it_is_disposed(feed):
    """It takes no more messages, and no longer changes."""
    ended = []
    async with feed.stream_filter().latest("s") as table:
        table.changes.subscribe(lambda _: None, on_completed=lambda: ended.append(True))
        await feed.come(("a", 1))
    await feed.come(("b", 2))
    assert ([*table], ended) == (["a"], [True])
    table.dispose()


async def test_table_shows_itself(feed):
    """A notebook shows the newest messages."""
    table = feed.stream_filter().latest("s")
    await feed.come(("a", 1), ("b", 2))
    shown = table._repr_mimebundle_()["text/plain"]
    assert "keys     2" in shown
    assert shown.index("b ") < shown.index("a ", shown.index("dropped"))


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"key": []}, TypeError, "key must be a key, a tuple of keys or a function"),
        ({"max_keys": 0}, ValueError, "max_keys must be an int of at least 1, not 0"),
        ({"expire": "1"}, TypeError, "expire must be a positive number of seconds, not '1'"),
    ],
)
async def test_argument_that_is_wrong(feed, options, error, text):
    """The error names the argument and what was expected."""
    with pytest.raises(error, match=text):
        feed.stream_filter().latest(**({"key": "s"} | options))
