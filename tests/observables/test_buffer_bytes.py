"""Buffer: its bound in bytes."""

from __future__ import annotations

import asyncio
import random

import pytest

from rxws.errors import StreamOverflow
from rxws.observables import buffer as module
from rxws.observables.buffer import DEFAULT_MAXBYTES, Buffer
from rxws.reporting.events import Lagging, Overflowed

from ..support.wiring import Wiring, in_thread, settle


class Sized:
    """A buffer, and items whose sizes are known."""

    def __init__(self, **options):
        self.wiring = Wiring()
        self.buffer = Buffer(self.wiring.loop, self.wiring.reporter, **options)
        self.counters = self.wiring.reporter.counters

    def put(self, *sizes):
        """Put an item for each size. The item is its size."""
        for size in sizes:
            self.counters.message_size = size
            self.buffer.put(size)
        self.counters.message_size = 0

    def sizes(self):
        """Return the sizes of all waiting items, the oldest first."""
        return self.buffer.latest(1_000_000)[::-1]


async def test_default_is_256_mebibytes():
    """By default a buffer holds up to 256 MiB."""
    assert Sized().buffer.maxbytes == DEFAULT_MAXBYTES == 256 * 1024 * 1024


async def test_pending_bytes_when_items_come_and_go():
    """``pending_bytes`` is the sum of the sizes of the waiting items, also right after some were taken."""
    sized = Sized()
    assert sized.buffer.pending_bytes == 0
    sized.put(10, 20, 30)
    assert sized.buffer.pending_bytes == 60
    await sized.buffer.get()
    assert sized.buffer.pending_bytes == 50
    assert sized.buffer.take(1) == [20]
    assert sized.buffer.pending_bytes == 30
    sized.buffer.clear()
    assert sized.buffer.pending_bytes == 0


async def test_pending_bytes_in_another_thread():
    """``pending_bytes`` may be read from any thread."""
    sized = Sized()
    sized.put(10, 20)
    await sized.buffer.get()
    assert in_thread(lambda: sized.buffer.pending_bytes) == 20


@pytest.mark.parametrize(
    ("overflow", "kept"), [("drop_oldest", [71]), ("drop_newest", [40, 30, 30]), ("error", [40, 30, 30])]
)
async def test_put_when_the_bytes_are_full(overflow, kept):
    """A buffer that is full by size acts as one that is full by number. One large item may drop several old ones."""
    sized = Sized(overflow=overflow, maxbytes=100)
    sized.put(40, 30, 30)
    assert (sized.buffer.dropped, sized.sizes()) == (0, [40, 30, 30])
    sized.put(71)
    assert sized.sizes() == kept
    dropped = 3 if overflow == "drop_oldest" else 1
    assert sized.buffer.dropped == sized.counters.dropped == dropped
    event = sized.wiring.seen[0]
    assert isinstance(event, Overflowed)
    assert event.overflow == overflow


async def test_get_when_the_bytes_were_full():
    """With overflow="error" the consumer gets the waiting items, then StreamOverflow, which has ``maxbytes``."""
    sized = Sized(maxbytes=100)
    sized.put(60, 40, 1)
    assert [await sized.buffer.get(), await sized.buffer.get()] == [60, 40]
    with pytest.raises(StreamOverflow) as caught:
        await sized.buffer.get()
    assert (caught.value.maxsize, caught.value.maxbytes) == (1_000_000, 100)


async def test_get_when_the_number_was_full():
    """StreamOverflow has no ``maxbytes`` if the number of items made the buffer full."""
    sized = Sized(maxsize=2, maxbytes=100)
    sized.put(1, 1, 1)
    assert isinstance(sized.buffer.error, StreamOverflow)
    assert (sized.buffer.error.maxsize, sized.buffer.error.maxbytes) == (2, None)


@pytest.mark.parametrize("overflow", ["error", "drop_oldest", "drop_newest"])
async def test_put_when_one_item_is_larger_than_the_buffer(overflow):
    """An item that is larger than the limit is held if no other waits, so that the consumer gets it."""
    sized = Sized(overflow=overflow, maxbytes=100)
    sized.put(1_000)
    assert not sized.buffer.dropped
    assert await sized.buffer.get() == 1_000
    sized.put(100)
    assert sized.sizes() == [100]


