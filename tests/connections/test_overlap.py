"""The overlap of two connections: which messages are delivered, held or dropped, and when the overlap ends."""

from __future__ import annotations

import asyncio
import json

import pytest

import rxws
from rxws import CallbackFailed, Many, MessageRejected, Rotated
from rxws.connections.connection import Connection
from rxws.connections.overlap import Overlap, Verdict
from rxws.messages.dispatcher import FrameDispatcher
from rxws.messages.hooks import ParseHooks
from rxws.options import Options
from tests.support.feeds import Feed, of_kind, opened, record, take
from tests.support.life import ScriptedFeed, ScriptedWebsocket
from tests.support.wiring import Wiring, never_asked

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


def parsing(parse, kind=ScriptedFeed):
    """Return a class of feeds with this parse hook."""
    return type("Parsing", (kind,), {"_parse_raw_data": lambda self, raw_data: parse(raw_data)})


def rejected(events):
    """Return the fields of the events of rejected frames, without their times."""
    return [(event.raw, event.error, event.count) for event in of_kind(MessageRejected, events)]


# The release of held messages, without a feed


class Subscriptions:
    """The sender of a feed whose messages have no channel, except those that begin with a capital letter."""

    def __init__(self):
        self.is_subscribed = True
        self.leaving = ""
        self.asked_for = ""

    def channel_of(self, message, connection=None):
        """Return the first letter if it is a capital."""
        return message[0] if isinstance(message, str) and message[0].isupper() else None

    def asked(self, connection):
        """Return the channels that were requested on the first connection."""
        return self.asked_for if connection.number == 1 else ""

    def is_leaving(self, _connection, channel):
        """Return whether the channel is the one that was unsubscribed."""
        return channel == self.leaving


def two_connections(wiring, sender=None):
    """Return an overlap, its dispatcher and its connections."""
    dispatcher = FrameDispatcher(wiring.context, wiring.router, ParseHooks(lambda: str, None, None, None))
    old, new = (Connection(ScriptedWebsocket(), number, wiring.loop, wiring.reporter, never_asked) for number in (1, 2))
    for connection in (old, new):
        connection.start(asyncio.get_running_loop().create_future)
    options = Options(handover_settle=1.0, handover_timeout=5.0)
    gaps = []
    both = Overlap(wiring.context, dispatcher, old, sender or Subscriptions(), options, gaps.append)
    both.hold(new)
    both.subscribed(new)
    return both, dispatcher, old, new


async def test_messages_during_the_release_are_delivered_after_the_held_ones():
    """Messages that arrive during the release are delivered after the held ones, and copies are still dropped."""
    wiring = Wiring()
    both, dispatcher, old, new = two_connections(wiring)
    messages, frames = [], []
    wiring.router.messages.subscribe(messages.append)
    dispatcher.frames.subscribe(frames.append)
    old.inbound.sink("copy", "copy", 1)
    old.inbound.sink("late copy", "late copy", 1)
    new.inbound.sink("copy", "copy", 2)
    new.inbound.sink("two", Many(["a", "b"]), 3)
    old.reader.cancel()
    releasing = asyncio.create_task(both.release(new, "rotation"))
    await asyncio.sleep(0)
    new.inbound.sink("late copy", "late copy", 4)
    new.inbound.sink("late", "late", 5)
    await releasing
    new.inbound.sink("last", "last", 6)
    assert messages == ["copy", "late copy", "a", "b", "late", "last"]
    assert frames == [("copy", 1, 1), ("late copy", 1, 1), ("two", 3, 2), ("late", 5, 2), ("last", 6, 2)]
    assert (both.duplicates, wiring.reporter.counters.duplicates) == (1, 2)
    new.reader.cancel()
    await asyncio.wait({old.reader, new.reader})


async def test_gap_of_the_new_connection_is_released_between_the_messages_of_all_channels():
    """If the old connection has ended, a Gap of the new one stands before the later messages of each channel."""
    wiring = Wiring()
    both, _, old, new = two_connections(wiring)
    gap, items = rxws.Gap(1.0, 2.0), []
    wiring.router.messages.subscribe(items.append)
    for message in ("A1", "B1"):
        old.inbound.sink(message, message, 1)
    for channel in "AB":
        new.change_channel(channel, True)
    old.reader.cancel()
    await asyncio.sleep(0)
    for message in ("A2", "B2", "c", gap, "A3", "B3"):
        new.inbound.sink(str(message), message, 2)
    await both.release(new, "network")
    assert items == ["A1", "B1", "A2", "B2", "c", gap, "A3", "B3"]
    new.reader.cancel()
    await asyncio.wait({old.reader, new.reader})


