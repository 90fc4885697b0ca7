"""map_async: order, limits, failures, cancellation, and the end of the source."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import reactivex as rx
from reactivex import operators as ops
from reactivex.subject import Subject

import rxws
from rxws import operators as rxops
from rxws.testing import FeedServer

from ..support.feeds import of_kind, record
from ..support.wiring import Wiring

pytestmark = pytest.mark.usefixtures("virtual_time", "assert_no_leaks")


class Work:
    """A coroutine function that takes some time, and its calls."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = list(seconds)
        self.running = self.most = self.cancelled = 0
        self.called: list[Any] = []

    async def __call__(self, message: Any) -> Any:
        self.called.append(message)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.seconds.pop(0) if self.seconds else 1.0)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        return message


def collect(observable: rx.Observable[Any]) -> tuple[list[Any], Any]:
    """Return the items that an Observable emits, then "end" or its error, and the subscription."""
    seen: list[Any] = []
    return seen, observable.subscribe(seen.append, seen.append, lambda: seen.append("end"))


async def test_results_are_in_order_when_calls_run_one_at_a_time() -> None:
    """By default one call runs at a time."""
    work = Work()
    seen, _ = collect(rxws.on_loop(rx.of(1, 2, 3)).pipe(rxops.map_async(work)))
    await asyncio.sleep(2.5)
    assert (seen, work.called, work.most) == ([1, 2], [1, 2, 3], 1)
    await asyncio.sleep(1)
    assert seen == [1, 2, 3, "end"]


async def test_results_have_the_order_of_messages_when_calls_overtake() -> None:
    """A result waits for those before it, and its call counts as running until then."""
    work = Work(5, 1, 1, 1)
    seen, _ = collect(rxws.on_loop(rx.of(1, 2, 3, 4)).pipe(rxops.map_async(work, concurrency=3)))
    await asyncio.sleep(4)
    assert (seen, work.called) == ([], [1, 2, 3])
    await asyncio.sleep(1.5)
    assert (seen, work.called) == ([1, 2, 3], [1, 2, 3, 4])
    await asyncio.sleep(1)
    assert seen == [1, 2, 3, 4, "end"]


async def test_results_are_emitted_at_once_when_order_does_not_matter() -> None:
    """With ``ordered=False`` a slow call delays only its own result."""
    work = Work(5, 1, 2, 1)
    seen, _ = collect(rxws.on_loop(rx.of(1, 2, 3, 4)).pipe(rxops.map_async(work, concurrency=2, ordered=False)))
    await asyncio.sleep(10)
    assert (seen, work.most) == ([2, 3, 4, 1, "end"], 2)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("seed", range(5))
async def test_every_message_has_one_result_when_many_calls_run(seed: int, ordered: bool) -> None:
    """At any durations and limits, each message has one result, and no more calls run than allowed."""
    chances = random.Random(seed)
    work = Work(*(chances.choice([0, 0, 0.01, 0.5]) for _ in range(500)))
    source: Subject[int] = Subject()
    limit = chances.randint(1, 20)
    operator = rxops.map_async(work, concurrency=limit, ordered=ordered, maxsize=None)
    seen, _ = collect(rxws.on_loop(source).pipe(operator))
    for number in range(500):
        source.on_next(number)
        if chances.random() < 0.1:
            await asyncio.sleep(chances.uniform(0, 0.5))
    source.on_completed()
    await asyncio.sleep(500)
    assert seen.pop() == "end"
    assert (seen if ordered else sorted(seen)) == list(range(500))
    assert work.most == limit


async def test_full_buffer_ends_the_result_when_overflow_is_an_error() -> None:
    """The waiting messages still have results, then StreamOverflow follows; the source is unsubscribed."""
    source: Subject[int] = Subject()
    seen, _ = collect(rxws.on_loop(source).pipe(rxops.map_async(Work(), maxsize=2)))
    for number in range(3):
        source.on_next(number)
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    source.on_next(3)
    assert not source.observers
    await asyncio.sleep(10)
    assert seen[:3] == [0, 1, 2]
    assert isinstance(seen[3], rxws.StreamOverflow)
    assert len(seen) == 4


@pytest.mark.parametrize(("overflow", "left"), [("drop_oldest", [0, 8, 9]), ("drop_newest", [0, 1, 2])])
async def test_full_buffer_drops_messages_when_asked_to(overflow: Any, left: list[int]) -> None:
    """Dropped messages are counted and reported as for a stream."""
    wiring = Wiring()
    seen, _ = collect(wiring.router.messages.pipe(rxops.map_async(Work(), maxsize=2, overflow=overflow)))
    for number in range(10):
        wiring.router.messages.on_next(number)
        await asyncio.sleep(0)
    await asyncio.sleep(20)
    assert seen == left
    assert wiring.reporter.counters.dropped == 7
    assert [each.consumer for each in of_kind(rxws.Overflowed, wiring.seen)] == ["map_async of Work"]
    wiring.router.messages.end()
    await asyncio.sleep(1)


async def test_message_has_no_result_when_its_call_raises() -> None:
    """A call that raises, is cancelled or is no coroutine is reported, and the next messages follow."""
    wiring = Wiring()

    async def fragile(message: Any) -> Any:
        if message == "raise":
            raise ValueError("no")
        if message == "cancel":
            raise asyncio.CancelledError
        return message

    def sometimes(message: Any) -> Any:
        return message if message == "plain" else fragile(message)

    seen, _ = collect(wiring.router.messages.pipe(rxops.map_async(sometimes, concurrency=2)))
    for message in ("a", "raise", "b", "cancel", "c", "plain", "d"):
        wiring.router.messages.on_next(message)
    await asyncio.sleep(1)
    assert seen == ["a", "b", "c", "d"]
    events = of_kind(rxws.CallbackFailed, wiring.seen)
    assert [type(each.error) for each in events] == [ValueError, asyncio.CancelledError, TypeError]
    assert [each.message for each in events] == ["raise", "cancel", "plain"]
    wiring.router.messages.end()
    await asyncio.sleep(1)


