"""Operators for feeds: the emitted items, their times, and the reports of messages that an operator cannot read."""

from __future__ import annotations

import asyncio
import doctest
import gc
import importlib
import pkgutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, NamedTuple, TypedDict

import msgspec
import pytest
import reactivex as rx
from reactivex import Observable
from reactivex import operators as ops
from reactivex.subject import Subject
from reactivex.testing import ReactiveTest, TestScheduler
from reactivex.testing.recorded import Recorded

import rxws
from rxws import CallbackFailed
from rxws import operators as rxops
from rxws.observables.hot import HotObservable
from rxws.operators import sources
from rxws.testing import FeedServer

from ..support.wiring import Wiring, settle

on_next, on_error, on_completed = ReactiveTest.on_next, ReactiveTest.on_error, ReactiveTest.on_completed

TIMELESS: dict[str, Callable[[], Callable[[Observable[Any]], Observable[Any]]]] = {
    "as_type": lambda: rxops.as_type(dict),
    "conflate": lambda: rxops.conflate("s"),
    "detect_gaps": lambda: rxops.detect_gaps("n"),
    "stale_after": lambda: rxops.stale_after(5.0, "s"),
    "windows": lambda: rxops.windows(10, time="T", unit="s", timeout=1.0),
}
"""All operators that return an Observable, each with simple arguments."""


class Quote(msgspec.Struct):
    s: str
    p: float


def quote(symbol: str, price: float) -> dict[str, Any]:
    """Return a message as an exchange sends it."""
    return {"s": symbol, "p": price}


def collect(observable: Observable[Any]) -> list[Any]:
    """Return the items that an Observable emits while it is subscribed, and "end" or its error."""
    seen: list[Any] = []
    observable.subscribe(seen.append, seen.append, lambda: seen.append("end"))
    return seen


def marbles(
    operator: Callable[[Observable[Any]], Observable[Any]], *records: Recorded[Any], disposed: float = 1000.0
) -> list[Recorded[Any]]:
    """Return what an operator emits for recorded messages. The subscription starts at time 200."""
    scheduler = TestScheduler()
    source = scheduler.create_hot_observable(*records)
    observer = scheduler.start(lambda: source.pipe(operator), disposed=disposed)
    return observer.messages


async def turn() -> None:
    """Let the event loop run once, with the timers that are due."""
    await asyncio.sleep(0.001)


@pytest.fixture
async def wiring(virtual_time: asyncio.AbstractEventLoop) -> Wiring:
    """Return the internals of a feed, in virtual time."""
    return Wiring()


def source_of(wiring: Wiring) -> HotObservable[Any]:
    """Return the messages of a feed: a hot Observable that knows its feed."""
    return wiring.router.messages


# Examples and types


MODULES = [module.name for module in pkgutil.iter_modules(rxops.__path__, "rxws.operators.")]


@pytest.mark.parametrize("name", [name for name in rxops.__all__ if name.islower()])
def test_example_when_run(name: str) -> None:
    """The example in each operator's docstring prints the output that it shows."""
    function = getattr(rxops, name)
    namespace = vars(importlib.import_module(function.__module__)).copy()
    (example,) = doctest.DocTestFinder(recurse=False).find(function, name, globs=namespace)
    assert example.examples
    assert doctest.DocTestRunner().run(example).failed == 0


def test_all_when_compared_with_the_modules() -> None:
    """The package exports the public names of its modules, each with a docstring."""
    assert rxops.__all__ == sorted(rxops.__all__)
    assert all(getattr(rxops, name).__doc__ for name in rxops.__all__)
    for name in MODULES:
        module = importlib.import_module(name)
        assert all(hasattr(module, each) for each in module.__all__)


# Common rules


@pytest.mark.parametrize("name", TIMELESS)
def test_operator_when_the_source_ends(name: str) -> None:
    """The result of an operator ends when its source ends, and fails with the error of its source."""
    error = ValueError("broken")
    assert marbles(TIMELESS[name](), on_completed(300))[-1] == on_completed(300)
    assert marbles(TIMELESS[name](), on_error(300, error))[-1] == on_error(300, error)


@pytest.mark.parametrize("name", TIMELESS)
def test_operator_when_disposed(name: str) -> None:
    """After a subscription is disposed, the source is unsubscribed and nothing more is emitted."""
    scheduler = TestScheduler()
    source = scheduler.create_hot_observable(on_next(210, {"s": "BTC", "n": 1, "T": 3}))
    scheduler.start(lambda: source.pipe(TIMELESS[name]()), disposed=210.5)
    assert [(each.subscribe, each.unsubscribe) for each in source.subscriptions] == [(200, 210.5)]


@pytest.mark.parametrize("name", TIMELESS)
async def test_operator_when_piped_on_a_loop(name: str, wiring: Wiring, assert_no_leaks: None) -> None:
    """On an event loop an operator returns an AsyncObservable, and disposing its subscription leaves no timer."""
    result = source_of(wiring).pipe(TIMELESS[name]())
    assert isinstance(result, rxws.AsyncObservable)
    subscription = result.subscribe(print)
    source_of(wiring).on_next({"T": 1, "s": "BTC", "n": 1})
    subscription.dispose()
    assert not source_of(wiring).observed


@pytest.mark.parametrize("name", ["conflate", "stale_after", "windows"])
def test_waiting_operator_when_there_is_no_clock(name: str) -> None:
    """Outside an event loop, an operator that needs a timer raises an error that asks for a scheduler."""
    (error,) = collect(rx.never().pipe(TIMELESS[name]()))
    assert isinstance(error, RuntimeError)
    assert "scheduler" in str(error)


@pytest.mark.parametrize("name", ["conflate", "stale_after", "windows"])
async def test_waiting_operator_when_nested(name: str, wiring: Wiring) -> None:
    """An operator that waits uses the loop's clock, even in a flat_map and on a plain Observable."""
    nested = collect(
        source_of(wiring).pipe(ops.flat_map(lambda _: rx.never().pipe(ops.start_with(TICK), TIMELESS[name]())))
    )
    plain = collect(rx.never().pipe(ops.start_with(TICK), TIMELESS[name]()))
    source_of(wiring).on_next("go")
    await asyncio.sleep(20.0)
    assert len(nested) == len(plain) == 1