async def test_many_messages_that_are_let_go_at_once_are_waited_for():
    """If a late channel releases many messages at once, other tasks run in between, and a caller can await the end."""
    wiring = Wiring()
    both, _, old, new = two_connections(wiring)
    messages = []
    wiring.router.messages.subscribe(messages.append)
    old.reader.cancel()
    await both.release(new, "rotation")
    for number in range(1000):
        new.inbound.sink(f"frame {number}", f"Late {number}", 1)
    new.change_channel("L", True)
    await both.drained()
    assert messages == [f"Late {number}" for number in range(1000)]
    both.forget(new)
    new.reader.cancel()
    await asyncio.wait({old.reader, new.reader})


async def test_messages_during_the_release_make_it_shorter():
    """Two held frames are delivered for each new frame, so the release ends at any rate of messages."""
    wiring = Wiring()
    both, _, old, new = two_connections(wiring)
    messages = []
    wiring.router.messages.subscribe(messages.append)
    for number in range(4):
        new.inbound.sink(f"held {number}", number, 1)
    old.reader.cancel()
    releasing = asyncio.create_task(both.release(new, "rotation"))
    await asyncio.sleep(0)
    new.inbound.sink("two", Many([4, 5]), 1)
    assert messages == [0, 1]
    new.inbound.sink("late", 6, 1)
    assert messages == [0, 1, 2, 3]
    new.inbound.sink("later", 7, 1)
    assert messages == [0, 1, 2, 3, 4, 5, 6]
    await releasing
    assert messages == [0, 1, 2, 3, 4, 5, 6, 7]
    new.reader.cancel()
    await asyncio.wait({old.reader, new.reader})


async def test_frame_that_cannot_be_hashed_is_delivered_from_both_connections():
    """If a frame cannot be hashed, this is reported, and the frame is delivered from both connections."""
    wiring = Wiring()
    both, _, old, new = two_connections(wiring)
    messages = []
    wiring.router.messages.subscribe(messages.append)
    old.inbound.sink(bytearray(b"a"), "old", 1)
    new.inbound.sink(bytearray(b"a"), "new", 1)
    old.reader.cancel()
    await both.release(new, "rotation")
    new.inbound.sink(bytearray(b"a"), "late", 1)
    assert messages == ["old", "new", "late"]
    assert [type(event.error) for event in wiring.seen] == [TypeError] * 3
    assert {event.handler for event in wiring.seen} == {"the identity of a frame"}
    new.reader.cancel()
    await asyncio.wait({old.reader, new.reader})


async def test_messages_of_an_unsubscribed_channel_are_discarded_in_an_overlap():
    """Messages of an ended subscription are dropped, because messages between them and the next one are missing."""
    wiring, sender = Wiring(), Subscriptions()
    both, _, old, new = two_connections(wiring, sender)
    messages = []
    wiring.router.messages.subscribe(messages.append)
    old.on_channel("C", True)
    old.inbound.sink("C1", "C1", 1)
    sender.leaving = "C"
    old.on_channel("C", False)
    old.inbound.sink("C2", "C2", 1)
    sender.leaving = ""
    old.on_channel("C", True)
    old.inbound.sink("C4", "C4", 1)
    assert messages == ["C1", "C4"]
    assert (both.discarded, wiring.reporter.counters.discarded) == (1, 1)
    for connection in (old, new):
        connection.reader.cancel()
    await asyncio.wait({old.reader, new.reader})


async def test_channel_that_was_asked_for_belongs_to_the_old_connection():
    """A channel that was requested on the old connection is delivered from there, even without an answer."""
    wiring, sender = Wiring(), Subscriptions()
    sender.asked_for = "O"
    _, _, old, new = two_connections(wiring, sender)
    messages = []
    wiring.router.messages.subscribe(messages.append)
    for channel in "ON":
        new.on_channel(channel, True)
        new.inbound.sink(f"{channel}2", f"{channel}2", 1)
    assert messages == ["N2"]
    for connection in (old, new):
        connection.reader.cancel()
    await asyncio.wait({old.reader, new.reader})


async def test_overlap_holds_until_the_last_released_message_is_delivered():
    """While released messages are delivered, the overlap still holds those that follow."""
    wiring, sender = Wiring(), Subscriptions()
    both, _, old, new = two_connections(wiring, sender)
    delivered = []
    wiring.router.messages.subscribe(lambda message: delivered.append((message, both.is_holding)))
    for connection in (new, old):
        connection.on_channel("N", True)
    for each in ("N0", "N1"):
        await asyncio.sleep(0.5)
        for connection in (new, old):
            connection.inbound.sink(each, each, 1)
    for each in ("N2", "N3", "N4"):
        old.inbound.sink(each, each, 1)
    for _ in range(80):
        both.is_over()
        await asyncio.sleep(0.02)
    old.inbound.sink("5", "5", 1)
    assert delivered == [("N0", False), ("N1", False), ("N2", True), ("N3", True), ("N4", False), ("5", False)]
    for connection in (old, new):
        connection.reader.cancel()
    await asyncio.wait({old.reader, new.reader})


