"""resync: the changes of a stream with a snapshot at the start and after each loss."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import random
import re
import sys
import threading

import pytest
from reactivex import operators as ops

import rxws
from rxws import CallbackFailed, Overflowed, Snapshot, demo
from rxws.streams.sequence import SnapshotTracker
from rxws.testing import HttpError
from tests.support.life import ScriptedFeed, ScriptedWebsocket

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


def c(first, last=None):
    """Return a change with the numbers from ``first`` to ``last``."""
    return {"U": first, "u": last or first}


class Source:
    """Returns a snapshot with the next scripted number, or raises it if it is an exception.

    A pair contains the seconds to wait first.
    """

    def __init__(self, *answers):
        self.answers = list(answers)
        self.times = []

    async def __call__(self):
        self.times.append(round(asyncio.get_running_loop().time(), 3))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, tuple):
            await asyncio.sleep(answer[0])
            answer = answer[1]
        if isinstance(answer, BaseException):
            raise answer
        return {"last": answer}


class Changing(ScriptedFeed):
    """A feed whose frames are changes."""

    def __init__(self):
        super().__init__(parse=json.loads, reconnect_delays=lambda: [0] * 9)

    def come(self, *changes):
        """Send changes."""
        self.websocket.come(*map(json.dumps, changes))


def resync(feed, source, stream=None):
    """Return the Observable that ``resync`` makes of a feed's messages."""
    changes = feed.stream_filter() if stream is None else stream
    return changes.resync(source, sequence=("U", "u"), snapshot_sequence="last")


def short(items):
    """Return the delivered items in short: numbers, and snapshots with their reason."""
    return [f"{item.reason} {item.data['last']}" if isinstance(item, Snapshot) else item["u"] for item in items]


@pytest.fixture(autouse=True)
def same_delays():
    """Let the random delays between two fetches be the same in each run: a short one changes what a test counts."""
    random.seed(5)


async def settle(seconds=0.01):
    """Let the tasks run."""
    await asyncio.sleep(seconds)


async def test_snapshot_when_changes_arrive_meanwhile():
    """Changes that arrive during the fetch are held; those that the snapshot contains are dropped."""
    async with Changing() as feed:
        await feed.wait_connected()
        resynced, got = resync(feed, Source((1, 2))), []
        assert not resynced.in_sync
        subscription = resynced.subscribe(got.append)
        feed.come(c(1), c(2), c(3))
        await settle()
        assert (short(got), resynced.in_sync) == ([], False)
        await settle(1)
        feed.come(c(4))
        await settle()
        assert (short(got), resynced.in_sync) == (["start 2", 3, 4], True)
        subscription.dispose()
        assert not resynced.in_sync


async def test_snapshot_when_the_stream_holds_changes():
    """Changes that arrived between the making of the stream and the subscription are not lost."""
    async with Changing() as feed:
        stream = feed.stream_filter()
        await feed.wait_connected()
        feed.come(c(1), c(2), c(3))
        await settle()
        got = []
        resync(feed, Source(1), stream).subscribe(got.append)
        await settle()
        assert short(got) == ["start 1", 2, 3]


async def test_snapshot_when_several_subscribe():
    """Each subscriber, and each ``async for``, begins with its own snapshot; ``in_sync`` covers all of them."""
    async with Changing() as feed:
        await feed.wait_connected()
        source = Source(0, (5, 1))
        resynced, got = resync(feed, source), []
        resynced.subscribe(got.append)
        await settle()
        feed.come(c(1))
        iterator = aiter(resynced)
        await settle()
        assert (short(got), resynced.in_sync) == (["start 0", 1], False)
        assert short([await anext(iterator)]) == ["start 1"]
        assert resynced.in_sync
        await iterator.aclose()


async def test_change_when_numbers_are_missing():
    """When a number is missing, a snapshot with the reason "hole" is delivered, then the changes after it."""
    async with Changing() as feed:
        await feed.wait_connected()
        resynced, got = resync(feed, Source(0, (0, 4))), []
        resynced.subscribe(got.append)
        await settle(20)
        feed.come(c(1), c(3), c(4), c(5))
        await settle()
        assert short(got) == ["start 0", 1, "hole 4", 5]


