"""The metrics of feeds for Prometheus."""

import asyncio
import re
import subprocess
import sys
from dataclasses import fields

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics

import rxws
from rxws.prometheus import HELP, LINE_HELP, SHARD_HELP, FeedCollector


def text_of(*feeds):
    """Return the text that Prometheus gets for these feeds."""
    registry = CollectorRegistry()
    registry.register(FeedCollector(*feeds))
    return generate_latest(registry).decode()


def values(text):
    """Return the samples of a text: a name with labels, and a number."""
    return {key: float(value) for key, value in re.findall(r"^(\w+\{.*\}) (\S+)$", text, re.MULTILINE)}


async def test_metrics_equal_the_statistics():
    """Each counter and gauge has the value of ``statistics()``, with the feed's name as a label."""
    async with rxws.demo.serve() as exchange, rxws.ReactiveWebSocket(exchange, name="trades") as ws:
        stream = ws.stream_filter([{"e": "trade"}])
        await anext(stream)
        assert await ws.rotate()
        before, read, after = ws.statistics(), values(text_of(ws)), ws.statistics()
        for name in ("messages", "bytes", "opened", "rotations", "gaps", "rejected", "duplicates", "failures"):
            assert getattr(before, name) <= read[f'rxws_{name}_total{{feed="trades"}}'] <= getattr(after, name)
        assert read['rxws_rotations_total{feed="trades"}'] == 1
        assert read['rxws_streams{feed="trades"}'] == 1
        assert read['rxws_pending{feed="trades"}'] >= 0
        assert 0 <= read['rxws_last_message_age_seconds{feed="trades"}'] < 10
        assert read['rxws_live{feed="trades"}'] == 1


async def test_reconnects_have_their_reason_and_the_state_is_a_set():
    """Reconnects are counted by their reason; exactly one state is 1."""
    async with rxws.testing.FeedServer() as server, rxws.ReactiveWebSocket(server.url, name="cut") as ws:
        await ws.wait_connected()
        server.reset()
        await server.connected(2)
        await ws.wait_connected()
        read = values(text_of(ws))
        reasons = {key: value for key, value in read.items() if key.startswith("rxws_reconnects_total")}
        assert sum(reasons.values()) == 1
        assert all(re.fullmatch(r'rxws_reconnects_total\{feed="cut",reason="\w+"\}', key) for key in reasons)
        assert [key for key in read if key.startswith("rxws_state{") and read[key]] == [
            'rxws_state{feed="cut",rxws_state="connected"}'
        ]
    read = values(text_of(ws))
    assert read['rxws_live{feed="cut"}'] == 0
    assert read['rxws_state{feed="cut",rxws_state="closed"}'] == 1


async def test_several_feeds_share_each_metric():
    """Each metric is announced once, with a sample for each feed; the texts are valid in both formats."""
    async with (
        rxws.testing.FeedServer() as server,
        rxws.ReactiveWebSocket(server.url, name="one") as one,
        rxws.ReactiveWebSocket(server.url, name="two") as two,
    ):
        text = text_of(one, two)
        assert text.count("# TYPE rxws_messages_total counter") == 1
        read = values(text)
        assert {'rxws_streams{feed="one"}', 'rxws_streams{feed="two"}'} <= read.keys()
        registry = CollectorRegistry()
        registry.register(FeedCollector(one, two))
        assert generate_open_metrics(registry).endswith(b"# EOF\n")
        with pytest.raises(ValueError, match="Duplicated"):
            registry.register(FeedCollector(one))


async def test_age_is_absent_before_the_first_message():
    """A metric without a value has no sample, so that an alert does not treat it as zero."""
    async with rxws.testing.FeedServer() as server, rxws.ReactiveWebSocket(server.url, name="mute") as ws:
        await ws.wait_connected()
        assert "rxws_last_message_age_seconds{" not in text_of(ws)


async def test_every_statistic_is_a_metric():
    """Every field of ``Statistics`` is a metric and has its own help text."""
    async with rxws.testing.FeedServer() as server, rxws.ReactiveWebSocket(server.url, name="all") as ws:
        text = text_of(ws)
    names = {field.name for field in fields(rxws.Statistics)} - {"lines", "shards"}
    for name in names:
        assert re.search(rf"^# HELP rxws_{name}\w* [A-Z]", text, re.MULTILINE), name
    assert HELP.keys() == names
    assert SHARD_HELP.keys() == {field.name for field in fields(rxws.ShardStatistics)} - {"state"}
    assert LINE_HELP.keys() == {field.name for field in fields(rxws.LineStatistics)} - {"state"}


