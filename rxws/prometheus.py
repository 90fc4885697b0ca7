"""Metrics for Prometheus: the statistics of feeds, read when Prometheus asks. Needs the extra ``prometheus``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any, Final

from .interface import AsyncWebsocketStreamInterface, feed_of
from .reporting import Latency, State, Statistics, redact

try:
    from prometheus_client import Metric
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, StateSetMetricFamily
    from prometheus_client.registry import Collector
except ImportError as error:
    raise ImportError('rxws.prometheus needs the extra "prometheus": pip install "rxws[prometheus]"') from error

__all__ = ["FeedCollector"]

HELP: Final[Mapping[str, str]] = {
    "messages": "Messages delivered.",
    "bytes": "Bytes of the frames received, decompressed.",
    "opened": "Connections opened.",
    "rotations": "Planned rotations completed.",
    "reconnects": "Unplanned reconnections, by the reason why the previous connection was lost.",
    "gaps": "Gaps reported: times when messages may be missing.",
    "rejected": "Frames that could not be parsed.",
    "duplicates": "Copies dropped in rotations.",
    "discarded": "Messages that each connection has for itself, such as acknowledgements, dropped in rotations.",
    "failures": "Exceptions raised by handlers, subscribers, filters and hooks.",
    "unacknowledged": "Subscriptions that the server refused or did not answer in time.",
    "streams": "Streams that are open.",
    "pending": "Messages that wait in the buffers of streams and handlers.",
    "pending_bytes": "Size of the frames of these messages.",
    "dropped": "Messages dropped by full streams and handlers.",
    "last_message_age": "Seconds since the last message.",
    "complete_since": "The time since which no message is missing, in seconds since the epoch.",
    "latency": "Seconds from the sending of messages to their arrival, in the last minute.",
}
"""The help text of each statistic. A statistic that is not listed here has its name as the text."""

LINE_HELP: Final[Mapping[str, str]] = {
    "is_joined": "1 while the line has every delivered message.",
    "firsts": "Frames that arrived first on the line.",
    "lag": "Median of the seconds by which copies on the line lag.",
}
"""The help text of each statistic of a line."""

SHARD_HELP: Final[Mapping[str, str]] = {
    "channels": "Channels that the shard subscribes.",
    "last_message_age": "Seconds since the last message of the shard.",
}
"""The help text of each statistic of a shard."""

GAUGES: Final[Mapping[str, str]] = {
    "streams": "",
    "pending": "",
    "pending_bytes": "",
    "last_message_age": "_seconds",
    "complete_since": "_timestamp_seconds",
    "latency": "_seconds",
}
"""The statistics whose values may decrease, each with the unit in its metric's name. All others are counters."""

PARTS: Final = frozenset({"lines", "shards"})
"""The statistics that are tuples of the statistics of parts."""

LABELS: Final[Mapping[str, str]] = {"reconnects": "reason", "latency": "value"}
"""The second label of each statistic that is a mapping, or has several values."""


