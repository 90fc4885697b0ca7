"""Feeds with ``channels_per_connection``: where channels are subscribed, and what the loss of one connection means."""

from __future__ import annotations

import asyncio
import json

import pytest

import rxws
from rxws import Connected, Disconnected, Gap, Rotated, State
from tests.shards import subscribe
from tests.support.life import ScriptedFeed, ScriptedWebsocket
from tests.support.opening import status

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


class Shards(ScriptedFeed):
    """A feed with shards, over scripted connections whose server knows the channels."""

    def __init__(self, *outcomes, limit=2, answers=True, **options):
        self.channels = {}
        self.answers = answers
        self.commands = []
        self.kept = []
        super().__init__(*outcomes, channels_per_connection=limit, **options)

    async def _create_ws(self):
        websocket = await super()._create_ws()
        self.channels[websocket] = mine = []

        def serve(raw):
            message = json.loads(raw)
            self.commands.append((self.websockets.index(websocket) + 1, raw))
            if "unsub" in message:
                mine.remove(message["unsub"])
            if "sub" in message:
                mine.append(message["sub"])
                if self.answers:
                    websocket.come(json.dumps({"ok": message["sub"]}))

        websocket.on_send = serve
        return websocket

    def _parse_raw_data(self, raw_data):
        return json.loads(raw_data)

    @property
    def open(self):
        """The channels on each open connection."""
        return [its for websocket, its in self.channels.items() if websocket.is_open]

    def publish(self, channel, number):
        """Publish a number on the open connections that have the channel."""
        for websocket, its in self.channels.items():
            if channel in its:
                websocket.come(json.dumps({"c": channel, "n": number}))

    def streams(self, channels, **options):
        """Subscribe channels. The streams are kept until they are closed."""
        made = {channel: subscribe(self, channel, **options) for channel in channels}
        self.kept.extend(made.values())
        return made


def numbers(items):
    """Return the numbers of messages, and "gap" for each gap."""
    return ["gap" if isinstance(item, Gap) else item["n"] for item in items]


def collected(stream):
    """Return a list to which the items of a stream are appended."""
    items = []
    stream.subscribe(items.append)
    return items


async def test_channels_are_divided_among_as_many_connections_as_they_need():
    """Each connection gets the next channels until it is full, and an equal channel is not subscribed again."""
    async with Shards() as feed:
        feed.streams("abcde")
        feed.streams("ad")
        await feed.wait_connected()
        assert feed.open == [["a", "b"], ["c", "d"], ["e"]]
        assert [shard.channels for shard in feed.statistics().shards] == [2, 2, 1]


async def test_first_connection_is_open_without_channels():
    """A feed without channels has one connection, and sends on it."""
    async with Shards() as feed:
        await feed.wait_connected()
        await feed.send({"hello": 1})
        assert [shard.channels for shard in feed.statistics().shards] == [0]
        assert feed.commands == [(1, '{"hello":1}')]


async def test_new_channel_goes_to_the_first_connection_with_room():
    """The place of an unsubscribed channel is given to the next new one, before another connection is opened."""
    async with Shards() as feed:
        streams = feed.streams("abcd")
        await feed.wait_connected()
        await streams["a"].close()
        feed.streams("e")
        await asyncio.sleep(1)
        assert feed.open == [["b", "e"], ["c", "d"]]


async def test_combined_subscription_counts_as_one_channel():
    """A subscription of several names, and one that a function returns, take one place each."""
    async with Shards() as feed:
        feed.kept = [
            feed.multiplex({"sub": "a,b,c"}, filters=[{"c": "a"}]),
            feed.multiplex(lambda: {"sub": "d"}, filters=[{"c": "d"}]),
            feed.multiplex({"sub": "e"}, filters=[{"c": "e"}]),
        ]
        await feed.wait_connected()
        await asyncio.sleep(0.1)
        assert feed.open == [["a,b,c", "d"], ["e"]]


async def test_empty_connection_is_closed_after_a_minute_but_never_the_first():
    """A connection without channels stays open for a minute, and is then closed, unless it is the first one."""
    async with Shards() as feed:
        streams = feed.streams("abcd")
        await feed.wait_connected()
        for stream in streams.values():
            await stream.close()
        await asyncio.sleep(59)
        assert feed.open == [[], []]
        await asyncio.sleep(2)
        assert feed.open == [[]]
        assert feed.websockets[1].closes == 1
        (ended,) = feed.record.of(Disconnected)
        assert (ended.number, ended.reason) == (2, "user")
        assert feed.record.of(Gap) == []
        assert feed.state.value is State.CONNECTED
        feed.streams("abc")
        await feed.wait_connected()
        await asyncio.sleep(0.1)
        assert feed.open == [["a", "b"], ["c"]]


