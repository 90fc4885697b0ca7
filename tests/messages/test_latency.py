"""The latency of messages: how it is measured, its alerts, and fields and clocks that are wrong."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import threading
from datetime import UTC, datetime

import pytest

import rxws
from rxws.interface import feed_of
from tests.support.feeds import of_kind, record
from tests.support.life import ScriptedFeed

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


class Timed(ScriptedFeed):
    """A feed whose messages have the time when they were sent."""

    def __init__(self, **options):
        options = {"sent_at": "T", "parse": json.loads} | options
        super().__init__(**options)

    @property
    def now(self):
        """The present time in seconds since the epoch, by the clock with which the feed compares."""
        return feed_of(self).reporter.now()

    async def come(self, *latencies, unit=1000, pause=0.02, **more):
        """Send messages that were sent as many seconds ago, each in an iteration of its own."""
        for latency in latencies:
            self.websocket.come(json.dumps({"T": round((self.now - latency) * unit), **more}))
            await asyncio.sleep(pause)

    @property
    def latency(self):
        """The latency in the statistics."""
        return self.statistics().latency

    def of_kind(self, kind):
        """Return the events of a kind."""
        return of_kind(kind, self.record.events)


@pytest.fixture
async def feed():
    """Return a connected feed with a limit of half a second."""
    async with Timed(max_latency=0.5) as feed:
        await feed.wait_connected()
        yield feed


async def test_latency_is_the_time_from_sending_to_arrival(feed):
    """``statistics().latency`` has the newest, the lowest, the median and the 99th percentile."""
    assert feed.latency is None
    latencies = [each / 1000 for each in range(1, 101)]
    random.Random(1).shuffle(latencies)
    await feed.come(*latencies)
    latency = feed.latency
    assert latency.newest == pytest.approx(latencies[-1], abs=0.001)
    assert (latency.lowest, latency.p50, latency.p99) == pytest.approx((0.001, 0.050, 0.099), abs=0.001)


async def test_latencies_are_those_of_the_last_minute(feed):
    """Older ones no longer count. After a minute without a message there is no latency."""
    await feed.come(0.4)
    await asyncio.sleep(59)
    await feed.come(0.1)
    assert feed.latency.p99 == pytest.approx(0.4, abs=0.001)
    await asyncio.sleep(2)
    assert feed.latency.p99 == pytest.approx(0.1, abs=0.001)
    await asyncio.sleep(60)
    assert feed.latency is None


async def test_memory_is_limited_when_many_messages_arrive(feed):
    """At most a hundred messages a second are measured, and those of a minute are kept."""
    await feed.come(*[0.1] * 1000, pause=0.001)
    measured = feed_of(feed).router.latency._measured
    assert 50 <= len(measured) <= 101
    assert measured.maxlen == 6000
    assert feed.latency.p50 == pytest.approx(0.1, abs=0.001)


@pytest.mark.parametrize(("unit", "per_second"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
async def test_times_of_any_unit(unit, per_second):
    """A number has the unit of the argument."""
    async with Timed(unit=unit) as feed:
        await feed.wait_connected()
        await feed.come(5, unit=per_second)
        assert feed.latency.newest == pytest.approx(5, abs=1 if unit == "s" else 0.001)


@pytest.mark.parametrize(
    ("sent_at", "message"),
    [
        (("data", "time"), lambda now: {"data": {"time": now * 1000 - 2000}}),
        (lambda message: message["t"], lambda now: {"t": str(round(now * 1000 - 2000))}),
        ("t", lambda now: {"t": datetime.fromtimestamp(now - 2, UTC).isoformat()}),
    ],
)
async def test_times_are_found_by_key_path_and_function(sent_at, message):
    """They may be numbers, numeric strings, or ISO 8601 strings."""
    async with Timed(sent_at=sent_at) as feed:
        await feed.wait_connected()
        feed.websocket.come(json.dumps(message(feed.now)))
        await asyncio.sleep(0.02)
        assert feed.latency.newest == pytest.approx(2, abs=0.001)


async def test_first_message_of_several_in_a_frame():
    """Of ``Many`` messages the first one is measured, and a Gap is none."""
    async with Timed(parse=lambda raw: rxws.Many([rxws.Gap(1, 2), *json.loads(raw)])) as feed:
        await feed.wait_connected()
        feed.websocket.come(json.dumps([{"T": round(feed.now * 1000 - 300)}, {"T": 0}]))
        await asyncio.sleep(0.02)
        assert feed.latency.newest == pytest.approx(0.3, abs=0.001)
        feed.websocket.come("[]")
        await asyncio.sleep(0.02)
        assert not of_kind(rxws.CallbackFailed, feed.record.events)


async def test_exceeding_and_recovering_are_events(feed, caplog):
    """The first late message is reported at once, the recovery when none was late for five seconds."""
    caplog.set_level(logging.INFO, "rxws")
    await feed.come(0.4, 0.7, 2.0, 0.4, 0.6)
    assert [(each.latency, each.max_latency) for each in feed.of_kind(rxws.LatencyExceeded)] == [
        (pytest.approx(0.7, abs=0.001), 0.5)
    ]
    await feed.come(*[0.1] * 49, pause=0.1)
    assert not feed.of_kind(rxws.LatencyRecovered)
    await feed.come(*[0.2] * 5, pause=0.1)
    (event,) = feed.of_kind(rxws.LatencyRecovered)
    assert (event.latency, event.highest, event.max_latency) == pytest.approx((0.2, 2.0, 0.5), abs=0.001)
    assert event.seconds == pytest.approx(5.06, abs=0.2)
    await feed.come(0.6)
    assert len(feed.of_kind(rxws.LatencyExceeded)) == 2
    assert "a message arrived 0.700 s after it was sent; max_latency is 0.5 s" in caplog.text
    assert "messages arrive within 0.5 s again; they were up to 2.000 s late, for 5.1 s" in caplog.text


async def test_silence_is_no_recovery(feed):
    """Without messages the latency is unknown, so the recovery waits for the next message."""
    await feed.come(0.7)
    await asyncio.sleep(30)
    assert not feed.of_kind(rxws.LatencyRecovered)
    await feed.come(0.1)
    assert len(feed.of_kind(rxws.LatencyRecovered)) == 1


async def test_differing_clocks_are_shown_and_logged(feed, caplog):
    """A negative latency stays negative, and a warning says by how much this clock is behind."""
    await feed.come(0.002, -0.0004, -0.2, -0.3, -0.1)
    assert (feed.latency.newest, feed.latency.lowest) == pytest.approx((-0.1, -0.3), abs=0.001)
    lines = [each.getMessage() for each in caplog.records]
    assert len(lines) == 1
    assert "a message arrived 0.200 s before it was sent: this clock is behind the server's" in lines[0]
    await asyncio.sleep(2)
    await feed.come(-0.9)
    assert len(caplog.records) == 2


async def test_wrong_unit_is_reported_once(caplog):
    """A time that is years from now is no latency: the report names the argument."""
    async with Timed(unit="s") as feed:
        await feed.wait_connected()
        await feed.come(*[1] * 5)
        (event,) = of_kind(rxws.CallbackFailed, feed.record.events)
        assert (event.handler, type(event.error)) == ("sent_at", ValueError)
        assert "check the argument unit" in str(event.error)
        assert (feed.latency, feed.statistics().failures, len(caplog.records)) == (None, 5, 1)
    async with Timed(unit="us") as feed:
        await feed.wait_connected()
        await feed.come(1)
        (event,) = of_kind(rxws.CallbackFailed, feed.record.events)
        assert "days ago, according to" in str(event.error)
        assert "check the argument unit" in str(event.error)


@pytest.mark.parametrize("value", ["soon", None, True, [], "1e400", math.nan])
async def test_values_that_are_no_times(value):
    """They are reported once, and never measured. None says that the message has no time."""
    async with Timed() as feed:
        await feed.wait_connected()
        for _ in range(3):
            feed.websocket.come(json.dumps({"T": value}))
            await asyncio.sleep(0.02)
        await feed.come(0.1)
        assert feed.latency.lowest == pytest.approx(0.1, abs=0.001)
        assert len(of_kind(rxws.CallbackFailed, feed.record.events)) == (value is not None)


async def test_key_that_no_message_has_is_reported_once():
    """After ten seconds without it, the report names the key and the keys that the messages have."""
    async with Timed(sent_at="time") as feed:
        await feed.wait_connected()
        await feed.come(*[0.1] * 90, pause=0.1)
        assert not of_kind(rxws.CallbackFailed, feed.record.events)
        await feed.come(*[0.1] * 500, pause=0.1)
        (event,) = of_kind(rxws.CallbackFailed, feed.record.events)
        assert "sent_at 'time': there is no 'time' in the keys 'T'" in str(event.error)


async def test_key_that_some_messages_have(feed):
    """Messages of another kind, such as acknowledgements, are not measured, and no failure."""
    await feed.come(0.1)
    for _ in range(30):
        feed.websocket.come('{"result": null}', "[]", "3", "null")
        await asyncio.sleep(1)
    await feed.come(0.2)
    assert feed.latency.lowest == pytest.approx(0.1, abs=0.001) or feed.latency.lowest == pytest.approx(0.2, abs=0.001)
    assert feed.statistics().failures == 0


async def test_messages_that_are_per_connection_are_not_measured():
    """A snapshot may be old when its channel is subscribed. A hook that raises is reported under its name."""

    class Snapshots(Timed):
        def _is_per_connection(self, message):
            return message["kind"] == "snapshot"

    async with Snapshots(max_latency=1) as feed:
        await feed.wait_connected()
        await feed.come(86_400, kind="snapshot")
        assert (feed.latency, of_kind(rxws.LatencyExceeded, feed.record.events)) == (None, [])
        await feed.come(0.1)
        assert [each.handler for each in of_kind(rxws.CallbackFailed, feed.record.events)] == [
            f"{Snapshots.__qualname__}._is_per_connection"
        ]
        assert feed.latency.newest == pytest.approx(0.1, abs=0.001)


async def test_clock_that_is_set_back(feed, monkeypatch):
    """Measuring goes on when this machine's clock is corrected by an hour, and the recovery is not delayed."""
    await feed.come(0.7)
    real, reporter = feed_of(feed).reporter.now, feed_of(feed).reporter
    monkeypatch.setattr(reporter, "now", lambda: real() - 3600)
    await feed.come(0.1)
    assert feed.latency.newest == pytest.approx(0.1, abs=0.001)
    assert len(feed.of_kind(rxws.LatencyRecovered)) == 1