class FeedCollector(Collector):
    """Exports the statistics and the state of feeds as Prometheus metrics.

    Nothing runs per message: the collector reads :meth:`~rxws.AsyncWebsocketStreamInterface.statistics` when the
    registry collects, which may be in any thread. Each metric has the label ``feed``, the name of the feed without
    secrets. The metrics of a closed feed stay, with their last values, until the collector is unregistered.

    * Each number of :class:`~rxws.Statistics` is a counter, such as ``rxws_messages_total``, or a gauge:
      ``rxws_streams``, ``rxws_pending``, ``rxws_pending_bytes``, ``rxws_last_message_age_seconds`` (absent before the
      first message), ``rxws_complete_since_timestamp_seconds`` (absent while there is no connection).
    * ``rxws_reconnects_total`` has the label ``reason``.
    * ``rxws_latency_seconds`` has the label ``value``: ``newest``, ``lowest``, ``p50`` or ``p99``, as in
      :class:`~rxws.Latency`. Absent without the option ``sent_at``.
    * If the feed has several lines, ``rxws_line_is_joined``, ``rxws_line_firsts_total`` and ``rxws_line_lag_seconds``
      have the label ``line``, which is 1 for the first.
    * With ``channels_per_connection``, ``rxws_shard_channels`` and ``rxws_shard_last_message_age_seconds`` have the
      label ``shard``, which is 1 for the first.
    * ``rxws_live`` is 1 while a connection delivers, otherwise 0.
    * ``rxws_state`` is a state set: 1 for the current :class:`~rxws.State`, 0 for the others.

    The names follow the `naming of Prometheus <https://prometheus.io/docs/practices/naming/>`_.

    Args:
        *feeds: the feeds. Each needs its own name.

    Raises:
        TypeError: an argument is not a feed.
        ValueError: no feed is given, or two feeds have the same name.

    Example::

        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        registry.register(rxws.prometheus.FeedCollector(ws))
        print(generate_latest(registry).decode())
    """

    def __init__(self, *feeds: AsyncWebsocketStreamInterface[Any]) -> None:
        if not feeds:
            raise ValueError("FeedCollector needs at least one feed")
        self._feeds: dict[str, AsyncWebsocketStreamInterface[Any]] = {}
        for feed in feeds:
            if not isinstance(feed, AsyncWebsocketStreamInterface):
                raise TypeError(f"FeedCollector takes feeds, not an object of type {type(feed).__name__}")
            name = redact(feed_of(feed).reporter.name)
            if name in self._feeds:
                raise ValueError(f"two feeds have the name {name!r}: give each its own name=")
            self._feeds[name] = feed

    def describe(self) -> Iterator[Metric]:
        """Yield the metrics without values, so that a registry can detect two metrics of the same name."""
        yield from self._families().values()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of all feeds. May be called from any thread."""
        families = self._families()
        for name, feed in self._feeds.items():
            statistics, state = feed.statistics(), feed.state.value
            for field in fields(statistics):
                if field.name not in PARTS:
                    _add(families[field.name], name, getattr(statistics, field.name))
            for number, line in enumerate(statistics.lines, 1):
                for each in LINE_HELP:
                    if (value := getattr(line, each)) is not None:
                        families[f"line_{each}"].add_metric([name, str(number)], float(value))
            for number, shard in enumerate(statistics.shards, 1):
                for each in SHARD_HELP:
                    if (value := getattr(shard, each)) is not None:
                        families[f"shard_{each}"].add_metric([name, str(number)], float(value))
            families["live"].add_metric([name], float(state.is_live))
            families["state"].add_metric([name], {each.value: each is state for each in State})
        yield from families.values()

    def _families(self) -> dict[str, Any]:
        families: dict[str, Any] = {
            field.name: _family(field.name) for field in fields(Statistics) if field.name not in PARTS
        }
        labels = ["feed", "line"]
        families["line_is_joined"] = GaugeMetricFamily("rxws_line_is_joined", LINE_HELP["is_joined"], labels=labels)
        families["line_firsts"] = CounterMetricFamily("rxws_line_firsts", LINE_HELP["firsts"], labels=labels)
        families["line_lag"] = GaugeMetricFamily("rxws_line_lag_seconds", LINE_HELP["lag"], labels=labels)
        for name, help_text in SHARD_HELP.items():
            metric = f"rxws_shard_{name}{GAUGES.get(name, '')}"
            families[f"shard_{name}"] = GaugeMetricFamily(metric, help_text, labels=["feed", "shard"])
        families["live"] = GaugeMetricFamily("rxws_live", "1 while a connection delivers.", labels=["feed"])
        families["state"] = StateSetMetricFamily("rxws_state", "The state of the feed.", labels=["feed"])
        return families


def _family(statistic: str) -> Metric:
    labels = ["feed", *([LABELS[statistic]] if statistic in LABELS else [])]
    text = HELP.get(statistic, statistic)
    if statistic in GAUGES:
        return GaugeMetricFamily(f"rxws_{statistic}{GAUGES[statistic]}", text, labels=labels)
    return CounterMetricFamily(f"rxws_{statistic}", text, labels=labels)


def _add(family: Any, feed: str, value: Mapping[str, float] | Latency | float | None) -> None:
    if isinstance(value, Latency):
        value = asdict(value)
    if isinstance(value, Mapping):
        for key, count in value.items():
            family.add_metric([feed, key], count)
    elif value is not None:
        family.add_metric([feed], value)