async def test_error_of_the_source_follows_the_results() -> None:
    """When the source fails, the waiting messages are processed first."""
    error = OSError("broken")
    seen, _ = collect(rxws.on_loop(rx.concat(rx.of(1, 2), rx.throw(error))).pipe(rxops.map_async(Work())))
    await asyncio.sleep(5)
    assert seen == [1, 2, error]


async def test_calls_are_cancelled_when_the_subscription_is_disposed() -> None:
    """Disposal cancels what runs, discards what waits, and reports nothing."""
    wiring = Wiring()
    work = Work()
    seen, subscription = collect(wiring.router.messages.pipe(rxops.map_async(work, concurrency=3)))
    for number in range(10):
        wiring.router.messages.on_next(number)
    await asyncio.sleep(1.5)
    subscription.dispose()
    await asyncio.sleep(0.01)
    assert (len(seen), work.cancelled, work.running, work.called) == (3, 3, 0, [0, 1, 2, 3, 4, 5])
    assert not wiring.router.messages.observed
    assert wiring.seen == []
    assert len(asyncio.all_tasks()) == 1


async def test_calls_are_cancelled_when_a_loop_is_left(feed_server: FeedServer) -> None:
    """Leaving the ``async for`` over the results ends the calls, and so does ``take``."""
    work = Work(0)
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        await feed_server.connected()
        results = aiter(ws.messages.pipe(rxops.map_async(work)))
        await feed_server.send(1, 2)
        assert await anext(results) == 1
        await asyncio.sleep(0.1)
        del results
        await asyncio.sleep(0.1)
        assert work.cancelled == 1
        taken = asyncio.ensure_future(
            _first(ws.stream_filter().pipe(rxops.map_async(work, concurrency=5), ops.take(1)))
        )
        await asyncio.sleep(0.1)
        work.seconds = [0]
        await feed_server.send(3, 4)
        assert await taken == 3
        await asyncio.sleep(0.1)
        assert work.cancelled == 2


async def _first(results: Any) -> Any:
    return await results


async def test_results_arrive_when_the_feed_ends(feed_server: FeedServer) -> None:
    """After ``exit()`` the running and the waiting messages still have results."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws:
        await feed_server.connected()
        seen, _ = collect(ws.messages.pipe(rxops.map_async(Work())))
        await feed_server.send(1, 2, 3)
        await asyncio.sleep(0.5)
    await asyncio.sleep(5)
    assert seen == [1, 2, 3, "end"]


async def test_subscribers_have_their_own_calls() -> None:
    """Each subscriber of the result calls the function, and a subscriber that raises does not stop the calls."""
    work, wiring = Work(), Wiring()
    results = wiring.router.messages.pipe(rxops.map_async(work))
    first, second = record(results), record(results)

    def fail(_: Any) -> None:
        raise ValueError("no")

    third = results.subscribe(fail)
    wiring.router.messages.on_next(1)
    wiring.router.messages.on_next(2)
    await asyncio.sleep(3)
    assert (first, second, work.called) == ([1, 2], [1, 2], [1, 1, 1, 2, 2, 2])
    assert len(of_kind(rxws.CallbackFailed, wiring.seen)) == 2
    third.dispose()
    wiring.router.messages.end()
    await asyncio.sleep(1)


async def test_replay_waits_for_the_calls(feed_server: FeedServer, tmp_path: Any) -> None:
    """A replay at any speed does not overflow the waiting messages."""
    async with rxws.ReactiveWebSocket(feed_server.url) as ws, rxws.record(ws, tmp_path / "a.jsonl"):
        await feed_server.connected()
        await feed_server.send(*range(3000))
        await asyncio.sleep(1)
    async with rxws.replay(tmp_path / "a.jsonl", speed=1e9) as played:
        seen = record(played.messages.pipe(rxops.map_async(Work(*[0.001] * 3000), maxsize=100)))
        with contextlib.suppress(rxws.FeedClosed):
            await played.wait_closed()
        await asyncio.sleep(10)
    assert seen == list(range(3000))


async def generator(message: Any) -> AsyncIterator[Any]:
    """A generator function, whose result cannot be awaited."""
    yield message


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"function": 5}, TypeError, "function must be a coroutine function of a message, not 5"),
        ({"function": generator}, TypeError, "the function of map_async must return its result"),
        ({"concurrency": 0}, ValueError, "concurrency must be an int of at least 1, not 0"),
        ({"concurrency": 1.5}, TypeError, "concurrency must be an int of at least 1, not 1.5"),
        ({"maxsize": 0}, ValueError, "maxsize must be at least 1"),
        ({"overflow": "drop"}, ValueError, "overflow must be 'error', 'drop_oldest' or 'drop_newest', not 'drop'"),
    ],
)
async def test_wrong_argument_is_refused_by_name(arguments: Any, error: type[Exception], text: str) -> None:
    """A wrong argument raises an error that names it."""
    with pytest.raises(error, match=text):
        rxops.map_async(**{"function": Work()} | arguments)


async def test_result_fails_when_there_is_no_event_loop() -> None:
    """Outside an event loop the subscription fails with an error that asks for one."""
    results, seen = rx.of(1).pipe(rxops.map_async(Work())), []
    await asyncio.to_thread(lambda: results.subscribe(seen.append, seen.append))
    assert "subscribe in a running event loop" in str(seen[0])