@pytest.mark.parametrize("gaps", [False, True])
async def test_gap_when_the_connection_was_lost(gaps):
    """After a lost connection another snapshot is fetched, whether or not numbers are missing."""
    async with Changing() as feed:
        await feed.wait_connected()
        source = Source(0, (5, 9), 1)
        resynced, got = resync(feed, source, feed.stream_filter(gaps=gaps)), []
        resynced.subscribe(got.append)
        await settle()
        feed.come(c(1))
        await settle()
        feed.websocket.end()
        await feed.opened(2)
        await feed.wait_connected()
        feed.come(c(2))
        await settle()
        assert (short(got), resynced.in_sync) == (["start 0", 1], False)
        # A snapshot that was requested before the next gap is not used.
        feed.websocket.end()
        await feed.opened(3)
        await feed.wait_connected()
        feed.come(c(2))
        await settle(10)
        assert short(got) == ["start 0", 1, "network 1", 2]


async def test_in_sync_when_there_is_no_connection():
    """Without a connection in_sync is False, and a snapshot is fetched only when changes can arrive again."""
    async with Changing() as feed:
        source = Source(0, 5)
        resynced, got = resync(feed, source), []
        resynced.subscribe(got.append)
        assert source.times == []
        await feed.wait_connected()
        await settle(1)
        assert (source.times, resynced.in_sync) == ([0.0], True)

        async def open_late():
            await asyncio.sleep(5)
            return ScriptedWebsocket()

        feed.outcomes.append(open_late)
        feed.websocket.end()
        await settle(4)
        assert not feed.state.value.is_live
        assert not resynced.in_sync
        await feed.wait_connected()
        await settle(1)
        assert resynced.in_sync
        assert short(got) == ["start 0", "network 5"]


async def test_in_sync_when_the_channel_is_not_subscribed_yet():
    """No snapshot is fetched before the channel is subscribed, because its changes cannot arrive yet."""
    async with Changing() as feed:
        await feed.wait_connected()
        source, got = Source(0), []
        stream = feed.multiplex("+a", filters=[{"s": "a"}], acknowledged=[{"ok": 1}])
        resynced = resync(feed, source, stream)
        resynced.subscribe(got.append)
        await settle(5)
        assert (source.times, resynced.in_sync) == ([], False)
        feed.come({"ok": 1}, {"s": "a", **c(1)})
        await settle(1)
        assert (len(source.times), resynced.in_sync, short(got)) == (1, True, ["start 0", 1])


async def test_in_sync_when_the_channel_is_refused():
    """No snapshot of a refused channel is fetched before another connection has subscribed it."""
    async with Changing() as feed:
        await feed.wait_connected()
        source = Source(0)
        stream = feed.multiplex("+a", filters=[{"s": "a"}], acknowledged=[{"ok": 1}], rejected=[{"no": 1}])
        resynced = resync(feed, source, stream)
        resynced.subscribe()
        await settle()
        feed.come({"no": 1})
        await settle(60)
        assert (source.times, resynced.in_sync) == ([], False)
        feed.websocket.end()
        await settle()
        feed.come({"ok": 1})
        await settle(2)
        assert (len(source.times), resynced.in_sync) == (1, True)


async def test_snapshot_when_the_numbers_restart_during_the_fetch():
    """A snapshot that was requested before the server restarted its count is fetched again."""
    async with Changing() as feed:
        await feed.wait_connected()
        resynced, got = resync(feed, Source((1, 1000), 1)), []
        resynced.subscribe(got.append)
        await settle()
        feed.come(c(1000), c(1001), c(1), c(2))
        await settle(5)
        feed.come(c(3))
        await settle()
        assert (short(got), resynced.in_sync) == (["restart 1", 2, 3], True)


async def test_snapshot_when_it_is_too_old():
    """A snapshot that is older than the held changes is fetched again; the second one in a row is reported."""
    async with Changing() as feed:
        await feed.wait_connected()
        got, source = [], Source(0, 1, 2, 4)
        feed.come(c(5), c(6))
        resync(feed, source).subscribe(got.append)
        await settle(60)
        assert short(got) == ["start 4", 5, 6]
        assert len(source.times) == 4
        assert repr(resync(feed, source)).endswith(": not in sync>")
        # The first outdated snapshot may be due to normal latency and is not reported.
        told = [str(event.error) for event in feed.record.of(CallbackFailed)]
        assert told == [f"{n} snapshots in a row are older than the changes that were received" for n in (2, 3)]


