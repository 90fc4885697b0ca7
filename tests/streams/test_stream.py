"""Stream: the messages that pass a filter, kept until a consumer takes them."""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
import weakref

import pytest
import reactivex as rx
from reactivex import operators as ops

import rxws
from rxws.errors import StreamOverflow
from rxws.observables import buffer
from rxws.reporting.events import Lagging, Overflowed
from rxws.testing import FeedServer

from ..support.wiring import Wiring, in_thread, settle


@pytest.fixture
async def wiring():
    return Wiring()


async def taken(stream, count=None):
    """Iterate to the end, or over ``count`` items; return the items."""
    items = []
    while count is None or len(items) < count:
        try:
            items.append(await anext(stream))
        except StopAsyncIteration:
            break
    return items


def subscribed(stream):
    """Subscribe; return a list that gets the items, and ("end", error) at the end."""
    items = []
    stream.subscribe(items.append, lambda error: items.append(("end", error)), lambda: items.append(("end", None)))
    return items


class Idle(rxws.AsyncWebsocketStreamInterface):
    """A feed that never gets a connection."""

    async def _create_ws(self):
        await asyncio.Event().wait()

    async def _when2create_new_ws(self):
        raise AssertionError

    async def _parse_raw_data(self, raw_data):
        raise AssertionError


# Incoming messages


async def test_stream_when_made(wiring):
    """A stream keeps the messages that arrive after the call, and none from before."""
    wiring.route(1)
    stream = wiring.stream()
    wiring.route(2, 3)
    assert (stream.pending, stream.matched, stream.dropped) == (2, 2, 0)
    await stream.close()
    wiring.route(4)
    assert await taken(stream) == [2, 3]
    assert (stream.pending, stream.matched) == (0, 2)


async def test_stream_when_filtered(wiring):
    """A stream gets the messages that pass its filter, in order."""
    stream = wiring.stream([{"e": "trade"}])
    wiring.route({"e": "trade", "n": 1}, {"e": "ticker"}, "no mapping", {"e": "trade", "n": 2})
    await stream.close()
    assert [message["n"] for message in await taken(stream)] == [1, 2]
    assert stream.matched == 2


async def test_message_when_streams_share_it(wiring):
    """Messages are shared between consumers, not copied."""
    first, second = wiring.stream(), wiring.stream()
    message = {"a": [1]}
    wiring.route(message)
    assert await anext(first) is message
    assert await anext(second) is message


async def test_message_when_a_copy_is_asked_for(wiring):
    """With copy=True each message is a deep copy."""
    copying, sharing = wiring.stream(copy=True), wiring.stream()
    message = {"a": [1]}
    wiring.route(message)
    own = await anext(copying)
    own["a"].append(2)
    assert message == {"a": [1]}
    assert await anext(sharing) is message
    seen = []
    copying.subscribe(seen.append)
    wiring.route(message)
    assert seen == [message]
    assert seen[0] is not message


async def test_message_when_it_cannot_be_copied(wiring):
    """A message that cannot be copied is reported, and is missing only in the stream that copies."""
    copying, sharing = wiring.stream(copy=True), wiring.stream()
    lock = threading.Lock()
    wiring.route(lock, 2)
    assert await taken(copying, 1) == [2]
    assert await taken(sharing, 2) == [lock, 2]
    assert wiring.reporter.counters.failures == 1


async def test_gap_when_asked_for(wiring):
    """With gaps=True the stream contains a Gap between the last message before a loss and the first one after it."""
    streams = wiring.stream([{"a": 1}], gaps=True), wiring.stream([{"a": 1}])
    observed, unobserved = map(subscribed, (wiring.stream(gaps=True), wiring.stream()))
    gap = wiring.gap()
    wiring.route({"a": 1})
    wiring.router.announce(gap)
    wiring.route({"a": 1})
    wiring.router.end(None)
    with_gaps, without = [await taken(stream) for stream in streams]
    assert with_gaps == observed[:-1] == [{"a": 1}, gap, {"a": 1}]
    assert without == unobserved[:-1] == [{"a": 1}, {"a": 1}]
    assert streams[0].matched == 2


async def test_gap_when_the_stream_is_full(wiring):
    """A gap counts as a message in a full buffer."""
    stream = wiring.stream(gaps=True, maxsize=1, overflow="drop_oldest")
    wiring.route(1)
    gap = wiring.gap()
    wiring.router.announce(gap)
    assert await taken(stream, 1) == [gap]
    assert stream.dropped == 1


# Iteration


async def test_iteration_when_left_and_entered_again(wiring):
    """A stream is its own iterator: a second async for continues after the break of the first."""
    stream = wiring.stream()
    wiring.route(1, 2, 3)
    assert aiter(stream) is stream
    async for message in stream:
        assert message == 1
        break
    wiring.route(4)
    await stream.close()
    assert [message async for message in stream] == [2, 3, 4]