async def test_old_connection_stays_until_all_is_subscribed():
    """The old connection stays until all channels are subscribed on the new one, so none is lost in between."""
    wiring, sender = Wiring(), Subscriptions()
    both, _, old, new = two_connections(wiring, sender)
    sender.is_subscribed = False
    verdicts = []
    for number in range(120):
        for connection in (old, new):
            connection.inbound.sink(str(number), str(number), 1)
        verdicts.append(both.verdict(new))
        await asyncio.sleep(0.02)
        if number == 100:
            sender.is_subscribed = True
    assert verdicts == [Verdict.WAIT] * 101 + [Verdict.PROVEN] * 19
    for connection in (old, new):
        connection.reader.cancel()
    await asyncio.wait({old.reader, new.reader})


async def test_silence_while_the_loop_was_blocked_proves_nothing():
    """If the loop was blocked between two checks, the silence of a channel is not evidence."""
    wiring, sender = Wiring(), Subscriptions()
    sender.asked_for = "O"
    both, _, old, new = two_connections(wiring, sender)
    new.on_channel("O", True)
    verdicts = []
    for seconds in (0.5, 1.3, 0.5, 0.6):
        await asyncio.sleep(seconds)
        for connection in (old, new):
            connection.inbound.sink(f"{seconds}", f"{seconds}", 1)
        verdicts.append(both.verdict(new))
    assert verdicts == [Verdict.WAIT, Verdict.WAIT, Verdict.WAIT, Verdict.PROVEN]
    for connection in (old, new):
        connection.reader.cancel()
    await asyncio.wait({old.reader, new.reader})


# Overlaps


async def overlap(feed, server, *, seconds=2.0):
    """Rotate while both connections deliver numbers; return the Rotated event."""
    events = record(feed.events)
    rotating = feed.rotate()
    await server.connected(server.opened + 1)
    number = 0
    async with asyncio.timeout(seconds):
        while not rotating.done():
            number += 1
            await server.send({"n": number})
            await asyncio.sleep(0.05)
    (rotated,) = of_kind(Rotated, events)
    return number, rotated


async def test_overlap_delivers_each_message_once(feed_server):
    """Every message is delivered once and in order, on one connection or both; copies are counted."""
    async with Feed(feed_server) as feed:
        await opened(feed, feed_server)
        stream = feed.stream_filter()
        last, rotated = await overlap(feed, feed_server)
        await feed_server.send({"n": last + 1})
        assert await take(stream, last + 1) == [{"n": n} for n in range(1, last + 2)]
        assert rotated.proven
        assert rotated.number == 2
        assert rotated.held > 0
        assert rotated.duplicates > 0
        assert feed.statistics().duplicates >= rotated.duplicates
        assert rotated.paused <= 1
        await asyncio.sleep(1)
        assert stream.pending == 0


async def test_frames_through_a_rotation_are_those_of_the_messages(feed_server):
    """During an overlap ``frames`` emits one frame for each message, in the order of the messages."""
    async with Feed(feed_server) as feed:
        await opened(feed, feed_server)
        frames, messages = record(feed.frames), record(feed.messages)
        last, _ = await overlap(feed, feed_server)
        await feed_server.send({"n": last + 1})
        await asyncio.sleep(1)
        assert [json.loads(raw) for raw, _, _ in frames] == messages == [{"n": n} for n in range(1, last + 2)]
        numbers = [number for _, _, number in frames]
        assert numbers == sorted(numbers)
        assert set(numbers) == {1, 2}


async def test_equal_frames_that_are_held_are_all_in_frames(feed_server):
    """``frames`` emits each held frame once, even if frames are equal or contain many messages."""
    async with parsing(lambda raw: Many(json.loads(raw)) if "[" in raw else json.loads(raw), Feed)(
        feed_server, handover_timeout=1
    ) as feed:
        await opened(feed, feed_server)
        frames, messages = record(feed.frames), record(feed.messages)
        rotating = feed.rotate()
        second = await feed_server.connected(2)
        await second.send("7", "7", "[1,1]", "[1,1]", "bad")
        await rotating
        assert [raw for raw, _, _ in frames] == ["7", "7", "[1,1]", "[1,1]", "bad"]
        assert messages == [7, 7, 1, 1, 1, 1]