async def test_log_says_when_the_next_try_is(caplog):
    """The log line of a snapshot that could not be fetched ends with the delay before the next try."""
    async with Changing() as feed:
        await feed.wait_connected()
        source = Source(HttpError(503, b"try later"), 0)
        resync(feed, source).subscribe()
        await settle(60)
        [line] = [
            record.getMessage().partition("\n")[0] for record in caplog.records if " raised " in record.getMessage()
        ]
        delay = re.search(r" raised HttpError.*; next try in (\d+\.\d) s$", line)
        assert source.times[1] - source.times[0] == pytest.approx(float(delay[1]), abs=0.06)


async def test_in_sync_when_another_thread_reads_it():
    """Another thread may read ``in_sync`` while subscribers come and go."""
    async with Changing() as feed:
        await feed.wait_connected()
        resynced = resync(feed, Source(0))
        subscriptions = [resynced.subscribe() for _ in range(50)]
        await settle(1)
        ended = threading.Event()

        def read():
            values = set()
            while not ended.is_set():
                values.add(resynced.in_sync)
            return values

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with concurrent.futures.ThreadPoolExecutor(1) as executor:
                reading = executor.submit(read)
                for _ in range(2000):
                    subscriptions.pop().dispose()
                    subscriptions.append(resynced.subscribe())
                ended.set()
                assert reading.result() <= {True, False}
        finally:
            sys.setswitchinterval(interval)


async def test_batches_when_the_changes_are_resynced():
    """``batches`` of a pipe, and of the result of resync, raises an AttributeError that names the operator to use."""
    async with Changing() as feed:
        await feed.wait_connected()
        for observable in (resync(feed, Source(0)), feed.stream_filter().pipe(ops.take(1)), feed.messages.map(str)):
            with pytest.raises(AttributeError, match=r"no attribute 'batches': .*buffer_with_time_or_count"):
                observable.batches()
            assert not hasattr(observable, "batches")
        assert hasattr(feed.stream_filter(), "batches")


async def test_book_does_not_go_back_when_a_cache_returns_an_old_snapshot():
    """After a cut, a snapshot older than the delivered changes is fetched again, even before the next change."""
    async with Changing() as feed:
        await feed.wait_connected()
        got, source = [], Source(1, 2, 2, 3)
        resynced = resync(feed, source)
        resynced.subscribe(got.append)
        await settle()
        feed.come(c(2), c(3))
        await settle()
        assert (short(got), resynced.in_sync) == (["start 1", 2, 3], True)
        feed.websocket.end()
        await settle()
        assert (short(got[3:]), resynced.in_sync) == ([], False)
        await settle(60)
        assert (short(got[3:]), resynced.in_sync) == (["network 3"], True)


async def test_book_is_in_sync_with_the_last_of_the_held_changes():
    """``in_sync`` is False while held changes are delivered, and becomes True with the last of them."""
    async with Changing() as feed:
        await feed.wait_connected()
        resynced, looks = resync(feed, Source((1, 1))), []
        resynced.subscribe(lambda item: looks.append((*short([item]), resynced.in_sync)))
        feed.come(c(1), c(2), c(3), c(4))
        await settle(2)
        feed.come(c(5))
        await settle()
        assert looks == [("start 1", False), (2, False), (3, False), (4, True), (5, True)]
        assert resynced.in_sync


async def test_book_is_not_in_sync_while_a_rotation_holds_changes():
    """``in_sync`` is False while a new connection holds changes, because those of the old one follow there later."""
    async with Changing() as feed:
        await feed.wait_connected()
        resynced, got = resync(feed, Source(0)), []
        resynced.subscribe(got.append)
        await settle()
        old = feed.websocket
        rotating = asyncio.ensure_future(feed.rotate())
        await feed.opened(2)
        n = 0
        while not rotating.done():
            n += 1
            old.come(json.dumps(c(n)))
            await settle(0.1)
            if n > 3:
                # The new connection lags by 0.3 s.
                feed.come(c(n - 3))
        assert await rotating
        assert (short(got), resynced.in_sync) == (["start 0", *range(1, n + 1)], True)
        feed.come(c(n + 1))
        await settle()
        assert (got[-1]["u"], resynced.in_sync) == (n, False)
        feed.come(*(c(each) for each in range(n - 2, n + 1)))
        await settle()
        assert (got[-1]["u"], resynced.in_sync) == (n + 1, True)
        await settle(5)
        assert short(got) == ["start 0", *range(1, n + 2)]


