"""Filters that the type checkers must accept or refuse; checked by mypy and pyright, never run."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, assert_type

import reactivex as rx

import rxws


@dataclass
class Trade:
    symbol: str
    price: float


def is_large(trade: Trade) -> bool:
    """A function for a filter, not a lambda."""
    return trade.price > 1e6


async def is_large_later(trade: Trade) -> bool:
    """A coroutine function, which is not a filter because its result is always true."""
    return trade.price > 1e6


async def accepted(
    feed: rxws.ReactiveWebSocket[Trade],
    url: str,
    texts: list[dict[str, str]],
    paths: list[dict[tuple[str | int, ...], object]],
    read_only: Sequence[Mapping[str, int]],
    filters: rxws.Filters,
    with_gaps: bool,
) -> None:
    """Lists and tuples of dicts with names or paths as keys, functions of a message, and None are accepted."""
    feed.stream_filter()
    feed.stream_filter(None)
    feed.stream_filter([])
    feed.stream_filter([{"e": "trade", "s": "BTCUSDT"}, {"e": 1}])
    feed.stream_filter(({"e": "trade"}, {("data", 0, "s"): "BTCUSDT", "e": None}))
    feed.stream_filter(texts)
    feed.stream_filter(paths)
    feed.stream_filter(read_only)
    feed.stream_filter(filters)
    feed.stream_filter(is_large)
    assert_type(feed.stream_filter(filters=[{"e": "trade"}]), rxws.Stream[Trade])
    assert_type(feed.stream_filter(_filters=[{"e": "trade"}]), rxws.Stream[Trade])
    assert_type(feed.stream_filter(_filters=is_large, gaps=True), rxws.Stream[Trade | rxws.Gap])
    assert_type(feed.stream_filter(lambda trade: trade.price > 1), rxws.Stream[Trade])
    assert_type(feed.stream_filter([{"e": "trade"}], gaps=True), rxws.Stream[Trade | rxws.Gap])
    assert_type(feed.stream_filter(None, maxsize=None, overflow="drop_oldest", copy=True), rxws.Stream[Trade])
    assert_type(feed.stream_filter(gaps=with_gaps, maxsize=5), rxws.Stream[Trade | rxws.Gap])
    assert_type(feed.multiplex("+", "-", filters=None, timeout=1.0, combine=list), rxws.Stream[Trade])
    assert_type(feed.multiplex("+", filters=None, gaps=with_gaps, copy=True), rxws.Stream[Trade | rxws.Gap])
    feed.add_handler(print, [{"e": "trade"}])
    feed.add_handler(print, filters=is_large)
    feed.multiplex("+", filters=texts, acknowledged=[{"id": 1}], rejected=lambda message: "error" in message)
    await feed.request("?", [{"id": 7}])
    rxws.ReactiveWebSocket(url, per_connection=[{"ok": True}], rotate_on=[{"e": "expired"}])
    rxws.ReactiveWebSocket(url, per_connection=lambda message: "id" in message, rotate_on=rx.timer(1.0))


async def refused(feed: rxws.ReactiveWebSocket[Trade], url: str) -> None:
    """A dict without a list, text, a number, and functions that are asynchronous or return no bool are refused."""
    feed.stream_filter({"e": 1})  # type: ignore[call-overload]
    feed.stream_filter(42)  # type: ignore[call-overload]
    feed.stream_filter("e=trade")  # type: ignore[arg-type]
    feed.stream_filter(["e=trade"])  # type: ignore[list-item]
    feed.stream_filter(is_large_later)  # type: ignore[arg-type]
    feed.stream_filter([is_large])  # type: ignore[list-item]
    feed.add_handler(print, {"e": 1})  # type: ignore[arg-type]
    feed.stream_filter(None, overflow="drop")  # type: ignore[call-overload]
    feed.stream_filter(None, max_size=5)  # type: ignore[call-overload]
    feed.multiplex("+", filters=None, maxsize="5")  # type: ignore[call-overload]
    feed.multiplex("+", filters="e=trade")  # type: ignore[arg-type]
    feed.multiplex("+", filters=None, acknowledged={"id": 1})  # type: ignore[call-overload]
    feed.multiplex("+", filters=None, acknowledged=[], rejected=1)  # type: ignore[call-overload]
    await feed.request("?", 7)  # type: ignore[arg-type]
    rxws.ReactiveWebSocket(url, per_connection="ack")  # type: ignore[arg-type]
    rxws.ReactiveWebSocket(url, rotate_on={"e": "expired"})  # type: ignore[arg-type]
    rxws.ReactiveWebSocket(url, rotate_on=3600)  # type: ignore[arg-type]


def events(lost: rxws.Disconnected, gap: rxws.Gap, full: rxws.Overflowed) -> None:
    """``reason`` and ``overflow`` are literals, so a misspelled word is an error."""
    assert_type(full.overflow, Literal["error", "drop_oldest", "drop_newest"])
    assert_type(
        lost.reason,
        Literal["rotation", "server", "network", "idle", "handshake", "tls", "auth", "line", "user", "internal"],
    )
    if gap.reason == "recording":
        assert_type(gap.reason, Literal["recording"])
    else:
        same: list[Any] = [gap.reason == lost.reason]
        print(same)
    rxws.Gap(1.0, 2.0, "closed", None, name="feed", time=2.0)  # type: ignore[arg-type]