async def test_copies_are_dropped_for_settle_seconds_after_the_overlap(feed_server):
    """A copy that arrives soon after the old connection's end is dropped; a later equal message is delivered."""
    async with Feed(feed_server, handover_timeout=1) as feed:
        first = await opened(feed, feed_server)
        stream, frames = feed.stream_filter(), record(feed.frames)
        rotating = feed.rotate()
        second = await feed_server.connected(2)
        await asyncio.sleep(0.9)
        await first.send({"n": 1}, {"n": 2})
        assert await rotating
        await second.send({"n": 1}, {"n": 2}, {"n": 3})
        assert await take(stream, 3) == [{"n": 1}, {"n": 2}, {"n": 3}]
        assert feed.statistics().duplicates == 2
        await asyncio.sleep(10)
        await second.send({"n": 1})
        assert await take(stream, 1) == [{"n": 1}]
        assert len(frames) == 4


async def test_frame_with_a_copy_and_a_new_message_is_in_frames_once(feed_server):
    """If an array contains copies and new items, only these are delivered, and ``frames`` emits the frame once."""
    by_item = {
        "_parse_raw_data": lambda self, raw: Many(json.loads(raw)),
        "_message_identity": lambda self, message: message,
    }
    async with type("Items", (Feed,), by_item)(feed_server, handover_timeout=1) as feed:
        first = await opened(feed, feed_server)
        messages, frames = record(feed.messages), record(feed.frames)
        rotating = feed.rotate()
        second = await feed_server.connected(2)
        await asyncio.sleep(0.9)
        await first.send("[1,2]")
        await second.send("[0,1]")
        await rotating
        await second.send("[2,3,4]", "[5]")
        await asyncio.sleep(1)
        assert messages == [1, 2, 0, 3, 4, 5]
        assert [raw for raw, _, _ in frames] == ["[1,2]", "[0,1]", "[2,3,4]", "[5]"]
        assert feed.statistics().duplicates == 2


async def test_equal_items_of_one_frame_are_not_copies_of_each_other(feed_server):
    """By default an item's identity is its frame and its index, so equal items of one array are all delivered."""
    async with parsing(lambda raw: Many(json.loads(raw)), Feed)(feed_server, handover_timeout=1) as feed:
        await opened(feed, feed_server)
        messages = record(feed.messages)
        rotating = feed.rotate()
        await feed_server.connected(2)
        await asyncio.sleep(0.5)
        await feed_server.send("[1,1,1]", "[2]", "[]", "[]")
        await rotating
        await asyncio.sleep(1)
        assert messages == [1, 1, 1, 2]


async def test_rejected_frames_do_not_disturb_an_overlap(feed_server):
    """A frame that cannot be parsed is rejected on each connection and does not affect the proof."""
    async with Feed(feed_server) as feed:
        await opened(feed, feed_server)
        messages = record(feed.messages)
        rotating = feed.rotate()
        await feed_server.connected(2)
        for n in range(30):
            await feed_server.send("bad" if n % 3 else {"n": n})
            await asyncio.sleep(0.05)
        assert await rotating
        await asyncio.sleep(1)
        assert messages == [{"n": n} for n in range(0, 30, 3)]


async def test_identity_decides_which_messages_are_copies(feed_server):
    """Two frames that differ are copies if ``_message_identity`` returns the same key; by default they are not."""

    class ById(Feed):
        def _message_identity(self, message):
            return message["id"]

    for kind, copies in ((ById, 1), (Feed, 0)):
        async with kind(feed_server, handover_timeout=1) as feed:
            await feed.wait_connected()
            await asyncio.sleep(0.1)
            first = feed_server.connections[-1]
            stream = feed.stream_filter()
            rotating = feed.rotate()
            second = await feed_server.connected(feed_server.opened + 1)
            await first.send({"id": 1, "sent by": "first"})
            await second.send({"id": 1, "sent by": "second"}, {"id": 2, "sent by": "second"})
            await rotating
            await asyncio.sleep(1)
            assert stream.pending == 3 - copies
            assert feed.statistics().duplicates == copies


async def test_identity_that_raises_is_reported_and_loses_nothing(feed_server):
    """If ``_message_identity`` raises, the message is delivered from both connections."""

    class Broken(Feed):
        def _message_identity(self, message):
            return message["id"]

    async with Broken(feed_server, handover_timeout=1) as feed:
        events = record(feed.events)
        await opened(feed, feed_server)
        stream = feed.stream_filter()
        rotating = feed.rotate()
        await feed_server.connected(2)
        await feed_server.send({"n": 1})
        await rotating
        assert await take(stream, 2) == [{"n": 1}, {"n": 1}]
        failed = of_kind(CallbackFailed, events)
        assert {type(event.error) for event in failed} == {KeyError}
        assert failed[0].handler.endswith("_message_identity")
        assert failed[0].message == {"n": 1}


