"""A stream of changes, with a snapshot wherever one is due."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

import rxws
from rxws import CallbackFailed, Overflowed, Snapshot, demo
from rxws.streams.sequence import SequenceTracker
from tests.support.life import ScriptedFeed, ScriptedWebsocket

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


def c(first, last=None):
    """A change."""
    return {"U": first, "u": last or first}


class Source:
    """Gives snapshots as the test says: a number, an exception, or seconds to wait first."""

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
        """Let changes come."""
        self.websocket.come(*map(json.dumps, changes))


def resync(feed, source, stream=None):
    """Bring a feed's messages in line with their snapshots."""
    changes = feed.stream_filter() if stream is None else stream
    return changes.resync(source, sequence=("U", "u"), snapshot_sequence="last")


def short(items):
    """Say what was delivered: numbers, and snapshots with their reason."""
    return [f"{item.reason} {item.data['last']}" if isinstance(item, Snapshot) else item["u"] for item in items]


async def settle(seconds=0.01):
    """Let things happen."""
    await asyncio.sleep(seconds)


async def test_snapshot_comes_first_and_what_follows_it_after():
    """Changes that come while the snapshot is being fetched are held; those that it knows are dropped."""
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


async def test_what_the_stream_holds_already_counts():
    """Changes that came between the making of the stream and the subscription are not lost."""
    async with Changing() as feed:
        stream = feed.stream_filter()
        await feed.wait_connected()
        feed.come(c(1), c(2), c(3))
        await settle()
        got = []
        resync(feed, Source(1), stream).subscribe(got.append)
        await settle()
        assert short(got) == ["start 1", 2, 3]


async def test_each_consumer_has_a_snapshot_of_its_own():
    """Each subscriber, and each ``async for``, begins with a snapshot; ``in_sync`` is for all of them."""
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


async def test_hole_in_the_numbers_fetches_again():
    """A number that is missing is answered with a snapshot that says so, and what follows on it."""
    async with Changing() as feed:
        await feed.wait_connected()
        resynced, got = resync(feed, Source(0, (0, 4))), []
        resynced.subscribe(got.append)
        await settle(20)
        feed.come(c(1), c(3), c(4), c(5))
        await settle()
        assert short(got) == ["start 0", 1, "hole 4", 5]


@pytest.mark.parametrize("gaps", [False, True])
async def test_gap_of_the_feed_fetches_again(gaps):
    """After a lost connection another snapshot is due, whether or not numbers are missing."""
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
        # One that was asked for before the next gap is not trusted.
        feed.websocket.end()
        await feed.opened(3)
        await feed.wait_connected()
        feed.come(c(2))
        await settle(10)
        assert short(got) == ["start 0", 1, "network 1", 2]


async def test_without_a_connection_nothing_is_in_sync_nor_fetched():
    """A snapshot is fetched once the changes after it come; in an outage a book says that it is not right."""
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


async def test_channel_that_is_not_subscribed_is_not_in_sync():
    """Of a channel that waits to be subscribed no snapshot is fetched, since its changes do not come yet."""
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


async def test_channel_that_is_refused_is_not_in_sync():
    """Of what the server refuses there is no snapshot before it is subscribed on another connection."""
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


async def test_snapshot_of_the_former_numbers_is_fetched_again():
    """When the server counts anew while a snapshot is on its way, that one is of numbers that mean nothing any more."""
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


async def test_snapshot_that_is_too_old_is_fetched_again():
    """A snapshot that does not reach what is held is of no use, nor is the same one a moment later."""
    async with Changing() as feed:
        await feed.wait_connected()
        got, source = [], Source(0, 1, 2, 4)
        feed.come(c(5), c(6))
        resync(feed, source).subscribe(got.append)
        await settle(60)
        assert short(got) == ["start 4", 5, 6]
        assert len(source.times) == 4
        assert repr(resync(feed, source)).endswith(": not in sync>")
        # The first may just be late.
        told = [str(event.error) for event in feed.record.of(CallbackFailed)]
        assert told == [f"{n} snapshots in a row are older than the changes that are held" for n in (2, 3)]


