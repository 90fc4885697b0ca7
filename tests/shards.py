"""Subscribes many channels on many connections under limits, kills some, and judges what the server saw.

::

    python -m tests.shards [--shards 50] [--channels 200] [--real] [--seed 0]

By default in virtual time; ``--real`` uses real sockets. The server notes the time of each handshake and each message,
refuses a connection with too many channels, and publishes numbered messages. Then some connections are cut, some shards
are emptied and filled again, and the command prints the memory per channel.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import random
import sys
import time
import tracemalloc
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import rxws
from rxws import Gap
from rxws.pytest_plugin import virtual_loop
from rxws.testing import FeedConnection, FeedServer
from tests.support.life import ScriptedWebsocket

__all__ = ["Result", "Venue", "most_in_window", "play", "subscribe"]

CONNECT_LIMIT = (25, 1.0)
"""Handshakes and seconds."""
SEND_LIMIT = (100, 1.0)
"""Messages of each connection and seconds."""


def most_in_window(times: Iterable[float], seconds: float) -> int:
    """Return the largest number of these times that lie within a number of seconds."""
    ordered = sorted(times)
    first = most = 0
    for last, at in enumerate(ordered):
        while at - ordered[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def subscribe(ws: rxws.AsyncWebsocketStreamInterface[Any], channel: str, **options: Any) -> rxws.Stream[Any]:
    """Subscribe a channel of a :class:`Venue`."""
    return ws.multiplex(
        {"sub": channel}, {"unsub": channel}, filters=[{"c": channel}], acknowledged=[{"ok": channel}], **options
    )


@dataclass(eq=False)
class Venue:
    """A server that publishes numbered messages in each subscribed channel.

    Attributes:
        limit: the largest number of channels on a connection; more are counted in ``refused``.
        handshakes: the times of the handshakes.
        sent: the times of the messages of each connection.
        channels: the channels on each open connection.
        subscribed: how often each channel was subscribed.
        crowded: the subscriptions that exceeded the limit.
        doubled: the subscriptions of channels that another open connection has.
    """

    limit: int
    handshakes: list[float] = field(default_factory=list)
    sent: dict[FeedConnection, list[float]] = field(default_factory=lambda: defaultdict(list))
    channels: dict[FeedConnection, set[str]] = field(default_factory=dict)
    subscribed: Counter[str] = field(default_factory=Counter)
    numbers: Counter[str] = field(default_factory=Counter)
    crowded: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)

    async def __call__(self, connection: FeedConnection) -> None:
        """Serve a connection."""
        clock = asyncio.get_running_loop().time
        self.handshakes.append(clock())
        mine = self.channels[connection] = set()
        try:
            async for raw in connection:
                self.sent[connection].append(clock())
                message = json.loads(raw)
                mine.discard(message.get("unsub"))
                if "sub" in message:
                    channel = message["sub"]
                    self.doubled += [channel for each in self.channels.values() if channel in each]
                    mine.add(channel)
                    self.crowded += [channel] * (len(mine) > self.limit)
                    self.subscribed[channel] += 1
                    connection.send_nowait({"ok": channel})
        finally:
            del self.channels[connection]

    def publish(self, channels: Iterable[str]) -> None:
        """Publish the next number of each channel."""
        for channel in channels:
            self.numbers[channel] += 1
            for connection, its in self.channels.items():
                if channel in its and connection.is_open:
                    connection.send_nowait({"c": channel, "n": self.numbers[channel]})


@dataclass
class Result:
    """What a run has shown.

    Attributes:
        subscribed: channels that were subscribed exactly once before the first cut.
        opened: seconds until the feed was live.
        connections: connections then.
        handshakes: the most handshakes within the seconds of the limit.
        messages: the most messages on one connection within the seconds of the limit.
        lost: messages that did not arrive and that no gap reports.
        twice: messages that arrived twice or late.
        gaps: reported gaps.
        untouched: streams that got a gap although their connection was not cut.
        after: connections after three of four channels were unsubscribed for over a minute; -1: not played.
        crowded: subscriptions that exceeded the limit of the server.
        doubled: subscriptions of a channel that another connection had.
    """

    subscribed: int = 0
    opened: float = 0.0
    connections: int = 0
    handshakes: int = 0
    messages: int = 0
    lost: int = 0
    twice: int = 0
    gaps: int = 0
    untouched: int = 0
    after: int = -1
    crowded: int = 0
    doubled: int = 0


@dataclass(eq=False)
class Consumer:
    """Judges the numbers of one channel."""

    newest: int = 0
    is_excused: bool = True
    lost: int = 0
    twice: int = 0
    gaps: int = 0

    def take(self, item: Any) -> None:
        """Judge an item."""
        if isinstance(item, Gap):
            self.gaps += 1
            self.is_excused = True
            return
        if item["n"] <= self.newest:
            self.twice += 1
        elif not self.is_excused:
            self.lost += item["n"] - self.newest - 1
        self.is_excused = False
        self.newest = max(self.newest, item["n"])


async def until(condition: Any, timeout: float = 120.0) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.05)


async def play(shards: int, channels: int, *, seed: int = 0, waits: bool = True) -> Result:
    """Subscribe ``shards`` times ``channels`` channels, cut some connections, and empty some shards.

    Args:
        shards: the number of connections that are needed.
        channels: the largest number of channels on each.
        seed: of the choices.
        waits: whether to wait for over a minute until empty connections are closed.
    """
    choose, result, venue = random.Random(seed), Result(), Venue(channels)
    names = [f"c{number}" for number in range(shards * channels)]
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with (
        FeedServer(venue) as server,
        rxws.ReactiveWebSocket(
            server.url, channels_per_connection=channels, connect_limit=CONNECT_LIMIT, send_limit=SEND_LIMIT
        ) as ws,
    ):
        consumers = {name: Consumer() for name in names}
        streams = {name: subscribe(ws, name, gaps=True) for name in names}
        for name, stream in streams.items():
            stream.subscribe(consumers[name].take)
        await ws.wait_connected()
        result.opened = round(loop.time() - began, 1)
        result.subscribed = sum(venue.subscribed[name] == 1 for name in names)
        result.connections = len(venue.channels)
        for _ in range(3):
            venue.publish(names)
            await until(lambda: all(consumers[name].newest == venue.numbers[name] for name in names))
        victims = choose.sample(list(venue.channels), min(5, shards))
        touched = {name for victim in victims for name in venue.channels[victim]}
        for victim in victims:
            victim.reset()
        await asyncio.sleep(0.5)
        await ws.wait_connected()
        venue.publish(names)
        await until(lambda: all(consumers[name].newest == venue.numbers[name] for name in names))
        result.untouched = sum(consumers[name].gaps for name in names if name not in touched)
        result.gaps = ws.statistics().gaps
        if waits:
            await _empty_and_fill(ws, venue, streams, result)
        for consumer in consumers.values():
            result.lost += consumer.lost
            result.twice += consumer.twice
    result.handshakes = most_in_window(venue.handshakes, CONNECT_LIMIT[1])
    result.messages = max(most_in_window(times, SEND_LIMIT[1]) for times in venue.sent.values())
    result.crowded, result.doubled = len(venue.crowded), len(venue.doubled)
    return result


async def _empty_and_fill(ws: Any, venue: Venue, streams: dict[str, Any], result: Result) -> None:
    """Unsubscribe three of four channels by whole shards, wait, and subscribe them again."""
    names = list(streams)
    gone = names[len(names) // 4 :]
    for name in gone:
        await streams[name].close()
    await asyncio.sleep(70)
    result.after = len(venue.channels)
    again = [subscribe(ws, name) for name in gone]
    await ws.wait_connected()
    venue.publish(names)
    await asyncio.sleep(1)
    result.lost += sum(stream.pending != 1 for stream in again)


def memory_per_channel(shards: int, channels: int) -> float:
    """Return the bytes of memory per idle channel with its stream, connections without a network included."""

    async def connect(_url: str) -> ScriptedWebsocket:
        websocket = ScriptedWebsocket()

        def acknowledge(message: str) -> None:
            websocket.come(json.dumps({"ok": json.loads(message)["sub"]}))

        websocket.on_send = acknowledge
        websocket.sent = _Nothing()
        return websocket

    async def run() -> float:
        async with rxws.ReactiveWebSocket("ws://x", connect=connect, channels_per_connection=channels) as ws:
            await ws.wait_connected()
            names = [f"c{number}" for number in range(shards * channels)]
            gc.collect()
            tracemalloc.start()
            streams = [subscribe(ws, name) for name in names]
            await ws.wait_connected()
            # Wait until filters that match nothing are reported.
            await asyncio.sleep(30)
            gc.collect()
            used, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert len(ws.statistics().shards) == shards
            assert all(shard.channels == channels for shard in ws.statistics().shards)
            return used / len(streams)

    # A log that keeps its lines would be measured, too.
    logging.disable(logging.CRITICAL)
    try:
        with asyncio.Runner(loop_factory=virtual_loop) as runner:
            return runner.run(run())
    finally:
        logging.disable(logging.NOTSET)


class _Nothing(list[Any]):
    """A list that stays empty."""

    def append(self, _item: Any) -> None:
        """Keep nothing."""


def main() -> bool:
    """Play, print the result, and return whether it is bad."""
    parser = argparse.ArgumentParser(prog="python -m tests.shards", description=__doc__)
    parser.add_argument("--shards", type=int, default=50)
    parser.add_argument("--channels", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--real", action="store_true", help="use real sockets, and do not wait for empty connections")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    began = time.perf_counter()
    with asyncio.Runner(loop_factory=None if options.real else virtual_loop) as runner:
        result = runner.run(play(options.shards, options.channels, seed=options.seed, waits=not options.real))
    print(f"{result} in {time.perf_counter() - began:.0f} s")
    used = memory_per_channel(options.shards, options.channels)
    print(f"{used:,.0f} bytes per channel")
    expected = Result(
        subscribed=options.shards * options.channels,
        opened=result.opened,
        connections=options.shards,
        handshakes=min(CONNECT_LIMIT[0], result.handshakes),
        # In real time this process reads late what it has sent in time, so the times at the server prove nothing.
        messages=result.messages if options.real else min(SEND_LIMIT[0], result.messages),
        gaps=min(5, options.shards),
        after=-1 if options.real else -(-options.shards // 4),
    )
    return result != expected or used > 4096


if __name__ == "__main__":
    sys.exit(main())
