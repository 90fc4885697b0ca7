"""The report of filters that no message has passed."""

from __future__ import annotations

import asyncio
import gc
import json
import logging

import pytest

import rxws
from rxws import CallbackFailed, NothingMatched
from rxws.streams.unmatched import MOST_REPORTED
from tests.support.life import ScriptedFeed, ScriptedWebsocket

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")

SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT", "DOGEUSDT")


class Trading(ScriptedFeed):
    """A feed of JSON."""

    def __init__(self, *outcomes, **options):
        super().__init__(*outcomes, parse=json.loads, **options)

    async def trade(self, seconds, symbols=SYMBOLS, every=0.1):
        """Send messages for a number of seconds."""
        for n in range(round(seconds / every)):
            self.websocket.come(json.dumps({"e": "trade", "s": symbols[n % len(symbols)]}))
            await asyncio.sleep(every)

    @property
    def told(self):
        """The events so far."""
        return self.record.of(NothingMatched)


async def test_filter_when_no_message_passes(caplog):
    """After ten seconds of traffic one event and one warning report the filter with the values of its keys."""
    async with Trading() as feed:
        await feed.wait_connected()
        stream = feed.stream_filter([{"s": "btcusdt", "E": "trade"}])
        with caplog.at_level(logging.WARNING, "rxws"):
            await feed.trade(9.9)
            assert feed.told == []
            await feed.trade(60)
        (event,) = feed.told
        assert event.filter == "Filter([{'s': 'btcusdt', 'E': 'trade'}])"
        assert 99 <= event.messages <= 110
        assert set(event.values) == {"'s'", "'E'"}
        assert set(event.values["'s'"]) < {*SYMBOLS, "…"}
        assert (len(event.values["'s'"]), event.values["'s'"][-1], event.values["'E'"]) == (6, "…", ())
        (record,) = caplog.records
        assert record.getMessage().endswith(
            f"'s' was {', '.join(event.values[chr(39) + 's' + chr(39)])}; 'E' was absent"
        )
        await stream.close()


async def test_filters_when_several_match_nothing(caplog):
    """Each filter that no message passes has its own line in the log, although all are found at once."""
    names = ("BTC", "ETH", "BNB")
    async with Trading() as feed:
        await feed.wait_connected()
        streams = [feed.stream_filter([{"s": name}]) for name in names]
        with caplog.at_level(logging.WARNING, "rxws"):
            await feed.trade(12)
        lines = [each.getMessage() for each in caplog.records]
        assert [sum(f"'{name}'" in line for line in lines) for name in names] == [1, 1, 1]
        for stream in streams:
            await stream.close()


async def test_filter_when_a_message_passes():
    """A filter that a message has passed, a function, and a filter that every message passes are not reported."""
    async with Trading() as feed:
        await feed.wait_connected()
        streams = [feed.stream_filter(f) for f in (None, [], lambda _: False, [{"s": "BTCUSDT"}, {"s": "nonsense"}])]
        await feed.trade(30)
        assert feed.told == []
        del streams


async def test_stream_when_it_has_ended():
    """The filter of a closed or collected stream is not reported."""
    async with Trading() as feed:
        await feed.wait_connected()
        closed, collected = feed.stream_filter([{"s": 1}]), feed.stream_filter([{"s": 2}])
        await feed.trade(5)
        await closed.close()
        del collected
        gc.collect()
        await feed.trade(30)
        assert feed.told == []


async def test_filter_when_many_streams_have_it():
    """A filter is reported once, however many streams have it, and however often they are made."""
    async with Trading() as feed:
        await feed.wait_connected()
        for _ in range(3):
            streams = [feed.stream_filter([{"s": "x"}]) for _ in range(3)]
            await feed.trade(12)
        assert len(feed.told) == 1
        streams.append(feed.stream_filter([{"s": "y"}]))
        await feed.trade(12)
        assert len(feed.told) == 2


async def test_filters_when_there_are_very_many():
    """At most a fixed number of filters is reported."""
    async with Trading() as feed:
        await feed.wait_connected()
        streams = [feed.stream_filter([{"s": n}]) for n in range(3 * MOST_REPORTED)]
        await feed.trade(12)
        assert len(feed.told) == MOST_REPORTED
        del streams


async def test_stream_when_made_in_a_hook_or_a_request():
    """Streams of rotation hooks and of requests, which wait for rare messages, are not reported."""

    async def wait_rotation_due():
        await anext(feed.stream_filter([{"e": "listenKeyExpired"}]))

    async with Trading(wait_rotation_due=wait_rotation_due) as feed:
        await feed.wait_connected()
        request = asyncio.ensure_future(feed.request("time?", [{"e": "time"}], timeout=15))
        await feed.trade(30)
        with pytest.raises(TimeoutError):
            await request
        assert feed.told == []


async def test_filter_when_there_is_no_traffic():
    """Without traffic no filter is reported; the ten seconds begin with the first message."""
    async with Trading() as feed:
        await feed.wait_connected()
        stream, gone = feed.stream_filter([{"s": "x"}]), feed.stream_filter([{"s": "z"}])
        await asyncio.sleep(3)
        del gone
        await asyncio.sleep(3600)
        assert feed.told == []
        await feed.trade(9)
        assert feed.told == []
        await feed.trade(13)
        assert [event.filter for event in feed.told] == ["Filter([{'s': 'x'}])"]
        await stream.close()


