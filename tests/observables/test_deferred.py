"""Deferred: an item that is made when it is first needed."""

from __future__ import annotations

import asyncio

import pytest

from rxws.observables.buffer import Buffer
from rxws.observables.deferred import SKIPPED, Deferred, made

from ..support.wiring import Wiring, in_thread, settle


class Doubling:
    """Makes items that are twice their sources, and records its calls. It cannot make an item of None."""

    def __init__(self):
        self.made = []
        self.problems = []

    def make(self, source):
        self.made.append(source)
        return source * 2

    def failed(self, source, error):
        self.problems.append((source, type(error)))

    def deferred(self, *sources):
        return [Deferred(self, source, None, None) for source in sources]


@pytest.fixture
def maker():
    return Doubling()


def filled(maker, *sources, **options):
    """Return a buffer with deferred items."""
    wiring = Wiring()
    buffer = Buffer(wiring.loop, wiring.reporter, **options)
    for item in maker.deferred(*sources):
        buffer.put(item)
    return buffer


def test_get_makes_the_item_once(maker):
    """All that share a Deferred get the same object, which is made with the first call."""
    (item,) = maker.deferred([1])
    assert not maker.made
    assert item.get() == [1, 1]
    assert item.get() is item.get() is made(item)
    assert maker.made == [[1]]


def test_get_when_the_item_cannot_be_made(maker):
    """An item that cannot be made is SKIPPED, and reported once."""
    (item,) = maker.deferred(None)
    assert item.get() is item.get() is SKIPPED
    assert maker.problems == [(None, TypeError)]


def test_peek_keeps_and_reports_nothing(maker):
    """``peek`` returns what ``get`` will return, or None, and leaves the making and the report to ``get``."""
    good, bad = maker.deferred([1], None)
    assert (good.peek(), bad.peek()) == ([1, 1], None)
    assert not maker.problems
    assert good.get() is good.peek()
    assert bad.get() is SKIPPED
    assert bad.peek() is None
    assert len(maker.problems) == 1


def test_made_when_nothing_is_deferred():
    """``made`` returns any other item unchanged."""
    assert made(None) is None
    assert made(Deferred) is Deferred


async def test_buffer_makes_items_when_they_are_taken(maker):
    """A buffer holds Deferreds, makes an item when it is taken, and skips one that cannot be made."""
    buffer = filled(maker, 1, None, 3, None)
    assert len(buffer) == 4
    assert not maker.made
    assert await buffer.get() == 2
    assert maker.made == [1]
    assert await buffer.get() == 6
    waiting = asyncio.create_task(buffer.get())
    await settle()
    buffer.put("plain")
    assert await waiting == "plain"
    assert len(maker.problems) == 2


async def test_buffer_makes_no_item_that_is_dropped_or_cleared(maker):
    """Items that are dropped or cleared are never made."""
    buffer = filled(maker, 1, 2, 3, maxsize=2, overflow="drop_oldest")
    assert await buffer.get() == 4
    buffer.clear()
    assert maker.made == [2]


async def test_take_and_get_batch_make_items(maker):
    """Lists contain the items that could be made."""
    buffer = filled(maker, 1, None, 3, 4)
    assert buffer.take(3) == [2, 6]
    assert await buffer.get_batch() == [8]
    buffer = filled(maker, None, 5, None, 7)
    assert await buffer.get_batch(2) == [10]
    assert await buffer.get_batch() == [14]


async def test_get_batch_lets_other_tasks_run(maker):
    """Making the items of a long list does not block the loop."""
    buffer, ticks = filled(maker, *range(1_000)), 0
    batch = asyncio.create_task(buffer.get_batch())
    while not batch.done():
        ticks += 1
        await asyncio.sleep(0)
    assert batch.result() == [2 * number for number in range(1_000)]
    assert ticks >= 8


async def test_get_batch_when_cancelled_while_it_makes_items(maker):
    """A cancelled ``get_batch`` loses no item, and meanwhile no other task can take items."""
    buffer = filled(maker, *range(1_000))
    batch = asyncio.create_task(buffer.get_batch())
    for _ in range(3):
        await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="already waiting"):
        await buffer.get()
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch
    assert await buffer.get_batch() == [2 * number for number in range(1_000)]
    assert len(maker.made) == 1_000


async def test_latest_may_be_called_in_any_thread(maker):
    """``latest`` shows the items and leaves them as they are."""
    buffer = filled(maker, 1, 2, None)
    assert in_thread(lambda: buffer.latest(2)) == [None, 4]
    assert not maker.problems
    assert [await buffer.get(), await buffer.get()] == [2, 4]