async def test_change_when_too_many_are_held(monkeypatch):
    """Held changes beyond the bound are dropped and counted, and reported once."""
    monkeypatch.setattr(SnapshotTracker.__init__, "__kwdefaults__", {"held_max": 3})
    async with Changing() as feed:
        await feed.wait_connected()
        got, source = [], Source(OSError("down"), OSError("down"), 9)
        resync(feed, source).subscribe(got.append)
        feed.come(*(c(n) for n in range(1, 11)))
        await settle(60)
        assert short(got) == ["overflow 9", 10]
        (event,) = feed.record.of(Overflowed)
        assert (event.consumer, event.dropped) == ("resync", 1)
        assert feed.statistics().dropped == 7


async def test_snapshot_when_the_fetch_fails():
    """A fetch that raises, takes too long or returns no number is reported, and retried with growing delays."""
    errors = [OSError("down"), asyncio.CancelledError(), (11, 0), "x"]
    async with Changing() as feed:
        await feed.wait_connected()
        got, source = [], Source(*errors, OSError("still"), 0)
        resync(feed, source, feed.stream_filter([{"s": "a"}])).subscribe(got.append)
        await settle(100)
        assert short(got) == ["start 0"]
        kinds = [type(event.error) for event in feed.record.of(CallbackFailed)]
        assert kinds == [OSError, asyncio.CancelledError, TimeoutError, ValueError, OSError]
        stream = "stream Filter([{'s': 'a'}])"
        names = [event.handler for event in feed.record.of(CallbackFailed)]
        # The fourth fetch succeeds, but its snapshot contains a text in place of a number.
        fetch, number = f"Source for {stream}", f"snapshot_sequence of resync for {stream}"
        assert names == [fetch, fetch, fetch, number, fetch]
        assert source.times[0] == 0
        assert source.times[1:] == sorted(set(source.times[1:]))


async def test_snapshot_when_snapshot_sequence_names_nothing(caplog):
    """If a snapshot lacks the key ``snapshot_sequence``, the error names this key, the existing keys and the stream."""
    async with Changing() as feed:
        await feed.wait_connected()
        stream = feed.stream_filter([{"e": "depth"}])
        resynced = stream.resync(Source(1), sequence=("U", "u"), snapshot_sequence="lastUpdateId")
        resynced.subscribe()
        await settle()
        (event,) = feed.record.of(CallbackFailed)
        assert event.handler == "snapshot_sequence of resync for stream Filter([{'e': 'depth'}])"
        assert "snapshot_sequence 'lastUpdateId': there is no 'lastUpdateId' in the keys 'last'" in str(event.error)
        (line,) = [record.getMessage() for record in caplog.records if "raised" in record.getMessage()]
        assert "stream Filter([{'e': 'depth'}])" in line
        assert "no 'lastUpdateId' in the keys 'last'" in line


async def test_snapshot_when_the_server_refuses_the_fetch(caplog):
    """The report of a failed fetch quotes the body of the server's answer, shortened and without secrets."""

    class Refused(Exception):
        """An exception of a library for HTTP, which keeps the answer."""

        body = b'{"code": -1121, "msg": "Invalid symbol.", "listenKey": "pqia91ma19a5s61cv6a81va65sdf19v8a65a1"}'

    async with Changing() as feed:
        await feed.wait_connected()
        # Both fetches raise the same exception object.
        refused = Refused("HTTP 400")
        resync(feed, Source(refused, refused, Refused("HTTP 400"), 1)).subscribe()
        await settle(60)
        notes = [event.error.__notes__ for event in feed.record.of(CallbackFailed)]
        quote = """The server answered: {"code": -1121, "msg": "Invalid symbol.", "listenKey": "***"}"""
        assert notes == [[quote], [quote], [quote]]
        assert quote in caplog.text
        assert "pqia" not in caplog.text