async def test_iteration_when_the_producer_is_slower(wiring):
    """An async for that is faster than the producer waits for each message."""
    stream = wiring.stream()
    task = asyncio.create_task(taken(stream, 3))
    for number in range(3):
        await settle()
        wiring.route(number)
    assert await task == [0, 1, 2]


async def test_iteration_when_two_want_the_next(wiring):
    """A second concurrent anext raises RuntimeError, and the first gets its message."""
    stream = wiring.stream()
    first = asyncio.create_task(anext(stream))
    await settle()
    with pytest.raises(RuntimeError, match="another task is already waiting"):
        await anext(stream)
    wiring.route(1)
    assert await first == 1


async def test_iteration_when_cancelled(virtual_time):
    """A cancelled anext loses no message: wait_for in a loop gets every message of a producer once."""
    wiring = Wiring()
    stream = wiring.stream()
    items = []

    async def produce():
        for number in range(100):
            wiring.route(number)
            await asyncio.sleep(0.01 * (number % 3))
        await stream.close()

    task = asyncio.create_task(produce())
    timeouts = 0
    with pytest.raises(StopAsyncIteration):
        while True:
            try:
                items.append(await asyncio.wait_for(anext(stream), 0.003 * (1 + timeouts % 4)))
            except TimeoutError:
                timeouts += 1
    await task
    assert items == list(range(100))
    assert timeouts > 50


async def test_iteration_when_cancelled_at_any_step(wiring):
    """If a consumer is cancelled at any step, it and the next consumer together get all messages."""
    for step in range(12):
        stream = wiring.stream()
        items = []

        async def consume(stream=stream, items=items):
            async for message in stream:
                items.append(message)
                await asyncio.sleep(0)

        task = asyncio.create_task(consume())
        for number in range(step):
            if number < 5:
                wiring.route(number)
            await asyncio.sleep(0)
        for number in range(min(step, 5), 5):
            wiring.route(number)
        task.cancel()
        await asyncio.wait({task})
        await stream.close()
        assert items + await taken(stream) == list(range(5)), step


async def test_iteration_when_not_asynchronous(wiring):
    """``for x in stream`` raises TypeError, and so do the other operations that would block."""
    stream = wiring.stream()
    with pytest.raises(TypeError, match="not iterable"):
        for _ in stream:
            raise AssertionError
    with pytest.raises(TypeError):
        list(stream)
    with pytest.raises(RuntimeError, match="async for"):
        stream.run()


async def test_iteration_when_a_million_are_held(wiring):
    """A consumer that drains a million waiting messages lets other tasks run."""
    stream = wiring.stream(maxsize=None)
    for _ in range(1_000_000):
        stream._receiver.put(None)
    await stream.close()
    send_queue = 0

    async def other():
        nonlocal send_queue
        while True:
            send_queue += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    count = 0
    async for _ in stream:
        count += 1
    task.cancel()
    assert count == 1_000_000
    assert send_queue > 1_000_000 // buffer.STREAK - 2


async def test_batches_when_messages_wait(wiring):
    """batches() returns lists of all waiting messages, never an empty one, and ends with the stream."""
    stream = wiring.stream()
    batches = stream.batches()
    assert aiter(batches) is batches
    wiring.route(1, 2)
    assert await anext(batches) == [1, 2]
    waiting = asyncio.create_task(anext(batches))
    await settle()
    wiring.route(3, 4)
    assert await waiting == [3, 4]
    wiring.route(5)
    await stream.close()
    assert [batch async for batch in batches] == [[5]]


async def test_batches_when_the_stream_overflowed(wiring):
    """batches() returns the waiting messages, then raises the error of the iteration."""
    stream = wiring.stream(maxsize=2)
    wiring.route(1, 2, 3)
    batches = stream.batches()
    assert await anext(batches) == [1, 2]
    with pytest.raises(StreamOverflow):
        await anext(batches)


async def test_batches_when_the_stream_is_not_referred_to_otherwise(wiring):
    """The iterator of batches() keeps the stream alive."""
    batches = wiring.stream().batches()
    gc.collect()
    wiring.route(1)
    assert await anext(batches) == [1]
    del batches
    await asyncio.sleep(0)
    assert wiring.router.receivers == []


# The first consumer


async def test_first_consumer_when_it_subscribes(wiring):
    """The first consumer gets the waiting messages, in order; after subscribe the stream keeps no message."""
    stream = wiring.stream()
    wiring.route(1, 2)
    first, second = subscribed(stream), subscribed(stream)
    assert first == [1, 2]
    wiring.route(3)
    assert first == [1, 2, 3]
    assert second == [3]
    assert stream.pending == 0
    assert stream.matched == 3


