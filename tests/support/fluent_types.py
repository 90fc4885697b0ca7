"""Types that the type checkers must infer; checked by tests/test_types.py, never run."""

from __future__ import annotations

import asyncio
import json
from asyncio import Future
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, assert_type

import msgspec
import reactivex as rx
import websockets
from reactivex import GroupedObservable, Notification, Observable
from reactivex import operators as ops
from reactivex.operators._timestamp import Timestamp
from reactivex.subject import Subject

import rxws
from rxws import operators as rxops
from rxws.observables.observable import AsyncConnectableObservable, AsyncObservable
from rxws.recording.recorder import Recording


@dataclass
class Trade:
    symbol: str
    price: float


def price_of(trade: Trade) -> float:
    """A function for an operator, not a lambda."""
    return trade.price


def untyped(messages: AsyncObservable[Any]) -> None:
    """Messages are Any, as ``json.loads`` returns them, so a lambda may do anything with a message."""
    prices = messages.pipe(
        ops.filter(lambda message: message["e"] == "trade"),
        ops.map(lambda message: float(message["p"])),
        ops.filter(lambda price: price > 0),
    )
    assert_type(prices, AsyncObservable[float])
    assert_type(messages.map(lambda message: float(message["p"])), AsyncObservable[float])
    assert_type(messages.pipe(ops.buffer_with_time(1.0)), AsyncObservable[list[Any]])


def fluent(trades: AsyncObservable[Trade], other: Observable[int]) -> None:
    """Fluent operators keep the type of the items, and can be chained."""
    assert_type(trades.filter(lambda trade: trade.price > 1).take(3), AsyncObservable[Trade])
    assert_type(trades.map(lambda trade: trade.price).scan(lambda a, b: a + b), AsyncObservable[float])
    assert_type(trades.buffer_with_time(1.0).map(len), AsyncObservable[int])
    assert_type(trades.distinct_until_changed(lambda trade: trade.symbol), AsyncObservable[Trade])
    assert_type(trades.debounce(0.1).delay(1.0).sample(1.0).throttle_first(1.0), AsyncObservable[Trade])
    assert_type(trades.flat_map(lambda trade: rx.of(trade.symbol)), AsyncObservable[str])
    assert_type(trades.switch_map(lambda trade: rx.timer(1.0)), AsyncObservable[int])
    assert_type(trades.combine_latest(other), AsyncObservable[tuple[Trade, int]])
    assert_type(trades.with_latest_from(other, other), AsyncObservable[tuple[Any, ...]])
    assert_type(trades.merge(trades).share(), AsyncObservable[Trade])
    assert_type(trades.start_with(None), AsyncObservable[Trade | None])
    assert_type(trades.timestamp(), AsyncObservable[Timestamp[Trade]])
    assert_type(trades.materialize(), AsyncObservable[Notification[Trade]])
    assert_type(trades.group_by(lambda trade: trade.symbol), AsyncObservable[GroupedObservable[str, Trade]])
    assert_type(trades.window_with_time(1.0), AsyncObservable[Observable[Trade]])
    assert_type(trades.partition(lambda trade: trade.price > 1), list[AsyncObservable[Trade]])
    assert_type(trades.take_until_with_time(1.0).to_future(), Future[Trade])
    assert_type(trades[1:3], AsyncObservable[Trade])
    assert_type(trades + other, AsyncObservable[Trade | int])


def connectable(trades: AsyncObservable[Trade]) -> None:
    """A connectable Observable keeps its own members, and has those of an AsyncObservable."""
    assert_type(trades.publish(), AsyncConnectableObservable[Trade])
    assert_type(trades.replay(3), AsyncConnectableObservable[Trade])
    assert_type(trades.multicast(Subject[Trade]()), AsyncConnectableObservable[Trade])
    assert_type(trades.publish().ref_count(), AsyncObservable[Trade])
    assert_type(trades.publish().auto_connect(), AsyncObservable[Trade])
    assert_type(trades.publish(lambda shared: shared.map(lambda trade: trade.price)), AsyncObservable[float])
    assert_type(trades.publish().pipe(ops.map(lambda trade: trade.price)), AsyncObservable[float])
    trades.publish().connect()


def piped(trades: AsyncObservable[Trade]) -> None:
    """A pipe may have any number of operators, and returns an AsyncObservable."""
    assert_type(trades.pipe(ops.map(lambda trade: trade.price)), AsyncObservable[float])
    assert_type(trades.pipe(ops.map(lambda trade: trade.price), ops.pairwise()), AsyncObservable[tuple[float, float]])
    assert_type(trades.pipe(ops.filter(lambda trade: trade.price > 1), ops.share()), AsyncObservable[Trade])
    assert_type(
        trades.pipe(
            ops.skip(1),
            ops.take(9),
            ops.delay(1.0),
            ops.debounce(1.0),
            ops.distinct(),
            ops.map(price_of),
            ops.sample(1.0),
            ops.throttle_first(1.0),
            ops.buffer_with_count(2),
        ),
        AsyncObservable[list[float]],
    )
    assert_type(
        trades.group_by(lambda trade: trade.symbol).flat_map(lambda group: group.map(price_of).debounce(1.0)),
        AsyncObservable[float],
    )
    # In a lambda after the first operator an item is Any for mypy; pyright infers its type.
    trades.pipe(ops.timestamp(), ops.map(lambda stamped: stamped.value.price)).subscribe(print)