async def test_waiting_is_the_age_of_what_waits_longest(feed):
    """``stream.waiting`` is computed when it is read. It is None while nothing waits."""
    stream = feed.stream_filter(gaps=True)
    assert stream.waiting is None
    await feed.come(0.1, 0.2)
    await asyncio.sleep(3)
    assert stream.waiting == pytest.approx(3.14, abs=0.01)
    await anext(stream)
    assert stream.waiting == pytest.approx(3.22, abs=0.01)
    await anext(stream)
    assert stream.waiting is None


async def test_waiting_skips_gaps_and_messages_without_a_time(feed):
    """A Gap before the first message does not hide how long that message waits."""
    stream = feed.stream_filter(gaps=True)
    feed_of(feed).router.report_gap(1.0, 2.0, "source")
    feed.websocket.come('{"result": null}')
    await feed.come(0.5)
    assert stream.waiting == pytest.approx(0.52, abs=0.01)
    stream.clear()
    feed.websocket.come('{"result": null}')
    await asyncio.sleep(0.1)
    assert (stream.pending, stream.waiting) == (1, None)


async def test_feed_without_sent_at():
    """There is no latency, and ``waiting`` is None."""
    async with Timed(sent_at=None) as feed:
        await feed.wait_connected()
        stream = feed.stream_filter()
        await feed.come(0.1)
        assert (feed.latency, stream.pending, stream.waiting) == (None, 1, None)


