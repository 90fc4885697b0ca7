"""Buffer: the bounded queue of a consumer."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import traceback
import weakref

import pytest

from rxws.errors import StreamOverflow
from rxws.observables import buffer as module
from rxws.observables.buffer import DEFAULT_MAXSIZE, Buffer
from rxws.reporting.events import Lagging, Overflowed

from ..support.wiring import Wiring, in_thread, settle


def make(wiring=None, **options):
    wiring = wiring or Wiring()
    return Buffer(wiring.loop, wiring.reporter, **options)


async def drain(buffer):
    """Take all items until the end; return them with the exception that ended the buffer."""
    items = []
    while True:
        try:
            items.append(await buffer.get())
        except (StopAsyncIteration, StreamOverflow) as end:
            return items, end


# In and out


async def test_get_when_items_are_held():
    """Items are returned in order, and then the consumer waits for the next one."""
    buffer = make()
    buffer.put(1)
    buffer.put(None)
    assert len(buffer) == 2
    assert [await buffer.get(), await buffer.get()] == [1, None]
    waiting = asyncio.create_task(buffer.get())
    await settle()
    assert not waiting.done()
    buffer.put(3)
    assert await waiting == 3
    assert len(buffer) == 0


async def test_put_when_a_burst_meets_a_waiting_consumer():
    """A burst wakes the consumer once, and the consumer then finds all items of the burst."""
    buffer = make()
    wakes = []
    waiting = asyncio.create_task(buffer.get())
    await settle()
    buffer._waiter.add_done_callback(wakes.append)
    for number in range(5):
        buffer.put(number)
    assert await waiting == 0
    assert len(wakes) == 1
    assert buffer.take() == [1, 2, 3, 4]


async def test_get_when_another_waits():
    """A second concurrent get raises RuntimeError, and the first still gets its item."""
    buffer = make()
    first = asyncio.create_task(buffer.get())
    await settle()
    with pytest.raises(RuntimeError, match="already waiting"):
        await buffer.get()
    buffer.put("item")
    # The first has been woken, but has not run yet.
    with pytest.raises(RuntimeError, match="already waiting"):
        await buffer.get()
    assert await first == "item"


async def test_get_when_cancelled_at_any_moment():
    """A get that is cancelled at any moment loses no item."""
    for moment in ("before", "with", "after"):
        buffer = make()
        waiting = asyncio.create_task(buffer.get())
        await settle()
        if moment == "before":
            waiting.cancel()
            await settle()
        buffer.put("item")
        if moment == "with":
            waiting.cancel()
        await settle()
        if moment == "after":
            waiting.cancel()
            assert waiting.result() == "item"
        else:
            assert waiting.cancelled()
            assert await buffer.get() == "item"


async def test_get_when_cancelled_while_it_gives_way():
    """A get that is cancelled while it lets other tasks run loses no item."""
    buffer = make()
    for number in range(module.STREAK + 2):
        buffer.put(number)
    for _ in range(module.STREAK):
        await buffer.get()
    waiting = asyncio.create_task(buffer.get())
    await asyncio.sleep(0)
    waiting.cancel()
    await settle()
    assert waiting.cancelled()
    assert await drain_now(buffer) == [module.STREAK, module.STREAK + 1]


async def drain_now(buffer):
    """Take all waiting items."""
    return [await buffer.get() for _ in range(len(buffer))]


async def test_get_when_timed_out_against_a_producer(virtual_time):
    """``asyncio.wait_for`` in a loop gets each item once and in order, whenever its timeouts occur."""
    buffer = make()
    items = []

    async def produce():
        for number in range(200):
            buffer.put(number)
            await asyncio.sleep(0.01 if number % 3 else 0)
        buffer.close()

    producing = asyncio.create_task(produce())
    with pytest.raises(StopAsyncIteration):
        while True:
            try:
                items.append(await asyncio.wait_for(buffer.get(), 0.0025 * (1 + len(items) % 5)))
            except TimeoutError:
                await asyncio.sleep(0.001)
    await producing
    assert items == list(range(200))


async def test_get_when_outside_its_loop():
    """In another thread, with or without a loop, get raises RuntimeError, even when an item waits."""
    buffer = make()
    buffer.put("item")
    with pytest.raises(RuntimeError, match="event loop in which it was made"):
        in_thread(lambda: asyncio.run(buffer.get()))
    getting = buffer.get()
    with pytest.raises(RuntimeError, match="event loop in which it was made"):
        in_thread(lambda: getting.send(None))
    assert await buffer.get() == "item"


async def test_batch_when_items_wait():
    """A batch contains all waiting items, at least one."""
    buffer = make()
    for number in range(3):
        buffer.put(number)
    assert await buffer.get_batch() == [0, 1, 2]
    assert len(buffer) == 0
    waiting = asyncio.create_task(buffer.get_batch())
    await settle()
    buffer.put(3)
    assert await waiting == [3]
    buffer.close()
    with pytest.raises(StopAsyncIteration):
        await buffer.get_batch()


async def test_batch_when_cancelled():
    """A cancelled get_batch loses no item."""
    buffer = make()
    waiting = asyncio.create_task(buffer.get_batch())
    await settle()
    buffer.put(1)
    waiting.cancel()
    await settle()
    buffer.put(2)
    assert await buffer.get_batch() == [1, 2]


async def test_take_and_clear_when_items_are_held():
    """take returns all waiting items, clear discards them, and both may be called at any time."""
    buffer = make()
    assert buffer.take() == []
    buffer.clear()
    buffer.put(1)
    assert buffer.take() == [1]
    buffer.put(2)
    buffer.clear()
    assert len(buffer) == 0
    buffer.put(3)
    assert await buffer.get() == 3


async def test_take_when_some_are_put_back():
    """take returns the first items, put_back puts them in front again, and latest returns the last ones."""
    buffer = make()
    assert buffer.latest(2) == []
    for number in range(5):
        buffer.put(number)
    assert buffer.take(2) == [0, 1]
    assert buffer.latest(2) == [4, 3]
    buffer.put_back([])
    buffer.put_back([0, 1])
    assert buffer.take(9) == [0, 1, 2, 3, 4]
    assert buffer.take(1) == []


async def test_clear_when_the_consumer_has_been_woken():
    """If the item that woke a consumer is cleared before the consumer runs, the consumer waits for the next item."""
    buffer = make()
    waiting = asyncio.create_task(buffer.get())
    await settle()
    buffer.put(1)
    buffer.clear()
    await settle()
    assert not waiting.done()
    buffer.put(2)
    assert await waiting == 2


# The end


async def test_close_when_items_are_held():
    """A closed buffer ignores further items, delivers the waiting ones, and then ends each get."""
    buffer = make()
    buffer.put(1)
    buffer.close()
    buffer.put(2)
    assert (await drain(buffer))[0] == [1]
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await buffer.get()
    buffer.put(3)
    assert len(buffer) == 0


async def test_close_when_nothing_was_ever_held():
    """A buffer that is closed before its first item ignores further items."""
    buffer = make()
    buffer.close()
    buffer.put(1)
    assert len(buffer) == 0


async def test_close_when_the_consumer_waits():
    """Closing ends the get of a waiting consumer."""
    buffer = make()
    waiting = asyncio.create_task(buffer.get())
    await settle()
    buffer.close()
    with pytest.raises(StopAsyncIteration):
        await waiting


async def test_close_when_the_consumer_has_been_woken():
    """A consumer that was woken for an item gets it, even if the buffer is closed before the consumer runs."""
    buffer = make()
    waiting = asyncio.create_task(buffer.get())
    await settle()
    buffer.put(1)
    buffer.close()
    assert await waiting == 1


async def test_close_when_closed_already():
    """Only the first close counts: a later error does not replace the end."""
    buffer = make()
    buffer.close()
    buffer.close(ZeroDivisionError())
    with pytest.raises(StopAsyncIteration):
        await buffer.get()


async def test_close_when_given_an_error():
    """The error follows the waiting items, and each later get raises the same one."""
    buffer = make()
    error = ZeroDivisionError()
    buffer.put(1)
    buffer.close(error)
    assert await buffer.get() == 1
    for _ in range(3):
        with pytest.raises(ZeroDivisionError) as caught:
            await buffer.get()
        assert caught.value is error


async def test_close_when_the_error_is_raised_often():
    """The traceback of an error does not grow when the error is raised repeatedly."""
    buffer = make()
    error = ZeroDivisionError()
    buffer.close(error)
    lengths = set()
    for _ in range(10):
        with pytest.raises(ZeroDivisionError):
            await buffer.get()
        lengths.add(len(traceback.extract_tb(error.__traceback__)))
    assert len(lengths) == 1


async def test_buffer_when_unreferenced_with_items():
    """An unreferenced buffer is freed together with its items."""
    buffer = make()

    class Item:
        pass

    buffer.put(Item())
    held = weakref.ref(buffer._items[0])
    del buffer
    gc.collect()
    assert held() is None


# Fairness


async def test_get_when_a_million_are_held():
    """A consumer that drains a million items lets other tasks run after every hundred of them."""
    buffer = make(maxsize=None)
    for _ in range(1_000_000):
        buffer.put(None)
    buffer.close()
    taken = 0
    send_queue = []

    async def other():
        while True:
            send_queue.append(taken)
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    with pytest.raises(StopAsyncIteration):
        while True:
            await buffer.get()
            taken += 1
    task.cancel()
    assert taken == 1_000_000
    assert max(later - earlier for earlier, later in itertools.pairwise(send_queue)) <= module.STREAK == 100


async def test_get_when_items_arrive_one_by_one():
    """A consumer that waits for each item does not yield to other tasks in addition."""
    buffer = make()
    for number in range(3 * module.STREAK):
        waiting = asyncio.create_task(buffer.get())
        await asyncio.sleep(0)
        buffer.put(number)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert waiting.result() == number


# Overflow


async def test_put_when_full_and_overflow_is_error():
    """The consumer gets the waiting items, then StreamOverflow; further items are ignored."""
    wiring = Wiring()
    buffer = make(wiring, maxsize=3)
    for number in range(10):
        buffer.put(number)
    assert len(buffer) == 3
    assert buffer.dropped == 1
    items, end = await drain(buffer)
    assert items == [0, 1, 2]
    assert isinstance(end, StreamOverflow)
    assert end.maxsize == 3
    assert wiring.seen == [
        Overflowed(name="feed", time=wiring.seen[0].time, consumer="an async for", overflow="error", dropped=1)
    ]
    assert wiring.reporter.counters.dropped == 1


async def test_put_when_exactly_full():
    """A buffer that is exactly full has dropped no item."""
    wiring = Wiring()
    buffer = make(wiring, maxsize=3)
    for number in range(3):
        buffer.put(number)
    await buffer.get()
    buffer.put(3)
    assert await drain_now(buffer) == [1, 2, 3]
    assert not buffer.closed
    assert not wiring.seen


@pytest.mark.parametrize(
    ("overflow", "kept"), [("drop_oldest", [7, 8, 9]), ("drop_newest", [0, 1, 2])], ids=["oldest", "newest"]
)
async def test_put_when_full_and_overflow_drops(overflow, kept):
    """A full buffer drops its oldest or its newest item, and counts the dropped items."""
    wiring = Wiring()
    buffer = make(wiring, maxsize=3, overflow=overflow)
    for number in range(10):
        buffer.put(number)
    assert buffer.dropped == wiring.reporter.counters.dropped == 7
    assert await drain_now(buffer) == kept
    buffer.put("next")
    assert await buffer.get() == "next"
    assert buffer.dropped == 7


@pytest.mark.parametrize(("overflow", "kept"), [("drop_oldest", 2), ("drop_newest", 0)])
async def test_put_when_maxsize_is_one(overflow, kept):
    """A buffer with maxsize=1 keeps the latest item with drop_oldest, and the first item with drop_newest."""
    buffer = make(maxsize=1, overflow=overflow)
    for number in range(3):
        buffer.put(number)
    assert await drain_now(buffer) == [kept]
    assert buffer.dropped == 2


async def test_put_when_full_with_a_waiting_consumer():
    """The item of a woken consumer occupies the buffer until the consumer runs, so the next item overflows it."""
    buffer = make(maxsize=1)
    waiting = asyncio.create_task(buffer.get())
    await settle()
    buffer.put(1)
    buffer.put(2)
    assert await waiting == 1
    with pytest.raises(StreamOverflow):
        await buffer.get()


async def test_put_when_there_is_no_bound():
    """With maxsize=None a buffer drops no item."""
    buffer = make(maxsize=None)
    for number in range(DEFAULT_MAXSIZE + 10):
        buffer.put(number)
    assert len(buffer) == DEFAULT_MAXSIZE + 10
    assert buffer.dropped == 0


async def test_put_when_the_default_is_full():
    """By default a buffer holds 1,000,000 items."""
    buffer = make()
    for number in range(1_000_001):
        buffer.put(number)
    assert len(buffer) == 1_000_000
    assert buffer.dropped == 1
    assert buffer.closed


async def test_put_when_many_are_dropped(virtual_time, caplog):
    """Drops are reported at once, then once a second with the total, as an event and as a warning."""
    wiring = Wiring()
    buffer = make(wiring, maxsize=1, overflow="drop_oldest")
    for tick in range(4):
        for _ in range(100):
            buffer.put(tick)
        await asyncio.sleep(0.5)
    assert [event.dropped for event in wiring.seen] == [1, 200]
    assert all(isinstance(event, Overflowed) and event.overflow == "drop_oldest" for event in wiring.seen)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "an async for was full (drop_oldest): 200 messages dropped in all" in caplog.text
    assert buffer.dropped == 399


async def test_clear_when_an_overflow_closed_it():
    """A buffer that was closed by an overflow stays closed when it is cleared."""
    buffer = make(maxsize=1)
    buffer.put(1)
    buffer.put(2)
    buffer.clear()
    buffer.put(3)
    with pytest.raises(StreamOverflow):
        await buffer.get()


# Lagging


async def test_put_when_the_consumer_lags(caplog):
    """A buffer emits one warning and one event at 10,000, at 100,000 and at 1,000,000 waiting items."""
    wiring = Wiring()
    buffer = make(wiring, maxsize=None)
    for _ in range(9_999):
        buffer.put(None)
    assert not wiring.seen
    for _ in range(1_000_001):
        buffer.put(None)
    assert [(type(event), event.pending, event.consumer) for event in wiring.seen] == [
        (Lagging, 10_000, "an async for"),
        (Lagging, 100_000, "an async for"),
        (Lagging, 1_000_000, "an async for"),
    ]
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 3
    assert [record.getMessage() for record in caplog.records] == [
        f"feed: an async for is behind: {pending:,} messages wait" for pending in (10_000, 100_000, 1_000_000)
    ]


async def test_put_when_the_consumer_lags_again():
    """A lag is reported again only after the consumer has caught up."""
    wiring = Wiring()
    buffer = make(wiring)

    async def lag():
        for _ in range(10_000):
            buffer.put(None)

    await lag()
    for _ in range(5_000):
        await buffer.get()
    await lag()
    assert len(wiring.seen) == 1
    await drain_now(buffer)
    waiting = asyncio.create_task(buffer.get())
    await settle()
    await lag()
    await waiting
    assert [event.pending for event in wiring.seen] == [10_000, 10_000]


@pytest.mark.parametrize("empty", [Buffer.clear, Buffer.take], ids=["clear", "take"])
async def test_put_when_the_consumer_lags_again_after_it_was_emptied(empty):
    """Clearing a buffer counts as catching up."""
    wiring = Wiring()
    buffer = make(wiring)
    for _ in range(2):
        for _ in range(10_000):
            buffer.put(None)
        empty(buffer)
    assert len(wiring.seen) == 2


async def test_put_when_the_bound_is_a_mark_of_lag():
    """A buffer with maxsize=10,000 reports the lag first and overflows with the next item."""
    wiring = Wiring()
    buffer = make(wiring, maxsize=10_000, overflow="drop_newest")
    for _ in range(10_002):
        buffer.put(None)
    assert [type(event) for event in wiring.seen] == [Lagging, Overflowed]
    assert buffer.dropped == 2


async def test_put_when_the_report_empties_the_buffer():
    """A subscriber of events may clear the buffer whose Lagging event it receives."""
    wiring = Wiring()
    buffer = make(wiring)
    wiring.events.subscribe(lambda event: buffer.clear())
    for _ in range(10_001):
        buffer.put(None)
    assert len(buffer) == 1
    wiring.events.subscribe(lambda event: buffer.close())
    for _ in range(10_000):
        buffer.put(None)
    assert len(buffer) == 0
    assert buffer.closed
    buffer.put(None)
    assert len(buffer) == 0