def acknowledge_first(kind=Feed):
    """Return a class of feeds with ``_is_per_connection``."""
    return type("Acknowledged", (kind,), {"_is_per_connection": lambda self, message: message["e"] != "trade"})


async def test_messages_per_connection_are_delivered_after_a_connect_and_discarded_in_a_handover(feed_server):
    """Acknowledgements and snapshots are delivered after a (re)connect; in a handover they count as discarded."""

    async def subscribe(connection):
        await connection.send({"e": "acknowledgement"}, {"e": "snapshot"}, {"e": "trade", "n": connection.number})

    feed_server.script = subscribe
    async with acknowledge_first()(feed_server, handover_timeout=1) as feed:
        events = record(feed.events)
        stream = feed.stream_filter()
        kinds = ["acknowledgement", "snapshot", "trade"]
        assert [message["e"] for message in await take(stream, 3)] == kinds
        await feed.wait_connected()
        await feed.rotate()
        assert await take(stream, 1) == [{"e": "trade", "n": 2}]
        second = feed_server.connections[-1]
        await second.send({"e": "acknowledgement"})
        await asyncio.sleep(1)
        assert feed.statistics().discarded == of_kind(Rotated, events)[0].discarded == 2
        await second.close()
        assert [message["e"] for message in await take(stream, 4)] == ["acknowledgement", *kinds]


async def test_messages_per_connection_of_the_old_one_are_delivered_in_an_overlap(feed_server):
    """In an overlap the old connection delivers all its messages; the new one's late acknowledgements are discarded."""
    async with acknowledge_first()(feed_server, handover_timeout=1) as feed:
        first = await opened(feed, feed_server)
        stream = feed.stream_filter()
        rotating = feed.rotate()
        second = await feed_server.connected(2)
        await first.send({"e": "snapshot"})
        await asyncio.sleep(0.9)
        await first.send({"e": "trade", "n": 1})
        await rotating
        # The overlap still remembers the trade, so it has not ended.
        await second.send({"e": "acknowledgement"}, {"e": "trade", "n": 2})
        assert await take(stream, 3) == [{"e": "snapshot"}, {"e": "trade", "n": 1}, {"e": "trade", "n": 2}]
        assert feed.statistics().discarded == 1


async def test_messages_per_connection_do_not_disprove_an_overlap(feed_server):
    """The proof of an overlap does not need copies of per-connection messages."""
    async with acknowledge_first()(feed_server, handover_timeout=20) as feed:
        events = record(feed.events)
        first = await opened(feed, feed_server)
        rotating = feed.rotate()
        await feed_server.connected(2)
        async with asyncio.timeout(3):
            while not rotating.done():
                time_of_both = asyncio.get_running_loop().time()
                await feed_server.send({"e": "trade", "n": time_of_both})
                await feed_server.send({"e": "snapshot", "n": time_of_both}, to=[first])
                await asyncio.sleep(0.05)
        assert of_kind(Rotated, events)[0].proven


async def test_per_connection_hook_that_raises_is_reported_and_loses_nothing(feed_server):
    """If ``_is_per_connection`` raises, the message is delivered."""
    async with acknowledge_first()(feed_server, handover_timeout=1) as feed:
        events = record(feed.events)
        await opened(feed, feed_server)
        stream = feed.stream_filter()
        rotating = feed.rotate()
        second = await feed_server.connected(2)
        await second.send({"n": 1})
        await rotating
        assert await take(stream, 1) == [{"n": 1}]
        (failed,) = of_kind(CallbackFailed, events)
        assert type(failed.error) is KeyError
        assert failed.message == {"n": 1}


async def test_optional_hooks_are_not_called_outside_an_overlap():
    """``_message_identity`` and ``_is_per_connection`` are called only in an overlap, so they usually cost nothing."""
    asked = []
    hooks = {
        "_message_identity": lambda self, message: asked.append(message),
        "_is_per_connection": lambda self, message: asked.append(message),
    }
    async with type("Asked", (ScriptedFeed,), hooks)(ScriptedWebsocket("1", "2")) as feed:
        assert await take(feed.stream_filter(), 2) == [1, 2]
    assert asked == []


