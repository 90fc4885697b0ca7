"""Sessions of resync: snapshots that arrive in the feed."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager

import pytest

import rxws
from rxws import CallbackFailed, Gap, Snapshot
from tests.support.books import BookServer, TakenBook, multiplexed

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")

SNAPSHOTS = [{"snap": True}]
NUMBERS = pytest.mark.parametrize("sequence", ["n", None])


def record_failures(feed):
    """Return the list in which the feed's failures are recorded."""
    failures = []
    feed.events.subscribe(lambda event: failures.append(event) if isinstance(event, CallbackFailed) else None)
    return failures


async def publish(server, seconds=1.0, every=0.05):
    """Publish changes for some time."""
    for _ in range(round(seconds / every)):
        server.publish()
        await asyncio.sleep(every)


@asynccontextmanager
async def kept_book(sequence, lags=(), **options):
    """A server, a connected feed of it, the result of ``resync``, and the book that takes its items.

    The channel is subscribed by ``multiplex``, unless ``on_open`` subscribes it.
    """
    async with BookServer() as server, rxws.ReactiveWebSocket(server.server.url, **options) as feed:
        server.lags = dict(enumerate(lags, 1))
        stream = feed.stream_filter([{"s": "a"}]) if options.get("on_open") else multiplexed(feed)
        resynced, book = stream.resync(SNAPSHOTS, sequence=sequence), TakenBook()
        resynced.subscribe(book.take)
        await feed.wait_connected()
        yield server, feed, resynced, book


async def settle(seconds=0.5):
    """Let everything arrive."""
    await asyncio.sleep(seconds)


@NUMBERS
async def test_book_begins_with_the_snapshot_of_its_subscription(sequence):
    """The first snapshot after the subscription begins the book, and the channel is subscribed once."""
    async with BookServer() as server, rxws.ReactiveWebSocket(server.server.url) as feed:
        server.publish(5)
        resynced, book = multiplexed(feed).resync(SNAPSHOTS, sequence=sequence), TakenBook()
        resynced.subscribe(book.take)
        assert not resynced.in_sync
        await feed.wait_connected()
        await publish(server)
        assert (book.reasons, book.changes, resynced.in_sync) == (["start"], 20, True)
        assert book.levels == server.levels
        assert server.sent == {"+a": 1}


@NUMBERS
async def test_snapshot_waits_in_the_stream_for_the_first_subscriber(sequence):
    """A stream keeps its first snapshot, so a later subscriber needs no further subscription."""
    async with BookServer() as server, rxws.ReactiveWebSocket(server.server.url) as feed:
        stream, book = multiplexed(feed), TakenBook()
        await feed.wait_connected()
        await publish(server)
        stream.resync(SNAPSHOTS, sequence=sequence).subscribe(book.take)
        await publish(server)
        assert (book.reasons, book.changes) == (["start"], 40)
        assert book.levels == server.levels
        assert server.sent == {"+a": 1}


async def test_channel_is_subscribed_again_when_a_change_is_missing():
    """At a hole the channel is subscribed again, once for all subscribers, and the book continues."""
    async with BookServer() as server, rxws.ReactiveWebSocket(server.server.url) as feed:
        resynced, books = multiplexed(feed).resync(SNAPSHOTS, sequence="n"), [TakenBook(), TakenBook()]
        for book in books:
            resynced.subscribe(book.take)
        await feed.wait_connected()
        await publish(server, 15)
        before = server.sent["+a"]
        server.publish(lost=True)
        server.publish()
        await publish(server)
        assert [book.reasons[-1] for book in books] == ["hole", "hole"]
        assert [book.levels for book in books] == [server.levels, server.levels]
        assert resynced.in_sync
        assert server.sent["+a"] == before + 1


async def test_two_subscribers_share_the_snapshot_of_a_subscription():
    """Subscribers from before the first connection share its snapshot; a later one causes a subscription."""
    async with BookServer() as server, rxws.ReactiveWebSocket(server.server.url) as feed:
        resynced, books = multiplexed(feed).resync(SNAPSHOTS, sequence="n"), [TakenBook() for _ in range(3)]
        resynced.subscribe(books[0].take)
        resynced.subscribe(books[1].take)
        await feed.wait_connected()
        await publish(server)
        assert server.sent == {"+a": 1}
        resynced.subscribe(books[2].take)
        await publish(server)
        assert server.sent == {"+a": 2, "-a": 1}
        assert [book.reasons for book in books] == [["start", "server"], ["start", "server"], ["start"]]
        assert all(book.levels == server.levels for book in books)


