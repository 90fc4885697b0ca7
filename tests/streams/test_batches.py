"""Batches: lists of a stream's messages, limited in number and in age."""

from __future__ import annotations

import asyncio
import math
import random

import pytest

from rxws.errors import StreamOverflow

from ..support.wiring import Wiring, settle


@pytest.fixture
async def wiring(virtual_time):
    return Wiring()


async def test_batch_has_at_most_count_messages(wiring):
    """With ``count`` each list has at most that many messages. The rest are in the next lists at once."""
    stream = wiring.stream()
    wiring.route(*range(25))
    batches = stream.batches(10)
    assert [len(await anext(batches)) for _ in range(3)] == [10, 10, 5]
    wiring.route(25)
    assert await anext(batches) == [25]


async def test_batch_of_one_message(wiring):
    """With a count of 1, each list has one message."""
    stream = wiring.stream()
    wiring.route(1, 2)
    batches = stream.batches(count=1)
    assert [await anext(batches), await anext(batches)] == [[1], [2]]


async def test_batch_grows_for_some_seconds(wiring):
    """With ``seconds`` a list is delivered when its first message has waited that long."""
    stream, loop = wiring.stream(), asyncio.get_running_loop()
    for delay in (10.0, 10.4, 10.9, 11.2):
        loop.call_later(delay, wiring.route, delay)
    started, batches = loop.time(), stream.batches(seconds=1.0)
    assert await anext(batches) == [10.0, 10.4, 10.9]
    assert loop.time() - started == pytest.approx(11.0)
    assert await anext(batches) == [11.2]
    assert loop.time() - started == pytest.approx(12.2)


async def test_batch_that_is_full_does_not_wait(wiring):
    """With ``count`` and ``seconds`` a list is delivered when it is full or its first message has waited that long."""
    stream, loop = wiring.stream(), asyncio.get_running_loop()
    for number in range(7):
        loop.call_later(number * 0.1, wiring.route, number)
    started, batches = loop.time(), stream.batches(count=5, seconds=2.0)
    assert await anext(batches) == [0, 1, 2, 3, 4]
    assert loop.time() - started == pytest.approx(0.4)
    assert await anext(batches) == [5, 6]
    assert loop.time() - started == pytest.approx(2.5)


async def test_time_of_processing_counts_for_the_age(wiring):
    """The time for which a message waited while the previous list was processed counts as part of ``seconds``."""
    stream, loop = wiring.stream(), asyncio.get_running_loop()
    batches = stream.batches(seconds=1.0)
    wiring.route(1)
    assert await anext(batches) == [1]
    processed = loop.time()
    loop.call_later(0.1, wiring.route, 2)
    await asyncio.sleep(5)
    assert await anext(batches) == [2]
    assert loop.time() - processed == pytest.approx(5)


async def test_what_a_full_list_left_does_not_wait(wiring):
    """``seconds`` counts from a message's arrival, so messages that a full list left over are delivered at once."""
    stream, loop = wiring.stream(), asyncio.get_running_loop()
    wiring.route(*range(5))
    started, batches = loop.time(), stream.batches(count=3, seconds=60)
    assert await anext(batches) == [0, 1, 2]
    assert await anext(batches) == [3, 4]
    assert loop.time() == started


@pytest.mark.parametrize("seed", range(20))
async def test_no_message_is_lost_nor_too_old(wiring, seed):
    """Whenever messages arrive and lists are taken, no message is lost, and no list is too long or too old."""
    rng, loop = random.Random(seed), asyncio.get_running_loop()
    count, seconds = rng.choice([None, 1, 3, 50]), rng.choice([0.01, 0.5, 2.0])
    stream, sent = wiring.stream(), []

    def send():
        sent.append(loop.time())
        wiring.route(len(sent) - 1)

    for _ in range(300):
        loop.call_later(rng.uniform(0, 20), send)
    loop.call_later(21, stream.close_nowait)
    got, free_since = [], loop.time()
    async for batch in stream.batches(count, seconds):
        assert 1 <= len(batch) <= (count or math.inf)
        # A message waits for its list at most `seconds`, or until the consumer asks for it.
        assert loop.time() <= max(sent[batch[0]] + seconds, free_since) + 1e-6
        got += batch
        if rng.random() < 0.3:
            await asyncio.sleep(rng.uniform(0, 1.5 * seconds))
        free_since = loop.time()
    assert got == list(range(300))