async def test_nothing_is_remembered_when_the_new_connection_ends_first(feed_server):
    """After a failed attempt the old connection delivers directly, without calling ``_message_identity``."""
    asked = []
    hook = {"_message_identity": lambda self, message: asked.append(message["n"]) or message["n"]}
    kind = type("Asked", (Feed,), hook)
    async with kind(feed_server, reconnect_delays=lambda: iter([60])) as feed:
        first = await opened(feed, feed_server)
        rotating = feed.rotate()
        second = await feed_server.connected(2)
        await first.send({"n": 1})
        await asyncio.sleep(0.1)
        second.reset()
        assert await rotating is False
        await first.send({"n": 2})
        assert len(await take(feed.stream_filter(), 1)) == 1
        assert asked == [1]


async def test_old_connection_stays_when_the_new_one_ends_first(feed_server):
    """If the new connection ends first, its held messages are dropped, the old one continues, and rxws retries."""
    async with Feed(feed_server, handover_timeout=2, reconnect_delays=lambda: iter([1, 1, 1])) as feed:
        first = await opened(feed, feed_server)
        stream = feed.stream_filter()
        rotating = feed.rotate()
        second = await feed_server.connected(2)
        await first.send({"n": 1})
        await second.send({"n": 1}, {"n": 2})
        second.reset()
        assert await rotating is False
        await first.send({"n": 2}, {"n": 3})
        third = await feed_server.connected(3)
        await asyncio.sleep(3)
        await third.send({"n": 4})
        assert await take(stream, 4) == [{"n": n} for n in (1, 2, 3, 4)]
        assert feed.statistics().rotations == 1
        assert feed.statistics().gaps == 0
        assert rxws.State.CONNECTED is feed.state.value


async def test_overlap_ends_when_the_new_connection_is_lost_while_it_subscribes():
    """The next rotation does not wait for a channel that only the lost connection had. A Gap reports the loss."""
    first, second, third = ScriptedWebsocket(), ScriptedWebsocket(), ScriptedWebsocket()
    async with ScriptedFeed(first, second, third, reconnect_delays=lambda: [0] * 9) as feed:
        await feed.wait_connected()
        x = feed.multiplex(
            "+x", filters=lambda each: each[0] == "x", acknowledged=lambda each: each == "ok +x", rejected="no".__eq__
        )
        y = feed.multiplex("+y", filters=lambda each: each[0] == "y", acknowledged=lambda each: each == "ok +y")
        await asyncio.sleep(0.1)
        first.come("no", "ok +y")
        await asyncio.sleep(0.1)
        rotating = asyncio.ensure_future(feed.rotate())
        await feed.opened(2)
        await asyncio.sleep(0.1)
        second.come("ok +x", "x1")
        await asyncio.sleep(0.1)
        first.come("y1")
        second.come("y1")
        second.end()
        assert not await rotating
        await feed.opened(3, timeout=5)
        assert [gap.reason for gap in feed.record.of(rxws.Gap)] == ["network"]
        await x.close()
        await y.close()


# Gaps of the source


async def test_copies_are_dropped_when_the_old_connection_is_read_late_without_an_answer():
    """A connection that is ending may deliver a channel's messages late, although no answer is awaited on it."""

    async def parse(raw):
        if raw == "slow":
            await asyncio.sleep(1)
        return raw

    first, second = ScriptedWebsocket(), ScriptedWebsocket()
    second.on_send = lambda message: second.come(f"ok {message}")
    async with ScriptedFeed(first, second, parse=parse, handover_timeout=1) as feed:
        await feed.wait_connected()
        rotating = asyncio.ensure_future(feed.rotate())
        await feed.opened(2)
        answer = {"acknowledged": lambda each: each == "ok +x", "timeout": 1}
        stream = feed.multiplex("+x", filters=lambda each: each[0] == "x", **answer)
        await asyncio.sleep(0.1)
        first.come(*["slow"] * 5, "ok +x", "x1", "x2", "x3")
        first.end()
        second.come("x1", "x2")
        await asyncio.sleep(0.1)
        second.end()
        await rotating
        await asyncio.sleep(10)
        assert [each for each in feed.record.messages if each[0] == "x"] == ["x1", "x2", "x3"]
        await stream.close()


async def test_messages_of_a_channel_keep_their_order_when_it_is_unsubscribed_before_the_release():
    """Messages of a channel that is no longer wanted are recognized until the new connection has delivered its own."""
    first, second = ScriptedWebsocket(), ScriptedWebsocket()
    async with ScriptedFeed(first, second) as feed:
        await feed.wait_connected()
        answer = {"acknowledged": lambda each: each == "ok +x", "timeout": 1}
        stream = feed.multiplex("+x", filters=lambda each: each[0] == "x", **answer)
        await asyncio.sleep(0.1)
        first.come("ok +x")
        await asyncio.sleep(0.1)
        rotating = asyncio.ensure_future(feed.rotate())
        await feed.opened(2)
        first.come("x1")
        second.come("x1", "x2")
        first.end()
        await asyncio.sleep(0.1)
        await stream.close()
        second.come("x3")
        await rotating
        await asyncio.sleep(5)
        assert [each for each in feed.record.messages if each[0] == "x"] == ["x1", "x2", "x3"]


