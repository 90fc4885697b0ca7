"""The rows of the table: two contenders and a target each."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from . import figures, latency, over_nats, uses
from .contenders import (
    Measure,
    ResumingFeed,
    Run,
    TypedFeed,
    bare,
    iterated,
    json_loads,
    lined,
    looped,
    msgspec_decode,
    on_picows,
    on_pushed,
    on_pushed_bounded,
    on_websockets,
    replaced,
    routed,
    second_line,
    subscribed,
    wanting_few,
    with_subject,
)

PAIRS = 5
"""How many times both contenders run, one after the other. The result is the median of the ratios."""

TIMEOUT = 900.0
"""Seconds that one measurement may take; without a limit it would wait for ever if the server ended."""


@dataclass(frozen=True)
class Result:
    """The result of a row.

    Attributes:
        value: the ratio, or the cost alone, that is compared with the target.
        spread: the lowest and the highest value.
        ours: the median cost of rxws.
        theirs: the median cost of the other contender; None without one.
    """

    value: float
    spread: tuple[float, float]
    ours: float
    theirs: float | None = None


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: the name for ``--only``.
        what: describes the measurement, in the first column of the table in tests/README.rst.
        against: describes the other contender, in the second column.
        target: the value that rxws must reach; None for a row without a target.
        ours: measures the cost of rxws.
        theirs: measures the cost of the other contender; None: the value of the row is the cost of rxws alone.
        cost_unit: the unit of both costs.
        at_most: True if a lower value is better: the value is ``ours / theirs``. False if a higher value is better: the
            value is ``theirs / ours``.
        rounds: how many times each contender is measured; None: the default.
        is_steady: whether repeated measurements differ little. Latency, the longest of many waits and resident memory
            differ much. For such a row, a comparison of two checkouts only checks whether each reaches the target, and
            checks nothing if the row is a ratio.
    """

    name: str
    what: str
    against: str
    target: float | None
    ours: Measure
    theirs: Measure | None = None
    cost_unit: str = "µs"
    at_most: bool = False
    rounds: int | None = None
    is_steady: bool = True

    @property
    def unit(self) -> str:
        """The unit of the value: "" for a ratio, otherwise the unit of the cost."""
        return "" if self.theirs is not None else f" {self.cost_unit}"

    def is_reached(self, value: float) -> bool:
        """Return whether a value reaches the target."""
        if self.target is None:
            return True
        return value <= self.target if self.at_most else value >= self.target

    def result(self, ours: Sequence[float], theirs: Sequence[float] = ()) -> Result:
        """Return the median of the ratios of each round, or of our costs if there is no other contender."""
        if self.theirs is None:
            return Result(statistics.median(ours), (min(ours), max(ours)), statistics.median(ours))
        pairs = zip(ours, theirs, strict=True)
        ratios = [our / their if self.at_most else their / our for our, their in pairs]
        return Result(
            statistics.median(ratios), (min(ratios), max(ratios)), statistics.median(ours), statistics.median(theirs)
        )

    async def measure(self, run: Run, pairs: int | None = None) -> Result:
        """Measure both contenders alternately, ``pairs`` times or (None) as often as the row says."""
        ours, theirs = [], []
        for _ in range(pairs or self.rounds or PAIRS):
            if self.theirs is not None:
                theirs.append(await asyncio.wait_for(self.theirs(run), TIMEOUT))
            ours.append(await asyncio.wait_for(self.ours(run), TIMEOUT))
        return self.result(ours, theirs)


# Contenders of several rows: a comparison of two checkouts measures each of them once.
OURS_ON_WEBSOCKETS = subscribed(on_websockets, 150_000)
OURS_ON_PICOWS = subscribed(on_pushed, 300_000)
BARE_ON_WEBSOCKETS = bare(on_websockets, msgspec_decode, 150_000)
BARE_ON_PICOWS = bare(on_picows, msgspec_decode, 500_000)
ONE_STREAM = routed(on_pushed, 300_000, 1)