async def test_connection_that_is_filled_again_within_the_minute_stays_open():
    """The minute begins when the last channel is unsubscribed, and ends with the next channel."""
    async with Shards() as feed:
        streams = feed.streams("abc")
        await feed.wait_connected()
        for _ in range(3):
            await streams["c"].close()
            await asyncio.sleep(40)
            streams |= feed.streams("c")
            await asyncio.sleep(10)
        assert len(feed.websockets) == 2
        await streams["c"].close()
        await asyncio.sleep(61)
        assert feed.open == [["a", "b"]]


async def test_only_the_streams_of_the_lost_connection_get_a_gap():
    """If a connection is lost, its channels and the streams without a channel get a gap, and no other channel."""
    async with Shards() as feed:
        items = {channel: collected(stream) for channel, stream in feed.streams("abcd", gaps=True).items()}
        everything = collected(feed.stream_filter([{"n": rxws.present}], gaps=True))
        await feed.wait_connected()
        for channel in "abcd":
            feed.publish(channel, 1)
        await asyncio.sleep(1)
        feed.websockets[1].end()
        await feed.record.happened(Connected, 3)
        await asyncio.sleep(1)
        for channel in "abcd":
            feed.publish(channel, 2)
        await asyncio.sleep(1)
        assert {channel: numbers(its) for channel, its in items.items()} == {
            "a": [1, 2],
            "b": [1, 2],
            "c": [1, "gap", 2],
            "d": [1, "gap", 2],
        }
        assert numbers(everything).count("gap") == 1
        assert feed.statistics().gaps == 1
        assert feed.statistics().reconnects == {"network": 1}


async def test_gap_of_the_parse_hook_goes_to_the_streams_of_its_connection():
    """A gap that the source reports on one connection concerns only the channels of that connection."""

    class Source(Shards):
        def _parse_raw_data(self, raw_data):
            message = json.loads(raw_data)
            return Gap(*message["missed"]) if "missed" in message else message

    async with Source() as feed:
        items = {channel: collected(stream) for channel, stream in feed.streams("abc", gaps=True).items()}
        await feed.wait_connected()
        feed.websockets[1].come('{"missed": [1, 2]}')
        await asyncio.sleep(0.1)
        assert {channel: numbers(its) for channel, its in items.items()} == {"a": [], "b": [], "c": ["gap"]}


async def test_state_is_live_when_every_connection_is():
    """The feed is live, and ``wait_connected`` returns, only while all connections are open; sending waits for one."""
    opened = asyncio.Event()

    async def slow():
        await opened.wait()
        return ScriptedWebsocket()

    async with Shards(ScriptedWebsocket(), slow) as feed:
        feed.streams("abc")
        waiting = asyncio.ensure_future(feed.wait_connected())
        await asyncio.sleep(5)
        assert not feed.state.value.is_live
        assert not waiting.done()
        await asyncio.wait_for(feed.send({"hello": 1}), 0.01)
        opened.set()
        await waiting
        assert feed.state.value is State.CONNECTED
        feed.websockets[1].end()
        await feed.record.entered(State.CONNECTING)
        assert feed.present_ws is feed.websockets[0]
        await feed.wait_connected()


async def test_feed_is_live_again_when_the_connection_that_waits_is_empty_and_closed():
    """A shard that cannot be opened keeps the feed from being live only as long as it has channels."""
    async with Shards(ScriptedWebsocket(), *[ConnectionRefusedError()] * 1000) as feed:
        streams = feed.streams("abc")
        await asyncio.sleep(30)
        assert not feed.state.value.is_live
        await streams["c"].close()
        await asyncio.sleep(61)
        assert feed.state.value is State.CONNECTED
        attempts = feed.attempts
        await asyncio.sleep(300)
        assert feed.attempts == attempts


async def test_fatal_error_of_one_connection_ends_the_feed():
    """The feed fails if a connection fails for good, because no other connection has its channels."""
    with pytest.raises(rxws.ConnectFailed):
        async with Shards(ScriptedWebsocket(), *[status(401)] * 9, reconnect_delays=lambda: [0.0] * 9) as feed:
            feed.streams("abc")
            await feed.wait_closed()


async def test_each_connection_is_rotated_and_its_channels_stay():
    """``rotate()`` rotates all connections one after the other, and each new one subscribes the channels of its own."""
    async with Shards(handover_settle=0.1, handover_timeout=1) as feed:
        items = {channel: collected(stream) for channel, stream in feed.streams("abc", gaps=True).items()}
        await feed.wait_connected()
        rotating = asyncio.ensure_future(feed.rotate())
        for number in range(1, 300):
            for channel in "abc":
                feed.publish(channel, number)
            await asyncio.sleep(0.01)
        assert await rotating
        await asyncio.sleep(3)
        assert all(numbers(its) == list(range(1, 300)) for its in items.values())
        assert feed.open == [["a", "b"], ["c"]]
        assert len(feed.record.of(Rotated)) == 2
        assert all(event.proven for event in feed.record.of(Rotated))