async def test_book_begins_when_its_channel_is_subscribed_for_another_stream_already():
    """A stream of a channel whose snapshot has arrived already causes another subscription at once."""
    async with BookServer() as server, rxws.ReactiveWebSocket(server.server.url) as feed:
        watched = multiplexed(feed)
        await feed.wait_connected()
        await publish(server)
        book = TakenBook()
        multiplexed(feed).resync(SNAPSHOTS, sequence="n").subscribe(book.take)
        await publish(server, 2)
        assert (book.reasons, book.levels) == (["start"], server.levels)
        assert server.sent["+a"] == 2
        assert watched.matched > 40


@NUMBERS
async def test_book_starts_over_when_the_connection_was_lost(sequence):
    """After a lost connection the snapshot of the new one begins the book, without another subscription."""
    async with kept_book(sequence) as (server, _feed, resynced, book):
        await publish(server)
        server.server.reset()
        # The server restarts its count.
        server.number = 0
        await publish(server)
        assert (book.reasons, book.levels) == (["start", "network"], server.levels)
        assert resynced.in_sync
        assert server.sent == {"+a": 2}


@NUMBERS
@pytest.mark.parametrize("on_open", [(), ("+a",)])
@pytest.mark.parametrize("lags", [(0.0, 0.0), (0.0, 0.3), (0.3, 0.0)])
async def test_book_continues_in_a_rotation(sequence, lags, on_open):
    """The snapshot of the new connection in a rotation is discarded, whichever connection lags."""
    async with kept_book(sequence, lags, on_open=on_open) as (server, feed, resynced, book):
        await publish(server)
        rotating = asyncio.ensure_future(feed.rotate())
        await publish(server, 8)
        assert rotating.done()
        assert (book.reasons, resynced.in_sync) == (["start"], True)
        await settle()
        assert (book.changes, book.levels) == (server.number, server.levels)
        assert feed.statistics().discarded >= 1


@NUMBERS
@pytest.mark.parametrize("lags", [(0.0, 0.0), (0.0, 0.3), (0.3, 0.0)])
@pytest.mark.parametrize("late", [0.0, 0.2, 0.6, 2.0])
async def test_book_is_right_when_it_restarts_in_an_overlap(sequence, lags, late):
    """``restart`` in an overlap delivers a snapshot and the changes that follow it, whichever connection lags."""
    async with kept_book(sequence, lags, handover_settle=2.5) as (server, feed, resynced, book):
        await publish(server, 11)
        rotating = asyncio.ensure_future(feed.rotate())
        await publish(server, late)
        resynced.restart("checksum")
        assert not resynced.in_sync
        await publish(server, 4)
        assert (book.reasons, resynced.in_sync) == (["start", "checksum"], True)
        await settle()
        assert book.levels == server.levels
        await publish(server, 4)
        assert rotating.done()
        await settle()
        assert (book.reasons, book.levels) == (["start", "checksum"], server.levels)


@NUMBERS
async def test_book_is_right_when_a_rotation_follows_an_unanswered_subscription(sequence):
    """No change is missing if a rotation begins while the new subscription of the book is not acknowledged yet."""
    async with kept_book(sequence) as (server, feed, resynced, book):
        await publish(server)
        server.unanswered = 1
        resynced.restart("checksum")
        await publish(server)
        before = book.changes
        rotating = asyncio.ensure_future(feed.rotate())
        await publish(server, 30)
        assert rotating.done()
        await settle()
        assert (book.reasons, book.changes) == (["start", "checksum"], before + 600)
        assert book.levels == server.levels


async def test_restart_discards_what_waits_in_an_iteration():
    """``restart`` discards the items that wait in an ``async for``; the next item is the snapshot."""
    async with BookServer() as server, rxws.ReactiveWebSocket(server.server.url) as feed:
        resynced, book = multiplexed(feed).resync(SNAPSHOTS, sequence=None), TakenBook()
        items = aiter(resynced)
        await feed.wait_connected()
        book.take(await anext(items))
        await publish(server)
        resynced.restart("checksum")
        resynced.restart("again")
        book.take(await anext(items))
        assert book.reasons == ["start", "checksum"]
        await publish(server)
        while book.levels != server.levels:
            book.take(await anext(items))
        await items.aclose()


async def test_restart_fetches_when_the_snapshots_are_fetched():
    """``restart`` works in the same way when a function fetches the snapshots."""
    async with BookServer() as server, rxws.ReactiveWebSocket(server.server.url) as feed:

        async def fetch():
            return server.snapshot()

        book = TakenBook()
        resynced = multiplexed(feed).resync(fetch, sequence="n", snapshot_sequence="n")
        resynced.subscribe(book.take)
        await feed.wait_connected()
        await settle()
        resynced.restart("checksum")
        await settle()
        assert (book.reasons, book.levels) == (["start", "checksum"], server.levels)
        assert server.sent == {"+a": 1}