TICK = {"s": "BTC", "T": 3}


class Unreadable(NamedTuple):
    """A message that an operator cannot read."""

    operator: Callable[[Observable[Any]], Observable[Any]]
    message: Any
    error: type[Exception]


def attribute(message: Any) -> Any:
    """Read an attribute that dicts do not have."""
    return message.symbol


UNREADABLE = {
    "no key": Unreadable(rxops.conflate("s"), {"result": None}, LookupError),
    "no path": Unreadable(rxops.conflate(("a", "s")), {"a": 1}, LookupError),
    "no mapping": Unreadable(rxops.conflate("s"), b"raw", LookupError),
    "a list for a key": Unreadable(rxops.conflate("s"), {"s": []}, TypeError),
    "a function that raises": Unreadable(rxops.conflate(attribute), {}, AttributeError),
    "no such type": Unreadable(rxops.as_type(Quote), {"s": "BTC", "p": "1"}, msgspec.ValidationError),
    "no key to watch": Unreadable(rxops.stale_after(9e4, "s"), {}, LookupError),
    "no time": Unreadable(rxops.windows(1, time="T"), {}, LookupError),
    "no key of a window": Unreadable(rxops.windows(1, time="T", key="s"), {"T": 1}, LookupError),
    "a time that is None": Unreadable(rxops.windows(1, time="T"), {"T": None}, TypeError),
    "a time that is a bool": Unreadable(rxops.windows(1, time="T"), {"T": True}, TypeError),
    "a time that is not finite": Unreadable(rxops.windows(1, time="T"), {"T": float("nan")}, ValueError),
    "a time in letters": Unreadable(rxops.windows(1, time="T"), {"T": "noon"}, ValueError),
    "a time of the wrong unit": Unreadable(rxops.windows(1, time="T", unit="s"), {"T": 1.7e12}, ValueError),
}


@pytest.mark.parametrize("case", UNREADABLE)
async def test_message_when_unreadable(case: str, wiring: Wiring, caplog: pytest.LogCaptureFixture) -> None:
    """If an operator cannot read a message, it leaves it out, and counts, logs and emits that; the feed continues."""
    operator, message, error = UNREADABLE[case]
    seen = collect(source_of(wiring).pipe(operator))
    source_of(wiring).on_next(message)
    await turn()
    assert seen == []
    (event,) = wiring.seen
    assert isinstance(event, rxws.MessageRejected)
    assert isinstance(event.error, error)
    assert (event.count, wiring.reporter.counters.rejected) == (1, 1)
    (line,) = caplog.messages
    assert "left a message out" in line


async def test_rejected_message_when_shown(wiring: Wiring) -> None:
    """The event holds text and bytes unchanged, and other messages as JSON or, if JSON fails, as their repr."""

    class Thing:
        def __repr__(self) -> str:
            return "<thing>"

    collect(source_of(wiring).pipe(rxops.conflate("s")))
    circle: list[Any] = []
    circle.append(circle)
    for message in ("text", b"bytes", {"a": [1, Thing()]}, circle):
        source_of(wiring).on_next(message)
    assert [event.raw for event in wiring.seen] == ["text", b"bytes", '{"a":[1,"<thing>"]}', "[[...]]"]