async def test_each_line_has_its_own_metrics():
    """A feed with several lines exports the statistics of each line, under the number of the line."""
    async with (
        rxws.demo.serve(rate=1_000) as exchange,
        rxws.ReactiveWebSocket(exchange, name="two", lines=2, handover_settle=0.1) as ws,
    ):
        async for _ in ws.stream_filter():
            if all(line.is_joined for line in ws.statistics().lines):
                break
        text = text_of(ws)
    for line in "12":
        assert f'rxws_line_firsts_total{{feed="two",line="{line}"}}' in text
        assert f'rxws_line_is_joined{{feed="two",line="{line}"}} 1.0' in text
    assert 'rxws_line_lag_seconds{feed="two",line=' in text


async def test_each_shard_has_its_own_metrics():
    """A feed with ``channels_per_connection`` exports the statistics of each connection, under its number."""
    async with (
        rxws.testing.FeedServer() as server,
        rxws.ReactiveWebSocket(server.url, name="many", channels_per_connection=2) as ws,
    ):
        streams = [ws.multiplex({"sub": number}, filters=[{"c": number}]) for number in range(3)]
        await ws.wait_connected()
        for connection in server.connections:
            await connection.send({"c": 0})
        await anext(streams[0])
        text = text_of(ws)
    assert 'rxws_shard_channels{feed="many",shard="1"} 2.0' in text
    assert 'rxws_shard_channels{feed="many",shard="2"} 1.0' in text
    assert 'rxws_shard_last_message_age_seconds{feed="many",shard="1"}' in text


async def test_metrics_are_read_in_any_thread_while_messages_flow():
    """A registry may collect in a thread other than the event loop's."""
    async with rxws.demo.serve(rate=5_000) as exchange, rxws.ReactiveWebSocket(exchange, name="busy") as ws:
        await ws.wait_connected()
        counts = [values(await asyncio.to_thread(text_of, ws))['rxws_messages_total{feed="busy"}'] for _ in range(20)]
        assert counts == sorted(counts)


async def test_secret_in_a_name_is_not_exported():
    """If a feed's name contains a URL, the metrics contain no secret of it."""
    async with rxws.testing.FeedServer() as server:
        secret = "kJ8s0dk3LmN7pQ2rT5vW"
        async with rxws.ReactiveWebSocket(server.url, name=f"{server.url}?token={secret}") as ws:
            assert secret[:8] not in text_of(ws)


async def test_wrong_arguments_are_named():
    """A collector raises at once if it gets no feed, an object that is not a feed, or two feeds with the same name."""
    with pytest.raises(ValueError, match="at least one feed"):
        FeedCollector()
    with pytest.raises(TypeError, match="takes feeds, not an object of type str"):
        FeedCollector("ws://localhost")
    async with rxws.testing.FeedServer() as server, rxws.ReactiveWebSocket(server.url, name="same") as ws:
        with pytest.raises(ValueError, match=r"two feeds have the name 'same'.*name="):
            FeedCollector(ws, ws)


def test_missing_extra_is_named():
    """Without prometheus_client, ``rxws.prometheus`` says what to install."""
    code = "import sys; sys.modules['prometheus_client'] = None; import rxws; rxws.prometheus"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert 'pip install "rxws[prometheus]"' in run.stderr.splitlines()[-1]


async def test_latency_has_one_sample_for_each_value():
    """A feed with ``sent_at`` exports the newest, the lowest, the median and the 99th percentile."""
    async with (
        rxws.demo.serve() as exchange,
        rxws.ReactiveWebSocket(exchange, name="timed", sent_at="T") as ws,
        rxws.ReactiveWebSocket(exchange, name="untimed") as other,
    ):
        while ws.statistics().latency is None:
            await anext(ws.stream_filter())
        read = values(text_of(ws, other))
        latencies = {key: value for key, value in read.items() if key.startswith("rxws_latency_seconds")}
        each = ("newest", "lowest", "p50", "p99")
        assert list(latencies) == [f'rxws_latency_seconds{{feed="timed",value="{value}"}}' for value in each]
        assert all(-1 < value < 5 for value in latencies.values())