async def test_restart_within_the_delivery_discards_the_later_changes():
    """A subscriber that restarts when it gets an item gets no change before the next snapshot."""
    async with BookServer() as server, rxws.ReactiveWebSocket(server.server.url) as feed:
        got = []

        def take(item):
            got.append(item.reason if isinstance(item, Snapshot) else item["n"])
            if got == ["start"]:
                resynced.restart("first")

        async def fetch():
            snapshot = server.snapshot()
            await asyncio.sleep(0.3)
            return snapshot

        resynced = feed.stream_filter([{"s": "a", "levels": rxws.present}]).resync(
            fetch, sequence="n", snapshot_sequence="n"
        )
        subscribed = multiplexed(feed)
        resynced.subscribe(take)
        await feed.wait_connected()
        await publish(server, 2)
        assert got[:2] == ["start", "first"]
        assert got[2:] == list(range(got[2], server.number + 1))
        await subscribed.close()


async def test_restart_when_the_reason_is_not_text():
    """``restart`` without a text for the reason raises TypeError."""
    async with BookServer() as server, rxws.ReactiveWebSocket(server.server.url) as feed:
        resynced = multiplexed(feed).resync(SNAPSHOTS, sequence=None)
        with pytest.raises(TypeError, match="reason must be a str, such as 'checksum', not 7"):
            resynced.restart(7)


async def test_subscription_without_a_snapshot_is_reported_and_repeated():
    """If no snapshot arrives within ten seconds, this is reported, and the channel is subscribed again."""
    async with BookServer() as server, rxws.ReactiveWebSocket(server.server.url) as feed:
        failures, book = record_failures(feed), TakenBook()
        server.ignored = 2
        multiplexed(feed).resync(SNAPSHOTS, sequence="n").subscribe(book.take)
        await feed.wait_connected()
        await settle(40)
        assert [str(each.error) for each in failures] == ["no message passed the filter snapshot= within 10 s"] * 2
        assert failures[0].handler == "snapshot of resync for stream Filter([{'s': 'a'}])"
        assert (book.reasons, server.sent["+a"]) == (["start"], 3)


async def test_hole_in_a_stream_that_cannot_be_subscribed_again():
    """A hole in a stream that is not multiplexed is reported with the reason why it cannot be subscribed again."""
    async with BookServer() as server, rxws.ReactiveWebSocket(server.server.url, on_open=["+a"]) as feed:
        failures, book = record_failures(feed), TakenBook()
        resynced = feed.stream_filter([{"s": "a"}]).resync(SNAPSHOTS, sequence="n")
        resynced.subscribe(book.take)
        await feed.wait_connected()
        await publish(server)
        assert (book.reasons, failures) == (["start"], [])
        server.publish(lost=True)
        await publish(server, 5)
        assert not resynced.in_sync
        assert all("only a stream of multiplex can" in str(each.error) for each in failures)
        assert 1 <= len(failures) < 10
        server.server.reset()
        await publish(server, 5)
        assert (book.reasons, book.levels) == (["start", "network"], server.levels)


async def test_filter_of_snapshots_that_passes_changes_is_reported():
    """A filter of snapshots that every message passes is reported once, after a hundred messages."""
    async with BookServer() as server, rxws.ReactiveWebSocket(server.server.url) as feed:
        failures = record_failures(feed)
        multiplexed(feed).resync([{"levels": rxws.present}], sequence="n").subscribe()
        await feed.wait_connected()
        await publish(server, 20)
        assert [str(each.error) for each in failures] == [
            "100 snapshots in a row: the filter snapshot= must pass no change"
        ]


@pytest.mark.parametrize("snapshot", [None, [], [{}], [{"s": "a"}]])
async def test_filter_of_snapshots_that_passes_all_messages_is_refused(snapshot):
    """A filter of snapshots that passes every message of the stream raises ValueError."""
    async with BookServer() as server, rxws.ReactiveWebSocket(server.server.url) as feed:
        with pytest.raises(ValueError, match="snapshot must be a filter that only snapshots pass, not"):
            multiplexed(feed).resync(snapshot, sequence="n")


async def test_arguments_that_do_not_go_together_are_refused():
    """``sequence=None`` needs a filter, a function needs both numbers, and a filter needs no ``snapshot_sequence``."""
    async with BookServer() as server, rxws.ReactiveWebSocket(server.server.url) as feed:
        stream = multiplexed(feed)

        async def fetch():
            raise AssertionError("is not called")

        for arguments in {"sequence": None, "snapshot_sequence": "n"}, {"sequence": "n"}:
            with pytest.raises(TypeError, match="a function for snapshot needs sequence and snapshot_sequence"):
                stream.resync(fetch, **arguments)
        with pytest.raises(TypeError, match="snapshot_sequence needs a function for snapshot"):
            stream.resync(SNAPSHOTS, sequence="n", snapshot_sequence="n")
        with pytest.raises(TypeError, match="snapshot must be a list of dicts, or a callable, not str"):
            stream.resync("snap", sequence="n")