def numbers_and_gaps(raw):
    """Parse digits as a number, and everything else as a Gap."""
    return int(raw) if raw.isdigit() else rxws.Gap(1.0, 2.0)


async def numbered(feed, numbers, *websockets, pause=0.1):
    """Let each number arrive on all these connections."""
    for number in numbers:
        for websocket in websockets:
            websocket.come(str(number))
        await asyncio.sleep(pause)


async def test_gap_of_the_old_connection_in_an_overlap_is_in_its_place():
    """A Gap of the connection that delivers is announced in its place."""
    async with ScriptedFeed(parse=numbers_and_gaps, handover_timeout=2) as feed:
        await feed.record.entered(rxws.State.CONNECTED)
        old = feed.websocket
        stream = feed.stream_filter(gaps=True)
        rotating = feed.rotate()
        new = await feed.opened(2)
        await numbered(feed, range(3), old, new)
        old.come("gap")
        await numbered(feed, range(3, 20), old, new)
        assert await rotating
        items = await take(stream, 21)
        assert [item if isinstance(item, int) else item.reason for item in items] == [
            *range(3),
            "source",
            *range(3, 20),
        ]


async def test_gap_of_the_new_connection_in_an_overlap_delays_its_proof():
    """A Gap on the new connection, whose messages are held, is not reported, but delays the proof of the overlap."""
    async with ScriptedFeed(parse=numbers_and_gaps, handover_timeout=5) as feed:
        await feed.record.entered(rxws.State.CONNECTED)
        old = feed.websocket
        stream = feed.stream_filter(gaps=True)
        rotating = feed.rotate()
        new = await feed.opened(2)
        await numbered(feed, range(4), old, new)
        await numbered(feed, [4], old)
        new.come("gap")
        await numbered(feed, range(5, 9), old, new)
        assert not rotating.done()
        await numbered(feed, range(9, 20), old, new)
        assert await rotating
        assert await take(stream, 20) == [*range(20)]
        assert feed.record.of(rxws.Gap) == []
        (rotated,) = feed.record.of(Rotated)
        assert rotated.proven


async def test_gap_of_the_new_connection_when_the_old_one_is_lost_before_it_agreed():
    """If the old connection is lost after a Gap on the new one and before the proof, that Gap is announced, too."""
    async with ScriptedFeed(parse=numbers_and_gaps, handover_timeout=5) as feed:
        await feed.record.entered(rxws.State.CONNECTED)
        old = feed.websocket
        stream = feed.stream_filter(gaps=True)
        feed.rotate()
        new = await feed.opened(2)
        await numbered(feed, range(4), old, new)
        await numbered(feed, [4], old)
        new.come("gap", "5")
        await asyncio.sleep(0.01)
        old.end()
        await numbered(feed, [6], new)
        items = await take(stream, 9)
        assert [item if isinstance(item, int) else item.reason for item in items] == [
            *range(5),
            "source",
            "network",
            5,
            6,
        ]


async def test_gap_after_the_release_is_in_its_place():
    """A Gap of the new connection is announced in its place while it delivers, and copies are still looked for."""
    async with ScriptedFeed(parse=numbers_and_gaps, handover_timeout=5) as feed:
        await feed.record.entered(rxws.State.CONNECTED)
        old = feed.websocket
        stream = feed.stream_filter(gaps=True)
        rotating = feed.rotate()
        new = await feed.opened(2)
        await numbered(feed, range(10), old, new)
        assert await rotating
        new.come("10", "gap", "11")
        items = await take(stream, 13)
        assert [item if isinstance(item, int) else item.reason for item in items] == [*range(11), "source", 11]


async def test_hooks_for_messages_are_not_called_with_a_gap():
    """Neither ``_message_identity`` nor ``_is_per_connection`` is called with a Gap during an overlap."""

    class Feed(ScriptedFeed):
        def _message_identity(self, message):
            assert isinstance(message, int)
            return message

        def _is_per_connection(self, message):
            assert isinstance(message, int)
            return False

    async with Feed(parse=lambda raw: Many([numbers_and_gaps(raw)]), handover_timeout=2) as feed:
        await feed.record.entered(rxws.State.CONNECTED)
        old = feed.websocket
        rotating = feed.rotate()
        new = await feed.opened(2)
        old.come("gap")
        new.come("gap")
        await numbered(feed, range(10), old, new)
        assert await rotating
        assert feed.record.of(CallbackFailed) == []
        assert feed.record.messages == [*range(10)]