async def test_put_when_taken_items_make_room():
    """Taken items no longer count, however few they are."""
    sized = Sized(maxbytes=100)
    for _ in range(500):
        sized.put(50, 50)
        assert [await sized.buffer.get(), await sized.buffer.get()] == [50, 50]
    sized.put(50)
    for _ in range(500):
        sized.put(50)
        await sized.buffer.get()
    assert not sized.buffer.dropped


async def test_sizes_when_a_consumer_never_empties_the_buffer():
    """The sizes of taken items are removed although the consumer never catches up."""
    sized = Sized()
    sized.put(*[5] * 10)
    for _ in range(10_000):
        sized.put(5)
        await sized.buffer.get()
    assert len(sized.buffer._items.sizes) <= 10 + module.STREAK + 1
    assert sized.buffer.pending_bytes == 50


async def test_put_when_there_is_no_bound_of_bytes():
    """With maxbytes=None the size drops nothing, and the lag is reported once."""
    sized = Sized(maxbytes=None)
    sized.put(*[64 << 20] * 100)
    assert not sized.buffer.dropped
    assert [(type(event), event.pending, event.pending_bytes) for event in sized.wiring.seen] == [
        (Lagging, 3, 192 << 20)
    ]
    assert str(sized.wiring.seen[0]).endswith("is behind: 3 messages wait (192.0 MiB)")


async def test_put_when_the_consumer_lags_by_bytes_again():
    """A lag by size is reported again after the consumer has caught up."""
    sized = Sized()
    for _ in range(2):
        sized.put(*[50 << 20] * 4)
        for _ in range(4):
            await sized.buffer.get()
        waiting = asyncio.create_task(sized.buffer.get())
        await settle()
        sized.put(1)
        await waiting
    assert [event.pending for event in sized.wiring.seen] == [3, 3]


async def test_wait_for_when_the_bytes_are_full():
    """``wait_for`` ends when the buffer is full by size, because no more items can come."""
    sized = Sized(maxbytes=100)
    waiting = asyncio.create_task(sized.buffer.wait_for(10))
    await settle()
    sized.put(60)
    await settle()
    assert not waiting.done()
    sized.put(40)
    await settle()
    assert waiting.done()


async def test_put_back_when_sizes_are_unknown():
    """Items that are put back count the average size of the feed's messages."""
    sized = Sized(maxbytes=1_000)
    sized.counters.bytes, sized.counters.messages = 90, 3
    sized.put(10, 20, 60)
    sized.buffer.put_back(sized.buffer.take(2))
    assert sized.sizes() == [10, 20, 60]
    assert sized.buffer.pending_bytes == 30 + 30 + 60


@pytest.mark.parametrize("overflow", ["drop_oldest", "drop_newest"])
@pytest.mark.parametrize("seed", range(20))
async def test_put_against_a_model(overflow, seed):
    """Any series of calls keeps the same items as a list to which the rules are applied directly."""
    rng = random.Random(seed)
    maxsize, maxbytes = rng.choice([3, 50, None]), rng.choice([1, 40, 400, None])
    sized, model, dropped = Sized(maxsize=maxsize, maxbytes=maxbytes, overflow=overflow), [], 0
    for _ in range(2_000):
        action = rng.choice(["put", "put", "put", "get", "take", "clear" if rng.random() < 0.05 else "put"])
        if action == "put":
            size = rng.choice([0, 1, 7, 30, 90])
            sized.put(size)
            model.append(size)
            while len(model) > (maxsize or 10**9) or (len(model) > 1 and sum(model) > (maxbytes or 10**9)):
                model.pop(0 if overflow == "drop_oldest" else -1)
                dropped += 1
        elif action == "get" and model:
            assert await sized.buffer.get() == model.pop(0)
        elif action == "take":
            count = rng.randint(0, 3)
            assert sized.buffer.take(count) == model[:count]
            del model[:count]
        elif action == "clear":
            sized.buffer.clear()
            model.clear()
        assert sized.sizes() == model
        assert sized.buffer.pending_bytes == sum(model)
        assert sized.buffer.dropped == dropped