async def test_change_when_sequence_names_nothing(caplog):
    """A ``sequence`` that fits no message is reported once, with the stream; later messages are only counted."""
    async with Changing() as feed:
        await feed.wait_connected()
        stream = feed.stream_filter([{"s": "a"}])
        resynced = stream.resync(Source(0), sequence=("first", "last"), snapshot_sequence="last")
        resynced.subscribe()
        for n in range(1, 100):
            feed.come({"s": "a", **c(n)})
            await settle(0.1)
        (event,) = feed.record.of(CallbackFailed)
        assert event.handler == "sequence of resync for stream Filter([{'s': 'a'}])"
        assert "there is no 'first' in the keys 's', 'U', 'u'" in str(event.error)
        assert caplog.text.count("sequence of resync for stream Filter([{'s': 'a'}]) raised") == 1
        assert feed.statistics().failures == 99


async def test_change_when_its_numbers_are_strings():
    """Numbers may be strings, in changes and in snapshots. One number in place of a pair is a range of one number."""
    async with Changing() as feed:
        await feed.wait_connected()
        got = []
        resynced = feed.stream_filter().resync(Source("0"), sequence="u", snapshot_sequence="last")
        resynced.subscribe(got.append)
        await settle()
        feed.come({"u": "1"}, {"u": "2"})
        await settle()
        assert short(got) == ["start 0", "1", "2"]
        assert resynced.in_sync


async def test_change_when_its_numbers_are_unreadable_again():
    """After a readable message, the next unreadable message is reported again."""
    async with Changing() as feed:
        await feed.wait_connected()
        resync(feed, Source(9)).subscribe()
        await settle()
        feed.come({"n": 1}, {"n": 2}, c(10), {"n": 3})
        await settle()
        assert [event.message for event in feed.record.of(CallbackFailed)] == [{"n": 1}, {"n": 3}]


async def test_change_when_numbers_are_always_missing():
    """When each change has a hole before it, snapshots are fetched with growing delays."""
    async with Changing() as feed:
        await feed.wait_connected()
        source, numbers = Source(0), [0]

        def last(snapshot):
            return numbers[-1]

        feed.messages.subscribe(lambda change: numbers.append(change["u"]))
        feed.stream_filter().resync(source, sequence=("U", "u"), snapshot_sequence=last).subscribe(lambda item: None)
        for n in range(1, 1200):
            feed.come(c(9 * n))
            await asyncio.sleep(0.1)
        assert 2 < len(source.times) < 60


async def test_change_when_its_numbers_cannot_be_read():
    """A message without readable numbers may be a change, so it is reported, and another snapshot is fetched."""
    async with Changing() as feed:
        await feed.wait_connected()
        got = []
        resynced = resync(feed, Source(0, (1, 2)))
        resynced.subscribe(got.append)
        await settle()
        feed.come(c(1), {"e": "hello"})
        await settle()
        assert not resynced.in_sync
        await settle(3)
        feed.come(c(3))
        await settle()
        assert short(got) == ["start 0", 1, "unreadable 2", 3]
        assert resynced.in_sync
        assert feed.record.of(CallbackFailed)[0].message == {"e": "hello"}


async def test_end_when_the_stream_ends():
    """When the stream ends, the sequence ends, the fetch is cancelled, and in_sync is False."""
    async with Changing() as feed:
        await feed.wait_connected()
        stream, ended, got = feed.stream_filter(), [], []
        resynced = resync(feed, Source(0, (3600, 0)), stream)
        resynced.subscribe(got.append, on_completed=lambda: ended.append(True))
        await settle()
        assert resynced.in_sync
        feed.come(c(3))
        await settle(1)
        await stream.close()
        assert (ended, resynced.in_sync) == ([True], False)
        assert short(got) == ["start 0"]


async def test_end_when_the_stream_was_closed_before():
    """A closed stream ends the sequence at once, and no snapshot is fetched."""
    async with Changing() as feed:
        stream, source = feed.stream_filter(), Source(0)
        await stream.close()
        assert [item async for item in resync(feed, source, stream)] == []
        await settle()
        assert source.times == []


async def test_subscriber_when_it_disposes_at_the_snapshot():
    """A subscriber that disposes when it gets the snapshot gets no further item, and the fetch ends."""
    async with Changing() as feed:
        await feed.wait_connected()
        source = Source(0)
        async for item in resync(feed, source):
            assert short([item]) == ["start 0"]
            break
        feed.come(c(5))
        await settle(5)
        assert len(source.times) == 1


async def test_subscriber_when_it_disposes_at_a_reported_failure():
    """A subscriber that disposes when a failure is reported causes no further fetch."""
    async with Changing() as feed:
        await feed.wait_connected()
        source = Source(0)
        subscription = resync(feed, source).subscribe()
        await settle()
        feed.events.subscribe(lambda event: subscription.dispose() if isinstance(event, CallbackFailed) else None)
        feed.come({"e": "hello"})
        await settle(60)
        assert source.times == [0]