async def awaited(trades: AsyncObservable[Trade]) -> None:
    """``await`` returns the last item; ``async for`` gives each item."""
    assert_type(await trades.take(1), Trade)
    async for prices in trades.map(lambda trade: trade.price).buffer_with_time(1.0):
        assert_type(prices, list[float])


async def consumed(ws: rxws.ReactiveWebSocket[Trade], raw: rxws.ReactiveWebSocket[Any]) -> None:
    """The type of a feed's messages is also the type of its streams' items, collected items and replies."""
    stream = ws.stream_filter(lambda message: message.price > 1)
    assert_type(stream, rxws.Stream[Trade])
    assert_type(ws.messages, AsyncObservable[Trade])
    assert_type(await stream.collect(10), list[Trade])
    assert_type(await anext(stream), Trade)
    assert_type(await ws.messages.map(lambda trade: trade.price).collect(seconds=1.0), list[float])
    assert_type(await ws.request("?", lambda message: True), Trade)
    assert_type(ws.multiplex("+", filters=None), rxws.Stream[Trade])
    assert_type(ws.multiplex("+", filters=None, gaps=True), rxws.Stream[Trade | rxws.Gap])
    assert_type(ws.state, rxws.CurrentObservable[rxws.State])
    assert_type(rxops.to_async_iterator(9)(ws.messages.pipe(ops.map(price_of))), rxws.Stream[float])
    async for trade in stream:
        assert_type(trade, Trade)
    async for trades in stream.batches():
        assert_type(trades, list[Trade])
    assert_type(raw.messages.pipe(rxops.as_type(Trade)), AsyncObservable[Trade])
    assert_type(await raw.stream_filter([{"e": "trade"}]).pipe(rxops.as_type(Trade)).collect(1), list[Trade])


async def resynced(changes: rxws.Stream[Trade], fetch: Callable[[], Awaitable[list[float]]]) -> None:
    """An item is a fetched snapshot or a change."""
    book = changes.resync(fetch, sequence=("U", "u"), snapshot_sequence=len)
    assert_type(book, rxws.Resynced[Trade, list[float]])
    async for item in book:
        if isinstance(item, rxws.Snapshot):
            assert_type(item.data, list[float])
        else:
            assert_type(item, Trade)


async def backfilled(trades: rxws.Stream[Trade], fetch: Callable[..., Awaitable[list[Trade]]]) -> None:
    """An item is a message or a Gap; the history may also be an async generator of pages."""

    async def pages(key: str, after: int | None, before: int | None) -> AsyncIterator[list[Trade]]:
        yield await fetch(key, after, before)

    assert_type(trades.backfill(fetch, sequence="n"), rxws.Backfilled[Trade])
    async for item in trades.backfill(pages, sequence="n", key="s"):
        assert_type(item, Trade | rxws.Gap)


def edges(feed: rxws.ReactiveWebSocket[dict[str, Any]]) -> None:
    """Modules that are loaded on use have types, and a misspelled name is an error."""
    rxws.replay("feed.jsonl", sped=3)  # type: ignore[call-overload]  # pyright: ignore
    rxws.ReactiveWebSockt("ws://localhost")  # type: ignore[attr-defined]  # pyright: ignore
    assert_type(rxws.record(feed, "feed.jsonl"), Recording)
    replayed = rxws.replay("feed.jsonl")
    assert_type(replayed.stream_filter(), rxws.Stream[Any])


async def feeds(url: str) -> None:
    """The decoder defines the type of a feed's messages; otherwise they are Any."""
    async with rxws.ReactiveWebSocket(url) as ws:
        assert_type(ws.stream_filter([{"e": "trade"}]), rxws.Stream[Any])
    typed = rxws.ReactiveWebSocket(url, decode=msgspec.json.Decoder(Trade).decode)
    assert_type(await anext(typed.stream_filter()), Trade)
    assert_type(typed.stream_filter(gaps=True), rxws.Stream[Trade | rxws.Gap])


class Untyped(rxws.AsyncWebsocketStreamInterface):
    """A subclass without types, as in the original package."""

    async def _create_ws(self) -> Any:
        return await websockets.connect("ws://127.0.0.1:9")

    async def _when2create_new_ws(self) -> None:
        await asyncio.sleep(60)

    async def _parse_raw_data(self, raw_data: Any) -> Any:
        return json.loads(raw_data)