ROWS = [
    Row(
        "websockets",
        "parse, index and one matching subscriber of 1,000 streams, on websockets",
        "bare ``async for`` + ``json.loads`` on websockets",
        1.4,
        OURS_ON_WEBSOCKETS,
        bare(on_websockets, json_loads, 150_000),
    ),
    Row(
        "websockets-msgspec",
        "the same",
        "the same bare loop with msgspec",
        None,
        OURS_ON_WEBSOCKETS,
        BARE_ON_WEBSOCKETS,
    ),
    Row(
        "picows",
        "the same on picows",
        "bare ``async for`` on picows with msgspec",
        0.65,
        OURS_ON_PICOWS,
        BARE_ON_PICOWS,
    ),
    Row(
        "iterated",
        "consumed by 1,000 ``async for`` tasks, on picows",
        "the same",
        0.38,
        iterated(on_pushed, 200_000),
        BARE_ON_PICOWS,
    ),
    Row(
        "loop",
        "one ``async for`` over everything, on picows",
        "the same",
        0.6,
        looped(on_pushed, 100_000),
        BARE_ON_PICOWS,
    ),
    Row(
        "loop-websockets",
        "one ``async for`` over everything, on websockets",
        "bare ``async for`` on websockets with msgspec",
        1.0,
        looped(on_websockets, 100_000),
        BARE_ON_WEBSOCKETS,
    ),
    Row(
        "few-trades",
        "1 % of the messages wanted, trades, on picows",
        "bare ``async for`` on picows with msgspec, which decodes all",
        1.1,
        wanting_few(on_pushed, 400_000),
        BARE_ON_PICOWS,
    ),
    Row(
        "few-depth",
        "1 % of the messages wanted, depth messages of 2 KB, on picows",
        "the same",
        2.5,
        wanting_few(on_pushed, 60_000, "depth"),
        bare(on_picows, msgspec_decode, 60_000, "depth"),
    ),
    Row("disjoint", "10,000 disjoint streams", "1 stream", 0.9, routed(on_pushed, 300_000, 10_000), ONE_STREAM),
    Row(
        "disjoint-100000", "100,000 disjoint streams", "1 stream", 0.9, routed(on_pushed, 300_000, 100_000), ONE_STREAM
    ),
    Row(
        "shared-pair",
        '1,000 streams of ``{"e": "trade", "s": …}``',
        'of ``{"s": …}``',
        None,
        subscribed(on_pushed, 300_000, shared={"e": "trade"}),
        OURS_ON_PICOWS,
    ),
    Row(
        "arrays",
        "1,000 streams of ``{1: …}``, where messages are arrays",
        'of ``{"s": …}``, where messages are objects',
        0.5,
        subscribed(on_pushed, 300_000, key=1, kind="array"),
        OURS_ON_PICOWS,
    ),
    Row(
        "structs",
        '1,000 streams of ``{"s": …}``, where messages are msgspec Structs',
        "the same where they are dicts",
        0.5,
        subscribed(on_pushed, 300_000, make=TypedFeed),
        OURS_ON_PICOWS,
    ),
    Row(
        "transports", "1,000 streams on picows", "the same feed on websockets", None, OURS_ON_PICOWS, OURS_ON_WEBSOCKETS
    ),
    Row(
        "picows-own",
        "1,000 streams on ``rxws.picows.connect``",
        "the same feed on ``picows.websockets.connect``",
        None,
        OURS_ON_PICOWS,
        subscribed(on_picows, 300_000),
    ),
    Row(
        "resume",
        "1,000 streams of a feed that keeps its messages to resume, on picows",
        "of a feed that does not",
        0.5,
        subscribed(on_pushed, 300_000, make=ResumingFeed),
        OURS_ON_PICOWS,
    ),
    Row(
        "sent-at",
        "1,000 streams of a feed that measures latency (``sent_at``), on picows",
        "of a feed that does not",
        0.95,
        subscribed(on_pushed, 300_000, make=uses.TimedFeed),
        OURS_ON_PICOWS,
    ),
    Row(
        "latest",
        "a ``LatestTable`` of 1,000 keys that expire, on picows",
        "a dict that a subscriber fills",
        0.5,
        uses.table(on_pushed, 300_000),
        uses.dict_of_latest(on_pushed, 300_000),
    ),
    Row(
        "batches",
        "one ``async for`` over ``batches`` of 500, on picows",
        "over single messages",
        1.0,
        uses.batched(on_pushed, 100_000),
        looped(on_pushed, 100_000),
    ),
    Row(
        "roll",
        "a feed that is recorded in files of 4 MiB, on picows",
        "in one compressed file",
        0.9,
        uses.recorded(on_pushed, 150_000, roll=uses.PART),
        uses.recorded(on_pushed, 150_000, roll=None),
    ),
    Row(
        "lines",
        "a second line with the same messages, on websockets",
        "a second feed",
        0.6,
        second_line(on_websockets, 50_000),
        lined(on_websockets, 50_000, 1),
        at_most=True,
    ),
    Row(
        "lines-picows",
        "the same on picows",
        "the same",
        None,
        second_line(on_picows, 50_000),
        lined(on_picows, 50_000, 1),
        at_most=True,
    ),
    Row(
        "fan-out",
        "fan-out of one message to 1,000 subscribers",
        "``reactivex.Subject``",
        1.9,
        figures.fan_out,
        figures.fan_out_of_subject,
        rounds=11,
    ),
    Row(
        "memory",
        "memory per idle filtered stream",
        "",
        1_600,
        figures.stream_memory,
        cost_unit="bytes",
        at_most=True,
        rounds=3,
    ),
    Row(
        "held-depth",
        "resident memory of 100,000 depth messages of 2 KB that wait in a stream",
        "",
        250.0,
        figures.held_depth(100_000),
        cost_unit="MB",
        at_most=True,
        rounds=1,
        is_steady=False,
    ),
    Row(
        "growth",
        "resident memory after 5,000,000 messages",
        "after the first 500,000",
        5.0,
        figures.memory_growth(on_websockets),
        cost_unit="MiB",
        at_most=True,
        rounds=1,
        is_steady=False,
    ),
    Row(
        "growth-picows",
        "the same on picows, with a receive buffer of 256 KiB",
        "the same",
        5.0,
        figures.memory_growth(on_pushed_bounded),
        cost_unit="MiB",
        at_most=True,
        rounds=1,
        is_steady=False,
    ),
    Row(
        "churn",
        "creating and closing a stream among 10,000",
        "among 10",
        2.0,
        figures.churn(10_000),
        figures.churn(10),
        at_most=True,
    ),
    Row(
        "book",
        "one level of a change in an ``OrderBook`` of floats with 1,000 levels",
        "plain dicts without order and checks",
        0.35,
        figures.order_book,
        figures.dict_book,
    ),
    Row(
        "book-best",
        "the same, and ``best`` after every ten levels",
        "plain dicts with ``max`` and ``min``",
        2.0,
        figures.best_of_order_book,
        figures.best_of_dict_book,
    ),
    Row(
        "fairness",
        "longest time that another task waits in a burst of 1,000,000 messages, on websockets",
        "",
        25.0,
        figures.longest_wait(on_websockets),
        cost_unit="ms",
        at_most=True,
        rounds=3,
        is_steady=False,
    ),
    Row(
        "fairness-picows",
        "the same on picows",
        "",
        25.0,
        figures.longest_wait(on_pushed),
        cost_unit="ms",
        at_most=True,
        rounds=3,
        is_steady=False,
    ),
    *(
        Row(
            f"latency-{transport}{rate}{'' if digits == '50' else f'-{digits}'}",
            f"time from the bytes' arrival to a handler at {rate:,} messages/s on {library}, {words}",
            f"to the body of the bare loop on {library}",
            None,
            latency.of_handler(ours, rate, float(f"0.{digits}")),
            latency.of_bare_loop(theirs, rate, float(f"0.{digits}")),
            at_most=True,
            is_steady=False,
        )
        for transport, library, ours, theirs in (
            ("", "websockets", on_websockets, on_websockets),
            ("picows-", "picows", on_pushed, on_picows),
        )
        for rate in (1_000, 50_000)
        for digits, words in (("50", "median"), ("99", "99th percentile"), ("999", "99.9th percentile"))
    ),
    Row(
        "subject",
        "1,000 streams on websockets",
        "a ``Subject`` with ``ops.filter`` per stream",
        1.0,
        OURS_ON_WEBSOCKETS,
        with_subject(on_websockets, 5_000),
        rounds=3,
    ),
    Row(
        "replaced",
        "1,000 streams on websockets",
        "AsyncWebsocketStreamInterface 1.0.5 (its code on today's websockets)",
        1.0,
        OURS_ON_WEBSOCKETS,
        replaced(500),
        rounds=3,
    ),
    Row(
        "nats-relay",
        "processor time per message of a feed and its relay to NATS JetStream",
        "",
        18.0,
        over_nats.relayed(on_websockets, 60_000),
        at_most=True,
        rounds=3,
    ),
    Row(
        "nats-relay-picows",
        "the same on picows",
        "",
        15.0,
        over_nats.relayed(on_pushed, 60_000),
        at_most=True,
        rounds=3,
    ),
    Row(
        "nats-feed",
        "processor time per message of a ``NatsFeed`` with one handler",
        "",
        12.0,
        over_nats.read(100_000),
        at_most=True,
        rounds=3,
    ),
    Row(
        "nats-feed-id",
        "the same where messages have one header",
        "",
        10.0,
        over_nats.read(100_000, headers=False),
        at_most=True,
        rounds=3,
    ),
    Row(
        "nats-feed-pattern",
        "the same with a filter that all messages pass, so with one pattern",
        "",
        None,
        over_nats.read(50_000, filters=[{"e": "trade"}]),
        at_most=True,
        rounds=3,
    ),
    Row(
        "nats-latency",
        "time that relay, broker and ``NatsFeed`` add at 1,000 messages/s, median",
        "",
        1.0,
        over_nats.added_latency(0.5),
        cost_unit="ms",
        at_most=True,
        rounds=1,
        is_steady=False,
    ),
    Row(
        "nats-latency-99",
        "the same, 99th percentile",
        "",
        10.0,
        over_nats.added_latency(0.99),
        cost_unit="ms",
        at_most=True,
        rounds=1,
        is_steady=False,
    ),
    Row(
        "nats-held",
        "memory of 100,000 messages that a relay holds",
        "",
        60.0,
        over_nats.held_memory,
        cost_unit="MiB",
        at_most=True,
        rounds=1,
        is_steady=False,
    ),
]
