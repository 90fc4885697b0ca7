"""Feeds whose lines have had the same messages for some seconds: then copies are dropped by their frames alone."""

from __future__ import annotations

import asyncio
import json

import pytest

import rxws
from rxws import Connected, Gap, LineJoined, LineLost, Many
from tests.support.life import ScriptedFeed, ScriptedWebsocket

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


class Calm(ScriptedFeed):
    """A feed with two lines whose server publishes numbers, and counts what is parsed."""

    def __init__(self, **options):
        self.parsed = 0
        self.sent = 0
        super().__init__(lines=2, **options)

    def _parse_raw_data(self, raw_data):
        self.parsed += 1
        message = json.loads(raw_data)
        return Many(message) if isinstance(message, list) else message

    async def publish(self, seconds=1.0, make=lambda number: {"n": number}):
        """Publish messages on all open connections, one every 50 ms."""
        for _ in range(round(seconds / 0.05)):
            self.sent += 1
            for each in self.websockets:
                each.come(json.dumps(make(self.sent)))
            await asyncio.sleep(0.05)

    async def calm(self, **options):
        """Publish until copies are dropped by their frames alone."""
        await self.record.happened(Connected, 2)
        await self.publish(4, **options)
        assert len(self.record.of(LineJoined)) == 1

    @property
    def numbers(self):
        """The numbers that were delivered."""
        return [each["n"] for each in self.record.messages if "n" in each]

    def check(self):
        """Assert that all numbers arrived once and in order, without a gap."""
        assert self.numbers == list(range(1, self.sent + 1))
        assert self.record.of(Gap) == []


async def test_copies_are_neither_parsed_nor_counted():
    """A frame that has arrived on another line is not parsed; ``bytes`` and ``messages`` count first arrivals."""
    async with Calm() as feed:
        await feed.calm()
        parsed, before = feed.parsed, feed.statistics()
        await feed.publish(2)
        after = feed.statistics()
        assert feed.parsed - parsed == after.messages - before.messages == 40
        assert after.bytes - before.bytes == sum(
            len(json.dumps({"n": n})) for n in range(feed.sent - 39, feed.sent + 1)
        )
        assert after.duplicates - before.duplicates == 40
        assert sum(line.firsts for line in after.lines) == feed.sent
        feed.check()


async def test_no_gap_when_a_line_ends():
    """If a line ends, the other one delivers the rest, and what only the ended line had is awaited."""
    async with Calm() as feed:
        await feed.calm()
        first, second = feed.websockets
        first.come('{"n": 81}', '{"n": 82}')
        await asyncio.sleep(0.01)
        first.end()
        await asyncio.sleep(0.01)
        second.come('{"n": 81}', '{"n": 82}', '{"n": 83}')
        feed.sent = 83
        await feed.publish(5)
        feed.check()
        assert len(feed.record.of(LineJoined)) == 2


async def test_one_gap_when_both_lines_end():
    """If all lines end, there is one gap, which begins when the last message was delivered."""
    async with Calm() as feed:
        await feed.calm()
        delivered = rxws.interface.feed_of(feed).reporter.now() - 0.05
        await asyncio.sleep(0.5)
        for each in feed.websockets:
            each.end()
        await feed.record.happened(Connected, 4)
        await feed.publish(2)
        (gap,) = feed.record.of(Gap)
        assert abs(gap.start - delivered) < 0.01
        assert feed.numbers == list(range(1, feed.sent + 1))


async def test_line_that_lacks_messages_is_lost():
    """A line on which messages are missing is reported, and its end then leaves no gap."""
    async with Calm() as feed:
        await feed.calm()
        second = feed.websockets[1]
        for number in (81, 82):
            feed.websockets[0].come(json.dumps({"n": number}))
        feed.sent = 82
        await asyncio.sleep(0.01)
        await feed.publish(1.2)
        assert [(event.line, event.reason) for event in feed.record.of(LineLost)] == [(2, "behind")]
        second.end()
        await feed.publish(3)
        feed.check()


async def test_reply_is_taken_from_the_line_that_was_asked():
    """While a reply is awaited, the messages are parsed on each line, and are delivered once."""
    async with Calm() as feed:
        await feed.calm()
        asking = asyncio.ensure_future(feed.request({"ask": 1}, [{"answer": 1}]))
        await feed.publish(0.5)
        feed.websockets[0].come('{"answer": 1}')
        assert await asking == {"answer": 1}
        await feed.publish(4)
        feed.check()