async def test_unreadable_snapshot_is_reported_and_another_one_requested():
    """A snapshot without a readable number is reported; the channel is subscribed again with growing delays."""
    async with BookServer() as server, rxws.ReactiveWebSocket(server.server.url) as feed:
        failures, book = record_failures(feed), TakenBook()
        resynced = multiplexed(feed).resync([{"snap": rxws.present}], sequence="n")
        resynced.subscribe(book.take)
        await feed.wait_connected()
        await publish(server)
        server.send({"s": "a", "snap": 1, "levels": []})
        await publish(server, 2)
        assert len(failures) == 1
        assert "there is no 'n'" in str(failures[0].error)
        assert (book.reasons, book.levels) == (["start", "unreadable"], server.levels)


async def test_snapshot_that_the_server_sends_by_itself_replaces_the_book():
    """A snapshot without a request is delivered with the reason "server"; an older one is ignored."""
    async with BookServer() as server, rxws.ReactiveWebSocket(server.server.url) as feed:
        resynced, book = multiplexed(feed).resync(SNAPSHOTS, sequence="n"), TakenBook()
        resynced.subscribe(book.take)
        await feed.wait_connected()
        await publish(server)
        server.send(server.snapshot())
        old = {**server.snapshot(), "n": server.number - 3}
        server.send(old)
        await publish(server)
        assert (book.reasons, book.levels) == (["start", "server"], server.levels)
        assert server.sent == {"+a": 1}


async def test_loss_while_a_snapshot_is_awaited():
    """A connection that is lost while a snapshot is awaited is not a failure: the next one delivers the snapshot."""
    async with BookServer() as server, rxws.ReactiveWebSocket(server.server.url) as feed:
        failures, book = record_failures(feed), TakenBook()
        resynced = multiplexed(feed).resync(SNAPSHOTS, sequence=None)
        resynced.subscribe(book.take)
        await feed.wait_connected()
        await publish(server)
        server.ignored = 1
        resynced.restart("checksum")
        await settle(7)
        server.server.refuse(3)
        server.server.reset()
        await settle(30)
        assert failures == []
        assert (book.reasons, book.levels, resynced.in_sync) == (["start", "network"], server.levels, True)


async def test_hole_that_the_server_reports_causes_a_subscription():
    """After a Gap with the reason "source", the connection is the same, so the channel is subscribed again."""

    def decode(frame):
        message = rxws.codec.decode(frame)
        return Gap(start=1.0, end=2.0) if message == {"s": "a", "missed": True} else message

    async with BookServer() as server, rxws.ReactiveWebSocket(server.server.url, decode=decode) as feed:
        resynced, book = multiplexed(feed).resync(SNAPSHOTS, sequence=None), TakenBook()
        resynced.subscribe(book.take)
        await feed.wait_connected()
        await publish(server)
        server.publish(lost=True)
        server.send({"s": "a", "missed": True})
        await publish(server)
        assert (book.reasons, book.levels) == (["start", "source"], server.levels)
        assert server.sent == {"+a": 2, "-a": 1}


@pytest.mark.slow
@NUMBERS
@pytest.mark.parametrize(("lines", "seed"), [*((1, seed) for seed in range(15)), *((2, seed) for seed in range(5))])
async def test_book_is_right_after_random_faults(sequence, lines, seed):
    """After cuts, rotations, restarts and lost changes in random order, a book that is in sync is right."""
    chance = random.Random(seed)
    options = {"lines": lines, "handover_timeout": 3}
    async with BookServer(seed) as server, rxws.ReactiveWebSocket(server.server.url, **options) as feed:
        resynced, book = multiplexed(feed).resync(SNAPSHOTS, sequence=sequence), TakenBook()
        resynced.subscribe(book.take)
        await feed.wait_connected()
        for _ in range(30):
            server.lags[server.server.opened + 1] = chance.choice([0.0, 0.0, 0.1, 0.4])
            fault = chance.choice(["cut", "rotate", "rotate", "restart", "restart", "lose", "send", "nothing"])
            if fault == "cut":
                connections = server.server.connections
                for connection in connections if chance.random() < 0.3 else connections[-1:]:
                    connection.reset()
            elif fault == "rotate":
                rotating = asyncio.ensure_future(feed.rotate())
                rotating.add_done_callback(lambda done: done.cancelled() or done.exception())
            elif fault == "restart":
                resynced.restart("checksum")
            elif fault == "lose" and sequence is not None:
                server.publish(lost=True)
            elif fault == "send":
                server.send(server.snapshot())
            await publish(server, chance.uniform(0.1, 3.0))
            if resynced.in_sync and chance.random() < 0.5:
                await settle()
                assert not resynced.in_sync or book.levels == server.levels
        await publish(server, 90, every=1.0)
        await settle()
        assert resynced.in_sync
        assert book.levels == server.levels