async def test_copies_on_another_connection_are_not_measured():
    """In a rotation the new connection's copies arrive late, but their messages were delivered in time."""
    async with Timed(max_latency=0.5, handover_settle=0.2) as feed:
        await feed.wait_connected()
        rotated = feed.rotate()
        first, second = feed.websocket, await feed.opened(2)
        frame = json.dumps({"T": round(feed.now * 1000)})
        first.come(frame)
        await asyncio.sleep(0.6)
        second.come(frame)
        assert await rotated
        assert (feed.statistics().messages, feed.statistics().duplicates) == (1, 1)
        assert feed.latency.p99 < 0.01
        assert not of_kind(rxws.LatencyExceeded, feed.record.events)


async def test_statistics_may_be_read_in_other_threads(feed):
    """Another thread reads the latency while messages arrive."""
    await feed.come(0.1)
    found = []
    thread = threading.Thread(target=lambda: found.extend(feed.latency for _ in range(200)))
    thread.start()
    await feed.come(*[0.1] * 200)
    thread.join()
    assert all(each.p50 == pytest.approx(0.1, abs=0.001) for each in found)


async def test_subscriber_of_the_events_may_close_the_feed():
    """An alert may end the feed, from inside the event."""
    async with Timed(max_latency=0.5) as feed:
        await feed.wait_connected()
        closing = []

        def alert(event):
            if isinstance(event, rxws.LatencyExceeded):
                closing.append(asyncio.ensure_future(feed.exit()))

        feed.events.subscribe(alert)
        seen = record(feed.messages)
        await feed.come(0.7)
        await feed.wait_closed()
        await asyncio.gather(*closing)
        assert (len(seen), len(closing)) == (1, 1)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"sent_at": ["T"]}, TypeError, "sent_at must be a key, a tuple of keys or a function, not a list"),
        ({"sent_at": ()}, ValueError, "sent_at is an empty tuple"),
        ({"unit": "min"}, ValueError, "unit must be 's', 'ms', 'us' or 'ns', not 'min'"),
        ({"max_latency": 0}, ValueError, "max_latency must be a positive number of seconds, not 0"),
        ({"max_latency": "1"}, TypeError, "max_latency must be a positive number of seconds, not '1'"),
        ({"sent_at": None, "max_latency": 1}, ValueError, "max_latency has no effect without sent_at"),
    ],
)
async def test_wrong_options(options, error, text):
    """Each error names the argument and what was expected."""
    with pytest.raises(error, match=text):
        Timed(**options)