async def test_request_uses_the_first_live_connection():
    """A request is sent on the first connection, and its reply is taken from there."""
    async with Shards() as feed:
        feed.streams("abc")
        await feed.wait_connected()
        asking = asyncio.ensure_future(feed.request({"ask": 1}, [{"answer": 1}]))
        await asyncio.sleep(0.1)
        feed.websockets[0].come('{"answer": 1}')
        assert await asking == {"answer": 1}
        assert feed.commands[-1] == (1, '{"ask":1}')


async def test_resubscribing_a_channel_stays_on_its_connection():
    """``resubscribe`` acts on the connection of the channel."""
    async with Shards() as feed:
        streams = feed.streams("abc")
        await feed.wait_connected()
        feed.commands.clear()
        await streams["c"].resubscribe()
        assert feed.commands == [(2, '{"unsub":"c"}'), (2, '{"sub":"c"}')]


async def test_resubscribe_waits_for_the_connection_of_its_channel():
    """``resubscribe`` waits until the connection of its own channel is open, although another one is."""
    async with Shards() as feed:
        streams = feed.streams("abc")
        await feed.wait_connected()
        feed.outcomes.extend([ConnectionRefusedError()] * 3)
        feed.websockets[1].end()
        await asyncio.sleep(0.01)
        await streams["c"].resubscribe()
        assert feed.open == [["a", "b"], ["c"]]


async def test_stream_of_a_channel_is_available_while_another_connection_is_lost():
    """A snapshot is fetched as soon as the own channel is subscribed, whatever the other connections do."""
    never = asyncio.Event()

    async def stuck():
        await never.wait()

    async def snapshot():
        return {"u": 0}

    async with Shards(ScriptedWebsocket(), stuck, open_timeout=1000) as feed:
        streams = feed.streams("abc")
        async with asyncio.timeout(5):
            async for item in streams["a"].resync(snapshot, sequence="n", snapshot_sequence="u"):
                assert isinstance(item, rxws.Snapshot)
                break


async def test_feed_is_complete_only_while_all_connections_are():
    """``complete_since`` is None while a connection is missing, and then the end of its gap."""
    async with Shards() as feed:
        feed.streams("abc")
        await feed.wait_connected()
        await asyncio.sleep(1)
        began = feed.statistics().complete_since
        assert began is not None
        feed.outcomes.extend([ConnectionRefusedError()] * 2)
        feed.websockets[1].end()
        await feed.record.entered(State.WAITING)
        assert feed.statistics().complete_since is None
        await feed.wait_connected()
        await asyncio.sleep(1)
        (gap,) = feed.record.of(Gap)
        assert feed.statistics().complete_since == gap.end > began


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"channels_per_connection": 0}, ValueError, "channels_per_connection must be"),
        ({"channels_per_connection": 1.5}, TypeError, "channels_per_connection must be"),
        ({"channels_per_connection": True}, TypeError, "channels_per_connection must be"),
        ({"channels_per_connection": 2, "lines": 2}, ValueError, "lines and channels_per_connection do not work"),
        ({"channels_per_connection": 2, "resume": True}, ValueError, "resume does not work with channels_per_conn"),
    ],
)
async def test_wrong_options_are_refused(options, error, text):
    """A wrong number, and a combination that is not supported, raise an error that names the option."""
    with pytest.raises(error, match=text):
        ScriptedFeed(recorded=False, **options)


async def test_closing_ends_all_connections():
    """``exit()`` closes all connections, also one that is being opened and one that is being closed as empty."""
    never = asyncio.Event()

    async def stuck():
        await never.wait()

    closing = ScriptedWebsocket()
    closing.on_close = lambda: asyncio.sleep(3)
    feed = Shards(ScriptedWebsocket(), closing, ScriptedWebsocket(), stuck)
    streams = feed.streams("abcdefg")
    await asyncio.sleep(1)
    for channel in "cd":
        await streams[channel].close()
    await asyncio.sleep(61)
    await feed.exit()
    assert feed.open == []


async def test_channel_whose_subscription_is_under_way_keeps_its_place():
    """If a channel is closed before the server has accepted it, the next channel must not exceed the limit."""
    async with Shards(answers=False) as feed:
        await feed.wait_connected()
        streams = feed.streams("ab")
        await asyncio.sleep(0.1)
        await streams["b"].close()
        feed.streams("c")
        await asyncio.sleep(0.1)
        assert feed.open == [["a", "b"], ["c"]]


async def test_many_connections_that_are_lost_together_are_opened_again_together():
    """If the server restarts, all shards reconnect at once, and do not use up the growing delays one by one."""
    async with Shards(limit=1) as feed:
        feed.streams([f"c{number}" for number in range(50)])
        await feed.wait_connected()
        await asyncio.sleep(30)
        for websocket in list(feed.websockets):
            websocket.end()
        await asyncio.sleep(0.01)
        await asyncio.wait_for(feed.wait_connected(), 1.0)
        assert feed.statistics().gaps == 50