async def test_changes_that_give_way_while_no_snapshot_comes_are_told(monkeypatch):
    """What is held has a bound; what is dropped for it is counted, and told once."""
    monkeypatch.setattr(SequenceTracker.__init__, "__defaults__", (3,))
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


async def test_failures_are_reported_and_retried_with_growing_delays():
    """A snapshot that cannot be had, read, or had in time is reported, and asked for ever more slowly."""
    errors = [OSError("down"), asyncio.CancelledError(), (11, 0), "x"]
    async with Changing() as feed:
        await feed.wait_connected()
        got, source = [], Source(*errors, OSError("still"), 0)
        resync(feed, source, feed.stream_filter([{"s": "a"}])).subscribe(got.append)
        await settle(100)
        assert short(got) == ["start 0"]
        kinds = [type(event.error) for event in feed.record.of(CallbackFailed)]
        assert kinds == [OSError, asyncio.CancelledError, TimeoutError, TypeError, OSError]
        assert {event.handler for event in feed.record.of(CallbackFailed)} == {"Source for stream Filter([{'s': 'a'}])"}
        assert source.times[0] == 0
        assert source.times[1:] == sorted(set(source.times[1:]))


async def test_numbers_that_always_have_holes_do_not_fetch_without_a_pause():
    """Where the numbers were misunderstood, snapshots are fetched at growing delays, and not with each change."""
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


async def test_change_without_numbers_is_reported_and_asks_for_a_snapshot():
    """A message whose numbers cannot be read may have changed something: nobody is in sync without it."""
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


async def test_end_of_the_stream_is_the_end():
    """When the stream ends, so does what is made of it, the fetching included; then nothing is in sync."""
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


async def test_stream_that_has_ended_ends_at_once():
    """Of a stream that is closed nothing comes, and nothing is fetched."""
    async with Changing() as feed:
        stream, source = feed.stream_filter(), Source(0)
        await stream.close()
        assert [item async for item in resync(feed, source, stream)] == []
        await settle()
        assert source.times == []


async def test_consumer_that_leaves_at_the_snapshot():
    """Whoever leaves in the midst of what is delivered gets no more, and nothing is fetched any more."""
    async with Changing() as feed:
        await feed.wait_connected()
        source = Source(0)
        async for item in resync(feed, source):
            assert short([item]) == ["start 0"]
            break
        feed.come(c(5))
        await settle(5)
        assert len(source.times) == 1


async def test_consumer_that_leaves_when_it_learns_of_a_failure():
    """Whoever leaves in the midst of what is told of a change fetches nothing any more, either."""
    async with Changing() as feed:
        await feed.wait_connected()
        source = Source(0)
        subscription = resync(feed, source).subscribe()
        await settle()
        feed.events.subscribe(lambda event: subscription.dispose() if isinstance(event, CallbackFailed) else None)
        feed.come({"e": "hello"})
        await settle(60)
        assert source.times == [0]


async def test_snapshot_that_cannot_be_called():
    """What is no function is refused at once."""
    async with Changing() as feed:
        with pytest.raises(TypeError, match="snapshot must be a coroutine function"):
            feed.stream_filter().resync({}, sequence=("U", "u"), snapshot_sequence="last")


# Order books


FAULTS = 1000


class Book:
    """An order book, kept from snapshots and changes."""

    def __init__(self):
        self.number = 0
        self.bids, self.asks = {}, {}

    def take(self, item):
        """Apply what comes."""
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
        """It in the form of a snapshot."""
        return {
            "lastUpdateId": self.number,
            "bids": [[price, self.bids[price]] for price in sorted(self.bids, reverse=True)],
            "asks": [[price, self.asks[price]] for price in sorted(self.asks)],
        }


@pytest.mark.slow
async def test_books_are_right_or_say_that_they_are_not_through_a_thousand_faults():
    """Through cuts, rotations, dropped changes and late, early and failing snapshots: right whenever it is in sync."""
    symbols = ("BTCUSDT", "ETHUSDT")
    chance = random.Random(5)
    # The delays are drawn too.
    random.seed(5)
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
            # That something was dropped at the very end nobody can know before the next change.
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