async def test_coroutine_function_as_sent_at():
    """The time must be known at once, so a coroutine function is refused."""

    async def sent_at(message):
        return message["T"]

    with pytest.raises(TypeError, match=r"sent_at must be a plain function, but .*sent_at is a coroutine function"):
        Timed(sent_at=sent_at)


@pytest.mark.parametrize("seed", range(10))
async def test_random_latencies_are_counted_as_by_hand(seed, monkeypatch):
    """Percentiles and events equal those of a model that keeps all messages, even if the clock is set back."""
    chance = random.Random(seed)
    async with Timed(unit="us", max_latency=chance.choice([0.1, 1.0])) as feed:
        meter, reporter, limit = feed_of(feed).router.latency, feed_of(feed).reporter, feed_of(feed).options.max_latency
        clock = [reporter.now()]
        monkeypatch.setattr(reporter, "now", lambda: clock[0])
        taken, kinds, is_late, late_at, looked_at = [], [], False, -math.inf, -math.inf
        for _ in range(500):
            clock[0] += chance.choice([0.001, 0.011, 0.05, 0.3, 6.0]) if chance.random() < 0.98 else -1_000.0
            now, sent = clock[0], round((clock[0] - chance.uniform(-0.2, 1.5 * limit)) * 1e6)
            meter.measure({"T": sent}, now)
            if 0 <= now - looked_at < 0.01:
                continue
            looked_at = now
            taken.append((now, now - sent / 1e6))
            if taken[-1][1] > limit:
                kinds += [] if is_late else [rxws.LatencyExceeded]
                is_late, late_at = True, now
            elif is_late and not 0 <= now - late_at < 5:
                kinds.append(rxws.LatencyRecovered)
                is_late = False
            recent = sorted(latency for at, latency in taken if at > now - 60)
            p50, p99 = (recent[math.ceil(share * len(recent)) - 1] for share in (0.5, 0.99))
            found = meter.read()
            expected = (taken[-1][1], recent[0], p50, p99)
            assert (found.newest, found.lowest, found.p50, found.p99) == pytest.approx(expected, abs=1e-5)
        events = [type(event) for event in feed.record.events]
        assert [kind for kind in events if kind in (rxws.LatencyExceeded, rxws.LatencyRecovered)] == kinds