async def test_end_delivers_the_last_list_at_once(wiring):
    """When the stream is closed, the messages that wait are delivered without waiting, then the iteration ends."""
    stream, loop = wiring.stream(), asyncio.get_running_loop()
    started, batches = loop.time(), stream.batches(count=1000, seconds=60)
    waiting = asyncio.create_task(anext(batches))
    wiring.route(1, 2)
    await settle()
    await stream.close()
    assert await waiting == [1, 2]
    with pytest.raises(StopAsyncIteration):
        await anext(batches)
    assert loop.time() == started


async def test_cancelled_wait_loses_no_message(wiring):
    """When the wait for a growing list is cancelled, its messages stay in the stream."""
    stream = wiring.stream()
    batches = stream.batches(count=1000, seconds=10)
    asyncio.get_running_loop().call_later(0.5, wiring.route, 1, 2)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await anext(batches)
    assert stream.pending == 2
    wiring.route(3)
    assert await anext(batches) == [1, 2, 3]


async def test_full_stream_does_not_wait_for_the_count(wiring):
    """A full stream delivers its list at once, before it drops messages or ends with an error."""
    stream, loop = wiring.stream(maxsize=3), asyncio.get_running_loop()
    started, batches = loop.time(), stream.batches(count=100, seconds=60)
    waiting = asyncio.create_task(anext(batches))
    await settle()
    wiring.route(1, 2, 3)
    assert await waiting == [1, 2, 3]
    wiring.route(4, 5, 6, 7)
    assert await anext(batches) == [4, 5, 6]
    with pytest.raises(StreamOverflow):
        await anext(batches)
    assert loop.time() == started


async def test_second_consumer_is_refused(wiring):
    """While a list grows, another task that takes from the stream gets RuntimeError, and the list is complete."""
    stream = wiring.stream()
    batches = stream.batches(seconds=1)
    waiting = asyncio.create_task(anext(batches))
    await settle()
    wiring.route(1)
    await settle()
    with pytest.raises(RuntimeError, match="another task is already waiting"):
        await anext(stream.batches(seconds=1))
    assert await waiting == [1]


async def test_other_tasks_run_while_many_lists_wait(wiring):
    """A consumer that takes thousands of waiting lists without a pause lets other tasks run."""
    stream, turns = wiring.stream(), 0
    wiring.route(*range(10_000))
    await stream.close()

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    assert len([batch async for batch in stream.batches(count=1)]) == 10_000
    task.cancel()
    assert turns > 50


@pytest.mark.parametrize("count", ["5", 1.0, True])
async def test_wrong_type_of_count(wiring, count):
    """A count that is not an int raises TypeError at the call, and consumes nothing."""
    stream = wiring.stream()
    with pytest.raises(TypeError, match="count must be an int of at least 1"):
        stream.batches(count)
    wiring.route(1)
    items = []
    stream.subscribe(items.append)
    await settle()
    assert items == [1]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"count": 0}, "count must be an int of at least 1, not 0"),
        ({"seconds": 0}, "seconds must be a positive number of seconds, not 0"),
        ({"seconds": -1}, "seconds must be a positive number of seconds, not -1"),
        ({"seconds": math.nan}, "seconds must be a positive number of seconds, not nan"),
    ],
)
async def test_value_out_of_range(wiring, arguments, expected):
    """A count below 1 and a time that is not positive and finite raise ValueError."""
    with pytest.raises(ValueError, match=expected):
        wiring.stream().batches(**arguments)