async def test_snapshot_when_it_is_neither_a_function_nor_a_filter():
    """A snapshot argument of another type raises TypeError at once."""
    async with Changing() as feed:
        with pytest.raises(TypeError, match="snapshot must be a list of dicts, not a dict"):
            feed.stream_filter().resync({}, sequence=("U", "u"), snapshot_sequence="last")


# Order books


FAULTS = 1000


class Book:
    """An order book that applies snapshots and changes."""

    def __init__(self):
        self.number = 0
        self.bids, self.asks = {}, {}

    def take(self, item):
        """Apply an item."""
        if isinstance(item, Snapshot):
            self.number = item.data["lastUpdateId"]
            self.bids, self.asks = dict(item.data["bids"]), dict(item.data["asks"])
            return
        self.number = item["u"]
        for side, changes in (self.bids, item["b"]), (self.asks, item["a"]):
            for price, quantity in changes:
                if quantity:
                    side[price] = quantity
                else:
                    side.pop(price, None)

    @property
    def levels(self):
        """Return the book in the form of a snapshot."""
        return {
            "lastUpdateId": self.number,
            "bids": [[price, self.bids[price]] for price in sorted(self.bids, reverse=True)],
            "asks": [[price, self.asks[price]] for price in sorted(self.asks)],
        }


@pytest.mark.slow
async def test_book_when_a_thousand_faults_happen():
    """Despite cuts, rotations, dropped changes and bad snapshots, a book is right whenever it is in sync."""
    symbols = ("BTCUSDT", "ETHUSDT")
    chance = random.Random(5)
    async with (
        demo.serve(symbols=symbols, rate=0) as exchange,
        rxws.ReactiveWebSocket(exchange, reconnect_delays=lambda: [0] * 9999, handover_timeout=1) as feed,
    ):
        books, resynced = {}, {}
        for symbol in symbols:
            books[symbol] = Book()
            resynced[symbol] = feed.stream_filter([{"e": "depthUpdate", "s": symbol}]).resync(
                lambda symbol=symbol: exchange.get_json(f"/depth?symbol={symbol}"),
                sequence=("U", "u"),
                snapshot_sequence="lastUpdateId",
            )
            resynced[symbol].subscribe(books[symbol].take)
        in_sync = 0

        def check():
            for symbol in symbols:
                if resynced[symbol].in_sync:
                    assert books[symbol].levels == exchange.book(symbol)
            return all(resynced[symbol].in_sync for symbol in symbols)

        await feed.wait_connected()
        for _ in range(FAULTS):
            fault = chance.choice(["cut", "rotate", "drop", "late", "early", "slow", "fail", "nothing"])
            exchange.snapshot_lag = exchange.snapshot_delay = exchange.lag = 0
            rotating = None
            if fault == "cut":
                await exchange.cut()
            elif fault == "rotate":
                rotating = feed.rotate()
            elif fault == "drop":
                exchange.drop_deltas(chance.randint(1, 3), symbol=chance.choice((*symbols, None)))
            elif fault == "late":
                exchange.snapshot_lag = chance.randint(1, 10)
            elif fault == "early":
                exchange.lag = 0.3
            elif fault == "slow":
                exchange.snapshot_delay = 0.3
            elif fault == "fail":
                exchange.fail_snapshots(chance.randint(1, 3))
            if fault in ("late", "early", "slow", "fail") and chance.random() < 0.7:
                exchange.drop_deltas(1)
            for _ in range(4):
                await exchange.publish(10)
                await asyncio.sleep(0.1)
            if rotating is not None:
                await rotating
            # Without a later change, the book cannot notice that the last changes were dropped.
            await exchange.publish(30)
            await asyncio.sleep(0.5)
            in_sync += check()
            for _ in range(3):
                if not check():
                    await asyncio.sleep(0.5)
        assert in_sync > FAULTS / 3
        exchange.snapshot_lag = 0
        for _ in range(100):
            await exchange.publish(20)
            await asyncio.sleep(1)
        assert check()
        statistics = feed.statistics()
        assert statistics.rotations > 80
        assert sum(statistics.reconnects.values()) > 80