async def test_frames_have_all_copies():
    """A subscriber of ``frames`` gets the copies of each line with the number of its connection."""
    async with Calm() as feed:
        await feed.calm()
        frames = []
        with feed.frames.subscribe(frames.append):
            await feed.publish(1)
        assert [number for _, _, number in frames] == [1, 2] * 20
        await feed.publish(4)
        feed.check()


async def test_gap_of_one_line_is_no_gap():
    """If the source reports a gap on one of the joined lines, the other one has the messages."""

    class Source(Calm):
        def _parse_raw_data(self, raw_data):
            message = super()._parse_raw_data(raw_data)
            return Gap(1.0, 2.0) if "missed" in message else message

    async with Source() as feed:
        await feed.calm()
        feed.websockets[0].come('{"missed": 1}')
        await feed.publish(4)
        feed.check()


async def test_heartbeats_that_repeat_are_delivered_once_each():
    """An equal message is delivered as often as the server publishes it."""
    async with Calm() as feed:
        await feed.calm()
        before = len(feed.record.messages)
        for _ in range(30):
            for each in feed.websockets:
                each.come('{"beat": 1}')
            await feed.publish(0.3)
        beats = [each for each in feed.record.messages[before:] if "beat" in each]
        assert len(beats) == 30
        feed.check()


async def test_frames_with_several_messages():
    """A frame with several messages is compared as a whole; its messages are delivered once, and in order."""
    made = {"make": lambda number: [{"n": 2 * number - 1}, {"n": 2 * number}]}
    async with Calm() as feed:
        await feed.calm(**made)
        await feed.publish(2, **made)
        feed.websockets[0].end()
        await feed.publish(4, **made)
        feed.sent *= 2
        feed.check()


async def test_channels_keep_their_order_and_their_gaps():
    """With subscribed channels each message is delivered once, also over the end of a line."""
    async with Calm() as feed:
        items = {channel: [] for channel in "ab"}
        for channel, its in items.items():
            feed.multiplex({"sub": channel}, filters=[{"c": channel}], gaps=True).subscribe(its.append)
        made = {"make": lambda number: {"n": number, "c": "ab"[number % 2]}}
        await feed.calm(**made)
        parsed = feed.parsed
        await feed.publish(2, **made)
        assert feed.parsed - parsed == 40
        feed.websockets[1].end()
        await feed.publish(6, **made)
        feed.check()
        assert [len(its) for its in items.values()] == [feed.sent / 2] * 2


@pytest.mark.parametrize("has_copy", [False, True])
async def test_message_whose_parsing_was_cancelled_is_not_lost_silently(has_copy):
    """If a connection is cut off while the parse hook waits, another line delivers the message, or there is a gap."""
    stuck = asyncio.Event()

    class Slow(Calm):
        async def _parse_raw_data(self, raw_data):
            message = super()._parse_raw_data(raw_data)
            if message["n"] == 81 and feed.websockets[0].is_open:
                stuck.set()
                await asyncio.Event().wait()
            return message

    async with Slow() as feed:
        await feed.calm()
        first, second = feed.websockets
        first.come('{"n": 81}')
        await stuck.wait()
        if has_copy:
            second.come('{"n": 81}')
            await asyncio.sleep(0.01)
        first.transport.abort()
        feed_of_first = next(iter(rxws.interface.feed_of(feed).source.connections))
        feed_of_first.abort()
        await asyncio.sleep(1)
        if not has_copy:
            second.come('{"n": 81}')
        feed.sent = 81
        await feed.publish(3)
        assert (feed.numbers == list(range(1, feed.sent + 1))) is not has_copy
        assert len(feed.record.of(Gap)) == has_copy


async def test_lockstep_begins_again_after_a_rotation():
    """After the rotation of all lines the copies are again dropped without being parsed."""
    async with Calm() as feed:
        await feed.calm()
        rotating = feed.rotate()
        while not rotating.done():
            await feed.publish(0.05)
        assert await rotating
        await feed.publish(5)
        parsed = feed.parsed
        await feed.publish(1)
        assert feed.parsed - parsed == 20
        feed.check()
        assert isinstance(feed.websocket, ScriptedWebsocket)