async def test_first_consumer_when_it_iterates(wiring):
    """After an async for has begun, a new subscriber gets only later messages, and the async for gets all."""
    stream = wiring.stream()
    wiring.route(1)
    aiter(stream)
    seen = subscribed(stream)
    wiring.route(2)
    assert seen == [2]
    assert await taken(stream, 2) == [1, 2]


async def test_first_consumer_when_it_calls_anext(wiring):
    """anext without aiter counts as iteration."""
    stream = wiring.stream()
    wiring.route(1, 2)
    assert await anext(stream) == 1
    seen = subscribed(stream)
    assert seen == []
    assert await anext(stream) == 2


async def test_first_consumer_when_it_takes_batches(wiring):
    """batches() counts as iteration from its call on."""
    stream = wiring.stream()
    wiring.route(1)
    batches = stream.batches()
    assert subscribed(stream) == []
    assert await anext(batches) == [1]


async def test_first_consumer_when_it_is_a_pipe(wiring):
    """pipe alone consumes nothing; its first subscriber gets the waiting messages through all operators."""
    stream = wiring.stream()
    wiring.route(1, 2)
    doubled = stream.pipe(ops.map(lambda number: 2 * number))
    wiring.route(3)
    assert stream.pending == 3
    assert subscribed(doubled) == [2, 4, 6]
    assert stream.pending == 0


async def test_first_consumer_when_it_iterates_over_a_pipe(wiring):
    """An async for over a pipe gets the waiting messages, too."""
    stream = wiring.stream()
    wiring.route(1, 2)
    iterator = aiter(stream.map(str))
    wiring.route(3)
    assert [await anext(iterator) for _ in range(3)] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("operator", "expected"),
    [(ops.take(1), [1]), (ops.take_while(lambda number: number < 2), [1]), (ops.first(), [1])],
    ids=["take", "take_while", "first"],
)
async def test_first_consumer_when_it_wants_only_some(wiring, operator, expected):
    """When an operator ends its subscription during the waiting messages, the remaining ones are discarded."""
    stream = wiring.stream()
    wiring.route(1, 2, 3)
    passed = []
    seen = subscribed(stream.pipe(ops.do_action(passed.append), operator))
    assert seen == [*expected, ("end", None)]
    assert len(passed) <= len(expected) + 1
    wiring.route(4)
    assert stream.pending == 0
    assert not stream._receiver.fan_out.observed


async def test_first_consumer_when_only_the_end_matters(wiring):
    """subscribe without on_next consumes the messages, too."""
    stream = wiring.stream()
    wiring.route(1)
    stream.subscribe()
    assert stream.pending == 0
    assert not wiring.seen


async def test_first_consumer_when_it_raises(wiring):
    """A subscriber that raises on a waiting message is reported by its name and gets the others."""
    stream = wiring.stream()
    wiring.route(1, 2)
    seen = []

    def broken(message):
        seen.append(message)
        raise ZeroDivisionError

    stream.subscribe(broken)
    wiring.route(3)
    assert seen == [1, 2, 3]
    assert [event.message for event in wiring.seen] == [1, 2, 3]
    assert all(event.handler.endswith("broken") for event in wiring.seen)


async def test_iteration_when_begun_after_subscribing(wiring):
    """After a subscription the buffer is empty; an async for that begins then gets the later messages."""
    stream = wiring.stream()
    wiring.route(1)
    seen = subscribed(stream)
    wiring.route(2)
    aiter(stream)
    wiring.route(3)
    assert await taken(stream, 1) == [3]
    assert seen == [1, 2, 3]


async def test_collect_when_messages_are_held(wiring):
    """collect returns the waiting messages first, and keeps those beyond its count."""
    stream = wiring.stream()
    wiring.route(1, 2, 3)
    assert await stream.collect(2) == [1, 2]
    wiring.route(4)
    assert await stream.collect(seconds=0) == [3, 4]
    await stream.close()
    assert await stream.collect() == []