async def test_silence_of_a_connection_that_was_given_up_for_it_proves_nothing():
    """If both connections are silent and the old one ends for that, a Gap stands before what the new one brought."""
    async with ScriptedFeed(handover_timeout=9, idle_timeout=3) as feed:
        await feed.wait_connected()
        stream = feed.stream_filter(gaps=True)
        feed.websocket.come("1")
        await asyncio.sleep(2)
        feed.rotate()
        new = await feed.opened(2)
        new.come("7")
        await feed.record.happened(rxws.Gap)
        new.come("8")
        items = await take(stream, 4)
        assert [item if isinstance(item, int) else item.reason for item in items] == [1, "idle", 7, 8]


@pytest.mark.parametrize("timeout", [0.1, 0.5, 1.0, 2.0])
async def test_timeout_is_no_proof_when_the_old_connection_is_mute(timeout):
    """If only the new connection has messages, a Gap precedes them, even with a timeout as short as an answer takes."""
    async with ScriptedFeed(handover_timeout=timeout) as feed:
        await feed.wait_connected()
        stream = feed.stream_filter(gaps=True)
        feed.websocket.come("1")
        await asyncio.sleep(2)
        rotated = asyncio.ensure_future(feed.rotate())
        new = await feed.opened(2)
        number = 6
        while not rotated.done():
            number += 1
            new.come(str(number))
            await asyncio.sleep(0.05)
        assert await rotated
        items = await take(stream, 4)
        assert [item if isinstance(item, int) else item.reason for item in items] == [1, "rotation", 7, 8]
        assert not feed.record.of(Rotated)[0].proven


@pytest.mark.parametrize(("timeout", "least"), [(0.1, 0.5), (0.5, 0.5), (1.0, 1.0)])
async def test_answers_on_the_new_connection_do_not_show_that_the_old_one_is_mute(timeout, least):
    """If only answers arrive, there is no Gap. The old connection is closed when it is clear that no more follow."""
    async with ScriptedFeed(handover_timeout=timeout) as feed:
        await feed.wait_connected()
        rotated, began = asyncio.ensure_future(feed.rotate()), asyncio.get_running_loop().time()
        (await feed.opened(2)).come("answer", "another answer")
        assert await rotated
        assert least <= asyncio.get_running_loop().time() - began < least + 0.1
        assert feed.record.messages == ["answer", "another answer"]
        assert feed.record.of(rxws.Gap) == []


@pytest.mark.parametrize("ending", ["end", "gap"])
async def test_messages_that_wait_for_copies_are_delivered_when_no_copy_can_be_awaited(ending):
    """If the new connection ends, or reports a Gap, while it waits for copies, its held messages precede that."""
    async with ScriptedFeed(parse=numbers_and_gaps, handover_timeout=1) as feed:
        await feed.wait_connected()
        stream, old = feed.stream_filter(gaps=True), feed.websocket
        rotating = asyncio.ensure_future(feed.rotate())
        new = await feed.opened(2)
        await asyncio.sleep(0.9)
        old.come("1", "2", "3")
        new.come("1")
        assert await rotating
        await numbered(feed, [4], new, pause=0.05)
        assert feed.record.messages == [1, 2, 3]
        new.end() if ending == "end" else new.come("gap", "5")
        await feed.record.happened(rxws.Gap, count=2)
        items = await take(stream, 7 if ending == "gap" else 5)
        reasons = [item if isinstance(item, int) else item.reason for item in items]
        assert reasons == ([1, 2, 3, "rotation", 4, "source", 5] if ending == "gap" else [1, 2, 3, "rotation", 4])
        assert feed.record.of(rxws.Gap)[1].last_message == 4


async def test_gap_that_the_new_connection_reports_after_the_proof_is_announced():
    """While the old connection is closed, it may end before it reports the same gap."""
    async with ScriptedFeed(parse=numbers_and_gaps, handover_timeout=5) as feed:
        await feed.wait_connected()
        old = feed.websocket
        stream = feed.stream_filter(gaps=True)
        rotating = asyncio.ensure_future(feed.rotate())
        new = await feed.opened(2)
        old.on_close = lambda: asyncio.sleep(0.5)
        while not old.closes:
            await numbered(feed, [len(feed.record.messages)], old, new)
        count = len(feed.record.messages)
        new.come("gap", str(count))
        await asyncio.sleep(0.1)
        old.end(StopAsyncIteration())
        assert await rotating
        items = await take(stream, count + 2)
        assert [item if isinstance(item, int) else item.reason for item in items] == [*range(count), "source", count]