def test_rejected_message_when_no_feed_is_known(caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    """Without a feed, rejections are logged at most once a second, with the number of omitted lines."""
    now = 100.0
    monkeypatch.setattr(sources.time, "monotonic", lambda: now)
    messages: Subject[Any] = Subject()
    collect(messages.pipe(rxops.as_type(Quote)))
    for _ in range(3):
        messages.on_next({})
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("as_type(Quote) left a message out: ValidationError")
    now += 1.0
    messages.on_next({})
    messages.on_next({})
    now += 1.0
    messages.on_next({})
    assert [line[-18:] for line in caplog.messages[1:]] == ["(2 more like this)", "(1 more like this)"]


@pytest.mark.usefixtures("virtual_time")
async def test_rejected_message_when_on_a_feed(feed_server: FeedServer) -> None:
    """A message that is rejected on a feed is an event of the feed and counts in its statistics."""
    async with rxws.ReactiveWebSocket(feed_server.url, name="quotes") as ws:
        rejected: list[Any] = []
        ws.events.pipe(ops.filter(lambda event: isinstance(event, rxws.MessageRejected))).subscribe(rejected.append)
        quotes = aiter(ws.messages.pipe(rxops.as_type(Quote)))
        await feed_server.connected()
        await feed_server.send({"id": 1})
        await feed_server.send(quote("BTC", 2.0))
        assert await anext(quotes) == Quote("BTC", 2.0)
        assert [(event.name, event.raw) for event in rejected] == [("quotes", '{"id":1}')]
        assert ws.statistics().rejected == 1


async def coroutine_function(_: Any) -> None:
    """A coroutine function, where a plain function is required."""


WRONG: dict[str, tuple[type[Exception], str, Callable[[], Any]]] = {
    "coroutine key": (TypeError, "plain function", lambda: rxops.conflate(coroutine_function)),
    "coroutine time": (TypeError, "time must", lambda: rxops.windows(1, time=coroutine_function)),
    "list for a path": (TypeError, "tuple of keys", lambda: rxops.conflate(["data", "s"])),  # type: ignore[arg-type]
    "empty path": (ValueError, "sequence", lambda: rxops.detect_gaps(())),
    "negative every": (ValueError, "every", lambda: rxops.conflate(every=-1.0)),
    "endless every": (ValueError, "every", lambda: rxops.conflate(every=float("inf"))),
    "every as text": (TypeError, "every", lambda: rxops.conflate(every="1")),  # type: ignore[arg-type]
    "every as bool": (TypeError, "every", lambda: rxops.conflate(every=True)),
    "silence of 0": (ValueError, "seconds", lambda: rxops.stale_after(0)),
    "one key as text": (TypeError, "collection", lambda: rxops.stale_after(1, "s", expected="BTC")),
    "expected without key": (TypeError, "expected", lambda: rxops.stale_after(1, expected=["BTC"])),
    "window of 0": (ValueError, "seconds", lambda: rxops.windows(0, time="T")),
    "window of NaN": (ValueError, "seconds", lambda: rxops.windows(float("nan"), time="T")),
    "negative lateness": (ValueError, "lateness", lambda: rxops.windows(1, time="T", allowed_lateness=-1)),
    "negative timeout": (ValueError, "timeout", lambda: rxops.windows(1, time="T", timeout=-1)),
    "unknown unit": (ValueError, "unit", lambda: rxops.windows(1, time="T", unit="m")),  # type: ignore[arg-type]
    "unknown type": (TypeError, "not supported", lambda: rxops.as_type(3)),
    "reordering as text": (TypeError, "reordering", lambda: rxops.detect_gaps("n", reordering="1")),  # type: ignore[arg-type]
    "reordering as bool": (TypeError, "reordering", lambda: rxops.detect_gaps("n", reordering=True)),
    "negative reordering": (ValueError, "reordering", lambda: rxops.detect_gaps("n", reordering=-1)),
    "maxsize of 0": (ValueError, "maxsize", lambda: rxops.to_async_iterator(maxsize=0)),
    "unknown overflow": (ValueError, "overflow", lambda: rxops.to_async_iterator(overflow="drop")),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", WRONG)
def test_argument_when_wrong(case: str) -> None:
    """A wrong argument is refused when the operator is made. The error names the argument."""
    error, words, make = WRONG[case]
    with pytest.raises(error, match=words):
        make()


# conflate


async def test_conflate_when_pulled_slowly(wiring: Wiring) -> None:
    """An async for gets the newest message of each key with the number of messages it replaced, longest wait first."""
    messages = source_of(wiring)
    newest = aiter(messages.pipe(rxops.conflate("s")))
    for symbol, price in ("BTC", 1), ("ETH", 2), ("BTC", 3), ("BTC", 4):
        messages.on_next(quote(symbol, price))
    assert await anext(newest) == rxops.Conflated(quote("BTC", 4), merged=2)
    messages.on_next(quote("BTC", 5))
    assert await anext(newest) == rxops.Conflated(quote("ETH", 2), merged=0)
    assert await anext(newest) == rxops.Conflated(quote("BTC", 5), merged=0)


async def test_conflate_when_the_body_waits(wiring: Wiring) -> None:
    """A consumer that needs a second per message gets one message per second, and at the end the newest one."""
    result: list[tuple[int, int]] = []

    async def consume() -> None:
        async for conflated in source_of(wiring).pipe(rxops.conflate()):
            result.append((conflated.message, conflated.merged))
            await asyncio.sleep(1.0)

    consumer = asyncio.create_task(consume())
    for number in range(30):
        await asyncio.sleep(0.1)
        source_of(wiring).on_next(number)
    source_of(wiring).end()
    await consumer
    assert [number for number, _ in result][-1] == 29
    assert len(result) == 4
    assert sum(1 + merged for _, merged in result) == 30


async def test_conflate_when_the_feed_waits(wiring: Wiring) -> None:
    """A consumer that is faster than the feed gets every message."""
    newest = aiter(source_of(wiring).pipe(rxops.conflate("s")))
    for price in range(3):
        waiting = asyncio.ensure_future(anext(newest))
        await turn()
        source_of(wiring).on_next(quote("BTC", price))
        assert await waiting == rxops.Conflated(quote("BTC", price), merged=0)


async def test_conflate_when_a_pull_is_cancelled(wiring: Wiring) -> None:
    """A cancelled anext loses no message."""
    newest = aiter(source_of(wiring).pipe(rxops.conflate()))
    waiting = asyncio.ensure_future(anext(newest))
    await turn()
    source_of(wiring).on_next(1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await anext(newest) == rxops.Conflated(1, merged=0)


async def test_conflate_when_pulled_to_the_end(wiring: Wiring) -> None:
    """When the source ends, held messages are delivered; then the iteration ends, or raises the source's error."""
    newest = aiter(source_of(wiring).pipe(rxops.conflate("s")))
    source_of(wiring).on_next(quote("BTC", 1))
    source_of(wiring).end(ValueError("broken"))
    assert (await anext(newest)).message == quote("BTC", 1)
    with pytest.raises(ValueError, match="broken"):
        await anext(newest)


async def test_conflate_when_the_iterator_is_dropped_or_closed(wiring: Wiring) -> None:
    """The subscription ends when the iterator is garbage-collected, and when it is closed."""
    observable = source_of(wiring).pipe(rxops.conflate())
    newest: Any = aiter(observable)
    assert source_of(wiring).observed
    del newest
    gc.collect()
    await settle()
    assert not source_of(wiring).observed
    newest = aiter(observable)
    source_of(wiring).on_next(1)
    await newest.aclose()
    assert not source_of(wiring).observed
    with pytest.raises(StopAsyncIteration):
        await anext(newest)


async def test_conflate_when_each_consumer_pulls(wiring: Wiring) -> None:
    """Each async for gets messages at its own pace."""
    observable = source_of(wiring).pipe(rxops.conflate())
    first, second = aiter(observable), aiter(observable)
    source_of(wiring).on_next(1)
    assert (await anext(first)).message == 1
    source_of(wiring).on_next(2)
    assert await anext(first) == rxops.Conflated(2, merged=0)
    assert await anext(second) == rxops.Conflated(2, merged=1)


async def test_conflate_when_pulled_elsewhere(wiring: Wiring) -> None:
    """An iterator that is made in another thread raises RuntimeError."""
    observable = source_of(wiring).pipe(rxops.conflate())
    with pytest.raises(RuntimeError, match="event loop"):
        await asyncio.to_thread(aiter, observable)


async def test_conflate_when_subscribed(wiring: Wiring) -> None:
    """A subscriber gets each key once per loop iteration, so bursts are merged and single messages are not."""
    seen = collect(source_of(wiring).pipe(rxops.conflate("s")))
    for symbol, price in ("BTC", 1), ("ETH", 2), ("BTC", 3):
        source_of(wiring).on_next(quote(symbol, price))
    assert seen == []
    await turn()
    assert seen == [rxops.Conflated(quote("BTC", 3), 1), rxops.Conflated(quote("ETH", 2), 0)]
    source_of(wiring).on_next(quote("BTC", 4))
    await turn()
    assert seen[2:] == [rxops.Conflated(quote("BTC", 4), 0)]


def test_conflate_when_rounds_are_spaced() -> None:
    """With ``every`` the first message passes at once, and later rounds are that many seconds apart."""
    records = [on_next(time, number) for number, time in enumerate((300, 310, 320, 405, 600))]
    assert marbles(rxops.conflate(every=100.0), *records) == [
        on_next(300, rxops.Conflated(0, 0)),
        on_next(400, rxops.Conflated(2, 1)),
        on_next(500, rxops.Conflated(3, 0)),
        on_next(600, rxops.Conflated(4, 0)),
    ]


async def test_conflate_when_many_keys_wait(wiring: Wiring, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one timer for all keys, which is cancelled with the subscription."""
    scheduler: Any = wiring.context.scheduler
    scheduled: list[Any] = []
    schedule = scheduler.schedule_relative
    monkeypatch.setattr(scheduler, "schedule_relative", lambda *work: scheduled.append(work) or schedule(*work))
    seen: list[Any] = []
    subscription = source_of(wiring).pipe(rxops.conflate("s", every=10.0)).subscribe(seen.append)
    for round_trip in range(2):
        for symbol in range(100):
            source_of(wiring).on_next({"s": symbol})
        await turn()
        assert (len(scheduled), len(seen)) == (round_trip + 1, 100)
    subscription.dispose()
    assert not scheduler._instants


def test_conflate_when_the_source_ends_within_a_round() -> None:
    """A subscriber gets the held messages before the end or the error."""
    error = ValueError("broken")
    for end in on_completed(350), on_error(350, error):
        result = marbles(rxops.conflate(every=100.0), on_next(300, "a"), on_next(310, "b"), on_next(320, "c"), end)
        assert result == [on_next(300, rxops.Conflated("a", 0)), on_next(350, rxops.Conflated("c", 1)), end]


async def test_conflate_when_the_source_ends_while_a_round_is_delivered(wiring: Wiring) -> None:
    """A subscriber that ends the source during a round gets the rest of the round once."""
    seen: list[Any] = []

    def take(conflated: rxops.Conflated[Any]) -> None:
        seen.append(conflated.message["s"])
        source_of(wiring).end()

    source_of(wiring).pipe(rxops.conflate("s")).subscribe(take)
    for symbol in "abc":
        source_of(wiring).on_next({"s": symbol})
    await turn()
    assert seen == ["a", "b", "c"]


async def test_conflate_when_the_consumer_follows_an_operator(wiring: Wiring) -> None:
    """An operator after ``conflate`` gets merged messages once per loop iteration, and its async for gets them all."""
    prices = aiter(source_of(wiring).pipe(rxops.conflate("s"), ops.map(lambda conflated: conflated.message["p"])))
    for price in (1, 2):
        source_of(wiring).on_next(quote("BTC", price))
    await turn()
    source_of(wiring).on_next(quote("BTC", 3))
    await turn()
    assert [await anext(prices), await anext(prices)] == [2, 3]


# as_type


@dataclass
class Trade:
    s: str
    p: float


class Tick(TypedDict):
    s: str
    p: float


@pytest.mark.parametrize(
    ("kind", "expected"), [(Quote, Quote("BTC", 1.5)), (Trade, Trade("BTC", 1.5)), (Tick, quote("BTC", 1.5))]
)
def test_as_type_when_messages_fit(kind: Any, expected: Any) -> None:
    """Messages become Structs, dataclasses or TypedDicts. Numbers in strings fit only with strict=False."""
    messages = rx.of(quote("BTC", 1.5), {"s": "BTC", "p": "1.5"})
    assert collect(messages.pipe(rxops.as_type(kind))) == [expected, "end"]
    assert collect(messages.pipe(rxops.as_type(kind, strict=False))) == [expected, expected, "end"]


def test_as_type_when_an_item_is_a_gap(caplog: pytest.LogCaptureFixture) -> None:
    """A Gap is passed on unchanged, and not rejected."""
    gap = rxws.Gap(name="feed", time=1.0, start=0.5, end=1.0, reason="network", last_message=None)
    assert collect(rx.of([1], gap).pipe(rxops.as_type(list[int]))) == [[1], gap, "end"]
    assert caplog.messages == []


def test_as_type_when_given_a_union(caplog: pytest.LogCaptureFixture) -> None:
    """Any type that msgspec converts to is accepted. The log names it."""
    assert collect(rx.of([1], {}).pipe(rxops.as_type(list[int] | None))) == [[1], "end"]
    assert caplog.messages[0].startswith("as_type(list[int] | None) left a message out")


# windows


def trade(time: Any, symbol: str = "BTC") -> dict[str, Any]:
    """Return a message with a time and a key."""
    return {"T": time, "s": symbol}


def times(windows: list[Any]) -> list[tuple[Any, ...]]:
    """Return the bounds, the times, the number of late messages and the closed_by of each window."""
    return [
        (each.start, each.end, [message["T"] for message in each.items], each.late, each.closed_by)
        for each in windows
        if isinstance(each, rxops.Window)
    ]


def test_windows_when_time_passes_their_end() -> None:
    """A window includes its start and excludes its end. A message with the time of the end closes it."""
    messages = rx.of(*map(trade, (59_999, 60_000, 119_999, 120_000, 300_000)))
    assert times(collect(messages.pipe(rxops.windows(60, time="T")))) == [
        (0.0, 60.0, [59_999], 0, "time"),
        (60.0, 120.0, [60_000, 119_999], 0, "time"),
        (120.0, 180.0, [120_000], 0, "time"),
        (300.0, 360.0, [300_000], 0, "end"),
    ]


def test_windows_when_keyed() -> None:
    """Each key has its own windows and its own time."""
    messages = rx.of(trade(1, "BTC"), trade(1, "ETH"), trade(11, "BTC"), trade(2, "ETH"))
    seen = collect(messages.pipe(rxops.windows(10, time="T", unit="s", key="s")))
    assert [(each.key, len(each.items), each.closed_by) for each in seen[:-1]] == [
        ("BTC", 1, "time"),
        ("BTC", 1, "end"),
        ("ETH", 2, "end"),
    ]


async def test_windows_when_messages_are_late(wiring: Wiring) -> None:
    """A message for a closed window is left out, counted in its key's next window, and reported."""
    seen = collect(source_of(wiring).pipe(rxops.windows(10, time="T", unit="s")))
    for time in (5, 12, 9, 3, 11, 25):
        source_of(wiring).on_next(trade(time))
    assert times(seen) == [(0.0, 10.0, [5], 0, "time"), (10.0, 20.0, [12, 11], 2, "time")]
    assert [str(event.error) for event in wiring.seen] == [
        "its window is closed: its time is 3 s before the latest",
        "its window is closed: its time is 9 s before the latest",
    ]
    source_of(wiring).end()
    assert times(seen)[2:] == [(20.0, 30.0, [25], 0, "end")]


def test_windows_when_lateness_is_allowed() -> None:
    """A window stays open for late messages as long as allowed. Several open windows close in order."""
    messages = rx.of(*map(trade, (5, 12, 9, 21, 14, 24.5, 8, 25)))
    seen = collect(messages.pipe(rxops.windows(10, time="T", unit="s", allowed_lateness=5.0)))
    assert times(seen) == [
        (0.0, 10.0, [5, 9], 0, "time"),
        (10.0, 20.0, [12, 14], 1, "time"),
        (20.0, 30.0, [21, 24.5, 25], 0, "end"),
    ]


def test_windows_when_the_first_message_is_not_the_earliest() -> None:
    """A message before the window of the first message is late, unless it is within the allowed lateness."""
    messages = rx.of(*map(trade, (12, 9)))
    assert len(times(collect(messages.pipe(rxops.windows(10, time="T", unit="s"))))) == 1
    both = collect(messages.pipe(rxops.windows(10, time="T", unit="s", allowed_lateness=3.0)))
    assert [start for start, *_ in times(both)] == [0.0, 10.0]


@pytest.mark.parametrize(
    ("unit", "time", "start"),
    [
        ("s", 1_700_000_000.3, 1_700_000_000.3),
        ("s", "1700000000.3", 1_700_000_000.3),
        ("s", 1_700_000_000, 1_700_000_000.0),
        ("ms", 1_700_000_000_300, 1_700_000_000.3),
        ("ms", 1_700_000_000_399.9, 1_700_000_000.3),
        ("ms", "1700000000399", 1_700_000_000.3),
        ("us", 1_700_000_000_300_000, 1_700_000_000.3),
        ("ns", 1_700_000_000_399_999_999, 1_700_000_000.3),
        ("ns", "1700000000399999999", 1_700_000_000.3),
        ("s", -0.05, -0.1),
        ("s", 8.2, 8.2),
        ("ns", "2023-11-14T22:13:20.361769Z", 1_700_000_000.3),
        ("s", "2023-11-14T22:13:20.399999999Z", 1_700_000_000.3),
        ("s", "2023-11-15 00:13:20.3+02:00", 1_700_000_000.3),
        ("ms", "2023-11-14T22:13:20.3", 1_700_000_000.3),
        ("s", "2023-11-14", 1_699_920_000.0),
        ("ms", datetime(2023, 11, 14, 22, 13, 20, 399_999, UTC), 1_700_000_000.3),
        ("ms", datetime(2023, 11, 15, 0, 13, 20, 300_000, timezone(timedelta(hours=2))), 1_700_000_000.3),
        ("ms", datetime(2023, 11, 14, 22, 13, 20, 300_000), 1_700_000_000.3),
        ("s", Decimal("1700000000.399999"), 1_700_000_000.3),
    ],
)
def test_windows_when_times_are_of_a_unit(unit: Any, time: Any, start: float) -> None:
    """A number or a string in the unit, ISO 8601, or a datetime is put into the right window to the microsecond."""
    (window, _) = collect(rx.of(trade(time)).pipe(rxops.windows(0.1, time="T", unit=unit)))
    assert window.start == start
    assert window.end == pytest.approx(start + 0.1)


def test_windows_when_time_is_a_path_or_a_function() -> None:
    """A time is read by a key or path, as in a filter, or by a function."""
    messages = rx.of({"data": {"T": 3}})
    for time in ("data", "T"), lambda message: message["data"]["T"]:
        (window, _) = collect(messages.pipe(rxops.windows(2, time=time, unit="s")))
        assert (window.start, window.end) == (2.0, 4.0)


def test_windows_when_a_key_falls_silent() -> None:
    """With a timeout, a window is closed that many seconds after its end, counted on the scheduler's clock."""
    records = [on_next(300, trade(3)), on_next(302, trade(5)), on_next(310, trade(4)), on_next(400, trade(7))]
    result = marbles(rxops.windows(10, time="T", unit="s", timeout=20.0), *records)
    # At 302 the messages' time was 5, so it is 10 at 307. The message at 310 changes nothing; that at 400 is late.
    (record,) = result
    assert record.time == 327
    assert times([record.value.value]) == [(0.0, 10.0, [3, 5, 4], 0, "timeout")]


def test_windows_when_a_key_falls_silent_with_several_open() -> None:
    """Each open window is closed by its own timeout, after the allowed lateness. Later messages open new windows."""
    records = [on_next(300, trade(9)), on_next(301, trade(11)), on_next(400, trade(35)), on_next(410, trade(41))]
    operator = rxops.windows(10, time="T", unit="s", allowed_lateness=2.0, timeout=5.0)
    result = marbles(operator, *records, on_completed(412))
    # At 301 the messages' time is 11. With the lateness the first window ends at 302, and the second at 312.
    assert [record.time for record in result] == [307, 317, 412, 412, 412]
    assert times([record.value.value for record in result[:-1]]) == [
        (0.0, 10.0, [9], 0, "timeout"),
        (10.0, 20.0, [11], 0, "timeout"),
        (30.0, 40.0, [35], 0, "end"),
        (40.0, 50.0, [41], 0, "end"),
    ]


def test_windows_when_the_timer_is_early() -> None:
    """If a message has closed a window before its timer fires, the timer closes no other window."""
    records = [on_next(300, trade(1)), on_next(305, trade(10)), on_next(311, trade(17))]
    result = marbles(rxops.windows(10, time="T", unit="s", timeout=3.0), *records)
    assert [(record.time, record.value.value.closed_by) for record in result] == [(305, "time"), (317, "timeout")]


async def test_windows_when_time_is_virtual(wiring: Wiring) -> None:
    """The timeout uses the loop's clock: a candle of one minute is emitted two seconds after the minute."""
    seen: list[float] = []
    loop = asyncio.get_running_loop()
    minutes = source_of(wiring).pipe(rxops.windows(60, time="T", key="s", timeout=2.0))
    minutes.subscribe(lambda _: seen.append(loop.time()))
    await asyncio.sleep(10.0 - loop.time())
    source_of(wiring).on_next(trade(1_700_000_030_000))
    await asyncio.sleep(3600.0)
    # The message arrived at 10 s, ten seconds before the end of its minute.
    assert seen == [pytest.approx(22.0)]


@pytest.mark.parametrize(
    ("time", "error", "words"),
    [
        ("today", ValueError, "a time must be a number or ISO 8601, not 'today'"),
        ("2023-13-01", ValueError, "not '2023-13-01'"),
        ("", ValueError, "not ''"),
        (None, TypeError, "not of type NoneType"),
        (True, TypeError, "not of type bool"),
        ([1], TypeError, "not of type list"),
        (1_700_000_000_000_000_000, ValueError, "after the year 9999: check the argument unit"),
    ],
)
async def test_windows_when_a_time_cannot_be_read(
    wiring: Wiring, time: Any, error: type[Exception], words: str
) -> None:
    """A message whose time cannot be read is rejected with one error that says what a time is."""
    seen = collect(source_of(wiring).pipe(rxops.windows(1, time="T")))
    source_of(wiring).on_next(trade(time))
    assert seen == []
    (event,) = wiring.seen
    assert isinstance(event.error, error)
    assert words in str(event.error)


async def test_windows_when_the_unit_is_wrong(wiring: Wiring) -> None:
    """Seconds that are read as milliseconds are reported once, when the first window should be over."""
    for unit, per_second, other in (("ms", 1, "s"), ("us", 1_000, "ms"), ("us", 1, "s"), ("ns", 1_000, "ms")):
        wiring.seen.clear()
        subscription = source_of(wiring).pipe(rxops.windows(60, time="T", unit=unit)).subscribe()  # type: ignore[arg-type]
        for second in range(300):
            source_of(wiring).on_next(trade((1_700_000_000 + second) * per_second))
            await asyncio.sleep(1.0)
            assert bool(wiring.seen) is (second >= 60) or second == 59
        (event,) = wiring.seen
        assert event.handler == "windows"
        assert str(event.error).endswith(f"s: give their unit, which seems to be {other!r}")
        subscription.dispose()


@pytest.mark.parametrize(
    ("unit", "per_second", "pauses"),
    [
        ("s", 1, [1.0] * 200),
        ("ms", 1_000, [1.0] * 200),
        ("ms", 1_000, [0.03, 0.03, 59.0, 200.0]),
        ("ms", 1_000, [0.01] * 6 + [3_000.0]),
        ("ms", 1_000_000, [1.0] * 100),
        ("ms", 0, [1.0] * 100),
        ("s", 1 / 1_000, [1.0] * 300),
    ],
)
async def test_windows_when_the_unit_is_right(
    wiring: Wiring, unit: Any, per_second: float, pauses: list[float]
) -> None:
    """A feed with the right unit, a silent one, and one whose times pass at another rate are not reported."""
    loop = asyncio.get_running_loop()
    subscription = source_of(wiring).pipe(rxops.windows(60, time="T", unit=unit)).subscribe()
    for pause in pauses:
        source_of(wiring).on_next(trade(loop.time() * per_second))
        await asyncio.sleep(pause)
    assert not [event for event in wiring.seen if isinstance(event, CallbackFailed)]
    subscription.dispose()


def test_windows_when_the_source_fails() -> None:
    """Open windows are emitted before the error."""
    error = ValueError("broken")
    *windows, end = collect(rx.concat(rx.of(trade(1)), rx.throw(error)).pipe(rxops.windows(10, time="T")))
    assert [each.closed_by for each in windows] == ["end"]
    assert end is error


# detect_gaps


def numbers(*items: Any, **options: Any) -> list[Any]:
    """Return the output of detect_gaps for numbers: the numbers, and (expected, received) for each gap."""
    seen = collect(rx.of(*items).pipe(rxops.detect_gaps(lambda number: number, **options)))
    return [(each.expected, each.received) if isinstance(each, rxops.SequenceGap) else each for each in seen[:-1]]


def test_detect_gaps_when_numbers_are_missing() -> None:
    """A gap is emitted before the message that shows it, and no message is left out."""
    assert numbers(5, 6, 9, 10) == [5, 6, (7, 9), 9, 10]
    assert rxops.SequenceGap(7, 9, None).missing == 2


def test_detect_gaps_when_numbers_repeat_or_are_late() -> None:
    """Repeated and late messages are passed on without a gap."""
    assert numbers(1, 2, 2, 3) == [1, 2, 2, 3]
    assert numbers(1, 3, 2, 4, 5) == [1, (2, 3), 3, 2, 4, 5]


def test_detect_gaps_when_the_server_restarts_its_count() -> None:
    """A much smaller number restarts the count: one gap is emitted, and later numbers belong to the new count."""
    assert numbers(5_000, 1, 2, 4) == [5_000, (5_001, 1), 1, 2, (3, 4), 4]
    assert numbers(10, 9, 8, reordering=2) == [10, 9, (11, 8), 8]
    assert rxops.SequenceGap(5_001, 1, None).missing is None


def test_detect_gaps_when_messages_have_ranges() -> None:
    """Between ranges that touch or overlap there is no gap; before a range that begins later there is one."""
    ranges = [(1, 3), (4, 4), (3, 6), (5, 6), (9, 12), (13, 12), (13, 13)]
    messages = [{"U": first, "u": str(last)} for first, last in ranges]
    expected = [*messages[:4], rxops.SequenceGap(7, 9, None), *messages[4:], "end"]
    for sequence in (["U", "u"], lambda message: (message["U"], message["u"])):
        assert collect(rx.of(*messages).pipe(rxops.detect_gaps(sequence))) == expected
    assert expected[4].missing == 2


def test_detect_gaps_when_the_count_of_ranges_restarts() -> None:
    """A range that ends more than ``reordering`` before the expected number restarts the count."""
    messages = [{"U": 5_000, "u": 5_009}, {"U": 1, "u": 3}, {"U": 4, "u": 9}]
    seen = collect(rx.of(*messages).pipe(rxops.detect_gaps(["U", "u"])))
    assert seen == [messages[0], rxops.SequenceGap(5_010, 1, None), *messages[1:], "end"]


def test_detect_gaps_when_keyed() -> None:
    """Each key has its own count, and a number may be a string."""
    messages = [{"s": "BTC", "u": "7"}, {"s": "ETH", "u": 1}, {"s": "BTC", "u": 8}, {"s": "ETH", "u": 3}]
    seen = collect(rx.of(*messages).pipe(rxops.detect_gaps("u", key="s")))
    assert seen == [*messages[:3], rxops.SequenceGap(2, 3, "ETH"), messages[3], "end"]


@pytest.mark.parametrize("message", [{}, {"u": None}, {"u": 1.0}, {"u": "x"}, {"u": True}])
async def test_detect_gaps_when_there_is_no_number(
    message: dict[str, Any], wiring: Wiring, caplog: pytest.LogCaptureFixture
) -> None:
    """A message without a number is passed on, and reported as unchecked."""
    seen = collect(source_of(wiring).pipe(rxops.detect_gaps("u")))
    source_of(wiring).on_next(message)
    assert seen == [message]
    (event,) = wiring.seen
    assert isinstance(event, rxws.CallbackFailed)
    assert (event.handler, event.message) == ("detect_gaps", message)
    caplog.clear()
    assert collect(rx.of(message).pipe(rxops.detect_gaps("u"))) == [message, "end"]
    assert "could not check a message" in caplog.messages[0]


# stale_after


def test_stale_after_when_one_of_two_falls_silent() -> None:
    """A key that is silent while another key is not is reported once; its next message ends the silence."""
    records = [on_next(time, quote("ETH", time)) for time in range(210, 300, 10)]
    records += [on_next(210, quote("BTC", 1)), on_next(215, quote("BTC", 2)), on_next(290, quote("BTC", 3))]
    result = marbles(rxops.stale_after(30.0, "s"), *sorted(records, key=lambda record: record.time), disposed=300)
    assert result == [
        on_next(245, rxops.Stale("BTC", 30.0, quote("BTC", 2))),
        on_next(290, rxops.Recovered("BTC", 75.0, quote("BTC", 3))),
    ]


def test_stale_after_when_all_fall_silent() -> None:
    """Each silent key is reported, also two at the same time."""
    records = [on_next(210, quote("a", 1)), on_next(210, quote("b", 1)), on_next(220, quote("c", 1))]
    result = marbles(rxops.stale_after(30.0, "s"), *records)
    assert [(record.time, record.value.value.key) for record in result] == [(240, "a"), (240, "b"), (250, "c")]


def test_stale_after_when_nothing_ever_arrives() -> None:
    """Without a key the whole Observable is watched from the subscription on, and so are expected keys."""
    assert marbles(rxops.stale_after(30.0)) == [on_next(230, rxops.Stale(None, 30.0, None))]
    result = marbles(rxops.stale_after(30.0, "s", expected=["a", "b"]), on_next(215, quote("b", 1)))
    assert result == [on_next(230, rxops.Stale("a", 30.0, None)), on_next(245, rxops.Stale("b", 30.0, quote("b", 1)))]


def test_stale_after_when_silent_again() -> None:
    """Every silence is reported."""
    result = marbles(rxops.stale_after(30.0), on_next(250, 1), on_next(260, 2), disposed=400)
    assert [(record.time, type(record.value.value)) for record in result] == [
        (230, rxops.Stale),
        (250, rxops.Recovered),
        (290, rxops.Stale),
    ]


@pytest.mark.parametrize(("stood", "turns", "grace"), [(0.53, 7, 0.0), (10.0, 1, 0.0), (10.0, 7, 0.98)])
async def test_stale_after_when_the_loop_was_blocked(wiring: Wiring, stood: float, turns: int, grace: float) -> None:
    """After a blocked loop, waiting messages are read before silence is reported, and a sender has one more second."""
    loop: Any = asyncio.get_running_loop()
    seen: list[Any] = []
    source_of(wiring).pipe(rxops.stale_after(1.0, "s")).subscribe(seen.append)
    source_of(wiring).on_next({"s": "BTC"})
    await asyncio.sleep(0.5)
    loop._selector.clock.advance(stood)
    await asyncio.sleep(grace)
    for _ in range(turns):
        await asyncio.sleep(0)
    source_of(wiring).on_next({"s": "BTC"})
    await asyncio.sleep(0.9)
    assert seen == []
    await asyncio.sleep(1.5)
    (stale,) = seen
    assert stale.seconds == pytest.approx(1.0, abs=0.01)


async def test_stale_after_when_the_loop_is_always_late(wiring: Wiring) -> None:
    """If the loop is blocked again during the second check, silence is still reported, with its true length."""
    loop: Any = asyncio.get_running_loop()
    seen: list[Any] = []
    source_of(wiring).pipe(rxops.stale_after(1.0)).subscribe(seen.append)
    for _ in range(4):
        loop._selector.clock.advance(1.5)
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    (stale,) = seen
    assert stale.seconds > 2


async def test_stale_after_when_it_is_disposed_between_timer_and_verdict(wiring: Wiring) -> None:
    """Nothing is reported after the end, and no timer is left."""
    loop: Any = asyncio.get_running_loop()
    for turns in range(6):
        seen: list[Any] = []
        subscription = source_of(wiring).pipe(rxops.stale_after(1.0)).subscribe(seen.append)
        await asyncio.sleep(0.5)
        loop._selector.clock.advance(0.52)
        for _ in range(turns):
            await asyncio.sleep(0)
        subscription.dispose()
        await asyncio.sleep(5.0)
        assert seen == []
        assert not wiring.context.scheduler._instants


async def test_stale_after_when_time_is_virtual(wiring: Wiring, monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is measured on the loop's clock to the microsecond, with one timer for all keys."""
    scheduled: list[Any] = []
    loop = asyncio.get_running_loop()
    seen: list[tuple[float, Any]] = []
    stale = source_of(wiring).pipe(rxops.stale_after(30.0, "s"))
    stale.subscribe(lambda item: seen.append((round(loop.time(), 6), item.key)))
    timers: Any = wiring.context.scheduler
    schedule = timers.schedule_absolute
    monkeypatch.setattr(timers, "schedule_absolute", lambda *work: scheduled.append(work) or schedule(*work))
    for number in range(100):
        source_of(wiring).on_next({"s": number})
        await asyncio.sleep(0.1)
    assert len(scheduled) == len(timers._instants) == 1
    await asyncio.sleep(100.0)
    assert [key for _, key in seen] == list(range(100))
    assert [time for time, _ in seen] == pytest.approx([30.0 + number / 10 for number in range(100)])
    assert not timers._instants


# to_async_iterator


@pytest.mark.parametrize(("overflow", "kept"), [("drop_oldest", [3, 4]), ("drop_newest", [1, 2])])
async def test_to_async_iterator_when_full(overflow: Any, kept: list[int], wiring: Wiring) -> None:
    """A full iterator drops items as its overflow says. The feed counts and reports them."""
    numbers = source_of(wiring).pipe(rxops.to_async_iterator(maxsize=2, overflow=overflow))
    for number in (1, 2, 3, 4):
        source_of(wiring).on_next(number)
    source_of(wiring).end()
    assert [number async for number in numbers] == kept
    assert numbers.dropped == wiring.reporter.counters.dropped == 2
    assert isinstance(wiring.seen[0], rxws.Overflowed)


async def test_to_async_iterator_when_it_overflows(wiring: Wiring) -> None:
    """With overflow "error" the iterator unsubscribes, delivers what it holds and raises StreamOverflow."""
    numbers = source_of(wiring).pipe(rxops.to_async_iterator(maxsize=1))
    source_of(wiring).on_next(1)
    source_of(wiring).on_next(2)
    assert not source_of(wiring).observed
    assert await anext(numbers) == 1
    with pytest.raises(rxws.StreamOverflow):
        await anext(numbers)


async def test_to_async_iterator_when_the_source_is_plain_and_ends(wiring: Wiring) -> None:
    """Any Observable can be iterated over. The iterator ends with it, or raises its error after the held items."""
    assert [number async for number in rx.of(1, 2).pipe(rxops.to_async_iterator(maxsize=None))] == [1, 2]
    broken = rx.concat(rx.of(1), rx.throw(ValueError("broken"))).pipe(rxops.to_async_iterator())
    assert await anext(broken) == 1
    with pytest.raises(ValueError, match="broken"):
        await anext(broken)


async def dropped(numbers: Any) -> None:
    """Do nothing: the caller drops its reference."""


async def closed(numbers: Any) -> None:
    """Close the iterator."""
    await numbers.close()


@pytest.mark.parametrize("end", [dropped, closed])
async def test_to_async_iterator_when_dropped_or_closed(end: Callable[[Any], Awaitable[None]], wiring: Wiring) -> None:
    """The subscription ends when the iterator is closed, and when it is garbage-collected."""
    numbers: Any = source_of(wiring).pipe(ops.filter(bool), rxops.to_async_iterator())
    assert source_of(wiring).observed
    await end(numbers)
    del numbers
    gc.collect()
    await settle()
    assert not source_of(wiring).observed


async def test_to_async_iterator_when_it_is_a_stream(wiring: Wiring) -> None:
    """The iterator is a Stream: it holds items from the call on, and has pending and batches."""
    numbers = rxops.to_async_iterator()(source_of(wiring))
    source_of(wiring).on_next(1)
    source_of(wiring).on_next(2)
    assert isinstance(numbers, rxws.Stream)
    assert numbers.pending == 2
    assert await anext(numbers.batches()) == [1, 2]
    # Messages are counted when they arrive, and not again here.
    assert wiring.reporter.counters.messages == 0


def test_to_async_iterator_when_there_is_no_loop() -> None:
    """Outside an event loop, to_async_iterator raises RuntimeError."""
    with pytest.raises(RuntimeError, match="event loop"):
        rx.of(1).pipe(rxops.to_async_iterator())


async def test_to_async_iterator_when_in_another_thread(wiring: Wiring) -> None:
    """Outside its source's thread, to_async_iterator raises RuntimeError."""
    with pytest.raises(RuntimeError, match="event loop"):
        await asyncio.to_thread(rxops.to_async_iterator(), source_of(wiring))