async def test_collect_when_cancelled_or_failed(wiring):
    """When collect is cancelled or the stream fails, the stream gets the collected messages back."""
    stream = wiring.stream()
    wiring.route(1)
    task = asyncio.create_task(stream.collect(9))
    await settle()
    wiring.route(2)
    await settle()
    task.cancel()
    await settle()
    wiring.route(3)
    wiring.router.end(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await stream.collect()
    assert [await anext(stream) for _ in range(3)] == [1, 2, 3]


async def test_when_ended_when_the_stream_ends_in_any_way(wiring):
    """The callback of ``when_ended`` is called once, for whatever reason the stream ends."""
    told = []
    streams = {name: wiring.stream(maxsize=1) for name in ("closed", "overflowed", "collected", "ended")}
    for name, stream in streams.items():
        stream.when_ended(lambda name=name: told.append(name))
    del stream
    await streams["closed"].close()
    streams["ended"].clear()
    del streams["collected"]
    assert told == ["closed"]
    await asyncio.sleep(0)
    assert told == ["closed", "collected"]
    aiter(streams["overflowed"])
    streams["ended"].subscribe()
    wiring.route(1, 2)
    wiring.router.end(None)
    assert told == ["closed", "collected", "overflowed", "ended"]


async def test_stream_when_shown_in_a_notebook(wiring):
    """A notebook cell shows the stream's numbers and the newest waiting messages."""
    stream = wiring.stream([{"e": "trade"}])
    wiring.route({"e": "trade", "n": 7})
    shown = stream._repr_mimebundle_()
    assert "1 pending" in shown["text/plain"]
    assert "<td" in shown["text/html"]
    assert "7" in shown["text/html"]
    assert stream.pending == 1


# Subscribers


@pytest.mark.parametrize("error", [ZeroDivisionError(), asyncio.CancelledError()], ids=repr)
async def test_subscriber_when_it_raises(wiring, error):
    """A subscriber that raises affects neither other subscribers nor an async for, and gets the next message."""
    stream = wiring.stream()
    calls = []

    def broken(message):
        calls.append(message)
        raise error

    aiter(stream)
    before = subscribed(stream)
    stream.subscribe(broken)
    after = subscribed(stream)
    wiring.route(1, 2)
    assert before == calls == after == [1, 2]
    assert await taken(stream, 2) == [1, 2]
    assert wiring.reporter.counters.failures == 2


async def test_subscriber_when_it_subscribes_another(wiring):
    """A subscriber that is added inside on_next gets the next message."""
    stream = wiring.stream()
    added = []
    stream.subscribe(lambda message: added.append(subscribed(stream)) if message == 1 else None)
    wiring.route(1, 2)
    assert added == [[2]]


async def test_subscriber_when_another_subscribes_during_the_waiting_messages(wiring):
    """A subscriber that is added while the first one gets the waiting messages gets none of these."""
    stream = wiring.stream()
    wiring.route(1, 2)
    added, seen = [], []

    def take(message):
        seen.append(message)
        if message == 1:
            added.append(subscribed(stream))

    stream.subscribe(take)
    wiring.route(3)
    assert seen == [1, 2, 3]
    assert added == [[3]]


async def test_subscriber_when_it_disposes_a_sibling(wiring):
    """A subscription that is disposed inside on_next of another subscriber does not get this message."""
    stream = wiring.stream()
    seen = []
    later = []
    stream.subscribe(lambda message: [each.dispose() for each in later])
    later.append(stream.subscribe(seen.append))
    last = subscribed(stream)
    wiring.route(1)
    assert seen == []
    assert last == [1]


async def test_subscriber_when_it_closes_the_stream(wiring):
    """If a subscriber closes the stream in on_next, its on_completed is called, and an async for gets the message."""
    stream = wiring.stream()
    aiter(stream)
    seen = []
    stream.subscribe(
        lambda message: (seen.append(message), stream.close_nowait()), on_completed=lambda: seen.append("end")
    )
    sibling = subscribed(stream)
    wiring.route(1, 2)
    assert seen == [1, "end"]
    assert sibling == [("end", None)]
    assert await taken(stream) == [1]


async def test_subscriber_when_it_closes_the_stream_with_messages_held(wiring):
    """When the first subscriber closes the stream, it still gets the waiting messages, then the end."""
    stream = wiring.stream()
    wiring.route(1, 2)
    seen = []
    stream.subscribe(
        lambda message: (seen.append(message), stream.close_nowait()), on_completed=lambda: seen.append("end")
    )
    assert seen == [1, 2, "end"]


async def test_subscriber_when_it_clears_the_stream(wiring):
    """clear() inside on_next discards the waiting messages of the subscriber and of an async for."""
    stream = wiring.stream()
    wiring.route(1, 2)
    seen = []
    stream.subscribe(lambda message: (seen.append(message), stream.clear()))
    assert seen == [1]
    aiter(stream)
    wiring.route(3)
    assert seen == [1, 3]
    assert stream.pending == 0


async def test_subscriber_when_it_iterates_inside(wiring):
    """An async for that begins inside on_next gets the next message first."""
    stream = wiring.stream()
    stream.subscribe(lambda message: aiter(stream))
    wiring.route(1, 2)
    assert await taken(stream, 1) == [2]


async def test_subscriber_when_it_iterates_during_the_waiting_messages(wiring):
    """If the first subscriber begins an async for, the async for gets the waiting messages after the present one."""
    stream = wiring.stream()
    wiring.route(1, 2, 3)
    seen = []
    stream.pipe(ops.do_action(lambda message: aiter(stream)), ops.take(2)).subscribe(seen.append)
    wiring.route(4)
    assert seen == [1, 2]
    assert await taken(stream, 2) == [3, 4]


async def test_subscriber_when_disposed_from_another_thread(wiring):
    """The Disposable of a subscription may be disposed from any thread, and more than once."""
    stream = wiring.stream()
    seen = []
    subscription = stream.subscribe(seen.append)
    in_thread(subscription.dispose)
    await settle()
    wiring.route(1)
    subscription.dispose()
    assert seen == []


async def test_subscriber_when_on_completed_raises(wiring):
    """An on_completed that raises is reported, and the other subscribers are completed."""
    stream = wiring.stream()
    stream.subscribe(on_completed=lambda: 1 / 0)
    sibling = subscribed(stream)
    await stream.close()
    assert sibling == [("end", None)]
    assert [type(event.error) for event in wiring.seen] == [ZeroDivisionError]
    stream.subscribe(on_completed=lambda: 1 / 0)
    assert len(wiring.seen) == 2


# The end


async def test_close_when_messages_are_held(wiring):
    """close() does not wait for a consumer; the waiting messages are delivered, then the iteration ends."""
    stream = wiring.stream()
    wiring.route(1, 2)
    await asyncio.wait_for(stream.close(), 1)
    assert wiring.router.receivers == []
    wiring.route(3)
    assert await taken(stream) == [1, 2]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_close_when_the_consumer_waits(wiring):
    """close() ends the anext of a waiting consumer."""
    stream = wiring.stream()
    task = asyncio.create_task(taken(stream))
    await settle()
    await stream.close()
    assert await task == []


async def test_close_when_called_twice_or_by_its_other_name(wiring):
    """close() is idempotent, and aclose() does the same."""
    stream = wiring.stream()
    seen = subscribed(stream)
    await stream.aclose()
    await stream.close()
    stream.close_nowait()
    assert seen == [("end", None)]


async def test_close_when_a_block_is_left(wiring):
    """``async with`` closes the stream, even when an exception leaves it."""
    with pytest.raises(ZeroDivisionError):
        async with wiring.stream() as stream:
            wiring.route(1)
            raise ZeroDivisionError
    wiring.route(2)
    assert await taken(stream) == [1]


async def test_close_when_subscribed_after_it(wiring):
    """A closed stream gives its first subscriber the waiting messages, then the end; later ones get the end at once."""
    stream = wiring.stream()
    wiring.route(1)
    await stream.close()
    assert subscribed(stream) == [1, ("end", None)]
    assert subscribed(stream) == [("end", None)]
    empty = wiring.stream()
    await empty.close()
    assert subscribed(empty) == [("end", None)]


async def test_close_when_iterated_before_and_subscribed_after_it(wiring):
    """A subscriber of a closed stream that was iterated over gets only the end."""
    stream = wiring.stream()
    wiring.route(1)
    aiter(stream)
    await stream.close()
    assert subscribed(stream) == [("end", None)]
    assert await taken(stream) == [1]


async def test_close_when_subscribing_is_still_under_way(wiring):
    """If a stream is closed before its first subscriber has got the waiting messages, they are delivered first."""
    stream = wiring.stream()
    wiring.route(1, 2)
    seen = []

    def subscribe(observer, scheduler):
        observer.on_next(0)
        inner = stream.subscribe(observer.on_next, observer.on_error, observer.on_completed)
        stream.close_nowait()
        return inner

    rxws.on_loop(rx.create(subscribe)).subscribe(seen.append, on_completed=lambda: seen.append("end"))
    assert seen == [0, 1, 2, "end"]


@pytest.mark.parametrize("error", [None, ZeroDivisionError()], ids=repr)
async def test_end_when_the_feed_ends(wiring, error):
    """When the feed ends, consumers get the waiting messages, then the end or the feed's error."""
    stream = wiring.stream()
    aiter(stream)
    seen = subscribed(stream)
    wiring.route(1)
    wiring.router.end(error)
    assert await anext(stream) == 1
    with pytest.raises(StopAsyncIteration if error is None else ZeroDivisionError):
        await anext(stream)
    assert seen == [1, ("end", error)]
    late = wiring.stream()
    with pytest.raises(StopAsyncIteration if error is None else ZeroDivisionError):
        await anext(late)
    assert subscribed(late) == [("end", error)]


async def test_end_when_the_stream_was_closed_before(wiring):
    """A stream that the user closed ends without the later error of the feed."""
    stream = wiring.stream()
    await stream.close()
    wiring.router.end(ZeroDivisionError())
    assert await taken(stream) == []
    assert subscribed(stream) == [("end", None)]


# Overflow


async def test_overflow_when_error(wiring):
    """A full stream with overflow='error' delivers the waiting messages, then raises StreamOverflow."""
    stream = wiring.stream([{"a": 1}], maxsize=2)
    wiring.route(*[{"a": 1, "n": number} for number in range(4)])
    assert (stream.pending, stream.dropped, stream.matched) == (2, 1, 3)
    assert wiring.router.receivers == []
    assert [message["n"] for message in await taken_until_overflow(stream)] == [0, 1]
    (event,) = wiring.seen
    assert isinstance(event, Overflowed)
    assert (event.consumer, event.overflow, event.dropped) == ("stream Filter([{'a': 1}])", "error", 1)


async def taken_until_overflow(stream):
    items = []
    with pytest.raises(StreamOverflow):
        while True:
            items.append(await anext(stream))
    return items


async def test_overflow_when_error_and_subscribed(wiring):
    """Subscribers of a stream whose iteration fell behind get the error, too, after the last message."""
    stream = wiring.stream(maxsize=1)
    aiter(stream)
    seen = subscribed(stream)
    wiring.route(1, 2, 3)
    assert seen[0] == 1
    assert isinstance(seen[1][1], StreamOverflow)
    assert len(seen) == 2
    assert isinstance(subscribed(stream)[0][1], StreamOverflow)


async def test_overflow_when_error_and_subscribed_later(wiring):
    """The first subscriber of a stream that overflowed gets the waiting messages, then the error."""
    stream = wiring.stream(maxsize=1)
    wiring.route(1, 2)
    (first, (_, error)) = subscribed(stream)
    assert first == 1
    assert isinstance(error, StreamOverflow)


async def test_overflow_when_nothing_is_kept(wiring):
    """A stream that is consumed by subscribe never overflows."""
    stream = wiring.stream(maxsize=1)
    seen = subscribed(stream)
    wiring.route(*range(10))
    assert seen == list(range(10))
    assert stream.dropped == 0


@pytest.mark.parametrize(("overflow", "kept"), [("drop_oldest", [3, 4]), ("drop_newest", [0, 1])])
async def test_overflow_when_it_drops(wiring, overflow, kept):
    """Dropped messages are counted and reported, and the stream continues."""
    stream = wiring.stream(maxsize=2, overflow=overflow)
    wiring.route(*range(5))
    assert (stream.pending, stream.dropped, stream.matched) == (2, 3, 5)
    assert await taken(stream, 2) == kept
    wiring.route("next")
    assert await anext(stream) == "next"
    assert [type(event) for event in wiring.seen] == [Overflowed]
    assert wiring.reporter.counters.dropped == 3


async def test_lagging_when_a_stream_is_behind(wiring):
    """A stream with 10,000 waiting messages is reported with its filter."""
    stream = wiring.stream([{"s": "BTCUSDT"}])
    for _ in range(10_000):
        stream._receiver.on_message({"s": "BTCUSDT"})
    (event,) = wiring.seen
    assert isinstance(event, Lagging)
    assert (event.consumer, event.pending) == ("stream Filter([{'s': 'BTCUSDT'}])", 10_000)


async def test_clear_when_messages_are_held(wiring):
    """clear() discards the waiting messages of an open or closed stream, and later messages are delivered."""
    stream = wiring.stream()
    stream.clear()
    wiring.route(1, 2)
    stream.clear()
    assert stream.pending == 0
    wiring.route(3)
    assert await anext(stream) == 3
    wiring.route(4)
    await stream.close()
    stream.clear()
    assert await taken(stream) == []


async def test_stream_when_shown(wiring):
    """The repr contains the filter, the numbers, and whether the stream is closed."""
    stream = wiring.stream([{"e": "trade"}])
    wiring.route({"e": "trade"})
    assert repr(stream) == "<stream Filter([{'e': 'trade'}]): 1 matched, 1 pending, 0 dropped>"
    secret = "pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61cv6a81va65sdf19v8a65a1"
    assert secret not in repr(wiring.stream([{"k": secret}]))
    await stream.close()
    assert "}]) closed: 1 matched" in repr(stream)


# Lifetime


async def test_stream_when_it_is_unreferenced(wiring):
    """A stream without subscriber, iterator and reference is collected, and unregisters itself.

    It unregisters in a later callback of the loop, and not inside the garbage collection. It keeps no further message.
    """
    stream = wiring.stream(maxsize=1)
    wiring.route(1)
    receiver = stream._receiver
    dropped = weakref.ref(stream)
    del stream
    assert dropped() is None
    assert wiring.router.receivers == [receiver]
    wiring.route(2, 3)
    assert len(receiver) == 1
    assert not wiring.seen
    await asyncio.sleep(0)
    assert wiring.router.receivers == []
    wiring.route(4)
    assert receiver.matched == 3


async def test_stream_when_only_its_next_message_is_awaited(wiring):
    """A waiting anext keeps its stream alive without another reference."""
    waiting = asyncio.create_task(anext(wiring.stream([{"n": 1}])))
    await settle()
    gc.collect()
    wiring.route({"n": 1})
    assert await asyncio.wait_for(waiting, 1) == {"n": 1}


async def test_stream_when_collected_in_another_thread(wiring, monkeypatch):
    """A stream that is collected in another thread unregisters itself on the loop's thread."""
    threads = []
    remove = wiring.router.remove
    monkeypatch.setattr(
        wiring.router, "remove", lambda receiver: (threads.append(threading.current_thread()), remove(receiver))
    )
    holder = [wiring.stream(), wiring.stream()]
    in_thread(holder.clear)
    assert len(wiring.router.receivers) == 2
    await asyncio.sleep(0)
    assert wiring.router.receivers == []
    assert threads == [threading.current_thread()] * 2


async def test_stream_when_collected_during_a_match(wiring):
    """A stream that is collected while a filter's function runs gets no message and disturbs no other stream."""
    kept = wiring.stream([{"n": 1}])
    holder = [wiring.stream([{"n": 1}]), wiring.stream([{"n": 1}, {"m": 1}]), wiring.stream()]
    receivers = [stream._receiver for stream in holder]

    def letting_go(message):
        holder.clear()
        return True

    letting = wiring.stream(letting_go)
    wiring.route({"n": 1, "m": 1})
    assert kept.pending == letting.pending == 1
    assert [len(receiver) for receiver in receivers] == [0, 0, 0]
    await asyncio.sleep(0)
    assert wiring.router.receivers == [kept._receiver, letting._receiver]
    wiring.route({"n": 1, "m": 1})
    assert kept.pending == letting.pending == 2


async def test_stream_when_collected_in_a_cycle_while_messages_arrive(wiring):
    """A stream in a cycle of references can be collected at any allocation."""
    thresholds = gc.get_threshold()
    kept = wiring.stream()
    gc.set_threshold(5)
    try:
        for number in range(200):
            stream = wiring.stream([{"n": number % 7}])
            cycle = [stream, subscribed(wiring.stream()), aiter(wiring.router.messages)]
            cycle.append(cycle)
            del stream, cycle
            wiring.route({"n": number % 7})
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    await asyncio.sleep(0)
    assert kept.matched == 200
    assert len(wiring.router.receivers) == 201
    assert not wiring.router.messages.observed
    assert not wiring.seen


async def test_stream_when_a_subscription_is_alive(wiring):
    """A subscription keeps its stream alive until it is disposed, even without a reference to either of them."""
    stream = wiring.stream()
    seen = []
    subscription = stream.subscribe(seen.append)
    stream.subscribe(lambda message: None).dispose()
    dropped = weakref.ref(stream)
    del stream
    gc.collect()
    wiring.route(1)
    assert dropped() is not None
    assert seen == [1]
    subscription.dispose()
    assert dropped() is None
    await asyncio.sleep(0)
    assert wiring.router.receivers == []
    wiring.route(2)
    assert seen == [1]


async def test_stream_when_a_subscription_to_its_pipe_is_alive(wiring):
    """A subscription to a pipe, and an async for over a pipe, keep the stream alive."""
    seen = []
    subscription = wiring.stream().pipe(ops.map(str)).subscribe(seen.append)
    iterator = aiter(wiring.stream().pipe(ops.map(str)))
    gc.collect()
    wiring.route(1)
    assert seen == [await anext(iterator)] == ["1"]
    subscription.dispose()
    del subscription, iterator
    gc.collect()
    await settle()
    assert wiring.router.receivers == []


async def test_stream_when_its_subscription_was_never_referred_to(wiring):
    """A subscription keeps its stream alive even if the returned Disposable was discarded."""
    seen = []
    wiring.stream().subscribe(seen.append)
    gc.collect()
    wiring.route(1)
    assert seen == [1]


async def test_stream_when_it_ended_with_a_subscription(wiring):
    """The subscriptions of an ended stream do not keep it alive."""
    stream = wiring.stream()
    subscription = stream.subscribe()
    dropped = weakref.ref(stream)
    await stream.close()
    del stream
    assert dropped() is None
    subscription.dispose()


async def test_stream_when_an_iteration_is_under_way(wiring):
    """An iteration keeps its stream alive."""
    task = asyncio.create_task(taken(wiring.stream(), 1))
    await settle()
    gc.collect()
    wiring.route(1)
    assert await task == [1]
    del task
    assert wiring.router.receivers == []


async def test_stream_when_the_loop_has_been_closed():
    """A stream and a subscription that outlive their loop are freed at once and without an error."""
    held = []

    async def main():
        wiring = Wiring()
        stream = wiring.stream()
        held.append((stream, stream.subscribe(), wiring))

    await asyncio.to_thread(asyncio.run, main())
    stream, subscription, wiring = held.pop()
    subscription.dispose()
    assert not stream._receiver.fan_out.observed
    del stream
    assert wiring.router.receivers == []


async def test_stream_when_the_constructor_raised():
    """A stream whose constructor raised leaves no error in its finalizer."""
    with pytest.raises(TypeError):
        rxws.Stream(None)


async def test_memory_when_a_stream_is_idle():
    """An idle filtered stream takes at most 2 KiB."""
    feed = Idle()
    warm = feed.stream_filter([{"e": "trade", "s": "WARM"}])
    streams = [None] * 1_000
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(len(streams)):
            streams[number] = feed.stream_filter([{"e": "trade", "s": f"S{number}"}])
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / len(streams) <= 2_048
    assert warm.pending == 0
    await feed.exit()


# Other threads and loops


CALLS = {
    "subscribe": lambda feed, stream: stream.subscribe(print),
    "aiter": lambda feed, stream: aiter(stream),
    "anext": lambda feed, stream: anext(stream).send(None),
    "batches": lambda feed, stream: stream.batches(),
    "clear": lambda feed, stream: stream.clear(),
    "close": lambda feed, stream: stream.close().send(None),
    "aclose": lambda feed, stream: stream.aclose().send(None),
    "close_nowait": lambda feed, stream: stream.close_nowait(),
    "stream_filter": lambda feed, stream: feed.stream_filter(),
    "add_handler": lambda feed, stream: feed.add_handler(print),
    "messages": lambda feed, stream: feed.messages.subscribe(print),
    "frames": lambda feed, stream: feed.frames.subscribe(print),
    "state": lambda feed, stream: feed.state.subscribe(print),
    "events": lambda feed, stream: feed.events.subscribe(print),
    "async for messages": lambda feed, stream: aiter(feed.messages),
    "pipe": lambda feed, stream: stream.pipe(ops.map(str)).subscribe(print),
    "present_ws": lambda feed, stream: feed.present_ws,
    "rotate": lambda feed, stream: feed.rotate(),
    "exit": lambda feed, stream: feed.exit().send(None),
    "send": lambda feed, stream: feed.send("").send(None),
    "request": lambda feed, stream: feed.request("", None).send(None),
    "wait_connected": lambda feed, stream: feed.wait_connected().send(None),
    "wait_closed": lambda feed, stream: feed.wait_closed().send(None),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_call_when_in_another_thread(call):
    """In another thread everything raises RuntimeError, except statistics, state.value and a stream's numbers."""
    feed = Idle(name="my feed")
    stream = feed.stream_filter()
    iterated = feed.stream_filter()
    aiter(iterated)
    iterated._receiver.put("item")
    for each in (stream, iterated):
        with pytest.raises(RuntimeError, match="event loop"):
            in_thread(lambda each=each: call(feed, each))
    assert iterated.pending == 1
    assert in_thread(lambda: feed.state.value) is rxws.State.CONNECTING
    assert in_thread(feed.statistics).streams == 2
    await feed.exit()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_call_when_in_another_loop(call):
    """In a second event loop, and after the loop was closed, calls raise RuntimeError, too."""
    held = []

    async def first():
        feed = Idle()
        held.extend((feed, feed.stream_filter()))

    async def second():
        with pytest.raises(RuntimeError, match="event loop"):
            call(*held)

    def run():
        asyncio.run(first())
        asyncio.run(second())
        with pytest.raises(RuntimeError, match="event loop"):
            call(*held)

    await asyncio.to_thread(run)


async def test_numbers_when_read_from_another_thread(wiring):
    """The numbers and the repr may be read from any thread."""
    stream = wiring.stream()
    wiring.route(1)
    assert in_thread(lambda: (stream.pending, stream.matched, stream.dropped)) == (1, 1, 0)
    assert "1 pending" in in_thread(lambda: repr(stream))


@pytest.mark.usefixtures("virtual_time")
async def test_resubscribe_sends_both_messages_for_all_streams_of_the_channel():
    """``resubscribe`` unsubscribes the channel and subscribes it again, once for all streams that want it."""
    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url) as feed:
        streams = [feed.multiplex("+a", "-a", filters=[{"s": "a"}]) for _ in range(2)]
        await feed.wait_connected()
        await asyncio.sleep(1)
        await streams[0].resubscribe()
        await asyncio.sleep(1)
        assert server.connections[0].received == ["+a", "-a", "+a"]
        for stream in streams:
            await stream.close()
        await asyncio.sleep(1)
        assert server.connections[0].received == ["+a", "-a", "+a", "-a"]


async def test_resubscribe_raises_when_the_stream_is_not_multiplexed():
    """A stream of ``stream_filter`` has no channel, so ``resubscribe`` raises TypeError."""
    async with FeedServer() as server, rxws.ReactiveWebSocket(server.url) as feed:
        with pytest.raises(
            TypeError, match=r"Filter\(\[\]\) cannot be subscribed again: only a stream of multiplex can"
        ):
            await feed.stream_filter().resubscribe()