async def test_filter_when_traffic_is_slow():
    """Filters are reported even when messages are rare."""
    async with Trading() as feed:
        await feed.wait_connected()
        stream = feed.stream_filter([{"s": "x"}])
        await feed.trade(30, every=3)
        assert len(feed.told[0].values["'s'"]) >= 2
        await stream.close()


async def test_filter_when_a_connection_opens():
    """When a connection opens after a long time, the ten seconds begin with its first message."""

    async def later():
        await asyncio.sleep(500)
        return ScriptedWebsocket()

    async with Trading(later, open_timeout=600) as feed:
        stream = feed.stream_filter([{"s": "x"}])
        await feed.wait_connected(), await feed.trade(10.6)
        assert len(feed.told) == 1
        await stream.close()


async def test_filter_when_subscriptions_are_under_way():
    """No filter is reported while subscriptions are waiting to be sent."""
    async with Trading(send_limit=(1, 1)) as feed:
        await feed.wait_connected()
        streams = [feed.multiplex(f"+{n}", filters=[{"s": n}]) for n in range(30)]
        await feed.trade(30)
        assert feed.told == []
        await feed.trade(20)
        assert len(feed.told) == 30
        del streams


async def test_filter_when_a_subscription_always_fails():
    """A channel that cannot be subscribed does not delay the report of other filters."""

    def broken():
        raise LookupError("no token")

    async with Trading() as feed:
        await feed.wait_connected()
        streams = [feed.multiplex(broken, filters=[{"s": "A"}]), feed.stream_filter([{"s": "B"}])]
        await feed.trade(30)
        assert len(feed.told) == 2
        del streams


async def test_values_when_only_some_messages_could_pass():
    """The reported values of a key are from messages that have all other values of the dict, if any have."""
    async with Trading() as feed:
        await feed.wait_connected()
        streams = [
            feed.stream_filter([{"e": "trade", "s": "btcusdt"}]),
            feed.stream_filter([{"e": "trade", "s": rxws.starts_with("btc")}, {"e": "Depth", "s": "BNBUSDT"}]),
        ]
        for n in range(120):
            kind, symbol = ("trade", "BTCUSDT") if n % 2 else ("depth", "BNBUSDT")
            feed.websocket.come(json.dumps({"e": kind, "s": symbol}))
            await asyncio.sleep(0.1)
        one, other = feed.told
        assert sorted(one.values["'e'"]) == ["depth", "trade"]
        assert one.values["'s'"] == ("BTCUSDT",)
        assert other.values == {"'e'": ("depth",), "'s'": ("BTCUSDT",)}
        assert other.filter == ("Filter([{'e': 'trade', 's': starts_with('btc')}, {'e': 'Depth', 's': 'BNBUSDT'}])")
        del streams


async def test_values_when_messages_are_arrays():
    """The values at a position of an array are reported in the same way as the values of a key."""
    async with Trading() as feed:
        await feed.wait_connected()
        stream = feed.stream_filter([{0: 993, (-1,): "XBT/USD"}])
        for _ in range(120):
            feed.websocket.come(json.dumps([994, [["1.0", "2.0"]], "trade", "XBT/USD"]))
            await asyncio.sleep(0.1)
        (event,) = feed.told
        assert event.values == {"0": ("994",), "(-1,)": ("XBT/USD",)}
        await stream.close()


async def test_values_when_they_hold_secrets_or_control_characters():
    """Values and filters in reports are escaped, shortened and redacted."""
    message = {"listenKey": "Z9zSecretSecret", "a": {"b": "x" * 500}, "c": "\x1b[2J", "d": [1, {}], "e": None}
    keys = {"listenKey": "pqIa91cmEdWYAMvzAIg7", ("a", "b"): 1, "c": "\x1b", "d": 1, "e": 1}
    async with Trading() as feed:
        await feed.wait_connected()
        stream = feed.stream_filter([keys])
        for _ in range(12):
            feed.websocket.come(json.dumps(message))
            await asyncio.sleep(1)
        (event,) = feed.told
        assert event.values["'listenKey'"] == ("***",)
        assert event.values["'c'"] == ("\\x1b[2J",)
        assert event.values["'d'"] == ("[1, {}]",)
        assert event.values["'e'"] == ("None",)
        assert all(len(value) <= 40 for values in event.values.values() for value in values)
        assert "pqIa" not in event.filter
        assert event.filter.isprintable()
        await stream.close()


async def test_key_when_its_value_raises():
    """A value whose lookup raises is reported, and the other values are in the report."""

    class Broken(dict):
        def get(self, key, default=None):
            raise ZeroDivisionError("a bug")

    async with Trading() as feed:
        await feed.wait_connected()
        feed._parse_raw_data = None
        stream = feed.stream_filter([{("a", "b"): 1}])
        messages = rxws.interface.feed_of(feed).router
        for _ in range(12):
            messages.route({"a": Broken()})
            await asyncio.sleep(1)
        assert feed.told[0].values == {"('a', 'b')": ()}
        assert "a filter's key" in {event.handler for event in feed.record.of(CallbackFailed)}
        await stream.close()


async def test_exit_when_filters_are_watched():
    """The timer ends with the feed, and later streams are not watched."""
    async with Trading() as feed:
        await feed.wait_connected()
        stream = feed.stream_filter([{"s": "x"}])
        await feed.trade(5)
        await feed.exit()
        late = feed.stream_filter([{"s": "y"}])
        await asyncio.sleep(30)
        assert feed.told == []
        del stream, late
